"""Validators and readers that nobody here wrote find no error and read back the same numbers and voxels."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from support.findings import Scene, findings, lesion, scene
from support.validators import dciodvfy, pixelmed, segimage2itkimage, tid1500reader

from radnode_dicom_sr import DicomObject, build
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


def nrrd(file: Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Voxels [k, j, i] and the affine (k, j, i, 1) -> LPS mm of an uncompressed or gzip NRRD file."""
    import gzip

    head, _, data = file.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    if fields["encoding"] in ("gzip", "gz"):
        data = gzip.decompress(data)
    size = [int(n) for n in fields["sizes"].split()]
    kind = {"unsigned char": np.uint8, "short": np.int16, "unsigned short": np.uint16}[fields["type"]]
    voxels = np.frombuffer(data, kind).reshape(size[::-1])

    def vector(text: str) -> list[float]:
        return [float(v) for v in text.strip("() ").split(",")]

    affine = np.eye(4)
    axes = fields["space directions"].split(") (")
    affine[:3, :3] = np.array([vector(a) for a in axes]).T[:, ::-1]
    affine[:3, 3] = vector(fields["space origin"])
    assert fields["space"] == "left-posterior-superior"
    return voxels, affine


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
        voxels, affine = nrrd(image)
        points = (affine @ np.c_[np.argwhere(voxels), np.ones(np.count_nonzero(voxels))].T)[:3].T
        assert finding.mask is not None
        truth = place.lps()[finding.mask]
        assert len(points) == len(truth)
        order, expected = (a[np.lexsort(np.round(a, 2).T)] for a in (points, truth))
        assert np.abs(order - expected).max() < 0.01
