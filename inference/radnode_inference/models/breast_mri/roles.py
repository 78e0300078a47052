"""Which images of a breast MR are T2, diffusion, ADC, before contrast and each phase after it, and why."""

import re
from dataclasses import dataclass

import numpy as np

from radnode_inference.frames import Frame
from radnode_inference.load import load_frames
from radnode_inference.match import name
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.roles_series import (
    DAY_S,
    NOT_SOURCES,
    SUBTRACTED,
    Seen,
    TimePoint,
    seconds,
    see,
    time_points,
)
from radnode_inference.study import Study
from radnode_inference.volume import Volume

FEWEST_SLICES = 8
T2_ECHO_MS, T2_REPETITION_MS = 60.0, 1500.0
T1_REPETITION_MS, T1_ECHO_MS = 30.0, 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Images that form one volume in one role; read by `volume`."""

    series_uid: str
    frames: tuple[Frame, ...]

    def volume(self) -> Volume:
        """Raises DeclinedError as `load.load_frames` does."""
        return load_frames(self.frames, self.series_uid)


@dataclass(frozen=True, kw_only=True, eq=False)
class Phase:
    """One time point. after_injection_s: the middle of its acquisition, seconds after contrast was given (negative: before)."""

    images: ImageSet
    after_injection_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Roles:
    """The roles of a study. posts: at least two, in time. dwi: b value in s/mm2 -> images, ascending.

    reasons: per series one sentence. assumptions: what the headers did not state and was taken as true.
    fat_suppressed: of the dynamic series; None where the header does not say.
    """

    pre: Phase
    posts: tuple[Phase, ...]
    t2: ImageSet | None
    dwi: dict[float, ImageSet]
    adc: ImageSet | None
    subtractions: tuple[str, ...]
    reasons: dict[str, str]
    assumptions: tuple[str, ...]
    fat_suppressed: bool | None


def roles_of(study: Study) -> Roles:
    """The roles of the series of a breast MR.

    Raises DeclinedError `missing-role:dynamic`, `missing-role:pre-contrast`, `missing-role:post-contrast` and `timing`.
    """
    reasons: dict[str, str] = {}
    seen: dict[str, list[Seen]] = {"dynamic": [], "t2": [], "dwi": [], "adc": [], "subtraction": []}
    for series in study.series:
        if series.modality != "MR":
            reasons[series.series_uid] = f"{name(series)}: not used, modality {series.modality or 'unknown'}"
            continue
        try:
            one = see(series)
        except DeclinedError as e:
            reasons[series.series_uid] = f"{name(series)}: not used, {e.sentence}"
            continue
        role, reason = role_of(one)
        reasons[series.series_uid] = f"{name(series)}: {role or 'not used'}, {reason}"
        if role:
            seen[role].append(one)
    points, technique = dynamic(seen["dynamic"], reasons)
    pre, posts, assumptions = phases(points, technique.technique.contrast_time)
    return Roles(
        pre=pre,
        posts=posts,
        t2=best(seen["t2"]),
        dwi=by_b_value(seen["dwi"]),
        adc=best(seen["adc"]),
        subtractions=tuple(s.series.series_uid for s in seen["subtraction"]),
        reasons=reasons,
        assumptions=assumptions,
        fat_suppressed=technique.technique.fat_suppressed,
    )


def role_of(seen: Seen) -> tuple[str, str]:
    """The role that a series' attributes speak for, "" for none, and the reason."""
    t, words = seen.technique, set(re.findall(r"[A-Z0-9_]+", seen.technique.description))
    if t.words & NOT_SOURCES:
        return "", "a localizer, projection or reformatted image by ImageType"
    if t.words & SUBTRACTED or words & SUBTRACTED:
        return "subtraction", "a subtraction by " + ("ImageType" if t.words & SUBTRACTED else "its description")
    if "ADC" in t.words or "ADC" in words or "APPARENT" in words:
        return "adc", "an ADC map by " + ("ImageType" if "ADC" in t.words else "its description")
    if any(b is not None for b in seen.b_values) or ("EP" in t.kinds and "DIFFUSION" in t.words | words):
        return "dwi", "diffusion-weighted by its b values" if seen.b_values[0] is not None else "diffusion by ImageType"
    if "DERIVED" in t.words and "SECONDARY" in t.words and len(seen.frames) < FEWEST_SLICES:
        return "", "a derived image"
    if len(seen.frames) < FEWEST_SLICES:
        return "", f"only {len(seen.frames)} images"
    if "SE" in t.kinds and (t.echo_ms or 0) >= T2_ECHO_MS and (t.repetition_ms or 0) >= T2_REPETITION_MS:
        return "t2", f"a spin echo with TE {t.echo_ms:g} and TR {t.repetition_ms:g} ms"
    short = 0 < (t.repetition_ms or 0) <= T1_REPETITION_MS and (t.echo_ms or 0) <= T1_ECHO_MS
    if "GR" in t.kinds and short:
        return "dynamic", f"a T1-weighted gradient echo with TR {t.repetition_ms:g} ms"
    if not t.kinds and words & {"DYN", "DYNAMIC", "DCE", "VIBRANT", "THRIVE", "FLASH3D"}:
        return "dynamic", "dynamic by its description (no ScanningSequence)"
    if not t.kinds and "T2" in words:
        return "t2", "T2 by its description (no ScanningSequence)"
    return "", "neither T1-weighted gradient echo, T2, diffusion nor ADC"


