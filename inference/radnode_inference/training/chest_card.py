"""The small VoCo measured on chests it never saw, and the card that says so."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize
from torch import nn

from radnode_inference.class_map import Strongest, pack
from radnode_inference.findings import Kind
from radnode_inference.models.chest_ct.voco_parts import parts, regions
from radnode_inference.models.chest_ct.voco_settings import class_setting
from radnode_inference.preprocess import Box
from radnode_inference.training.metrics import auroc, best_threshold, dice, interval, sensitivity, specificity
from radnode_inference.training.report import REPRODUCED
from radnode_inference.window import slide

LUNG, NODULE = 1, 2
CLASSES: list[dict[str, Any]] = [
    {"name": "background", "kind": "background"},
    {
        "name": "lungs",
        "kind": "anatomy",
        "concept": {"value": "39607008", "scheme": "SCT", "meaning": "Lung"},
        "smallest_mm3": 20000,
    },
    {
        "name": "nodule",
        "kind": "abnormality",
        "concept": {"value": "427359005", "scheme": "SCT", "meaning": "Solitary nodule of lung"},
        "site": {"value": "39607008", "scheme": "SCT", "meaning": "Lung"},
        "smallest_mm3": 60,
    },
]
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the network made of one chest. parts: (mean log-odds, whether it meets a true nodule); found: per true nodule."""

    parts: tuple[tuple[float, bool], ...]
    found: tuple[float, ...]
    lung_dice: float
    nodule_dice: float
    nodules: int


def seen(net: nn.Module, case: Any, settings: dict[str, Any]) -> Seen:
    """The part scores of a case, and for each true nodule the score of the best part on it (-inf: none)."""
    x, y, z = settings["roi"]
    with torch.inference_mode():
        logits = slide(case.image[None], (x, y, z), net, overlap=settings["overlap"], done=lambda _: None)
    probabilities = logits.softmax(dim=0)
    spacing = settings["spacing_mm"]
    box = Box(size=tuple(case.image.shape), affine=np.diag([-spacing[0], -spacing[1], spacing[2], 1.0]))
    setting = replace(class_setting(CLASSES[NODULE]), threshold=0.0)
    truth, count = ndimage.label((case.labels == NODULE).numpy())
    scores, best = [], [-np.inf] * count
    strongest = Strongest.of(pack(probabilities), probabilities.shape[0], box)
    for part in parts(strongest, NODULE, setting, regions(strongest)[NODULE]):
        start = [round(v) for v in np.linalg.inv(box.affine)[:3] @ part.box.affine[:, 3]]
        at = tuple(slice(s, s + n) for s, n in zip(start, part.box.size, strict=True))
        hit = set(np.unique(truth[at][part.pieces == 1])) - {0}
        scores.append((part.score, bool(hit)))
        for n in hit:
            best[n - 1] = max(best[n - 1], part.score)
    called = probabilities.argmax(dim=0)
    return Seen(
        parts=tuple(scores),
        found=tuple(best),
        lung_dice=dice((called != 0).numpy(), (case.labels != 0).numpy()),
        nodule_dice=dice((called == NODULE).numpy(), truth > 0),
        nodules=count,
    )


def platt(score: Array, truth: Array) -> tuple[float, float]:
    """(slope, offset) of the logistic curve through the parts (Platt 1999), held near (1, 0) where there are few."""

    def loss(v: Array) -> float:
        z = v[0] * score + v[1]
        return float(np.sum(np.logaddexp(0, z) - truth * z) + 0.5 * (v[0] - 1) ** 2 + 0.05 * v[1] ** 2)

    slope, offset = minimize(loss, np.array([1.0, 0.0]), method="BFGS").x
    return round(float(slope), 4), round(float(offset), 4)


def measured(
    net: nn.Module, tuning: Iterable[Any], held_out: Iterable[Any], settings: dict[str, Any]
) -> dict[str, Any]:
    """Calibration and threshold chosen on `tuning`; figures with 95 % intervals on `held_out`."""
    tuned = [seen(net, case, settings) for case in tuning]
    pairs = [p for s in tuned for p in s.parts]
    slope, offset = (
        platt(np.array([p[0] for p in pairs]), np.array([float(p[1]) for p in pairs])) if pairs else (1.0, 0.0)
    )

    def probability(score: float) -> float:
        return float(1 / (1 + np.exp(-(slope * score + offset)))) if np.isfinite(score) else 0.0

    def study(s: Seen) -> float:
        return max((probability(score) for score, _ in s.parts), default=0.0)

    positive = np.array([float(s.nodules > 0) for s in tuned])
    threshold = round(best_threshold(positive, np.array([study(s) for s in tuned])), 4)
    cases = [seen(net, case, settings) for case in held_out]
    truth = np.array([float(s.nodules > 0) for s in cases])
    score = np.array([study(s) for s in cases])
    called = (score > threshold).astype(float)
    detected = np.array([float(probability(f) > threshold) for s in cases for f in s.found])
    false = np.array([float(sum(probability(p) > threshold and not hit for p, hit in s.parts)) for s in cases])
    with_nodule = np.array([s.nodule_dice for s in cases if s.nodules])
    return {
        "calibration": [slope, offset],
        "threshold": threshold,
        "metrics": {
            "study_auroc": interval(auroc, truth, score),
            "study_sensitivity": interval(sensitivity, truth, called),
            "study_specificity": interval(specificity, truth, called),
            "nodule_sensitivity": interval(mean, detected),
            "false_nodules_per_study": interval(mean, false),
            "nodule_dice": interval(mean, with_nodule),
            "lung_dice": interval(mean, np.array([s.lung_dice for s in cases])),
        },
    }


def mean(values: Array) -> float:
    return float(values.mean()) if len(values) else float("nan")


def card(
    found: dict[str, Any], *, sha256: str, settings: dict[str, Any], trained: str, held_out: str
) -> dict[str, Any]:
    """The card of the demonstration weights, with the honest figures."""
    nodule = {**CLASSES[NODULE], "calibration": found["calibration"], "threshold": found["threshold"]}
    return {
        "model": "ct-voco",
        "name": "voco-demonstration",
        "version": "1",
        "file": "demo.safetensors",
        "sha256": sha256,
        "demonstration": True,
        "intended_use": "Demonstration on studies of the node's own generator; not for clinical use.",
        "licence": "Apache-2.0",
        "training_data": trained,
        "input": settings,
        "classes": [*CLASSES[:NODULE], nodule],
        "metrics": {"held_out": held_out, **found["metrics"]},
        "limitations": [
            "Trained and tested on generated phantoms only: no figure here says anything about patients.",
            REPRODUCED,
            f"{Kind.ANATOMY.value.capitalize()} `lungs` is both lungs together, nodules and vessels within them left to the nodule class.",
        ],
    }


def write(folder: Path, name: str, content: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
