"""Outlines on every slice as an RT Structure Set (PS3.3 A.19), for the systems that want contours rather than masks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage
from skimage.measure import approximate_polygon, points_in_poly

from radnode_dicom_sr import codes
from radnode_dicom_sr.contour import Outline, outlines
from radnode_dicom_sr.dataset import NOT_VERIFIED, Context, described, file_bytes, local
from radnode_dicom_sr.elements import dataset, instance, raw_sequence, sequence, text
from radnode_dicom_sr.identity import CONTOURS, DicomObject
from radnode_dicom_sr.multiframe import place
from radnode_dicom_sr.segmentation import located
from radnode_dicom_sr.source import Slice, clip
from radnode_inference.findings import Finding, Kind
from radnode_inference.volume import Affine, BoolArray

SOP_CLASS_UID = str(RTStructureSetStorage)
DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"  # the retired class that PS3.3 C.8.8.5 still asks for
CONTOUR_SEQUENCE = 0x30060040
MOST_POINTS = 1500
"""Contour Data is text in an element of at most 64 KiB (PS3.5 section 7.1.2)."""


def structure_set(context: Context) -> DicomObject | None:
    """One region of interest for each finding with a place; None without any."""
    findings = located(context.findings.items)
    if not findings:
        return None
    source = context.source
    ds = described(
        context,
        sop_class_uid=SOP_CLASS_UID,
        role=CONTOURS,
        instance=CONTOURS,
        number=1,
        modality="RTSTRUCT",
        description="contours",
    )
    place(ds, source)
    ds.OperatorsName = ""
    ds.StructureSetLabel = "AI_RESULT"
    ds.StructureSetName = clip(NOT_VERIFIED, 64)
    ds.StructureSetDate, ds.StructureSetTime = local(context)
    ds.ApprovalStatus = "UNAPPROVED"
    ds.ReferencedFrameOfReferenceSequence = [referenced_frame(context, str(ds.FrameOfReferenceUID))]
    numbered = list(enumerate(findings, start=1))
    ds.StructureSetROISequence = [region(f, n, str(ds.FrameOfReferenceUID)) for n, f in numbered]
    ds.ROIContourSequence = [contours(f, n, context) for n, f in numbered]
    ds.RTROIObservationsSequence = [observation(f, n) for n, f in numbered]
    return DicomObject(
        kind="rtstruct",
        sop_class_uid=SOP_CLASS_UID,
        sop_uid=str(ds.SOPInstanceUID),
        series_uid=str(ds.SeriesInstanceUID),
        body=file_bytes(ds),
    )


def referenced_frame(context: Context, frame_of_reference_uid: str) -> Dataset:
    """Every image of the source series (PS3.3 C.8.8.5)."""
    source = context.source
    images = dict.fromkeys((s.sop_class_uid, s.sop_uid) for s in source.slices)
    series = dataset(
        SeriesInstanceUID=source.series_uid,
        ContourImageSequence=[dataset(ReferencedSOPClassUID=c, ReferencedSOPInstanceUID=u) for c, u in images],
    )
    study = dataset(
        ReferencedSOPClassUID=DETACHED_STUDY,
        ReferencedSOPInstanceUID=source.study_uid,
        RTReferencedSeriesSequence=[series],
    )
    return dataset(FrameOfReferenceUID=frame_of_reference_uid, RTReferencedStudySequence=[study])


def region(finding: Finding, number: int, frame_of_reference_uid: str) -> Dataset:
    return dataset(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=frame_of_reference_uid,
        ROIName=clip(f"{number} {codes.label(finding)}", 64),
        ROIDescription=clip(f"{finding.tracking_uid} {NOT_VERIFIED}", 1024),
        ROIGenerationAlgorithm="AUTOMATIC",
    )


def observation(finding: Finding, number: int) -> Dataset:
    return dataset(
        ObservationNumber=number,
        ReferencedROINumber=number,
        RTROIIdentificationCodeSequence=[codes.item(finding.concept)],
        RTROIInterpretedType="ORGAN" if finding.kind is Kind.ANATOMY else "",
        ROIInterpreter="",
    )


def contours(finding: Finding, number: int, context: Context) -> Dataset:
    """Every outline of a finding, slice by slice, holes joined to what surrounds them."""
    assert finding.mask is not None
    source = context.source
    found = [
        contour(points, source.slices[i], i, context.findings.volume.affine)
        for i, plane in enumerate(finding.mask)
        if plane.any()
        for points in closed(plane)
    ]
    ds = dataset(ROIDisplayColor=list(codes.colour(finding, number - 1)), ReferencedROINumber=number)
    ds[CONTOUR_SEQUENCE] = raw_sequence(CONTOUR_SEQUENCE, *found)
    return ds


def contour(points: Outline, origin: Slice, index: int, affine: Affine) -> bytes:
    """One CLOSED_PLANAR contour: the last point is not repeated (PS3.3 C.8.8.6.1). pydicom would check each number."""
    frame = b"" if origin.frame is None else text(0x00081160, "IS", str(origin.frame))
    grid = np.c_[np.full(len(points), index), points, np.ones(len(points))]
    places = (affine @ grid.T)[:3].T
    return (
        sequence(0x30060016, instance(origin.sop_class_uid, origin.sop_uid) + frame)
        + text(0x30060042, "CS", "CLOSED_PLANAR")
        + text(0x30060046, "IS", str(len(points)))
        + text(0x30060050, "DS", *(f"{v:.3f}" for v in places.ravel()))
    )


def closed(plane: BoolArray) -> list[Outline]:
    """The outlines of a 2-D mask, open at the end, each hole joined to the border around it by a narrow channel."""
    found = [simple(o) for o in outlines(plane)]
    outer = [o for o in found if area(o) > 0]
    for hole in (o for o in found if area(o) < 0):
        for n, border in enumerate(outer):
            if points_in_poly(hole[:1], border)[0]:
                outer[n] = joined(border, hole)
                break
    return [o[:-1] for o in outer]


def simple(border: Outline) -> Outline:
    """As few points as the tolerance allows, and never more than fit."""
    tolerance = 0.25
    found = approximate_polygon(border, tolerance=tolerance)
    while len(found) > MOST_POINTS:
        tolerance *= 2
        found = approximate_polygon(border, tolerance=tolerance)
    return found if len(found) > 3 else border


def area(border: Outline) -> float:
    """Signed: positive around a region, negative around a hole (scikit-image runs round them in opposite ways)."""
    r, c = border[:-1].T
    return float(np.dot(c, np.roll(r, -1)) - np.dot(r, np.roll(c, -1))) / 2


def joined(border: Outline, hole: Outline) -> Outline:
    """One closed line around the border, in to the hole, around it, and back by the same way (PS3.3 C.8.8.6.3, "keyhole")."""
    distance: NDArray[np.float64] = np.linalg.norm(border[:-1, None] - hole[None, :-1], axis=-1)
    at, into = (int(i) for i in np.unravel_index(distance.argmin(), distance.shape))
    ring = np.roll(hole[:-1], -into, axis=0)
    return np.concatenate([border[: at + 1], ring, ring[:1], border[at:]])


def drawn_area(points: Sequence[Outline]) -> float:
    """The area in pixels that closed lines enclose."""
    return sum(area(np.concatenate([p, p[:1]])) for p in points)
