"""One MOME, or the several that were trained on other folds of the same data: their probabilities, and how they differ."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from radnode_inference import device as devices
from radnode_inference.models.breast_mri import mome
from radnode_inference.models.breast_mri.mome_input import InputSettings
from radnode_inference.models.breast_mri.mome_settings import MomeSettings
from radnode_inference.state_dict import read_tensors
from radnode_inference.weights import WeightsError, WeightsFile

MODALITIES = ("dce", "dwi", "t2")
Volumes = Mapping[str, Tensor]
"""Modality -> (batch, channels, x, y, z); one that is left out is not there for the network."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ensemble:
    """networks: one per fold. Tensors that the folds have in common (a frozen encoder) are in memory once.

    half: computed in bfloat16, where that agreed with single precision (`mome_engines`).
    """

    networks: tuple[mome.Mome, ...]
    device: torch.device
    temperature: float
    half: bool = False

    def logits(self, network: mome.Mome, volumes: Volumes) -> Tensor:
        """(batch, classes), divided by the temperature, in double precision."""
        given = (volumes[m].to(self.device) if m in volumes else None for m in MODALITIES)
        with devices.precision(self.device, half=self.half):
            out: Tensor = network(*given)
        return out.double() / self.temperature

    def probabilities(self, volumes: Volumes) -> Tensor:
        """(folds, classes) of one examination."""
        with torch.inference_mode(), devices.threads():
            return torch.stack([self.logits(n, volumes)[0].softmax(dim=0) for n in self.networks]).cpu()


def loaded(weights: WeightsFile, settings: MomeSettings, device: torch.device, temperature: float = 1.0) -> Ensemble:
    """The networks of the card, on `device`. Raises StateDictError, and WeightsError when one does not fit the card."""
    networks: list[mome.Mome] = []
    others = [weights.path.with_name(str(fold["file"])) for fold in weights.settings.get("folds", ())]
    for path in (weights.path, *others):
        state = shared(read_tensors(path), networks[0].state_dict() if networks else {})
        network = mome.from_state_dict(state, heads=settings.heads).float().requires_grad_(requires_grad=False)
        if network.shape.classes != len(settings.classes):
            raise WeightsError(f"{path.name} has {network.shape.classes} classes, its card {len(settings.classes)}")
        if why := unfit(network.shape, settings.input):
            raise WeightsError(f"{path.name}: {why}")
        if networks and network.shape != networks[0].shape:
            raise WeightsError(f"{path.name} is a network of another shape than {weights.path.name}")
        networks.append(network)
    return Ensemble(networks=on(device, networks), device=device, temperature=temperature)


def unfit(shape: mome.Shape, given: InputSettings) -> str:
    """Why the network cannot be shown what the card says, "" when it can."""
    channels = given.phases if given.times_s is None else len(given.times_s)
    if channels != shape.channels[0]:
        return f"it reads {shape.channels[0]} subtractions, its card gives it {channels}"
    room = (shape.positions[0] - mome.CLS_POSITION - 1, *shape.positions[1:])
    for modality, size, rows in zip(MODALITIES, (given.dce, given.dwi, given.t2), room, strict=True):
        tokens = math.prod(-(-n // mome.STRIDE) for n in size)
        if tokens > rows:
            return f"input.{modality} of {' x '.join(map(str, size))} makes {tokens} tokens, it has {rows} positions"
    return ""


def shared(state: Mapping[str, Any], first: Mapping[str, Tensor]) -> dict[str, Any]:
    """The state dictionary with the tensors of `first` wherever they are equal, bit for bit."""
    return {
        key: first[key]
        if key in first and isinstance(value, Tensor) and value.shape == first[key].shape and value.equal(first[key])
        else value
        for key, value in state.items()
    }


def on(device: torch.device, networks: Sequence[mome.Mome]) -> tuple[mome.Mome, ...]:
    """The networks on a device, shared tensors still shared."""
    moved: dict[int, nn.Parameter] = {}
    for network in networks:
        for module in network.modules():
            for name, p in list(module.named_parameters(recurse=False)):
                there = moved.setdefault(p.data_ptr(), nn.Parameter(p.detach().to(device), requires_grad=False))
                setattr(module, name, there)
    return tuple(networks)
