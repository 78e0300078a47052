"""The index and the sums, against published numbers and against numpy and scipy."""

import numpy as np
import pytest
from scipy.stats import entropy

from radnode import drift

MONTGOMERY = (
    9.45, 7.99, 9.29, 11.66, 12.16, 10.18, 8.04, 11.46, 9.20, 10.34, 9.03, 11.47, 10.51, 9.40, 10.08,
    9.37, 10.62, 10.31, 8.52, 10.84, 10.90, 9.33, 12.29, 11.50, 10.60, 11.08, 10.38, 11.62, 11.31, 10.52,
)  # fmt: skip
"""Introduction to Statistical Quality Control, table 9.1: mean 10 and standard deviation 1, from the 21st on mean 11."""


def test_the_cumulative_sums_are_those_of_the_textbook() -> None:
    sums = drift.cumulative_sums(MONTGOMERY, 10, 1, 0.5)
    assert sums.up[28:] == pytest.approx((5.28, 5.30), abs=1e-9), "table 9.2: above 5 at the 29th, and not before"
    assert max(sums.up[:28]) < 5
    assert sums.up[:8] == pytest.approx((0, 0, 0, 1.16, 2.82, 2.50, 0.04, 1.00), abs=1e-9)
    assert sums.down[:4] == pytest.approx((0.05, 1.56, 1.77, 0), abs=1e-9)
    assert drift.began(sums.up, 5) == 28
    assert drift.began(sums.down, 5) is None


def test_a_sum_does_not_grow_beyond_its_cap_and_comes_back() -> None:
    sums = drift.cumulative_sums([3.0] * 100 + [0.0] * 30, 0, 1, 0.5, cap=10)
    assert max(sums.up) == 10
    assert drift.began(sums.up, 5) is None


def test_in_control_the_sum_of_the_textbook_runs_465_steps_on_average() -> None:
    """Montgomery, table 9.3: h = 5, k = 0.5, two-sided, average run length 465 without a shift, 10.4 with one of 1."""
    chance = np.random.default_rng(7)

    def run_length(shift: float, steps: int) -> float:
        lengths = []
        for values in chance.normal(shift, 1, (250, steps)):
            sums = drift.cumulative_sums(values.tolist(), 0, 1, 0.5)
            crossed = np.flatnonzero((np.array(sums.up) > 5) | (np.array(sums.down) > 5))
            lengths.append(crossed[0] + 1 if len(crossed) else steps)
        return float(np.mean(lengths))

    assert run_length(0, 2500) == pytest.approx(465, rel=0.15)
    assert run_length(1, 150) == pytest.approx(10.4, rel=0.05)


def test_the_sums_of_likelihood_ratios_are_numpys() -> None:
    happened = np.random.default_rng(3).random(500) < 0.2
    share, odds = 0.1, 2.0
    changed = odds * share / (1 - share + odds * share)
    steps = np.where(happened, np.log(changed / share), np.log((1 - changed) / (1 - share)))
    walked = np.cumsum(steps)
    expected = walked - np.minimum(np.minimum.accumulate(walked), 0)  # the reflected walk
    assert drift.likelihood_sums(happened.tolist(), share, odds) == pytest.approx(expected.tolist())
    assert steps[happened][0] == pytest.approx(np.log(2 / 1.1))


def test_the_index_is_the_sum_of_both_divergences_of_scipy() -> None:
    chance = np.random.default_rng(5)
    for _ in range(20):
        first, second = chance.integers(0, 40, 6), chance.integers(0, 40, 6)
        used = (first + second) > 0
        p, q = first[used] + drift.EMPTY, second[used] + drift.EMPTY
        expected = entropy(p / p.sum(), q / q.sum()) + entropy(q / q.sum(), p / p.sum())
        assert drift.stability_index(first.tolist(), second.tolist()) == pytest.approx(float(expected))
    assert drift.stability_index([10, 20, 30], [100, 200, 300]) == pytest.approx(0, abs=1e-3)


def test_an_index_beyond_chance_is_rare_without_a_change() -> None:
    chance = np.random.default_rng(11)
    shares = np.array([0.6, 0.05, 0.05, 0.1, 0.1, 0.1])
    first, second = chance.multinomial(200, shares, 4000), chance.multinomial(80, shares, 4000)
    limit = drift.index_by_chance(6, 200, 80, 0.01)
    beyond = sum(
        drift.stability_index(a.tolist(), b.tolist()) > limit for a, b in zip(first, second, strict=True)
    )  # fmt: skip
    assert 4000 * 0.002 < beyond < 4000 * 0.02
    assert drift.index_by_chance(1, 200, 80, 0.01) == 0
