"""A network over a volume larger than its window: overlapping windows, their outputs blended."""

from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from radnode_inference.preprocess import Size

Predict = Callable[[Tensor], Tensor]
BATCH = 2
"""Windows at a time: on a CPU two are quicker than twice one, because oneDNN takes no small batches of one."""
SIGMA = 0.125
"""Of the Gaussian weight, in window sides (MONAI and nnU-Net use the same)."""


def slide(volume: Tensor, roi: Size, predict: Predict, *, overlap: float, done: Callable[[float], None]) -> Tensor:
    """The network's output over a volume: (classes, i, j, k).

    volume: (channels, i, j, k), smaller than the window or not; predict: (windows, channels, *roi) -> (windows, classes, *roi).
    overlap: the part of a window that the next one covers again, 0 up to 1; done: told the part done after each window.
    """
    shape = volume.shape[1:]
    volume = padded(volume, roi)
    weight = importance(roi).to(volume.device)
    total: Tensor | None = None
    norm = torch.zeros(volume.shape[1:], device=volume.device)
    corners = list(product(*(starts(n, w, overlap) for n, w in zip(volume.shape[1:], roi, strict=True))))
    for first in range(0, len(corners), BATCH):
        places = [
            tuple(slice(c, c + w) for c, w in zip(corner, roi, strict=True))
            for corner in corners[first : first + BATCH]
        ]
        outs = predict(torch.stack([volume[(slice(None), *at)] for at in places])).float()
        if total is None:
            total = torch.zeros((outs.shape[1], *volume.shape[1:]), device=volume.device)
        for out, at in zip(outs, places, strict=True):
            total[(slice(None), *at)] += out * weight
            norm[at] += weight
        done(min(first + BATCH, len(corners)) / len(corners))
    assert total is not None
    kept = tuple(slice((p - n) // 2, (p - n) // 2 + n) for p, n in zip(volume.shape[1:], shape, strict=True))
    return total.div_(norm)[(slice(None), *kept)]


def padded(volume: Tensor, roi: Size) -> Tensor:
    """The volume with zeros around it where it is smaller than the window."""
    sides: list[int] = []
    for n, w in zip(reversed(volume.shape[1:]), reversed(roi), strict=True):
        missing = max(w - n, 0)
        sides += [missing // 2, missing - missing // 2]
    return F.pad(volume, sides) if any(sides) else volume


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin along one axis; the last ends at the end."""
    step = max(int(window * (1 - overlap)), 1)
    return [*range(0, length - window, step), length - window]


def importance(roi: Size) -> Tensor:
    """How much each place of a window counts: most in the middle, never nothing."""
    weight = torch.ones(roi)
    for axis, n in enumerate(roi):
        place = torch.arange(n, dtype=torch.float32) - (n - 1) / 2
        line = torch.exp(-0.5 * (place / (SIGMA * n)) ** 2)
        weight *= line.view([-1 if a == axis else 1 for a in range(3)])
    return weight.clamp(min=1e-3)
