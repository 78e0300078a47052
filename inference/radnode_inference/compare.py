"""What a model found now against what it found in an earlier study of the patient: the same things, and how they changed."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import numpy as np
from scipy.optimize import linear_sum_assignment

from radnode_inference.align import Alignment, align
from radnode_inference.findings import Code, Finding, Findings, Kind, Measurement, Prior
from radnode_inference.header import Header
from radnode_inference.match import contrast_of, kernel_of, thickness_of
from radnode_inference.measure import GRAM, HU, ML, MM, PERCENT, VOLUME, centroid
from radnode_inference.study import Study
from radnode_inference.volume import Affine

REACH_MM = 15.0
"""How far apart the same thing may lie after alignment, beyond its own radius: breathing, posture, the alignment's error."""
GROWN = 0.25
"""Change of volume that measurement error does not explain (BTS guidelines, Callister et al., Thorax 2015;70:ii1)."""
NODULES = frozenset({"427359005", "27925004"})
"""SCT: solitary nodule of lung, nodule; their volume doubling time is reported."""
DOUBLING = Code(value="VDT", scheme="99RADNODE", meaning="Volume doubling time")
DAYS = Code(value="d", scheme="UCUM", meaning="day")
NEVER = 1e9


@dataclass(frozen=True, kw_only=True, eq=False)
class Examined:
    """A study and what a model found in it."""

    study: Study
    findings: Findings

    @property
    def header(self) -> Header:
        """Of the series that carries the result."""
        uid = self.findings.series_uid
        return next((s for s in self.study.series if s.series_uid == uid), self.study.series[0]).headers[0]

    @property
    def day(self) -> str:
        """The study's date as people write it."""
        text = self.header.text("StudyDate")
        return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 else text or "an unknown date"


def compare(now: Examined, then: Examined) -> Findings:
    """The findings of `now`, each with its `prior` where the same thing was found in `then`, and sentences on the rest.

    Things that are named (an organ, the examination) are matched by name; numbered ones (nodule 1, lesion 2) by concept,
    side and place: the centres at most 15 mm and a radius apart in the same frame of reference or after rigid alignment.
    """
    told = [f"Compared with the study of {then.day} ({then.study.study_uid}), read anew by the same model."]
    unlike = differing(now.header, then.header)
    if unlike:
        told.append(f"The two scans differ in {unlike}: densities and masses are not compared.")
    parts = [e for e in (now, then) if e.findings.partial_because]
    if parts:
        told.append("One of the two scans holds only a part: volumes of organs are not compared.")
    pairs = dict(by_name(now.findings.items, then.findings.items)) if not parts else {}
    elsewhere = measured_elsewhere(now.findings, then.findings)
    alignment = None if elsewhere else laid_over(now.findings, then.findings)
    placed, sentences = ({}, elsewhere) if alignment is None else by_place(now.findings, then.findings, alignment)
    pairs |= placed
    items = tuple(
        changed(f, pairs[i], now, then, densities=not unlike) if i in pairs else f
        for i, f in enumerate(now.findings.items)
    )
    missing = [f for f in numbered(then.findings.items) if all(f is not p for p in pairs.values())]
    new = [f for i, f in enumerate(now.findings.items) if is_numbered(f) and i not in pairs]
    if sentences is None:
        told += [told_new(f, now.findings, then, alignment) for f in new]
        told += [told_missing(f, then, now.findings, alignment) for f in missing]
    else:
        told.append(sentences)
    return replace(now.findings, items=items, statements=(*now.findings.statements, *told))


def measured_elsewhere(now: Findings, then: Findings) -> str | None:
    """A sentence where the two were measured in different parts, so that what is in one only is neither new nor gone."""
    parts = [", ".join(sorted(f.tracking_id for f in e.items if f.kind is Kind.EXAMINATION)) for e in (now, then)]
    if parts[0] == parts[1] or not all(parts):
        return None
    return f"Measured in different regions ({parts[0]} now, {parts[1]} then): single findings are not compared."


def is_numbered(finding: Finding) -> bool:
    """Whether it is one of several of its kind, whose number says nothing from one study to the next."""
    return finding.kind is Kind.ABNORMALITY and bool(re.search(r"\d$", finding.tracking_id))


