"""The slice that shows a finding best, and its outline there."""

import numpy as np
from numpy.typing import NDArray
from skimage.measure import approximate_polygon, find_contours

from radnode_inference.volume import BoolArray

Outline = NDArray[np.float64]


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
