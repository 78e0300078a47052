"""Whatever the scanner wrote, the result is written, valid, and of the same patient, character for character."""

from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from support.findings import findings, lesion, scene
from support.matrix import NAMES, put
from support.validators import dciodvfy

from radnode_dicom_sr import build
from radnode_dicom_sr.invariants import check
from radnode_inference.study import Study


def deidentified(ds: Dataset) -> None:
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = ["Basic profile", "clean pixels"]
    ds.TimezoneOffsetFromUTC = "-0330"


@pytest.mark.parametrize("part", ["CHEST", "BREAST", "LUNG", "SPINE", "THORAX", ""])
def test_a_key_image_has_a_side_only_where_the_body_part_has_one(tmp_path: Path, part: str) -> None:
    def of_part(ds: Dataset) -> None:
        ds.BodyPartExamined = part

    place = scene(tmp_path / "source", shape=(4, 16, 16), change=of_part)
    for number, o in enumerate(build(findings(place, (lesion(place, "a", (0, 0, 0), 4),)), place.study)):
        file = tmp_path / f"{number}.dcm"
        file.write_bytes(o.body)
        assert dciodvfy(file) == []


@pytest.mark.parametrize("charset", NAMES)
def test_a_name_keeps_its_characters(tmp_path: Path, charset: str) -> None:
    def named(ds: Dataset) -> None:
        ds.SpecificCharacterSet = charset.split("\\")
        ds.PatientName = NAMES[charset]
        ds.ReferringPhysicianName = ds.StudyDescription = ""

    place = scene(tmp_path, change=named)
    for o in build(findings(place), place.study):
        ds = pydicom.dcmread(BytesIO(o.body))
        assert ds.SpecificCharacterSet == "ISO_IR 192"
        assert str(ds.PatientName) == NAMES[charset]


def test_what_identifies_is_never_cut(tmp_path: Path) -> None:
    def long(ds: Dataset) -> None:
        put(ds, "PatientID", "P" * 80)
        put(ds, "AccessionNumber", "A" * 20)

    place = scene(tmp_path, change=long)
    for o in build(findings(place), place.study):
        assert b"P" * 80 in o.body
        assert b"A" * 20 in o.body


@pytest.mark.filterwarnings("ignore:Unknown encoding")
def test_a_name_in_an_unknown_character_set_is_kept_as_latin_characters(tmp_path: Path) -> None:
    def named(ds: Dataset) -> None:
        ds.PatientName = "Müller^Jörg"

    place = scene(tmp_path, change=named)
    for file in tmp_path.glob("*.dcm"):
        file.write_bytes(file.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 999"))
    study = Study.from_folder(tmp_path)
    made = findings(place)
    objects = build(made, study)
    assert str(pydicom.dcmread(BytesIO(objects[0].body)).PatientName) == "Müller^Jörg"
    assert check(objects, made, study) == ()


def test_times_are_in_the_study_s_own_zone(tmp_path: Path) -> None:
    place = scene(tmp_path, change=deidentified)
    at = datetime(2026, 3, 4, 1, 0, 0, tzinfo=UTC)
    ds = pydicom.dcmread(BytesIO(build(findings(place), place.study, now=at)[0].body))
    assert (ds.ContentDate, ds.ContentTime[:6]) == ("20260303", "213000")
    assert ds.TimezoneOffsetFromUTC == "-0330"