def numbered(items: Sequence[Finding]) -> list[Finding]:
    return [f for f in items if is_numbered(f)]


def by_name(now: Sequence[Finding], then: Sequence[Finding]) -> list[tuple[int, Finding]]:
    """Index of a finding now, and the one of the same name and concept then."""
    known = {(f.tracking_id, f.concept.value): f for f in then if not is_numbered(f)}
    return [
        (i, known[f.tracking_id, f.concept.value])
        for i, f in enumerate(now)
        if not is_numbered(f) and (f.tracking_id, f.concept.value) in known
    ]


def laid_over(now: Findings, then: Findings) -> Alignment | None:
    """The one scan laid over the other; None where no numbered finding has a place, so that nobody asks."""
    placed = any(is_numbered(f) and f.mask is not None for f in (*now.items, *then.items))
    return align(now.volume, then.volume) if placed else None


def told_new(finding: Finding, now: Findings, then: Examined, alignment: Alignment | None) -> str:
    """What to say of a finding that has none like it in the earlier study."""
    if (
        alignment
        and alignment.holds
        and beyond(finding, now, then.findings, np.asarray(np.linalg.inv(alignment.affine), float))
    ):
        return f"{finding.tracking_id}: the study of {then.day} does not show its place."
    return f"{finding.tracking_id}: not found in the study of {then.day}."


def told_missing(finding: Finding, then: Examined, now: Findings, alignment: Alignment | None) -> str:
    """What to say of a finding of the earlier study that has none like it now."""
    if alignment and alignment.holds and beyond(finding, then.findings, now, alignment.affine):
        return f"{finding.tracking_id} of the study of {then.day} lies outside of the present images."
    return f"{finding.tracking_id} of the study of {then.day} is not found now."


def beyond(finding: Finding, of: Findings, other: Findings, move: Affine) -> bool:
    """Whether the centre of a finding, moved into the patient coordinates of the other scan, lies outside of its images."""
    if finding.mask is None:
        return False
    at = (np.linalg.inv(other.volume.affine) @ move @ (*centroid(finding.mask, of.volume), 1.0))[:3]
    return bool((at < -0.5).any() or (at > np.array(other.volume.shape) - 0.5).any())


def by_place(now: Findings, then: Findings, alignment: Alignment) -> tuple[dict[int, Finding], str | None]:
    """Index of a numbered finding now -> the same thing then; and a sentence when places cannot be compared."""
    mine = [i for i, f in enumerate(now.items) if is_numbered(f) and f.mask is not None]
    theirs = [f for f in numbered(then.items) if f.mask is not None]
    if not mine or not theirs:
        return {}, None
    if not alignment.holds:
        alike = f"{alignment.likeness:.2f}"
        return {}, f"The two scans cannot be laid over each other (likeness {alike}): single findings are not compared."
    cost = np.array([[separation(now, now.items[i], then, f, alignment) for f in theirs] for i in mine])
    rows, columns = linear_sum_assignment(cost)
    return {mine[r]: theirs[c] for r, c in zip(rows, columns, strict=True) if cost[r, c] < NEVER}, None


def separation(now: Findings, one: Finding, then: Findings, other: Finding, alignment: Alignment) -> float:
    """How far apart two findings lie, mm; NEVER when they cannot be the same thing."""
    assert one.mask is not None and other.mask is not None
    if one.concept.value != other.concept.value:
        return NEVER
    if one.laterality and other.laterality and one.laterality.value != other.laterality.value:
        return NEVER
    here = np.array(centroid(one.mask, now.volume))
    there = (alignment.affine @ (*centroid(other.mask, then.volume), 1.0))[:3]
    sizes = [
        np.count_nonzero(f.mask) * v.voxel_mm3
        for f, v in ((one, now.volume), (other, then.volume))
        if f.mask is not None
    ]
    reach = REACH_MM + (3 * max(sizes) / (4 * math.pi)) ** (1 / 3)
    away = float(np.linalg.norm(here - there))
    return away if away <= reach else NEVER


