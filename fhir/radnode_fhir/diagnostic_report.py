"""The report (R4, https://hl7.org/fhir/R4/diagnosticreport.html). No person signs it: it is preliminary until one does."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime

from radnode_fhir import codes
from radnode_fhir.codes import Json, concept
from radnode_fhir.identifiers import ai_asserted, identifier, imaging_study_address, instant, order, report_uid
from radnode_inference.findings import Finding, Findings, Kind
from radnode_inference.header import Header

OPENING = "AI (not verified by a radiologist): "
DEMONSTRATION = "DEMONSTRATION WEIGHTS TRAINED ON PHANTOMS, NOT FOR CLINICAL USE. "


def diagnostic_report(findings: Findings, header: Header, common: Json, results: Sequence[str]) -> Json:
    """common: status, subject, effectiveDateTime and issued. results: addresses of the Observations."""
    procedure = codes.procedure(header.text("Modality"), header.text("BodyPartExamined").upper())
    made: Json = {
        "resourceType": "DiagnosticReport",
        "meta": ai_asserted(),
        "identifier": [identifier(report_uid(findings))],
        **common,
        "category": [{"coding": [codes.RADIOLOGY]}],
        "code": concept(procedure, text=header.text("StudyDescription") or procedure.meaning),
        "imagingStudy": [{"reference": imaging_study_address(findings.study_uid)}],
        "conclusion": conclusion(findings),
    }
    placed = order(header)
    if placed:
        made["basedOn"] = [placed]
    if results:
        made["result"] = [{"reference": r} for r in results]
    abnormal = {f.concept.value: f.concept for f in findings.items if f.kind is Kind.ABNORMALITY}
    if abnormal:
        made["conclusionCode"] = [concept(c) for c in abnormal.values()]
    return made


def presented(document: bytes, findings: Findings, at: datetime) -> Json:
    """The PDF as an Attachment; at: when the report was issued. Raises ValueError for what is no PDF."""
    if not document.startswith(b"%PDF-"):
        raise ValueError("the document to be presented is no PDF")
    return {
        "contentType": "application/pdf",
        "data": b64encode(document).decode(),
        "title": f"AI {findings.model.name} {findings.model.version}, not verified by a radiologist",
        "creation": instant(at),
    }


def conclusion(findings: Findings) -> str:
    """What a reader of one line must know: that it is AI, what it found, and what limits it."""
    warning = DEMONSTRATION if findings.model.demonstration else ""
    partial = f"PARTIAL: {findings.partial_because} " if findings.partial_because else ""
    abnormal = [f for f in findings.items if f.kind is Kind.ABNORMALITY]
    others = [f for f in findings.items if f.kind is not Kind.ABNORMALITY]
    if not findings.items:
        said = "no finding."
    elif abnormal:
        said = "; ".join(sentence(f) for f in sorted(abnormal, key=lambda f: -(f.probability or 0.0))) + "."
    else:
        said = "measurements only: " + "; ".join(sentence(f) for f in others) + "."
    statements = "".join(f" {s}" for s in findings.statements)
    model = f" [{findings.model.name} {findings.model.version}]"
    return f"{OPENING}{warning}{partial}{said}{statements}{model}"


def sentence(finding: Finding) -> str:
    """ "Nodule, left lung, certainty of finding 81 %, volume 0.9 ml"."""
    parts = [finding.concept.meaning if finding.kind is not Kind.ANATOMY else codes.place(finding)]
    if finding.kind is not Kind.ANATOMY and codes.place(finding):
        parts.append(codes.place(finding))
    if finding.probability is not None:
        parts.append(f"{codes.in_text(codes.probability_concept(finding))} {100 * finding.probability:.0f} %")
    parts += [f"{codes.in_text(m.concept)} {m.value:.4g} {codes.unit(m.unit)}".strip() for m in finding.measurements]
    parts += [f"{codes.in_text(e.concept)}: {codes.in_text(e.value)}" for e in finding.evaluations]
    return ", ".join(parts)
