"""Every code that the writers add is in pydicom's tables of PS3.16, with that meaning and in that context group."""

import pytest
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from radnode_dicom_sr import codes
from radnode_inference.findings import Code

CONTEXT_GROUPS = {
    "SEGMENTATION": 7203,
    "SOURCE_IMAGE": 7202,
    "PROCESSING_EQUIPMENT": 7005,
    "ARTIFICIAL_INTELLIGENCE": 7162,
    "MORPHOLOGICAL_OPERATIONS": 7162,
    "ANATOMICAL_STRUCTURE": 7150,
    "ABNORMAL_STRUCTURE": 7150,
    "REPORT": 7021,
    "PROBABILITY_OF_CANCER": 6048,
    "CERTAINTY_OF_FINDING": 6048,
    "OTHER_PROCEDURE": 100,
}
NOT_IN_THE_TABLES = {"C0034375", "%", "25045-6", "25056-3"}
"""Qualitative Evaluations (TID 1500 row 12), UCUM, and two LOINC codes that the tables have under report names."""


def known(code: Code) -> dict[str, str]:
    """Keyword -> meaning for every entry of pydicom's tables with this value."""
    return {k: v[code.value][0] for k, v in concepts[code.scheme].items() if code.value in v}


OURS = {n: c for n, c in vars(codes).items() if isinstance(c, Code)}


@pytest.mark.parametrize("code", [*OURS.values(), *codes.MODALITIES.values()], ids=lambda c: c.meaning)
def test_a_code_means_what_it_says(code: Code) -> None:
    if code.value in NOT_IN_THE_TABLES or code.scheme == "99RADNODE":
        return
    assert any(meaning.lower().startswith(code.meaning.lower()) for meaning in known(code).values())


@pytest.mark.parametrize("name", CONTEXT_GROUPS)
def test_a_code_is_in_its_context_group(name: str) -> None:
    code = OURS[name]
    assert set(known(code)) & set(cid_concepts[CONTEXT_GROUPS[name]][code.scheme])


def test_long_values_are_long_code_values() -> None:
    item = codes.item(Code(value="12345678901234567890", scheme="SCT", meaning="x" * 80))
    assert item.LongCodeValue == "12345678901234567890"
    assert len(item.CodeMeaning) == 64
    assert "CodeValue" not in item
