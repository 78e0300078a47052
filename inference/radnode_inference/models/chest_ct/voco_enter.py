"""From a study to what a VoCo network is shown: the series, its volume, the guards, and the network's grid."""

from dataclasses import dataclass

import torch
from torch import Tensor

from radnode_inference.guards import Guards
from radnode_inference.load import first_loadable
from radnode_inference.match import best_ct, name
from radnode_inference.model import Progress
from radnode_inference.models.chest_ct.voco_settings import VocoSettings
from radnode_inference.preprocess import Box, body_bounds, ras_box, sample, window
from radnode_inference.study import Study
from radnode_inference.volume import Volume
from radnode_inference.weights import WeightsFile


@dataclass(frozen=True, kw_only=True, eq=False)
class Entered:
    """A study on its way into the network. prepared: [i, j, k] 0..1 on the places of `box`."""

    volume: Volume
    prepared: Tensor
    box: Box
    statements: tuple[str, ...]


def enter(
    study: Study, weights: WeightsFile, settings: VocoSettings, guards: Guards, device: torch.device, progress: Progress
) -> Entered:
    """The series, its volume, and what the network is shown. Raises DeclinedError as `match`, `load` and `guards` do."""
    weights.admit(study)
    progress(0.0, "choosing the series")
    match = best_ct(study, guards.gates.region, guards.gates.contrast)
    series, volume, passed_over = first_loadable(match)
    progress(0.1, "reading the volume")
    admitted = guards.admit(study, volume)
    prepared, box = prepare(volume, settings, device)
    guarded = (*admitted, *guards.familiar({"ct": prepared.cpu().numpy()}), *guards.calibration)
    read = match.reason if series is match.series else name(series)
    said = (*weights.statements, f"Read: {read}.", *passed_over, *guarded)
    return Entered(volume=volume, prepared=prepared, box=box, statements=said)


def prepare(volume: Volume, settings: VocoSettings, device: torch.device) -> tuple[Tensor, Box]:
    """The network's input [i, j, k] 0..1 (right, front, head), cropped to the body, and its places."""
    whole = ras_box(volume.shape, volume.affine, settings.spacing_mm)
    low, high = settings.window_hu
    scaled = window(sample(torch.as_tensor(volume.voxels).to(device), volume.affine, whole, outside=low), low, high)
    first, last = body_bounds(scaled, max((settings.body_hu - low) / (high - low), 0.0))
    box = whole.crop(first, last)
    return scaled[first[0] : last[0], first[1] : last[1], first[2] : last[2]].contiguous(), box
