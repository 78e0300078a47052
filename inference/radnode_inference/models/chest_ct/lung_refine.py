"""From the working grid back to every voxel of the source: masks and the density histogram, slice by slice."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from radnode_inference.models.chest_ct.lung_airways import RIM_HU
from radnode_inference.models.chest_ct.lung_grid import Axes, Grid, Turn, enlarge
from radnode_inference.models.chest_ct.lung_lungs import AIR_HU, LEFT, RIGHT, Labels, reach
from radnode_inference.volume import BoolArray, Volume

LOWEST_HU, HIGHEST_HU = -1024, 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class Refined:
    """Masks on the source's grid [slice, row, column], and voxel counts of each lung per 1 HU from -1024 to 1023."""

    right: BoolArray
    left: BoolArray
    airways: BoolArray
    histograms: dict[int, NDArray[np.int64]]


def regrid(mask: BoolArray, factors: Axes, onto: Grid) -> BoolArray:
    """A mask on blocks of `factors` source voxels, on the blocks of another grid of the same volume (nearest)."""
    indexes = [
        np.minimum(((np.arange(n) * new) + new // 2) // old, have - 1)
        for n, new, old, have in zip(onto.hu.shape, onto.factors, factors, mask.shape, strict=True)
    ]
    return mask[np.ix_(*indexes)]


def refine(volume: Volume, turn: Turn, work: Grid, lungs: Labels, fine_factors: Axes, airways: BoolArray) -> Refined:
    """Full resolution: inside the lungs every voxel, within a block of their rim those below -320 HU.

    lungs: closed, on `work`. airways: on the fine grid with blocks of `fine_factors`.
    """
    masks = {side: np.zeros(volume.shape, bool) for side in (RIGHT, LEFT)}
    tubes = np.zeros(volume.shape, bool)
    hu, tube_view = turn.apply(volume.voxels), turn.apply(tubes)
    views = {side: turn.apply(mask) for side, mask in masks.items()}
    histograms = {side: np.zeros(HIGHEST_HU - LOWEST_HU, np.int64) for side in masks}
    near = reach(lungs, work.spacing)
    core = np.where(ndimage.binary_erosion(lungs > 0), lungs, 0).astype(np.uint8)
    walls = ndimage.binary_dilation(airways)
    plane_shape = hu.shape[1], hu.shape[2]
    for z in range(hu.shape[0]):
        at_work, at_fine = min(z // work.factors[0], len(lungs) - 1), min(z // fine_factors[0], len(airways) - 1)
        plane = np.ascontiguousarray(hu[z])
        if walls[at_fine].any():
            wall = enlarge(walls[at_fine], fine_factors, plane_shape)
            tube_view[z] = enlarge(airways[at_fine], fine_factors, plane_shape) & (plane < RIM_HU)
        else:
            wall = None
        if not near[at_work].any():
            continue
        label = np.where(plane < AIR_HU, enlarge(near[at_work], work.factors, plane_shape), 0)
        inside = enlarge(core[at_work], work.factors, plane_shape)
        label = np.where(inside > 0, inside, label)
        if wall is not None:
            label[wall] = 0
        for side in masks:
            mask = label == side
            views[side][z] = mask
            cells = np.clip(np.floor(plane[mask]), LOWEST_HU, HIGHEST_HU - 1).astype(np.int64) - LOWEST_HU
            histograms[side] += np.bincount(cells, minlength=HIGHEST_HU - LOWEST_HU)
    return Refined(right=masks[RIGHT], left=masks[LEFT], airways=tubes, histograms=histograms)
