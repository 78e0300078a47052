"""A segmentation object read with pydicom alone, and its overlap with a truth in patient coordinates."""

from dataclasses import dataclass

import numpy as np
import pydicom
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmented:
    """The segmented voxels of one segment: their centres in LPS mm [voxel, xyz], and the volume of one in mm3."""

    number: int
    label: str
    points: NDArray[np.float64]
    voxel_mm3: float


def segments(seg: pydicom.Dataset) -> list[Segmented]:
    """Every segment of a BINARY segmentation (PS3.3 C.8.20), each frame placed by its own functional groups."""
    frames = np.atleast_3d(seg.pixel_array) if seg.pixel_array.ndim == 3 else seg.pixel_array[None]
    points: dict[int, list[NDArray[np.float64]]] = {int(s.SegmentNumber): [] for s in seg.SegmentSequence}
    volume = 0.0
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        shared = seg.SharedFunctionalGroupsSequence[0]
        measures = group(groups, shared, "PixelMeasuresSequence")
        orientation = [float(v) for v in group(groups, shared, "PlaneOrientationSequence").ImageOrientationPatient]
        origin = np.array(group(groups, shared, "PlanePositionSequence").ImagePositionPatient, dtype=float)
        between_rows, between_columns = (float(v) for v in measures.PixelSpacing)
        row, column = np.nonzero(frame)
        along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
        place = (
            origin + np.outer(column, along_row * between_columns) + np.outer(row, along_column * between_rows)
        )  # PS3.3 C.7.6.2.1.1
        number = int(group(groups, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        points[number].append(place)
        thickness = float(measures.get("SpacingBetweenSlices") or measures.SliceThickness)
        volume = between_rows * between_columns * thickness
    return [
        Segmented(
            number=int(s.SegmentNumber),
            label=str(s.SegmentLabel),
            points=np.concatenate(points[int(s.SegmentNumber)] or [np.empty((0, 3))]),
            voxel_mm3=volume,
        )
        for s in seg.SegmentSequence
    ]


def group(frame: pydicom.Dataset, shared: pydicom.Dataset, name: str) -> pydicom.Dataset:
    """A functional group macro of a frame, where it is not shared by all."""
    return (frame if name in frame else shared)[name][0]


def dice(
    found: NDArray[np.float64], voxel_mm3: float, truth: NDArray[np.bool_], truth_affine: NDArray[np.float64]
) -> float:
    """2 |A and B| / (|A| + |B|) in mm3. truth lies on its own grid, `truth_affine` takes its indices to LPS mm."""
    index = np.rint((found - truth_affine[:3, 3]) @ np.linalg.inv(truth_affine[:3, :3]).T).astype(int)
    inside = ((index >= 0) & (index < np.array(truth.shape))).all(axis=1)
    s, r, c = index[inside].T
    common = float(truth[s, r, c].sum()) * voxel_mm3
    truth_mm3 = float(truth.sum()) * float(abs(np.linalg.det(truth_affine[:3, :3])))
    return 2 * common / (len(found) * voxel_mm3 + truth_mm3)
