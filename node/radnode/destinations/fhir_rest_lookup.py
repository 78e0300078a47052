"""Patient and order of a report as the server knows them: looked up, never made; what is not found stays an identifier.

A transaction with a conditional reference fails as a whole when the server does not know the patient; so it is asked before.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

Json = dict[str, Any]
Search = Callable[[str], list[Json]]
"""A search, as "Kind?query", to the resources that it matches."""


def linked(bundle: Json, search: Search, *, patient_system: str = "", order_system: str = "") -> Json:
    """The same transaction, in which references by identifier also lead to the server's own Patient and ServiceRequest.

    A patient is taken by system and value alone, or because the order with this accession number is of a patient with this
    value; a bare value could be another patient's. Systems are those of identifiers whose issuer the images do not name.
    """
    named = logical(bundle)
    patient, order = named.get("Patient", {}), named.get("ServiceRequest", {})
    found_order = only(search, "ServiceRequest", order, order_system, bare=True)
    found_patient = only(search, "Patient", patient, patient_system, bare=False)
    if found_patient is None and found_order is not None:
        found_patient = of_order(search, found_order, patient)
    if found_order is not None and (not patient or not is_of(found_order, found_patient)):
        found_order = None  # another patient's, or nobody knows whose
    addresses = {k: f"{k}/{r['id']}" for k, r in (("Patient", found_patient), ("ServiceRequest", found_order)) if r}
    return replaced(bundle, named, addresses) if addresses else bundle


def logical(node: Any) -> dict[str, Json]:
    """The identifiers by which patient and order are pointed at, by type."""
    if isinstance(node, list):
        return {k: v for item in node for k, v in logical(item).items()}
    if not isinstance(node, dict):
        return {}
    if node.get("type") in ("Patient", "ServiceRequest") and "identifier" in node:
        return {node["type"]: node["identifier"]}
    return {k: v for value in node.values() for k, v in logical(value).items()}


def only(search: Search, kind: str, identifier: Json, system: str, *, bare: bool) -> Json | None:
    """The one resource with this identifier; None where there is none, or more than one, or no system to ask by."""
    value, system = str(identifier.get("value", "")), str(identifier.get("system", "")) or system
    if not value or not (system or bare):
        return None
    token = f"{system}|{value}" if system else value
    found = search(f"{kind}?identifier={quote(token, safe='')}")
    return found[0] if len(found) == 1 else None


def of_order(search: Search, order: Json, identifier: Json) -> Json | None:
    """The patient of the order, when it is one with the value that the images name."""
    kind, _, patient_id = str(order.get("subject", {}).get("reference", "")).rpartition("/")
    if not kind.endswith("Patient") or not identifier:
        return None
    found = search(f"Patient?_id={quote(patient_id, safe='')}")
    values = [i.get("value") for p in found for i in p.get("identifier", ())]
    return found[0] if len(found) == 1 and identifier.get("value") in values else None


def is_of(order: Json, patient: Json | None) -> bool:
    subject = str(order.get("subject", {}).get("reference", ""))
    return patient is not None and subject.rpartition("/")[2] == patient.get("id")


def replaced(node: Any, named: dict[str, Json], addresses: dict[str, str]) -> Any:
    if isinstance(node, list):
        return [replaced(item, named, addresses) for item in node]
    if not isinstance(node, dict):
        return node
    kind = node.get("type")
    if isinstance(kind, str) and kind in addresses and node.get("identifier") == named[kind]:
        return {**node, "reference": addresses[kind]}
    return {k: replaced(v, named, addresses) for k, v in node.items()}
