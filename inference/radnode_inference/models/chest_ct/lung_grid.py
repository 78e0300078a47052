"""The working grid of the lung model: the volume turned to patient axes and averaged to a few millimetres.

Everything after this module thinks in [z, y, x] of patient coordinates (z to the head, y to the back, x to the
patient's left), so that axial, coronal, sagittal, oblique and feet-first series all look alike.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radnode_inference.volume import Affine, FloatArray, Volume

Triple = tuple[float, float, float]
Axes = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """How the axes of a volume become [z, y, x]: target axis i is source axis order[i], reversed where flips[i]."""

    order: Axes
    flips: tuple[bool, bool, bool]

    @classmethod
    def of(cls, affine: Affine) -> "Turn":
        """The turn that brings each source axis to the patient axis it is closest to."""
        directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        order = max(permutations(range(3)), key=lambda o: sum(abs(directions[2 - t, s]) for t, s in enumerate(o)))
        flips = tuple(bool(directions[2 - target, source] < 0) for target, source in enumerate(order))
        return cls(order=(order[0], order[1], order[2]), flips=(flips[0], flips[1], flips[2]))

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of `array` [slice, row, column] with axes [z, y, x]."""
        z, y, x = (slice(None, None, -1 if flip else 1) for flip in self.flips)
        return array.transpose(self.order)[z, y, x]


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """A volume averaged over blocks of whole voxels.

    hu: float32 [z, y, x]. spacing: mm along z, y, x. factors: how many source voxels one block spans along z, y, x.
    """

    hu: FloatArray
    spacing: Triple
    factors: Axes

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing)) / 1000


def grid(volume: Volume, turn: Turn, millimetres: float) -> Grid:
    """`volume` on blocks of about `millimetres`, never finer than its own voxels; an incomplete last block is dropped."""
    spacing = tuple(volume.spacing[s] for s in turn.order)
    factors = tuple(max(1, round(millimetres / s)) for s in spacing)
    hu = block_mean(turn.apply(volume.voxels), (factors[0], factors[1], factors[2]))
    size = tuple(s * f for s, f in zip(spacing, factors, strict=True))
    return Grid(hu=hu, spacing=(size[0], size[1], size[2]), factors=(factors[0], factors[1], factors[2]))


def block_mean(voxels: FloatArray, factors: Axes) -> FloatArray:
    """The mean over blocks. Works slab by slab, so that no copy of the whole volume is made."""
    fz, fy, fx = factors
    z, y, x = (n // f for n, f in zip(voxels.shape, factors, strict=True))
    out = np.empty((z, y, x), np.float32)
    for i in range(z):
        slab = voxels[i * fz : (i + 1) * fz, : y * fy, : x * fx]
        out[i] = slab.sum(axis=0).reshape(y, fy, x, fx).sum(axis=3).sum(axis=1)
    out /= fz * fy * fx
    return out


def enlarge(plane: NDArray[Any], factors: Axes, shape: tuple[int, int]) -> NDArray[Any]:
    """One [y, x] plane of a grid on the source's [y, x] voxels of `shape`; the dropped rim repeats the last block."""
    big = plane.repeat(factors[1], axis=0).repeat(factors[2], axis=1)
    missing = [(0, max(0, n - have)) for n, have in zip(shape, big.shape, strict=True)]
    return np.pad(big, missing, mode="edge") if any(m for _, m in missing) else big
