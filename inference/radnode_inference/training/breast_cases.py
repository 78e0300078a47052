"""Generated breast examinations as the small MOME is trained on them: prepared once, then turned, moved and thinned out."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from radnode_inference.generator import breast
from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.dicom_writer import write_breast
from radnode_inference.models.breast_mri.mome import DCE, DWI, T2
from radnode_inference.models.breast_mri.mome_examination import examination
from radnode_inference.models.breast_mri.mome_input import InputSettings, Placed, box, breast_corner, inputs
from radnode_inference.preprocess import sample
from radnode_inference.study import Study

INPUT: dict[str, Any] = {
    "dce": [112, 40, 48], "dwi": [112, 40, 48], "t2": [112, 40, 48], "spacing_mm": 3.0, "phases": 6,
    "times_s": [70, 150, 230, 310, 390, 450], "clip": [-0.5, 3.0],
}  # fmt: skip
GRIDS = ((40, 96, 96), (48, 128, 128), (36, 104, 104), (40, 112, 112), (60, 160, 160), (44, 96, 96))
FILES_GRID = (40, 112, 112)
LAYOUTS = (Layout.SIEMENS, Layout.GE, Layout.PHILIPS)
"""How the held-out studies are written: training never saw a file."""
NAMES = {DCE: "dce", DWI: "dwi", T2: "t2"}
STRIDE = 16
"""Voxels per token and axis."""
SHIFT = (8, 4, 8)
"""Voxels by which a case is moved at most, so that the place of the tokens' borders is not learned."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One prepared examination: network inputs (channels, x, y, z), whether it has a lesion, and where (x, y, z)."""

    dce: Tensor
    dwi: Tensor
    t2: Tensor
    label: int
    lesion: Tensor


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
    spacing = settings.spacing_mm or 1.0
    where = box(breast_corner(pre, settings.dce, spacing), settings.dce, spacing)
    lesion = sample(p.lesion_mask.astype(np.float32), p.grid.affine, where) > 0.5
    return Case(dce=made.dce, dwi=made.dwi, t2=made.t2, label=int(bool(p.lesions)), lesion=lesion)


def read_back(seed: int, layout: Layout) -> Case:
    """The examination of a seed written as DICOM in a maker's layout, read and prepared as a study that arrives."""
    p = breast.phantom(seed, shape=FILES_GRID)
    with tempfile.TemporaryDirectory() as folder:
        order = Order(
            patient_name="HELD^OUT", patient_id=str(seed), identity=str(seed), patient_position="HFP", layout=layout
        )
        write_breast(p, Path(folder), order)
        found = examination(Study.from_folder(Path(folder)), lambda part, words: None)
    settings = InputSettings.from_card(INPUT)
    made = inputs(
        settings,
        pre=found.pre_placed,
        posts=[v.voxels for v in found.posts],
        times_s=found.times_s,
        dwi=found.dwi,
        t2=found.t2,
    )
    assert made.dce is not None and made.dwi is not None and made.t2 is not None
    lesion = sample(p.lesion_mask.astype(np.float32), p.grid.affine, made.boxes["dce"]) > 0.5
    return Case(dce=made.dce, dwi=made.dwi, t2=made.t2, label=int(bool(p.lesions)), lesion=lesion)


def stored(seed: int, folder: Path) -> Case:
    """The prepared examination, made once and kept in `folder` as half-precision numbers."""
    shape = GRIDS[seed % len(GRIDS)]
    return kept(folder / f"breast-{seed}-{shape[0]}-{shape[1]}.safetensors", lambda: prepare(seed, shape))


def held_out(seed: int, folder: Path) -> Case:
    """The examination of a seed as `read_back` from files, kept likewise; the makers take turns."""
    layout = LAYOUTS[seed % len(LAYOUTS)]
    return kept(folder / f"breast-{seed}-{layout.value}.safetensors", lambda: read_back(seed, layout))


def kept(path: Path, make: Callable[[], Case]) -> Case:
    """The case that a file holds; `make` makes it when there is none yet."""
    if not path.exists():
        case = make()
        made = {"dce": case.dce.half(), "dwi": case.dwi.half(), "t2": case.t2.half(), "lesion": case.lesion}
        partial = path.with_suffix(f".{os.getpid()}")
        save_file({**made, "label": torch.tensor([case.label])}, partial)
        partial.rename(path)
    found = load_file(path)
    return Case(
        dce=found["dce"].float(), dwi=found["dwi"].float(), t2=found["t2"].float(),
        label=int(found["label"][0]), lesion=found["lesion"],
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """volumes: way -> (batch, channels, x, y, z); labels: (batch,); tokens: (batch, tokens), 1 where one touches a lesion."""

    volumes: dict[str, Tensor]
    labels: Tensor
    tokens: Tensor


def batch_of(cases: list[Case], rng: np.random.Generator, coalitions: dict[tuple[str, ...], float]) -> Batch:
    """The cases mirrored and moved at random, all with the same modalities, drawn from `coalitions` (their shares)."""
    given = list(coalitions)[int(rng.choice(len(coalitions), p=list(coalitions.values())))]
    volumes: dict[str, list[Tensor]] = {way: [] for way, name in NAMES.items() if name in given}
    tokens = []
    for case in cases:
        flips = [axis for axis in (0, 2) if rng.random() < 0.5]
        shift = [int(rng.integers(-s, s + 1)) for s in SHIFT]
        for way, made in volumes.items():
            made.append(moved(getattr(case, NAMES[way]).flip([a + 1 for a in flips]), shift))
        tokens.append(tokens_of(moved(case.lesion.flip(flips)[None], shift)[0]))
    labels = torch.tensor([c.label for c in cases])
    return Batch(volumes={w: torch.stack(v) for w, v in volumes.items()}, labels=labels, tokens=torch.stack(tokens))


def moved(volume: Tensor, shift: list[int]) -> Tensor:
    """(channels, x, y, z) moved by whole voxels; zeros come in."""
    sides = volume.shape[1:]
    pairs = list(zip(shift, sides, strict=True))
    to = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in pairs)
    of = tuple(slice(max(-s, 0), n + min(-s, 0)) for s, n in pairs)
    out = torch.zeros_like(volume)
    out[:, *to] = volume[:, *of]
    return out


def tokens_of(lesion: Tensor) -> Tensor:
    """Which tokens of a grid touch a lesion, (tokens,) of 0 and 1."""
    touched = F.max_pool3d(lesion[None, None].float(), STRIDE, ceil_mode=True)
    return touched.flatten()
