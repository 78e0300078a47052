"""The engine of a loaded network: what its records allow, ready to be called."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from radnode_inference.engines import openvino_cpu, record
from radnode_inference.engines.openvino_cpu import OpenvinoError
from radnode_inference.engines.record import REFERENCE, Choice

Predict = Callable[[Tensor], Tensor]


class Faster:
    """An engine that was chosen, and torch-fp32 in its place from the first input on at which it fails.

    failed: why it did, "" as long as it has not.
    """

    def __init__(self, predict: Predict, network: nn.Module) -> None:
        self._predict, self._network = predict, network
        self.failed = ""

    def __call__(self, windows: Tensor) -> Tensor:
        if not self.failed:
            try:
                return self._predict(windows)
            except (RuntimeError, MemoryError) as e:  # what torch and OpenVINO raise
                self.failed = record.why(e)
        out: Tensor = self._network(windows)
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen(Choice):
    """predict: (windows, channels, *roi) -> (windows, classes, *roi), on the device of its input."""

    predict: Predict

    @property
    def statements(self) -> tuple[str, ...]:
        """As for every `Choice`, and that the engine failed, when it did."""
        failed = self.predict.failed if isinstance(self.predict, Faster) else ""
        return (record.gave_way(self.engine, failed),) if failed else super().statements


def choose(network: nn.Module, *, weights: Path, key: str, device: torch.device) -> Chosen:
    """The fastest engine that agreed with torch-fp32 on these weights and this hardware, else torch-fp32 and why.

    network: on `device`, in eval mode. weights: the folder of the site's weights, where the records are (`record.place`).
    """
    choice = record.choose(weights, key, hardware(device))
    try:
        return Chosen(
            engine=choice.engine,
            reason=choice.reason,
            predict=predictor(choice, network, record.place(weights, key), device),
        )
    except OpenvinoError as e:
        return Chosen(engine=REFERENCE, reason=f"{choice.engine} could not be used: {e}", predict=network)


def predictor(choice: Choice, network: nn.Module, folder: Path, device: torch.device) -> Predict:
    """The engine as a function. Raises OpenvinoError when the converted network is not the one that was compared."""
    if choice.engine == REFERENCE:
        return network
    agreed = choice.agreement
    if agreed and agreed.converted_sha256 and openvino_cpu.digest(folder) != agreed.converted_sha256:
        raise OpenvinoError("the converted network is not the one that was compared")
    return Faster(called(choice.engine, network, device, folder), network)


def called(engine: str, network: nn.Module, device: torch.device, folder: Path) -> Predict:
    """An engine as a function; those of OpenVINO read the converted network in `folder`."""
    if engine.startswith("openvino"):
        return openvino_cpu.opened(folder, engine.removeprefix("openvino-"), torch.get_num_threads())
    return in_half(network, device) if engine == "torch-bf16" else network


def in_half(network: nn.Module, device: torch.device) -> Predict:
    """The network under bfloat16 autocast."""

    def predict(windows: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            out: Tensor = network(windows)
            return out

    return predict


def hardware(device: torch.device) -> str:
    """What the networks of `device` are computed on, as records name it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else record.cpu()
