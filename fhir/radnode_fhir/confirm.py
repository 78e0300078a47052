"""A person stands for a report: the same resources, final, with the person's name (https://hl7.org/fhir/R4/diagnosticreport.html)."""

from datetime import datetime

from radnode_fhir.codes import Json
from radnode_fhir.diagnostic_report import OPENING
from radnode_fhir.identifiers import full_url, identifier, instant
from radnode_inference.findings import uid_from

FINAL = "final"
VERIFIER = {
    "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
    "code": "verifier",
    "display": "Verifier",
}


def confirmation(bundle: Json, *, person: str, at: datetime) -> Json:
    """The transaction that makes the report in `bundle` (what was sent) final. person: who confirmed it, by name.

    What the AI asserted keeps its label; a Provenance says who verified it and when. at: with a time zone.
    Raises ValueError without a name, and for a report that was taken back.
    """
    if not person.strip():
        raise ValueError("a report is confirmed by a person with a name")
    entries = [confirmed(e, person.strip()) for e in bundle["entry"]]
    targets = [e for e in entries if e["resource"].get("status") == FINAL]
    uid = uid_from(("confirmation", str(bundle.get("identifier", {}).get("value", "")), person, instant(at)))
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "identifier": identifier(uid),
        "timestamp": instant(at),
        "entry": [*entries, verification(uid, [e["fullUrl"] for e in targets], person.strip(), at)],
    }


def confirmed(entry: Json, person: str) -> Json:
    resource = entry["resource"]
    if resource["resourceType"] not in ("DiagnosticReport", "Observation"):
        return entry
    if resource["status"] == "entered-in-error":
        raise ValueError("a report that was taken back cannot be confirmed")
    changed = {**resource, "status": FINAL}
    if resource["resourceType"] == "DiagnosticReport":
        said = str(resource.get("conclusion", "")).removeprefix(OPENING)
        changed["conclusion"] = f"AI, confirmed by {person}: {said}"
        changed["resultsInterpreter"] = [{"type": "Practitioner", "display": person}]
        changed.pop("presentedForm", None)  # it says that nobody verified it
    return {**entry, "resource": changed}


def verification(uid: str, targets: list[str], person: str, at: datetime) -> Json:
    address = full_url(uid)
    number = address.removeprefix("urn:uuid:")
    made: Json = {
        "resourceType": "Provenance",
        "id": number,
        "target": [{"reference": t} for t in targets],
        "recorded": instant(at),
        "agent": [{"type": {"coding": [VERIFIER]}, "who": {"type": "Practitioner", "display": person}}],
    }
    return {"fullUrl": address, "resource": made, "request": {"method": "PUT", "url": f"Provenance/{number}"}}
