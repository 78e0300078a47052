"""One result as one transaction: READ FIRST (R4, https://hl7.org/fhir/R4/http.html#transaction)."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Literal

from radnode_fhir.codes import Json
from radnode_fhir.device import device
from radnode_fhir.diagnostic_report import diagnostic_report, presented
from radnode_fhir.identifiers import (
    bundle_uid,
    first_header,
    full_url,
    identifier,
    imaging_study_address,
    instant,
    patient,
    query,
    report_uid,
    study_time,
    task_uid,
)
from radnode_fhir.imaging_study import ResultObject, imaging_study
from radnode_fhir.observation import observation
from radnode_fhir.provenance import provenance
from radnode_fhir.task import task
from radnode_inference.findings import Findings, device_uid, uid_from
from radnode_inference.study import Study

Status = Literal["preliminary", "amended"]


def transaction(
    findings: Findings,
    study: Study,
    objects: Sequence[ResultObject],
    *,
    status: Status,
    issued: datetime,
    document: bytes | None = None,
    critical: Collection[str] = (),
) -> Json:
    """DiagnosticReport, Observations, ImagingStudy, Device, Provenance and Task; sent twice it makes nothing twice.

    objects: the DICOM objects of the same result. issued: with a time zone. status: "amended" when an earlier result
    of the same study and model was sent. document: the report as PDF. critical: tracking UIDs of findings that the site's
    policy has somebody told of within minutes: their interpretation is AA, that of other abnormalities A. What others may own (ImagingStudy, Device) is only
    made where it is missing; Patient and ServiceRequest are never made, only pointed at by their identifiers.
    """
    header = first_header(study, findings.series_uid)
    common = shared(header_subject=patient(header), started=study_time(header), status=status, issued=issued)
    observations = [
        (full_url(f.tracking_uid), observation(f, findings, common, critical=f.tracking_uid in critical))
        for f in findings.items
    ]
    report_address = full_url(report_uid(findings))
    report = diagnostic_report(findings, header, common, [address for address, _ in observations])
    if document is not None:
        report["presentedForm"] = [presented(document, findings, issued)]
    uid = bundle_uid(findings, "|".join((findings.digest(), *sorted(critical))), status)
    origin = uid_from(("provenance", uid))
    made_by = provenance(
        origin, findings.model, study.study_uid, [report_address, *(a for a, _ in observations)], objects, issued
    )
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "identifier": identifier(uid),
        "timestamp": instant(issued),
        "entry": [
            created(full_url(device_uid(findings.model)), device(findings.model)),
            created(imaging_study_address(study.study_uid), imaging_study(study, header, objects)),
            *(put(address, resource) for address, resource in observations),
            put(report_address, report),
            entry(full_url(origin), made_by, "PUT", f"Provenance/{full_url(origin).removeprefix('urn:uuid:')}"),
            put(full_url(task_uid(findings)), task(findings, report, report_address, issued)),
        ],
    }


def uid_of(bundle: Json) -> str:
    """The Bundle's own UID: equal findings with equal status have the same."""
    return str(bundle["identifier"]["value"]).removeprefix("urn:oid:")


def shared(*, header_subject: Json | None, started: str | None, status: Status, issued: datetime) -> Json:
    """What the report and its Observations say alike."""
    made: Json = {"status": status}
    if header_subject:
        made["subject"] = header_subject
    if started:
        made["effectiveDateTime"] = started
    made["issued"] = instant(issued)
    return made


def created(address: str, resource: Json) -> Json:
    """Made only if nothing has its identifier."""
    made = entry(address, resource, "POST", resource["resourceType"])
    made["request"]["ifNoneExist"] = query(resource["identifier"][0])
    return made


def put(address: str, resource: Json) -> Json:
    """Takes the place of what has its identifier, or is made."""
    kind = resource["resourceType"]
    return entry(address, resource, "PUT", f"{kind}?{query(resource['identifier'][0])}")


def entry(address: str, resource: Json, method: str, url: str) -> Json:
    return {"fullUrl": address, "resource": resource, "request": {"method": method, "url": url}}