def changed(finding: Finding, prior: Finding, now: Examined, then: Examined, *, densities: bool) -> Finding:
    """The finding with its prior, and for a nodule that has grown its volume doubling time."""
    left_out = set() if densities else {HU.value, PERCENT.value, GRAM.value}
    before = {(m.concept.value, m.unit.value): m for m in prior.measurements if m.unit.value not in left_out}
    both = [
        (m, before[m.concept.value, m.unit.value])
        for m in finding.measurements
        if (m.concept.value, m.unit.value) in before
    ]
    if not both:
        return finding
    sentence = "; ".join(change(m, b, then.day) for m, b in both)
    doubling = doubling_days(both, now.header, then.header) if finding.concept.value in NODULES else None
    extra = () if doubling is None else (Measurement(concept=DOUBLING, value=doubling, unit=DAYS),)
    verdict = growth(both) if finding.kind is Kind.ABNORMALITY else ""
    said = Prior(
        study_uid=then.study.study_uid,
        study_date=then.header.text("StudyDate"),
        tracking_uid=prior.tracking_uid,
        measurements=tuple(b for _, b in both),
        sentence=f"{verdict}{sentence}"
        + (f"; volume doubling time {doubling:.0f} days." if doubling is not None else "."),
    )
    return replace(finding, measurements=(*finding.measurements, *extra), prior=said)


def change(now: Measurement, then: Measurement, day: str) -> str:
    """One number and what it was: relative for sizes, absolute for percentages and densities."""
    name, unit = now.concept.meaning, "HU" if now.unit.value == HU.value else now.unit.value
    difference = now.value - then.value
    if now.unit.value in (HU.value, PERCENT.value):
        by = f"{difference:+.3g} {'points' if unit == '%' else unit}"
    else:
        by = f"{100 * difference / then.value:+.0f} %" if then.value else f"{difference:+.3g} {unit}"
    return f"{name} {now.value:.4g} {unit}, on {day} {then.value:.4g} {unit} ({by})"


def growth(both: Sequence[tuple[Measurement, Measurement]]) -> str:
    """Grown, smaller or neither, by volume; "" where there is none."""
    for now, then in both:
        if now.concept.value == VOLUME.value and then.value > 0:
            part = now.value / then.value - 1
            if part >= GROWN:
                return "Larger: "
            return "Smaller: " if part <= -GROWN / (1 + GROWN) else "No change beyond the error of measurement: "
    return ""


def doubling_days(both: Sequence[tuple[Measurement, Measurement]], now: Header, then: Header) -> float | None:
    """Days in which the volume doubles, had it grown exponentially (Schwartz, Cancer 1961;14:1272); None unless it grew."""
    days = days_between(then, now)
    for one, other in both:
        if one.concept.value == VOLUME.value and days and other.value > 0 and one.value / other.value >= 1 + GROWN:
            return days * math.log(2) / math.log(one.value / other.value)
    return None


def days_between(then: Header, now: Header) -> int | None:
    first, second = (day_of(h) for h in (then, now))
    return (second - first).days if first and second else None


def day_of(header: Header) -> date | None:
    try:
        return datetime.strptime(header.text("StudyDate"), "%Y%m%d").date()
    except ValueError:
        return None


def differing(now: Header, then: Header) -> str:
    """In what two CT scans differ so that their densities cannot be compared; "" for nothing, and for other modalities."""
    if now.text("Modality") != "CT":
        return ""
    found = []
    kernels = [kernel_of(h).replace("\\", " ") or "not stated" for h in (now, then)]
    if kernels[0].upper() != kernels[1].upper():
        found.append(f"kernel ({kernels[0]} now, {kernels[1]} then)")
    thickness = [thickness_of(h) or 0.0 for h in (now, then)]
    if abs(thickness[0] - thickness[1]) > 0.5:
        found.append(f"slice thickness ({thickness[0]:g} mm now, {thickness[1]:g} mm then)")
    contrast = [bool(contrast_of(h)) for h in (now, then)]
    if contrast[0] != contrast[1]:
        found.append("contrast medium")
    return " and ".join(found)


def comparable(findings: Findings) -> bool:
    """Whether reading an earlier study could say anything: something has a place or a size, or nothing was found."""
    sizes = {ML.value, MM.value}
    return not findings.items or any(
        f.mask is not None or any(m.unit.value in sizes for m in f.measurements) for f in findings.items
    )
