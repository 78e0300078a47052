"""Whether the patient lies in the images as their header says: the spine at the back, the windpipe above the lungs.

A header that turns the patient round would put each finding into the wrong lung. A mirrored one cannot be told from a
patient with mirrored organs, so it is not looked for.
"""

import numpy as np
from scipy import ndimage

from radnode_inference.model import DeclinedError
from radnode_inference.models.chest_ct.lung_airways import trachea
from radnode_inference.models.chest_ct.lung_grid import Grid
from radnode_inference.models.chest_ct.lung_lungs import Labels
from radnode_inference.volume import BoolArray

BONE_HU = 200.0
AROUND_MM = 60.0
SEEN_MM, REFUSED_MM = 10.0, 18.0
"""How far the bones' centre lies from the body's: 24 mm behind it in the real CT. A heart full of contrast medium, as
bright as bone, draws it some 10 mm to the left and the front, which is no reason to refuse."""
UNCLEAR = (
    "Gate orientation: the spine does not stand out in these images; which lung is the right one rests on the header."
)


def check_spine(work: Grid, inside: BoolArray, pieces: Labels) -> str | None:
    """None when the bones lie towards the back, a sentence when that cannot be told.

    Raises DeclinedError `orientation` when they clearly lie elsewhere. Only bones around the lungs count, so that arms
    beside the body do not.
    """
    box = near(pieces > 0, work)
    tissue = inside[box]
    bone = (work.hu[box] > BONE_HU) & tissue
    if not bone.any():
        return UNCLEAR
    away = np.subtract(ndimage.center_of_mass(bone), ndimage.center_of_mass(tissue))[1:] * work.spacing[1:]
    distance = float(np.hypot(*away))
    turned = away[0] < 0.5 * distance
    if distance < SEEN_MM or (turned and distance < REFUSED_MM):
        return UNCLEAR
    if turned:
        side = "front" if away[0] < -0.5 * distance else "left" if away[1] > 0 else "right"
        raise DeclinedError(
            "orientation",
            f"by its header the patient has the spine at the {side}: the images are turned against their header",
        )
    return None


def near(mask: BoolArray, work: Grid) -> tuple[slice, slice, slice]:
    """The box of a mask: along z as it is, in the plane with a margin."""
    z, y, x = ndimage.find_objects(mask.view(np.uint8))[0]
    return (
        z,
        widened(y, mask.shape[1], AROUND_MM / work.spacing[1]),
        widened(x, mask.shape[2], AROUND_MM / work.spacing[2]),
    )


def widened(part: slice, n: int, margin: float) -> slice:
    return slice(max(0, part.start - round(margin)), min(n, part.stop + round(margin)))


def check_upright(work: Grid, inside: BoolArray, pieces: Labels) -> None:
    """For lungs above which no windpipe was found. Raises DeclinedError `orientation` when there is one below them."""
    flipped = Grid(hu=work.hu[::-1], spacing=work.spacing, factors=work.factors)
    lowest = float(np.nonzero(pieces[::-1])[0].mean())
    if trachea(flipped, inside[::-1], lowest=lowest) is not None:
        raise DeclinedError(
            "orientation", "by its header the windpipe lies below the lungs: the images are upside down against it"
        )
