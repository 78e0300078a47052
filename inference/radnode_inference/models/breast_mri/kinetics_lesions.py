"""Enhancing voxels by the published thresholds, and the focal ones among them that stand out of the background."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from radnode_inference.volume import BoolArray, FloatArray

EARLY_S, LATE_S = 150.0, 450.0
PE_PERCENT, BACKGROUND_PART, NEIGHBOURS = 70.0, 0.60, 4
"""Hylton, Radiology 2012;263:663 and the UCSF reference implementation (I-SPY, ACRIN 6657)."""
BACKGROUND_SPREAD = 5.0
LEAST_ML, LONGEST_RATIO = 0.1, 3.5
THINNEST_MM = 2.0  # thinner than twice this is a vessel
OUTLINE_PART = 0.5

Box = tuple[slice, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Kinetics:
    """Percent enhancement early, signal enhancement ratio, and the voxels that pass; on one box of the dynamic grid.

    bright: bright enough before contrast to count at all.

    background: median percent enhancement of glandular tissue that is not focal. focal_percent: the rise that a voxel
    needs to stand out of it.
    """

    rise: FloatArray
    enhancement: FloatArray
    ratio: FloatArray
    bright: BoolArray
    enhancing: BoolArray
    background: float
    focal_percent: float


def kinetics(pre: FloatArray, early: FloatArray, late: FloatArray, region: BoolArray) -> Kinetics:
    """The maps of a dynamic series in a region (which must not be empty)."""
    bright = pre >= BACKGROUND_PART * np.percentile(pre[region], 95)
    safe = np.maximum(pre, 1e-6)
    rise, later = early - pre, late - pre
    enhancement = (100 * rise / safe).astype(np.float32)
    ratio = np.where(later > 1e-6, rise / np.maximum(later, 1e-6), np.where(rise > 0, 3.0, -1.0)).astype(np.float32)
    passing = region & bright & (enhancement >= PE_PERCENT) & (ratio >= 0)
    gland = enhancement[region & bright]
    background = float(np.median(gland)) if gland.size else 0.0
    spread = 1.4826 * float(np.median(np.abs(gland - background))) if gland.size else 0.0
    return Kinetics(
        rise=rise,
        enhancement=enhancement,
        ratio=ratio,
        bright=bright,
        enhancing=passing & (neighbours(passing) >= NEIGHBOURS),
        background=background,
        focal_percent=max(PE_PERCENT, min(background + BACKGROUND_SPREAD * spread, 4 * PE_PERCENT)),
    )


def neighbours(mask: BoolArray) -> NDArray[np.int_]:
    """How many of the 26 neighbours of each voxel are set."""
    count: NDArray[np.int_] = np.zeros(mask.shape, np.int16)
    ndimage.convolve(mask.astype(np.int16), np.ones((3, 3, 3), np.int16), output=count, mode="constant")
    return count - mask


def lesions(found: Kinetics, region: BoolArray, spacing: tuple[float, float, float]) -> list[BoolArray]:
    """The masks of focal enhancement, largest first.

    A focus stands out of the background (`focal_percent`), is thicker than a vessel, not drawn out like one, and larger
    than 0.1 mL. Its outline is where the rise falls to half of its own brightest part, which is the middle of a blurred
    edge, so that the thresholds above decide what is a focus but not how large it is.
    """
    focal = found.enhancing & (found.enhancement >= found.focal_percent)
    inner = np.asarray(ndimage.distance_transform_edt(focal, sampling=spacing))
    thinnest = max(THINNEST_MM, 1.02 * sorted(spacing)[1])  # one voxel is no thickness
    cores, count = ndimage.label(inner > thinnest, np.ones((3, 3, 3)))
    voxel_ml = float(np.prod(spacing)) / 1000
    masks: list[BoolArray] = []
    taken = np.zeros(focal.shape, bool)
    order = np.argsort(-np.bincount(cores.ravel(), minlength=count + 1)[1:]) + 1
    for label in order:
        if taken[cores == label].any():
            continue
        mask = outline(found.rise, cores == label, inner, region, spacing) & ~taken
        if mask.sum() * voxel_ml < LEAST_ML or thickness(mask, spacing) <= thinnest or drawn_out(mask, spacing):
            continue
        masks.append(mask)
        taken |= mask
    return sorted(masks, key=lambda m: -int(m.sum()))


def outline(
    rise: FloatArray,
    core: BoolArray,
    inner: NDArray[np.float64],
    region: BoolArray,
    spacing: tuple[float, float, float],
) -> BoolArray:
    """The connected voxels around a core whose rise is at least half way between its surroundings and its middle."""
    reach = 2.0 * float(inner[core].max()) + 2 * max(spacing) + 6.0
    box = around(core, reach, spacing)
    near_core, near_rise = core[box], rise[box]
    distance = np.asarray(ndimage.distance_transform_edt(~near_core, sampling=spacing))
    middle = float(np.percentile(near_rise[near_core], 60))
    shell = region[box] & (distance > reach - 4.0 - max(spacing)) & (near_rise < 0.5 * middle)
    base = max(float(np.median(near_rise[shell])), 0.0) if shell.any() else 0.0
    grown = near_rise >= base + OUTLINE_PART * (middle - base)
    grown &= distance <= float(inner[core].max()) + 2 * max(spacing)
    opened = ndimage.binary_opening(grown) | near_core  # cut the vessels that lead to it
    opened = grown & ndimage.binary_dilation(opened)
    labels, _ = ndimage.label(ndimage.binary_fill_holes(opened))
    touching = np.unique(labels[near_core])
    mask = np.zeros(core.shape, bool)
    mask[box] = np.isin(labels, touching[touching > 0])
    return mask


def around(mask: BoolArray, reach_mm: float, spacing: tuple[float, float, float]) -> Box:
    """The box around a mask with a margin in mm, inside the array."""
    box = []
    for axis, step in enumerate(spacing):
        others = tuple(a for a in range(3) if a != axis)
        found = np.flatnonzero(mask.any(axis=others))
        margin = int(np.ceil(reach_mm / step))
        box.append(slice(max(int(found[0]) - margin, 0), int(found[-1]) + margin + 1))
    return tuple(box)


def thickness(mask: BoolArray, spacing: tuple[float, float, float]) -> float:
    """The largest distance in mm from inside a mask to its outside."""
    box = around(mask, 2 * max(spacing), spacing)
    return float(np.asarray(ndimage.distance_transform_edt(mask[box], sampling=spacing)).max())


def drawn_out(mask: BoolArray, spacing: tuple[float, float, float]) -> bool:
    """Whether a mask is long and thin like a vessel, by the axes of its ellipsoid."""
    points = np.argwhere(mask) * np.array(spacing)
    if len(points) < 8:
        return False
    axes = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(points.T)), 0) + np.array(spacing).min() ** 2 / 12)
    return bool(axes[2] / np.sqrt(axes[0] * axes[1]) > LONGEST_RATIO)
