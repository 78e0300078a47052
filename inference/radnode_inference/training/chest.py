"""Training of the small VoCo (SwinUNETR version 2, feature size 12) on generated chest CTs."""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from radnode_inference.generator import chest
from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.dicom_writer import write_chest
from radnode_inference.load import load
from radnode_inference.match import best_ct
from radnode_inference.models.chest_ct.voco import from_state_dict, swin_unetr
from radnode_inference.models.chest_ct.voco_enter import prepare as arrived
from radnode_inference.models.chest_ct.voco_settings import VocoSettings
from radnode_inference.preprocess import Box, body_bounds, ras_box, sample, window
from radnode_inference.study import Study
from radnode_inference.training import chest_card as card
from radnode_inference.training.guards import guarded
from radnode_inference.training.report import Log
from radnode_inference.weights import digest

INPUT: dict[str, Any] = {
    "spacing_mm": [2.5, 2.5, 2.5], "window_hu": [-1000, 400], "body_hu": -500, "roi": [64, 64, 32], "overlap": 0.25,
}  # fmt: skip
BACKGROUND, LUNG, NODULE = range(3)
FEATURE_SIZE = 12
WINDOW = 4
"""Side of the attention window: the published 7 costs five times as much and gains nothing at this size."""
PATCH = (64, 64, 32)
BATCH = 2
STEPS = 600
TRAINING, TUNING, HELD_OUT = range(2000, 2100), range(8200, 8212), range(9300, 9324)
WEIGHTS = ((0.5, 0.6, 4.0), (0.7, 1.0, 1.5))
"""Of the classes in the cross-entropy, per stage: first nodules must be found at all, then vessels must not be called so."""
LAYOUTS = (Layout.SIEMENS, Layout.GE, Layout.PHILIPS)
"""Of the held-out studies' files, in turns: nobody trained on files, and each maker has its own."""
HIGHEST_RATE = (2e-3, 1e-3)
SECOND_STAGE = 0.4
"""Steps of the second stage as a part of those of the first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One prepared chest: the network's input 0..1 and its labels, [i, j, k] (right, front, head), cropped to the body."""

    image: Tensor
    labels: Tensor


def prepare(seed: int) -> Case:
    """The chest of a seed through the same preprocessing as at reading; two of three training chests have nodules."""
    p = chest.phantom(seed, nodules=seed % 3 != 0 if seed in TRAINING else None)
    low, high = INPUT["window_hu"]
    shape = (p.hu.shape[0], p.hu.shape[1], p.hu.shape[2])
    whole = ras_box(shape, p.grid.affine, tuple(INPUT["spacing_mm"]))
    image = window(sample(p.hu, p.grid.affine, whole, outside=low), low, high)
    first, last = body_bounds(image, (INPUT["body_hu"] - low) / (high - low))
    at = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    return Case(image=image[at].contiguous(), labels=labels_on(whole.crop(first, last), p))


def labels_on(box: Box, p: chest.ChestPhantom) -> Tensor:
    """The truth at the places of `box`."""
    lung = sample((p.lung_right | p.lung_left).astype(np.float32), p.grid.affine, box)
    nodule = sample(p.nodule_mask.astype(np.float32), p.grid.affine, box)
    return torch.where(nodule > 0.4, NODULE, torch.where(lung > 0.5, LUNG, BACKGROUND))


