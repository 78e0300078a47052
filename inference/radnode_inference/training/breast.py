"""Training of the small MOME on generated breast examinations."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from radnode_inference.generator import breast
from radnode_inference.models.breast_mri.mome import DCE, DWI, T2, Mome, Shape, from_state_dict
from radnode_inference.models.breast_mri.mome_input import InputSettings, Placed, box, breast_corner, inputs
from radnode_inference.preprocess import sample
from radnode_inference.training import breast_card as card
from radnode_inference.training.report import Log
from radnode_inference.weights import digest

INPUT: dict[str, Any] = {
    "dce": [112, 40, 48], "dwi": [112, 40, 48], "t2": [112, 40, 48], "spacing_mm": 3.0, "phases": 6,
    "times_s": [70, 150, 230, 310, 390, 450], "clip": [-0.5, 3.0],
}  # fmt: skip
TOKENS = (7, 3, 3)
SHAPE = Shape(
    width=128, heads=4, feedforward=256, adapter=32, stem=(8, 32), channels=(6, 1, 1),
    positions=(7 * 3 * 3 + 2, 7 * 3 * 3, 7 * 3 * 3), soft=(None, None, (8, 1), (8, 1)), classes=2,
)  # fmt: skip
GRIDS = ((40, 96, 96), (48, 128, 128), (36, 104, 104), (40, 112, 112), (60, 160, 160), (44, 96, 96))
DROPPED = (
    {"dce": 0.2, "dwi": 0.3, "t2": 0.3},
    {"dce": 0.1, "dwi": 0.5, "t2": 0.6},
    {"dce": 0.1, "dwi": 0.6, "t2": 0.7},
)
"""How often a batch goes without a modality, per stage."""
HIGHEST_RATE = (1e-3, 7e-4, 7e-4)
STAGES = (1.0, 0.5, 0.3)
"""Steps of each stage as a part of those asked for."""
SHIFT = (8, 4, 8)
"""Voxels by which the third stage moves a case at most, so that the place of the tokens' borders is not learned."""
BATCH = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One prepared examination: network inputs, whether it has a lesion, and the tokens that touch one."""

    dce: Tensor
    dwi: Tensor
    t2: Tensor
    label: int
    tokens: Tensor


def prepare(seed: int, shape: tuple[int, int, int]) -> Case:
    """The examination of a seed through the same preprocessing as at reading."""
    p = breast.phantom(seed, shape=shape)
    settings = InputSettings.from_card(INPUT)
    pre = Placed(voxels=p.dce[0], affine=p.grid.affine)
    high = p.dwi[max(p.dwi)]
    made = inputs(
        settings,
        pre=pre,
        posts=list(p.dce[1:]),
        times_s=p.times_s[1:].tolist(),
        dwi=Placed(voxels=high.voxels, affine=high.grid.affine),
        t2=Placed(voxels=p.t2.voxels, affine=p.t2.grid.affine),
    )
    assert made.dce is not None and made.dwi is not None and made.t2 is not None
    where = box(breast_corner(pre, settings.dce, settings.spacing_mm or 1.0), settings.dce, settings.spacing_mm or 1.0)
    lesion = sample(p.lesion_mask.astype(np.float32), p.grid.affine, where)
    touched = F.max_pool3d(lesion[None, None], 16, ceil_mode=True)[0, 0] > 0.5
    return Case(dce=made.dce, dwi=made.dwi, t2=made.t2, label=int(bool(p.lesions)), tokens=touched.flatten())


def stored(seed: int, folder: Path, shape: tuple[int, int, int] | None = None) -> Case:
    """The prepared examination, made once and kept in `folder` as half-precision numbers."""
    shape = shape or GRIDS[seed % len(GRIDS)]
    path = folder / f"breast-{seed}-{shape[0]}-{shape[1]}.safetensors"
    if not path.exists():
        case = prepare(seed, shape)
        made = {"dce": case.dce.half(), "dwi": case.dwi.half(), "t2": case.t2.half(), "tokens": case.tokens.float()}
        partial = path.with_suffix(f".{os.getpid()}")
        save_file({**made, "label": torch.tensor([case.label])}, partial)
        partial.rename(path)
    found = load_file(path)
    return Case(
        dce=found["dce"].float(), dwi=found["dwi"].float(), t2=found["t2"].float(),
        label=int(found["label"][0]), tokens=found["tokens"],
    )  # fmt: skip


class Trainee(nn.Module):
    """The network with helper heads that are thrown away: each token says whether it touches a lesion."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Mome(SHAPE)
        self.helpers = nn.ModuleDict({way: nn.Linear(SHAPE.width, 1) for way in (DCE, DWI, T2)})

    def forward(self, volumes: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (batch, classes), and per way the tokens' own logits (batch, tokens)."""
        tokens = self.net.beit3.embedded(volumes)
        for layer in self.net.beit3.encoder.layers:
            tokens = layer(tokens)
        logits = self.net.head(self.net.fc_norm(tokens[DCE][:, 0]))
        own = {way: tokens[way][:, 1:] if way == DCE else tokens[way] for way in volumes}
        return logits, {way: self.helpers[way](x)[..., 0] for way, x in own.items()}


def initialise(net: nn.Module) -> None:
    """Small normal weights, zero biases, unit norms."""
    for name, p in net.named_parameters():
        if p.ndim == 5:
            nn.init.kaiming_normal_(p)
        elif p.ndim > 1:
            nn.init.normal_(p, std=0.05 if "phi" not in name else 0.3)
        elif name.endswith("bias"):
            nn.init.zeros_(p)


def batch_of(
    cases: list[Case], rng: np.random.Generator, dropped: dict[str, float]
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Volumes by way with flips and left-out modalities, labels, and token labels (batch, tokens)."""
    kept = {name: rng.random() >= p for name, p in dropped.items()}
    if not any(kept.values()):
        kept[str(rng.choice(list(kept)))] = True
    volumes: dict[str, list[Tensor]] = {way: [] for way in (DCE, DWI, T2)}
    tokens = []
    for case in cases:
        flips = [axis for axis in (0, 2) if rng.random() < 0.5]
        for way, name in ((DCE, "dce"), (DWI, "dwi"), (T2, "t2")):
            volumes[way].append(getattr(case, name).flip([a + 1 for a in flips]) if flips else getattr(case, name))
        tokens.append(case.tokens.view(TOKENS).flip(flips).flatten() if flips else case.tokens)
    given = {w: torch.stack(volumes[w]) for w, name in ((DCE, "dce"), (DWI, "dwi"), (T2, "t2")) if kept[name]}
    return given, torch.tensor([c.label for c in cases]), torch.stack(tokens)


def loss_of(logits: Tensor, own: dict[str, Tensor], labels: Tensor, tokens: Tensor) -> Tensor:
    helpers = [F.binary_cross_entropy_with_logits(x, tokens, pos_weight=torch.tensor(8.0)) for x in own.values()]
    return F.cross_entropy(logits, labels) + torch.stack(helpers).mean()


def train(folder: Path, steps: int, log: Log, *, stage: int = 0, before: Mome | None = None) -> Mome:
    """The network after `steps` batches; every number drawn comes from fixed seeds.

    before: the network of the stage before; the cases that it finds hard are drawn more often.
    """
    torch.manual_seed(11 + stage)
    rng = np.random.default_rng(11 + stage)
    trainee = Trainee()
    initialise(trainee)
    seeds, share = np.array(TRAINING), np.ones(len(TRAINING))
    if before is not None:
        trainee.net.load_state_dict(before.state_dict())
        share = hardness(before, folder)
    highest = HIGHEST_RATE[stage]
    optimiser = torch.optim.AdamW(trainee.parameters(), lr=highest, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, highest, total_steps=steps, pct_start=0.15)
    trainee.train()
    running, started = 0.0, time.monotonic()
    for step in range(steps):
        cases = [stored(int(s), folder) for s in rng.choice(seeds, BATCH, replace=False, p=share / share.sum())]
        volumes, labels, tokens = batch_of(cases, rng, DROPPED[stage])
        if stage == 2:
            shift = [int(rng.integers(-s, s + 1)) for s in SHIFT]
            volumes = {way: torch.roll(x, shift, dims=(2, 3, 4)) for way, x in volumes.items()}
        logits, own = trainee(volumes)
        loss = F.cross_entropy(logits, labels) if stage == 2 else loss_of(logits, own, labels, tokens)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        running = 0.97 * running + 0.03 * loss.item() if step else loss.item()
        if step % 25 == 0:
            log(
                f"breast stage {stage + 1}, step {step} of {steps}, loss {running:.3f}, {time.monotonic() - started:.0f} s"
            )
    return trainee.net.eval()


def hardness(net: Mome, folder: Path) -> NDArray[np.float64]:
    """How often each training case is drawn: 0.3 and its loss with DCE alone, at most 2."""
    losses = []
    with torch.inference_mode():
        for seed in TRAINING:
            case = stored(seed, folder)
            losses.append(float(F.cross_entropy(net(case.dce[None], None, None), torch.tensor([case.label]))))
    return 0.3 + np.minimum(losses, 2.0)


STEPS = 1500
TRAINING, TUNING, HELD_OUT = range(1000, 1500), range(8000, 8060), range(9000, 9100)
FINE_GRID = (60, 160, 160)
"""The held-out phantoms have the grid of the generated studies, whatever the training grids were."""


def make(out: Path, phantoms: Path, steps: int, log: Log) -> None:
    """Train, measure, and write `demo.safetensors` and `demo.json` to `out`."""
    for stage, part in enumerate(STAGES):
        net = train(phantoms, round(steps * part), log, stage=stage, before=weights_in(out) if stage else None)
        save_file({k: v.half().contiguous() for k, v in net.state_dict().items()}, out / "demo.safetensors")
    measure(out, phantoms, log, steps)


def weights_in(folder: Path) -> Mome:
    """The network as stored (half precision)."""
    state = {k: v.float() for k, v in load_file(folder / "demo.safetensors").items()}
    return from_state_dict(state, heads=SHAPE.heads)


def measure(out: Path, phantoms: Path, log: Log, steps: int) -> None:
    """Measure the weights as stored (half precision) and write their card."""
    net = weights_in(out)
    log("measuring on held-out phantoms")
    tuning = [stored(s, phantoms) for s in TUNING]
    held_out = [stored(s, phantoms, FINE_GRID) for s in HELD_OUT]
    found = card.measured(net, tuning, held_out)
    written = card.card(
        found,
        sha256=digest(out / "demo.safetensors"),
        settings=INPUT,
        heads=SHAPE.heads,
        trained=f"{len(TRAINING)} generated breast examinations (seeds {TRAINING.start} to {TRAINING.stop - 1}), {', '.join(str(round(steps * part)) for part in STAGES)} steps of {BATCH} in three stages, "
        "with modalities left out at random; stored in half precision.",
        held_out=f"{len(HELD_OUT)} generated examinations of other seeds ({HELD_OUT.start} to {HELD_OUT.stop - 1}) at the grid of the "
        "generated studies; temperature and threshold chosen on 60 further ones.",
    )
    card.write(out, "demo.json", written)
    log(f"threshold {found['threshold']}, AUROC {found['metrics']['dce+dwi+t2']['auroc']}")
