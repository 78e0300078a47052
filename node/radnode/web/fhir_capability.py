"""The CapabilityStatement: exactly what `/fhir` does (https://hl7.org/fhir/R4/capabilitystatement.html)."""

from importlib.metadata import version
from typing import Any

from radnode import audit_search
from radnode_fhir.parameters import COMMON, PARAMETERS, Parameter

Json = dict[str, Any]
DATE = "2026-11-22"
INTERACTIONS = ("read", "vread", "history-instance", "search-type", "create", "update")


def capability(base: str) -> Json:
    """base: the address of the endpoint."""
    resources = [*(resource(kind) for kind in PARAMETERS), audit()]
    reads = "Reports of the node itself are read and searched only; those of other systems are taken and read by its triage."
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "kind": "instance",
        "date": DATE,
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json"],
        "software": {"name": "radnode", "version": version("radnode")},
        "implementation": {"description": "radnode: reports of AI models, not verified by a radiologist", "url": base},
        "rest": [
            {
                "mode": "server",
                "documentation": reads,
                "resource": resources,
                "interaction": [{"code": "transaction"}],
            }
        ],
    }


def resource(kind: str) -> Json:
    known = {**PARAMETERS[kind], **COMMON}
    own = [{"name": "_id", "type": "token"}, {"name": "_lastUpdated", "type": "date"}]
    references = [name for name, p in PARAMETERS[kind].items() if p.type == "reference"]
    pointing = [f"{k}:{n}" for k, ps in PARAMETERS.items() for n, p in ps.items() if points(p, kind)]
    made: Json = {
        "type": kind,
        "interaction": [{"code": code} for code in INTERACTIONS],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalUpdate": True,
        "searchParam": [*own, *({"name": name, "type": p.type} for name, p in known.items())],
    }
    if references:
        made["searchInclude"] = [f"{kind}:{name}" for name in references]
    if pointing:
        made["searchRevInclude"] = pointing
    return made


def audit() -> Json:
    """The record of who saw, changed and sent what: for administrators, and tokens with the scope audit.read."""
    return {
        "type": audit_search.KIND,
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "versioning": "no-version",
        "searchParam": [{"name": name, "type": kind} for name, kind in audit_search.PARAMETERS.items()],
    }


def points(parameter: Parameter, kind: str) -> bool:
    return parameter.type == "reference" and (not parameter.targets or kind in parameter.targets)
