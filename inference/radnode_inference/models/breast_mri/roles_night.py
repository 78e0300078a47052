"""Times without a day of their own that pass midnight: a dynamic series from 23:58 to 00:06 is eight minutes, not a day."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from radnode_inference.models.breast_mri.roles_facts import DAY_S, Facts
from radnode_inference.models.breast_mri.roles_series import Seen

LEAST_GAP_S, LONGEST_SPAN_S = 12 * 3600.0, 6 * 3600.0
NAMES = {"acquired_s": "AcquisitionTime", "content_s": "ContentTime"}


def over_midnight(found: Sequence[Seen]) -> tuple[list[Seen], tuple[str, ...]]:
    """The series with what was acquired after midnight on the next day, where only a day of the series is stated, and
    what to say of it.

    No examination has a pause of twelve hours in it: times that have one between them, and lie within six hours when the
    early ones are put on the next day, passed midnight.
    """
    said: list[str] = []
    moved = list(found)
    for attribute, name in NAMES.items():
        limit = midnight([f for one in moved for f in one.facts], attribute)
        if limit is None:
            continue
        moved = [replace(one, facts=tuple(next_day(f, attribute, limit) for f in one.facts)) for one in moved]
        said.append(
            f"{name} passes midnight, and no date is stated for it: the early times are taken for the next day's."
        )
    return moved, tuple(said)


def midnight(facts: Sequence[Facts], attribute: str) -> float | None:
    """The last time of a frame that belongs to the next day; None where there is none or where that cannot be."""
    times = np.unique([t for f in facts if (t := getattr(f, attribute)) is not None])
    if len(times) < 2 or np.diff(times).max() <= LEAST_GAP_S:
        return None
    last = int(np.argmax(np.diff(times)))
    early = [f for f in facts if (t := getattr(f, attribute)) is not None and t <= times[last]]
    span = max(times[-1], times[last] + DAY_S) - min(times[last + 1], times[0] + DAY_S)
    certain = all(attribute in f.floating for f in early) and span <= LONGEST_SPAN_S
    return float(times[last]) if certain else None


def next_day(facts: Facts, attribute: str, limit: float) -> Facts:
    time = getattr(facts, attribute)
    if time is None or time > limit:
        return facts
    return replace(facts, **{attribute: time + DAY_S})
