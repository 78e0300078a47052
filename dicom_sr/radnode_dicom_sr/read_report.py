"""The content tree of a TID 1500 report, whoever wrote it, as findings (PS3.16 TID 1500, 1410, 1411, 1501, 300)."""

from collections.abc import Iterator
from dataclasses import replace

from pydicom.dataset import Dataset

from radnode_dicom_sr.read_back import Outline, ReadFinding, SegmentReference
from radnode_dicom_sr.read_segmentation import code
from radnode_inference.findings import Code, Evaluation, Measurement

GROUP, TRACKING_ID, TRACKING_UID, FINDING = "125007", "112039", "112040", "121071"
SITES = frozenset({"363698007", "G-C0E3"})  # SCT, and SNOMED RT as dcmqi and older writers have it
SIDES = frozenset({"272741003", "G-C171"})
METHODS = frozenset({"370129005", "G-C036"})
CATEGORIES = frozenset({"276214006", "111048"})
ALGORITHM = frozenset({"111000", "111001", "111002", "111003", "122405"})
TIME_POINT = "C2348792"
TIME_POINTS = frozenset({TIME_POINT, "126070", "126071"})
PERSON_NAME = "121008"
OBSERVER_NAMES = frozenset({PERSON_NAME, "121013"})
NOT_ANSWERS = METHODS | CATEGORIES | ALGORITHM | {"130400"}
"""Coded items of a group that answer no question about the finding."""


def children(item: Dataset) -> tuple[Dataset, ...]:
    return tuple(item.get("ContentSequence") or ())


def name(item: Dataset) -> str:
    """The value of the concept name, "" without one."""
    named = item.get("ConceptNameCodeSequence")
    return code(named[0]).value if named else ""


def value(item: Dataset) -> Code:
    return code(item.ConceptCodeSequence[0])


def title(ds: Dataset) -> Code | None:
    named = ds.get("ConceptNameCodeSequence")
    return code(named[0]) if named else None


def groups(item: Dataset) -> Iterator[Dataset]:
    """Every measurement group below an item, depth first."""
    for child in children(item):
        if name(child) == GROUP:
            yield child
        else:
            yield from groups(child)


def outside(item: Dataset) -> Iterator[Dataset]:
    """Every item below one that belongs to no measurement group."""
    for child in children(item):
        if name(child) != GROUP:
            yield child
            yield from outside(child)


def observers(ds: Dataset) -> tuple[str, ...]:
    named = (i for i in outside(ds) if name(i) in OBSERVER_NAMES)
    return tuple(str(i.get("PersonName") or i.get("TextValue") or "") for i in named)


def persons(ds: Dataset) -> tuple[str, ...]:
    """The people among the observers, and those who signed (PS3.3 C.17.2)."""
    signed = (str(v.get("VerifyingObserverName") or "") for v in ds.get("VerifyingObserverSequence") or ())
    named = (str(i.get("PersonName") or "") for i in outside(ds) if name(i) == PERSON_NAME)
    return tuple(dict.fromkeys(n for n in (*named, *signed) if n))


def statements(ds: Dataset) -> tuple[str, ...]:
    """The free text of a report, without the identification of observers and devices (TID 1003, 1004) and algorithms."""
    texts = (i for i in outside(ds) if i.get("ValueType") == "TEXT" and i.get("RelationshipType") == "CONTAINS")
    return tuple(str(i.TextValue) for i in texts if name(i) not in ALGORITHM)


def findings(ds: Dataset) -> tuple[ReadFinding, ...]:
    """The groups as findings, those with one tracking UID merged."""
    found: dict[str, ReadFinding] = {}
    for number, group in enumerate(groups(ds)):
        read = finding(group)
        key = read.tracking_uid or f"group {number}"
        found[key] = merged(found[key], read) if key in found else read
    return tuple(found.values())


