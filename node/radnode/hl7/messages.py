"""HL7 v2.5.1 messages of the node: the report as ORU^R01, a changed priority as OMI^O23 or ORM^O01. Pure.

The same content gives the same bytes, so that sending it again is recognised by its control ID (MSH-10).
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from radnode.settings import Destination
from radnode_fhir import codes
from radnode_fhir.read import DEAD, Abnormality, Reported, facts
from radnode_inference.findings import Code

Field = str | Sequence[str]
"""A field, or its components. Repetitions and subcomponents are not used."""

VERSION = "2.5.1"
PRIORITIES: Mapping[str, str] = {"STAT": "S", "HIGH": "A", "ROUTINE": "R"}
"""Our levels in HL7 table 0485 (extended priority codes): stat, as soon as possible, routine."""
RESULT_STATUS: Mapping[str, tuple[str, str]] = {
    "registered": ("O", "I"), "partial": ("A", "P"), "preliminary": ("P", "P"), "final": ("F", "F"),
    "amended": ("C", "C"), "corrected": ("C", "C"), "appended": ("C", "C"),
}  # fmt: skip
"""FHIR status -> OBR-25 (table 0123), OBX-11 (table 0085)."""
WRONG = ("C", "W")
"""A report that was entered in error: a correction, whose values were posted wrongly."""
CODING_SYSTEMS: Mapping[str, str] = {"SCT": "SCT", "LN": "LN", "DCM": "DCM", "RADLEX": "RADLEX"}

VOLUME = Code(value=codes.VOLUME, scheme="SCT", meaning="Volume")
LONG_AXIS = Code(value=codes.LONG_AXIS, scheme="SCT", meaning="Major axis")


def escaped(text: str) -> str:
    """A value without a character that would end its field (HL7 v2.5.1 section 2.7)."""
    table = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\n": "\\.br\\", "\r": ""}
    kept = (table.get(c, c if c.isprintable() else " ") for c in text)
    return "".join(kept)


def segment(name: str, fields: Mapping[int, Field]) -> str:
    """A segment by its field numbers, every value escaped. MSH is written by `header`."""
    cells = [""] * (max(fields) + 1)
    for number, value in fields.items():
        parts = [value] if isinstance(value, str) else value
        cells[number] = "^".join(escaped(p) for p in parts).rstrip("^")
    return "|".join([name, *cells[1:]])


def header(address: Destination, kind: tuple[str, str, str], at: str, uid: str) -> str:
    """MSH. uid: of the result; the control ID is made from it. at: an HL7 time."""
    control = hashlib.sha256(uid.encode()).hexdigest()[:20].upper()
    sender, receiver = (
        (escaped(address.sending_application), ""),
        (escaped(address.application), escaped(address.facility)),
    )
    cells = ["MSH", "^~\\&", *sender, *receiver, at, "", "^".join(kind), control, "P", VERSION]
    return "|".join([*cells, "", "", "", "", "", "UNICODE UTF-8"])


def time_of(moment: str | float) -> str:
    """An HL7 time (UTC) from a FHIR instant or from epoch seconds; "" from nothing."""
    if moment == "":
        return ""
    at = datetime.fromtimestamp(moment, UTC) if isinstance(moment, float) else datetime.fromisoformat(moment)
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")


def report(bundle: Mapping[str, Any], uid: str, address: Destination) -> str:
    """ORU^R01 of the report in a transaction Bundle. Raises ValueError where it names no patient: nobody could file it."""
    said = facts(bundle)
    if not said.patient_id:
        raise ValueError("the report names no patient")
    resource = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    dead = said.status in DEAD
    order_status, result_status = WRONG if dead else RESULT_STATUS.get(said.status, ("P", "P"))
    at = time_of(said.issued)
    request: dict[int, Field] = {
        1: "1", 3: said.accession_number or said.study_uid, 4: procedure(resource), 7: at, 18: said.accession_number,
        22: at, 24: "RAD", 25: order_status,
    }  # fmt: skip
    lines = [
        header(address, ("ORU", "R01", "ORU_R01"), at, uid),
        segment(
            "PID", {1: "1", 3: (said.patient_id, "", "", issuer(resource), "MR"), 5: ("", "", "", "", "", "", "U")}
        ),
        segment("OBR", request),
        *(segment("OBX", {1: str(n), 11: result_status, **fields}) for n, fields in enumerate(observations(said), 1)),
    ]
    return "\r".join(lines) + "\r"


def issuer(resource: Mapping[str, Any]) -> str:
    name = resource.get("subject", {}).get("identifier", {})
    return str(name.get("assigner", {}).get("display", "") or name.get("system", "").removeprefix("urn:oid:"))


def procedure(resource: Mapping[str, Any]) -> tuple[str, str, str]:
    coding = (resource.get("code", {}).get("coding") or [{}])[0]
    system = codes.SCHEMES.get(str(coding.get("system", "")), "L")
    return (str(coding.get("code", "AI")), str(coding.get("display", "AI report")), CODING_SYSTEMS.get(system, "L"))


def observations(said: Reported) -> list[dict[int, Field]]:
    """The OBX fields but for their number and status: the study, the report's text, each finding with its numbers."""
    rows: list[dict[int, Field]] = [
        {2: "ST", 3: ("113014", "DICOM Study", "DCM"), 5: said.study_uid},
        {2: "FT", 3: ("18782-3", "Radiology Study observation (narrative)", "LN"), 5: said.conclusion},
    ]
    for sub, found in enumerate(said.abnormalities, start=1):
        rows += finding(found, str(sub))
    return [row for row in rows if row[5]]


