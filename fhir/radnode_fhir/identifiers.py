"""Identifiers, references and times: the same thing has the same name on every run, so that re-sending doubles nothing."""

import re
from datetime import datetime
from urllib.parse import quote
from uuid import UUID

from radnode_fhir.codes import AI_ASSERTED, IDENTIFIER_TYPES, Json
from radnode_inference.findings import Findings, ModelIdentity, device_uid, uid_from
from radnode_inference.header import Header
from radnode_inference.study import Study

URI, DICOM_UID = "urn:ietf:rfc:3986", "urn:dicom:uid"


def full_url(uid: str) -> str:
    """The address of an entry within its Bundle: the UUID behind a 2.25 UID, one made of the name otherwise."""
    number = uid.removeprefix("2.25.")
    if not number.isdigit() or int(number) >= 1 << 128:
        number = uid_from(("full url", uid)).removeprefix("2.25.")
    return f"urn:uuid:{UUID(int=int(number))}"


def identifier(uid: str, system: str = URI) -> Json:
    return {"system": system, "value": f"urn:oid:{uid}"}


def query(found: Json) -> str:
    """The search that finds the one resource with an identifier."""
    return f"identifier={quote(found['system'] + '|' + found['value'], safe=':')}"


def report_uid(findings: Findings) -> str:
    """One report for each study and model; a later result changes it, it does not add another."""
    return uid_from(("report", findings.study_uid, findings.model.name))


def task_uid(findings: Findings) -> str:
    """One task for each study and model, as for the report."""
    return uid_from(("task", findings.study_uid, findings.model.name))


def bundle_uid(findings: Findings, digest: str, status: str) -> str:
    return uid_from(("bundle", findings.study_uid, findings.model.name, digest, status))


def device_address(model: ModelIdentity) -> str:
    return full_url(device_uid(model))


def imaging_study_address(study_uid: str) -> str:
    return full_url(uid_from(("imaging study", study_uid)))


def first_header(study: Study, series_uid: str) -> Header:
    """An image of the series that carries the result, or of the study."""
    return next((s.headers[0] for s in study.series if s.series_uid == series_uid), study.series[0].headers[0])


def patient(header: Header) -> Json | None:
    """A logical reference to the patient, by identifier and issuer; None when the images name none. Never a new Patient."""
    value, issuer = header.text("PatientID"), header.text("IssuerOfPatientID")
    if not value:
        return None
    found: Json = {"type": {"coding": [{"system": IDENTIFIER_TYPES, "code": "MR"}]}, "value": value}
    if re.fullmatch(r"[0-2](\.(0|[1-9]\d*))+", issuer):
        found["system"] = f"urn:oid:{issuer}"
    elif issuer:
        found["assigner"] = {"display": issuer}
    return {"type": "Patient", "identifier": found}


def order(header: Header) -> Json | None:
    """A logical reference to the order, by accession number."""
    value = header.text("AccessionNumber")
    if not value:
        return None
    kind = {"coding": [{"system": IDENTIFIER_TYPES, "code": "ACSN"}]}
    return {"type": "ServiceRequest", "identifier": {"type": kind, "value": value}}


def study_time(header: Header) -> str | None:
    """When the study began: to the second where the header knows its time zone, else the day (FHIR dateTime)."""
    day, clock, zone = (header.text(k) for k in ("StudyDate", "StudyTime", "TimezoneOffsetFromUTC"))
    day = day.replace(".", "")
    try:
        date = datetime.strptime(day, "%Y%m%d").date().isoformat()
    except ValueError:
        return None
    if re.fullmatch(r"[+-]\d{4}", zone) and re.match(r"([01]\d|2[0-3])[0-5]\d[0-5]\d", clock):
        return f"{date}T{clock[:2]}:{clock[2:4]}:{clock[4:6]}{zone[:3]}:{zone[3:]}"
    return date


def instant(at: datetime) -> str:
    """A FHIR instant. Raises ValueError without a time zone."""
    if at.tzinfo is None:
        raise ValueError("a FHIR instant needs a time zone")
    return at.isoformat(timespec="milliseconds")


def ai_asserted() -> Json:
    return {"security": [AI_ASSERTED]}
