"""DiagnosticReports of other systems -> the reports that triage reads, with the study they are about."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from radnode import fhir_store
from radnode.database import Database
from radnode.fhir_store import OWN, Json, Stored
from radnode.tables import ReportRow, StudyRow
from radnode.tables_fhir import ResourceRow, TermRow
from radnode_fhir.read import model_name
from radnode_fhir.terms import at

BY_FHIR = " (by FHIR)"
"""Ends the name of another system's model: no model of the node has a name with a space."""
REMEMBERED_S = 7 * 86400.0
"""How long a report waits for the images that it is about."""
FOLLOWED = ("result", "imagingStudy", "basedOn", "subject", "device", "derivedFrom", "performer")


def link(session: Session, changed: Sequence[Stored], now: float) -> int:
    """Make or renew the report of every DiagnosticReport among `changed`, or that names one of them; how many are linked."""
    reports = {s.id: s for s in changed if s.kind == "DiagnosticReport"}
    for seen in fhir_store.parts([s.id for s in changed if s.kind == "Observation"]):
        naming = (TermRow.name == "result", TermRow.system == "Observation", TermRow.value.in_(seen))
        query = select(ResourceRow.resource_id).join(TermRow, TermRow.resource == ResourceRow.id).where(*naming)
        names = session.scalars(query.where(ResourceRow.current, ResourceRow.kind == "DiagnosticReport")).all()
        others = fhir_store.addressed(session, [f"DiagnosticReport/{name}" for name in names])
        reports |= {report.id: report for report in others if report.source != OWN}
    return sum(link_one(session, report, now) for report in reports.values())


def link_waiting(database: Database, now: float) -> int:
    """Reports that came before their images: those whose study is here by now; how many."""
    waiting = select(ResourceRow.resource_id).where(
        ResourceRow.kind == "DiagnosticReport",
        ResourceRow.current,
        ResourceRow.source != OWN,
        ResourceRow.updated_at > now - REMEMBERED_S,
        ~exists().where(ReportRow.id == ResourceRow.resource_id),
    )
    with database.reading() as session:
        ids = session.scalars(waiting).all()
    if not ids:
        return 0
    with database.transaction() as session:
        found = (fhir_store.get(session, "DiagnosticReport", i) for i in ids)
        return sum(link_one(session, report, now) for report in found if report is not None)


def link_one(session: Session, report: Stored, now: float) -> bool:
    """False when it is not known which study the report is about."""
    there = around(session, report)
    study_uid = study_of(session, report.resource, [s.resource for s in there])
    if not study_uid:
        return False
    bundle = collection([report, *there])
    row = session.get(ReportRow, report.id)
    if row is None:
        row = ReportRow(id=report.id, study_uid=study_uid, issued_at=now, bundle={})
        row.model = name_for(session, study_uid, report, there)
        session.add(row)
    row.status, row.updated_at = str(report.body.get("status", "")), now
    row.bundle = cast(dict[str, object], bundle)
    session.flush()
    return True


def around(session: Session, report: Stored) -> list[Stored]:
    """What the report refers to, and what its Observations refer to."""
    first = fhir_store.addressed(session, local(report.body))
    second = (a for s in first if s.kind == "Observation" for a in local(s.body))
    known = {s.address for s in first} | {report.address}
    return [*first, *(s for s in fhir_store.addressed(session, second) if s.address not in known)]


def local(body: Json) -> Iterable[str]:
    return (str(v) for name in FOLLOWED for v in at(body, f"{name}.reference") if isinstance(v, str) and "://" not in v)


def collection(members: Sequence[Stored]) -> dict[str, Any]:
    entries = [{"fullUrl": s.address, "resource": s.resource} for s in members]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def study_of(session: Session, report: Json, there: Sequence[Json]) -> str:
    """The Study Instance UID: of the ImagingStudy, else of the one study with the accession number and no other patient.

    "" when there is none, or the answer is not unique.
    """
    studies = [r for r in there if r["resourceType"] == "ImagingStudy"]
    named = [*(v for s in studies for v in at(s, "identifier")), *at(report, "imagingStudy.identifier")]
    uids = {str(i.get("value", "")).removeprefix("urn:oid:") for i in named if i.get("system") == "urn:dicom:uid"}
    if uids:
        return uids.pop() if len(uids) == 1 else ""
    orders = [r for r in there if r["resourceType"] == "ServiceRequest"]
    numbers = {str(v) for v in at(report, "basedOn.identifier.value")} | {
        str(v) for o in orders for v in at(o, "identifier.value")
    }
    patients = {str(v) for v in at(report, "subject.identifier.value")}
    patients |= {str(v) for r in there if r["resourceType"] == "Patient" for v in at(r, "identifier.value")}
    query = select(StudyRow.study_uid, StudyRow.patient_id).where(StudyRow.accession_number.in_(numbers - {""}))
    found = [uid for uid, patient in session.execute(query) if not patients or patient in patients]
    return found[0] if len(found) == 1 else ""


def name_for(session: Session, study_uid: str, report: Stored, there: Sequence[Stored]) -> str:
    """The Device's name, or who signed, or who posted; made unique among the reports of the study."""
    performers = [str(v) for v in at(report.body, "performer.display")]
    name = model_name(s.resource for s in there) or next(iter(performers), "") or report.source
    taken = set(session.scalars(select(ReportRow.model).where(ReportRow.study_uid == study_uid)))
    plain = name[: 64 - len(BY_FHIR)] + BY_FHIR
    return plain if plain not in taken else f"{name[:44]} {report.id[:8]}{BY_FHIR}"
