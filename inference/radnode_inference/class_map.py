"""The strongest class at every voxel of the source images, from a network's probabilities on its own coarser grid.

Equal to interpolating every class trilinearly and taking the strongest, at a fraction of the cost: where the eight places
around a voxel have the same strongest class, that class is the strongest between them too, whatever the weights. Only
voxels beside a border between classes are interpolated (in CT of the trunk about one in ten).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radnode_inference.preprocess import Box, Size
from radnode_inference.volume import Affine

MIXED = 255
"""Stands for a cell whose eight corners do not agree; the classes are below it."""
KEPT = 3
"""How many classes are kept for each place. A fourth that is strongest between places and at none of them is not seen."""
SLAB = 8
"""Slices looked up at a time."""
CHUNK = 1 << 19
"""Voxels interpolated at a time: bounds the memory to some 200 MB."""
CORNERS = tuple((a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Strongest:
    """The strongest classes of every place of `box`, strongest first: labels uint8 and shares float32, (kept, i, j, k).

    A share is a probability; those of classes that were not kept count as 0. classes: how many the network has.
    """

    labels: Tensor
    shares: Tensor
    classes: int
    box: Box

    @classmethod
    def of(cls, packed: Tensor, classes: int, box: Box) -> "Strongest":
        """From what `pack` made, (2 · kept, i, j, k). Raises ValueError where a share is no number: no class is strongest there."""
        kept = packed.shape[0] // 2
        if not bool(torch.isfinite(packed[kept:]).all()):
            raise ValueError("the network answered with values that are no numbers")
        return cls(labels=packed[:kept].to(torch.uint8), shares=packed[kept:], classes=classes, box=box)

    def share(self, channel: int) -> Tensor:
        """The probability of one class, (i, j, k); 0 where it is not among those kept."""
        return (self.shares * (self.labels == channel)).sum(dim=0)

    def strongest_other(self, channel: int) -> Tensor:
        """The probability of the strongest class that is not this one, (i, j, k)."""
        second = self.shares[1] if len(self.shares) > 1 else torch.zeros_like(self.shares[0])
        return torch.where(self.labels[0] == channel, second, self.shares[0])


def pack(probabilities: Tensor, kept: int = KEPT) -> Tensor:
    """(classes, ...) -> (2 · kept, ...): the labels of the strongest classes, then their shares; `slide` can finish slabs by it."""
    if probabilities.shape[0] > MIXED:
        raise ValueError(f"{probabilities.shape[0]} classes; at most {MIXED} can be told apart")
    shares, labels = probabilities.topk(min(kept, probabilities.shape[0]), dim=0)
    return torch.cat([labels.to(shares.dtype), shares])


def on_grid(found: Strongest, shape: Size, affine: Affine) -> NDArray[np.uint8]:
    """The strongest class at the voxels of a volume (index -> LPS `affine`): uint8 [slice, row, column] of `shape`.

    0 beyond the outermost places of the network's grid by more than half a step of it.
    """
    to_place = np.linalg.inv(found.box.affine) @ affine
    cells = agreed(found.labels[0])
    lines = axis_lines(to_place, shape, found.box.size)
    out = torch.empty(shape, dtype=torch.uint8)
    for first in range(0, shape[0], SLAB):
        slab = slice(first, min(first + SLAB, shape[0]))
        out[slab] = along_lines(cells, lines, slab) if lines else at_points(cells, to_place, shape, slab)
    flat = out.view(-1)
    mixed = torch.nonzero(flat == MIXED).flatten()
    labels, shares = (t.flatten(1).T.contiguous() for t in (found.labels, found.shares))  # of a place side by side
    for first in range(0, len(mixed), CHUNK):
        chunk = mixed[first : first + CHUNK]
        flat[chunk] = between(labels, shares, found, indices(chunk, shape, to_place))
    result: NDArray[np.uint8] = out.numpy()
    return result


def agreed(labels: Tensor) -> Tensor:
    """For every cell (a place and its next neighbours) its class where the eight corners agree, else MIXED."""
    same = torch.ones_like(labels, dtype=torch.bool)
    for corner in CORNERS[1:]:
        beside = labels
        for axis, step in enumerate(corner):
            if step:
                beside = beside.index_select(
                    axis, torch.arange(1, labels.shape[axis] + 1).clamp(max=labels.shape[axis] - 1)
                )
        same &= beside == labels
    return torch.where(same, labels, torch.tensor(MIXED, dtype=torch.uint8))


def axis_lines(to_place: Affine, shape: Size, size: Size) -> "tuple[tuple[int, ...], list[Tensor]] | None":
    """For volumes whose axes are those of the grid: which axis of the grid each axis is, and its cells along it.

    A cell of -1 is beyond the grid. None for volumes that stand obliquely to it.
    """
    turn = to_place[:3, :3]
    order = tuple(int(np.argmax(np.abs(turn[:, a]))) for a in range(3))
    strayed = max(abs(turn[b, a]) * (shape[a] - 1) for a in range(3) for b in range(3) if b != order[a])
    if len(set(order)) < 3 or strayed > 1e-3:
        return None
    lines = []
    for axis, along in enumerate(order):
        at = torch.arange(shape[axis], dtype=torch.float64) * turn[along, axis] + to_place[along, 3]
        lines.append(cells_of(at, size[along]))
    return order, lines


def cells_of(at: Tensor, n: int) -> Tensor:
    """The cell of each position on an axis of `n` places; -1 beyond it."""
    beyond = (at < -0.5) | (at > n - 0.5)
    return at.floor().clamp(0, n - 1).long().masked_fill(beyond, -1)


def along_lines(cells: Tensor, lines: tuple[tuple[int, ...], list[Tensor]], slab: slice) -> Tensor:
    order, along = lines
    taken = [along[0][slab], along[1], along[2]]
    picked = cells.permute(*order)
    for axis, line in enumerate(taken):
        picked = picked.index_select(axis, line.clamp(min=0))
    for axis, line in enumerate(taken):
        if (line < 0).any():
            picked.index_fill_(axis, torch.nonzero(line < 0).flatten(), 0)
    return picked


def at_points(cells: Tensor, to_place: Affine, shape: Size, slab: slice) -> Tensor:
    """As `along_lines`, for volumes that stand obliquely."""
    count = shape[1] * shape[2]
    at = indices(torch.arange(slab.start * count, slab.stop * count), shape, to_place)
    a, b, c = (cells_of(at[axis], cells.shape[axis]) for axis in range(3))
    picked = cells[a.clamp(min=0), b.clamp(min=0), c.clamp(min=0)]
    picked[(a < 0) | (b < 0) | (c < 0)] = 0
    return picked.view(slab.stop - slab.start, *shape[1:])


def indices(flat: Tensor, shape: Size, to_place: Affine) -> Tensor:
    """Where voxels (flat numbers) lie on the network's grid: float64 (3, voxels)."""
    index = torch.stack([flat // (shape[1] * shape[2]), flat // shape[2] % shape[1], flat % shape[2]]).double()
    turn = torch.as_tensor(to_place[:3], dtype=torch.float64)
    return turn[:, :3] @ index + turn[:, 3:]


def between(labels: Tensor, shares: Tensor, found: Strongest, at: Tensor) -> Tensor:
    """The class whose trilinear share is the largest at each position, uint8; the lower number where two are equal.

    labels, shares: those of `found`, (places, kept).
    """
    size = found.box.size
    at = torch.stack([at[a].clamp(0, size[a] - 1) for a in range(3)])
    base = at.floor()
    far = (at - base).float()
    first = base.long()
    steps = [(first[a], (first[a] + 1).clamp(max=size[a] - 1)) for a in range(3)]
    total = torch.zeros((at.shape[1], found.classes))
    for i, j, k in CORNERS:
        place = (steps[0][i] * size[1] + steps[1][j]) * size[2] + steps[2][k]
        weight = torch.stack([far[a] if far_side else 1 - far[a] for a, far_side in enumerate((i, j, k))]).prod(dim=0)
        total.scatter_add_(1, labels.index_select(0, place).long(), shares.index_select(0, place) * weight[:, None])
    return total.argmax(dim=1).to(torch.uint8)
