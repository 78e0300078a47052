"""A node without sockets for tests of the core: its tables on SQLite or PostgreSQL, and objects that arrive when told."""

import hashlib
import io
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from sqlalchemy import select

from radnode import jobs, migrations, studies
from radnode.database import Database
from radnode.settings import Settings
from radnode.states import JobState, StudyState
from radnode.tables import InstanceRow, JobRow, ReportRow, StudyRow

STUDY = "1.2.3"


@dataclass
class Node:
    """Settings and a database with the node's schema."""

    settings: Settings
    database: Database
    counter: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def arrive(self, at: float, *, study_uid: str = STUDY, sop_uid: str = "", ae: str = "PACS", **elements: Any) -> str:
        """One object is stored, as the receiver does it; returns its SOP Instance UID."""
        ds = dataset(study_uid, sop_uid or f"{study_uid}.9.{next(self.counter)}", **elements)
        body = encoded(ds)
        file = Path("objects") / f"{ds.SOPInstanceUID}-{hashlib.sha256(body).hexdigest()[:8]}.dcm"
        (self.settings.data / file).parent.mkdir(parents=True, exist_ok=True)
        (self.settings.data / file).write_bytes(body)
        row = InstanceRow(
            sop_uid=ds.SOPInstanceUID,
            sha256=hashlib.sha256(body).hexdigest(),
            study_uid=study_uid,
            series_uid=ds.SeriesInstanceUID,
            sop_class_uid=ds.SOPClassUID,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            calling_ae=ae,
            called_ae="RADNODE",
            address="127.0.0.1",
            file=str(file),
            size=len(body),
            received_at=at,
        )
        with self.database.transaction() as session:
            session.add(row)
        return str(ds.SOPInstanceUID)

    def study(self, study_uid: str = STUDY) -> studies.StudySummary:
        with self.database.reading() as session:
            found = studies.study(session, study_uid)
        assert found is not None
        return found

    def story(self, study_uid: str = STUDY) -> studies.Story:
        with self.database.reading() as session:
            found = studies.story(session, study_uid)
        assert found is not None
        return found

    def jobs(self) -> list[studies.JobView]:
        with self.database.reading() as session:
            uids = session.scalars(select(JobRow.study_uid).distinct()).all()
            return sorted((j for uid in uids for j in studies.jobs(session, uid)), key=lambda j: j.id)

    def add_study(
        self, study_uid: str = STUDY, state: StudyState = StudyState.ROUTED, revision: int = 1, **values: Any
    ) -> None:
        times = {"first_instance_at": 1.0, "last_instance_at": 2.0, "due_at": 3.0} | values
        with self.database.transaction() as session:
            session.add(StudyRow(study_uid=study_uid, state=state, revision=revision, **times))

    def add_job(
        self, model: str = "quick", *, study_uid: str = STUDY, urgency: int = 0, now: float = 1.0, revision: int = 1
    ) -> None:
        with self.database.transaction() as session:
            jobs.add(session, study_uid=study_uid, revision=revision, model=model, urgency=urgency, now=now)

    def report_status(self, study_uid: str = STUDY) -> str:
        """The status of the study's one report."""
        with self.database.reading() as session:
            return session.scalars(select(ReportRow.status).where(ReportRow.study_uid == study_uid)).one()

    def set_job(self, job_id: int, state: JobState) -> None:
        with self.database.transaction() as session:
            session.get_one(JobRow, job_id).state = state


@contextmanager
def opened(settings: Settings) -> Iterator[Node]:
    """A new node with these settings."""
    settings.data.mkdir()
    migrations.upgrade(settings.url)
    database = Database(settings.url)
    yield Node(settings=settings, database=database)
    database.close()


def dataset(study_uid: str, sop_uid: str, **elements: Any) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, sop_uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study_uid, f"{study_uid}.1"
    ds.PatientID, ds.PatientName, ds.Modality, ds.BodyPartExamined = "P1", "TEST^ANNA", "CT", "CHEST"
    ds.StudyDescription, ds.ImageType = "CT chest", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def encoded(ds: Dataset) -> bytes:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
