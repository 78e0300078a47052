"""The slice that shows a finding best, and its outline there."""

import numpy as np
from numpy.typing import NDArray
from skimage.measure import approximate_polygon, find_contours

from radnode_inference.volume import Affine, BoolArray, Volume

Outline = NDArray[np.float64]
OBLONG_MM = 0.5


def areas(mask: BoolArray) -> NDArray[np.int64]:
    """How many voxels of a mask [slice, row, column] lie on each slice (slice by slice is ten times quicker than by axes)."""
    return np.array([np.count_nonzero(plane) for plane in mask], dtype=np.int64)


def key_slice(mask: BoolArray) -> int:
    """The index of the slice with the largest area of the mask."""
    return int(areas(mask).argmax())


def outlines(mask: BoolArray) -> list[Outline]:
    """Every closed outer or inner border of a 2-D mask [row, column], longest first, as points (row, column) on pixel centres."""
    found = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    return sorted((c - 1 for c in found), key=len, reverse=True)


def polyline(mask: BoolArray) -> NDArray[np.float32]:
    """The longest border of a 2-D mask as SCOORD graphic data: float32 [point, (column, row)], last point = first.

    The centre of the first pixel is at (0.5, 0.5) (PS3.3 C.18.6.1). At least seven points: viewers take closed
    polylines of four or five for editable rectangles and throw the model's numbers away.
    """
    border = outlines(mask)[0]
    simple = approximate_polygon(border, tolerance=0.25)
    if len(simple) < 7:
        simple = border
    while len(simple) < 7:
        middles = (simple[:-1] + simple[1:]) / 2
        simple = np.concatenate([np.stack([simple[:-1], middles], axis=1).reshape(-1, 2), simple[-1:]])
    points: NDArray[np.float32] = (simple[:, ::-1] + 0.5).astype(np.float32)
    points[-1] = points[0]
    return points


def oblong(volume: Volume) -> bool:
    """Whether OHIF 3.13 would draw an outline on the image in a wrong place, up to half a millimetre or more.

    It takes the spacing of rows for that of columns and the other way round (imageToWorldCoords of cornerstone3D).
    """
    _, rows, columns = volume.shape
    _, between_rows, between_columns = volume.spacing
    return max(rows, columns) * abs(between_rows - between_columns) >= OBLONG_MM


def in_space(points: NDArray[np.float32], index: int, affine: Affine) -> NDArray[np.float64]:
    """Points (column, row) of a `polyline` on slice `index` as LPS mm [point, xyz], last point = first."""
    grid = np.c_[np.full(len(points), index), points[:, ::-1].astype(np.float64) - 0.5, np.ones(len(points))]
    places: NDArray[np.float64] = (affine @ grid.T)[:3].T
    return places
