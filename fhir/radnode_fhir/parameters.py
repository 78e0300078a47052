"""What can be searched for: each parameter of each resource, as R4 defines it (https://hl7.org/fhir/R4/searchparameter-registry.html)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Type = Literal["token", "reference", "date", "string", "uri"]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """paths: elements of the resource, dots between levels. targets: what a reference may point to, () for anything."""

    type: Type
    paths: tuple[str, ...]
    targets: tuple[str, ...] = ()


def token(*paths: str) -> Parameter:
    return Parameter(type="token", paths=paths)


def date(*paths: str) -> Parameter:
    return Parameter(type="date", paths=paths)


def reference(path: str, *targets: str) -> Parameter:
    return Parameter(type="reference", paths=(path,), targets=targets)


def string(*paths: str) -> Parameter:
    return Parameter(type="string", paths=paths)


IDENTIFIER, STATUS = token("identifier"), token("status")
SUBJECT, PATIENT = reference("subject", "Patient"), reference("subject", "Patient")
COMMON: Mapping[str, Parameter] = {"_security": token("meta.security"), "_tag": token("meta.tag")}
"""Of every resource, besides _id and _lastUpdated."""
PARAMETERS: Mapping[str, Mapping[str, Parameter]] = {
    "DiagnosticReport": {
        "identifier": IDENTIFIER,
        "status": STATUS,
        "category": token("category"),
        "code": token("code"),
        "conclusion": token("conclusionCode"),
        "subject": SUBJECT,
        "patient": PATIENT,
        "issued": date("issued"),
        "date": date("effectiveDateTime", "effectivePeriod"),
        "based-on": reference("basedOn", "ServiceRequest"),
        "result": reference("result", "Observation"),
        "performer": reference("performer"),
        "results-interpreter": reference("resultsInterpreter"),
        "study": reference("imagingStudy", "ImagingStudy"),  # of R5; a bare Study Instance UID is taken too
    },
    "Observation": {
        "identifier": IDENTIFIER,
        "status": STATUS,
        "category": token("category"),
        "code": token("code"),
        "value-concept": token("valueCodeableConcept"),
        "component-code": token("component.code"),
        "subject": SUBJECT,
        "patient": PATIENT,
        "date": date("effectiveDateTime", "effectivePeriod"),
        "based-on": reference("basedOn", "ServiceRequest"),
        "device": reference("device", "Device"),
        "has-member": reference("hasMember", "Observation"),
        "derived-from": reference("derivedFrom"),
    },
    "ImagingStudy": {
        "identifier": IDENTIFIER,
        "status": STATUS,
        "subject": SUBJECT,
        "patient": PATIENT,
        "basedon": reference("basedOn", "ServiceRequest"),
        "started": date("started"),
        "modality": token("series.modality"),
        "series": token("series.uid"),
        "instance": token("series.instance.uid"),
    },
    "Device": {
        "identifier": IDENTIFIER,
        "status": STATUS,
        "type": token("type"),
        "device-name": string("deviceName.name"),
        "manufacturer": string("manufacturer"),
    },
    "Provenance": {
        "target": reference("target"),
        "agent": reference("agent.who"),
        "entity": reference("entity.what"),
        "recorded": date("recorded"),
    },
    "Task": {
        "identifier": IDENTIFIER,
        "status": STATUS,
        "priority": token("priority"),
        "intent": token("intent"),
        "code": token("code"),
        "subject": reference("for", "Patient"),
        "patient": reference("for", "Patient"),
        "focus": reference("focus"),
        "owner": reference("owner"),
        "based-on": reference("basedOn", "ServiceRequest"),
        "modified": date("lastModified"),
        "authored-on": date("authoredOn"),
    },
    "ServiceRequest": {
        "identifier": IDENTIFIER,
        "status": STATUS,
        "priority": token("priority"),
        "intent": token("intent"),
        "category": token("category"),
        "code": token("code"),
        "subject": SUBJECT,
        "patient": PATIENT,
        "authored": date("authoredOn"),
        "occurrence": date("occurrenceDateTime", "occurrencePeriod"),
    },
    "Patient": {
        "identifier": IDENTIFIER,
        "name": string("name"),
        "family": string("name.family"),
        "given": string("name.given"),
        "birthdate": date("birthDate"),
        "gender": token("gender"),
    },
    "Practitioner": {"identifier": IDENTIFIER, "name": string("name")},
    "Organization": {"identifier": IDENTIFIER, "name": string("name")},
    "Subscription": {
        "status": STATUS,
        "criteria": string("criteria"),
        "url": Parameter(type="uri", paths=("channel.endpoint",)),
    },
}


def parameter(kind: str, name: str) -> Parameter | None:
    return PARAMETERS[kind].get(name) or COMMON.get(name)
