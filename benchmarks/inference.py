"""Seconds per study and peak memory of each network model; VoCo-B's window and MOME at full size against nothing or MONAI.

    python benchmarks/inference.py [--full]

Every figure is taken in a process of its own, so that peak memory is that figure's. `--full` adds the published sizes with
random weights (minutes on a laptop).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from radnode_inference.generator.studies import demo_studies
from radnode_inference.model import Model
from radnode_inference.models.breast_mri import mome, mome_model
from radnode_inference.models.chest_ct import voco, voco_model
from radnode_inference.study import Study

NOWHERE = Path("there-is-no-such-folder")
Figure = dict[str, float | str]


def study_figure(create: Callable[[str, Path], Model], modality: str) -> Figure:
    """One generated study with the packaged weights: loading the model, reading the study once cold and once warm."""
    spec = next(s for s in demo_studies() if s.modality == modality and s.purpose == "lesion")
    with tempfile.TemporaryDirectory() as folder:
        spec.write(Path(folder))
        began = time.perf_counter()
        model = create("cpu", NOWHERE)
        loaded = time.perf_counter() - began
        figure: Figure = {"load_s": loaded}
        for name in ("cold_s", "warm_s"):
            began = time.perf_counter()
            model.read(Study.from_folder(Path(folder)), lambda part, words: None)
            figure[name] = time.perf_counter() - began
    return figure


def voco_window() -> Figure:
    """One 96³ window through VoCo-B (random weights), ours beside MONAI's own, and how far apart they are."""
    from monai.networks.nets import SwinUNETR

    torch.manual_seed(0)
    theirs = SwinUNETR(in_channels=1, out_channels=21, feature_size=48, use_v2=True).eval()
    ours = voco.from_state_dict(theirs.state_dict())
    x = torch.rand(1, 1, 96, 96, 96)
    outputs, figure = [], {}
    with torch.inference_mode():
        for name, network in (("ours_s", ours), ("monai_s", theirs), ("ours_again_s", ours)):
            began = time.perf_counter()
            outputs.append(network(x))
            figure[name] = time.perf_counter() - began
    return {**figure, "largest_difference": float((outputs[0] - outputs[1]).abs().max())}


def mome_full() -> Figure:
    """One examination of published size through MOME (random weights)."""
    shape = mome.Shape(
        width=768, heads=12, feedforward=3072, adapter=192, stem=(64, 128), channels=(6, 1, 1),
        positions=(3074, 256, 1152), soft=(None,) * 9 + ((128, 1),) * 3, classes=2,
    )  # fmt: skip
    network = mome.Mome(shape).eval()
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.02)
    inputs = torch.rand(1, 6, 384, 256, 128), torch.rand(1, 1, 256, 128, 32), torch.rand(1, 1, 384, 256, 48)
    with torch.inference_mode():
        began = time.perf_counter()
        network(*inputs)
        return {"forward_s": time.perf_counter() - began}


FIGURES: dict[str, Callable[[], Figure]] = {
    "ct-voco demonstration": lambda: study_figure(voco_model.create, "CT"),
    "mr-breast-mome demonstration": lambda: study_figure(mome_model.create, "MR"),
    "VoCo-B, one 96³ window": voco_window,
    "MOME, published size": mome_full,
}
FULL = ("VoCo-B, one 96³ window", "MOME, published size")


def measure(name: str) -> Figure:
    """The figure, taken in a fresh process."""
    run = subprocess.run([sys.executable, __file__, "--only", name], check=True, capture_output=True, text=True)
    found: Figure = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", choices=tuple(FIGURES), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        figure = FIGURES[given.only]()
        figure["peak_MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(figure))
        return
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    for name in FIGURES:
        if name in FULL and not given.full:
            continue
        told = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in measure(name).items())
        print(f"{name}: {told}", flush=True)


if __name__ == "__main__":
    main()