def merged(first: ReadFinding, second: ReadFinding) -> ReadFinding:
    """What two groups say of one thing; what both say stands once."""
    return replace(
        first,
        tracking_id=first.tracking_id or second.tracking_id,
        concept=first.concept or second.concept,
        site=first.site or second.site,
        laterality=first.laterality or second.laterality,
        measurements=tuple(dict.fromkeys((*first.measurements, *second.measurements))),
        evaluations=tuple(dict.fromkeys((*first.evaluations, *second.evaluations))),
        outlines=tuple(dict.fromkeys((*first.outlines, *second.outlines))),
        segments=tuple(dict.fromkeys((*first.segments, *second.segments))),
        statements=tuple(dict.fromkeys((*first.statements, *second.statements))),
    )


def finding(group: Dataset) -> ReadFinding:
    """One measurement group."""
    items = children(group)
    texts = {name(i): str(i.get("TextValue") or i.get("UID") or "") for i in items}
    coded = [i for i in items if i.get("ValueType") == "CODE" and i.get("ConceptCodeSequence")]
    sites = [i for i in coded if name(i) in SITES]
    sides = [value(i) for s in sites for i in children(s) if name(i) in SIDES and i.get("ConceptCodeSequence")]
    answers = [i for i in coded if name(i) not in NOT_ANSWERS | SITES | {FINDING}]
    return ReadFinding(
        tracking_id=texts.get(TRACKING_ID, ""),
        tracking_uid=texts.get(TRACKING_UID, ""),
        concept=next((value(i) for i in coded if name(i) == FINDING), None),
        site=value(sites[0]) if sites else None,
        laterality=sides[0] if sides else next((value(i) for i in answers if name(i) in SIDES), None),
        measurements=tuple(m for i in items if i.get("ValueType") == "NUM" for m in measurement(i)),
        evaluations=tuple(
            Evaluation(concept=code(i.ConceptNameCodeSequence[0]), value=value(i))
            for i in answers
            if name(i) not in SIDES
        ),
        outlines=tuple(outline(i) for i in below(group) if i.get("ValueType") in ("SCOORD", "SCOORD3D")),
        segments=tuple(s for i in items if i.get("ValueType") == "IMAGE" for s in segment(i)),
        time_point=texts.get(TIME_POINT, ""),
        statements=tuple(
            str(i.TextValue)
            for i in items
            if i.get("ValueType") == "TEXT" and name(i) not in ALGORITHM | TIME_POINTS | {TRACKING_ID}
        ),
    )


def below(item: Dataset) -> Iterator[Dataset]:
    """Every item below one: others (OHIF) hang the region under the number that was measured on it (TID 320)."""
    for child in children(item):
        yield child
        yield from below(child)


def measurement(item: Dataset) -> Iterator[Measurement]:
    """A number with its unit and method; nothing where the value was left empty (PS3.3 C.18.1)."""
    for measured in item.get("MeasuredValueSequence") or ():
        methods = [value(i) for i in children(item) if name(i) in METHODS and i.get("ConceptCodeSequence")]
        yield Measurement(
            concept=code(item.ConceptNameCodeSequence[0]),
            value=float(measured.NumericValue),
            unit=code(measured.MeasurementUnitsCodeSequence[0]),
            method=methods[0] if methods else None,
        )


def outline(item: Dataset) -> Outline:
    size = 3 if item.ValueType == "SCOORD3D" else 2
    data = [float(v) for v in item.GraphicData]
    points = tuple(tuple(data[i : i + size]) for i in range(0, len(data), size))
    images = [r for i in children(item) if i.get("ValueType") == "IMAGE" for r in i.ReferencedSOPSequence]
    frame = images[0].get("ReferencedFrameNumber") if images else None
    return Outline(
        graphic_type=str(item.GraphicType),
        points=points,
        sop_uid=str(images[0].ReferencedSOPInstanceUID) if images else "",
        frame=None if frame is None else int(frame if not hasattr(frame, "__len__") else frame[0]),
    )


def segment(item: Dataset) -> Iterator[SegmentReference]:
    for reference in item.ReferencedSOPSequence:
        numbers = reference.get("ReferencedSegmentNumber")
        if numbers is not None:
            listed = list(numbers) if hasattr(numbers, "__len__") else [numbers]
            for number in listed:
                yield SegmentReference(sop_uid=str(reference.ReferencedSOPInstanceUID), number=int(number))
