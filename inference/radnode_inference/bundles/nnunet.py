"""A trained nnU-Net v2 folder, TotalSegmentator's among them, read as data: plans.json, dataset.json, fold_N/checkpoint. No torch.

Its checkpoints are pickles, so they are opened in isolation only (`child_nnunet`).
"""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radnode_inference.bundles.card import (
    MOST_CLASSES,
    BundleError,
    Described,
    Framework,
    line,
    modality_of,
    named,
    read_json,
    refuse_names,
    slug,
)
from radnode_inference.bundles.codes import Segment, segments

PLANS, DATASET = "plans.json", "dataset.json"
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
EXTRA = "nnunet"
TURNED = {"NibabelIOWithReorient": "RAS"}
"""nnU-Net's readers that turn every image the same way round."""
TOTALSEGMENTATOR = "RAS"
"""TotalSegmentator turns its images this way before nnU-Net sees them (nibabel's closest canonical)."""
TOWARDS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
"""Letter -> (axis of LPS, sign)."""


def is_folder(folder: Path) -> bool:
    return (folder / PLANS).is_file() and (folder / DATASET).is_file()


def describe(folder: Path, *, name: str, modality: str = "", orientation: str = "") -> Described:
    """The model in `folder`. orientation: how the training images lay, as "RAS". Raises BundleError that says what the node cannot serve."""
    plans, dataset = read_json(folder / PLANS), read_json(folder / DATASET)
    if not folds(folder):
        raise BundleError(f"there is no fold_N/{CHECKPOINTS[0]} in it")
    trained_on = str(plans.get("dataset_name") or dataset.get("name") or "")
    try:
        channels, labels = dict(dataset.get("channel_names") or dataset["modality"]), dict(dataset["labels"])
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise BundleError(f"{DATASET} lacks or misstates {e}") from e
    if len(channels) != 1:
        raise BundleError(f"it reads {len(channels)} images at once; the node gives a model one series")
    return Described(
        name=named(name),
        version=line(dataset.get("release") or "unversioned", 32),
        task=line(dataset.get("description") or trained_on or "no task stated", 200),
        authors=line(dataset.get("reference") or "", 120),
        intended_use="",
        modality=modality_of(modality or str(next(iter(channels.values())))),
        segments=classes(labels),
        softmax=True,
        framework=Framework.NNUNET,
        orientation=oriented(orientation, str(plans.get("image_reader_writer", "")), trained_on),
    )


def classes(labels: Mapping[str, Any]) -> tuple[Segment, ...]:
    """The classes by their numbers; `ignore` is none. Raises BundleError for what is not one label for each voxel."""
    if any(isinstance(n, list) for n in labels.values()):
        raise BundleError("it was trained on regions that overlap; the node takes one label for each voxel")
    try:
        found = segments({str(n): k for k, n in labels.items() if k != "ignore"})
    except ValueError as e:
        raise BundleError(f"its labels are no numbers: {e}") from e
    if [s.channel for s in found] != list(range(len(found))) or not 2 <= len(found) <= MOST_CLASSES:
        raise BundleError(f"its labels are not numbered from 0 without a gap, or are more than {MOST_CLASSES}")
    refuse_names(found)
    if found[0].kind is not None:
        raise BundleError(f"its label 0 is {found[0].name!r}, not the background")
    return found


def oriented(given: str, reader: str, trained_on: str) -> str:
    """How the training images lay. Raises BundleError when nothing says so: a liver on the wrong side would be the result."""
    known = given or TURNED.get(reader) or (TOTALSEGMENTATOR if "totalsegmentator" in trained_on.lower() else "")
    if not known:
        raise BundleError(
            "nothing in it says which way round its training images lay: say so (--orientation RAS, or LPS for images that"
            " were converted from DICOM by ITK)"
        )
    if not (re.fullmatch("[RLAPSI]{3}", known) and all(len(set(known) & set(p)) == 1 for p in ("RL", "AP", "SI"))):
        raise BundleError(f"{known!r} is no orientation such as RAS or LPS")
    return known


def folds(folder: Path) -> dict[str, str]:
    """Fold ("0", "all") -> its checkpoint's name, all of the same name."""
    for name in CHECKPOINTS:
        found = {p.parent.name.removeprefix("fold_"): name for p in sorted(folder.glob(f"fold_*/{name}"))}
        if found:
            return found
    return {}


def lean(folder: Path) -> None:
    """Take out what running it does not need: logs, pictures, and the masks of the patients whom it was validated on."""
    needed = {PLANS, DATASET, *(f"fold_{fold}/{name}" for fold, name in folds(folder).items())}
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in needed:
            path.unlink()


def default_name(folder: Path) -> str:
    """What its data set is called."""
    return slug(str(read_json(folder / PLANS).get("dataset_name") or read_json(folder / DATASET).get("name") or ""))


def turn(affine: NDArray[np.float64], orientation: str) -> tuple[list[int], tuple[slice, ...], list[float]]:
    """How voxels (affine to LPS mm) come to lie in an orientation: axes (z, y, x as nnU-Net counts), steps of each, and mm."""
    order, signs, spacing = [], [], []
    for letter in reversed(orientation):
        axis, sign = TOWARDS[letter]
        along = affine[axis, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        best = max((a for a in range(3) if a not in order), key=lambda a: abs(along[a]))
        order.append(best)
        signs.append(slice(None, None, 1 if along[best] * sign > 0 else -1))
        spacing.append(float(np.linalg.norm(affine[:3, best])))
    return order, tuple(signs), spacing


def check_installed() -> None:
    """Raises BundleError that names the extra where nnU-Net is not installed."""
    if find_spec("nnunetv2") is None:
        raise BundleError(f"nnU-Net is not installed, and this model needs it: pip install 'radnode[{EXTRA}]'")
