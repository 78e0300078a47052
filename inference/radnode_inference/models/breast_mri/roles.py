"""Which images of a breast MR are T2, diffusion, ADC, before contrast and each phase after it, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

from radnode_inference.frames import Frame
from radnode_inference.geometry import stack
from radnode_inference.match import name
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.roles_diffusion import diffusion
from radnode_inference.models.breast_mri.roles_dixon import is_water, not_water
from radnode_inference.models.breast_mri.roles_dynamic import dynamic, quantitative
from radnode_inference.models.breast_mri.roles_images import ImageSet, whole
from radnode_inference.models.breast_mri.roles_points import TimePoint
from radnode_inference.models.breast_mri.roles_series import SIDES, Seen, see
from radnode_inference.models.breast_mri.roles_times import Ordered, Timed, in_order, timed
from radnode_inference.models.breast_mri.roles_words import (
    NOT_MAGNITUDE,
    SAID_ADC,
    SAID_DIFFUSION,
    SAID_DYNAMIC,
    SAID_EXPONENTIAL,
    SAID_MAP,
    SUBTRACTED,
    TRACE,
    is_projection,
    names_subtraction,
    word_set,
)
from radnode_inference.study import Study

FEWEST_SLICES = 8
T2_ECHO_MS, T2_REPETITION_MS = 60.0, 1500.0
T1_REPETITION_MS, T1_ECHO_MS = 30.0, 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """One time point, of which the place among the others is known and perhaps not the time."""

    images: ImageSet


@dataclass(frozen=True, kw_only=True, eq=False)
class Phase(Ranked):
    """One time point. after_injection_s: the middle of its acquisition, seconds after contrast was given (negative: before).

    after_first_s: the same, in seconds after the first phase with contrast began.
    """

    after_injection_s: float
    after_first_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class OtherRoles:
    """What there is beside a dynamic series. dwi: b value in s/mm2 -> images, ascending.

    dwi_unused: why diffusion images that are there are not among them, "" where all b values are. reasons: per series one
    sentence.
    """

    t2: ImageSet | None
    dwi: dict[float, ImageSet]
    dwi_unused: str
    adc: ImageSet | None
    subtractions: tuple[str, ...]
    reasons: dict[str, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class OrderedRoles(OtherRoles):
    """The roles of a study whose phases are in order. pre: the last one before contrast; before: what lies before it.

    posts: at least two. assumptions: what the headers did not state and was taken as true. contrast_stated: whether they
    say which phases are after contrast; injection_stated: whether by the time of the injection.
    """

    pre: Ranked
    before: tuple[Ranked, ...]
    posts: tuple[Ranked, ...]
    assumptions: tuple[str, ...]
    contrast_stated: bool
    injection_stated: bool

    @property
    def times_s(self) -> tuple[float, ...]:
        """Of the posts, seconds after the injection; () where they are not known."""
        return ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Roles(OrderedRoles):
    """All roles of a study, the phases in time.

    side: L, R, B or "" (unknown): which breast the dynamic series shows, and what says so. fat_suppressed: of the dynamic series; None: not
    stated.
    """

    pre: Phase
    before: tuple[Phase, ...]
    posts: tuple[Phase, ...]
    side: str
    side_by: str
    fat_suppressed: bool | None

    @property
    def times_s(self) -> tuple[float, ...]:
        return tuple(p.after_injection_s for p in self.posts)


def roles_of(study: Study) -> Roles:
    """The roles of the series of a breast MR.

    Raises DeclinedError `missing-role:dynamic`, `missing-role:pre-contrast`, `missing-role:post-contrast`, `timing` and
    `scaling`.
    """
    seen, reasons = sorted_by_role(study)
    try:
        points, one, known = dynamic(seen["dynamic"], reasons)
        points, scaled = quantitative(points)
        found = timed(points)
    except DeclinedError as e:
        raise DeclinedError(e.gate, e.sentence, tuple(reasons.values())) from e
    describe_phases(found, reasons)
    others = beside(seen, reasons)
    return Roles(
        **vars(others),
        pre=phase(found, found.before[-1]),
        before=tuple(phase(found, p) for p in found.before[:-1]),
        posts=tuple(phase(found, p) for p in found.after),
        side=one.side,
        side_by=one.side_by,
        assumptions=(*found.assumptions, *scaled, *known),
        contrast_stated=found.contrast_stated,
        injection_stated=found.injection_stated,
        fat_suppressed=is_water(one.technique.words, one.series.description) or one.technique.fat_suppressed,
    )


def roles_in_order(study: Study) -> OrderedRoles:
    """The roles for a reader to whom the order of the phases is enough: by temporal position where times are missing.

    Raises DeclinedError as `roles_of` does, `timing` also where the positions do not stand for the times.
    """
    seen, reasons = sorted_by_role(study)
    try:
        points, _, known = dynamic(seen["dynamic"], reasons)
        points, scaled = quantitative(points)
        found = in_order(points)
    except DeclinedError as e:
        raise DeclinedError(e.gate, e.sentence, tuple(reasons.values())) from e
    describe_phases(found, reasons)
    return OrderedRoles(
        **vars(beside(seen, reasons)),
        pre=Ranked(images=images_of(found.before[-1])),
        before=tuple(Ranked(images=images_of(p)) for p in found.before[:-1]),
        posts=tuple(Ranked(images=images_of(p)) for p in found.after),
        assumptions=(*found.assumptions, *scaled, *known),
        contrast_stated=found.contrast_stated,
        injection_stated=found.injection_stated,
    )


def roles_without_dynamic(study: Study) -> OtherRoles:
    """The other roles of a study whose dynamic series is not there or cannot be used."""
    return beside(*sorted_by_role(study))


def beside(seen: dict[str, list[Seen]], reasons: dict[str, str]) -> OtherRoles:
    weighted = diffusion(seen["dwi"], reasons)
    return OtherRoles(
        t2=best(seen["t2"]),
        dwi=weighted.images,
        dwi_unused=weighted.unused,
        adc=best(seen["adc"]),
        subtractions=tuple(s.series.series_uid for s in seen["subtraction"]),
        reasons=reasons,
    )


def sorted_by_role(study: Study) -> tuple[dict[str, list[Seen]], dict[str, str]]:
    """The series of each role, and for every series of the study the reason for its role or for none."""
    reasons: dict[str, str] = {}
    seen: dict[str, list[Seen]] = {"dynamic": [], "t2": [], "dwi": [], "adc": [], "subtraction": []}
    for series in study.series:
        if series.modality != "MR":
            reasons[series.series_uid] = f"{name(series)}: not used, modality {series.modality or 'unknown'}"
            continue
        try:
            parts = see(series)
        except DeclinedError as e:
            reasons[series.series_uid] = f"{name(series)}: not used, {e.sentence}"
            continue
        told: list[str] = []
        for one in parts:
            role, reason = role_of(one)
            side = f"; {SIDES[one.side]}" + (f" by {one.side_by}" if one.side else "") if role else ""
            count = f"{len(one.frames)} images " if len(parts) > 1 else ""
            told.append(f"{count}{role or 'not used'}, {reason}{side}")
            if role:
                seen[role].append(one)
        reasons[series.series_uid] = f"{name(series)}: {'; '.join(told)}"
    return seen, reasons


def role_of(seen: Seen) -> tuple[str, str]:
    """The role that a series' attributes speak for, "" for none, and the reason. Descriptions count last."""
    t, count = seen.technique, len(seen.frames)
    if is_projection(t.words):
        return "", "a localizer, projection or reformatted image by ImageType"
    if t.words & SUBTRACTED:
        return "subtraction", "a subtraction by ImageType"
    if (t.words | word_set(seen.series.description)) & SAID_EXPONENTIAL:
        return "", "an exponential map, not of the coefficient"
    if t.words & NOT_MAGNITUDE and "M" not in t.words:
        return "", "phase, real or imaginary images by ImageType"
    if "ADC" in t.words:
        return "adc", "an ADC map by ImageType"
    if "DERIVED" in t.words and TRACE not in t.words and word_set(seen.series.description) & SAID_ADC:
        return "adc", "a derived image, an ADC map by its description"
    if by_b_value(seen):
        values = ", ".join(f"{b:g}" for b in sorted({f.b_value for f in seen.facts if f.b_value is not None}))
        return "dwi", f"diffusion-weighted by its b values ({values})"
    if count < FEWEST_SLICES:
        return "", f"only {count} images"
    if by := not_water(t.words, seen.series.description):
        return "", f"the fat, in-phase or out-of-phase images of a Dixon acquisition by {by}; the water images are read"
    if is_water(t.words, seen.series.description):
        role, reason = original_role(seen)
        return role, f"water of a Dixon acquisition, {reason}"
    return derived_role(seen) if "DERIVED" in t.words else original_role(seen)


