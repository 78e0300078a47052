"""Where MOME looked: integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) of the log-odds.

Taken along the straight way from empty volumes to the given ones in what the stems find, at every eighth voxel: an empty
volume leaves nothing there but the tokens' positions. (In the voxels themselves the way is of no use: the stems normalise
each volume, so everything would change while the images are fainter than 1e-6 of themselves.) The share of each place is
then spread over its voxels in proportion to |gradient times image| at the end of the way, which keeps the sum.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from radnode_inference import device as devices
from radnode_inference.findings import Code, ParameterMap
from radnode_inference.models.breast_mri.mome import WAYS, Mome, Shape
from radnode_inference.models.breast_mri.mome_ensemble import MODALITIES, Ensemble, Volumes
from radnode_inference.preprocess import Box, sample
from radnode_inference.volume import FloatArray, Volume

STEPS = 256
"""Gradients taken at most."""
PIECES = 8
"""Equal pieces that the way is cut into at first, fewer where few gradients may be taken; one that is not yet exact is
halved, the least exact first."""
EXACT = 1e-2
"""A piece is exact when its integral misses the change of the log-odds by at most this part of the whole change."""
SMALL_NETWORK = 50_000_000
"""Parameters up to which a map is made on a CPU unless the card says otherwise: seconds instead of many minutes."""
STEPS_OF_LARGE = 32
"""Gradients taken at most of a larger network, which only a GPU is asked for."""
AT_ONCE, MEMORY_PART = 8, 0.4
"""Gradients taken together at most, and the part of the free memory that they may fill."""
STRIDE = 8
SALIENCY = Code(value="SALIENCY", scheme="99RADNODE", meaning="Contribution to the log-odds per volume")
PER_ML = Code(value="/mL", scheme="UCUM", meaning="per mL")
WAY = dict(zip(MODALITIES, WAYS, strict=True))
NODES = 2
"""Gradients over one piece."""
Target = Callable[[Tensor], Tensor]
"""Logits (batch, classes) -> the number that is explained (batch,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribution:
    """values: modality -> what each voxel of its grid adds to the log-odds, (x, y, z).

    difference: the log-odds of the volumes less those of empty ones, which the values add up to but for the error.
    """

    values: Mapping[str, Tensor]
    difference: float

    @property
    def error(self) -> float:
        """The completeness error: how far the sum is off, as a part of the difference."""
        total = math.fsum(float(v.double().sum()) for v in self.values.values())
        return abs(total - self.difference) / max(abs(self.difference), 1e-6)


def steps_of(wanted: int | None, ensemble: Ensemble) -> int:
    """How many gradients to take at most: the card's number, else the usual one where it takes seconds, else 0."""
    if wanted is not None:
        return wanted
    if sum(p.numel() for p in ensemble.networks[0].parameters()) <= SMALL_NETWORK:
        return STEPS
    return STEPS_OF_LARGE if ensemble.device.type == "cuda" else 0


def log_odds(of: int) -> Target:
    """The logit of one class less the logarithm of the others' summed exponentials."""

    def target(logits: Tensor) -> Tensor:
        others = [n for n in range(logits.shape[1]) if n != of]
        return logits[:, of] - logits[:, others].logsumexp(dim=1)

    return target


def attribution(ensemble: Ensemble, volumes: Volumes, target: Target, steps: int) -> Attribution:
    """The mean over the networks. volumes: of one examination, batch 1."""
    parts = [one(Path(ensemble=ensemble, network=n, volumes=volumes, target=target), steps) for n in ensemble.networks]
    return Attribution(
        values={m: torch.stack([p.values[m] for p in parts]).mean(dim=0) for m in volumes},
        difference=math.fsum(p.difference for p in parts) / len(parts),
    )


class Path:
    """The way from empty volumes to those of one examination, in what the stems of one network find."""

    def __init__(self, *, ensemble: Ensemble, network: Mome, volumes: Volumes, target: Target) -> None:
        self.ensemble, self.network, self.target = ensemble, network, target
        self.volumes = {m: v.to(ensemble.device) for m, v in volumes.items()}
        with torch.no_grad(), devices.threads(), devices.precision(ensemble.device):
            self.features = {m: self.stem(m, v).float() for m, v in self.volumes.items()}

    def stem(self, modality: str, volume: Tensor) -> Tensor:
        return self.network.beit3.stem(WAY[modality]).features(volume)

    def explained(self, features: Mapping[str, Tensor]) -> Tensor:
        with devices.precision(self.ensemble.device):
            logits = self.network.read({WAY[m]: x for m, x in features.items()})
        return self.target(logits.double() / self.ensemble.temperature)

    def at(self, places: Sequence[float]) -> dict[str, Tensor]:
        return {m: torch.cat([x * float(p) for p in places]) for m, x in self.features.items()}

    def worth(self, places: Sequence[float]) -> list[float]:
        """The log-odds at some places of the way, 0 its beginning and 1 its end."""
        with torch.no_grad(), devices.threads():
            return [float(self.explained(self.at([p]))) for p in places]

    def gradients(self, places: Sequence[float]) -> dict[str, Tensor]:
        """Modality -> the gradients at these places, (place, width, x, y, z)."""
        given = {m: x.requires_grad_() for m, x in self.at(places).items()}
        with torch.enable_grad(), devices.threads():
            found = torch.autograd.grad(self.explained(given).sum(), list(given.values()))
        return dict(zip(given, found, strict=True))


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of the way and the log-odds at its ends."""

    low: float
    high: float
    begin: float
    end: float


def one(path: Path, steps: int) -> Attribution:
    """The integrated gradients of one network, spread over the voxels; never more than `steps` gradients."""
    nodes = min(NODES, steps)
    count = max(1, min(PIECES, steps // nodes))
    ends = np.linspace(0, 1, count + 1)
    worth = path.worth(ends.tolist())
    difference = worth[-1] - worth[0]
    pending = [Piece(low=ends[n], high=ends[n + 1], begin=worth[n], end=worth[n + 1]) for n in range(count)]
    mean = {m: torch.zeros_like(x) for m, x in path.features.items()}
    together, left = pieces_at_once(path), steps
    while pending:
        left -= nodes * len(pending)
        again: list[Rough] = []
        for start in range(0, len(pending), together):
            some = pending[start : start + together]
            for piece, found in zip(some, integrals(path, some, nodes), strict=True):
                again = sorted([*again, rough(path, piece, found)], key=lambda r: -r.off)
                while again and (
                    len(again) > left // (2 * nodes) or again[-1].off <= EXACT * max(abs(difference), 0.25)
                ):
                    mean = {m: mean[m] + g for m, g in again.pop().found.items()}
        pending = [half for r in again for half in halves(path, r.piece)]
    return Attribution(values={m: spread(path, m, mean[m]).cpu() for m in path.volumes}, difference=difference)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rough:
    """A piece whose integral misses the change of the log-odds over it by `off`."""

    piece: Piece
    found: dict[str, Tensor]
    off: float


def rough(path: Path, piece: Piece, found: dict[str, Tensor]) -> Rough:
    total = math.fsum(float((g * path.features[m]).double().sum()) for m, g in found.items())
    return Rough(piece=piece, found=found, off=abs(total - (piece.end - piece.begin)))


def integrals(path: Path, pieces: Sequence[Piece], nodes: int) -> list[dict[str, Tensor]]:
    """Of the gradient over each piece, by Gauss and Legendre's rule with `nodes` places; all in one batch."""
    where, shares = np.polynomial.legendre.leggauss(nodes)
    half = [(p.high - p.low) / 2 for p in pieces]
    places = [h * float(n) + (p.high + p.low) / 2 for p, h in zip(pieces, half, strict=True) for n in where]
    weight = torch.tensor(
        [h * float(s) for h in half for s in shares], dtype=torch.float32, device=path.ensemble.device
    )
    found = {m: g * weight.view(-1, 1, 1, 1, 1) for m, g in path.gradients(places).items()}
    return [
        {m: g[nodes * n : nodes * (n + 1)].sum(dim=0, keepdim=True) for m, g in found.items()}
        for n in range(len(pieces))
    ]


def pieces_at_once(path: Path) -> int:
    """How many pieces fit into a part of the free memory with all that their gradients keep."""
    if path.ensemble.device.type == "cuda":
        free = torch.cuda.mem_get_info(path.ensemble.device)[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(AT_ONCE, int(MEMORY_PART * free / bytes_kept(path.network.shape, path.features))) // NODES)


def bytes_kept(shape: Shape, features: Mapping[str, Tensor]) -> int:
    """What the gradient at one place keeps, about: the stems' features and every layer's tokens."""
    cells = sum(x[0, 0].numel() for x in features.values())
    per_token = len(shape.soft) * (14 * shape.width + 4 * shape.feedforward + 4 * shape.adapter)
    return 4 * (3 * cells * shape.width + (cells // 8 + 1) * per_token)


def halves(path: Path, piece: Piece) -> tuple[Piece, Piece]:
    middle = (piece.low + piece.high) / 2
    (worth,) = path.worth([middle])
    return (
        Piece(low=piece.low, high=middle, begin=piece.begin, end=worth),
        Piece(low=middle, high=piece.high, begin=worth, end=piece.end),
    )


def spread(path: Path, modality: str, gradient: Tensor) -> Tensor:
    """What each voxel (x, y, z) adds: the share of its place at stride 8, by |gradient times image| among its voxels."""
    share = (gradient * path.features[modality]).sum(dim=(0, 1))
    volume = path.volumes[modality].clone().requires_grad_()
    with torch.enable_grad(), devices.threads():
        (back,) = torch.autograd.grad(path.stem(modality, volume), volume, gradient)
    weight = (back * volume).sum(dim=(0, 1)).abs().detach()
    sides = [((torch.arange(n, device=weight.device) + STRIDE // 2) // STRIDE).clamp(max=p - 1)
             for n, p in zip(weight.shape, share.shape, strict=True)]  # fmt: skip
    cell = ((sides[0][:, None, None] * share.shape[1] + sides[1][:, None]) * share.shape[2] + sides[2]).flatten()
    weight = weight.flatten() + 1e-6 * weight.max() + 1e-30
    sums = torch.zeros(share.numel(), device=weight.device).index_add_(0, cell, weight)
    return (share.flatten()[cell] * weight / sums[cell]).view(volume.shape[2:])


def carried(found: Attribution, boxes: Mapping[str, Box], volume: Volume) -> ParameterMap:
    """The attribution of all modalities together, on the dynamic series' own grid, per mL; NaN beyond the network's grids."""
    where = Box(size=volume.shape, affine=volume.affine)
    total: FloatArray = np.zeros(volume.shape, np.float32)
    seen = np.zeros(volume.shape, bool)
    for name, values in found.values.items():
        box = boxes[name]
        per_ml = smooth(values) * (1000 / abs(float(np.linalg.det(box.affine[:3, :3]))))
        here = sample(per_ml, box.affine, where, outside=math.nan).numpy()
        inside = ~np.isnan(here)
        total[inside] += here[inside]
        seen |= inside
    total[~seen] = math.nan
    return ParameterMap(name="Saliency", quantity=SALIENCY, unit=PER_ML, values=total)


def smooth(values: Tensor) -> Tensor:
    """A weighted mean over 5 x 5 x 5 voxels that keeps the sum (but for the outermost voxels)."""
    line = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    out = values[None, None]
    for axis in range(3):
        sides = [1, 1, 1]
        sides[axis] = 5
        out = F.conv3d(out, line.view(1, 1, *sides), padding=[s // 2 for s in sides])
    return out[0, 0]
