"""A stack of image slices with proven geometry."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Affine = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SourceFrame:
    """The image a slice came from. `frame` counts from 1 in a multi-frame image (PS3.3 C.7.6.6) and is None otherwise."""

    sop_class_uid: str
    sop_uid: str
    frame: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """Voxels on a regular grid in patient coordinates.

    voxels: float32 [slice, row, column], modality units (HU for CT) after the rescale of PS3.3 C.7.6.16.2.9 or C.11.1.
    affine: float64 4×4; (slice, row, column, 1) -> (x, y, z, 1) in LPS mm: the centre of that voxel (PS3.3 C.7.6.2.1.1).
    sources: one per slice, in slice order.
    """

    voxels: FloatArray
    affine: Affine
    frame_of_reference_uid: str
    series_uid: str
    sources: tuple[SourceFrame, ...]

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or self.affine.shape != (4, 4):
            raise ValueError("a volume has three axes and a 4×4 affine")
        if len(self.sources) != self.voxels.shape[0]:
            raise ValueError(f"{len(self.sources)} sources for {self.voxels.shape[0]} slices")

    @property
    def shape(self) -> tuple[int, int, int]:
        s, r, c = self.voxels.shape
        return s, r, c

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbours along (slice, row index, column index)."""
        s, r, c = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(s), float(r), float(c)

    @property
    def voxel_mm3(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def to_lps(self, index: tuple[float, float, float]) -> tuple[float, float, float]:
        """The patient coordinates in mm of a (slice, row, column) index."""
        x, y, z = self.affine[:3, :3] @ np.asarray(index, dtype=float) + self.affine[:3, 3]
        return float(x), float(y), float(z)
