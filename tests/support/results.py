"""Results to record and deliver in tests: real DICOM files and a real Bundle, made by hand, and the rows they hang on."""

import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from radnode import results
from radnode.database import Database
from radnode.settings import Destination, Settings
from radnode.tables import JobRow, StudyRow, Table
from radnode_inference.findings import uid_from

SOP_CLASSES = {"sr": Comprehensive3DSRStorage, "seg": SegmentationStorage, "key-image": SecondaryCaptureImageStorage}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What `results.record` needs of a job."""

    id: int
    study_uid: str
    model: str


def prepare(settings: Settings) -> Database:
    """The database of a node, empty."""
    settings.data.mkdir(parents=True, exist_ok=True)
    database = Database(settings.url)
    Table.metadata.create_all(database.engine)
    return database


def add_study(database: Database, study_uid: str, **values: Any) -> None:
    row = {"state": "routed", "first_instance_at": 1.0, "last_instance_at": 2.0, "due_at": 3.0} | values
    with database.transaction() as session:
        session.add(StudyRow(study_uid=study_uid, **row))


def add_job(database: Database, study_uid: str, model: str = "ct-lung", revision: int = 1, **values: Any) -> Ended:
    row = {"state": "done", "urgency": 0, "created_at": time.time(), "due_at": 0.0} | values
    with database.transaction() as session:
        job = JobRow(study_uid=study_uid, model=model, revision=revision, **row)
        session.add(job)
        session.flush()
        return Ended(id=job.id, study_uid=study_uid, model=model)


def dicom_result(kind: str, study_uid: str, content: str, digest: str = "d" * 64) -> results.Result:
    uid = uid_from((kind, study_uid, content))
    series_uid = uid_from((kind, study_uid))
    return results.Result(
        kind=kind,
        uid=uid,
        sop_class_uid=SOP_CLASSES[kind],
        series_uid=series_uid,
        digest=digest,
        body=dicom_file(SOP_CLASSES[kind], uid, study_uid, series_uid, content),
    )


def dicom_file(sop_class_uid: str, uid: str, study_uid: str, series_uid: str, content: str) -> bytes:
    """A small file of that class; what it says stands in its Series Description."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class_uid, uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study_uid, series_uid
    ds.PatientID, ds.PatientName, ds.Modality, ds.SeriesDescription = "P1", "TEST^ANNA", "OT", content
    ds.StudyID = ds.AccessionNumber = ""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = sop_class_uid, uid
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def bundle(study_uid: str, model: str, content: str, status: str = "preliminary") -> dict[str, Any]:
    """A transaction Bundle of one DiagnosticReport, conditional, so that sending it again makes nothing new."""
    identifier = {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{uid_from(('report', study_uid, model))}"}
    report = {
        "resourceType": "DiagnosticReport",
        "status": status,
        "identifier": [identifier],
        "code": {"text": "AI report"},
        "conclusion": content,
    }
    query = f"DiagnosticReport?identifier={identifier['system']}|{identifier['value']}"
    entry = {"fullUrl": "urn:uuid:9c0de5f4-9d1c-4be8-8d0f-6b1f9f5a7a01", "resource": report}
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [entry | {"request": {"method": "PUT", "url": query}}],
    }


def fhir_result(
    study_uid: str, model: str, content: str, digest: str = "d" * 64, status: str = "preliminary"
) -> results.Result:
    return results.Result(
        kind="fhir",
        uid=uid_from(("fhir", study_uid, model, content)),
        sop_class_uid="",
        series_uid="",
        digest=digest,
        body=json.dumps(bundle(study_uid, model, content, status)).encode(),
    )


def four(
    study_uid: str, model: str = "ct-lung", content: str = "A", status: str = "preliminary"
) -> list[results.Result]:
    """One result of each kind, in an order in which they must not be sent."""
    dicom = [dicom_result(kind, study_uid, f"{model} {content}") for kind in ("sr", "key-image", "seg")]
    return [fhir_result(study_uid, model, content, status=status), *dicom]


def record(
    database: Database,
    data: Path,
    job: Ended,
    made: list[results.Result],
    destinations: tuple[Destination, ...] = (),
    now: float | None = None,
    *,
    again: bool = False,
) -> tuple[results.StoredResult, ...]:
    """As the worker does: files first, then the rows in one transaction."""
    stored = results.write_files(data, made)
    with database.transaction() as session:
        results.record(session, job, stored, destinations, time.time() if now is None else now, again=again)
    return stored
