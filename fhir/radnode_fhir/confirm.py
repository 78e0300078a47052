"""A person stands for a report: the same resources, final, with the person's name (https://hl7.org/fhir/R4/diagnosticreport.html)."""

from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from radnode_fhir import codes
from radnode_fhir.bundle import put
from radnode_fhir.codes import Json, concept
from radnode_fhir.diagnostic_report import OPENING
from radnode_fhir.identifiers import DICOM_UID, full_url, identifier, instant
from radnode_fhir.retraction import ENTERED_IN_ERROR
from radnode_inference.findings import uid_from

CONFIRMED = frozenset({"final", "corrected"})
"""The status of a report that a person stands for."""
VERIFIER = {
    "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
    "code": "verifier",
    "display": "Verifier",
}
CLINICIAN_ASSERTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "CLINAST",
    "display": "clinician asserted",
}


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """What a person said. text: the report in the person's words; "" for the AI's own conclusion.

    rejected: tracking UIDs of findings that are none. corrected: tracking UID -> what is right instead. added: tracking UID
    -> a finding of the person's own; withdrawn: one that an earlier confirmation had added. status: final, or corrected
    where the report was final before. documents: the report to be read, (MIME type, bytes) each.
    """

    person: str
    at: datetime
    text: str = ""
    rejected: Collection[str] = ()
    corrected: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, str] = field(default_factory=dict)
    withdrawn: Mapping[str, str] = field(default_factory=dict)
    status: Literal["final", "corrected"] = "final"
    documents: Sequence[tuple[str, bytes]] = ()


def confirmation(bundle: Json, said: Confirmed) -> Json:
    """The transaction that makes the report in `bundle` (what was sent) final.

    What the AI asserted keeps its label; a Provenance says who verified it and when. A rejected finding is entered in
    error and stands in the report no more; a corrected one has the person's words in place of its values.
    Raises ValueError without a name, and for a report that was taken back.
    """
    if not said.person.strip():
        raise ValueError("a report is confirmed by a person with a name")
    observed = [*(confirmed_observation(e, said) for e in bundle["entry"]), *own_findings(bundle, said)]
    entries = [confirmed_report(e, said, observed) for e in observed]
    targets = [e["fullUrl"] for e in entries if e["resource"]["resourceType"] in ("DiagnosticReport", "Observation")]
    of = str(bundle.get("identifier", {}).get("value", ""))
    uid = uid_from(("confirmation", of, said.person, instant(said.at)))
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "identifier": identifier(uid),
        "timestamp": instant(said.at),
        "entry": [*entries, verification(uid, targets, said)],
    }


def confirmed_observation(entry: Json, said: Confirmed) -> Json:
    resource = entry["resource"]
    if resource["resourceType"] != "Observation":
        return entry
    not_taken_back(resource)
    uid = tracking_uid(resource)
    changed = {**resource, "status": said.status}
    if uid in said.rejected:
        changed["status"] = ENTERED_IN_ERROR
        changed["note"] = [*resource.get("note", ()), remark("Rejected by the reader.", said)]
    elif uid in said.corrected:
        changed = corrected(changed, said.corrected[uid], said)
    return {**entry, "resource": changed}


def corrected(resource: Json, words: str, said: Confirmed) -> Json:
    """The person's words, who asserts them; the AI's values stand in the version before."""
    gone = ("component", "bodySite", "valueCodeableConcept")
    was = resource.get("valueCodeableConcept", {}).get("text", "a finding")
    kept = {k: v for k, v in resource.items() if k not in gone}
    note = remark(f"Corrected by the reader. The AI said: {was}.", said)
    return {
        **kept,
        "meta": {"security": [CLINICIAN_ASSERTED]},
        "valueString": words,
        "note": [*resource.get("note", ()), note],
    }


def remark(text: str, said: Confirmed) -> Json:
    return {"authorString": said.person.strip(), "time": instant(said.at), "text": text}


