"""What is read back of a result: the vocabulary of `read`."""

from dataclasses import dataclass
from typing import Literal

from radnode_inference.findings import Code, Evaluation, Measurement


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A region on an image (SCOORD) or in space (SCOORD3D, `sop_uid` is then "").

    graphic_type: POLYLINE, POINT … (PS3.3 C.18.6.1.2). points: (column, row) with the centre of the first pixel at
    (0.5, 0.5), or (x, y, z) in LPS mm. frame counts from 1, None for a classic image.
    """

    graphic_type: str
    points: tuple[tuple[float, ...], ...]
    sop_uid: str
    frame: int | None


@dataclass(frozen=True, kw_only=True)
class SegmentReference:
    """A segment of a segmentation object."""

    sop_uid: str
    number: int


@dataclass(frozen=True, kw_only=True)
class ReadFinding:
    """One finding as a file tells it; groups with one Tracking Unique Identifier are one finding.

    evaluations: coded answers. time_point: of an earlier study, "" for this one. statements: free text in the group. A segmentation's volume is counted from its voxels.
    """

    tracking_id: str
    tracking_uid: str
    concept: Code | None = None
    site: Code | None = None
    laterality: Code | None = None
    measurements: tuple[Measurement, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    outlines: tuple[Outline, ...] = ()
    segments: tuple[SegmentReference, ...] = ()
    time_point: str = ""
    statements: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Document:
    """One file. title: of a report, else None. observers: names of the people and devices that made it; persons: of the people.

    verified: signed by a person (PS3.3 C.17.2). predecessors: SOP Instance UIDs that it takes the place of.
    statements: free text outside the findings, in order.
    """

    kind: Literal["sr", "seg"]
    sop_uid: str
    series_uid: str
    study_uid: str
    patient_id: str
    title: Code | None
    observers: tuple[str, ...]
    persons: tuple[str, ...]
    verified: bool
    predecessors: tuple[str, ...]
    statements: tuple[str, ...]
    findings: tuple[ReadFinding, ...]
