"""Read and search of the DiagnosticReports that the node wrote, and of what they refer to (R4, https://hl7.org/fhir/R4/http.html)."""

from collections.abc import Iterator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode.database import Database
from radnode.tables import ReportRow

MEDIA_TYPE = "application/fhir+json"
URN = "urn:uuid:"
Json = dict[str, Any]


def router(database: Database) -> APIRouter:
    made = APIRouter(tags=["fhir"])

    @made.get("/metadata")
    def metadata() -> Response:
        """The CapabilityStatement."""
        return answer(capability())

    @made.get("/DiagnosticReport")
    def search(
        request: Request,
        report_id: Annotated[str | None, Query(alias="_id")] = None,
        identifier: str | None = None,
        status: str | None = None,
        study: str | None = None,
        count: Annotated[int, Query(alias="_count", ge=0, le=1000)] = 100,
    ) -> Response:
        """A searchset. `identifier` and `status` as FHIR has them; `study` is a Study Instance UID."""
        with database.reading() as session:
            found = [report(row) for row in rows(session, report_id, study)]
        if status is not None:
            found = [r for r in found if r["status"] in status.split(",")]
        if identifier is not None:
            found = [r for r in found if any(matches(i, identifier) for i in r.get("identifier", ()))]
        base = str(request.base_url) + "fhir/DiagnosticReport"
        entries = [{"fullUrl": f"{base}/{r['id']}", "resource": r, "search": {"mode": "match"}} for r in found[:count]]
        return answer({"resourceType": "Bundle", "type": "searchset", "total": len(found), "entry": entries})

    @made.get("/{kind}/{resource_id}")
    def read(kind: str, resource_id: str) -> Response:
        """One DiagnosticReport, Observation, ImagingStudy, Device or Provenance."""
        with database.reading() as session:
            for row in rows(session, resource_id if kind == "DiagnosticReport" else None, None):
                for resource in resources(row):
                    if (resource["resourceType"], resource["id"]) == (kind, resource_id):
                        return answer(resource)
        return answer(outcome(f"There is no {kind} of this id."), 404)

    return made


def rows(session: Session, report_id: str | None, study_uid: str | None) -> Iterator[ReportRow]:
    query = select(ReportRow).order_by(ReportRow.updated_at.desc(), ReportRow.id)
    if report_id is not None:
        query = query.where(ReportRow.id == report_id)
    if study_uid is not None:
        query = query.where(ReportRow.study_uid == study_uid)
    yield from session.scalars(query)


def report(row: ReportRow) -> Json:
    return next(r for r in resources(row) if r["resourceType"] == "DiagnosticReport")


def resources(row: ReportRow) -> list[Json]:
    """The resources of a stored transaction as a server would hold them: with ids, and references that lead to them."""
    bundle: Json = dict(row.bundle)
    ids = {e["fullUrl"]: id_of(e, row) for e in bundle["entry"]}
    addresses = {e["fullUrl"]: f"{e['resource']['resourceType']}/{ids[e['fullUrl']]}" for e in bundle["entry"]}
    made = []
    for entry in bundle["entry"]:
        resource = {**with_addresses(entry["resource"], addresses), "id": ids[entry["fullUrl"]]}
        retracted = row.status == "entered-in-error" and resource["resourceType"] == "Observation"
        if retracted or resource["resourceType"] == "DiagnosticReport":
            resource["status"] = row.status  # the one that holds now: what was retracted stays, and says so
        made.append(resource)
    return made


def id_of(entry: Json, row: ReportRow) -> str:
    return (
        row.id if entry["resource"]["resourceType"] == "DiagnosticReport" else str(entry["fullUrl"]).removeprefix(URN)
    )


def with_addresses(value: Any, addresses: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            k: addresses.get(v, v) if k == "reference" and isinstance(v, str) else with_addresses(v, addresses)
            for k, v in value.items()
        }
    return [with_addresses(v, addresses) for v in value] if isinstance(value, list) else value


def matches(identifier: Json, wanted: str) -> bool:
    """A token search: `system|value` or `value`."""
    system, bar, value = wanted.rpartition("|")
    return identifier.get("value") == value and (not bar or identifier.get("system", "") == system)


def capability() -> Json:
    parameters = [{"name": name, "type": "token"} for name in ("_id", "identifier", "status")]
    read_only = [{"code": "read"}]
    others = [{"type": t, "interaction": read_only} for t in ("Observation", "ImagingStudy", "Device", "Provenance")]
    reports: Json = {
        "type": "DiagnosticReport",
        "interaction": [*read_only, {"code": "search-type"}],
        "searchParam": parameters,
    }
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "kind": "instance",
        "date": "2026-11-22",
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "implementation": {"description": "radnode: reports of AI models, not verified by a radiologist"},
        "rest": [{"mode": "server", "resource": [reports, *others]}],
    }


def outcome(words: str) -> Json:
    issue = {"severity": "error", "code": "not-found", "diagnostics": words}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def answer(resource: Json, status: int = 200) -> Response:
    return Response(orjson.dumps(resource), status_code=status, media_type=MEDIA_TYPE)
