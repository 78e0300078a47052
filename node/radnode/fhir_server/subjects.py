"""Of which study and which patient resources are that somebody reads through `/fhir`: what the audit has to know of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode.fhir_server import reports as fhir_reports
from radnode.fhir_server import store as fhir_store
from radnode.fhir_server.store import Stored
from radnode.tables import StudyRow
from radnode_fhir.identifiers import DICOM_UID
from radnode_fhir.terms import LOCAL


def subjects(session: Session, found: Sequence[Stored]) -> tuple[str, str]:
    """The study and the patient's identifier; each "" where nobody knows one, or they are several."""
    near = [*found, *fhir_store.addressed(session, {a for s in found for a in local(s.body)})]
    studies = known(session, {uid for s in near for uid in dicom_uids(s.body)})
    for stored in found if len(studies) != 1 else ():
        studies |= of_report(session, stored)
    patients = set(studies.values()) or {p for s in near for p in named(s.body)}
    return alone(set(studies)), alone(patients)


def of_report(session: Session, stored: Stored) -> dict[str, str]:
    """The studies of a report, or of the reports that name an Observation."""
    reports = [stored] if stored.kind == "DiagnosticReport" else []
    if stored.kind == "Observation":
        reports = [s for s in fhir_reports.naming(session, [stored]) if s.kind == "DiagnosticReport"]
    return known(session, {fhir_reports.study_known(session, r) for r in reports})


def known(session: Session, uids: set[str]) -> dict[str, str]:
    """Study Instance UID -> Patient ID of those that are studies of this node."""
    found: dict[str, str] = {}
    for some in fhir_store.parts(sorted(uids)):
        query = select(StudyRow.study_uid, StudyRow.patient_id).where(StudyRow.study_uid.in_(some))
        found |= {row.study_uid: row.patient_id for row in session.execute(query)}
    return found


def alone(values: set[str]) -> str:
    return next(iter(values)) if len(values) == 1 else ""


def dicts(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every object in a resource, itself first. However deep it is nested."""
    left: list[Any] = [body]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            yield one
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)


def local(body: Mapping[str, Any]) -> Iterator[str]:
    """The addresses in this store that a resource refers to."""
    for one in dicts(body):
        match = LOCAL.fullmatch(one["reference"]) if isinstance(one.get("reference"), str) else None
        if match:
            yield f"{match.group(1)}/{match.group(2)}"


def dicom_uids(body: Mapping[str, Any]) -> Iterator[str]:
    for one in dicts(body):
        if one.get("system") == DICOM_UID:
            yield str(one.get("value", "")).removeprefix("urn:oid:")


def named(body: Mapping[str, Any]) -> Iterator[str]:
    """The identifiers of patients that a resource names: its own where it is one, else those that it points at."""
    if body.get("resourceType") == "Patient":
        yield from (str(i["value"]) for i in body.get("identifier", ())[:1] if isinstance(i, dict) and i.get("value"))
    for one in dicts(body):
        pointed = one.get("identifier")
        if one.get("type") == "Patient" and isinstance(pointed, dict) and pointed.get("value"):
            yield str(pointed["value"])
