"""From the network's class probabilities to connected parts with a probability each."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from radnode_inference.models.chest_ct.voco_settings import ClassSetting
from radnode_inference.preprocess import Box, Size

MARGIN = 2
TOP_PART = 0.25
"""The most certain quarter of a part's voxels speaks for it: its edge is uncertain however sure the network is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """margin: probability of the class minus that of the strongest other, [i, j, k] on `box`; positive inside.

    score: mean log-odds of the most certain voxels. probability: `score` through the class's calibration.
    """

    margin: Tensor
    box: Box
    mm3: float
    score: float
    probability: float


def parts(probabilities: Tensor, channel: int, setting: ClassSetting, box: Box) -> list[Part]:
    """The reportable parts of one class, most probable first; one part in all where the class is not `separate`.

    probabilities: (classes, i, j, k), on the places of `box`.
    """
    own = probabilities[channel]
    others = torch.cat([probabilities[:channel], probabilities[channel + 1 :]]).amax(dim=0)
    margin = own - others
    labels, count = ndimage.label((margin > 0).cpu().numpy())
    voxel_mm3 = float(abs(np.linalg.det(box.affine[:3, :3])))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:] * voxel_mm3
    kept = [n for n in range(1, count + 1) if sizes[n - 1] >= setting.smallest_mm3]
    if not kept:
        return []
    groups = [[n] for n in kept] if setting.separate else [kept]
    places = ndimage.find_objects(labels)
    found = [one_part(own, margin, labels, group, places, setting, box) for group in groups]
    return sorted((p for p in found if p.probability >= setting.threshold), key=lambda p: -p.probability)


def one_part(
    own: Tensor, margin: Tensor, labels: "np.ndarray[tuple[int, ...], np.dtype[np.int32]]", group: list[int],
    places: list[tuple[slice, ...]], setting: ClassSetting, box: Box,
) -> Part:  # fmt: skip
    """The voxels with the labels in `group`, cut out with a margin; other parts in the cut are made negative."""
    low = [max(min(places[n - 1][a].start for n in group) - MARGIN, 0) for a in range(3)]
    high = [min(max(places[n - 1][a].stop for n in group) + MARGIN, labels.shape[a]) for a in range(3)]
    at = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    inside = np.isin(labels[at], group)
    cut = margin[at].clone()
    stranger = torch.as_tensor((labels[at] > 0) & ~inside, device=cut.device)
    cut[stranger] = -cut[stranger]
    certain = own[at][torch.as_tensor(inside, device=own.device)].sort(descending=True).values
    top = certain[: max(1, round(TOP_PART * len(certain)))].double().clamp(1e-6, 1 - 1e-6)
    score = float(torch.logit(top).mean())
    slope, offset = setting.calibration or (1.0, 0.0)
    return Part(
        margin=cut,
        box=box.crop(size_of(low), size_of(high)),
        mm3=float(inside.sum()) * float(abs(np.linalg.det(box.affine[:3, :3]))),
        score=score,
        probability=float(1 / (1 + np.exp(-(slope * score + offset)))),
    )


def size_of(values: list[int]) -> Size:
    return values[0], values[1], values[2]
