"""One finding as an Observation (R4, https://hl7.org/fhir/R4/observation.html)."""

from radnode_fhir import codes
from radnode_fhir.codes import Json, concept
from radnode_fhir.identifiers import DICOM_UID, ai_asserted, device_address, identifier, imaging_study_address
from radnode_inference.findings import Code, Evaluation, Finding, Findings, Kind, Measurement, Prior


def observation(finding: Finding, findings: Findings, common: Json, *, critical: bool = False) -> Json:
    """common: status, subject, effectiveDateTime and issued, as in the report. critical: an abnormality is AA instead of A.

    The identifier is the tracking UID, which SR and SEG carry too.
    """
    made: Json = {
        "resourceType": "Observation",
        "meta": ai_asserted(),
        "identifier": [identifier(finding.tracking_uid, DICOM_UID), {"value": finding.tracking_id}],
        **common,
        "category": [{"coding": [codes.IMAGING]}],
        "code": concept(codes.FINDING),
        "valueCodeableConcept": concept(finding.concept),
        "device": {"reference": device_address(findings.model)},
        "derivedFrom": [{"reference": imaging_study_address(findings.study_uid)}],
    }
    if finding.kind is Kind.ABNORMALITY:
        made["interpretation"] = [{"coding": [codes.CRITICAL if critical else codes.ABNORMAL]}]
    site = codes.site(finding)
    if site:
        made["bodySite"] = concept(site, text=codes.place(finding))
    parts = components(finding)
    if parts:
        made["component"] = parts
    if findings.model.demonstration:
        made["note"] = [{"text": "Demonstration weights trained on phantoms: not for clinical use."}]
    return made


def components(finding: Finding) -> list[Json]:
    """Probability in per cent, side, measurements, evaluations, and the comparison with an earlier study."""
    parts: list[Json] = []
    if finding.probability is not None:
        score = rounded(100 * finding.probability)
        parts.append({"code": concept(codes.probability_concept(finding)), **quantity(score, codes.PERCENT)})
    if finding.laterality:
        parts.append(coded(codes.LATERALITY, finding.laterality))
    parts += [measured(m) for m in finding.measurements]
    parts += [evaluated(e) for e in finding.evaluations]
    parts += [compared(finding.prior)] if finding.prior else []
    return parts


def measured(measurement: Measurement) -> Json:
    return {"code": concept(measurement.concept), **quantity(rounded(measurement.value), measurement.unit)}


def evaluated(evaluation: Evaluation) -> Json:
    return coded(evaluation.concept, evaluation.value)


def compared(prior: Prior) -> Json:
    """In words only: the earlier numbers must not be taken for those of this study."""
    return {"code": concept(codes.COMPARISON), "valueString": f"{prior.sentence} Earlier study: {prior.study_uid}."}


def coded(question: Code, answer: Code) -> Json:
    return {"code": concept(question), "valueCodeableConcept": concept(answer)}


def quantity(value: float, unit: Code) -> Json:
    return {"valueQuantity": {"value": value, "unit": unit.value, "system": codes.SYSTEMS["UCUM"], "code": unit.value}}


def rounded(value: float) -> float:
    """Six significant digits: the same number as in the SR."""
    return float(f"{value:.6g}")
