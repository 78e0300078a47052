"""How often the alarms of `radnode.monitor` come without a change, and how soon with one, by simulation.

    python benchmarks/drift.py [--rounds 300]

A model flags a share of its studies with a probability between 0.5 and 1; people reject or correct a share of its
findings. The change doubles the odds. Takes a minute.
"""

import argparse
import statistics
from collections.abc import Callable

import numpy as np

from radnode.monitor import Kind, Ruled, Score, rulings, score_sums
from radnode.settings_monitoring import Monitoring

LATE = 10**6
CHANCE = np.random.default_rng(1)


def doubled(share: float) -> float:
    return 2 * share / (1 + share)


def scores(count: int, share: float) -> list[Score]:
    found, sure = CHANCE.random(count) < share, CHANCE.uniform(0.5, 1, count)
    return [
        Score(
            study_uid=str(i), model="m", version="1", scanner="", at=float(i), status="", findings=int(f),
            probability=float(p) if f else None,
        )
        for i, (f, p) in enumerate(zip(found, sure, strict=True))
    ]  # fmt: skip


def first_of_scores(share: float, later: float, settings: Monitoring) -> int | None:
    """After how many studies either sum is above its limit; None when it is not within 1,000."""
    reference = scores(settings.reference_studies, share)
    _, sums = score_sums(scores(1000, later), reference, settings)
    highest = (max(pair) for pair in zip(sums.up, sums.down, strict=True))
    return next(((i + 1) * settings.cusum_batch for i, s in enumerate(highest) if s > settings.cusum_limit), None)


def first_of_rulings(share: float, later: float, settings: Monitoring) -> int | None:
    """The same for rulings, within 500."""
    said = [*(CHANCE.random(settings.reference_rulings) < share), *(CHANCE.random(500) < later)]
    lines, _ = rulings([Ruled(model="m", at=float(i), disputed=bool(d)) for i, d in enumerate(said)], settings)
    return next((i + 1 for i, (_, s) in enumerate(lines["m"]) if s > settings.ruling_limit), None)


def row(kind: str, share: float, rounds: int, first: Callable[[float, float, Monitoring], int | None]) -> str:
    settings = Monitoring()
    false = sum(first(share, share, settings) is not None for _ in range(rounds)) / rounds
    seen = [first(share, doubled(share), settings) for _ in range(rounds)]
    median = statistics.median(s if s is not None else LATE for s in seen)
    told = f"{median:.0f}" if median < LATE else "not by half of them"
    return f"| {kind} | {share:.0%} | {false:.1%} | {told} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    print(
        "| alarm | share | without a change, within 1,000 studies or 500 rulings | doubled odds seen after (median) |"
    )
    print("|---|---|---|---|")
    for share in (0.1, 0.3, 0.5):
        print(row(str(Kind.UP), share, rounds, first_of_scores))
    for share in (0.05, 0.1, 0.3):
        print(row(str(Kind.RULINGS), share, rounds, first_of_rulings))


if __name__ == "__main__":
    main()
