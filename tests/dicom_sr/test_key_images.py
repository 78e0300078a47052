"""Key images: the outline is where the finding is, the picture is not squeezed, and the words are there."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from support.findings import MODEL, findings, lesion, scene

from radnode_dicom_sr import DicomObject, build
from radnode_dicom_sr.codes import COLOURS
from radnode_dicom_sr.picture import LONG_SIDE
from radnode_inference.findings import Kind

RED = COLOURS[Kind.ABNORMALITY][0]


def pictures(objects: tuple[DicomObject, ...]) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(BytesIO(o.body)) for o in objects if o.kind == "key-image"]


def drawn(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.intp]:
    """[point, (row, column)] of every pixel of about that colour."""
    return np.argwhere(np.abs(pixels.astype(int) - colour).max(axis=-1) < 40)


@pytest.mark.parametrize("orientation", ["axial", "feet-first", "sagittal", "oblique"])
def test_the_outline_is_round_and_where_the_finding_is_in_square_pixels(tmp_path: Path, orientation: str) -> None:
    place = scene(tmp_path, orientation=orientation, shape=(20, 30, 60), spacing=(1.0, 2.0, 0.8))
    item = lesion(place, "a", (3, -2, 4), 9)
    (picture,) = pictures(build(findings(place, (item,)), place.study))
    assert item.mask is not None
    index = int(item.mask.sum(axis=(1, 2)).argmax())
    points = drawn(picture.pixel_array, RED)
    height, width = points.max(axis=0) - points.min(axis=0)
    assert height / width == pytest.approx(1.0, abs=0.15)
    scale = LONG_SIDE / (30 * 2.0)  # the longer side in mm, both being square now
    rows, columns = np.nonzero(item.mask[index])
    truth = [(rows.mean() + 0.5) * 2.0 * scale, (columns.mean() + 0.5) * 0.8 * scale]
    assert ((points.max(axis=0) + points.min(axis=0)) / 2).tolist() == pytest.approx(truth, abs=scale * 1.5)


def test_a_picture_names_its_source_and_its_directions(tmp_path: Path) -> None:
    place = scene(tmp_path, orientation="feet-first")
    item = lesion(place, "a", (0, 0, 0), 5)
    (picture,) = pictures(build(findings(place, (item,)), place.study))
    assert picture.SourceImageSequence[0].ReferencedSOPInstanceUID in {s.sop_uid for s in place.volume.sources}
    assert list(picture.PatientOrientation) == ["R", "P"]
    assert "Nodule, left lung" in picture.ImageComments
    assert picture.BurnedInAnnotation == "NO"
    assert picture.ContentQualification == "RESEARCH"


def test_at_most_ten_pictures_the_most_probable_first_and_the_rest_is_said(tmp_path: Path) -> None:
    place = scene(tmp_path)
    items = tuple(lesion(place, f"n{i}", (0, 0, 0), 4, probability=i / 20) for i in range(13))
    found = pictures(build(findings(place, items), place.study))
    assert len(found) == 10
    assert [p.InstanceNumber for p in found] == list(range(1, 11))
    assert "60 %" in found[0].ImageComments
    assert "1 of 13" in found[0].ImageComments


def test_all_organs_share_one_picture(tmp_path: Path) -> None:
    place = scene(tmp_path)
    items = tuple(lesion(place, f"o{i}", (0, 0, i), 4, kind=Kind.ANATOMY, probability=None) for i in range(3))
    assert len(pictures(build(findings(place, items), place.study))) == 1


def test_a_demonstration_has_a_banner(tmp_path: Path) -> None:
    place = scene(tmp_path)
    items = (lesion(place, "a", (0, 0, 0), 5),)
    plain, marked = (
        pictures(build(findings(place, items, model=replace(MODEL, demonstration=d)), place.study))[0]
        for d in (False, True)
    )
    assert marked.Rows > plain.Rows
    assert len(drawn(marked.pixel_array[:30], (255, 220, 0))) > 100
    assert len(drawn(plain.pixel_array[:10], (255, 220, 0))) == 0


def test_a_flat_slice_is_still_a_picture(tmp_path: Path) -> None:
    place = scene(tmp_path, modality="MR")
    flat = replace(place.volume, voxels=np.zeros_like(place.volume.voxels))
    made = replace(findings(place, (lesion(place, "a", (0, 0, 0), 5),)), volume=flat)
    (picture,) = pictures(build(made, place.study))
    assert len(drawn(picture.pixel_array, RED)) > 50
