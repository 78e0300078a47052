"""A row of the audit as an AuditEvent (R4, https://hl7.org/fhir/R4/auditevent.html), coded by DICOM's audit codes."""

from collections.abc import Mapping
from dataclasses import dataclass

from radnode_fhir.codes import Json
from radnode_fhir.identifiers import DICOM_UID, identifier

DCM = "http://dicom.nema.org/resources/ontology/DCM"
ROLES = "http://terminology.hl7.org/CodeSystem/object-role"
TYPES = "http://terminology.hl7.org/CodeSystem/audit-entity-type"


@dataclass(frozen=True, kw_only=True)
class Coded:
    """A code, by default of DICOM's own terms."""

    code: str
    meaning: str
    system: str = "DCM"


@dataclass(frozen=True, kw_only=True)
class AuditFacts:
    """recorded: an instant. outcome: 0 success, 4 minor failure. details: named texts, e.g. the row's hash."""

    event: Coded
    type: Coded | None
    action: str
    recorded: str
    outcome: str
    said: str
    who: str
    address: str
    node: str
    study_uid: str
    patient_id: str
    details: Mapping[str, str]


def audit_event(facts: AuditFacts) -> Json:
    agents: list[Json] = [agent(facts.who, facts.address, requestor=True)]
    if facts.who != facts.node:
        agents.append(agent(facts.node, "", requestor=False))
    made: Json = {
        "resourceType": "AuditEvent",
        "type": coding(facts.event),
        **({"subtype": [coding(facts.type)]} if facts.type else {}),
        "action": facts.action,
        "recorded": facts.recorded,
        "outcome": facts.outcome,
        "outcomeDesc": facts.said,
        "agent": agents,
        "source": {"observer": {"display": facts.node}},
        "entity": entities(facts),
    }
    return made


def agent(name: str, address: str, *, requestor: bool) -> Json:
    where: Json = {"network": {"address": address, "type": "2"}} if address else {}
    return {"who": {"display": name}, "name": name, "requestor": requestor, **where}


def entities(facts: AuditFacts) -> list[Json]:
    """The patient, the study, and the row itself with its hash."""
    made: list[Json] = []
    if facts.patient_id:
        made.append({"what": {"identifier": {"value": facts.patient_id}}, "type": {"system": TYPES, "code": "1"}, "role": {"system": ROLES, "code": "1"}})  # fmt: skip
    if facts.study_uid:
        what: Json = {"type": "ImagingStudy", "identifier": identifier(facts.study_uid, DICOM_UID)}
        made.append({"what": what, "type": {"system": TYPES, "code": "2"}, "role": {"system": ROLES, "code": "3"}})
    details = [{"type": name, "valueString": value} for name, value in facts.details.items() if value]
    made.append({"name": "row of the audit", "type": {"system": TYPES, "code": "2"}, "role": {"system": ROLES, "code": "13"}, "detail": details})  # fmt: skip
    return made


def coding(code: Coded) -> Json:
    return {"system": DCM, "code": code.code, "display": code.meaning}
