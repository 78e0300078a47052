"""A generated chest CT in Hounsfield units, with its truth."""

from dataclasses import dataclass

import numpy as np

from radnode_inference.generator.chest_anatomy import EXTENT, Nodule, Thorax, thorax
from radnode_inference.generator.fields import Grid, Orientation, Shape, grid
from radnode_inference.volume import BoolArray, FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class NoduleTruth:
    """One nodule. mask: on the CT's grid; laterality: R or L."""

    nodule: Nodule
    mask: BoolArray
    volume_ml: float

    @property
    def laterality(self) -> str:
        return "L" if self.nodule.centre[0] > 0 else "R"


@dataclass(frozen=True, kw_only=True, eq=False)
class ChestPhantom:
    """hu: float32 [slice, row, column] on `grid`. The lungs' masks hold their vessels and nodules, and no airway."""

    seed: int
    grid: Grid
    hu: FloatArray
    lung_right: BoolArray
    lung_left: BoolArray
    airways: BoolArray
    body: BoolArray
    nodules: tuple[NoduleTruth, ...]

    @property
    def nodule_mask(self) -> BoolArray:
        """All nodules together, on `grid`."""
        mask = np.zeros(self.grid.shape, bool)
        for nodule in self.nodules:
            mask |= nodule.mask
        return mask


def phantom(
    seed: int,
    *,
    nodules: bool | None = None,
    shape: Shape = (128, 160, 160),
    orientation: Orientation = Orientation.AXIAL,
    patient_position: str = "HFS",
) -> ChestPhantom:
    """The chest CT of `seed`; `nodules` None lets the seed decide. The field of view is kept whatever the shape."""
    rng = np.random.default_rng((seed, 2))
    has_nodules = bool(rng.random() < 0.5) if nodules is None else nodules
    patient = thorax(rng, nodules=has_nodules)
    scale = float(rng.uniform(0.97, 1.05))
    extent = (EXTENT[0] * scale, EXTENT[1] * scale, EXTENT[2] * float(rng.uniform(0.97, 1.03)))
    where = grid(shape, extent, (0.0, 8.0, 0.0), orientation, patient_position)
    return drawn(rng, seed, patient, where)


def drawn(rng: np.random.Generator, seed: int, patient: Thorax, where: Grid) -> ChestPhantom:
    """The patient on a grid, with the scanner's noise."""
    points = where.points()
    parts = patient.parts(where, points)
    hu = patient.hounsfield(parts, points)
    hu += float(rng.uniform(8, 30)) * rng.standard_normal(where.shape, dtype=np.float32)
    lung = parts["lung"] >= 0.5
    left = points[0] > patient.midline(points[2])
    airways = parts["airway"] >= 0.5
    return ChestPhantom(
        seed=seed,
        grid=where,
        hu=np.clip(hu, -1024, 3071),
        lung_right=lung & ~left & ~airways,
        lung_left=lung & left & ~airways,
        airways=airways,
        body=parts["body"] >= 0.5,
        nodules=truths(patient, where, points),
    )


def truths(patient: Thorax, where: Grid, points: tuple[FloatArray, FloatArray, FloatArray]) -> tuple[NoduleTruth, ...]:
    found = []
    for nodule in patient.nodules:
        mask = patient.nodule_share(points, nodule, 0.5) >= 0.5
        if mask.any():
            found.append(NoduleTruth(nodule=nodule, mask=mask, volume_ml=float(mask.sum()) * where.voxel_ml))
    return tuple(found)
