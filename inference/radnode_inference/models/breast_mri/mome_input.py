"""What MOME is shown: phases, diffusion and T2 images put on the network's grids, as its weights' card says."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from radnode_inference.models.breast_mri.mome_augment import place
from radnode_inference.preprocess import Box, Size, bounds, sample
from radnode_inference.volume import Affine, FloatArray

COARSE_MM = 4.0
REFERENCE_PERCENTILE = 95.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """Voxels [slice, row, column] and their affine to LPS mm."""

    voxels: FloatArray
    affine: Affine


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """The card's `input`. sizes: x, y, z voxels of each network grid.

    spacing_mm: of all grids, which then cover the breasts from the skin backwards; None: every volume keeps its own
    voxels, is made smaller by one factor if it is larger than the grid, and lies in the grid's middle (as published).
    times_s: seconds after injection at which the subtractions are taken, interpolated; None: the first `phases` images after
    contrast as they are. clip: bounds of the scaled subtractions; None: neither scaled nor cut.
    """

    dce: Size
    dwi: Size
    t2: Size
    phases: int = 6
    spacing_mm: float | None = None
    times_s: tuple[float, ...] | None = None
    clip: tuple[float, float] | None = None

    @classmethod
    def from_card(cls, given: Mapping[str, Any]) -> "InputSettings":
        """Raises KeyError, TypeError or ValueError when the card's values are not of these kinds."""
        sizes = {name: grid_of(given[name]) for name in ("dce", "dwi", "t2")}
        times, clip, spacing = given.get("times_s"), given.get("clip"), given.get("spacing_mm")
        found = cls(
            **sizes,
            phases=int(given.get("phases", 6)),
            spacing_mm=None if spacing is None else float(spacing),
            times_s=None if times is None else tuple(float(t) for t in times),
            clip=None if clip is None else (float(clip[0]), float(clip[1])),
        )
        found.check()
        return found

    def check(self) -> None:
        """Raises ValueError for numbers that would show the network nothing of the patient."""
        if self.phases < 1 or self.times_s == ():
            raise ValueError("phases and times_s: one at least")
        if not all(map(math.isfinite, self.times_s or ())):
            raise ValueError(f"times_s {self.times_s} are not all numbers")
        if self.spacing_mm is not None and not 0 < self.spacing_mm < math.inf:
            raise ValueError(f"spacing_mm {self.spacing_mm:g}; it must be above 0")
        if self.clip is not None and not -math.inf < self.clip[0] < self.clip[1] < math.inf:
            raise ValueError(f"clip {self.clip}; the first must be the lower one")


def grid_of(values: Sequence[Any]) -> Size:
    """Of a card. Raises ValueError for a side below 1."""
    x, y, z = size3(values)
    if min(x, y, z) < 1:
        raise ValueError(f"a grid of {x} x {y} x {z}")
    return x, y, z


def size3(values: Sequence[Any]) -> Size:
    x, y, z = (int(v) for v in values)
    return x, y, z


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """What the network is called with, each without the batch axis; None where the examination has none.

    boxes: modality -> where its grid lies.
    """

    dce: Tensor | None
    dwi: Tensor | None
    t2: Tensor | None
    boxes: Mapping[str, Box]

    def volumes(self) -> dict[str, Tensor]:
        """Modality -> (channels, x, y, z), of those there are."""
        return {name: getattr(self, name) for name in self.boxes}


def inputs(
    settings: InputSettings,
    *,
    pre: Placed | None,
    posts: Sequence[FloatArray],
    times_s: Sequence[float],
    dwi: Placed | None,
    t2: Placed | None,
    pad: int = 0,
) -> Inputs:
    """The network's inputs of one examination.

    posts: voxels of the phases after contrast, on the grid of `pre`; times_s: their seconds after injection, rising, () where
    they are not known and the settings take no times.
    Without `pre` there is no DCE, and the breasts are looked for in the T2 images, else in those of diffusion.
    pad: where the volumes lie in grids without spacing_mm (mome_augment.Augmentation).
    """
    seen = pre or t2 or dwi
    if seen is None:
        raise ValueError("there are no images")
    subtractions = [] if pre is None else channels(settings, pre.voxels, posts, np.asarray(times_s, float))
    if settings.spacing_mm is None:
        given = [] if pre is None else [Placed(voxels=s, affine=pre.affine) for s in subtractions]
        return published(settings, given, dwi, t2, pad)
    corner = breast_corner(seen, settings.dce, settings.spacing_mm)
    grid = {name: box(corner, size, settings.spacing_mm) for name, size in
            (("dce", settings.dce), ("dwi", settings.dwi), ("t2", settings.t2))}  # fmt: skip
    return Inputs(
        dce=None if pre is None else enhanced(settings, pre, subtractions, grid["dce"]),
        dwi=None if dwi is None else scaled(sample(dwi.voxels, dwi.affine, grid["dwi"]))[None],
        t2=None if t2 is None else scaled(sample(t2.voxels, t2.affine, grid["t2"]))[None],
        boxes={n: b for n, b in grid.items() if {"dce": pre, "dwi": dwi, "t2": t2}[n] is not None},
    )


