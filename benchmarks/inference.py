"""Seconds and peak memory of each network model and engine, against MONAI's own way in the same run.

    python benchmarks/inference.py [--quick] [--only NAME ...]

Every figure is taken in a process of its own, so that peak memory is that figure's; one that takes longer than `--patience` is given up.
`cpu_s` is processor time, which other work on the machine disturbs little. `--quick`: the same networks on smaller inputs. Weights of published size are random: their time is
that of trained ones, their agreement in bfloat16 is not (`radnode engines check` measures that for the weights of a site). The real CT is
read from RADNODE_SHARED or the sibling folder `shared`; without it a generated one of the same size stands in, and the line says so.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from radnode_inference import device, registry, window
from radnode_inference.engines import openvino_cpu
from radnode_inference.engines.check import agreement, windows_of
from radnode_inference.engines.choose import called
from radnode_inference.generator.studies import demo_studies
from radnode_inference.load import load
from radnode_inference.models.breast_mri import mome
from radnode_inference.models.chest_ct import voco
from radnode_inference.models.chest_ct.voco_enter import prepare
from radnode_inference.models.chest_ct.voco_model import VocoModel, create
from radnode_inference.models.chest_ct.voco_settings import VocoSettings
from radnode_inference.study import Study
from radnode_inference.volume import SourceFrame, Volume

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import mome_plain

CPU = torch.device("cpu")
NOWHERE = Path("there-is-no-such-folder")
ENGINES = ("torch-fp32", "torch-bf16", "openvino-fp32", "openvino-bf16")
VOCO_B = VocoSettings(
    spacing_mm=(1.5, 1.5, 1.5), window_hu=(-175.0, 250.0), body_hu=-175.0, roi=(96, 96, 96), overlap=0.5, classes=()
)
"""VoCo's own defaults, at half the overlap that it is trained with: 0.75 takes eight times as long."""
CLASSES = 105
MONAI, EXACT, PLAIN = "monai", "torch-fp32", "plain"
Figure = dict[str, float | str]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """window: side of VoCo's window. mome: what MOME's input sides are divided by. blending: the volume of many classes."""

    window: int
    mome: int
    blending: tuple[int, int, int]


WHOLE = Scale(window=96, mome=1, blending=(267, 233, 184))
QUICK = Scale(window=64, mome=2, blending=(160, 140, 112))