def confirmed_report(entry: Json, said: Confirmed, entries: Sequence[Json]) -> Json:
    """entries: with the Observations as they are confirmed."""
    resource = entry["resource"]
    if resource["resourceType"] != "DiagnosticReport":
        return entry
    not_taken_back(resource)
    person = said.person.strip()
    own = str(resource.get("conclusion", "")).removeprefix(OPENING)
    changed = {**resource, "status": said.status, "issued": instant(said.at)}
    changed["conclusion"] = said.text or f"AI, confirmed by {person}: {own}"
    changed["resultsInterpreter"] = [{"type": "Practitioner", "display": person}]
    only(changed, "result", standing(resource, said, entries))
    only(changed, "conclusionCode", named(entries))
    only(changed, "presentedForm", [attachment(kind, body, said) for kind, body in said.documents])
    return {**entry, "resource": changed}


def only(resource: Json, key: str, values: list[Json]) -> None:
    """Lists in FHIR are never empty: without values there is no element."""
    resource.pop(key, None)
    if values:
        resource[key] = values


def standing(report: Json, said: Confirmed, entries: Sequence[Json]) -> list[Json]:
    """The results of a report but for those that are entered in error, and what the person added."""
    gone = {e["fullUrl"] for e in entries if e["resource"].get("status") == ENTERED_IN_ERROR}
    kept = [r for r in report.get("result", ()) if r.get("reference") not in gone]
    return [*kept, *({"reference": full_url(uid)} for uid in said.added)]


def own_findings(bundle: Json, said: Confirmed) -> list[Json]:
    """Observations of the person's own, of the same patient and time as the report."""
    report = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    common = {k: report[k] for k in ("subject", "effectiveDateTime") if k in report}
    words = {**said.withdrawn, **said.added}
    return [put(full_url(uid), own_finding(uid, words[uid], common, said)) for uid in words]


def own_finding(uid: str, words: str, common: Json, said: Confirmed) -> Json:
    return {
        "resourceType": "Observation",
        "meta": {"security": [CLINICIAN_ASSERTED]},
        "identifier": [identifier(uid, DICOM_UID)],
        "status": said.status if uid in said.added else ENTERED_IN_ERROR,
        **common,
        "category": [{"coding": [codes.IMAGING]}],
        "code": concept(codes.FINDING),
        "valueString": words,
        "interpretation": [{"coding": [codes.ABNORMAL]}],
        "performer": [{"type": "Practitioner", "display": said.person.strip()}],
        "note": [remark("Added by the reader.", said)],
    }


def named(entries: Sequence[Json]) -> list[Json]:
    """The concepts of the abnormalities that stand as the AI named them, each once."""
    found: dict[str, Json] = {}
    for resource in (e["resource"] for e in entries):
        if resource["resourceType"] == "Observation" and resource["status"] != ENTERED_IN_ERROR:
            concept = resource.get("valueCodeableConcept") if "interpretation" in resource else None
            if concept:
                found.setdefault(str(concept["coding"][0]["code"]), concept)
    return list(found.values())


def attachment(kind: str, body: bytes, said: Confirmed) -> Json:
    title = f"Confirmed by {said.person.strip()}"
    return {"contentType": kind, "data": b64encode(body).decode(), "title": title, "creation": instant(said.at)}


def not_taken_back(resource: Json) -> None:
    if resource["status"] == ENTERED_IN_ERROR:
        raise ValueError("a report that was taken back cannot be confirmed")


def tracking_uid(observation: Json) -> str:
    names = (i for i in observation.get("identifier", ()) if i.get("system") == DICOM_UID)
    return next((str(i["value"]).removeprefix("urn:oid:") for i in names), "")


def verification(uid: str, targets: list[str], said: Confirmed) -> Json:
    address = full_url(uid)
    number = address.removeprefix("urn:uuid:")
    made: Json = {
        "resourceType": "Provenance",
        "id": number,
        "target": [{"reference": t} for t in targets],
        "recorded": instant(said.at),
        "agent": [{"type": {"coding": [VERIFIER]}, "who": {"type": "Practitioner", "display": said.person.strip()}}],
    }
    return {"fullUrl": address, "resource": made, "request": {"method": "PUT", "url": f"Provenance/{number}"}}
