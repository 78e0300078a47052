"""What both generators draw with: voxel grids in patient coordinates, smooth random fields, soft shapes and noise."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from radnode_inference.volume import Affine, FloatArray

Shape = tuple[int, int, int]
Point = NDArray[np.float64]
NODES = 64


class Orientation(StrEnum):
    """How the slices lie in the patient."""

    AXIAL = "axial"
    SAGITTAL = "sagittal"
    CORONAL = "coronal"
    OBLIQUE = "oblique"


AXES = {
    Orientation.AXIAL: ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    Orientation.SAGITTAL: ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    Orientation.CORONAL: ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
    Orientation.OBLIQUE: ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
}
"""The patient directions (LPS) in which the slice, row and column index grow, head first supine."""

FLIPS = {"HFS": (1, 1, 1), "HFP": (1, -1, -1), "FFS": (-1, 1, -1), "FFP": (-1, -1, 1)}
"""Patient Position (PS3.3 C.7.3.1.1.2): the sign of the same three directions on a scanner that does not turn the images."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """A voxel grid: `shape` [slice, row, column] and its affine (index -> LPS mm, see volume.Volume)."""

    shape: Shape
    affine: Affine

    @property
    def spacing(self) -> tuple[float, float, float]:
        s, r, c = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(s), float(r), float(c)

    @property
    def voxel_ml(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    def points(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """x, y and z in LPS mm of every voxel centre, float32 [slice, row, column]."""
        s, r, c = (np.arange(n, dtype=np.float32) for n in self.shape)
        a = self.affine.astype(np.float32)
        x, y, z = (
            (a[i, 0] * s + a[i, 3])[:, None, None] + (a[i, 1] * r)[None, :, None] + (a[i, 2] * c)[None, None, :]
            for i in range(3)
        )
        return x, y, z

    def moved(self, by_mm: NDArray[np.float64]) -> "Grid":
        """The same grid, so many mm further along its slices, rows and columns."""
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ (by_mm / np.array(self.spacing))
        return Grid(shape=self.shape, affine=affine)

    def resized(self, shape: Shape) -> "Grid":
        """The same field of view with another number of voxels."""
        factor = np.array(self.shape) / np.array(shape)
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] * factor
        affine[:3, 3] = self.affine[:3, 3] + self.affine[:3, :3] @ (factor / 2 - 0.5)
        return Grid(shape=shape, affine=affine)


def grid(
    shape: Shape,
    extent: tuple[float, float, float],
    centre: tuple[float, float, float],
    orientation: Orientation = Orientation.AXIAL,
    patient_position: str = "HFS",
    tilt: tuple[float, float, float] = (18.0, -12.0, 9.0),
    *,
    square_pixels: bool = False,
) -> Grid:
    """A grid of `shape` [slice, row, column] that covers `extent` (x, y, z) mm around `centre` (LPS).

    tilt: degrees about x, y and z, used by OBLIQUE only. square_pixels: it covers more, so that rows and columns are as
    wide as each other.
    """
    directions = np.array(AXES[orientation], dtype=float).T * np.array(FLIPS[patient_position], dtype=float)
    if orientation is Orientation.OBLIQUE:
        directions = rotation(tilt) @ directions
    size = np.abs(np.array(AXES[orientation], dtype=float)) @ np.array(extent)
    widths = size / np.array(shape)
    if square_pixels:
        widths[1:] = widths[1:].max()
    steps = directions * widths
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = np.array(centre) - steps @ ((np.array(shape) - 1) / 2)
    return Grid(shape=shape, affine=affine)


def rotation(degrees: tuple[float, float, float]) -> NDArray[np.float64]:
    """The rotation about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    turned: NDArray[np.float64] = about_z @ about_y @ about_x
    return turned


