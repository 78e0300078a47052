"""What the reports of a study said at each moment, from the versions that the node's FHIR store keeps. Reads only."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from radnode import triage
from radnode.fhir_server import store as fhir_store
from radnode.tables import ReportRow
from radnode.tables_fhir import ResourceRow
from radnode.triage import Report

REPORT, OBSERVATION = "DiagnosticReport", "Observation"
Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Said:
    """From `at` on (UTC epoch seconds) a report said this; None: nothing that can be read. report_id: of its row."""

    at: float
    report_id: str
    report: Report | None


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a resource."""

    at: float
    body: Json


def told(session: Session, studies: Select[str]) -> Mapping[str, tuple[Said, ...]]:
    """Study UID -> what its reports said, in order of time; () for a study without any.

    A report of which the store has no version (its row alone was kept) counts as it stands now, from when it was issued.
    """
    rows = session.scalars(select(ReportRow).where(ReportRow.study_uid.in_(studies.scalar_subquery()))).all()
    names = {row.id: stored_id(row) for row in rows}
    reports = versions(session, REPORT, names.values())
    named = {o for known in reports.values() for v in known for o in results(v.body)}
    observations = versions(session, OBSERVATION, named)
    found: dict[str, list[Said]] = defaultdict(list)
    for row in rows:
        known = reports.get(names[row.id], ())
        if known:
            found[row.study_uid] += changes(row, known, observations)
        else:
            report = triage.read(row.bundle, row.model, row.status)
            found[row.study_uid].append(Said(at=row.issued_at, report_id=row.id, report=report))
    return defaultdict(tuple, {uid: tuple(sorted(said, key=lambda s: s.at)) for uid, said in found.items()})


def changes(row: ReportRow, known: Sequence[Version], observations: Mapping[str, Sequence[Version]]) -> Iterator[Said]:
    """What one report said from each moment on at which it or an Observation of it was written."""
    moments = {v.at for v in known}
    moments |= {o.at for v in known for n in results(v.body) for o in observations.get(n, ()) if o.at > known[0].at}
    for at in sorted(moments):
        body = latest(known, at)
        entries = [{"fullUrl": REPORT, "resource": body}]
        for name in results(body):
            then = latest(observations.get(name, ()), at)
            entries += [{"fullUrl": f"{OBSERVATION}/{name}", "resource": then}] if then else []
        bundle = {"resourceType": "Bundle", "entry": entries}
        yield Said(at=at, report_id=row.id, report=triage.read(bundle, row.model, str(body.get("status", ""))))


def latest(known: Sequence[Version], at: float) -> Json:
    """The version that stood at this moment; {} before the first."""
    return next((v.body for v in reversed(known) if v.at <= at), {})


def stored_id(row: ReportRow) -> str:
    """The id of the row's DiagnosticReport in the FHIR store."""
    entries: Any = row.bundle.get("entry", ())
    address = next((str(e.get("fullUrl", "")) for e in entries if e["resource"]["resourceType"] == REPORT), "")
    return address.removeprefix("urn:uuid:").rpartition("/")[2]


def versions(session: Session, kind: str, ids: Iterable[str]) -> Mapping[str, tuple[Version, ...]]:
    """Every version of these resources, the oldest first."""
    found: dict[str, list[Version]] = defaultdict(list)
    columns = select(ResourceRow.resource_id, ResourceRow.updated_at, ResourceRow.body).where(ResourceRow.kind == kind)
    for some in fhir_store.parts(sorted(set(ids) - {""})):
        query = columns.where(ResourceRow.resource_id.in_(some)).order_by(ResourceRow.version)
        for resource_id, at, body in session.execute(query):
            found[resource_id].append(Version(at=at, body=body))
    return {name: tuple(known) for name, known in found.items()}


def results(report: Json) -> list[str]:
    """The ids of the Observations that a report names."""
    references = (str(r.get("reference", "")) for r in report.get("result", ()))
    return [r.removeprefix(f"{OBSERVATION}/") for r in references if r.startswith(f"{OBSERVATION}/")]
