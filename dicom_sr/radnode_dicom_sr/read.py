"""Results read back as findings: our own reports and segmentations, and the TID 1500 reports of others. READ FIRST for reading.

Used for radiologists' edited copies. What a file does not say is empty, never guessed.
"""

from dataclasses import replace
from io import BytesIO
from typing import Literal

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from radnode_dicom_sr import codes
from radnode_dicom_sr.read_back import Document, ReadFinding, SegmentReference
from radnode_dicom_sr.read_report import findings, observers, persons, statements, title
from radnode_dicom_sr.read_segmentation import Segment, segments
from radnode_inference.findings import Code, Measurement

MILLILITRE = Code(value="ml", scheme="UCUM", meaning="ml")


def read(body: bytes) -> Document:
    """The findings in a DICOM file (PS3.10). Raises ValueError, with a sentence, for anything but a whole SR or SEG."""
    try:
        ds = pydicom.dcmread(BytesIO(body))
        modality = str(ds.get("Modality", ""))
        if modality == "SEG":
            return segmentation(ds, segments(body))
        if "ContentSequence" in ds:
            return report(ds)
    except InvalidDicomError as e:
        raise ValueError("this is not a DICOM file") from e
    except RuntimeError as e:  # pydicom's: it knows no such compression, has no decoder of it, or each of them failed
        raise ValueError(f"the pixels of this file cannot be decoded here: {' '.join(str(e).split())}") from e
    except (AttributeError, KeyError, IndexError, TypeError, EOFError) as e:
        raise ValueError(f"this file is not whole, or not as the standard has it: {type(e).__name__}: {e}") from e
    raise ValueError(
        f"this is neither a structured report nor a segmentation ({ds.get('SOPClassUID', 'no SOP class')})"
    )


def segmentation(ds: Dataset, held: tuple[Segment, ...]) -> Document:
    """Each segment as a finding with its volume."""
    found = tuple(
        ReadFinding(
            tracking_id=s.tracking_id or s.label,
            tracking_uid=s.tracking_uid,
            concept=s.concept,
            site=s.site,
            laterality=s.laterality,
            measurements=(
                Measurement(concept=codes.VOLUME_CONCEPT, value=float(f"{s.volume_ml:.6g}"), unit=MILLILITRE),
            ),
            segments=(SegmentReference(sop_uid=str(ds.SOPInstanceUID), number=s.number),),
        )
        for s in held
    )
    said = str(ds.get("ContentDescription") or "")
    return replace(empty(ds, "seg"), findings=found, statements=(said,) if said else ())


def report(ds: Dataset) -> Document:
    previous = [
        str(instance.ReferencedSOPInstanceUID)
        for study in ds.get("PredecessorDocumentsSequence", ())
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    ]
    return replace(
        empty(ds, "sr"),
        title=title(ds),
        observers=observers(ds),
        persons=persons(ds),
        verified=ds.get("VerificationFlag") == "VERIFIED",
        predecessors=tuple(previous),
        statements=statements(ds),
        findings=findings(ds),
    )


def empty(ds: Dataset, kind: Literal["sr", "seg"]) -> Document:
    return Document(
        kind=kind,
        sop_uid=str(ds.SOPInstanceUID),
        series_uid=str(ds.SeriesInstanceUID),
        study_uid=str(ds.StudyInstanceUID),
        patient_id=str(ds.get("PatientID") or ""),
        title=None,
        observers=(),
        persons=(),
        verified=False,
        predecessors=(),
        statements=(),
        findings=(),
    )