def enhanced(settings: InputSettings, pre: Placed, subtractions: Sequence[FloatArray], where: Box) -> Tensor:
    """The subtractions on the network's grid, as parts of the bright tissue before contrast."""
    scale = reference(sample(pre.voxels, pre.affine, where))
    dce = torch.stack([sample(s, pre.affine, where) / scale for s in subtractions])
    return dce if settings.clip is None else dce.clamp(*settings.clip)


def published(
    settings: InputSettings, subtractions: Sequence[Placed], dwi: Placed | None, t2: Placed | None, pad: int
) -> Inputs:
    """Each volume with its own voxels, laid into the grid of its modality."""
    dce = [inserted(s, settings.dce, pad) for s in subtractions]
    others = {
        name: inserted(given, size, pad)
        for name, given, size in (("dwi", dwi, settings.dwi), ("t2", t2, settings.t2))
        if given is not None
    }
    return Inputs(
        dce=torch.stack([values for values, _ in dce]) if dce else None,
        dwi=others["dwi"][0][None] if "dwi" in others else None,
        t2=others["t2"][0][None] if "t2" in others else None,
        boxes={**({"dce": dce[0][1]} if dce else {}), **{name: box for name, (_, box) in others.items()}},
    )


def channels(
    settings: InputSettings, pre: FloatArray, posts: Sequence[FloatArray], times_s: NDArray[np.float64]
) -> list[FloatArray]:
    """The subtraction volumes: the first phases, or interpolated in time (held beyond the first and the last)."""
    if settings.times_s is None:
        if len(posts) < settings.phases:
            raise ValueError(f"{len(posts)} phases after contrast, {settings.phases} are needed")
        return [post - pre for post in posts[: settings.phases]]
    if len(times_s) != len(posts):
        raise ValueError("the times of the phases after contrast are not known")
    taken = []
    for wanted in settings.times_s:
        at = float(np.interp(wanted, times_s, np.arange(len(times_s))))
        below = min(int(at), len(posts) - 1)
        above, part = min(below + 1, len(posts) - 1), np.float32(at - below)
        taken.append((posts[below] - pre) * (1 - part) + (posts[above] - pre) * part)
    return taken


def box(corner: NDArray[np.float64], size: Size, spacing: float) -> Box:
    """Axes to the left, to the back and to the head (x, y, z of LPS) from `corner`."""
    affine = np.eye(4)
    affine[:3, :3] *= spacing
    affine[:3, 3] = corner + spacing / 2
    return Box(size=size, affine=affine)


def breast_corner(pre: Placed, size: Size, spacing: float) -> NDArray[np.float64]:
    """Where the grid begins, LPS mm: in the middle of the field of view along x and z, at the skin of the breasts along y."""
    shape = pre.voxels.shape
    low, high = bounds((shape[0], shape[1], shape[2]), pre.affine)
    coarse_size = [max(int(n), 2) for n in np.ceil((high - low) / COARSE_MM)]
    coarse = sample(pre.voxels, pre.affine, box(low.astype(float), size3(coarse_size), COARSE_MM)).numpy()
    smooth = ndimage.uniform_filter(coarse, 3)
    bright = smooth > 0.3 * np.percentile(smooth, REFERENCE_PERCENTILE)
    per_plane = bright.sum(axis=(0, 2))
    found = np.flatnonzero(per_plane > 12)
    skin = float(low[1]) + COARSE_MM * (int(found[0]) if len(found) else 0)
    middle = (low + high) / 2
    return np.array([middle[0] - size[0] * spacing / 2, skin - COARSE_MM, middle[2] - size[2] * spacing / 2])


def reference(values: Tensor) -> float:
    """A level that stands for bright tissue: never 0."""
    return max(float(np.percentile(values.numpy(), REFERENCE_PERCENTILE)), 1e-6)


def scaled(values: Tensor) -> Tensor:
    return (values / reference(values)).clamp(0, 3)


def inserted(volume: Placed, size: Size, pad: int = 0) -> tuple[Tensor, Box]:
    """The volume with axes x, y, z among zeros, first made smaller by one factor if it is larger; and where the grid lies."""
    affine, shape = volume.affine, volume.voxels.shape
    axes = np.argmax(np.abs(affine[:3, :3]), axis=1)  # the volume's axis nearest x, y and z
    if len(set(axes)) < 3:
        raise ValueError("the volume lies too obliquely to tell its axes apart")
    steps = np.stack([affine[:3, a] * np.sign(affine[n, a]) for n, a in enumerate(axes)], axis=1)
    sides = np.array([shape[a] for a in axes])
    factor = min(1.0, *(np.array(size) / sides))
    kept = np.maximum(np.round(sides * factor).astype(int), 1)
    middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    placed = np.eye(4)
    placed[:3, :3] = steps / factor
    placed[:3, 3] = middle - placed[:3, :3] @ ((kept - 1) / 2)
    values = sample(volume.voxels, affine, Box(size=size3(kept.tolist()), affine=placed))
    start = place(size3((np.array(size) - kept).tolist()), pad)
    whole = torch.zeros(size)
    whole[tuple(slice(s, s + int(k)) for s, k in zip(start, kept, strict=True))] = values
    placed[:3, 3] -= placed[:3, :3] @ np.array(start, float)
    return whole, Box(size=size, affine=placed)
