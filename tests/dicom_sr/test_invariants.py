"""Each rule that no validator knows is kept by what we write, and noticed when it is broken."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from support.findings import Scene, findings, lesion, scene

from radnode_dicom_sr import DicomObject, build
from radnode_dicom_sr.invariants import check, content
from radnode_inference.findings import Finding


@pytest.fixture(params=[False, True], ids=["classic", "enhanced"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Scene:
    return scene(tmp_path, enhanced=request.param, modality="MR")


def broken(o: DicomObject, change: Callable[[Dataset], None]) -> DicomObject:
    ds = pydicom.dcmread(BytesIO(o.body))
    change(ds)
    out = BytesIO()
    ds.save_as(out)
    return replace(o, body=out.getvalue())


def test_what_we_write_keeps_every_rule(place: Scene) -> None:
    made = findings(place)
    assert check(build(made, place.study), made, place.study) == ()


def other_tracking(ds: Dataset) -> None:
    ds.SegmentSequence[0].TrackingUID = "1.2.3"


def other_report_tracking(ds: Dataset) -> None:
    next(
        i for i in content(ds) if i.ValueType == "UIDREF" and i.ConceptNameCodeSequence[0].CodeValue == "112040"
    ).UID = "1.2.3"


def other_image(ds: Dataset) -> None:
    evidence = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3.4"


def other_patient(ds: Dataset) -> None:
    ds.PatientID = "PID-8"


def other_name(ds: Dataset) -> None:
    ds.PatientName = "Doe^Jan"


def outline_outside(ds: Dataset) -> None:
    region = next(i for i in content(ds) if i.ValueType == "SCOORD")
    region.GraphicData = [float(v) + 60 for v in region.GraphicData]


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("seg", other_tracking, "does not track"),
        ("sr", other_report_tracking, "do not track exactly"),
        ("sr", other_image, "which is not there"),
        ("sr", other_patient, "PatientID"),
        ("key-image", other_name, "PatientName"),
        ("sr", outline_outside, "leaves the image"),
    ],
)
def test_a_broken_rule_is_named(place: Scene, kind: str, change: Callable[[Dataset], None], said: str) -> None:
    made = findings(place)
    objects = list(build(made, place.study))
    index = next(i for i, o in enumerate(objects) if o.kind == kind)
    objects[index] = broken(objects[index], change)
    assert any(said in sentence for sentence in check(objects, made, place.study))


def test_a_stated_volume_that_was_not_drawn_is_named(place: Scene) -> None:
    item: Finding = lesion(place, "a", (0, 0, 0), 5)
    volume = item.measurements[0]
    made = findings(place, (replace(item, measurements=(replace(volume, value=volume.value * 1.02),)),))
    assert any("ml stated" in s for s in check(build(made, place.study), made, place.study))


def test_an_outline_on_another_slice_is_named(place: Scene) -> None:
    made = findings(place, (lesion(place, "a", (0, 0, -8), 3),))
    elsewhere = findings(place, (lesion(place, "a", (0, 0, 8), 3),))
    assert any("does not touch" in s for s in check(build(made, place.study), elsewhere, place.study))
