"""The phases of a dynamic series in time: which clock tells them apart, which were acquired after contrast, and doubts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from radnode_inference.match import name
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.roles_contrast import agent_tells, injected, split
from radnode_inference.models.breast_mri.roles_points import APART_S, CLOCKS, OFFSETS, TimePoint, middle_s

POSITION = "TemporalPositionIdentifier"
LONGEST_BEFORE_S, LONGEST_AFTER_S = 900.0, 120.0
"""Contrast is given at most so long before and so long after the first phase with it begins."""
LONGEST_S = 7200.0
"""From the phase before contrast to the last one; what lies further apart is not one examination."""
DISAGREE_S = 30.0
BROKEN_OFF = 0.7
"""Part of the usual time between phases: one that is followed sooner was not finished."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ordered:
    """The phases before and after contrast, in order. assumptions: what was not stated and was taken as true.

    contrast_stated: whether the images say which they are; injection_stated: whether by the time of the injection.
    """

    before: tuple[TimePoint, ...]
    after: tuple[TimePoint, ...]
    assumptions: tuple[str, ...]
    contrast_stated: bool
    injection_stated: bool = False

    @property
    def by(self) -> str:
        return POSITION

    def named(self, point: TimePoint) -> str:
        """What a phase is called in a sentence."""
        return str(point.position)


@dataclass(frozen=True, kw_only=True, eq=False)
class Timed(Ordered):
    """The phases in time. clock: of CLOCKS. injection_s: on that clock."""

    clock: str
    injection_s: float

    @property
    def by(self) -> str:
        return self.clock

    def named(self, point: TimePoint) -> str:
        return f"{self.centre_s(point):.0f} s"

    def centre_s(self, point: TimePoint) -> float:
        """The middle of a phase's acquisition, in s after contrast was given."""
        return middle_s(point) - self.injection_s


def lasting(ordered: Sequence[TimePoint]) -> tuple[TimePoint, ...]:
    """The phases with how long each lasted: as it says and no longer than usual, and one that was broken off until the next."""
    if len(ordered) < 2:
        return tuple(ordered)
    gaps = np.diff([p.begins_s for p in ordered])
    usual = float(np.percentile(gaps, 50, method="lower"))
    most = [float(gap) if gap < BROKEN_OFF * usual else usual for gap in (*gaps, usual)]
    return tuple(replace(p, lasts_s=min(p.lasts_s or m, m)) for p, m in zip(ordered, most, strict=True))


