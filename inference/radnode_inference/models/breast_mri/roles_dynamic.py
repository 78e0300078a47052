"""Which of the T1-weighted series are the dynamic one, and its phases on one scale."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from radnode_inference.frames import Frame
from radnode_inference.match import name
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.roles_copies import in_place, same_pixels
from radnode_inference.models.breast_mri.roles_dixon import is_water
from radnode_inference.models.breast_mri.roles_images import place
from radnode_inference.models.breast_mri.roles_night import over_midnight
from radnode_inference.models.breast_mri.roles_points import CLOCKS, TimePoint, time_points
from radnode_inference.models.breast_mri.roles_series import Seen
from radnode_inference.models.breast_mri.roles_times import complete_clock
from radnode_inference.models.breast_mri.roles_words import CORRECTED, MOVED, UNDISTORTED, word_set

UNEQUAL = 1e-3
EQUAL_MS = 0.06
"""Repetition and echo times that lie no further apart are the same, rounded differently."""
LEAST_SPAN_S = 150.0
"""A series that ends sooner (ultrafast, of the first pass) has no early and late phase; one beside it may have."""

Family = list[Seen]
Told = tuple[list[TimePoint], Family, tuple[str, ...]]
"""The time points of a family, and what is to be said of them."""


def dynamic(candidates: list[Seen], reasons: dict[str, str]) -> tuple[list[TimePoint], Seen, tuple[str, ...]]:
    """The time points of the best family of alike series, one of its series, and what a reader must know of them.

    Raises DeclinedError `missing-role:dynamic`, and `timing` where the images of the largest cannot be told apart.
    """
    families: list[Family] = []
    dated, said = over_midnight(candidates)
    for one in dated:
        family = next((f for f in families if all(alike(other, one) for other in f)), None)
        if family is None:
            families.append([one])
        else:
            family.append(one)
    told, untold = told_apart(families, reasons)
    if not families:
        raise DeclinedError("missing-role:dynamic", "there is no dynamic T1-weighted gradient echo series")
    points, family, copied = max(told, key=lambda c: worth(*c[:2]), default=([], [], ()))
    larger = [e for e, other in untold if len(points) < 2 or images_in(other) > images_in(family)]
    if larger:  # what cannot be told apart is more likely the dynamic series than what can
        raise larger[0]
    if len(points) < 2:
        raise DeclinedError("missing-role:dynamic", "the T1-weighted images show one time point only")
    used = {one.series.series_uid for one in family}
    unlike = [one for _, other, _ in told for one in other if one.series.series_uid not in used]
    for one in unlike:
        reasons[one.series.series_uid] = f"{name(one.series)}: not used, unlike the dynamic series"
    doubts = dict.fromkeys(one.side_doubt for one in family if one.side_doubt)
    return points, family[0], (*said, *copied, *doubts)


def told_apart(
    families: Sequence[Family], reasons: dict[str, str]
) -> tuple[list[Told], list[tuple[DeclinedError, Family]]]:
    """The families with their time points, and those of which the images cannot be told apart with what was raised."""
    told: list[Told] = []
    untold: list[tuple[DeclinedError, Family]] = []
    for family in families:
        try:
            points, said = once(at_once([p for one in family for p in time_points(one)]))
            told.append((points, family, said))
        except DeclinedError as e:
            untold.append((e, family))
            reasons.update({s.series.series_uid: f"{name(s.series)}: not used, {e.sentence}" for s in family})
    return told, untold


def at_once(points: Sequence[TimePoint]) -> list[TimePoint]:
    """The time points, where a series of one alone began with it: so that a phase before contrast in a series of its own,
    which has no Trigger Time, is on the clock of the series whose phases have one."""
    count = Counter(p.series.series_uid for p in points)
    told = {clock for p in points for clock in p.offsets}
    return [
        replace(p, clocks=dict.fromkeys(told, p.clocks[CLOCKS[0]]) | p.clocks)
        if count[p.series.series_uid] == 1 and CLOCKS[0] in p.clocks
        else p
        for p in points
    ]


def worth(points: Sequence[TimePoint], family: Family) -> tuple[object, ...]:
    """Larger is better: long enough, most time points, corrected images before the same ones without, what was
    acquired before what was moved afterwards, most slices."""
    clock = complete_clock(points) if len(points) > 1 else ""
    began = [p.clocks[clock] for p in points] if clock else []
    long_enough = not began or max(began) - min(began) >= LEAST_SPAN_S
    first = family[0]
    undistorted = bool(first.technique.words & UNDISTORTED)
    return long_enough, len(points), undistorted, not is_moved(first), len(first.frames)


def is_moved(seen: Seen) -> bool:
    return bool((seen.technique.words | word_set(seen.series.description)) & MOVED)


def images_in(family: Family) -> int:
    return sum(len(one.frames) for one in family)


def alike(one: Seen, other: Seen) -> bool:
    """Whether two series were acquired alike. What one of them does not state does not part them, and numbers that differ by
    rounding do not either. Where they lie is not asked: a shifted phase must be declined, not dropped."""
    (f, t), (g, u) = (one.frames[0], one.technique), (other.frames[0], other.technique)
    sides = {s.side for s in (one, other)} & {"L", "R"}
    return (
        f.shape == g.shape
        and np.allclose(f.pixel_spacing, g.pixel_spacing, rtol=UNEQUAL)
        and np.allclose(np.abs(f.normal), np.abs(g.normal), atol=0.01)
        and near(t.repetition_ms, u.repetition_ms, EQUAL_MS)
        and near(t.echo_ms, u.echo_ms, EQUAL_MS)
        and near(t.flip, u.flip, 0.5)
        and (None in (t.fat_suppressed, u.fat_suppressed) or t.fat_suppressed == u.fat_suppressed)
        and (not sides or one.side == other.side)
        and t.words & CORRECTED == u.words & CORRECTED
        and is_water(t.words, one.series.description) == is_water(u.words, other.series.description)
        and is_moved(one) == is_moved(other)
    )


def near(one: float | None, other: float | None, most: float) -> bool:
    return one is None or other is None or abs(one - other) <= most


def once(points: Sequence[TimePoint]) -> tuple[list[TimePoint], tuple[str, ...]]:
    """The time points without those that another series holds, too, and what to say of it.

    Kept are those of the series with most of them, then of the one that comes first.
    """
    count = Counter(p.series.series_uid for p in points)
    kept: dict[tuple[object, ...], list[TimePoint]] = {}
    copies = 0
    for point in sorted(points, key=lambda p: -count[p.series.series_uid]):
        clocks = [(name, round(s)) for name, s in sorted(point.clocks.items()) if name != "ContentTime"]
        alike = kept.setdefault((*clocks, *(place(f) for f in in_place(point.frames))), [])
        if any(p.series is not point.series and same_pixels(p.frames, point.frames) for p in alike):
            copies += 1
        else:
            alike.append(point)
    if not copies:
        return list(points), ()
    left = {id(p) for alike in kept.values() for p in alike}
    said = f"{copies} phases are in the study twice, with the same times and pixels; each was counted once."
    return [p for p in points if id(p) in left], (said,)


def quantitative(points: Sequence[TimePoint]) -> tuple[list[TimePoint], tuple[str, ...]]:
    """The phases on one scale, and what to say of it. Raises DeclinedError `scaling` where that cannot be reached.

    Where a Philips scanner scaled each phase differently, stored values become (stored * slope + intercept) /
    (slope * scale slope), which is what was measured (Chenevert et al., Transl Oncol 2014;7:65).
    """
    pairs = [(f, scale) for p in points for f, scale in zip(p.frames, p.scales, strict=True)]
    factors = [f.slope * scale for f, scale in pairs if scale]
    if len(factors) < len(pairs):
        check_scale([f for f, _ in pairs])
        return list(points), ()
    if max(factors) / min(factors) < 1 + UNEQUAL:
        return list(points), ()
    changed = [
        replace(p, frames=tuple(measured(f, s or 1.0) for f, s in zip(p.frames, p.scales, strict=True))) for p in points
    ]
    return changed, ("The scanner scaled the phases differently; its scale slope (2005,xx0E) was applied.",)


def check_scale(frames: Sequence[Frame]) -> None:
    """Raises DeclinedError where a Philips scanner, or one that is not named, scaled the phases differently and does not say
    how it measured them."""
    slopes = [f.slope for f in frames]
    maker = frames[0].header.text("Manufacturer").upper()
    if ("PHILIPS" in maker or not maker) and max(slopes) / min(slopes) >= 1 + UNEQUAL:
        raise DeclinedError(
            "scaling",
            "the scanner scaled the phases differently, and its scale slope (2005,xx0E), which would make them comparable, is missing",
        )


def measured(frame: Frame, scale: float) -> Frame:
    return replace(frame, slope=1 / scale, intercept=frame.intercept / (frame.slope * scale))
