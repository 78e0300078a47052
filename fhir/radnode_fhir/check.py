"""Whether what another system posts is an R4 resource: its structure by fhir.resources, and the value sets of its status.

R4B, which the library knows, has the same elements in the resources that the node keeps (https://hl7.org/fhir/R4B/versions.html).
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from radnode_fhir.parameters import PARAMETERS

EVENT = frozenset(
    {"registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"}
)
VALUE_SETS: Mapping[tuple[str, str], frozenset[str]] = {
    ("DiagnosticReport", "status"): EVENT | {"partial", "appended"},
    ("Observation", "status"): EVENT,
    ("ImagingStudy", "status"): frozenset({"registered", "available", "cancelled", "entered-in-error", "unknown"}),
    ("Device", "status"): frozenset({"active", "inactive", "entered-in-error", "unknown"}),
    ("Task", "status"): frozenset(
        [
            "draft",
            "requested",
            "received",
            "accepted",
            "rejected",
            "ready",
            "cancelled",
            "in-progress",
            "on-hold",
            "failed",
            "completed",
            "entered-in-error",
        ]
    ),
    ("Task", "intent"): frozenset(
        [
            "unknown",
            "proposal",
            "plan",
            "order",
            "original-order",
            "reflex-order",
            "filler-order",
            "instance-order",
            "option",
        ]
    ),
    ("ServiceRequest", "status"): frozenset(
        ["draft", "active", "on-hold", "revoked", "completed", "entered-in-error", "unknown"]
    ),
    ("ServiceRequest", "intent"): frozenset(
        [
            "proposal",
            "plan",
            "directive",
            "order",
            "original-order",
            "reflex-order",
            "filler-order",
            "instance-order",
            "option",
        ]
    ),
    ("Task", "priority"): frozenset({"routine", "urgent", "asap", "stat"}),
    ("ServiceRequest", "priority"): frozenset({"routine", "urgent", "asap", "stat"}),
    ("Subscription", "status"): frozenset({"requested", "active", "error", "off"}),
}
"""Required bindings, R4: fhir.resources does not check them."""
SHOWN = 3


def problems(resource: Mapping[str, Any]) -> list[str]:
    """What is wrong with a resource of a kind that the node keeps, one sentence each; [] for nothing."""
    kind = str(resource.get("resourceType", ""))
    if kind not in PARAMETERS:
        return [f"resources of the type {kind!r} are not kept here"]
    model = getattr(import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)
    found = []
    try:
        model.model_validate(dict(resource))
    except ValidationError as e:
        found = [f"{'.'.join(str(p) for p in i['loc'])}: {i['msg']}" for i in e.errors()[:SHOWN]]
    for (of, field), allowed in VALUE_SETS.items():
        if of == kind and field in resource and resource[field] not in allowed:
            found.append(f"{field}: {resource[field]!r} is not in its value set")
    return found
