"""The codes of classes and findings: each is in pydicom's tables of PS3.16 with that meaning, or one of five that are named here."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.sr._concepts_dict import concepts

import radnode_inference
from radnode_inference import measure
from radnode_inference.bundles import codes as bundle_codes
from radnode_inference.findings import Code
from radnode_inference.models.breast_mri import kinetics_codes
from radnode_inference.models.chest_ct import cards as chest_cards
from radnode_inference.models.chest_ct import lung_codes

NOT_IN_PS3_16 = {
    "254837009": "Malignant neoplasm of breast",
    "427685000": "Human epidermal growth factor 2 positive carcinoma of breast",
    "706970001": "Triple negative malignant neoplasm of breast",
    "427359005": "Solitary nodule of lung",
    "87433001": "Pulmonary emphysema",
}
"""SNOMED CT disorders that DICOM has no use for, each with the guide that lists it under this meaning (read November 2026):
427685000 in the value set HER2ReceptorStatusVS of HL7's ICHOM breast cancer guide 1.0.0 (expanded from the international edition of
July 2023); 427359005 in the imaging module of the German Medical Informatics Initiative and, like 87433001 (value set
IncidentalFinding), in HL7 Lithuania's lung guide; 254837009 and 706970001 in several code lists.
"""


def entries(given: Any) -> Iterator[tuple[str, str, str]]:
    """Every (value, scheme, meaning) below `given`."""
    if isinstance(given, dict):
        if {"value", "scheme", "meaning"} <= given.keys():
            yield given["value"], given["scheme"], given["meaning"]
        given = list(given.values())
    if isinstance(given, list):
        for inner in given:
            yield from entries(inner)


def in_files() -> Iterator[tuple[str, str, str]]:
    for path in sorted(Path(radnode_inference.__file__).parent.rglob("*")):
        if path.suffix == ".json":
            yield from entries(json.loads(path.read_text(encoding="utf-8")))
        elif path.suffix == ".toml" and path.name != "voco_templates.toml":  # has a test and a form of its own
            yield from entries(tomllib.loads(path.read_text(encoding="utf-8")))


def in_code() -> Iterator[tuple[str, str, str]]:
    for module in (kinetics_codes, lung_codes, chest_cards, measure):
        yield from ((c.value, c.scheme, c.meaning) for c in vars(module).values() if isinstance(c, Code))
    named = (*bundle_codes.ANATOMY.values(), *bundle_codes.SIDES.values())
    yield from ((value, "SCT", meaning) for value, meaning in named)


SNOMED = sorted({(value, meaning) for value, scheme, meaning in (*in_files(), *in_code()) if scheme == "SCT"})


@pytest.mark.parametrize(("value", "meaning"), SNOMED)
def test_a_code_has_the_meaning_that_dicom_gives_it(value: str, meaning: str) -> None:
    known = {entry[value][0].lower() for entry in concepts["SCT"].values() if value in entry}
    assert (meaning.lower() in known) or (not known and NOT_IN_PS3_16.get(value) == meaning)


def test_the_codes_are_there_to_be_tested() -> None:
    assert len(SNOMED) > 35
    assert set(NOT_IN_PS3_16) <= {value for value, _ in SNOMED}