@contextmanager
def timed(figure: Figure, name: str) -> Iterator[None]:
    """Wall seconds as `name`, processor seconds as `cpu_s`, the most memory until then as `peak_MiB`."""
    began, processor = time.perf_counter(), time.process_time()
    yield
    figure[name], figure["cpu_s"] = time.perf_counter() - began, time.process_time() - processor
    figure["peak_MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def real_ct() -> tuple[Volume, str]:
    """The chest CT of the shared data, else noise on a grid of the same size."""
    root = Path(os.environ.get("RADNODE_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    folder = root / "data" / "ct-chest-lidc"
    if folder.is_dir():
        series = Study.from_folder(folder).series[0]
        return load(series.headers, series.series_uid), "real CT"
    noise = np.random.default_rng(0).normal(0, 300, (275, 512, 512)).astype(np.float32)
    affine = np.array([[0, 0, 0.7, 0], [0, 0.7, 0, 0], [1.25, 0, 0, 0], [0, 0, 0, 1.0]])
    source = SourceFrame(sop_class_uid="", sop_uid="")
    return Volume(
        voxels=noise, affine=affine, frame_of_reference_uid="", series_uid="", sources=(source,) * 275
    ), "noise"


def demo_volume() -> Volume:
    spec = next(s for s in demo_studies() if s.modality == "CT" and s.purpose == "lesion")
    with tempfile.TemporaryDirectory() as folder:
        spec.write(Path(folder))
        series = Study.from_folder(Path(folder)).series[0]
        return load(series.headers, series.series_uid)


def monai_prepared(volume: Volume, settings: VocoSettings) -> Tensor:
    """The network's input as VoCo's published pipeline makes it (1, i, j, k): MONAI's transforms one after the other."""
    from monai.data import MetaTensor
    from monai.transforms import Compose, CropForeground, Orientation, ScaleIntensityRange, Spacing

    low, high = settings.window_hu
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine[:, [2, 1, 0, 3]]
    image = MetaTensor(np.ascontiguousarray(volume.voxels.transpose(2, 1, 0))[None], affine=torch.as_tensor(ras))
    steps = Compose([
        Orientation("RAS", labels=None), Spacing(settings.spacing_mm, mode="bilinear"),
        ScaleIntensityRange(low, high, 0, 1, clip=True), CropForeground(lambda x: x > max((settings.body_hu - low) / (high - low), 0)),
    ])  # fmt: skip
    out: Tensor = steps(image).as_tensor()
    return out


def engine_for(name: str, network: nn.Module, one: Tensor, folder: Path) -> window.Predict:
    if name.startswith("openvino"):
        openvino_cpu.convert(network, one, folder)
    return called(name, network, CPU, folder)


def demo_study(engine: str, scale: Scale) -> Figure:
    """The demonstration weights on a generated study, images to labels: our way by one engine, or MONAI's."""
    figure: Figure = {}
    volume = demo_volume()
    model = create("cpu", NOWHERE)
    assert isinstance(model, VocoModel)
    settings = model.settings
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(), device.threads():
        prepared, _ = prepare(volume, settings, CPU)
        predict = engine_for(engine, model.network, windows_of(prepared[None], settings.roi, 1), Path(folder))
        with timed(figure, "study_s"):
            prepared, _ = prepare(volume, settings, CPU)
            ours = window.slide(
                prepared[None],
                settings.roi,
                predict,
                overlap=settings.overlap,
                done=lambda _: None,
                finish=window.labels,
            )
        single = ours if engine == "torch-fp32" else window.slide(
            prepared[None], settings.roi, model.network, overlap=settings.overlap, done=lambda _: None, finish=window.labels
        )  # fmt: skip
    return figure | {"lowest_dice_to_torch_fp32": lowest_dice(single, ours)}


def demo_study_monai(scale: Scale) -> Figure:
    import monai.transforms  # noqa: F401  # takes a second that belongs to no study
    from monai.inferers import sliding_window_inference

    figure: Figure = {}
    volume = demo_volume()
    model = create("cpu", NOWHERE)
    settings = model.settings
    with torch.inference_mode(), device.threads(), timed(figure, "study_s"):
        prepared = monai_prepared(volume, settings)
        out = sliding_window_inference(
            prepared[None], settings.roi, 2, model.network, overlap=settings.overlap, mode="gaussian"
        )
        out.argmax(dim=1)
    return figure


def lowest_dice(reference: Tensor, found: Tensor) -> float:
    classes = [c for c in reference.unique() if (reference == c).sum() >= 100]
    return min(
        float(2 * ((reference == c) & (found == c)).sum() / ((reference == c).sum() + (found == c).sum()))
        for c in classes
    )


def voco_b(engine: str, scale: Scale) -> Figure:
    """VoCo-B of random weights: one window by one engine, after one that warms it, beside MONAI's own SwinUNETR."""
    from monai.networks.nets import SwinUNETR

    figure: Figure = {}
    torch.manual_seed(0)
    theirs = SwinUNETR(in_channels=1, out_channels=21, feature_size=48, use_v2=True).eval()
    x = torch.rand(1, 1, scale.window, scale.window, scale.window)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False), torch.no_grad(), device.threads():
        network = theirs if engine == MONAI else voco.from_state_dict(theirs.state_dict())
        predict = network if engine == MONAI else engine_for(engine, network, x, Path(folder))
        predict(x)
        with timed(figure, "window_s"):
            out = predict(x)
        if engine == MONAI:
            return figure
        reference = theirs(x)
    alike, delta = agreement(reference, out), float((reference - out).abs().max())
    return figure | {"largest_delta_logit_to_monai": delta, "lowest_dice": alike.dice or 0.0, "delta_p": alike.delta_p}


def preparing(whose: str, scale: Scale) -> Figure:
    """The real CT to the network's input, and how many windows it then has."""
    import monai.transforms  # noqa: F401  # takes a second that belongs to no study

    figure: Figure = {}
    volume, what = real_ct()
    with torch.inference_mode(), device.threads(), timed(figure, "prepare_s"):
        if whose == "monai":
            shape = tuple(monai_prepared(volume, VOCO_B).shape[1:])
        else:
            shape = tuple(prepare(volume, VOCO_B, CPU)[0].shape)
    padded = [max(n, w) for n, w in zip(shape, VOCO_B.roi, strict=True)]
    counts = [len(window.starts(n, w, VOCO_B.overlap)) for n, w in zip(padded, VOCO_B.roi, strict=True)]
    return figure | {"input": f"{what} {'×'.join(map(str, shape))}", "windows": float(np.prod(counts))}


def stitching(whose: str, scale: Scale) -> Figure:
    """105 classes over a chest with a network that costs nothing, to labels: what blending itself takes."""
    from monai.inferers import sliding_window_inference

    figure: Figure = {}
    volume = torch.rand(1, *scale.blending)
    network = nn.Conv3d(1, CLASSES, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with torch.inference_mode(), device.threads(), timed(figure, "stitch_s"):
        if whose == "monai":
            sliding_window_inference(volume[None], (96, 96, 96), 2, network, overlap=0.25, mode="gaussian").argmax(
                dim=1
            )
        else:
            window.slide(volume, (96, 96, 96), network, overlap=0.25, done=lambda _: None, finish=window.labels)
    return figure | {"more_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before}


def mome_full(engine: str, scale: Scale) -> Figure:
    """One examination through MOME of published size (random weights): by an engine, or in plain PyTorch as published."""
    figure: Figure = {}
    torch.manual_seed(0)
    shape = mome.Shape(
        width=768, heads=12, feedforward=3072, adapter=192, stem=(64, 128), channels=(6, 1, 1),
        positions=(3074, 256, 1152), soft=(None,) * 9 + ((128, 1),) * 3, classes=2,
    )  # fmt: skip
    network = mome.Mome(shape).eval()
    for p in network.parameters():
        if p.ndim > 1:  # norms keep their 1, so that the logits are of the size of trained ones
            torch.nn.init.normal_(p, std=0.02)
    sides = ((6, 384, 256, 128), (1, 256, 128, 32), (1, 384, 256, 48))
    inputs = [torch.rand(1, c, *(n // scale.mome for n in rest)) for c, *rest in sides]
    plain = partial(mome_plain.logits, network.state_dict(), dict(zip(mome.WAYS, inputs, strict=True)), shape.heads)
    half = torch.autocast("cpu", dtype=torch.bfloat16, enabled=engine == "torch-bf16")
    with torch.inference_mode(), device.threads():
        with half, timed(figure, "examination_s"):
            out = plain() if engine == PLAIN else network(*inputs)
        if engine == PLAIN:
            return figure
        reference = plain()
    return figure | {
        "largest_delta_logit_to_plain": float((reference - out).abs().max()),
        "largest_logit": float(reference.abs().max()),
    }


def training_free(name: str, scale: Scale) -> Figure:
    """A model without a network on a generated study of the demonstration set, DICOM files to findings. There is no reference of MONAI's."""
    figure: Figure = {"reference": "none"}
    card = registry.card(name, NOWHERE)
    spec = next(s for s in demo_studies() if s.modality == card.modality and s.purpose == "lesion")
    model = registry.load(card, "cpu", NOWHERE)
    with tempfile.TemporaryDirectory() as folder:
        spec.write(Path(folder))
        figure["before_MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with timed(figure, "study_s"):
            found = model.read(Study.from_folder(Path(folder)), lambda part, words: None)
    return figure | {"findings": float(len(found.items))}


FIGURES: dict[str, Callable[[Scale], Figure]] = {
    "ct-voco demonstration, monai": demo_study_monai,
    **{f"ct-voco demonstration, {e}": partial(demo_study, e) for e in ENGINES},
    **{f"VoCo-B, one window, {e}": partial(voco_b, e) for e in (MONAI, *ENGINES)},
    **{f"VoCo-B, preparing, {w}": partial(preparing, w) for w in (MONAI, "radnode")},
    **{f"{CLASSES} classes, blending, {w}": partial(stitching, w) for w in (MONAI, "radnode")},
    **{f"{name}, demonstration study": partial(training_free, name) for name in ("ct-lung", "mr-breast-kinetics")},
    **{f"MOME, {e}": partial(mome_full, e) for e in (PLAIN, EXACT, "torch-bf16")},
}


def measure(name: str, scale: Scale, patience_s: float) -> Figure:
    """The figure, taken in a fresh process."""
    asked = [sys.executable, __file__, "--one", name, *(["--quick"] if scale is QUICK else [])]
    try:
        run = subprocess.run(asked, check=False, capture_output=True, text=True, timeout=patience_s)
    except subprocess.TimeoutExpired:
        return {"failed": f"given up after {patience_s:.0f} s"}
    if run.returncode:
        return {"failed": (run.stderr.strip().splitlines() or ["?"])[-1]}
    found: Figure = json.loads(run.stdout.splitlines()[-1])
    return found


def ratios(found: dict[str, Figure]) -> Iterator[str]:
    """How many times as fast each figure is as the first of its kind (MONAI's where there is one), in processor time."""
    for name, figure in found.items():
        kind, _, engine = name.rpartition(", ")
        first = next(n for n in FIGURES if n.startswith(f"{kind}, "))
        own, reference = figure.get("cpu_s"), found.get(first, {}).get("cpu_s")
        if name != first and isinstance(own, float) and isinstance(reference, float):
            yield f"{kind}: {engine} {reference / own:.2f} times as fast as {first.rpartition(', ')[2]} (processor time)"


def whole_studies(found: dict[str, Figure]) -> Iterator[str]:
    """Seconds for the CT with VoCo-B: preparing + windows × seconds of a window (computed, not run)."""

    def of(name: str, key: str) -> Any:
        return found.get(name, {}).get(key)

    for engine in (MONAI, *ENGINES):
        side = MONAI if engine == MONAI else "radnode"
        each, prepare_s = of(f"VoCo-B, one window, {engine}", "cpu_s"), of(f"VoCo-B, preparing, {side}", "cpu_s")
        count = of(f"VoCo-B, preparing, {side}", "windows")
        if each and count and prepare_s:
            seconds = prepare_s + count * each
            yield f"VoCo-B, {of(f'VoCo-B, preparing, {side}', 'input')}, {engine}: {seconds:.0f} s of processor (computed)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[""], help="Figures whose name contains one of these words.")
    parser.add_argument("--one", choices=tuple(FIGURES), help=argparse.SUPPRESS)
    parser.add_argument(
        "--quick", action="store_true", help="Windows of 64³ and MOME's input at half the sides: minutes."
    )
    parser.add_argument("--patience", type=float, default=900, help="Seconds after which one figure is given up.")
    given = parser.parse_args()
    scale = QUICK if given.quick else WHOLE
    if given.one:
        print(json.dumps(FIGURES[given.one](scale)))
        return
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    found = {}
    for name in FIGURES:
        if any(word in name for word in given.only):
            found[name] = measure(name, scale, given.patience)
            told = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in found[name].items())
            print(f"{name}: {told}", flush=True)
    for line in (*ratios(found), *(whole_studies(found) if scale is WHOLE else ())):
        print(line)


if __name__ == "__main__":
    main()
