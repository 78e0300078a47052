"""The airways: the trachea found slice by slice, the tree grown from it with a guard against leaking into the lungs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import flood

from radnode_inference.models.chest_ct.lung_grid import Grid
from radnode_inference.volume import BoolArray

TRACHEA_MM2 = (40.0, 900.0)
TRACHEA_LENGTH_MM = 30.0
TRACHEA_OFF_MIDLINE_MM = 60.0
LUMEN_HU = -700.0
GROWTH_HU = (-970.0, -950.0, -925.0, -900.0)
LEAK_ML = 150.0
LEAK_STEP_ML = 25.0
RIM_HU = -700.0


@dataclass(frozen=True, kw_only=True)
class Tube:
    """One lumen-like component of one axial slice: its slice, label there, centre (y, x in mm)."""

    z: int
    label: int
    centre: tuple[float, float]


def trachea(work: Grid, body: BoolArray, *, lowest: float) -> BoolArray | None:
    """The trachea on the working grid, or None: the longest chain of tube-like air near the middle of the body.

    A tube is a component of an axial slice of 40-900 mm² (normal tracheas: 13-27 mm wide, Breatnach, AJR 1984;142:903)
    that is not stretched; it belongs to the chain of the slice below when their centres are within 8 mm. The middle of
    the chain lies above the slice `lowest` (the middle of the lungs), unlike gas in the bowel.
    """
    dark = (work.hu < LUMEN_HU) & body
    middle = float(np.nonzero(body.any(axis=(0, 1)))[0].mean()) * work.spacing[2] if body.any() else 0.0
    chains: list[list[Tube]] = []
    planes = []
    for z in range(dark.shape[0]):
        labels, count = ndimage.label(dark[z])
        planes.append(labels)
        tubes = [t for t in tubes_of(z, labels, count, work) if abs(t.centre[1] - middle) < TRACHEA_OFF_MIDLINE_MM]
        extend(chains, tubes, work.spacing[0])
    high = [c for c in chains if (c[0].z + c[-1].z) / 2 > lowest]
    longest = max(high, key=len, default=[])
    if len(longest) * work.spacing[0] < TRACHEA_LENGTH_MM:
        return None
    found = np.zeros(dark.shape, bool)
    for tube in longest:
        found[tube.z] |= planes[tube.z] == tube.label
    return found


def tubes_of(z: int, labels: NDArray[np.int32], count: int, work: Grid) -> list[Tube]:
    """The components of a slice that could be a cut through the trachea."""
    sy, sx = work.spacing[1:]
    found = []
    areas = np.bincount(labels.ravel(), minlength=count + 1) * sy * sx
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        height, width = (box[0].stop - box[0].start) * sy, (box[1].stop - box[1].start) * sx
        if not TRACHEA_MM2[0] <= areas[label] <= TRACHEA_MM2[1]:
            continue
        if max(height, width) > 2.5 * min(height, width) or areas[label] < 0.45 * height * width:
            continue
        y, x = ndimage.center_of_mass(labels[box] == label)
        found.append(Tube(z=z, label=label, centre=((y + box[0].start) * sy, (x + box[1].start) * sx)))
    return found


def extend(chains: list[list[Tube]], tubes: list[Tube], step: float) -> None:
    """Append each tube to the chain that ended next to it in the slice before, or begin a new chain."""
    reach = max(8.0, 1.5 * step)
    for tube in tubes:
        near = [
            c for c in chains if c[-1].z == tube.z - 1 and np.hypot(*np.subtract(c[-1].centre, tube.centre)) < reach
        ]
        if near:
            max(near, key=len).append(tube)
        else:
            chains.append([tube])


def grow(fine: Grid, seeds: BoolArray) -> BoolArray:
    """The airway tree on the fine grid, from the trachea `seeds`: the highest threshold that does not leak.

    Thresholds -970 to -900 HU. A leak into the parenchyma shows as more than 150 mL, or as a sudden gain of volume.
    One dilation into voxels below -700 HU adds the rim of partial volume.
    """
    lumen = seeds & (fine.hu < GROWTH_HU[-1])
    if not lumen.any():
        return lumen
    at = np.unravel_index(int(np.argmin(np.where(lumen, fine.hu, np.inf))), lumen.shape)
    best = lumen
    for threshold in GROWTH_HU:
        region: BoolArray = flood(((fine.hu < threshold) | lumen).view(np.uint8), at, connectivity=1)
        millilitres = region.sum() * fine.voxel_ml
        if millilitres > LEAK_ML or millilitres > best.sum() * fine.voxel_ml + LEAK_STEP_ML:
            break
        best = region
    rim: BoolArray = ndimage.binary_dilation(best) & (fine.hu < RIM_HU)
    return best | rim