def dynamic(candidates: list[Seen], reasons: dict[str, str]) -> tuple[list[TimePoint], Seen]:
    """The time points of the largest family of alike series. Raises DeclinedError `missing-role:dynamic`."""
    families: dict[tuple[object, ...], list[Seen]] = {}
    for one in candidates:
        families.setdefault(likeness(one), []).append(one)
    counted = [([p for one in family for p in time_points(one)], family) for family in families.values()]
    if not counted:
        raise DeclinedError("missing-role:dynamic", "there is no dynamic T1-weighted gradient echo series")
    points, family = max(counted, key=lambda c: (len(c[0]), len(c[1][0].frames)))
    if len(points) < 2:
        raise DeclinedError("missing-role:dynamic", "the T1-weighted images show one time point only")
    used = {one.series.series_uid for one in family}
    for one in candidates:
        if one.series.series_uid not in used:
            reasons[one.series.series_uid] = f"{name(one.series)}: not used, unlike the dynamic series"
    return points, family[0]


def likeness(seen: Seen) -> tuple[object, ...]:
    """Equal for series that were acquired alike. Where they lie is not asked: a shifted phase must be declined, not dropped."""
    f, t = seen.frames[0], seen.technique
    return (
        f.shape,
        tuple(round(v, 3) for v in f.pixel_spacing),
        tuple(np.round(np.abs(f.normal), 2)),
        None if t.repetition_ms is None else round(t.repetition_ms, 1),
        None if t.flip is None else round(t.flip),
    )


def phases(points: list[TimePoint], contrast_time: str) -> tuple[Phase, tuple[Phase, ...], tuple[str, ...]]:
    """Before and after contrast, with the time after injection, and what had to be assumed.

    Raises DeclinedError `timing`, `missing-role:pre-contrast` or `missing-role:post-contrast`.
    """
    untimed = [p for p in points if p.begins_s is None]
    if untimed:
        where = name(untimed[0].series)
        raise DeclinedError("timing", f"AcquisitionTime (or ContentTime, TriggerTime) is missing in {where}")
    points = sorted(points, key=begins)
    injection = next((t for p in points if (t := injected(p, contrast_time)) is not None), None)
    before, assumptions = split(points, injection)
    after = [p for p in points if p not in before]
    if not before:
        raise DeclinedError("missing-role:pre-contrast", "every dynamic phase was acquired after contrast was given")
    if len(after) < 2:
        raise DeclinedError("missing-role:post-contrast", f"{len(after)} phase after contrast, at least 2 are needed")
    lasts = duration(after)
    if injection is None or not -120 <= begins(after[0]) - injection <= 900:
        injection = begins(after[0])
        assumptions += (
            "The headers do not state when contrast was given (ContrastBolusStartTime);"
            " the start of the first phase after contrast is taken for it.",
        )
    made = [
        Phase(
            images=ImageSet(series_uid=p.series.series_uid, frames=p.frames),
            after_injection_s=begins(p) + (p.lasts_s or lasts) / 2 - injection,
        )
        for p in (before[-1], *after)
    ]
    return made[0], tuple(made[1:]), assumptions


def split(points: list[TimePoint], injection: float | None) -> tuple[list[TimePoint], tuple[str, ...]]:
    """The phases before contrast, and what had to be assumed to tell."""
    before = [p for p in points if p.contrast is False]
    given = [p for p in points if p.contrast]
    if before and given and max(map(begins, before)) < min(map(begins, given)):
        return before, ()
    if injection is not None:
        return [p for p in points if begins(p) + (p.lasts_s or 0) / 2 < injection], ()
    return points[:1], (
        "The headers do not state which phases were acquired after contrast (ContrastBolusAgent);"
        " the first in time is taken for the one before it.",
    )


def begins(point: TimePoint) -> float:
    return point.begins_s or 0.0


def injected(point: TimePoint, shared_time: str) -> float | None:
    """When contrast was given, on the same clock as the phase's time."""
    written = seconds(point.frames[0].header.text("ContrastBolusStartTime") or shared_time)
    if written is None or point.begins_s is None:
        return None
    return written if written >= DAY_S else written + point.begins_s // DAY_S * DAY_S


def duration(points: list[TimePoint]) -> float:
    """How long a phase takes where it does not say so: the shortest step between phases."""
    steps = np.diff([begins(p) for p in points])
    return float(steps.min()) if len(steps) else 60.0


def best(candidates: list[Seen]) -> ImageSet | None:
    """The series with most slices that is one volume."""
    whole = [s for s in candidates if len({tuple(np.round(f.position, 2)) for f in s.frames}) == len(s.frames)]
    if not whole:
        return None
    chosen = max(whole, key=lambda s: len(s.frames))
    return ImageSet(series_uid=chosen.series.series_uid, frames=chosen.frames)


def by_b_value(candidates: list[Seen]) -> dict[float, ImageSet]:
    """The images of each b value; a value whose places repeat (directions not averaged) is left out."""
    groups: dict[float, list[tuple[str, Frame]]] = {}
    for one in candidates:
        for frame, b in zip(one.frames, one.b_values, strict=True):
            if b is not None:
                groups.setdefault(b, []).append((one.series.series_uid, frame))
    found = {}
    for b, pairs in sorted(groups.items()):
        frames = tuple(f for _, f in pairs)
        if len({uid for uid, _ in pairs}) == 1 and len({tuple(np.round(f.position, 2)) for f in frames}) == len(frames):
            found[b] = ImageSet(series_uid=pairs[0][0], frames=frames)
    return found
