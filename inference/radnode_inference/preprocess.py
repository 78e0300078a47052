"""Volumes to network inputs and back: the same functions in training and in reading, so that both see the same."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from radnode_inference.volume import Affine, FloatArray

Size = tuple[int, int, int]
SLAB = 24
"""Output planes sampled at a time: bounds the memory of the sampling positions."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Box:
    """A grid of places: `size` of [i, j, k] and the affine (i, j, k, 1) -> (x, y, z, 1) in LPS mm."""

    size: Size
    affine: Affine

    def crop(self, low: Size, high: Size) -> "Box":
        """The part from index `low` to before `high`."""
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ np.asarray(low, float)
        return Box(size=(high[0] - low[0], high[1] - low[1], high[2] - low[2]), affine=affine)


def sample(voxels: FloatArray | Tensor, affine: Affine, box: Box, *, outside: float = 0.0) -> Tensor:
    """The values of a volume (index -> LPS `affine`) at the places of `box`, trilinear: float32 [i, j, k].

    Places beyond the volume's outermost voxel centres (by more than half a voxel) get `outside`.
    """
    source = torch.as_tensor(voxels, dtype=torch.float32)
    to_index = torch.tensor(np.linalg.inv(affine) @ box.affine, dtype=torch.float32, device=source.device)
    sides = torch.tensor(source.shape, dtype=torch.float32, device=source.device)
    j, k = (torch.arange(n, dtype=torch.float32, device=source.device) for n in box.size[1:])
    plane = j[:, None, None] * to_index[:3, 1] + k[None, :, None] * to_index[:3, 2] + to_index[:3, 3]
    out = torch.empty(box.size, device=source.device)
    for start in range(0, box.size[0], SLAB):
        i = torch.arange(start, min(start + SLAB, box.size[0]), dtype=torch.float32, device=source.device)
        index = i[:, None, None, None] * to_index[:3, 0] + plane
        beyond = ((index < -0.5) | (index > sides - 0.5)).any(dim=-1)
        scaled = (index * (2 / (sides - 1).clamp(min=1)) - 1).flip(-1)
        values = F.grid_sample(source[None, None], scaled[None], align_corners=True, padding_mode="border")[0, 0]
        out[start : start + len(i)] = values.masked_fill(beyond, outside)
    return out


def bounds(shape: Size, affine: Affine) -> tuple[FloatArray, FloatArray]:
    """The lowest and highest x, y, z in LPS mm of a volume's voxel centres."""
    corners = np.array([[i, j, k, 1] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)])
    places = (corners @ affine.T)[:, :3].astype(np.float32)
    return places.min(axis=0), places.max(axis=0)


def ras_box(shape: Size, affine: Affine, spacing: tuple[float, float, float]) -> Box:
    """The grid that covers a volume with axes to the right, to the front and to the head, `spacing` mm apart."""
    low, high = bounds(shape, affine)
    steps = np.array([-spacing[0], -spacing[1], spacing[2]])
    size = np.round((high - low) / np.abs(steps)).astype(int) + 1
    placed = np.eye(4)
    placed[:3, :3] = np.diag(steps)
    placed[:3, 3] = (high[0], high[1], low[2])
    return Box(size=(int(size[0]), int(size[1]), int(size[2])), affine=placed)


def window(values: Tensor, low: float, high: float) -> Tensor:
    """Values scaled so that `low` is 0 and `high` is 1, and cut there (MONAI's ScaleIntensityRange with clip)."""
    return ((values - low) / (high - low)).clamp(0, 1)


def body_bounds(scaled: Tensor, above: float, margin: int = 2) -> tuple[Size, Size]:
    """The first and the one-past-last index, per axis, of what is brighter than `above`; everything when nothing is.

    Planes with fewer than 0.2 % bright voxels do not count: the table's edge and wires are no body.
    """
    bright = scaled > above
    lows, highs = [], []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        share = bright.float().mean(dim=others)
        found = torch.nonzero(share > 0.002).flatten()
        n = scaled.shape[axis]
        lows.append(max(int(found[0]) - margin, 0) if len(found) else 0)
        highs.append(min(int(found[-1]) + 1 + margin, n) if len(found) else n)
    return (lows[0], lows[1], lows[2]), (highs[0], highs[1], highs[2])
