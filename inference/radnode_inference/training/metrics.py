"""Figures of merit with bootstrap confidence intervals, for the demonstration weights' cards."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]
RESAMPLES = 2000


def auroc(truth: Array, score: Array) -> float:
    """The chance that a positive case scores higher than a negative one; ties count half. NaN when one kind is missing."""
    positive = truth > 0.5
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def sensitivity(truth: Array, called: Array) -> float:
    positive = truth > 0.5
    return float(called[positive].mean()) if positive.any() else float("nan")


def specificity(truth: Array, called: Array) -> float:
    return sensitivity(1 - truth, 1 - called)


def best_threshold(truth: Array, score: Array) -> float:
    """The middle of the gap at which sensitivity + specificity is greatest (Youden 1950)."""
    levels = np.unique(score)
    cuts = (levels[:-1] + levels[1:]) / 2 if len(levels) > 1 else levels
    called = [(score > c).astype(float) for c in cuts]
    youden = np.nan_to_num([sensitivity(truth, c) for c in called]) + np.nan_to_num(
        [specificity(truth, c) for c in called]
    )
    best = np.flatnonzero(np.isclose(youden, youden.max()))
    return float(cuts[best[len(best) // 2]])


def interval(statistic: Callable[..., float], *columns: Array, seed: int = 7) -> dict[str, Any]:
    """{"value", "low", "high", "n"}: a statistic of the cases with its 95 % bootstrap interval."""
    rng = np.random.default_rng(seed)
    n = len(columns[0])
    drawn = []
    for _ in range(RESAMPLES):
        index = rng.integers(0, n, n)
        value = statistic(*(c[index] for c in columns))
        if np.isfinite(value):
            drawn.append(value)
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (float("nan"), float("nan"))
    return {"value": round(statistic(*columns), 4), "low": round(float(low), 4), "high": round(float(high), 4), "n": n}


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Overlap of two masks, 1 when both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 1.0 if not total else 2 * int((a & b).sum()) / total


def temperature(truth: Array, logit: Array) -> float:
    """The number that a logit is divided by so that its sigmoid is best calibrated (least cross-entropy on a grid)."""
    candidates = np.geomspace(0.3, 6.0, 120)

    def loss(t: float) -> float:
        z = logit / t
        return float(np.mean(np.logaddexp(0, z) - truth * z))

    return float(min(candidates, key=loss))