def finding(found: Abnormality, sub: str) -> list[dict[int, Field]]:
    """One abnormal finding; its rows share a sub-ID (OBX-4)."""
    flag = "AA" if found.critical else "A"
    concept = (found.concept.value or "finding", found.concept.meaning, CODING_SYSTEMS.get(found.concept.scheme, "L"))
    place = " ".join(w for w in (found.laterality, found.site) if w)
    rows: list[dict[int, Field]] = [
        {2: "ST", 3: concept, 4: sub, 5: f"{found.words or 'present'}{', ' + place if place else ''}", 8: flag}
    ]
    numbers = (
        (codes.CERTAINTY_OF_FINDING, None if found.probability is None else 100 * found.probability, "%"),
        (VOLUME, found.volume_ml, "mL"),
        (LONG_AXIS, found.long_axis_mm, "mm"),
    )
    for code, value, unit in numbers:
        if value is not None:
            named = (code.value, code.meaning, CODING_SYSTEMS.get(code.scheme, "L"))
            rows.append({2: "NM", 3: named, 4: sub, 5: f"{value:.6g}", 6: (unit, "", "UCUM"), 8: flag})
    return rows


def person_name(name: str) -> list[str]:
    """An XPN from the first group of a DICOM name: there the prefix stands before the suffix (PS3.5 6.2.1), here after it."""
    family, given, middle, prefix, suffix = [*name.split("=")[0].split("^"), "", "", "", ""][:5]
    return [family, given, middle, suffix, prefix]


def priority(notice: Mapping[str, Any], uid: str, address: Destination) -> str:
    """The changed priority of an order (AIW-I use case 7, RAD-13): OMI^O23, or ORM^O01 for systems before HL7 v2.4.

    notice: see `radnode.notify`. Raises ValueError where the study has neither an order nor a patient.
    """
    if not notice["accession_number"] or not notice["patient_id"]:
        raise ValueError("the study has no accession number or no patient ID, so nobody could find its order")
    at, code = time_of(float(notice["at"])), PRIORITIES[notice["level"]]
    old = address.priority_message == "ORM^O01"
    kind = ("ORM", "O01", "ORM_O01") if old else ("OMI", "O23", "OMI_O23")
    name = person_name(str(notice["patient_name"]))
    timing = {7: ("", "", "", "", "", code)}
    examination = ("AI-TRIAGE", str(notice["procedure"]) or "Imaging examination", "L")
    request: dict[int, Field] = {1: "1", 2: notice["order_number"], 3: notice["accession_number"], 4: examination}
    request |= {5: code, 18: notice["accession_number"], 27: timing[7]} if old else {18: notice["accession_number"]}
    common: dict[int, Field] = {1: "XO", 2: notice["order_number"], 3: notice["accession_number"], 9: at}
    lines = [
        header(address, kind, at, uid),
        segment("PID", {1: "1", 3: (notice["patient_id"], "", "", notice["issuer_of_patient_id"], "MR"), 5: name,
                        7: notice["patient_birth_date"], 8: notice["patient_sex"]}),
        segment("PV1", {1: "1", 2: {"emergency": "E", "inpatient": "I", "outpatient": "O"}.get(notice["patient_class"], "U")}),
        segment("ORC", common | (timing if old else {})),
        *([] if old else [segment("TQ1", {1: "1", 9: (code, notice["level"], "HL70485")})]),
        segment("OBR", request),
        segment("NTE", {1: "1", 2: "O", 3: notice["reason"]}),
        *([] if old else [segment("IPC", {1: notice["accession_number"], 2: notice["accession_number"],
                                          3: notice["study_uid"], 4: notice["accession_number"]})]),
    ]  # fmt: skip
    return "\r".join(lines) + "\r"
