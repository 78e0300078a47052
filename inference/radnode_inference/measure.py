"""Numbers and places of a mask on a volume: mL, diameters in mm, centroid and side in LPS."""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import cdist

from radnode_inference.findings import Code, Measurement
from radnode_inference.volume import BoolArray, Volume

MM = Code(value="mm", scheme="UCUM", meaning="mm")
ML = Code(value="mL", scheme="UCUM", meaning="mL")
GRAM = Code(value="g", scheme="UCUM", meaning="g")
PERCENT = Code(value="%", scheme="UCUM", meaning="%")
HU = Code(value="[hnsf'U]", scheme="UCUM", meaning="Hounsfield unit")
VOLUME = Code(value="118565006", scheme="SCT", meaning="Volume")
LONG_AXIS = Code(value="103339001", scheme="SCT", meaning="Long Axis")
SHORT_AXIS = Code(value="103340004", scheme="SCT", meaning="Short Axis")
RIGHT = Code(value="24028007", scheme="SCT", meaning="Right")
LEFT = Code(value="7771000", scheme="SCT", meaning="Left")
BILATERAL = Code(value="51440002", scheme="SCT", meaning="Bilateral")

Point = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Diameters:
    """The two in-plane diameters of a mask on its largest slice, in mm, with their ends in LPS mm.

    short_mm is the longest extent at a right angle to the long axis (as in RECIST 1.1, Eur J Cancer 2009;45:228).
    """

    slice_index: int
    long_mm: float
    short_mm: float
    long_ends: tuple[Point, Point]
    short_ends: tuple[Point, Point]


def volume_ml(mask: BoolArray, volume: Volume) -> float:
    """The volume of a mask in mL: voxels counted, each with its whole size."""
    return float(np.count_nonzero(mask)) * volume.voxel_mm3 / 1000


def centroid(mask: BoolArray, volume: Volume) -> Point:
    """The centre of mass of a mask in LPS mm. Raises ValueError when it is empty."""
    indexes = [np.nonzero(mask.any(axis=axes))[0] for axes in ((1, 2), (0, 2), (0, 1))]
    if any(len(i) == 0 for i in indexes):
        raise ValueError("an empty mask has no centroid")
    total = float(np.count_nonzero(mask))
    sums = [
        np.count_nonzero(mask, axis=axes) @ np.arange(n) / total
        for axes, n in zip(((1, 2), (0, 2), (0, 1)), mask.shape, strict=True)
    ]
    return volume.to_lps((float(sums[0]), float(sums[1]), float(sums[2])))


def laterality(mask: BoolArray, volume: Volume, middle_x: float = 0.0) -> Code:
    """Right or left by the centroid: in LPS, x grows towards the patient's left. `middle_x`: the midline in mm."""
    return RIGHT if centroid(mask, volume)[0] < middle_x else LEFT


def diameters(mask: BoolArray, volume: Volume) -> Diameters:
    """The diameters on the slice with the largest area, from pixel edge to pixel edge. Raises ValueError when empty."""
    areas = np.count_nonzero(mask, axis=(1, 2))
    index = int(np.argmax(areas))
    if areas[index] == 0:
        raise ValueError("an empty mask has no diameters")
    spacing = np.array(volume.spacing[1:])
    points = outline(mask[index]) * spacing
    long_ends = farthest(points)
    direction = long_ends[1] - long_ends[0]
    long_mm = float(np.linalg.norm(direction))
    short_ends = across(points, direction / long_mm, float(spacing.max()))
    return Diameters(
        slice_index=index,
        long_mm=long_mm,
        short_mm=float(np.linalg.norm(short_ends[1] - short_ends[0])),
        long_ends=ends_in_lps(long_ends / spacing, index, volume),
        short_ends=ends_in_lps(short_ends / spacing, index, volume),
    )


def outline(plane: BoolArray) -> NDArray[np.float64]:
    """The middles of all pixel edges of a plane's rim, as (row, column) indexes [n, 2]."""
    padded = np.pad(plane, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    rim = np.argwhere(plane & ~inner).astype(float)
    offsets = np.array([(-0.5, 0.0), (0.5, 0.0), (0.0, -0.5), (0.0, 0.5)])
    return np.asarray((rim[:, None, :] + offsets).reshape(-1, 2), dtype=np.float64)


def farthest(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The two points [2, 2] that are farthest from each other."""
    with suppress(QhullError):  # all on one line: no hull, few points
        points = points[ConvexHull(points).vertices]
    distances = cdist(points, points)
    return points[list(np.unravel_index(int(np.argmax(distances)), distances.shape))]


def across(points: NDArray[np.float64], along: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """The ends [2, 2] of the longest extent at a right angle to `along`, within bands of `width` mm."""
    u, v = points @ along, points @ np.array([-along[1], along[0]])
    band = np.floor((u - u.min()) / width).astype(int)
    low, high = np.full(band.max() + 1, np.inf), np.full(band.max() + 1, -np.inf)
    np.minimum.at(low, band, v)
    np.maximum.at(high, band, v)
    best = int(np.argmax(high - low))
    at = u.min() + (best + 0.5) * width
    normal = np.array([-along[1], along[0]])
    return np.stack((at * along + low[best] * normal, at * along + high[best] * normal))


def ends_in_lps(ends: NDArray[np.float64], index: int, volume: Volume) -> tuple[Point, Point]:
    first, second = (volume.to_lps((float(index), float(row), float(column))) for row, column in ends)
    return first, second


def volume_measurement(mask: BoolArray, volume: Volume) -> Measurement:
    return Measurement(concept=VOLUME, value=volume_ml(mask, volume), unit=ML)


def diameter_measurements(found: Diameters) -> tuple[Measurement, Measurement]:
    return (
        Measurement(concept=LONG_AXIS, value=found.long_mm, unit=MM),
        Measurement(concept=SHORT_AXIS, value=found.short_mm, unit=MM),
    )