class Field:
    """A smooth random function of the place, mean 0 and deviation 1, the same on every grid.

    scale_mm: the size of its bumps. Repeats after 32 scales.
    """

    def __init__(self, rng: np.random.Generator, scale_mm: float) -> None:
        noise = rng.standard_normal((NODES, NODES, NODES), dtype=np.float32)
        smooth = ndimage.gaussian_filter(noise, 1.0, mode="wrap")
        self.nodes = smooth / smooth.std()
        self.step = scale_mm / 2

    def __call__(self, x: FloatArray, y: FloatArray, z: FloatArray) -> FloatArray:
        places = np.stack([x, y, z]).astype(np.float32) / np.float32(self.step)
        values: FloatArray = ndimage.map_coordinates(self.nodes, places, order=1, mode="grid-wrap", output=np.float32)
        return values


def soft(signed_mm: NDArray[np.floating[Any]], width_mm: float) -> FloatArray:
    """How much of a voxel lies inside a shape: 1 well inside (negative distance), 0 outside, 0.5 on the edge."""
    inside: FloatArray = np.clip(0.5 - signed_mm / np.float32(2 * width_mm), 0, 1).astype(np.float32)
    return inside


def ellipsoid(
    points: tuple[FloatArray, FloatArray, FloatArray], centre: tuple[float, ...], radii: tuple[float, ...]
) -> FloatArray:
    """Roughly the signed distance in mm to an ellipsoid's surface, negative inside."""
    square = np.zeros_like(points[0])
    for p, c, r in zip(points, centre, radii, strict=True):
        square += ((p - np.float32(c)) / np.float32(r)) ** 2
    distance: FloatArray = ((np.sqrt(square) - 1) * np.float32(min(radii))).astype(np.float32)
    return distance


def draw_tubes(target: FloatArray, where: Grid, tubes: list[tuple[Point, Point, float]], width_mm: float) -> None:
    """Raise `target` to the part of each voxel that lies in a tube (start, end in LPS mm, radius mm), in place."""
    inverse = np.linalg.inv(where.affine)
    for start, end, radius in tubes:
        index = np.stack([start, end]) @ inverse[:3, :3].T + inverse[:3, 3]
        margin = (radius + 2 * width_mm) * np.linalg.norm(inverse[:3, :3], axis=1) + 1
        low = np.maximum(np.floor(index.min(axis=0) - margin), 0).astype(int)
        high = np.minimum(np.ceil(index.max(axis=0) + margin) + 1, where.shape).astype(int)
        if (high <= low).any():
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        affine = where.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ low
        points = np.stack(Grid(shape=(high[0] - low[0], high[1] - low[1], high[2] - low[2]), affine=affine).points())
        axis = end - start
        squared = max(float(axis @ axis), 1e-6)
        along = np.clip(np.tensordot(axis, points - start[:, None, None, None], 1) / squared, 0, 1)
        away = points - start[:, None, None, None] - axis[:, None, None, None] * along
        part = soft((np.linalg.norm(away, axis=0) - radius).astype(np.float32), width_mm)
        target[box] = np.maximum(target[box], part)


def winding(
    rng: np.random.Generator, start: Point, end: Point, radius: float, bend_mm: float, pieces: int = 8
) -> list[tuple[Point, Point, float]]:
    """A tube from `start` to `end` in straight pieces with bends of about `bend_mm`."""
    t = np.linspace(0, 1, pieces + 1)[:, None]
    wave = np.sin(np.pi * t) * rng.normal(0, bend_mm, 3) + np.sin(2 * np.pi * t) * rng.normal(0, bend_mm / 2, 3)
    path = start + (end - start) * t + wave
    return [(path[i], path[i + 1], radius) for i in range(pieces)]


def rician(rng: np.random.Generator, signal: FloatArray, sigma: float) -> FloatArray:
    """Magnitude of a signal with Gaussian noise in both channels (Gudbjartsson and Patz 1995)."""
    real = signal + np.float32(sigma) * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = np.float32(sigma) * rng.standard_normal(signal.shape, dtype=np.float32)
    magnitude: FloatArray = np.sqrt(real * real + imaginary * imaginary)
    return magnitude
