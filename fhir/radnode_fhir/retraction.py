"""Taking back what was sent: the same resources, entered in error (https://hl7.org/fhir/R4/diagnosticreport.html#notes)."""

from collections.abc import Sequence
from datetime import datetime

from radnode_fhir.codes import AI_ASSERTED, Json
from radnode_fhir.identifiers import identifier, instant

ENTERED_IN_ERROR = "entered-in-error"
TAKEN_BACK = frozenset({"DiagnosticReport", "Observation", "Task"})


def retraction(bundles: Sequence[Json], uid: str, *, reason: str, issued: datetime) -> Json:
    """One transaction that takes back every report, Observation and Task of `bundles`, the transactions that were sent.

    uid: of the new Bundle. issued: with a time zone. What others may own (ImagingStudy, Device) is left as it is.
    """
    entries: dict[str, Json] = {}
    for bundle in bundles:
        for entry in bundle["entry"]:
            entries[entry["fullUrl"]] = taken_back(entry, reason)
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "identifier": identifier(uid),
        "timestamp": instant(issued),
        "entry": list(entries.values()),
    }


def dropped(before: Json, after: Json) -> list[Json]:
    """The entries of findings of the AI that stand in one transaction and are not in the one that takes its place.

    What a person asserted is not among them: no result of an AI takes it back.
    """
    there = {entry["fullUrl"] for entry in after["entry"]}
    return [entry for entry in before["entry"] if entry["fullUrl"] not in there and is_of_ai(entry["resource"])]


def with_owners(entries: Sequence[Json], bundle: Json) -> list[Json]:
    """The entries, and those of `bundle` that they refer to: a transaction may point at nothing outside of itself."""
    return [*(e for e in bundle["entry"] if e["resource"]["resourceType"] in ("Device", "ImagingStudy")), *entries]


def is_of_ai(resource: Json) -> bool:
    asserted = AI_ASSERTED in resource.get("meta", {}).get("security", ())
    return resource["resourceType"] == "Observation" and asserted and resource["status"] != ENTERED_IN_ERROR


def taken_back(entry: Json, reason: str) -> Json:
    resource = entry["resource"]
    if resource["resourceType"] not in TAKEN_BACK:
        return entry
    changed = {**resource, "status": ENTERED_IN_ERROR}
    if resource["resourceType"] == "DiagnosticReport":
        changed["conclusion"] = f"RETRACTED: {reason}. It said: {resource.get('conclusion', '')}"
        changed.pop("presentedForm", None)
    return {**entry, "resource": changed}
