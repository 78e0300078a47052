"""Two scans of one patient laid over each other: the rigid movement between their patient coordinates."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from radnode_inference.volume import Affine, FloatArray, Volume

COARSE_MM, FINE_MM = 12.0, 7.0
STEP_MM, STEP_RADIANS = 15.0, 0.06
ALIKE = 0.7
"""Normalised cross-correlation below which two scans are not taken to show the same part of the body."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """affine: LPS mm of the earlier scan -> LPS mm of the later one. likeness: normalised cross-correlation, -1..1."""

    affine: Affine
    likeness: float

    @property
    def holds(self) -> bool:
        return self.likeness >= ALIKE


def align(later: Volume, earlier: Volume) -> Alignment:
    """The rigid movement that makes `earlier` most like `later`: three shifts and three turns, found on coarse grids.

    The identity, with likeness 1, for volumes in one frame of reference: the scanner says that they lie over each other.
    """
    if later.frame_of_reference_uid and later.frame_of_reference_uid == earlier.frame_of_reference_uid:
        return Alignment(affine=np.eye(4), likeness=1.0)
    best = np.zeros(6)
    likeness = -1.0
    for mm in (COARSE_MM, FINE_MM):
        fixed, moving = Coarse.of(later, mm), Coarse.of(earlier, mm)
        if mm == COARSE_MM:
            best[:3] = fixed.middle - moving.middle
        found = minimize(
            lambda p, f=fixed, m=moving: -f.likeness(m, movement(p, m.middle)),
            best,
            method="Powell",
            options={
                "direc": np.diag([STEP_MM] * 3 + [STEP_RADIANS * 100] * 3),
                "xtol": 0.05,
                "ftol": 1e-4,
                "maxiter": 6,
            },
        )
        best, likeness = found.x, -float(found.fun)
    return Alignment(affine=movement(best, Coarse.of(earlier, FINE_MM).middle), likeness=likeness)


def movement(parameters: NDArray[np.float64], middle: NDArray[np.float64]) -> Affine:
    """Shifts in mm, then turns in hundredths of a radian about `middle`, as an affine."""
    made = np.eye(4)
    made[:3, :3] = Rotation.from_rotvec(parameters[3:] / 100).as_matrix()
    made[:3, 3] = middle - made[:3, :3] @ middle + parameters[:3]
    return made


@dataclass(frozen=True, kw_only=True, eq=False)
class Coarse:
    """A volume on a coarse grid. values: [slice, row, column], cut at its 1st and 99th percentile, mean 0, deviation 1."""

    values: FloatArray
    affine: Affine

    @classmethod
    def of(cls, volume: Volume, mm: float) -> "Coarse":
        factors = [min(max(1, round(mm / s)), n) for s, n in zip(volume.spacing, volume.shape, strict=True)]
        shape = [n // f * f for n, f in zip(volume.shape, factors, strict=True)]
        cut = volume.voxels[: shape[0], : shape[1], : shape[2]]
        s, r, c = (n // f for n, f in zip(shape, factors, strict=True))
        values = cut.reshape(s, factors[0], r, factors[1], c, factors[2]).mean(axis=(1, 3, 5), dtype=np.float32)
        low, high = np.percentile(values, (1, 99))
        values = np.clip(values, low, high)
        values = (values - values.mean()) / (float(values.std()) or 1.0)
        affine = volume.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ ((np.array(factors) - 1) / 2)
        affine[:3, :3] *= np.array(factors)
        return cls(values=values, affine=affine)

    @property
    def middle(self) -> NDArray[np.float64]:
        """The centre of mass of what is brighter than the mean, LPS mm."""
        index = ndimage.center_of_mass(np.maximum(self.values, 0) + 1e-6)
        return np.asarray(self.affine[:3, :3] @ index + self.affine[:3, 3])

    def likeness(self, moving: "Coarse", move: Affine) -> float:
        """The correlation of this with `moving` after `move`, where the two overlap; 0 when that is less than a third."""
        index = np.linalg.inv(move @ moving.affine) @ self.affine
        values = ndimage.affine_transform(
            moving.values, index[:3, :3], index[:3, 3], self.values.shape, order=1, cval=np.nan, prefilter=False
        )
        there = ~np.isnan(values)
        if there.sum() < min(self.values.size, moving.values.size) / 3:
            return 0.0
        a, b = self.values[there], values[there]
        a, b = a - a.mean(), b - b.mean()
        return float((a * b).sum() / (np.sqrt((a * a).sum() * (b * b).sum()) or 1.0))
