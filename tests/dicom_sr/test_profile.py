"""Each destination gets what it takes, in the form it takes, under UIDs that only equal content shares."""

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from support.findings import Scene, findings, scene

from radnode_dicom_sr import DicomObject, Profile, build
from radnode_dicom_sr.invariants import check


@pytest.fixture
def place(tmp_path: Path) -> Scene:
    return scene(tmp_path)


def uids(objects: tuple[DicomObject, ...], kind: str) -> set[str]:
    return {o.sop_uid for o in objects if o.kind == kind}


def test_equal_profiles_share_every_object(place: Scene) -> None:
    made = findings(place)
    first, second = (build(made, place.study, profile=Profile(seg=None)) for _ in range(2))
    assert [o.sop_uid for o in first] == [o.sop_uid for o in second]


def test_a_destination_without_segmentations_gets_a_report_that_names_none(place: Scene) -> None:
    made = findings(place)
    usual, without = build(made, place.study), build(made, place.study, profile=Profile(seg=None))
    assert uids(without, "seg") == set()
    assert uids(without, "key-image") == uids(usual, "key-image")
    assert not uids(without, "sr") & uids(usual, "sr")
    assert check(without, made, place.study) == ()
    (report,) = (pydicom.dcmread(BytesIO(o.body)) for o in without if o.kind == "sr")
    assert "118565006" in str(report)


def test_a_destination_gets_only_the_kinds_it_takes(place: Scene) -> None:
    made = findings(place)
    profile = Profile(sr=False, key_images=False)
    assert [o.kind for o in build(made, place.study, profile=profile)] == ["seg"]
