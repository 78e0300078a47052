"""A changed priority for a FHIR server: its own ServiceRequest gets the priority, and a Task says that the study is to be read so.

The order is looked up and never made; what is written names the version that was read, so that nobody's change is lost. An AI
raises what others set and takes back only what it raised: the Task remembers the priority that stood before.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from radnode.destinations.fhir_rest_lookup import Json, Search, of_order, only
from radnode_fhir.identifiers import DICOM_UID, identifier, query
from radnode_inference.findings import uid_from

PRIORITIES: Mapping[str, str] = {"STAT": "stat", "HIGH": "urgent", "ROUTINE": "routine"}
"""Our levels in http://hl7.org/fhir/request-priority."""
RANKS: Sequence[str] = ("stat", "asap", "urgent", "routine")
FULFIL = {
    "system": "http://hl7.org/fhir/CodeSystem/task-code",
    "code": "fulfill",
    "display": "Fulfill the focal request",
}
BEFORE = "Priority before the AI's"
"""The input of the Task that holds what the order said."""


class NothingToChangeError(Exception):
    """The sentence says why the server is told nothing."""


def changed(notice: Mapping[str, Any], search: Search, *, order_system: str = "") -> Json:
    """The transaction that changes the priority of an order. notice: see `radnode.notify`. Raises NothingToChangeError."""
    accession, patient_id = str(notice["accession_number"]), str(notice["patient_id"])
    if not accession or not patient_id:
        raise NothingToChangeError("the study has no accession number or no patient ID, so its order cannot be found")
    order = only(search, "ServiceRequest", {"value": accession}, order_system, bare=True)
    if order is None:
        raise NothingToChangeError("the server knows no order, or more than one, with this accession number")
    if of_order(search, order, {"value": patient_id}) is None:
        raise NothingToChangeError("the order with this accession number is of another patient")
    uid = uid_from(("reading", str(notice["study_uid"])))
    task = next(iter(search(f"Task?{query(identifier(uid))}")), None)
    stands, before = str(order.get("priority", "routine")), remembered(task)
    wanted = higher(PRIORITIES[notice["level"]], before or "")
    raised_by_us = task is not None and stands == task.get("priority")
    if not raised_by_us:  # what stands is another's word
        before, wanted = stands, higher(wanted, stands)
    reading = to_read(uid, order, wanted, before or stands, notice)
    return {"resourceType": "Bundle", "type": "transaction", "entry": [
        *([] if wanted == stands else [replaced(order, wanted)]),
        {"resource": reading, "request": {"method": "PUT", "url": f"Task?{query(identifier(uid))}"}},
    ]}  # fmt: skip


def higher(one: str, other: str) -> str:
    """The more urgent of two priorities; one that is not known is none."""
    known = [p for p in (one, other) if p in RANKS]
    return min(known, key=RANKS.index)


def remembered(task: Json | None) -> str | None:
    """The priority that stood before, as the Task tells it."""
    for given in (task or {}).get("input", ()):
        if given.get("type", {}).get("text") == BEFORE:
            return str(given.get("valueCode", ""))
    return None


def replaced(order: Json, priority: str) -> Json:
    """The server's own resource with another priority, for the version that was read."""
    meta = {k: v for k, v in order.get("meta", {}).items() if k not in ("versionId", "lastUpdated")}
    resource = (
        {k: v for k, v in order.items() if k != "meta"} | ({"meta": meta} if meta else {}) | {"priority": priority}
    )
    request = {"method": "PUT", "url": f"ServiceRequest/{order['id']}"}
    version = order.get("meta", {}).get("versionId")
    return {"resource": resource, "request": request | ({"ifMatch": f'W/"{version}"'} if version else {})}


def to_read(uid: str, order: Json, priority: str, before: str, notice: Mapping[str, Any]) -> Json:
    """The Task of reading the study. https://hl7.org/fhir/R4/task.html"""
    at = datetime.fromtimestamp(float(notice["at"]), UTC).isoformat(timespec="seconds")
    there = {"reference": f"ServiceRequest/{order['id']}"}
    return {
        "resourceType": "Task",
        "identifier": [identifier(uid)],
        "status": "requested",
        "intent": "order",
        "priority": priority,
        "code": {"coding": [FULFIL], "text": "Read this imaging study"},
        "description": str(notice["reason"]),
        "focus": there,
        "basedOn": [there],
        "for": order["subject"],
        "authoredOn": at,
        "lastModified": at,
        "reasonReference": {"type": "ImagingStudy", "identifier": identifier(str(notice["study_uid"]), DICOM_UID)},
        "input": [{"type": {"text": BEFORE}, "valueCode": before}],
    }