def by_b_value(seen: Seen) -> bool:
    """Whether the b values speak for diffusion. One of 0 alone does not: GE and Philips write it into every MR image."""
    values = {f.b_value for f in seen.facts if f.b_value is not None}
    t = seen.technique
    said = "GR" not in t.kinds and bool(t.said & SAID_DIFFUSION)
    return bool(values - {0.0}) or (bool(values) and ("EP" in t.kinds or "DIFFUSION" in t.words or said))


def derived_role(seen: Seen) -> tuple[str, str]:
    """Of images computed from others: the attributes do not say from what, so the description has to."""
    if names_subtraction(seen.series.description):
        return "subtraction", "a derived image, a subtraction by its description"
    if seen.technique.said & SAID_ADC:
        return "adc", "a derived image, an ADC map by its description"
    return "", "a derived image that no attribute names"


def original_role(seen: Seen) -> tuple[str, str]:
    """Of acquired images, by how they were acquired; where no attribute says that, by the description."""
    t = seen.technique
    by = "by the sequence's name" if t.by_name else "by ScanningSequence"
    if names_subtraction(seen.series.description):
        return "subtraction", "a subtraction by its description (ImageType does not say so)"
    if word_set(seen.series.description) & SAID_MAP:
        return "", "a projection or a map by its description (ImageType does not say so)"
    if t.said & SAID_ADC:
        return "adc", "an ADC map by its description (ImageType does not say so)"
    if "EP" in t.kinds or "DIFFUSION" in t.words:
        return "dwi", f"diffusion {by if 'EP' in t.kinds else 'by ImageType'}; no b value is stated"
    long_ = (t.echo_ms or 0) >= T2_ECHO_MS and (t.repetition_ms or 0) >= T2_REPETITION_MS
    if t.said & SAID_DIFFUSION and "GR" not in t.kinds:
        return "dwi", "diffusion by its description; no b value is stated"
    if long_ and "GR" not in t.kinds:
        return "t2", f"TE {t.echo_ms:g} and TR {t.repetition_ms:g} ms" + (f", spin echo {by}" if t.kinds else "")
    if "SE" in t.kinds and (t.echo_ms is None or t.repetition_ms is None) and "T2" in t.said | t.words:
        return "t2", "spin echo, T2 by its description (EchoTime or RepetitionTime is missing)"
    short = (t.repetition_ms or 0) <= T1_REPETITION_MS and (t.echo_ms or 0) <= T1_ECHO_MS
    stated = bool(t.repetition_ms or t.echo_ms)
    if "GR" in t.kinds and short and (stated or t.dimensions == "3D"):
        timing = f" with TR {t.repetition_ms:g} ms" if t.repetition_ms else ""
        return "dynamic", f"a T1-weighted gradient echo {by}{timing}"
    if not t.kinds and stated and short and t.dimensions == "3D":
        return "dynamic", "a short TR and TE in 3D (no ScanningSequence)"
    if not t.kinds and t.said & SAID_DYNAMIC:
        return "dynamic", "dynamic by its description (no ScanningSequence)"
    return "", "neither T1-weighted gradient echo, T2, diffusion nor ADC"


