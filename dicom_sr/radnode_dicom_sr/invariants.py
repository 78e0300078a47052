"""What no validator checks: that the objects of one result agree with each other, with the findings and with the images."""

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset

from radnode_dicom_sr.codes import VOLUME
from radnode_dicom_sr.identity import DicomObject
from radnode_dicom_sr.read_segmentation import Segment, segments
from radnode_dicom_sr.source import exact
from radnode_inference.findings import Finding, Findings
from radnode_inference.study import Study

SAME = ("PatientID", "PatientName", "StudyInstanceUID", "AccessionNumber", "StudyID")
MILLILITRES = {"ml": 1.0, "mL": 1.0, "cm3": 1.0, "mm3": 0.001, "L": 1000.0}
VOLUME_TOLERANCE = 0.01


def check(objects: Sequence[DicomObject], findings: Findings, study: Study) -> tuple[str, ...]:
    """Every rule that is broken, one sentence each; () when the result may leave the house."""
    data = {o.sop_uid: pydicom.dcmread(BytesIO(o.body), stop_before_pixels=o.kind != "seg") for o in objects}
    return (
        *tracking(objects, findings, data),
        *references(data, study),
        *volumes(objects, findings),
        *regions(data, findings),
        *inherited(data, findings, study),
    )


def content(ds: Dataset) -> Iterator[Dataset]:
    """Every content item of an SR, depth first."""
    for item in ds.get("ContentSequence", ()):
        yield item
        yield from content(item)


def tracking(objects: Sequence[DicomObject], findings: Findings, data: Mapping[str, Dataset]) -> Iterator[str]:
    """The SEG tracks the findings with a mask, the reports track all of them."""
    located = {f.tracking_uid for f in findings.items if f.mask is not None}
    for o in objects:
        if o.kind == "seg" and {str(s.TrackingUID) for s in data[o.sop_uid].SegmentSequence} != located:
            yield "the segmentation does not track the findings that have a place"
    reported = {
        str(item.UID)
        for ds in data.values()
        for item in content(ds)
        if item.ValueType == "UIDREF" and item.ConceptNameCodeSequence[0].CodeValue == "112040"
    }
    if reported != {f.tracking_uid for f in findings.items}:
        yield "the reports do not track exactly the findings"


def references(data: Mapping[str, Dataset], study: Study) -> Iterator[str]:
    """Every referenced instance is an image of the study or an object of the result."""
    known = {h.text("SOPInstanceUID") for s in study.series for h in s.headers} | set(data)
    for uid, ds in data.items():
        superseded = {
            u for p in ds.get("PredecessorDocumentsSequence", ()) for u in walked(p, "ReferencedSOPInstanceUID")
        }
        for item in set(walked(ds, "ReferencedSOPInstanceUID")) - known - superseded:
            yield f"{uid} refers to {item}, which is not there"


def walked(ds: Dataset, keyword: str) -> Iterator[str]:
    for found in ds.iterall():
        if found.keyword == keyword:
            yield str(found.value)


def volumes(objects: Sequence[DicomObject], findings: Findings) -> Iterator[str]:
    """Voxels of the segment × voxel volume = the stated volume, within 1 %."""
    drawn: dict[str, Segment] = {s.tracking_uid: s for o in objects if o.kind == "seg" for s in segments(o.body)}
    for finding in findings.items:
        for measurement in finding.measurements:
            factor = MILLILITRES.get(measurement.unit.value)
            segment = drawn.get(finding.tracking_uid)
            if measurement.concept.value != VOLUME or factor is None or segment is None:
                continue
            stated = measurement.value * factor
            if abs(stated - segment.volume_ml) > VOLUME_TOLERANCE * segment.volume_ml:
                yield f"{finding.tracking_id}: {stated:.4g} ml stated, {segment.volume_ml:.4g} ml drawn"


def regions(data: Mapping[str, Dataset], findings: Findings) -> Iterator[str]:
    """Every outline lies on a slice of its finding, within the image."""
    _, rows, columns = findings.volume.shape
    found = {f.tracking_uid: f for f in findings.items}
    for ds in data.values():
        for group in content(ds):
            uid = next((str(i.UID) for i in group.get("ContentSequence", ()) if i.ValueType == "UIDREF"), "")
            for item in group.get("ContentSequence", ()):
                if item.ValueType == "SCOORD" and uid in found:
                    yield from region(item, found[uid], findings, (rows, columns))


def region(item: Dataset, finding: Finding, findings: Findings, size: tuple[int, int]) -> Iterator[str]:
    reference = item.ContentSequence[0].ReferencedSOPSequence[0]
    frame = reference.get("ReferencedFrameNumber")
    place = (str(reference.ReferencedSOPInstanceUID), None if frame is None else int(frame))
    places = [(s.sop_uid, s.frame) for s in findings.volume.sources]
    if place not in places or finding.mask is None or not finding.mask[places.index(place)].any():
        yield f"{finding.tracking_id}: the outline is on an image that the finding does not touch"
    data = [float(v) for v in item.GraphicData]
    if min(data) < 0 or max(data[0::2]) > size[1] or max(data[1::2]) > size[0]:
        yield f"{finding.tracking_id}: the outline leaves the image"


def inherited(data: Mapping[str, Dataset], findings: Findings, study: Study) -> Iterator[str]:
    """Patient and study identification equal to the source's."""
    header = next(s.headers[0] for s in study.series if s.series_uid == findings.series_uid)
    expected = {keyword: exact(header, keyword).rstrip("^= ") for keyword in SAME}
    for uid, ds in data.items():
        for keyword, value in expected.items():
            if str(ds.get(keyword) or "").rstrip("^= ") != value:
                yield f"{uid}: {keyword} is not the source's"
