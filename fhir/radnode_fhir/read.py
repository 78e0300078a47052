"""A Bundle as triage sees it: what is abnormal, how sure, how large. Reads other systems' reports as well as our own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from radnode_fhir import codes
from radnode_fhir.codes import code_of
from radnode_inference.findings import Code

ABNORMAL_INTERPRETATIONS = frozenset({"A", "AA", "H", "HH", "L", "LL", "POS", "DET", "HU", "LU"})
"""v3-ObservationInterpretation: everything that says "not normal"."""
PRESENT, ABSENT = frozenset({"52101004", "LA9633-4", "POS"}), frozenset({"2667000", "272519000", "LA9634-2", "NEG"})
GENERIC_QUESTIONS = frozenset({"121071", "59776-5", "404684003", "18782-3"})
"""DCM Finding, LOINC Procedure findings, SCT Clinical finding, LOINC Radiology study observation: the answer is the finding."""
PROBABILITIES = frozenset({"111047", "111012", "122157"})
MILLILITRES = {"ml": 1.0, "mL": 1.0, "cm3": 1.0, "mm3": 0.001, "L": 1000.0, "l": 1000.0}
MILLIMETRES = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
DEAD = frozenset({"entered-in-error", "cancelled"})
FINAL = frozenset({"final", "amended", "corrected", "appended"})
"""The status of a report that somebody stands for (https://hl7.org/fhir/R4/valueset-diagnostic-report-status.html)."""


@dataclass(frozen=True, kw_only=True)
class Abnormality:
    """One abnormal Observation. probability: 0..1. laterality: "left", "right", "bilateral" or "". critical: AA, HH or LL."""

    concept: Code
    probability: float | None
    volume_ml: float | None
    long_axis_mm: float | None
    laterality: str
    site: str
    tracking_uid: str
    critical: bool


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What one DiagnosticReport says. status: its FHIR status; `abnormalities` is empty for a retracted one.

    comparisons: what changed since an earlier study, one sentence for each thing that was compared.
    confirmed_by: the people who stand for a final report, by name; "" for none.
    accession_number, patient_id, study_uid: "" where the report does not say. model: the Device's name, "" for none.
    """

    status: str
    issued: str
    conclusion: str
    model: str
    study_uid: str
    accession_number: str
    patient_id: str
    abnormalities: tuple[Abnormality, ...]
    comparisons: tuple[str, ...] = ()
    confirmed_by: str = ""

    @property
    def retracted(self) -> bool:
        return self.status in DEAD


def facts(bundle: Mapping[str, Any]) -> Reported:
    """The one report in a Bundle (of any type). Raises ValueError when there is none, or several."""
    resources = {e.get("fullUrl", ""): e["resource"] for e in bundle.get("entry", ()) if "resource" in e}
    entries = [e["resource"] for e in bundle.get("entry", ()) if "resource" in e]
    reports = [r for r in entries if r["resourceType"] == "DiagnosticReport"]
    if len(reports) != 1:
        raise ValueError(f"a Bundle with one DiagnosticReport is wanted, this one has {len(reports)}")
    report = reports[0]
    observations = [r for r in entries if r["resourceType"] == "Observation" and r.get("status") not in DEAD]
    named = named_results(report, entries, resources)
    observations = [o for o in observations if named is None or any(o is n for n in named)]
    status = str(report.get("status", ""))
    found = () if status in DEAD else tuple(abnormality(o) for o in observations if is_abnormal(o))
    return Reported(
        status=status,
        issued=str(report.get("issued", "")),
        conclusion=str(report.get("conclusion", "")),
        model=model_name(entries),
        study_uid=study_uid(entries),
        accession_number=accession(report),
        patient_id=str(report.get("subject", {}).get("identifier", {}).get("value", "")),
        abnormalities=found,
        comparisons=() if status in DEAD else tuple(c for o in observations if (c := comparison(o))),
        confirmed_by=interpreters(report) if status in FINAL else "",
    )


def interpreters(report: Mapping[str, Any]) -> str:
    """Who interpreted a report, by name."""
    return ", ".join(str(p["display"]) for p in report.get("resultsInterpreter", ()) if p.get("display"))


def named_results(
    report: Mapping[str, Any], entries: Iterable[Mapping[str, Any]], by_address: Mapping[str, Any]
) -> list[Mapping[str, Any]] | None:
    """The Observations that the report names, or None when it names none: then every one in the Bundle is its."""
    references = [str(r.get("reference", "")) for r in report.get("result", ())]
    if not references:
        return None
    by_id = {f"{r['resourceType']}/{r['id']}": r for r in entries if "id" in r}
    found = (by_address.get(r) or by_id.get("/".join(r.split("/")[-2:])) for r in references)
    return [r for r in found if r is not None]


def codings(concept: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    return list((concept or {}).get("coding", ()))


def interpretation(observation: Mapping[str, Any]) -> set[str]:
    return {str(c.get("code")) for i in observation.get("interpretation", ()) for c in codings(i)}


def answers(observation: Mapping[str, Any]) -> set[str]:
    return {str(c.get("code")) for c in codings(observation.get("valueCodeableConcept"))}


def is_abnormal(observation: Mapping[str, Any]) -> bool:
    """By its interpretation; where that is missing, by an answer "present" or true. "Absent" is never abnormal."""
    if answers(observation) & ABSENT or observation.get("valueBoolean") is False:
        return False
    stated = interpretation(observation)
    if stated:
        return bool(stated & ABNORMAL_INTERPRETATIONS)
    return bool(answers(observation) & PRESENT) or observation.get("valueBoolean") is True


def abnormality(observation: Mapping[str, Any]) -> Abnormality:
    volume, axis = measured(observation, codes.VOLUME), measured(observation, codes.LONG_AXIS)
    tracking = [
        str(i.get("value", "")) for i in observation.get("identifier", ()) if i.get("system") == "urn:dicom:uid"
    ]
    sites = codings(observation.get("bodySite"))
    return Abnormality(
        concept=finding_concept(observation),
        probability=probability(observation),
        volume_ml=converted(volume, MILLILITRES),
        long_axis_mm=converted(axis, MILLIMETRES),
        laterality=laterality(observation),
        site=str(sites[0].get("display", "")) if sites else "",
        tracking_uid=tracking[0].removeprefix("urn:oid:") if tracking else "",
        critical=bool(interpretation(observation) & {"AA", "HH", "LL"}),
    )


def finding_concept(observation: Mapping[str, Any]) -> Code:
    """The answer of a question as general as "finding", else the question itself ("pneumothorax: present")."""
    asked, answered = codings(observation.get("code")), codings(observation.get("valueCodeableConcept"))
    general = not asked or any(str(c.get("code")) in GENERIC_QUESTIONS for c in asked)
    chosen = answered if general and answered else asked
    if not chosen:
        text = str(observation.get("code", {}).get("text", ""))
        return Code(value="", scheme="", meaning=text)
    return code_of(dict(chosen[0]))


def component(observation: Mapping[str, Any], wanted: frozenset[str]) -> Mapping[str, Any] | None:
    for part in observation.get("component", ()):
        if any(str(c.get("code")) in wanted for c in codings(part.get("code"))):
            return dict(part)
    return None


def comparison(observation: Mapping[str, Any]) -> str:
    """What changed since an earlier study, with the thing's own name before it; "" where nothing was compared."""
    said = str((component(observation, frozenset({codes.COMPARISON.value})) or {}).get("valueString", ""))
    names = [str(i.get("value", "")) for i in observation.get("identifier", ()) if "system" not in i]
    return f"{names[0]}: {said}" if said and names else said


def measured(observation: Mapping[str, Any], code: str) -> Mapping[str, Any] | None:
    part = component(observation, frozenset({code}))
    return None if part is None else part.get("valueQuantity")


def converted(quantity: Mapping[str, Any] | None, factors: Mapping[str, float]) -> float | None:
    """In the unit of `factors`; None for an unknown unit, which must not be taken for another."""
    if quantity is None or "value" not in quantity:
        return None
    factor = factors.get(str(quantity.get("code") or quantity.get("unit", "")))
    return None if factor is None else float(quantity["value"]) * factor


def probability(observation: Mapping[str, Any]) -> float | None:
    """0..1, from per cent or from a fraction (UCUM "1")."""
    part = component(observation, PROBABILITIES)
    quantity = (part or {}).get("valueQuantity", {})
    value = converted(quantity, {"%": 0.01, "1": 1.0, "{ratio}": 1.0})
    return None if value is None else min(1.0, max(0.0, value))


def laterality(observation: Mapping[str, Any]) -> str:
    part = component(observation, frozenset({codes.LATERALITY.value}))
    found = codings((part or {}).get("valueCodeableConcept"))
    words = str(found[0].get("display", "")).lower() if found else ""
    text = words or str(observation.get("bodySite", {}).get("text", "")).lower()
    sides = [side for side in ("bilateral", "left", "right") if side in text]
    return sides[0] if len(sides) == 1 else ""


def model_name(resources: Iterable[Mapping[str, Any]]) -> str:
    for resource in resources:
        if resource["resourceType"] == "Device":
            for name in resource.get("deviceName", ()):
                return str(name.get("name", ""))
    return ""


def study_uid(resources: Iterable[Mapping[str, Any]]) -> str:
    for resource in resources:
        if resource["resourceType"] == "ImagingStudy":
            for found in resource.get("identifier", ()):
                if found.get("system") == "urn:dicom:uid":
                    return str(found.get("value", "")).removeprefix("urn:oid:")
    return ""


def accession(report: Mapping[str, Any]) -> str:
    for reference in report.get("basedOn", ()):
        value = reference.get("identifier", {}).get("value")
        if value:
            return str(value)
    return ""
