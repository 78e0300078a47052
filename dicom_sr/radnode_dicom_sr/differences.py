"""What an edited copy of a report says otherwise than the report itself, finding by finding. Both as `read` has them."""

import math
from collections.abc import Iterator

from radnode_dicom_sr.read_back import Outline, ReadFinding
from radnode_inference.findings import Code

ABSENT = frozenset({"272519000", "2667000"})
"""SNOMED CT "Absent" (PS3.16 CID 240) and its older code."""
RELATIVE = 1e-3
POINT = 0.01


def denied(ours: ReadFinding, theirs: ReadFinding) -> bool:
    """Whether the copy says that the thing is not there."""
    said = {(e.concept.value, e.value.value) for e in ours.evaluations}
    return any(e.value.value in ABSENT and (e.concept.value, e.value.value) not in said for e in theirs.evaluations)


def differences(ours: ReadFinding, theirs: ReadFinding) -> tuple[str, ...]:
    """What both say and say otherwise, one part of a sentence each; () when they agree.

    What the copy leaves out is no difference: viewers keep only the numbers that they can compute themselves.
    """
    return (
        *coded("", ours.concept, theirs.concept),
        *coded("", ours.site, theirs.site),
        *coded("", ours.laterality, theirs.laterality),
        *numbers(ours, theirs),
        *answers(ours, theirs),
        *regions(ours.outlines, theirs.outlines),
    )


def coded(what: str, ours: Code | None, theirs: Code | None) -> Iterator[str]:
    if ours and theirs and (ours.value, ours.scheme) != (theirs.value, theirs.scheme):
        yield f"{what}{theirs.meaning} instead of {ours.meaning}"


def numbers(ours: ReadFinding, theirs: ReadFinding) -> Iterator[str]:
    """Numbers of one concept in one unit; the first of each counts."""
    first = {(m.concept.value, m.unit.value): m for m in reversed(ours.measurements)}
    seen = set()
    for m in theirs.measurements:
        key = m.concept.value, m.unit.value
        if key in first and key not in seen and not math.isclose(first[key].value, m.value, rel_tol=RELATIVE):
            yield f"{m.concept.meaning} {m.value:.4g} {m.unit.value} instead of {first[key].value:.4g}"
        seen.add(key)


def answers(ours: ReadFinding, theirs: ReadFinding) -> Iterator[str]:
    first = {e.concept.value: e.value for e in reversed(ours.evaluations)}
    for e in theirs.evaluations:
        yield from coded(f"{e.concept.meaning} ", first.get(e.concept.value), e.value)


def regions(ours: tuple[Outline, ...], theirs: tuple[Outline, ...]) -> Iterator[str]:
    """One sentence where both draw something and nothing of it is the same."""
    if ours and theirs and not any(same(a, b) for a in ours for b in theirs):
        yield "another outline"


def same(ours: Outline, theirs: Outline) -> bool:
    if (ours.sop_uid, ours.frame or 1, len(ours.points)) != (theirs.sop_uid, theirs.frame or 1, len(theirs.points)):
        return False
    pairs = zip(ours.points, theirs.points, strict=True)
    return all(math.dist(a, b) <= POINT for a, b in pairs)
