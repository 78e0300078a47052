"""Whatever the scanner wrote, the result is written, valid, and of the same patient, character for character."""

from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from support.findings import findings, lesion, scene
from support.validators import dciodvfy

from radnode_dicom_sr import build
from radnode_dicom_sr.invariants import check
from radnode_inference.study import Study

NAMES = {
    "ISO_IR 100": "Müller^Jörg",
    "ISO_IR 192": "王^小明=王^小明",
    "GB18030": "王^小东=王^小東",
    "GBK": "誠^一",  # trail bytes below 0x80
    "ISO_IR 144": "Люкceмбypг",
    "ISO_IR 166": "นามสกุล^ชื่อ",
    "ISO 2022 IR 6\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ISO 2022 IR 6\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
    "ISO 2022 IR 13\\ISO 2022 IR 87": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
}


def put(ds: Dataset, keyword: str, value: object) -> None:
    """Set a value that pydicom would rather not."""
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    ds.add(DataElement(tag, pydicom.datadict.dictionary_VR(tag), value, validation_mode=pydicom.config.IGNORE))


COPIED = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "SpecificCharacterSet",
    "SliceThickness",
    "SeriesNumber",
)
"""What results copy from their source."""


def absent(ds: Dataset) -> None:
    for keyword in [
        *COPIED,
        "Manufacturer",
        "PositionReferenceIndicator",
    ]:
        if keyword in ds:
            del ds[keyword]


def empty(ds: Dataset) -> None:
    for keyword in [
        *COPIED,
        "FrameOfReferenceUID",
    ]:
        put(ds, keyword, None)


def too_long(ds: Dataset) -> None:
    put(ds, "StudyDescription", "y" * 200)
    put(ds, "ReferringPhysicianName", "^".join(["Long" * 10] * 5))
    put(ds, "IssuerOfPatientID", "h" * 100)


def not_what_they_claim(ds: Dataset) -> None:
    put(ds, "PatientBirthDate", "1960-12-31")
    put(ds, "StudyDate", "2026.03.01")
    put(ds, "StudyTime", "25:99")
    put(ds, "PatientSex", "female")
    put(ds, "PatientAge", "65")
    put(ds, "PatientWeight", "-1")
    put(ds, "PatientSize", "0")
    put(ds, "BodyPartExamined", "Chest, abdomen")
    put(ds, "StudyDescription", "a\\b\x01c")


def deidentified(ds: Dataset) -> None:
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = ["Basic profile", "clean pixels"]
    ds.TimezoneOffsetFromUTC = "-0330"


def empty_codes(ds: Dataset) -> None:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "", "", ""
    ds.ProcedureCodeSequence = [item]
    ds.RequestAttributesSequence = [Dataset()]
    private = ds.private_block(0x0009, "MAKER", create=True)
    private.add_new(0x01, "UN", b"\x01\x02\x03")
    ds.add(DataElement(0x00111001, "LO", "no creator"))


CHANGES = [absent, empty, too_long, not_what_they_claim, deidentified, empty_codes]


@pytest.mark.parametrize("change", CHANGES)
def test_the_result_of_an_odd_header_is_valid_and_of_the_same_patient(
    tmp_path: Path, change: Callable[[Dataset], None]
) -> None:
    place = scene(tmp_path / "source", change=change)
    made = findings(place)
    objects = build(made, place.study)
    assert check(objects, made, place.study) == ()
    for number, o in enumerate(objects[:3]):
        file = tmp_path / f"{number}.dcm"
        file.write_bytes(o.body)
        assert dciodvfy(file) == []


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
