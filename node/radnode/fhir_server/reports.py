"""DiagnosticReports of other systems -> the reports that triage reads, with the study they are about."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import and_, exists, or_, select, tuple_
from sqlalchemy.orm import Session

from radnode import events
from radnode.database import Database
from radnode.events import Action
from radnode.fhir_server import store as fhir_store
from radnode.fhir_server.search import by_identifier
from radnode.fhir_server.store import OWN, Json, Stored
from radnode.tables import ReportRow, StudyRow
from radnode.tables_fhir import ResourceRow, TermRow
from radnode.triage import BY_FHIR
from radnode_fhir.identifiers import DICOM_UID
from radnode_fhir.read import model_name
from radnode_fhir.terms import LOCAL, at, cut

REMEMBERED_S = 7 * 86400.0
"""How long a report waits for the images that it is about."""
NAME = 44
"""Characters of another system's model's name; with what makes it unique it fits its column."""
OBSERVED = ("result", "hasMember")
FOLLOWED = (*OBSERVED, "imagingStudy", "basedOn", "subject", "device", "derivedFrom", "performer", "resultsInterpreter")
NAMING = ("result", "has-member")
LOGICAL = tuple(f"{name}:identifier" for name in NAMING)
"""The search parameters of OBSERVED, by address and by identifier."""
DEEP = 4
"""How far panels within panels are followed."""


def link(session: Session, changed: Sequence[Stored], now: float) -> Mapping[str, str]:
    """Make or renew the report of every DiagnosticReport among `changed`, or that names one of them.

    Report id -> the study that it was about until now, of those that are about another one, or about none that is here.
    """
    reports = {s.id: s for s in changed if s.kind == "DiagnosticReport"}
    seen = [s for s in changed if s.kind == "Observation"]
    for _ in range(DEEP):
        holders = naming(session, seen)
        reports |= {s.id: s for s in holders if s.kind == "DiagnosticReport" and s.source != OWN}
        seen = [s for s in holders if s.kind == "Observation"]
    left = {report.id: link_one(session, report, now).left for report in reports.values()}
    return {name: study_uid for name, study_uid in left.items() if study_uid}


def naming(session: Session, seen: Sequence[Stored]) -> list[Stored]:
    """The reports and panels that name these Observations, by address or by identifier."""
    found: dict[int, Stored] = {}
    for some in fhir_store.parts(seen):
        known = [
            (cut(str(i.get("system", ""))), cut(str(i.get("value", ""))))
            for s in some
            for i in at(s.body, "identifier")
        ]
        ids = [s.id for s in some]
        by_address = and_(TermRow.name.in_(NAMING), TermRow.system == "Observation", TermRow.value.in_(ids))
        by_name = and_(TermRow.name.in_(LOGICAL), tuple_(TermRow.system, TermRow.value).in_(known))
        keys = session.scalars(select(TermRow.resource).where(or_(by_address, by_name))).all()
        found |= {s.key: s for s in fhir_store.load(session, sorted(set(keys)))}  # only current versions have terms
    return list(found.values())


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
        return sum(link_one(session, report, now).linked for report in found if report is not None)


@dataclass(frozen=True, kw_only=True)
class Link:
    """linked: the report is about a study. left: the study that it was about before, where that is another; else ""."""

    linked: bool
    left: str = ""


def link_one(session: Session, report: Stored, now: float) -> Link:
    """Make or renew the row of a report. A version that names no study is about the one that the report was about before.

    A version that names another study is about that one alone; where it is not here, the report waits for its images again.
    """
    there = around(session, report)
    row = session.get(ReportRow, report.id)
    study_uid = study_of(session, about_with(report, there), row.study_uid if row is not None else "")
    left = row.study_uid if row is not None and row.study_uid != study_uid else ""
    if row is not None and not study_uid:
        session.delete(row)
    elif study_uid:
        row = row or ReportRow(id=report.id, issued_at=now)
        if row.study_uid != study_uid:
            row.study_uid, row.model = study_uid, name_for(session, study_uid, report, there)
        row.bundle = cast(dict[str, object], collection([report, *there]))
        row.status, row.updated_at = str(report.body.get("status", "")), now
        session.add(row)
    session.flush()
    if left:
        sentence = f"The report {report.id} of another system is not about this study any more: it was corrected."
        events.write(session, left, Action.MOVED, sentence, now)
    return Link(linked=bool(study_uid), left=left)


def named(session: Session, report: Stored) -> "About":
    """What a report names, with what it refers to."""
    return about_with(report, around(session, report))


def about_with(report: Stored, there: Sequence[Stored]) -> "About":
    return about(report.resource, [r for s in (report, *there) for r in parts(s.resource)])


def around(session: Session, report: Stored) -> list[Stored]:
    """What the report refers to, what its Observations refer to, and the members of its panels."""
    found: dict[str, Stored] = {report.address: report}
    bodies = [report.body]
    for _ in range(DEEP):
        there = fhir_store.addressed(session, (a for body in bodies for a in local(body)))
        by_name = by_identifier(session, "Observation", [n for body in bodies for n in logical(body)])
        there += [stored for some in by_name.values() for stored in some]
        new = {s.address: s for s in there if s.address not in found}
        found |= new
        bodies = [s.body for s in new.values() if s.kind == "Observation"]
    return list(found.values())[1:]


def local(body: Json) -> Iterable[str]:
    """The addresses in this store that a resource, or one that it contains, refers to; without versions."""
    targets = (v for part in parts(body) for name in FOLLOWED for v in at(part, f"{name}.reference"))
    return (f"{m.group(1)}/{m.group(2)}" for v in targets if isinstance(v, str) and (m := LOCAL.fullmatch(v)))


def logical(body: Json) -> list[tuple[str, str]]:
    """The identifiers by which it refers to Observations."""
    targets = [v for part in parts(body) for name in OBSERVED for v in at(part, name) if isinstance(v, dict)]
    names = [v["identifier"] for v in targets if "reference" not in v and isinstance(v.get("identifier"), dict)]
    return [(str(n.get("system", "")), str(n["value"])) for n in names if n.get("value")]


def parts(body: Json) -> list[Json]:
    """A resource and those that it contains."""
    return [body, *body.get("contained", ())]


def collection(members: Sequence[Stored]) -> dict[str, Any]:
    entries = [{"fullUrl": s.address, "resource": s.resource} for s in members]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


@dataclass(frozen=True, kw_only=True)
class About:
    """What a report names: Study Instance UIDs, accession numbers and patients' identifiers, of each any number."""

    uids: frozenset[str]
    numbers: frozenset[str]
    patients: frozenset[str]