def describe_phases(found: Ordered, reasons: dict[str, str]) -> None:
    """Add to the reason of every dynamic series which phases it holds."""
    times: dict[str, list[str]] = {}
    for point in (*found.before, *found.after):
        times.setdefault(point.series.series_uid, []).append(
            found.named(point) + (" (before contrast)" if point in found.before else "")
        )
    at = " at" if isinstance(found, Timed) else ""
    for uid, said in times.items():
        reasons[uid] += f"; {'phases' if len(said) > 1 else 'phase'}{at} {', '.join(said)} by {found.by}"


def phase(found: Timed, point: TimePoint) -> Phase:
    centre, first = found.centre_s(point), found.after[0].begins_s - found.injection_s
    return Phase(images=images_of(point), after_injection_s=centre, after_first_s=centre - first)


def images_of(point: TimePoint) -> ImageSet:
    return ImageSet(series_uid=point.series.series_uid, frames=point.frames)


def best(candidates: list[Seen]) -> ImageSet | None:
    """The series with most slices that is one volume; where none lies as one, of those in which no place repeats."""
    volumes = [s for s in candidates if whole(s.frames)]
    if not volumes:
        return None
    chosen = max(volumes, key=lambda s: (is_stack(s.frames), len(s.frames)))
    return ImageSet(series_uid=chosen.series.series_uid, frames=chosen.frames)


def is_stack(frames: Sequence[Frame]) -> bool:
    """Whether frames lie as one volume. A scout in three planes does not."""
    try:
        stack(frames)
    except DeclinedError:
        return False
    return True
