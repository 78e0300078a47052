"""The audit as FHIR asks for it: rows found and read as AuditEvents, never written (https://hl7.org/fhir/R4/auditevent.html)."""

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from radnode import audit
from radnode.audit import Entry
from radnode.audit_messages import EVENTS, OUTCOMES, facts
from radnode.errors import FhirError
from radnode.fhir_server.search import COUNT, MOST, Page, Pairs, moment, number
from radnode.fhir_server.store import Stored
from radnode.tables_access import AuditRow
from radnode_fhir.audit_event import DCM, audit_event
from radnode_fhir.identifiers import DICOM_UID

KIND = "AuditEvent"
PARAMETERS: Mapping[str, str] = {
    "_id": "token", "date": "date", "type": "token", "subtype": "token", "action": "token", "outcome": "token",
    "agent-name": "string", "address": "string", "entity": "reference", "patient": "reference",
}  # fmt: skip
"""What can be searched by. `entity` by a study's identifier, `patient` by a patient's, with `:identifier` or without."""
PAGES = frozenset({"_count", "_offset", "_format"})


def search(session: Session, pairs: Pairs) -> Page:
    """The newest first. Raises FhirError for a parameter that is not known, or malformed."""
    where = [condition(name, value) for name, value in pairs if name not in PAGES]
    total = session.scalar(select(func.count()).select_from(AuditRow).where(*where)) or 0
    count, offset = number(pairs, "_count", COUNT, MOST), number(pairs, "_offset", 0, None)
    rows = session.scalars(
        select(AuditRow).where(*where).order_by(AuditRow.number.desc()).limit(count).offset(offset)
    ).all()
    return Page(total=total, count=count, offset=offset, found=tuple(stored(audit.view(row)) for row in rows))


def read(session: Session, resource_id: str) -> Stored | None:
    """The row of this number."""
    row = session.get(AuditRow, int(resource_id)) if is_number(resource_id) else None
    return None if row is None else stored(audit.view(row))


def stored(entry: Entry) -> Stored:
    return Stored(
        key=entry.number, kind=KIND, id=str(entry.number), version=1, updated_at=entry.at, source=audit.NODE,
        body=audit_event(facts(entry)),
    )  # fmt: skip


def condition(name: str, value: str) -> ColumnElement[bool]:
    """One parameter; values joined by "," mean any of them."""
    some = value.split(",")
    if name == "_id":
        return AuditRow.number.in_([int(v) for v in some if is_number(v)])
    if name == "date":
        return or_(*(moment(AuditRow.at, AuditRow.at, v) for v in some))
    if name in ("agent-name", "address"):
        column = AuditRow.who if name == "agent-name" else AuditRow.address
        return or_(*(func.lower(column).startswith(v.lower(), autoescape=True) for v in some))
    if name in ("entity", "entity:identifier"):
        return and_(AuditRow.study_uid.in_([uid_of(v) for v in some]), AuditRow.study_uid != "")
    if name in ("patient", "patient:identifier"):
        return and_(AuditRow.patient_id.in_([v.rpartition("|")[2] for v in some]), AuditRow.patient_id != "")
    if name in ("type", "subtype", "action"):
        return AuditRow.kind.in_(kinds(name, some))
    if name == "outcome":
        return AuditRow.outcome.in_([str(o) for o, code in OUTCOMES.items() if code in some])
    raise FhirError(400, "not-supported", f"{KIND} cannot be searched by {name!r} here.")


def kinds(name: str, wanted: Sequence[str]) -> list[str]:
    """The kinds of rows whose event, type or action has one of these codes."""
    codes = {
        kind: e.action if name == "action" else e.event.code if name == "type" else e.type.code if e.type else ""
        for kind, e in EVENTS.items()
    }
    asked = {v if name == "action" else v.removeprefix(f"{DCM}|") for v in wanted}
    return [str(kind) for kind, code in codes.items() if code and code in asked]


def uid_of(value: str) -> str:
    """A Study Instance UID as an identifier (`urn:dicom:uid|urn:oid:1.2`), or bare."""
    return value.removeprefix(f"{DICOM_UID}|").removeprefix("urn:oid:")


def is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) < 10
