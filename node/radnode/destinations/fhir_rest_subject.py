"""Whose study it is, at a FHIR server that has it already: an ImagingStudy that this node made follows a corrected patient.

It is only made where it is missing, so a server that has it keeps what it has. One that bears the node's mark gets the
patient and the order that the images name now, for the version that was read; another system's is left as it is.
"""

from typing import Any

from radnode.destinations.fhir_rest_lookup import Json, Search
from radnode_fhir.imaging_study import MADE_HERE

OF_THE_PATIENT = ("subject", "basedOn")


def followed(bundle: Json, search: Search) -> tuple[Json, str]:
    """The same transaction, in which such an ImagingStudy is corrected; a remark where it is another system's."""
    entries, remark = list(bundle["entry"]), ""
    for at, entry in enumerate(bundle["entry"]):
        there = existing(entry, search)
        if there is None or same_patient(there.get("subject", {}), entry["resource"].get("subject", {})):
            continue
        if is_ours(there):
            entries[at] = {**entry, **corrected(there, entry["resource"])}
        else:
            remark = "The server's ImagingStudy, which another system made, names another patient: left as it is."
    return {**bundle, "entry": entries}, remark


def existing(entry: Json, search: Search) -> Json | None:
    """The one ImagingStudy that stands in the way of making this one."""
    condition = str(entry["request"].get("ifNoneExist", ""))
    if entry["resource"]["resourceType"] != "ImagingStudy" or not condition:
        return None
    found = search(f"ImagingStudy?{condition}")
    return found[0] if len(found) == 1 else None


def is_ours(resource: Json) -> bool:
    wanted = (MADE_HERE["system"], MADE_HERE["code"])
    return any((t.get("system"), t.get("code")) == wanted for t in resource.get("meta", {}).get("tag", ()))


def same_patient(there: Json, ours: Json) -> bool:
    """By identifier where both name one, else by reference. What names nobody contradicts nobody."""
    for name in (named, pointed_at):
        one, other = name(there), name(ours)
        if one and other:
            return one == other
    return not (named(there) or pointed_at(there))


def named(subject: Json) -> tuple[str, str, str] | None:
    """Value, system and issuer."""
    known = subject.get("identifier", {})
    issuer = str(known.get("assigner", {}).get("display", ""))
    return (str(known["value"]), str(known.get("system", "")), issuer) if known.get("value") else None


def pointed_at(subject: Json) -> str:
    return "/".join(str(subject.get("reference", "")).split("/")[-2:])


def corrected(there: Json, ours: Json) -> Json:
    """Resource and request: the server's own with our patient and order, for the version that was read."""
    meta = there.get("meta", {})
    kept = {k: v for k, v in there.items() if k not in OF_THE_PATIENT}
    kept["meta"] = {k: v for k, v in meta.items() if k not in ("versionId", "lastUpdated")}
    request: dict[str, Any] = {"method": "PUT", "url": f"ImagingStudy/{there['id']}"}
    if version := meta.get("versionId"):
        request["ifMatch"] = f'W/"{version}"'
    return {"resource": kept | {k: ours[k] for k in OF_THE_PATIENT if k in ours}, "request": request}
