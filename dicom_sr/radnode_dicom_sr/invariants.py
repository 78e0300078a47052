"""What no validator checks: that the objects of one result agree with each other, with the findings and with the images.

Quick enough to stand before the outbox: a result that breaks a rule is held there.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from radnode_dicom_sr import codes
from radnode_dicom_sr.identity import DicomObject
from radnode_dicom_sr.invariants_seg import Shown, shown
from radnode_dicom_sr.invariants_sr import coded, outlines, stated
from radnode_dicom_sr.raw import Raw, parsed
from radnode_dicom_sr.source import IDENTIFYING, exact
from radnode_inference.findings import Findings
from radnode_inference.header import Header
from radnode_inference.study import Study

SAME = (*IDENTIFYING, "StudyInstanceUID")
STUDY_INSTANCE_UID, PREDECESSORS = 0x0020000D, 0x0040A360
REFERENCE = re.compile(rb"\x08\x00\x55\x11UI(..)", re.DOTALL)
"""The head of Referenced SOP Instance UID, wherever it is nested."""
MILLILITRES = {"ml": 1.0, "mL": 1.0, "cm3": 1.0, "mm3": 0.001, "L": 1000.0, "l": 1000.0}
VOLUME_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class Held:
    """One object, parsed."""

    object: DicomObject
    raw: Raw
    header: Header


def check(objects: Sequence[DicomObject], findings: Findings, study: Study) -> tuple[str, ...]:
    """Every rule that is broken, one sentence each; () when the result may leave the house."""
    held: list[Held] = []
    for o in objects:
        try:
            raw, header = parsed(o.body)
        except (ValueError, struct.error) as e:
            return (f"the {o.kind} {o.sop_uid} cannot be read: {e}",)
        held.append(Held(object=o, raw=raw, header=header))
    try:
        drawn = [s for h in held if h.object.kind == "seg" for s in shown(h.object, h.raw, h.header)]
        reports = [h.raw for h in held if h.object.kind == "sr"]
        return (
            *identities(held, study, findings),
            *references(held, study),
            *tracking(held, drawn, findings),
            *volumes(drawn, findings),
            *(sentence for s in drawn for sentence in s.misplaced(findings)),
            *(sentence for report in reports for sentence in outlines(report, findings)),
            *stated(reports, findings),
            *(sentence for h in held for sentence in coded(h.object.kind, h.raw)),
        )
    except (ValueError, LookupError, struct.error) as e:
        return (f"an object of the result is not as the standard has it: {type(e).__name__}: {e}",)


def identities(held: Sequence[Held], study: Study, findings: Findings) -> Iterator[str]:
    """Patient and study identification equal to the source's, each object under its own UID."""
    header = next(s.headers[0] for s in study.series if s.series_uid == findings.series_uid)
    expected = {keyword: exact(header, keyword).rstrip("^= ") for keyword in SAME}
    tags = {**IDENTIFYING, "StudyInstanceUID": STUDY_INSTANCE_UID}
    for h in held:
        for keyword, value in expected.items():
            if h.raw.text(tags[keyword]).rstrip("^= ") != value:
                yield f"{h.object.sop_uid}: {keyword} is not the source's"
        if h.raw.text(0x00080018) != h.object.sop_uid or h.raw.text(0x00080016) != h.object.sop_class_uid:
            yield f"{h.object.sop_uid}: the file is another object"
    if len({h.object.sop_uid for h in held}) != len(held):
        yield "two objects of the result have one SOP Instance UID"


def references(held: Sequence[Held], study: Study) -> Iterator[str]:
    """Every referenced instance is an image of the study or an object of the result, but for superseded ones."""
    known = {h.text("SOPInstanceUID") for s in study.series for h in s.headers}
    known |= {h.object.sop_uid for h in held} | {study.study_uid}
    for h in held:
        end = h.header.pixel_offset
        found = set(referenced(h.object.body if end is None else h.object.body[:end]))
        for uid in sorted(found - known - set(referenced(h.raw.raw(PREDECESSORS)))):
            yield f"{h.object.sop_uid} refers to {uid}, which is not there"


def referenced(data: bytes) -> Iterator[str]:
    for match in REFERENCE.finditer(data):
        length = int.from_bytes(match[1], "little")
        yield data[match.end() : match.end() + length].rstrip(b"\0 ").decode("ascii", "replace")


def tracking(held: Sequence[Held], drawn: Sequence[Shown], findings: Findings) -> Iterator[str]:
    """The segmentations track the findings with a mask, the reports track all findings, contours are as many."""
    located = {f.tracking_uid for f in findings.items if f.mask is not None}
    kinds = {h.object.kind for h in held}
    if "seg" in kinds and {s.tracking_uid for s in drawn} != located:
        yield "the segmentation does not track the findings that have a place"
    if "sr" in kinds:
        reported = {i.text(0x0040A124) for h in held for i in h.raw.below() if i.name == "112040"}
        earlier = {f.prior.tracking_uid for f in findings.items if f.prior}
        if reported - earlier != {f.tracking_uid for f in findings.items} - earlier:
            yield "the reports do not track exactly the findings"
    for h in held:
        if h.object.kind == "rtstruct" and len(h.raw.items(0x30060039)) != len(located):
            yield "the contours are not those of the findings that have a place"


def volumes(drawn: Sequence[Shown], findings: Findings) -> Iterator[str]:
    """Voxels of the segment × voxel volume = the stated volume, within 1 %."""
    millilitres: dict[str, float] = {}
    for s in drawn:
        millilitres[s.tracking_uid] = millilitres.get(s.tracking_uid, 0.0) + s.millilitres
    for finding in findings.items:
        found = millilitres.get(finding.tracking_uid)
        for m in finding.measurements:
            factor = MILLILITRES.get(m.unit.value)
            if m.concept.value != codes.VOLUME or factor is None or found is None:
                continue
            if abs(m.value * factor - found) > VOLUME_TOLERANCE * found:
                yield f"{finding.tracking_id}: {m.value * factor:.4g} ml stated, {found:.4g} ml drawn"


def held_reason(broken: Sequence[str]) -> str:
    """Why a result is withheld, in one sentence for the page; "" when nothing is broken."""
    rest = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
    return f"The result was withheld: {broken[0]}{rest}." if broken else ""
