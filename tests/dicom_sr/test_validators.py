"""Validators and readers that nobody here wrote find no error and read back the same numbers and voxels."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from support.findings import Scene, findings, lesion, saliency, scene
from support.nrrd import in_order, nrrd, places
from support.pixelmed import everything_said, pixelmed
from support.validators import dciodvfy, paramap2itkimage, segimage2itkimage, tid1500reader

from radnode_dicom_sr import DicomObject, Profile, build
from radnode_inference.findings import Code, Finding, Kind, tracking_uid


def exam(place: Scene) -> Finding:
    return Finding(
        tracking_id="whole",
        tracking_uid=tracking_uid(place.study.study_uid, findings(place).model, "whole"),
        kind=Kind.EXAMINATION,
        concept=Code(value="86049000", scheme="SCT", meaning="Malignant neoplasm, primary"),
        probability=0.3,
    )


def written(folder: Path, objects: tuple[DicomObject, ...]) -> list[Path]:
    files = []
    for number, o in enumerate(objects):
        files.append(folder / f"result-{number}-{o.kind}.dcm")
        files[-1].write_bytes(o.body)
    return files


def test_pixelmed_finds_no_error_in_any_report(tmp_path: Path) -> None:
    place = scene(tmp_path / "source")
    made = findings(place, (*findings(place).items, exam(place)))
    objects = (*build(made, place.study), *build(findings(place, ()), place.study))
    files = [f for f in written(tmp_path, objects) if "-sr" in f.name]
    assert len(files) == 3
    assert pixelmed(files) == []


def test_libxslt_and_java_find_the_same_by_pixelmed_s_rules(tmp_path: Path) -> None:
    """Also of a report that breaks one: see `support.pixelmed`."""
    place = scene(tmp_path / "source", shape=(6, 24, 24))
    made = findings(place, (lesion(place, "a", (3, 0, 0), 4), lesion(place, "b", (-5, 0, 0), 3)))
    written_all = written(tmp_path, build(made, place.study, profile=Profile(kos=True)))
    files = [f for f in written_all if "-sr" in f.name or "-kos" in f.name]
    ds = pydicom.dcmread(next(f for f in files if "-sr" in f.name))
    other_procedure(ds)
    files.append(tmp_path / "broken.dcm")
    ds.save_as(files[-1])
    said = everything_said(files)
    assert len(files) == 3
    assert said == everything_said(files, own_processor=True)
    assert [f.name for f in files if "Error" in said[f]] == ["broken.dcm"]


def no_units(ds: pydicom.Dataset) -> None:
    first = next(i for i in walk(ds) if i.ValueType == "NUM")
    del first.MeasuredValueSequence[0].MeasurementUnitsCodeSequence


def other_procedure(ds: pydicom.Dataset) -> None:
    """The code of a procedure that is not in CID 100."""
    item = next(i for i in walk(ds) if i.ConceptNameCodeSequence[0].CodeValue == "121058")
    item.ConceptCodeSequence[0].CodeValue, item.ConceptCodeSequence[0].CodingSchemeDesignator = "169069000", "SCT"


def walk(ds: pydicom.Dataset) -> list[pydicom.Dataset]:
    return [i for item in ds.get("ContentSequence", ()) for i in (item, *walk(item))]


@pytest.mark.parametrize(
    ("change", "judge"),
    [(no_units, dciodvfy), (other_procedure, lambda f: pixelmed([f]))],
    ids=["no units", "another procedure"],
)
def test_the_validators_can_say_no(
    tmp_path: Path, change: Callable[[pydicom.Dataset], None], judge: Callable[[Path], list[str]]
) -> None:
    place = scene(tmp_path / "source", shape=(6, 24, 24))
    report = build(findings(place, (exam(place),)), place.study)[0]
    ds = pydicom.dcmread(BytesIO(report.body))
    change(ds)
    ds.save_as(tmp_path / "broken.dcm")
    assert judge(tmp_path / "broken.dcm") != []


def test_dcmqi_reads_the_numbers_of_the_report(tmp_path: Path) -> None:
    place = scene(tmp_path / "source")
    made = findings(place)
    report = next(f for f in written(tmp_path, build(made, place.study)) if "-sr" in f.name)
    read = tid1500reader(report, tmp_path)
    groups = {g["TrackingUniqueIdentifier"]: g for g in read["Measurements"]}
    assert set(groups) == {f.tracking_uid for f in made.items}
    for number, finding in enumerate(made.items, start=1):
        group = groups[finding.tracking_uid]
        assert group["ReferencedSegment"] == number
        volume = next(m for m in group["measurementItems"] if m["quantity"]["CodeValue"] == "118565006")
        assert float(volume["value"]) == pytest.approx(finding.measurements[0].value, rel=1e-5)
        assert volume["units"]["CodeValue"] == "ml"


@pytest.mark.parametrize("orientation", ["axial", "feet-first", "sagittal", "oblique"])
def test_dcmqi_reads_the_voxels_where_the_finding_is(tmp_path: Path, orientation: str) -> None:
    place = scene(tmp_path / "source", orientation=orientation)
    made = findings(place, (lesion(place, "a", (5, 3, 2), 6.0), lesion(place, "b", (-6, -2, -5), 4.0)))
    file = next(f for f in written(tmp_path, build(made, place.study)) if "-seg" in f.name)
    described = segimage2itkimage(file, tmp_path / "nrrd")
    labels = [a for group in described["segmentAttributes"] for a in group]
    assert [a["SegmentLabel"] for a in labels] == ["Nodule, left lung"] * 2
    for number, finding in enumerate(made.items, start=1):
        (image,) = (tmp_path / "nrrd").glob(f"*{number}.nrrd")
        points = places(image)
        assert finding.mask is not None
        truth = place.lps()[finding.mask]
        assert len(points) == len(truth)
        assert np.abs(in_order(points) - in_order(truth)).max() < 0.01


@pytest.mark.parametrize(("orientation", "enhanced"), [("axial", False), ("feet-first", False), ("sagittal", True)])
def test_dcmqi_reads_each_number_of_a_parametric_map_where_it_is(
    tmp_path: Path, orientation: str, enhanced: bool
) -> None:
    """Volumes go along the normal of their slices (`geometry.py`); of others dcmqi takes the frames in the wrong order."""
    place = scene(tmp_path / "source", orientation=orientation, modality="MR", enhanced=enhanced)
    map_ = saliency(place.volume.voxels)
    made = findings(place, (lesion(place, "a", (0, 0, 0), 6.0),), maps=(map_,))
    file = next(f for f in written(tmp_path, build(made, place.study)) if "-parametric-map" in f.name)
    described = paramap2itkimage(file, tmp_path / "nrrd")
    assert described["QuantityValueCode"]["CodeValue"] == map_.quantity.value
    assert described["MeasurementUnitsCode"]["CodeValue"] == map_.unit.value
    assert described["AnatomicRegionSequence"]["CodeMeaning"] == "Lung"
    values, affine = nrrd(tmp_path / "nrrd" / "pmap.nrrd")
    at = (affine @ np.c_[np.argwhere(values > -1e30), np.ones(values.size)].T)[:3]
    index = np.rint(np.linalg.inv(place.volume.affine) @ np.r_[at, np.ones((1, values.size))])[:3].astype(int)
    truth = map_.values[tuple(index)]
    theirs = values.reshape(-1)
    known = np.isfinite(truth)
    assert known.sum() == np.isfinite(map_.values).sum() > 0
    assert (theirs[known] == truth[known]).all()
    assert (theirs[~known] < np.nanmin(map_.values)).all()
