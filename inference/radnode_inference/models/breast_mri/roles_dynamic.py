"""Which of the T1-weighted series are the dynamic one, and its phases on one scale."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from radnode_inference.frames import Frame
from radnode_inference.match import name
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.roles_points import CLOCKS, TimePoint, time_points
from radnode_inference.models.breast_mri.roles_series import Seen
from radnode_inference.models.breast_mri.roles_times import complete_clock

UNEQUAL = 1e-3
CORRECTED = frozenset(("ND", "NORM", "DIS2D", "DIS3D", "FIL", "FM"))
"""Words of Image Type (Siemens) that tell apart images made twice of one acquisition, with and without corrections."""
UNDISTORTED = frozenset(("DIS2D", "DIS3D"))
LEAST_SPAN_S = 150.0
"""A series that ends sooner (ultrafast, of the first pass) has no early and late phase; one beside it may have."""

Family = list[Seen]


def dynamic(candidates: list[Seen], reasons: dict[str, str]) -> tuple[list[TimePoint], Seen]:
    """The time points of the best family of alike series.

    Raises DeclinedError `missing-role:dynamic`, and `timing` where the images of the largest cannot be told apart.
    """
    families: dict[tuple[object, ...], Family] = {}
    for one in candidates:
        families.setdefault(likeness(one), []).append(one)
    told, untold = told_apart(list(families.values()), reasons)
    if not families:
        raise DeclinedError("missing-role:dynamic", "there is no dynamic T1-weighted gradient echo series")
    points, family = max(told, key=lambda c: worth(*c), default=([], []))
    larger = [e for e, other in untold if len(points) < 2 or images_in(other) > images_in(family)]
    if larger:  # what cannot be told apart is more likely the dynamic series than what can
        raise larger[0]
    if len(points) < 2:
        raise DeclinedError("missing-role:dynamic", "the T1-weighted images show one time point only")
    used = {one.series.series_uid for one in family}
    unlike = [one for _, other in told for one in other if one.series.series_uid not in used]
    for one in unlike:
        reasons[one.series.series_uid] = f"{name(one.series)}: not used, unlike the dynamic series"
    return points, family[0]


def told_apart(
    families: Sequence[Family], reasons: dict[str, str]
) -> tuple[list[tuple[list[TimePoint], Family]], list[tuple[DeclinedError, Family]]]:
    """The families with their time points, and those of which the images cannot be told apart with what was raised."""
    told: list[tuple[list[TimePoint], Family]] = []
    untold: list[tuple[DeclinedError, Family]] = []
    for family in families:
        try:
            told.append((at_once([p for one in family for p in time_points(one)]), family))
        except DeclinedError as e:
            untold.append((e, family))
            reasons.update({s.series.series_uid: f"{name(s.series)}: not used, {e.sentence}" for s in family})
    return told, untold


def at_once(points: Sequence[TimePoint]) -> list[TimePoint]:
    """The time points, where a series of one alone began with it: so that a phase before contrast in a series of its own,
    which has no Trigger Time, is on the clock of the series whose phases have one."""
    count = Counter(p.series.series_uid for p in points)
    told = {clock for p in points if count[p.series.series_uid] > 1 for clock in p.offsets}
    return [
        replace(p, clocks=dict.fromkeys(told, p.clocks[CLOCKS[0]]) | p.clocks)
        if count[p.series.series_uid] == 1 and CLOCKS[0] in p.clocks
        else p
        for p in points
    ]


def worth(points: Sequence[TimePoint], family: Family) -> tuple[object, ...]:
    """Larger is better: long enough, most time points, corrected images before the same ones without, most slices."""
    clock = complete_clock(points) if len(points) > 1 else ""
    began = [p.clocks[clock] for p in points] if clock else []
    long_enough = not began or max(began) - min(began) >= LEAST_SPAN_S
    first = family[0]
    return long_enough, len(points), bool(first.technique.words & UNDISTORTED), len(first.frames)


def images_in(family: Family) -> int:
    return sum(len(one.frames) for one in family)


def likeness(seen: Seen) -> tuple[object, ...]:
    """Equal for series that were acquired alike. Where they lie is not asked: a shifted phase must be declined, not dropped."""
    f, t = seen.frames[0], seen.technique
    return (
        f.shape,
        tuple(round(v, 3) for v in f.pixel_spacing),
        tuple(np.round(np.abs(f.normal), 2)),
        None if t.repetition_ms is None else round(t.repetition_ms, 1),
        None if t.flip is None else round(t.flip),
        seen.side if seen.side in ("L", "R") else "",
        t.words & CORRECTED,
    )


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
    """Raises DeclinedError where a Philips scanner scaled the phases differently and does not say how it measured them."""
    slopes = [f.slope for f in frames]
    philips = "PHILIPS" in frames[0].header.text("Manufacturer").upper()
    if philips and max(slopes) / min(slopes) >= 1 + UNEQUAL:
        raise DeclinedError(
            "scaling",
            "the scanner scaled the phases differently, and its scale slope (2005,xx0E), which would make them comparable, is missing",
        )


def measured(frame: Frame, scale: float) -> Frame:
    return replace(frame, slope=1 / scale, intercept=frame.intercept / (frame.slope * scale))
