"""Whatever the source, every object that can be written of it passes the validators and is read back as it was meant."""

from pathlib import Path

import numpy as np
import pytest
from support.matrix import Variant, complaints, delivered, everything, is_document, variants, written
from support.validators import pixelmed, segimage2itkimage, tid1500reader

from radnode_dicom_sr import read
from radnode_dicom_sr.invariants import check

VARIANTS = variants()
APART = ("status", "rejection")  # told of a study, not of findings


def test_there_are_enough_variants() -> None:
    assert len(VARIANTS) >= 40


@pytest.mark.parametrize("name", VARIANTS)
def test_every_object_of_every_source_is_valid_and_reads_back(tmp_path: Path, name: str) -> None:
    variant: Variant = VARIANTS[name]
    number = list(VARIANTS).index(name)
    place = delivered(tmp_path / "source", variant)
    made, objects = everything(place, number)
    assert check([o for o in objects if o.kind not in APART], made, place.study) == ()
    files = written(tmp_path, objects)
    assert list(complaints(variant, place, objects, files)) == []
    located = {f.tracking_uid: f for f in made.items if f.mask is not None}
    volumes: dict[str, float] = {}
    for o, file in zip(objects, files, strict=True):
        if o.kind == "seg":
            assert voxels(file, tmp_path / o.sop_uid) == sum(volume_of(o.body, volumes))
        elif o.kind == "sr" and read(o.body).findings[0].outlines:
            numbers = tid1500reader(file, tmp_path)["Measurements"]
            assert {g["TrackingUniqueIdentifier"] for g in numbers} == set(located)
    for uid, volume in volumes.items():
        assert volume == pytest.approx(located[uid].measurements[0].value, rel=1e-5)


def volume_of(body: bytes, volumes: dict[str, float]) -> list[int]:
    """The voxels of each segment by our own reader; the volumes are added up over the objects."""
    from radnode_dicom_sr.read_segmentation import segments

    counts = []
    for s in segments(body):
        counts.append(sum(int(p.mask.sum()) for p in s.planes))
        volumes[s.tracking_uid] = volumes.get(s.tracking_uid, 0.0) + s.volume_ml
    return counts


def voxels(file: Path, folder: Path) -> int:
    """All voxels that dcmqi finds in a segmentation."""
    import gzip

    segimage2itkimage(file, folder)
    count = 0
    for image in folder.glob("*.nrrd"):
        head, _, data = image.read_bytes().partition(b"\n\n")
        raw = gzip.decompress(data) if b"encoding: gz" in head else data
        kind = np.uint8 if b"type: unsigned char" in head else np.int16
        count += int(np.count_nonzero(np.frombuffer(raw, kind)))
    return count


def test_pixelmed_finds_no_error_in_any_kind_of_content_tree(tmp_path: Path) -> None:
    """Its rules look at the content tree alone, which the header of a source does not change: one of each kind will do."""
    files = []
    for number, name in ((0, "CT axial"), (3, "enhanced MR oblique"), (9, "MR sagittal")):
        _, objects = everything(delivered(tmp_path / name / "source", VARIANTS[name]), number)
        documents = tuple(o for o in objects if is_document(o))
        kinds = {o.kind for o in documents}
        assert kinds == {"sr", "kos", "status", "rejection"}
        files += written(tmp_path / name, documents)
    assert pixelmed(files) == []
