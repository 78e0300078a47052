"""The lesion that a model outlines lies where the generator put it, in patient coordinates, whatever way the slices lie."""

from io import BytesIO

import numpy as np
import pydicom
import pytest
from support.geometries import GEOMETRIES, Delivered
from support.overlap import Segmented, dice, segments

pytestmark = pytest.mark.system

LEAST_DICE = 0.8


@pytest.fixture(scope="module")
def segmented(geometries: Delivered) -> dict[str, list[Segmented]]:
    """Per geometry: the segments as they stand in the PACS."""
    return {name: segments_in(geometries, name) for name in GEOMETRIES}


def segments_in(geometries: Delivered, name: str) -> list[Segmented]:
    files = geometries.pacs.files(geometries.samples[name].study_uid).values()
    segs = [dataset for dataset in map(pydicom.dcmread, map(BytesIO, files)) if dataset.Modality == "SEG"]
    assert segs, f"no segmentation of {name} in the PACS"
    return [segment for seg in segs for segment in segments(seg)]


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_delivered_segmentation_overlaps_the_generated_lesion(
    name: str, geometries: Delivered, segmented: dict[str, list[Segmented]]
) -> None:
    sample, found = geometries.samples[name], segmented[name]
    points = np.concatenate([s.points for s in found])
    overlap = dice(points, found[0].voxel_mm3, sample.truth, sample.affine)
    print(f"{name}: Dice {overlap:.3f} over {len(found)} segments")
    assert overlap >= LEAST_DICE


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_truth_would_not_pass(
    axis: int, geometries: Delivered, segmented: dict[str, list[Segmented]]
) -> None:
    """The teeth of the test above: the same segmentation against the truth mirrored along one axis of its grid."""
    sample, found = geometries.samples["feet-first"], segmented["feet-first"]
    points = np.concatenate([s.points for s in found])
    mirrored = np.flip(sample.truth, axis)
    assert dice(points, found[0].voxel_mm3, mirrored, sample.affine) < LEAST_DICE / 2
