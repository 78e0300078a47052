"""Training of the small MOME on generated breast examinations: one run from fixed seeds."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from radnode_inference.models.breast_mri.mome import DCE, DWI, T2, Mome, Shape, from_state_dict
from radnode_inference.training import breast_card as card
from radnode_inference.training.breast_cases import INPUT, LAYOUTS, Batch, batch_of, held_out, stored
from radnode_inference.training.guards import guarded
from radnode_inference.training.report import Log
from radnode_inference.weights import digest

SHAPE = Shape(
    width=128, heads=4, feedforward=256, adapter=32, stem=(8, 32), channels=(6, 1, 1),
    positions=(7 * 3 * 3 + 2, 7 * 3 * 3, 7 * 3 * 3), soft=(None, None, (8, 1), (8, 1)), classes=2,
)  # fmt: skip
COALITIONS = {
    ("dce", "dwi", "t2"): 0.28, ("dce", "dwi"): 0.08, ("dce", "t2"): 0.08, ("dwi", "t2"): 0.15,
    ("dce",): 0.12, ("dwi",): 0.17, ("t2",): 0.09, (): 0.03,
}  # fmt: skip
"""How often a batch shows the network these modalities and no others; of nothing it learns how frequent lesions are."""
BATCH = 4
STEPS = 1600
TRAINING, TUNING, HELD_OUT = range(20000, 20500), range(40000, 40060), range(60000, 60060)


HIGHEST_RATE, HELPERS = 1e-3, 1.0
"""The learning rate at its peak, and the weight of the helper heads' loss."""


class Trainee(nn.Module):
    """The network with helper heads that are thrown away: each token says whether it touches a lesion."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Mome(SHAPE)
        self.helpers = nn.ModuleDict({way: nn.Linear(SHAPE.width, 1) for way in (DCE, DWI, T2)})

    def forward(self, volumes: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (batch, classes), and per way the tokens' own logits (batch, tokens)."""
        tokens = self.net.beit3({way: self.net.beit3.stem(way).features(x) for way, x in volumes.items()})
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


def loss_of(logits: Tensor, own: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Cross-entropy of the examination, and that of the tokens."""
    few = torch.tensor(8.0)
    whole = F.cross_entropy(logits.expand(len(batch.labels), -1), batch.labels)
    tokens = [F.binary_cross_entropy_with_logits(x, batch.tokens, pos_weight=few) for x in own.values()]
    return whole + HELPERS * torch.stack(tokens).mean() if tokens else whole


def train(folder: Path, steps: int, log: Log) -> tuple[Mome, list[float]]:
    """The network after `steps` batches, and the loss of each; every number drawn comes from fixed seeds."""
    torch.manual_seed(11)
    rng = np.random.default_rng(11)
    trainee = Trainee()
    initialise(trainee)
    optimiser = torch.optim.AdamW(trainee.parameters(), lr=HIGHEST_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, HIGHEST_RATE, total_steps=steps, pct_start=0.15)
    trainee.train()
    losses, started = [], time.monotonic()
    for step in range(steps):
        seeds = rng.choice(np.arange(TRAINING.start, TRAINING.stop), BATCH, replace=False)
        batch = batch_of([stored(int(s), folder) for s in seeds], rng, COALITIONS)
        logits, own = trainee(batch.volumes)
        loss = loss_of(logits, own, batch)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 0:
            mean = float(np.mean(losses[-50:]))
            log(f"breast, step {step} of {steps}, loss {mean:.3f}, {time.monotonic() - started:.0f} s")
    return trainee.net.eval(), losses


def make(out: Path, phantoms: Path, steps: int, log: Log) -> None:
    """Train, measure, and write `demo.safetensors` and `demo.json` to `out`."""
    net, _ = train(phantoms, steps, log)
    save_file({k: v.half().contiguous() for k, v in net.state_dict().items()}, out / "demo.safetensors")
    measure(out, phantoms, log, steps)


def measure(out: Path, phantoms: Path, log: Log, steps: int) -> None:
    """Measure the weights as stored (half precision) and write their card."""
    net = weights_in(out)
    log("measuring on held-out studies")
    found = card.measured(net, [stored(s, phantoms) for s in TUNING], [held_out(s, phantoms) for s in HELD_OUT])
    written = card.card(
        found,
        sha256=digest(out / "demo.safetensors"),
        settings=INPUT,
        heads=SHAPE.heads,
        trained=f"{len(TRAINING)} generated breast examinations (seeds {TRAINING.start} to {TRAINING.stop - 1}), {steps} steps of {BATCH}, "
        "with modalities left out at random; stored in half precision.",
        tuning=f"{len(TUNING)} generated studies, seeds {TUNING.start} to {TUNING.stop - 1}, with every useful choice of modalities",
        held_out=f"{len(HELD_OUT)} generated examinations of other seeds ({HELD_OUT.start} to {HELD_OUT.stop - 1}), "
        f"written as DICOM in the layouts {', '.join(LAYOUTS)}, and read and prepared as studies that arrive; the network was trained on "
        "arrays. They were looked at when the training was settled; the rule for the threshold (not the weights) was changed after that.",
    )
    card.write(out, "demo.json", guarded(written, "breast", phantoms))
    log(f"threshold {found['threshold']}, AUROC {found['metrics']['dce+dwi+t2']['auroc']}")


def weights_in(folder: Path) -> Mome:
    """The network as stored (half precision)."""
    state = {k: v.float() for k, v in load_file(folder / "demo.safetensors").items()}
    return from_state_dict(state, heads=SHAPE.heads)
