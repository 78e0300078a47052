"""A network over a volume larger than its window: overlapping windows, their outputs blended, finished slab by slab."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from radnode_inference import device as devices
from radnode_inference.preprocess import Size

Predict = Callable[[Tensor], Tensor]
Finish = Callable[[Tensor], Tensor]
Place = tuple[slice, ...]
SIGMA = 0.125
"""Of the Gaussian weight, in window sides (MONAI and nnU-Net use the same)."""


def slide(
    volume: Tensor, roi: Size, predict: Predict, *, overlap: float, done: Callable[[float], None],
    finish: Finish | None = None,
) -> Tensor:  # fmt: skip
    """The network's output over a volume, (classes, i, j, k), or what `finish` makes of it.

    volume: (channels, i, j, k), smaller than the window or not; predict: (windows, channels, *roi) -> (windows, classes, *roi).
    overlap: the part of a window that the next one covers again, 0 up to 1; done: told the part done after each batch.
    finish: given the blended output of some neighbouring planes (classes, ...) as soon as no further window touches them, it returns
    (anything, ...) on the same planes, say their labels. Then the outputs of the whole volume are never in memory at once.
    """
    axis, slabs = finished(volume, roi, predict, overlap=overlap, done=done)
    return torch.cat([finish(slab) if finish else slab.clone() for slab in slabs], dim=axis + 1)


def labels(outputs: Tensor) -> Tensor:
    """The strongest class of each place, (1, i, j, k), in one byte: a `finish` for networks with many classes."""
    if outputs.shape[0] > 256:
        raise ValueError(f"{outputs.shape[0]} classes do not fit into one byte")
    return outputs.argmax(dim=0, keepdim=True).to(torch.uint8)


@dataclass(frozen=True, kw_only=True)
class Row:
    """The windows that begin at the same place along the axis of the slabs; `end`: where the next row begins."""

    start: int
    end: int
    places: tuple[Place, ...]


def rows(shape: Size, roi: Size, axis: int, overlap: float) -> Iterator[Row]:
    """Every window of a volume, row by row along `axis`; places are relative to the row's start on that axis."""
    begins = [starts(n, w, overlap) for n, w in zip(shape, roi, strict=True)]
    along = begins[axis]
    begins[axis] = [0]
    places = tuple(tuple(slice(c, c + w) for c, w in zip(at, roi, strict=True)) for at in product(*begins))
    for start, end in zip(along, [*along[1:], shape[axis]], strict=True):
        yield Row(start=start, end=end, places=places)


def finished(
    volume: Tensor, roi: Size, predict: Predict, *, overlap: float, done: Callable[[float], None]
) -> tuple[int, Iterator[Tensor]]:
    """The axis along which slabs follow each other (the longest), and the slabs (classes, i, j, k), each valid until the next."""
    shape = size(volume.shape[1:])
    whole = padded(volume, roi)
    there = size(whole.shape[1:])
    axis = there.index(max(there))
    kept = [slice((p - n) // 2, (p - n) // 2 + n) for p, n in zip(there, shape, strict=True)]
    across = (slice(None), *(slice(None) if a == axis else kept[a] for a in range(3)))

    def inside() -> Iterator[Tensor]:
        for start, slab in blended(whole, roi, axis, predict, overlap=overlap, done=done):
            low, high = kept[axis].start - start, kept[axis].stop - start
            cut = slab.narrow(axis + 1, max(low, 0), min(high, slab.shape[axis + 1]) - max(low, 0))
            yield cut[across]

    return axis, inside()


def blended(
    volume: Tensor, roi: Size, axis: int, predict: Predict, *, overlap: float, done: Callable[[float], None]
) -> Iterator[tuple[int, Tensor]]:
    """(first plane along `axis`, blended outputs) of slab after slab; only one window's depth is held at a time.

    A slab is overwritten when the next one is asked for.
    """
    shape = size(volume.shape[1:])
    weight = importance(roi).to(volume.device)
    depth = [roi[axis] if a == axis else n for a, n in enumerate(shape)]
    norm = torch.zeros(depth, device=volume.device)
    total: Tensor | None = None
    batches = Batches(predict, volume.device)
    every = list(rows(shape, roi, axis, overlap))
    count = sum(len(row.places) for row in every)
    ended = 0
    for row in every:
        part = volume.narrow(axis + 1, row.start, roi[axis])
        for places, outs in batches.over(part, row.places):
            if total is None:
                total = torch.zeros((outs.shape[1], *depth), device=volume.device)
            for out, at in zip(outs, places, strict=True):
                total[(slice(None), *at)].addcmul_(out, weight)
                norm[at] += weight
            ended += len(places)
            done(ended / count)
        assert total is not None
        planes = row.end - row.start
        yield row.start, total.narrow(axis + 1, 0, planes).div_(norm.narrow(axis, 0, planes))
        advance(total, axis + 1, planes)
        advance(norm, axis, planes)


def advance(held: Tensor, axis: int, planes: int) -> None:
    """Move what is not yet finished to the front, zeros behind it. In place; copied plane by plane, since they overlap."""
    left = held.shape[axis] - planes
    for plane in range(left):
        held.select(axis, plane).copy_(held.select(axis, plane + planes))
    held.narrow(axis, left, planes).zero_()


class Batches:
    """As many windows at a time as are quick and fit: the first goes alone, and its memory is measured."""

    def __init__(self, predict: Predict, device: torch.device) -> None:
        self._predict = predict
        self._device = device
        self._size = 0

    def over(self, volume: Tensor, places: tuple[Place, ...]) -> Iterator[tuple[tuple[Place, ...], Tensor]]:
        """(places, float32 outputs) until every window was predicted."""
        first = 0
        while first < len(places):
            at = places[first : first + max(self._size, 1)]
            windows = torch.stack([volume[(slice(None), *p)] for p in at])
            if self._size:
                outs = self._predict(windows)
            else:
                with devices.Meter(self._device) as meter:
                    outs = self._predict(windows)
                self._size = meter.fit(devices.largest_batch(self._device))
            yield at, outs.float()
            first += len(at)


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


def size(values: torch.Size) -> Size:
    i, j, k = values
    return i, j, k
