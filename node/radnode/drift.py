"""Whether numbers have changed: the population-stability index and cumulative sums. Pure; knows no model, study or table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import chdtri

EMPTY = 0.5
"""Added to each class, so that one without studies makes no infinite index."""


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Two cumulative sums, one step for each value, in standard deviations: of what went up, and of what went down."""

    up: tuple[float, ...]
    down: tuple[float, ...]


def stability_index(reference: Sequence[int], current: Sequence[int]) -> float:
    """The population-stability index of two histograms over the same classes: Σ (q − p) ln(q / p), never negative.

    It is the sum of both Kullback-Leibler divergences, in nats (Jeffreys 1946); below 0.1 is called stable, above 0.25
    changed (Siddiqi, Credit Risk Scorecards, 2006). Classes that are empty in both count for nothing.
    """
    used = [(r + EMPTY, c + EMPTY) for r, c in zip(reference, current, strict=True) if r or c]
    first, second = sum(r for r, _ in used), sum(c for _, c in used)
    return sum((c / second - r / first) * math.log((c / second) / (r / first)) for r, c in used)


def index_by_chance(classes: int, reference: int, current: int, chance: float) -> float:
    """The index that two samples of one population exceed with the probability `chance`.

    Of so many studies each: it is distributed about as (1/n + 1/m) χ² with classes − 1 degrees of freedom (Yurdakul,
    Statistical properties of population stability index, 2018).
    """
    if classes < 2:
        return 0.0
    return float(chdtri(classes - 1, chance)) * (1 / reference + 1 / current)


def used_classes(reference: Sequence[int], current: Sequence[int]) -> int:
    return sum(1 for r, c in zip(reference, current, strict=True) if r or c)


def cumulative_sums(values: Sequence[float], mean: float, sd: float, slack: float, cap: float = math.inf) -> Sums:
    """The tabular CUSUM of values against a mean (Page 1954; Montgomery, Introduction to Statistical Quality Control, 9.1).

    slack: standard deviations by which a value may be off without being counted. cap: no sum grows beyond it, so that a
    change that ended long ago is forgotten in time.
    """
    up, down, high, low = [], [], 0.0, 0.0
    for value in values:
        off = (value - mean) / sd
        high, low = min(cap, max(0.0, high + off - slack)), min(cap, max(0.0, low - off - slack))
        up.append(high)
        down.append(low)
    return Sums(up=tuple(up), down=tuple(down))


def likelihood_sums(
    happened: Sequence[bool], share: float, odds: float, cap: float = math.inf
) -> tuple[float, ...]:  # fmt: skip
    """The CUSUM of log-likelihood ratios that an event has `odds` times the odds of `share` (Steiner and others 2000)."""
    changed = odds * share / (1 - share + odds * share)
    yes, no = math.log(changed / share), math.log((1 - changed) / (1 - share))
    sums, level = [], 0.0
    for event in happened:
        level = min(cap, max(0.0, level + (yes if event else no)))
        sums.append(level)
    return tuple(sums)


def began(sums: Sequence[float], limit: float) -> int | None:
    """The step at which the sum came above the limit, above which it has stayed since; None when it is not above it."""
    if not sums or sums[-1] <= limit:
        return None
    at = len(sums) - 1
    while at and sums[at - 1] > limit:
        at -= 1
    return at
