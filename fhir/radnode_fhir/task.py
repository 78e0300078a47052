"""The AI's work on the study, done (R4, https://hl7.org/fhir/R4/task.html): from the report to its order and its images."""

from datetime import datetime

from radnode_fhir.codes import Json, concept
from radnode_fhir.identifiers import ai_asserted, device_address, identifier, imaging_study_address, instant, task_uid
from radnode_inference.findings import Code, Findings

DETECTION = Code(value="110004", scheme="DCM", meaning="Computer Aided Detection")
"""PS3.16 CID 9231, General Purpose Workitem Definition."""
REPORT = Code(value="126000", scheme="DCM", meaning="Imaging Measurement Report")


def task(findings: Findings, report: Json, report_address: str, at: datetime) -> Json:
    """Completed when the report was issued; its patient and order are those of `report`.

    Its notes are the sentences that a reader of the result must see: what was missing, assumptions and limits.
    """
    made: Json = {
        "resourceType": "Task",
        "meta": ai_asserted(),
        "identifier": [identifier(task_uid(findings))],
        "status": "completed",
        "intent": "order",
        "code": concept(DETECTION),
        "focus": {"reference": imaging_study_address(findings.study_uid)},
        "lastModified": instant(at),
        "owner": {"reference": device_address(findings.model)},
        "output": [{"type": concept(REPORT), "valueReference": {"reference": report_address}}],
    }
    partial = (f"PARTIAL: {findings.partial_because}",) if findings.partial_because else ()
    limits = (*partial, *findings.statements)
    if limits:
        made["note"] = [{"text": t} for t in limits]
    if "subject" in report:
        made["for"] = report["subject"]
    if "basedOn" in report:
        made["basedOn"] = report["basedOn"]
    return made
