"""The lesion that a model outlines lies where the generator put it, in patient coordinates, whatever way the slices lie."""

from io import BytesIO

import numpy as np
import pydicom
import pytest
from support.node_process import TestNode, to_orthanc
from support.orthanc import Orthanc
from support.overlap import Segmented, dice, segments
from support.sending import PatientSender
from support.studies import Sample, small_breast

pytestmark = pytest.mark.system

LEAST_DICE = 0.8
GEOMETRIES = {
    "axial-prone": {"seed": 31, "orientation": "axial", "patient_position": "HFP"},
    "oblique": {"seed": 36, "orientation": "oblique", "patient_position": "HFP"},
    "feet-first": {"seed": 37, "orientation": "axial", "patient_position": "FFP"},
    "sagittal": {"seed": 34, "orientation": "sagittal", "patient_position": "HFS"},
}


@pytest.fixture(scope="module")
def delivered(
    tmp_path_factory: pytest.TempPathFactory, shared_pacs: Orthanc
) -> dict[str, tuple[Sample, list[Segmented]]]:
    """Per geometry: the study, and the segments as they stand in the PACS."""
    folder = tmp_path_factory.mktemp("overlap")
    samples = {
        name: small_breast(folder / name, shape=(40, 96, 96), **geometry)  # type: ignore[arg-type]
        for name, geometry in GEOMETRIES.items()
    }
    with TestNode(folder, destinations=[to_orthanc(shared_pacs)], quiet_s=1.0) as node:
        for sample in samples.values():
            PatientSender(lambda: node.receive_port).send(sample.files)
        for sample in samples.values():
            node.wait_until_delivered(sample.study_uid)
    return {name: (sample, segments_in(shared_pacs, sample.study_uid)) for name, sample in samples.items()}


def segments_in(pacs: Orthanc, study_uid: str) -> list[Segmented]:
    found = [pydicom.dcmread(BytesIO(file)) for file in pacs.files(study_uid).values()]
    segs = [dataset for dataset in found if dataset.Modality == "SEG"]
    assert segs, f"no segmentation of {study_uid} in the PACS"
    return [segment for seg in segs for segment in segments(seg)]


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_delivered_segmentation_overlaps_the_generated_lesion(
    name: str, delivered: dict[str, tuple[Sample, list[Segmented]]]
) -> None:
    sample, found = delivered[name]
    assert sample.truth is not None
    points = np.concatenate([s.points for s in found])
    overlap = dice(points, found[0].voxel_mm3, sample.truth, sample.affine)
    print(f"{name}: Dice {overlap:.3f} over {len(found)} segments")
    assert overlap >= LEAST_DICE


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_truth_would_not_pass(axis: int, delivered: dict[str, tuple[Sample, list[Segmented]]]) -> None:
    """The teeth of the test above: the same segmentation against the truth mirrored along one axis of its grid."""
    sample, found = delivered["feet-first"]
    assert sample.truth is not None
    points = np.concatenate([s.points for s in found])
    mirrored = np.flip(sample.truth, axis)
    assert dice(points, found[0].voxel_mm3, mirrored, sample.affine) < LEAST_DICE / 2