def timed(points: Sequence[TimePoint]) -> Timed:
    """The phases in time, before and after contrast.

    Raises DeclinedError `timing` (missing or contradictory, with the attribute), `missing-role:pre-contrast` or
    `missing-role:post-contrast`.
    """
    clock = believed(points)
    ordered = lasting(sorted((replace(p, begins_s=p.clocks[clock]) for p in points), key=lambda p: p.begins_s))
    check_order(ordered, clock)
    check_distances(ordered, clock)
    injection = injected(ordered, ordered[len(ordered) // 2].begins_s)
    stated = injection is not None
    before, assumptions = split(ordered, injection)
    after = ordered[len(before) :]
    check_enough(before, after)
    check_span(before[-1], after[-1], clock)
    if wanted := lacking(ordered):
        assumptions += (f"NumberOfTemporalPositions says {wanted} phases, and {len(ordered)} are there.",)
    if clock == CLOCKS[-1]:
        assumptions += ("The phases are timed by ContentTime, since AcquisitionTime does not tell them apart.",)
    if injection is None:
        injection = after[0].begins_s
        assumptions += (
            "The headers do not state when contrast was given (ContrastBolusStartTime);"
            " the start of the first phase after contrast is taken for it.",
        )
    first = after[0].begins_s
    if not first - LONGEST_BEFORE_S <= injection <= first + LONGEST_AFTER_S:
        apart = f"{abs(first - injection):.0f} s {'before' if injection < first else 'after'}"
        raise DeclinedError("timing", f"ContrastBolusStartTime lies {apart} the first phase with contrast")
    return Timed(
        clock=clock,
        before=before,
        after=after,
        injection_s=injection,
        assumptions=assumptions,
        injection_stated=stated,
        contrast_stated=stated or agent_tells(ordered),
    )


def lacking(ordered: Sequence[TimePoint]) -> int:
    """The number of phases that a series says there are, where neither it nor all together have as many; else 0."""
    count = Counter(p.series.series_uid for p in ordered)
    told = (p.expected for p in ordered if p.expected not in (None, len(ordered), count[p.series.series_uid]))
    return max((n for n in told if n), default=0)


def in_order(points: Sequence[TimePoint]) -> Ordered:
    """The phases in time where a clock tells them apart, else in the order of their temporal positions.

    Raises DeclinedError as `timed` does, and `timing` where anything speaks against the positions or against the phases
    that would be taken for those before contrast.
    """
    if complete_clock(points):
        return timed(points)
    untimed = without_clock(points)
    ordered = tuple(sorted(points, key=lambda p: p.position or 0))
    if doubt := doubt_of_positions(ordered):
        raise DeclinedError("timing", f"{untimed}, and {POSITION} cannot stand for it: {doubt}")
    before, assumptions = split(ordered, None)
    after = ordered[len(before) :]
    check_enough(before, after)
    if before[-1].contrast:
        raise DeclinedError("timing", f"{untimed}, and ContrastBolusAgent is named in every phase")
    check_injection(ordered, before)
    why = (
        f"The phases are ordered by their temporal positions ({POSITION}), because their times are missing: {untimed}."
    )
    return Ordered(before=before, after=after, assumptions=(why, *assumptions), contrast_stated=agent_tells(ordered))


def doubt_of_positions(ordered: Sequence[TimePoint]) -> str:
    """What speaks against the temporal positions, "" for nothing: one lacks, they are not 1 to n, or a clock disagrees.

    A clock that is the same for all phases is that of the series and says nothing.
    """
    count = len(ordered)
    for point in ordered:
        if len({f.temporal_position for f in point.frames}) > 1 or point.position is None:
            return f"it is missing in, or not the same for, the images of a phase ({name(point.series)})"
    positions = [p.position for p in ordered]
    if positions != list(range(1, count + 1)):
        return f"it says {', '.join(map(str, positions))}, not 1 to {count}, each once"
    for wanted in (p.expected for p in ordered):
        if wanted and wanted != count:
            return f"NumberOfTemporalPositions says {wanted} phases, and {count} are there"
    for clock, values in readings(ordered):
        if not constant(values) and np.diff(values).min() < APART_S:
            return f"{clock} does not rise with it"
    return ""


def readings(ordered: Sequence[TimePoint]) -> list[tuple[str, list[float]]]:
    """What each clock says of the phases that have it; seconds since a series began are compared within the series."""
    found = [(c, [p.clocks[c] for p in ordered if c in p.clocks]) for c in CLOCKS]
    for uid in {p.series.series_uid for p in ordered}:
        alike = [p.offsets for p in ordered if p.series.series_uid == uid]
        found += [(c, [o[c] for o in alike if c in o]) for c in OFFSETS]
    return found


def constant(values: Sequence[float]) -> bool:
    return not values or max(values) - min(values) < APART_S


def check_injection(ordered: Sequence[TimePoint], before: Sequence[TimePoint]) -> None:
    """Whether the acquisition times that are there put contrast after `before`, too. Raises DeclinedError `timing`."""
    known = [replace(p, begins_s=p.clocks[CLOCKS[0]]) for p in ordered if CLOCKS[0] in p.clocks]
    if constant([p.begins_s for p in known]):
        known = known[:1]  # when the series began, which is when its first phase did
    injection = injected(ordered, known[len(known) // 2].begins_s if known else 0.0)
    if injection is None or not known:
        return
    told, _ = split(known, injection)
    if [p.position for p in told] != [p.position for p in known if p.position in {b.position for b in before}]:
        raise DeclinedError("timing", f"ContrastBolusStartTime and {CLOCKS[0]} put contrast between other phases")


def check_enough(before: Sequence[TimePoint], after: Sequence[TimePoint]) -> None:
    """Raises DeclinedError `missing-role:pre-contrast` and `missing-role:post-contrast`."""
    if not before:
        raise DeclinedError("missing-role:pre-contrast", "every dynamic phase was acquired after contrast was given")
    if len(after) < 2:
        raise DeclinedError("missing-role:post-contrast", f"{len(after)} phase after contrast, at least 2 are needed")


def believed(points: Sequence[TimePoint]) -> str:
    """The first clock that every phase has and that tells all apart. Raises DeclinedError `timing`."""
    clock = complete_clock(points)
    if not clock:
        raise DeclinedError("timing", without_clock(points))
    if clock == CLOCKS[-1] and (times := copied_at(points)):
        raise DeclinedError(
            "timing",
            f"each AcquisitionTime is that of {times} phases, which only ContentTime tells apart: series stored more than once",
        )
    if clock == CLOCKS[-1] and (pair := sharing(points)):
        raise DeclinedError(
            "timing",
            f"the AcquisitionTime of {name(pair[0].series)} is that of {name(pair[1].series)}, too, and only ContentTime tells"
            " them apart: one is made from the other",
        )
    return clock


def sharing(points: Sequence[TimePoint]) -> tuple[TimePoint, TimePoint] | None:
    """Two phases of different series with one acquisition time, where all have one and not all the same."""
    known = sorted((p for p in points if CLOCKS[0] in p.clocks), key=lambda p: p.clocks[CLOCKS[0]])
    if len(known) < len(points) or constant([p.clocks[CLOCKS[0]] for p in known]):
        return None
    pairs = ((a, b) for a, b in pairwise(known) if a.series.series_uid != b.series.series_uid)
    return next((p for p in pairs if p[1].clocks[CLOCKS[0]] - p[0].clocks[CLOCKS[0]] < APART_S), None)


def copied_at(points: Sequence[TimePoint]) -> int:
    """How many series share each acquisition time, where all phases are there equally often and not all at one time; else 0."""
    of_time: dict[int, set[str]] = {}
    for point in points:
        if CLOCKS[0] not in point.clocks:
            return 0
        of_time.setdefault(round(point.clocks[CLOCKS[0]]), set()).add(point.series.series_uid)
    counts = {len(uids) for uids in of_time.values()}
    (often,) = counts if len(counts) == 1 else (0,)
    return often if often > 1 and len(of_time) > 1 and often * len(of_time) == len(points) else 0


def complete_clocks(points: Sequence[TimePoint]) -> list[str]:
    return [c for c in CLOCKS if all(c in p.clocks for p in points)]


def complete_clock(points: Sequence[TimePoint]) -> str:
    apart = (c for c in complete_clocks(points) if np.diff(sorted(p.clocks[c] for p in points)).min() >= APART_S)
    return next(apart, "")


def without_clock(points: Sequence[TimePoint]) -> str:
    """Why no clock tells the phases apart."""
    complete = complete_clocks(points)
    where = next((p for p in points if CLOCKS[0] not in p.clocks), points[0])
    missing = ", ".join(c for c in CLOCKS if c not in complete and c != "AcquisitionDateTime")
    if complete:
        same = f"{' and '.join(complete)} {'is' if len(complete) == 1 else 'are'} the same for some phases"
        return f"{same}, and {missing} are missing ({name(where.series)})"
    return f"AcquisitionTime (or ContentTime, TriggerTime) is missing in {name(where.series)}"


def check_order(ordered: Sequence[TimePoint], clock: str) -> None:
    """Whether what else orders the phases agrees. Raises DeclinedError `timing` with both attributes."""
    others: dict[str, Sequence[float | None]] = {POSITION: [p.position for p in ordered]}
    others |= {c: [p.clocks.get(c) for p in ordered] for c in (CLOCKS[0], CLOCKS[-1]) if c != clock}
    for other, values in others.items():
        known = [v for v in values if v is not None]
        if len(set(known)) == len(ordered) and known != sorted(known):
            raise DeclinedError("timing", f"{other} and {clock} order the phases differently")


def check_distances(ordered: Sequence[TimePoint], clock: str) -> None:
    """Whether the clocks that count from a series' begin keep the phases as far apart as the one that is believed.

    Raises DeclinedError `timing` with both attributes.
    """
    for uid in {p.series.series_uid for p in ordered}:
        alike = [p for p in ordered if p.series.series_uid == uid]
        for other in OFFSETS:
            told = [p.offsets[other] for p in alike if other in p.offsets]
            if other == clock or len(told) < len(alike) or len(set(told)) < len(told) or constant(told):
                continue
            apart = np.abs(np.diff(told) - np.diff([p.begins_s for p in alike]))
            if len(apart) and apart.max() > DISAGREE_S:
                raise DeclinedError(
                    "timing", f"{clock} and {other} differ by {apart.max():.0f} s in how far two phases lie apart"
                )


def check_span(before: TimePoint, last: TimePoint, clock: str) -> None:
    """Raises DeclinedError `timing` where the phases cannot be of one examination."""
    if (span := last.begins_s - before.begins_s) > LONGEST_S:
        raise DeclinedError(
            "timing",
            f"by {clock} and its date the phase before contrast lies {span / 3600:.1f} h before the last one:"
            " not one examination, or a wrong date",
        )
