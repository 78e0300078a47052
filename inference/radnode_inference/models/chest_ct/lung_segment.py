"""A chest CT to right lung, left lung and airways. Training-free: thresholds, connected components, distances.

Follows the classical scheme (Hu, Hoffman, Reinhardt, IEEE TMI 2001;20:490): body, air inside it, trachea and airway
tree, separation of the lungs, closing over vessels. Found at 2.5 mm, refined at full resolution.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from radnode_inference.model import DeclinedError, Progress
from radnode_inference.models.chest_ct.lung_airways import grow, trachea
from radnode_inference.models.chest_ct.lung_grid import Grid, Turn, grid
from radnode_inference.models.chest_ct.lung_lungs import AIR_HU, FREE_GAS_HU, Labels, body, close, parts, sides
from radnode_inference.models.chest_ct.lung_orientation import check_spine, check_upright
from radnode_inference.models.chest_ct.lung_refine import Refined, refine, regrid
from radnode_inference.volume import BoolArray, Volume

WORK_MM, FINE_MM = 2.5, 1.3
FEWEST_LUNG_ML = 300.0
APART_MM = 60.0
CUT_MM2 = 100.0
OUTSIDE_ML = 30.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmented:
    """Masks at full resolution, and how the scan cuts the lungs: at its top, its bottom or its sides.

    doubts: sentences for the reader.
    """

    refined: Refined
    cut: tuple[str, ...]
    doubts: tuple[str, ...] = ()


def segment(volume: Volume, progress: Progress) -> Segmented:
    """Lungs and airways of a CT volume. Raises DeclinedError `no-lungs`, `coverage` or `orientation`."""
    turn = Turn.of(volume.affine)
    work = grid(volume, turn, WORK_MM)
    inside = body(work)
    progress(0.35, "body found")
    rough = parts(work, inside, np.zeros(inside.shape, bool))
    check_lungs(rough, work)
    doubt = check_spine(work, inside, rough)
    tube = trachea(work, inside, lowest=float(np.nonzero(rough)[0].mean()))
    if tube is None:
        check_upright(work, inside, rough)
        refuse_without_trachea(rough, work)
    fine = grid(volume, turn, FINE_MM)
    airways = grow(fine, regrid(tube, work.factors, fine)) if tube is not None else np.zeros(fine.hu.shape, bool)
    progress(0.5, "airways grown")
    tubes = onto_work(airways, fine, work)
    pieces = parts(work, inside, tubes)
    check_lungs(pieces, work)
    lungs = close(sides(pieces, work.spacing, middle(pieces, inside, work)), inside, tubes, work.spacing)
    progress(0.65, "lungs found")
    cut = cuts(lungs, inside, work)
    refined = refine(volume, turn, work, lungs, fine.factors, airways)
    return Segmented(refined=refined, cut=cut, doubts=(doubt,) if doubt else ())


def check_lungs(pieces: Labels, work: Grid) -> None:
    millilitres = np.count_nonzero(pieces) * work.voxel_ml
    if millilitres < FEWEST_LUNG_ML:
        raise DeclinedError(
            "no-lungs", f"there are no lungs in this scan ({millilitres:.0f} mL of lung-like air found)"
        )


def refuse_without_trachea(pieces: Labels, work: Grid) -> None:
    """Lung-like air without a trachea: bowel, or lungs whose upper part was not scanned."""
    if (pieces[-1] > 0).sum() * work.spacing[1] * work.spacing[2] > CUT_MM2:
        raise DeclinedError("coverage", "only the lower parts of the lungs are in this scan, without the trachea")
    raise DeclinedError("no-lungs", "there is air in this scan, but no trachea: not a chest")


def onto_work(airways: BoolArray, fine: Grid, work: Grid) -> BoolArray:
    """The airways on the working grid: every block that any airway voxel lies in."""
    out = np.zeros(work.hu.shape, bool)
    at = [
        indexes * fine_factor // work_factor
        for indexes, fine_factor, work_factor in zip(np.nonzero(airways), fine.factors, work.factors, strict=True)
    ]
    kept = np.all([a < n for a, n in zip(at, work.hu.shape, strict=True)], axis=0)
    out[tuple(a[kept] for a in at)] = True
    return out


def middle(pieces: Labels, inside: BoolArray, work: Grid) -> float:
    """x of the body's middle in mm: half-way between two large pieces that lie apart, else the median of the body."""
    sizes = np.bincount(pieces.ravel())[1:]
    large = 1 + np.nonzero(sizes >= 0.2 * sizes.max())[0]
    centres = [float(c[2]) * work.spacing[2] for c in ndimage.center_of_mass(pieces > 0, pieces, large)]
    if max(centres) - min(centres) >= APART_MM:
        return (max(centres) + min(centres)) / 2
    return float(np.median(np.nonzero(inside)[2])) * work.spacing[2]


def cuts(lungs: Labels, inside: BoolArray, work: Grid) -> tuple[str, ...]:
    """Where the scan ends inside the lungs: "top", "bottom" (more than 1 cm² of lung in the last plane), "side"."""
    plane_mm2 = work.spacing[1] * work.spacing[2]
    found = [n for n, plane in (("top", lungs[-1]), ("bottom", lungs[0])) if (plane > 0).sum() * plane_mm2 > CUT_MM2]
    open_air = (work.hu < AIR_HU) & (work.hu > FREE_GAS_HU) & ~inside
    touching = ndimage.binary_dilation(lungs > 0, iterations=2) & ndimage.binary_opening(open_air)
    if touching.sum() * work.voxel_ml > OUTSIDE_ML:
        found.append("side")
    return tuple(found)
