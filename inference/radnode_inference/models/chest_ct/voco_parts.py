"""From the strongest classes to connected parts with a probability each, and back to the source images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from radnode_inference.class_map import Strongest
from radnode_inference.models.chest_ct.voco_settings import ClassSetting
from radnode_inference.preprocess import Box, Size
from radnode_inference.volume import Affine, BoolArray

MARGIN = 2
TOP_PART = 0.25
"""The most certain quarter of a part's voxels speaks for it: its edge is uncertain however sure the network is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """pieces: 1 at the places of the part, 2 at those of other parts of its class, else 0: uint8 [i, j, k] on `box`.

    score: mean log-odds of the most certain voxels. probability: `score` through the class's calibration.
    """

    pieces: NDArray[np.uint8]
    box: Box
    mm3: float
    score: float
    probability: float


def regions(found: Strongest) -> list[tuple[slice, ...] | None]:
    """For every class the box around the places where it is the strongest, None where there are none."""
    around: list[tuple[slice, ...] | None] = ndimage.find_objects(found.labels[0].cpu().numpy().astype(np.int16) + 1)
    return [*around, *[None] * (found.classes - len(around))]


def parts(found: Strongest, channel: int, setting: ClassSetting, region: tuple[slice, ...] | None) -> list[Part]:
    """The reportable parts of one class, most probable first; one part in all where the class is not `separate`.

    region: the class's own among `regions`.
    """
    if region is None:
        return []
    labels, count = ndimage.label((found.labels[0][region] == channel).cpu().numpy())
    voxel_mm3 = float(abs(np.linalg.det(found.box.affine[:3, :3])))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:] * voxel_mm3
    kept = [n for n in range(1, count + 1) if sizes[n - 1] >= setting.smallest_mm3]
    if not kept:
        return []
    groups = [[n] for n in kept] if setting.separate else [kept]
    places = ndimage.find_objects(labels)
    own = found.shares[0][region].cpu().numpy()
    box = found.box.crop(size_of([s.start for s in region]), size_of([s.stop for s in region]))
    made = [one_part(own, labels, group, places, setting, box) for group in groups]
    return sorted((p for p in made if p.probability >= setting.threshold), key=lambda p: -p.probability)


def one_part(
    own: NDArray[np.float32], labels: NDArray[np.int32], group: list[int], places: list[tuple[slice, ...]],
    setting: ClassSetting, box: Box,
) -> Part:  # fmt: skip
    """The places with the labels in `group`, cut out with a margin. own: the share of the class where it is strongest."""
    low = [max(min(places[n - 1][a].start for n in group) - MARGIN, 0) for a in range(3)]
    high = [min(max(places[n - 1][a].stop for n in group) + MARGIN, labels.shape[a]) for a in range(3)]
    at = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    inside = np.isin(labels[at], group)
    certain = np.sort(own[at][inside])[::-1]
    top = np.clip(certain[: max(1, round(TOP_PART * len(certain)))].astype(float), 1e-6, 1 - 1e-6)
    score = float(np.log(top / (1 - top)).mean())
    slope, offset = setting.calibration or (1.0, 0.0)
    return Part(
        pieces=np.where(inside, 1, np.where(labels[at] > 0, 2, 0)).astype(np.uint8),
        box=box.crop(size_of(low), size_of(high)),
        mm3=float(inside.sum()) * float(abs(np.linalg.det(box.affine[:3, :3]))),
        score=score,
        probability=float(1 / (1 + np.exp(-(slope * score + offset)))),
    )


def mask_of(part: Part, channel: int, classes: NDArray[np.uint8], affine: Affine) -> BoolArray:
    """Where a part is at the voxels of a volume: bool [slice, row, column].

    classes: the strongest class at every voxel (`class_map.on_grid`). A voxel belongs to the nearest of the class's parts.
    """
    mask = np.zeros(classes.shape, bool)
    to_place: Affine = np.linalg.inv(part.box.affine) @ affine
    around = voxels_around(part.box.size, np.linalg.inv(affine) @ part.box.affine, size_of(list(classes.shape)))
    mask[around] = classes[around] == channel
    if not (part.pieces == 2).any() or not mask.any():
        return mask
    _, nearest = ndimage.distance_transform_edt(part.pieces == 0, return_indices=True)
    index = np.argwhere(mask)
    at = np.rint(index @ to_place[:3, :3].T + to_place[:3, 3]).astype(int)
    i, j, k = np.clip(at, 0, np.array(part.box.size) - 1).T
    whose = part.pieces[tuple(axis[i, j, k] for axis in nearest)]
    mask[tuple(index[whose != 1].T)] = False
    return mask


def voxels_around(size: Size, to_voxel: Affine, shape: Size) -> tuple[slice, slice, slice]:
    """The part of a volume around a box of places and one place beyond it."""
    ends = [(-1, n) for n in size]
    corners = np.array([[i, j, k, 1] for i in ends[0] for j in ends[1] for k in ends[2]])
    index = (corners @ to_voxel.T)[:, :3]
    first = np.clip(np.floor(index.min(axis=0)), 0, np.array(shape) - 1).astype(int)
    last = np.clip(np.ceil(index.max(axis=0)) + 1, first + 1, shape).astype(int)
    return slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])


def size_of(values: list[int]) -> Size:
    return values[0], values[1], values[2]
