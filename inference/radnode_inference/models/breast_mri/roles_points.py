"""The time points of one series: which of its images belong together, and what the clocks say of when they were acquired."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from radnode_inference.frames import Frame
from radnode_inference.match import name
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.roles_copies import Pair, distinct
from radnode_inference.models.breast_mri.roles_images import place
from radnode_inference.models.breast_mri.roles_series import Seen
from radnode_inference.study import Series

OFFSETS = {
    "TriggerTime": "trigger_s",
    "TemporalPositionTimeOffset": "offset_s",
    "Dynamic Scan Begin Time": "dynamic_s",
}
"""Clocks that count from the series' begin, and the facts that they are read from."""
CLOCKS = ("AcquisitionTime", "AcquisitionDateTime", *OFFSETS, "ContentTime")
"""In the order in which they are believed."""
APART_S = 1.0
USUAL_S = 60.0


@dataclass(frozen=True, kw_only=True, eq=False)
class TimePoint:
    """The frames of one time. clocks: when it began by each of CLOCKS that says so, in s.

    offsets: the same in s after the series began, also where it is not known when that was. position: Temporal Position;
    lasts_s: the acquisition's length; contrast: whether the images say that contrast was given (None: they say nothing);
    injected_s: when, as they say. scales: Philips' scale slope of each frame. expected: Number of Temporal Positions.
    """

    series: Series
    frames: tuple[Frame, ...]
    clocks: dict[str, float]
    offsets: dict[str, float]
    position: int | None
    lasts_s: float | None
    contrast: bool | None
    injected_s: float | None
    scales: tuple[float | None, ...]
    expected: int | None
    begins_s: float = 0.0


def time_points(seen: Seen) -> tuple[TimePoint, ...]:
    """The time points of a series, in order; one where every place is there once.

    Told apart by Temporal Position, else by any time. Raises DeclinedError `timing` when places repeat and nothing tells
    the images apart.
    """
    pairs = list(zip(seen.frames, seen.facts, strict=True))
    every = places(pairs)
    if len(every) < len(pairs):
        pairs = distinct(pairs)
    if len(every) == len(pairs):
        return (time_point(seen, pairs),)
    partly: list[list[Pair]] = []
    for attribute in ("position", "acquired_s", "stamped_s", *OFFSETS.values(), "content_s"):
        groups = by_value(pairs, attribute)
        if groups and all(len(g) == len(every) for g in groups):
            return tuple(time_point(seen, g) for g in groups)
        if turns := in_turn(pairs, attribute):
            return tuple(time_point(seen, g) for g in turns)
        if not partly and any(len(g) == len(every) for g in groups):
            partly = groups
    if partly:
        return tuple(time_point(seen, g) for g in partly)
    raise DeclinedError(
        "timing",
        "places repeat within a series and TemporalPositionIdentifier, AcquisitionTime and TriggerTime do not tell"
        f" its images apart ({name(seen.series)})",
    )


def by_value(pairs: Sequence[Pair], attribute: str) -> list[list[Pair]]:
    """The images of each value, in order; [] where one has none, or where a value stands for a place twice."""
    groups: dict[float, list[Pair]] = {}
    for pair in pairs:
        value = getattr(pair[1], attribute)
        if value is None:
            return []
        groups.setdefault(value, []).append(pair)
    whole = all(len(places(g)) == len(g) for g in groups.values())
    return [groups[k] for k in sorted(groups)] if len(groups) > 1 and whole else []


def in_turn(pairs: Sequence[Pair], attribute: str) -> list[list[Pair]]:
    """Slices with times of their own: the first images of all places, then the second ones; [] where these overlap in time."""
    if any(getattr(facts, attribute) is None for _, facts in pairs):
        return []
    of_place: dict[tuple[float, ...], list[Pair]] = {}
    for pair in sorted(pairs, key=lambda p: float(getattr(p[1], attribute))):
        of_place.setdefault(place(pair[0]), []).append(pair)
    if len({len(found) for found in of_place.values()}) > 1:
        return []
    turns = [list(turn) for turn in zip(*of_place.values(), strict=True)]
    spans = [[float(getattr(f, attribute)) for _, f in turn] for turn in turns]
    apart = all(max(one) < min(other) for one, other in pairwise(spans))
    return turns if apart else []


def places(pairs: Sequence[Pair]) -> set[tuple[float, ...]]:
    return {place(f) for f, _ in pairs}


def time_point(seen: Seen, pairs: Sequence[Pair]) -> TimePoint:
    facts = [f for _, f in pairs]
    began = earliest([f.acquired_s for f in seen.facts])
    offsets = {
        clock: after
        for clock, attribute in OFFSETS.items()
        if (after := earliest([getattr(f, attribute) for f in facts])) is not None
    }
    clocks = {
        "AcquisitionTime": earliest([f.acquired_s for f in facts]),
        "AcquisitionDateTime": earliest([f.stamped_s for f in facts]),
        **{clock: None if began is None else began + after for clock, after in offsets.items()},
        "ContentTime": earliest([f.content_s for f in facts]),
    }
    return TimePoint(
        series=seen.series,
        frames=tuple(f for f, _ in pairs),
        clocks={k: v for k, v in clocks.items() if v is not None},
        offsets=offsets,
        position=facts[0].position,
        lasts_s=facts[0].lasts_s,
        contrast=any_of([f.contrast for f in facts]),
        injected_s=earliest([f.injected_s for f in facts]),
        scales=tuple(f.scale for f in facts),
        expected=facts[0].expected,
    )


def earliest(times: Sequence[float | None]) -> float | None:
    return min((t for t in times if t is not None), default=None)


def any_of(said: Sequence[bool | None]) -> bool | None:
    """Whether any image says so; None where none says anything. De-identification empties attributes of single images."""
    known = [s for s in said if s is not None]
    return any(known) if known else None


def middle_s(point: TimePoint) -> float:
    """The middle of a phase's acquisition on its clock; it lasts USUAL_S where nothing says how long."""
    return point.begins_s + (point.lasts_s or USUAL_S) / 2
