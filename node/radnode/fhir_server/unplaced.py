"""Reports of other systems that are about no study here: no row of the worklist would ever tell of them. Reads only."""

from dataclasses import dataclass

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from radnode.fhir_server import reports as fhir_reports
from radnode.fhir_server import store as fhir_store
from radnode.fhir_server.reports import REMEMBERED_S
from radnode.fhir_server.store import OWN, Stored
from radnode.tables import ReportRow, StudyRow
from radnode.tables_fhir import ResourceRow

SHOWN = 50


@dataclass(frozen=True, kw_only=True)
class Unplaced:
    """One report. at: when it came or changed, UTC epoch seconds. source: who posted it. why: in words, without the patient."""

    id: str
    at: float
    source: str
    why: str


def count(session: Session, now: float) -> int:
    """Of the last seven days, while a report waits for its images."""
    return session.scalar(select(func.count()).select_from(ResourceRow).where(*nowhere(now))) or 0


def newest(session: Session, now: float) -> tuple[Unplaced, ...]:
    """The last that came, SHOWN at most."""
    rows = session.scalars(
        select(ResourceRow).where(*nowhere(now)).order_by(ResourceRow.updated_at.desc()).limit(SHOWN)
    )
    found = [fhir_store.stored(row) for row in rows]
    return tuple(Unplaced(id=s.id, at=s.updated_at, source=s.source, why=why(session, s)) for s in found)


def nowhere(now: float) -> tuple[ColumnElement[bool], ...]:
    """What holds of them: no study that is here has them."""
    placed = exists().where(ReportRow.id == ResourceRow.resource_id, ReportRow.study_uid == StudyRow.study_uid)
    recent = ResourceRow.updated_at > now - REMEMBERED_S
    return (
        ResourceRow.kind == "DiagnosticReport",
        ResourceRow.current.is_(True),
        ResourceRow.source != OWN,
        recent,
        ~placed,
    )


def why(session: Session, report: Stored) -> str:
    named = fhir_reports.named(session, report)
    if named.uids:
        return "the study that it names is not here"
    if not named.numbers:
        return "it names neither a study nor an order"
    here = select(StudyRow.patient_id).where(StudyRow.accession_number.in_(named.numbers))
    patients = session.scalars(here).all()
    if not patients:
        return "no study here has its accession number"
    if named.patients and not named.patients & set(patients):
        return "the study with its accession number is of a patient with another identifier"
    return "more than one study has its accession number"
