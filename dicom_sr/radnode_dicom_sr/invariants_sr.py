"""What a report says, against the findings it was made from and the tables of PS3.16."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import numpy as np
from pydicom.sr.codedict import codes as tables

from radnode_dicom_sr import codes
from radnode_dicom_sr.raw import CODE_VALUE, NAME, Raw
from radnode_inference.findings import Code, Finding, Findings, Measurement

GROUP, TRACKING_UID, SIDE, ALGORITHM_FAMILY, TIME_POINT = "125007", "112040", "272741003", "111000", "C2348792"
REFERENCED, INSTANCE, FRAME, FRAME_OF_REFERENCE = 0x00081199, 0x00081155, 0x00081160, 0x30060024
ON_SLICE = 0.01
"""How far, in slices, a point of an outline may lie beside its slice: coordinates have seven digits."""
UNITS: Mapping[str, frozenset[str]] = {
    codes.VOLUME: frozenset({"ml", "mL", "cm3", "mm3", "L", "l"}),
    codes.LONG_AXIS: frozenset({"mm", "cm"}),
    codes.SHORT_AXIS: frozenset({"mm", "cm"}),
    codes.LENGTH: frozenset({"mm", "cm"}),
    codes.AREA: frozenset({"mm2", "cm2"}),
    codes.PROBABILITY_OF_CANCER.value: frozenset({"%"}),
    codes.CERTAINTY_OF_FINDING.value: frozenset({"%"}),
}
"""UCUM units that make sense for a quantity."""
VALUES = {SIDE: 244, ALGORITHM_FAMILY: 7162, "121005": 270, "121058": 100, codes.ACTIONABLE.value: 7035}
"""Concept name -> the context group (PS3.16 CID) of its value."""


def groups(report: Raw) -> Iterator[tuple[str, Raw]]:
    """(tracking UID, group) of every measurement group."""
    for item in report.below():
        if item.name == GROUP:
            yield next((i.text(0x0040A124) for i in item.content if i.name == TRACKING_UID), ""), item


def outlines(report: Raw, findings: Findings) -> Iterator[str]:
    """Every outline lies on a slice of its finding, within the image."""
    found = {f.tracking_uid: f for f in findings.items}
    for uid, group in groups(report):
        for item in group.content:
            if item.kind == "SCOORD" and uid in found:
                yield from outline(item, found[uid], findings)
            elif item.kind == "SCOORD3D" and uid in found:
                yield from outline_in_space(item, found[uid], findings)


def outline(item: Raw, finding: Finding, findings: Findings) -> Iterator[str]:
    reference = item.content[0].items(REFERENCED)[0]
    frame = reference.text(FRAME)
    place = (reference.text(INSTANCE), int(frame) if frame else None)
    places = [(s.sop_uid, s.frame) for s in findings.volume.sources]
    if place not in places or finding.mask is None or not finding.mask[places.index(place)].any():
        yield f"{finding.tracking_id}: the outline is on an image that the finding does not touch"
    _, rows, columns = findings.volume.shape
    data = item.numbers(0x00700022, "f")
    if min(data) < 0 or max(data[0::2]) > columns or max(data[1::2]) > rows:
        yield f"{finding.tracking_id}: the outline leaves the image"


def outline_in_space(item: Raw, finding: Finding, findings: Findings) -> Iterator[str]:
    volume = findings.volume
    if item.text(FRAME_OF_REFERENCE) != volume.frame_of_reference_uid:
        yield f"{finding.tracking_id}: the outline has another frame of reference than the images"
    points = np.array(item.numbers(0x00700022, "f")).reshape(-1, 3)
    at = (np.linalg.inv(volume.affine) @ np.c_[points, np.ones(len(points))].T)[:3].T
    number = round(float(at[0, 0]))
    flat = np.abs(at[:, 0] - number).max() < ON_SLICE
    if not (flat and 0 <= number < len(volume.sources) and finding.mask is not None and finding.mask[number].any()):
        yield f"{finding.tracking_id}: the outline is on no slice that the finding touches"
    if at[:, 1:].min() < -0.51 or (at[:, 1:] > np.array(volume.shape[1:]) - 0.49).any():
        yield f"{finding.tracking_id}: the outline leaves the image"


def stated(reports: Sequence[Raw], findings: Findings) -> Iterator[str]:
    """The reports state the numbers of the findings and of their earlier studies, no others, in units that make sense."""
    said: dict[tuple[str, bool], set[Number]] = {}
    for report in reports:
        for uid, group in groups(report):
            then = any(i.name == TIME_POINT for i in group.content)
            said.setdefault((uid, then), set()).update(number(i) for i in group.content if i.kind == "NUM")
    for f in findings.items if reports else ():
        if said.get((f.tracking_uid, False), set()) != numbers(f):
            yield f"{f.tracking_id}: the report does not state the numbers of the finding"
        if f.prior and said.get((f.prior.tracking_uid, True), set()) != listed(f.prior.measurements):
            yield f"{f.tracking_id}: the report does not state the numbers of the earlier study"
    for (uid, _), triples in said.items():
        for concept, _, unit in sorted(triples):
            if unit not in UNITS.get(concept, {unit}):
                yield f"{uid}: {concept} is not measured in {unit!r}"


Number = tuple[str, str, str]
"""(concept, value to six digits, unit)."""


def number(item: Raw) -> Number:
    """A NUM item."""
    measured = item.items(0x0040A300)[0]
    unit = measured.code(0x004008EA)
    if unit is None or unit.scheme != "UCUM":
        raise ValueError(f"{item.name} has no unit of UCUM")
    return item.name, f"{float(measured.text(0x0040A30A)):.6g}", unit.value


def numbers(finding: Finding) -> set[Number]:
    expected = listed(finding.measurements)
    if finding.probability is not None:
        expected.add((codes.probability_concept(finding).value, f"{100 * finding.probability:.6g}", "%"))
    return expected


def listed(measurements: Sequence[Measurement]) -> set[Number]:
    return {(m.concept.value, f"{m.value:.6g}", m.unit.value) for m in measurements}


def coded(kind: str, ds: Raw) -> Iterator[str]:
    """Codes are members of the context groups that their places ask for."""
    for place, code, group in (*attributes(kind, ds), *(c for i in ds.below() for c in content(i))):
        if code is not None and (code.scheme, code.value) not in members(group):
            yield f"{place}: ({code.value}, {code.scheme}) is not in CID {group}"


def attributes(kind: str, ds: Raw) -> Iterator[tuple[str, Code | None, int]]:
    for device in ds.items(0x0018A001):
        yield "Contributing Equipment", device.code(0x0040A170), 7005
    if kind == "sr":
        yield "the title of the report", ds.code(NAME), 7021
    if kind == "kos":
        yield "the title of the selection", ds.code(NAME), 7010
    for segment in ds.items(0x00620002):
        if segment.numbers(0x00620004, "H")[0]:
            yield "the category of a segment", segment.code(0x00620003), 7150
            for region in segment.items(0x00082218):
                yield "the side of a segment", region.code(0x00082220), 244
            for algorithm in segment.items(0x00620007):
                yield "the family of the algorithm", algorithm.code(0x0066002F), 7162


def content(item: Raw) -> Iterator[tuple[str, Code | None, int]]:
    if item.name in VALUES and item.kind == "CODE":
        yield item.name, item.code(CODE_VALUE), VALUES[item.name]


@cache
def members(group: int) -> frozenset[tuple[str, str]]:
    """(scheme, value) of every concept of a context group, from pydicom's tables."""
    return frozenset((c.scheme_designator, c.value) for c in getattr(tables, f"CID{group}").concepts.values())
