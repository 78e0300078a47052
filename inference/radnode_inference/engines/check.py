"""The comparison of every engine with torch in single precision, on the check inputs of some weights."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from radnode_inference import device as devices
from radnode_inference import window
from radnode_inference.engines import openvino_cpu, record
from radnode_inference.engines.choose import Predict, called, hardware
from radnode_inference.engines.openvino_cpu import OpenvinoError
from radnode_inference.engines.record import FASTER, FASTER_ON_GPU, Agreement
from radnode_inference.preprocess import Size

FEWEST_VOXELS = 100
"""A class that neither engine sees in as many voxels of all windows is not compared: its Dice is chance."""


def check(
    network: nn.Module, windows: Tensor, *, weights: Path, key: str, device: torch.device,
    tell: Callable[[str], None], background: Collection[int] = (0,), temperature: float = 1.0,
) -> tuple[Agreement, ...]:  # fmt: skip
    """Every faster engine of the device beside torch-fp32; recorded for `choose`, and returned.

    network: on `device`, in eval mode; windows: (windows, channels, *roi), prepared as the model prepares them. background: classes that
    are not reported. temperature: what the model divides the logits by.
    """
    folder = record.place(weights, key)
    windows = windows.to(device)
    agreements = []

    def alike(one: Tensor, other: Tensor) -> Likeness:
        return agreement(one / temperature, other / temperature, background)

    with devices.threads():
        with torch.inference_mode():
            reference = timed(network, windows)
        converted = Converted.of(network, windows[:1], folder) if device.type == "cpu" else Converted()
        for engine in FASTER_ON_GPU if device.type == "cuda" else FASTER:
            tell(engine)
            agreements.append(compared(engine, network, windows, reference, folder, converted, alike))
    record.write(folder, tuple(agreements))
    return tuple(agreements)


@dataclass(frozen=True, kw_only=True)
class Converted:
    """The network written for OpenVINO: its digest, or why there is none."""

    sha256: str = ""
    failed: str = ""

    @classmethod
    def of(cls, network: nn.Module, one: Tensor, folder: Path) -> "Converted":
        try:
            return cls(sha256=openvino_cpu.convert(network, one, folder))
        except OpenvinoError as e:
            return cls(failed=str(e))


@dataclass(frozen=True, kw_only=True, eq=False)
class Timed:
    """outputs: (windows, classes, *roi), float32, on the CPU. seconds: of the quickest window."""

    outputs: Tensor
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """How alike two outputs are; see `Agreement` for each number."""

    dice: float | None
    classes: int | None
    delta_p: float


NOTHING = Likeness(dice=0.0, classes=0, delta_p=0.0)


def compared(
    engine: str, network: nn.Module, windows: Tensor, reference: Timed, folder: Path, converted: Converted,
    alike: Callable[[Tensor, Tensor], Likeness],
) -> Agreement:  # fmt: skip
    """One engine's agreement, or why it could not be tried."""
    by_openvino = engine.startswith("openvino")
    failed = converted.failed if by_openvino else ""
    likeness, seconds = NOTHING, 0.0
    if not failed:
        try:
            with torch.inference_mode():
                found = timed(called(engine, network, windows.device, folder), windows)
            seconds, likeness = found.seconds, alike(reference.outputs, found.outputs)
        except RuntimeError as e:
            failed = record.why(e)
    return Agreement(
        engine=engine,
        version=record.version(engine),
        hardware=hardware(windows.device),
        windows=len(windows),
        dice=likeness.dice,
        classes=likeness.classes,
        delta_p=likeness.delta_p,
        seconds=seconds,
        reference_s=reference.seconds,
        converted_sha256=converted.sha256 if by_openvino else "",
        failed=failed,
    )


def timed(predict: Predict, windows: Tensor) -> Timed:
    """One window after the other."""
    outs, seconds = [], []
    for one in windows:
        began = time.perf_counter()
        outs.append(predict(one[None]).float().cpu())
        seconds.append(time.perf_counter() - began)
    return Timed(outputs=torch.cat(outs), seconds=min(seconds))


def agreement(reference: Tensor, found: Tensor, background: Collection[int] = (0,)) -> Likeness:
    """Two outputs side by side, before the softmax: the lowest Dice, and the largest difference of a class's mean probability where the
    reference sees it.

    Both: (windows, classes, i, j, k), or (inputs, classes) of a network that tells something of the whole image: then the largest
    difference of any probability. One class alone is a probability at threshold one half.
    """
    if reference.shape[1] == 1:
        reference, found = (torch.cat((torch.zeros_like(x), x), dim=1) for x in (reference, found))
        background = (0,)
    p, q = reference.softmax(dim=1), found.softmax(dim=1)
    if p.dim() == 2:
        return Likeness(dice=None, classes=None, delta_p=float((p - q).abs().max()))
    mine, theirs = p.argmax(dim=1), q.argmax(dim=1)
    dice, delta_p, both = 1.0, 0.0, 0
    for c in range(p.shape[1]):
        own, other = mine == c, theirs == c
        if int(own.sum() + other.sum()) < FEWEST_VOXELS:
            continue
        dice = min(dice, 2 * int((own & other).sum()) / int(own.sum() + other.sum()))
        both += c not in background and min(int(own.sum()), int(other.sum())) >= FEWEST_VOXELS
        if own.any():
            delta_p = max(delta_p, abs(float(p[:, c][own].mean() - q[:, c][own].mean())))
    return Likeness(dice=dice, classes=both, delta_p=delta_p)


def windows_of(volume: Tensor, roi: Size, count: int) -> Tensor:
    """The `count` windows of a prepared volume (channels, i, j, k) with the most in them (largest variance)."""
    whole = window.padded(volume, roi)
    places = [
        tuple(slice(a, a + w) for a, w in zip((i, j, k), roi, strict=True))
        for i in window.starts(whole.shape[1], roi[0], 0.5)
        for j in window.starts(whole.shape[2], roi[1], 0.5)
        for k in window.starts(whole.shape[3], roi[2], 0.5)
    ]
    cut = sorted((whole[(slice(None), *at)] for at in places), key=lambda w: -float(w.var()))
    return torch.stack(cut[:count])