def read_back(seed: int, layout: Layout) -> Case:
    """The chest of a seed written as DICOM in a maker's layout, read and prepared as a study that arrives."""
    p = chest.phantom(seed)
    order = Order(patient_name="HELD^OUT", patient_id=str(seed), identity=str(seed), body_part="CHEST", layout=layout)
    settings = VocoSettings(
        spacing_mm=tuple(INPUT["spacing_mm"]), window_hu=tuple(INPUT["window_hu"]), body_hu=INPUT["body_hu"],
        roi=tuple(INPUT["roi"]), overlap=INPUT["overlap"], classes=(),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write_chest(p, Path(folder), order)
        series = best_ct(Study.from_folder(Path(folder))).series
        image, box = arrived(load(series.headers, series.series_uid), settings, torch.device("cpu"))
    return Case(image=image, labels=labels_on(box, p))


def stored(seed: int, folder: Path) -> Case:
    """The prepared chest, made once and kept in `folder`."""
    return kept(folder / f"chest-{seed}.safetensors", lambda: prepare(seed))


def held_out(seed: int, folder: Path) -> Case:
    """The chest of a seed as `read_back` from files, kept likewise; the makers take turns."""
    layout = LAYOUTS[seed % len(LAYOUTS)]
    return kept(folder / f"chest-{seed}-{layout.value}.safetensors", lambda: read_back(seed, layout))


def kept(path: Path, make: Callable[[], Case]) -> Case:
    """The case that a file holds; `make` makes it when there is none yet."""
    if not path.exists():
        case = make()
        partial = path.with_suffix(f".{os.getpid()}")
        save_file(
            {"image": case.image.half().contiguous(), "labels": case.labels.to(torch.uint8).contiguous()}, partial
        )
        partial.rename(path)
    found = load_file(path)
    return Case(image=found["image"].float(), labels=found["labels"].long())


def patch(case: Case, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A window around a nodule (two times of three, where there is one), around lung, or anywhere; flipped at random."""
    chance = rng.random()
    wanted = NODULE if chance < 0.67 else LUNG if chance < 0.9 else None
    places = torch.nonzero(case.labels == wanted) if wanted is not None else torch.empty(0, 3)
    if not len(places):
        places = torch.nonzero(case.labels == LUNG)
    centre = places[int(rng.integers(len(places)))].numpy() + rng.integers(-12, 13, 3)
    image, labels = case.image, case.labels
    missing = [max(side - n, 0) for side, n in zip(PATCH, image.shape, strict=True)]
    if any(missing):
        sides = [s for m in reversed(missing) for s in (m // 2, m - m // 2)]
        image, labels = F.pad(image, sides), F.pad(labels, sides)
    start = [int(np.clip(c - p // 2, 0, n - p)) for c, p, n in zip(centre, PATCH, image.shape, strict=True)]
    at = tuple(slice(s, s + p) for s, p in zip(start, PATCH, strict=True))
    flips = [a for a in range(3) if rng.random() < 0.5]
    noise = torch.from_numpy(rng.standard_normal(PATCH, dtype=np.float32)) * float(rng.uniform(0, 0.02))
    cut = (image[at].flip(flips) * float(rng.uniform(0.95, 1.05)) + noise).clamp(0, 1)
    return cut[None], labels[at].flip(flips)


def loss_of(logits: Tensor, labels: Tensor, weight: tuple[float, ...]) -> Tensor:
    """Cross-entropy, weighted, and the soft Dice of lung and nodule."""
    entropy = F.cross_entropy(logits, labels, weight=torch.tensor(weight))
    p = logits.softmax(dim=1)
    total = entropy
    for channel in (LUNG, NODULE):
        truth = (labels == channel).float()
        overlap = 2 * (p[:, channel] * truth).sum() + 1
        total = total + 0.5 * (1 - overlap / (p[:, channel].sum() + truth.sum() + 1))
    return total


def train(folder: Path, steps: int, log: Log, *, first: nn.Module | None = None) -> nn.Module:
    """The network after `steps` batches; every number drawn comes from fixed seeds. first: of the first stage, if this is the second."""
    stage = 0 if first is None else 1
    torch.manual_seed(12 + stage)
    rng = np.random.default_rng(12 + stage)
    net = swin_unetr(1, 3, FEATURE_SIZE, WINDOW) if first is None else first
    highest = HIGHEST_RATE[stage]
    optimiser = torch.optim.AdamW(net.parameters(), lr=highest, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, highest, total_steps=steps, pct_start=0.1)
    net.train()
    running, started = 0.0, time.monotonic()
    for step in range(steps):
        patches = [patch(stored(int(rng.choice(TRAINING)), folder), rng) for _ in range(BATCH)]
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(torch.stack([image for image, _ in patches]))
        loss = loss_of(logits.float(), torch.stack([labels for _, labels in patches]), WEIGHTS[stage])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        running = 0.97 * running + 0.03 * loss.item() if step else loss.item()
        if step % 25 == 0:
            log(
                f"chest stage {stage + 1}, step {step} of {steps}, loss {running:.3f}, {time.monotonic() - started:.0f} s"
            )
    return net.eval()


def make(out: Path, phantoms: Path, steps: int, log: Log) -> None:
    """Train, measure, and write `demo.safetensors` and `demo.json` to `out`."""
    for stage in range(2):
        first = weights_in(out) if stage else None
        net = train(phantoms, second_steps(steps) if stage else steps, log, first=first)
        state = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in net.state_dict().items()}
        save_file(state, out / "demo.safetensors")
    measure(out, phantoms, log, steps)


def second_steps(steps: int) -> int:
    return max(1, round(steps * SECOND_STAGE))


def weights_in(folder: Path) -> nn.Module:
    """The network as stored (half precision)."""
    state = load_file(folder / "demo.safetensors")
    return from_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})


def measure(out: Path, phantoms: Path, log: Log, steps: int) -> None:
    """Measure the weights as stored (half precision) and write their card."""
    net = weights_in(out)
    log("measuring on held-out phantoms")
    tuning = (stored(s, phantoms) for s in TUNING)
    written = card.card(
        card.measured(net, tuning, (held_out(s, phantoms) for s in HELD_OUT), INPUT),
        sha256=digest(out / "demo.safetensors"),
        settings=INPUT,
        trained=f"{len(TRAINING)} generated chests (seeds {TRAINING.start} to {TRAINING.stop - 1}), {steps} and then {second_steps(steps)} steps of {BATCH} windows, "
        f"bfloat16 autocast; "
        "stored in half precision.",
        held_out=f"{len(HELD_OUT)} generated chests of other seeds ({HELD_OUT.start} to {HELD_OUT.stop - 1}), written as DICOM in the layouts "
        f"{', '.join(LAYOUTS)}, and read and prepared as studies that arrive; the network was trained on arrays. Calibration and threshold "
        f"chosen on {len(TUNING)} further ones.",
    )
    card.write(out, "demo.json", guarded(written, "chest", phantoms))
    log(f"measured: {written['metrics']}")