def about(report: Json, there: Sequence[Json]) -> About:
    studies = [r for r in there if r["resourceType"] == "ImagingStudy"]
    named = [*(v for s in studies for v in at(s, "identifier")), *at(report, "imagingStudy.identifier")]
    orders = [r for r in there if r["resourceType"] == "ServiceRequest"]
    numbers = {v for o in orders for v in accession_numbers(o)}
    patients = {str(v) for r in there if r["resourceType"] == "Patient" for v in at(r, "identifier.value")}
    return About(
        uids=frozenset(str(i.get("value", "")).removeprefix("urn:oid:") for i in named if i.get("system") == DICOM_UID),
        numbers=frozenset(numbers | {str(v) for v in at(report, "basedOn.identifier.value")}) - {""},
        patients=frozenset(patients | {str(v) for v in at(report, "subject.identifier.value")}),
    )


def accession_numbers(order: Json) -> set[str]:
    """The identifiers of an order that are called accession numbers (table v2-0203); any where none is called anything."""
    named = [i for i in at(order, "identifier") if isinstance(i, dict) and i.get("value")]
    called = [i for i in named if "ACSN" in at(i, "type.coding.code")]
    return {str(i["value"]) for i in called or [i for i in named if "type" not in i] or named}


def study_of(session: Session, named: About, before: str) -> str:
    """The Study Instance UID: of the ImagingStudy, else of the one study with the accession number and no other patient.

    before: the study that the report was about until now, which stays where nothing that is named speaks against it.
    "" when there is none, or the answer is not unique.
    """
    if named.uids:
        one = min(named.uids) if len(named.uids) == 1 else ""
        return before if before in named.uids else one
    if before and not named.numbers:
        patient = session.scalar(select(StudyRow.patient_id).where(StudyRow.study_uid == before))
        return "" if patient and named.patients and patient not in named.patients else before
    query = select(StudyRow.study_uid, StudyRow.patient_id).where(StudyRow.accession_number.in_(named.numbers))
    found = [uid for uid, patient in session.execute(query) if not named.patients or patient in named.patients]
    return before if before in found else found[0] if len(found) == 1 else ""


def study_known(session: Session, report: Stored) -> str:
    """The study that a stored report is about, the node's own or another system's; "" when nobody knows."""
    row = session.get(ReportRow, report.id)
    return study_of(session, about_with(report, around(session, report)), "" if row is None else row.study_uid)


def name_for(session: Session, study_uid: str, report: Stored, there: Sequence[Stored]) -> str:
    """The Device's name, or who signed, or who posted; made unique among the reports of the study."""
    performers = [str(v) for v in at(report.body, "performer.display")]
    contained = (r for s in (report, *there) for r in parts(s.body))
    name = model_name(contained) or next(iter(performers), "") or report.source
    taken = set(session.scalars(select(ReportRow.model).where(ReportRow.study_uid == study_uid)))
    plain = name[:NAME] + BY_FHIR
    return plain if plain not in taken else f"{name[:NAME]} {report.id[:8]}{BY_FHIR}"


def device_of(model: str, report_id: str) -> str:
    """The name of a report's model without what made it unique: an AI that reports twice is still one."""
    unique = f" {report_id[:8]}{BY_FHIR}"
    return model.removesuffix(unique) + BY_FHIR if model.endswith(unique) else model
