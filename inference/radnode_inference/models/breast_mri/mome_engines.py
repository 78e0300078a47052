"""MOME in bfloat16: compared with single precision on every combination of modalities, and used only where it agreed.

OpenVINO computes one fixed graph, and MOME's changes with the modalities that are shown to it.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from radnode_inference.engines import record
from radnode_inference.engines.choose import hardware
from radnode_inference.engines.record import FASTER, FASTER_ON_GPU, Agreement
from radnode_inference.models.breast_mri.mome_ensemble import Ensemble, Volumes

HALF = "torch-bf16"
NO_FIXED_GRAPH = "its graph changes with the modalities that an examination has"


def check(
    ensemble: Ensemble, volumes: Volumes, *, weights: Path, key: str, tell: Callable[[str], None]
) -> tuple[Agreement, ...]:
    """bfloat16 beside single precision on one examination (batch 1); recorded for `record.choose`, and returned.

    delta_p: the largest difference of any class's probability, over the networks and all combinations of modalities.
    """
    shown = [{m: volumes[m] for m in given} for n in range(1, len(volumes) + 1) for given in combinations(volumes, n)]
    tell(HALF)
    reference, reference_s = timed(replace(ensemble, half=False), shown)
    found, seconds = timed(replace(ensemble, half=True), shown)
    here = hardware(ensemble.device)
    half = Agreement(
        engine=HALF,
        version=record.version(HALF),
        hardware=here,
        windows=len(shown),
        dice=None,
        classes=None,
        delta_p=float((found - reference).abs().max()),
        seconds=seconds,
        reference_s=reference_s,
    )
    engines = FASTER_ON_GPU if ensemble.device.type == "cuda" else FASTER
    others = (
        replace(half, engine=e, version=record.version(e), delta_p=0.0, seconds=0.0, failed=NO_FIXED_GRAPH)
        for e in engines
        if e != HALF
    )
    agreements = (half, *others)
    record.write(record.place(weights, key), agreements)
    return agreements


def timed(ensemble: Ensemble, shown: list[dict[str, Tensor]]) -> tuple[Tensor, float]:
    """(probabilities (combinations, folds, classes), seconds of one combination on average)."""
    began = time.perf_counter()
    found = torch.stack([ensemble.probabilities(volumes) for volumes in shown])
    return found, (time.perf_counter() - began) / len(shown)
