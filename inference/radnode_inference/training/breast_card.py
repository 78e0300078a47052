"""The small MOME measured on phantoms it never saw, and the card that says so."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from radnode_inference import generator
from radnode_inference.models.breast_mri.mome import Mome
from radnode_inference.models.breast_mri.mome_settings import USEFUL_AUROC
from radnode_inference.training.metrics import auroc, best_threshold, interval, sensitivity, specificity, temperature
from radnode_inference.training.report import REPRODUCED

MODALITIES = ("dce", "dwi", "t2")
SUBSETS = tuple(s for n in (3, 2, 1) for s in combinations(MODALITIES, n))
Array = NDArray[np.float64]


def logits_of(net: Mome, cases: list[Any], given: tuple[str, ...]) -> Array:
    """The log-odds of a lesion for each case with only the modalities in `given`."""
    found = []
    with torch.inference_mode():
        for case in cases:
            out = net(*(getattr(case, m)[None] if m in given else None for m in MODALITIES))[0]
            found.append(float(out[1] - out[0]))
    return np.array(found)


def measured(net: Mome, tuning: list[Any], held_out: list[Any]) -> dict[str, Any]:
    """Temperature and threshold chosen on `tuning`; figures with 95 % intervals on `held_out`.

    One temperature and one threshold must do for every choice of modalities that is useful, so they are chosen on all of those.
    """
    truth = np.array([float(c.label) for c in tuning])
    logits = {given: logits_of(net, tuning, given) for given in SUBSETS}
    useful = [x for x in logits.values() if auroc(truth, x) >= USEFUL_AUROC] or [logits[MODALITIES]]
    truths, logit = np.tile(truth, len(useful)), np.concatenate(useful)
    warm = round(temperature(truths, logit), 4)
    threshold = round(best_threshold(truths, 1 / (1 + np.exp(-logit / warm))), 4)
    truth = np.array([float(c.label) for c in held_out])
    figures: dict[str, Any] = {}
    for given in SUBSETS:
        p = 1 / (1 + np.exp(-logits_of(net, held_out, given) / warm))
        called = (p > threshold).astype(float)
        figures["+".join(given)] = {
            "auroc": interval(auroc, truth, p),
            "sensitivity": interval(sensitivity, truth, called),
            "specificity": interval(specificity, truth, called),
        }
    return {"temperature": warm, "threshold": threshold, "metrics": figures}


def card(
    found: dict[str, Any],
    *,
    sha256: str,
    settings: dict[str, Any],
    heads: int,
    trained: str,
    tuning: str,
    held_out: str,
) -> dict[str, Any]:
    """The card of the demonstration weights, with the honest figures."""
    return {
        "model": "mr-breast-mome",
        "name": "mome-demonstration",
        "version": "2",
        "file": "demo.safetensors",
        "sha256": sha256,
        "demonstration": True,
        "task": "lesion",
        "intended_use": "Demonstration on studies of the node's own generator; not for clinical use.",
        "licence": "Apache-2.0",
        "training_data": f"{trained} Generator version {generator.VERSION}.",
        "network": {"heads": heads},
        "input": settings,
        "missing_allowed": ["dce", "dwi", "t2"],
        "classes": [
            {"name": "no lesion", "kind": "negative"},
            {
                "name": "lesion",
                "kind": "abnormality",
                "concept": {"value": "52988006", "scheme": "SCT", "meaning": "Lesion"},
                "site": {"value": "76752008", "scheme": "SCT", "meaning": "Breast"},
            },
        ],
        "calibration": {"temperature": found["temperature"], "reference": tuning},
        "threshold": found["threshold"],
        "metrics": {"held_out": held_out, "by_modalities": found["metrics"]},
        "limitations": [
            "Trained and tested on generated phantoms only: no figure here says anything about patients.",
            REPRODUCED,
            "The label is whether the phantom has a lesion, of whatever curve type; it is not malignancy.",
            *usefulness(found["metrics"]),
        ],
    }


def usefulness(figures: dict[str, Any]) -> list[str]:
    """Which modalities the weights can do without, by the AUROC on the held-out examinations."""
    useful = {name: f["auroc"]["value"] >= USEFUL_AUROC for name, f in figures.items()}
    return [
        f"{'Useful' if good else 'Not useful'} with {' and '.join(m.upper() for m in subset)} only: AUROC {figures[name]['auroc']['value']:.2f} "
        f"(95 % interval {figures[name]['auroc']['low']:.2f} to {figures[name]['auroc']['high']:.2f})."
        for subset in SUBSETS[1:]
        for name, good in [("+".join(subset), useful["+".join(subset)])]
    ]


def write(folder: Path, name: str, content: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
