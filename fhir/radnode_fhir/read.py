"""A Bundle as triage sees it: what is abnormal, how sure, how large. Reads other systems' reports as well as our own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from radnode_fhir import codes
from radnode_fhir.codes import code_of
from radnode_inference.findings import Code

ABNORMAL_INTERPRETATIONS = frozenset({"A", "AA", "H", "HH", "L", "LL", "POS", "DET", "HU", "LU"})
"""v3-ObservationInterpretation: everything that says "not normal"."""
PRESENT = frozenset({"52101004", "410515003", "10828004", "LA9633-4", "LA6576-8", "POS"})
ABSENT = frozenset({"2667000", "272519000", "410516002", "260385009", "LA9634-2", "LA6577-6", "NEG"})
"""SNOMED CT and LOINC answers: (known) present or absent, positive or negative."""
UNFINISHED = frozenset({"registered", "partial"})
"""The status of a report that is announced, or of which a part has come."""
GENERIC_QUESTIONS = frozenset({"121071", "59776-5", "404684003", "18782-3"})
"""DCM Finding, LOINC Procedure findings, SCT Clinical finding, LOINC Radiology study observation: the answer is the finding."""
PROBABILITIES = frozenset({"111047", "111012", "122157"})
MILLILITRES = {"ml": 1.0, "mL": 1.0, "cm3": 1.0, "mm3": 0.001, "L": 1000.0, "l": 1000.0}
MILLIMETRES = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
DEAD = frozenset({"entered-in-error", "cancelled"})
NOTHING_CODED = "no finding in it is coded"
WORDS = 200
"""Characters of a finding that is told in words."""
FINAL = frozenset({"final", "amended", "corrected", "appended"})
"""The status of a report that somebody stands for (https://hl7.org/fhir/R4/valueset-diagnostic-report-status.html)."""


@dataclass(frozen=True, kw_only=True)
class Abnormality:
    """One abnormal Observation. probability: 0..1. laterality: "left", "right", "bilateral" or "". critical: AA, HH or LL.

    codes: every code that its concept is given in, `concept` among them. words: a finding that is told in words, not by a code.
    """

    concept: Code
    probability: float | None
    volume_ml: float | None
    long_axis_mm: float | None
    laterality: str
    site: str
    tracking_uid: str
    critical: bool
    codes: frozenset[str] = frozenset()
    words: str = ""

    @property
    def names(self) -> frozenset[str]:
        """Its codes, one at least."""
        return self.codes | {self.concept.value}


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What one DiagnosticReport says. status: its FHIR status; `abnormalities` is empty for a retracted one.

    comparisons: what changed since an earlier study, one sentence for each thing that was compared.
    confirmed_by: the people who stand for a final report, by name; "" for none. unclear: what of it cannot be read, or has not
    come, in words: then no finding does not mean that there is none; "" for a report that is whole.
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
    unclear: str = ""

    @property
    def retracted(self) -> bool:
        return self.status in DEAD

    @property
    def without(self) -> str:
        """What it means that there is no abnormal finding: "clear"; "uncoded", it is told in words alone; "waiting"."""
        return {"": "clear", NOTHING_CODED: "uncoded"}.get(self.unclear, "waiting")


def facts(bundle: Mapping[str, Any]) -> Reported:
    """The one report in a Bundle (of any type). Raises ValueError when there is none, or several."""
    entries = [e["resource"] for e in bundle.get("entry", ()) if "resource" in e]
    reports = [r for r in entries if r["resourceType"] == "DiagnosticReport"]
    if len(reports) != 1:
        raise ValueError(f"a Bundle with one DiagnosticReport is wanted, this one has {len(reports)}")
    report = reports[0]
    named = named_results(report, bundle)
    everything = [*entries, *report.get("contained", ())]
    there = [r for r in everything if r["resourceType"] == "Observation"] if named is None else named.found
    observations = [o for o in there if o.get("status") not in DEAD]
    status = str(report.get("status", ""))
    found = () if status in DEAD else tuple(abnormality(o) for o in observations if is_abnormal(o))
    return Reported(
        status=status,
        issued=str(report.get("issued", "")),
        conclusion=str(report.get("conclusion", "")),
        model=model_name(everything),
        study_uid=study_uid(everything),
        accession_number=accession(report),
        patient_id=str(report.get("subject", {}).get("identifier", {}).get("value", "")),
        abnormalities=found,
        comparisons=() if status in DEAD else tuple(c for o in observations if (c := comparison(o))),
        confirmed_by=interpreters(report) if status in FINAL else "",
        unclear=unclear(status, observations, named.missing if named else 0),
    )


def unclear(status: str, observations: Sequence[Mapping[str, Any]], missing: int) -> str:
    """Why a report without an abnormal finding cannot be called one; "" where it can."""
    if status in UNFINISHED:
        return "the report is not complete yet"
    if missing:
        return f"{missing} of its findings {'is' if missing == 1 else 'are'} not here"
    return "" if any(says_normal(o) or is_abnormal(o) for o in observations) else NOTHING_CODED


def interpreters(report: Mapping[str, Any]) -> str:
    """Who interpreted a report, by name."""
    return ", ".join(str(p["display"]) for p in report.get("resultsInterpreter", ()) if p.get("display"))


@dataclass(frozen=True, kw_only=True)
class Named:
    """The Observations that a report names, and how many more it names that are not here."""

    found: Sequence[Mapping[str, Any]]
    missing: int


def named_results(report: Mapping[str, Any], bundle: Mapping[str, Any]) -> Named | None:
    """What a report names itself and as members of what it names; None when it names nothing: then every Observation is its.

    By the address of an entry, by type and id with or without a version, by identifier, or contained
    (https://hl7.org/fhir/R4/references.html).
    """
    if not report.get("result"):
        return None
    entries = [e for e in bundle.get("entry", ()) if "resource" in e]
    known = {str(e["fullUrl"]): e["resource"] for e in entries if "fullUrl" in e}
    for resource in (e["resource"] for e in entries):
        known.setdefault(f"{resource['resourceType']}/{resource.get('id', '')}", resource)
    found: list[Mapping[str, Any]] = []
    missing = 0
    waiting = [(report, r) for r in report["result"]]
    while waiting:
        holder, reference = waiting.pop(0)
        there = pointed_at(reference, holder, known)
        missing += there is None
        if there is not None and not any(there is f for f in found):
            found.append(there)
            container = holder if str(reference.get("reference", "")).startswith("#") else there
            waiting += [(container, member) for member in there.get("hasMember", ())]
    return Named(found=found, missing=missing)


def pointed_at(
    reference: Mapping[str, Any], holder: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The Observation that a reference in `holder` leads to. known: by address; None where it is not among them."""
    address = str(reference.get("reference", "")).split("/_history/")[0]
    if address.startswith("#"):
        return next((c for c in holder.get("contained", ()) if f"#{c.get('id')}" == address), None)
    if address:
        return known.get(address) or known.get("/".join(address.split("/")[-2:]))
    name = reference.get("identifier", {})
    wanted = (name.get("system"), name.get("value"))
    seen = (r for r in known.values() if r["resourceType"] == "Observation" and name.get("value"))
    return next(
        (r for r in seen if wanted in [(i.get("system"), i.get("value")) for i in r.get("identifier", ())]), None
    )


def codings(concept: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    return list((concept or {}).get("coding", ()))


def interpretation(observation: Mapping[str, Any]) -> set[str]:
    return {str(c["code"]) for i in observation.get("interpretation", ()) for c in codings(i) if "code" in c}


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


def says_normal(observation: Mapping[str, Any]) -> bool:
    """Whether it says in so many words that all is well: by its interpretation, or that what was asked for is not there."""
    asked = answers(observation) & ABSENT or observation.get("valueBoolean") is False
    return bool(asked) or bool(interpretation(observation) - ABNORMAL_INTERPRETATIONS)


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
        codes=frozenset(str(c["code"]) for c in codings(named_by(observation)) if "code" in c),
        words=in_words(observation),
    )


def general(observation: Mapping[str, Any]) -> bool:
    """Whether it asks no more than what was found."""
    asked = codings(observation.get("code"))
    return not asked or any(str(c.get("code")) in GENERIC_QUESTIONS for c in asked)


def named_by(observation: Mapping[str, Any]) -> Mapping[str, Any]:
    """The CodeableConcept that names the finding: the answer of a general question, else the question ("pneumothorax: present")."""
    answered = observation.get("valueCodeableConcept")
    return dict((answered if general(observation) and codings(answered) else observation.get("code")) or {})


def finding_concept(observation: Mapping[str, Any]) -> Code:
    """What was found; of several codes for it the one of SNOMED CT, in which policies are written."""
    concept = named_by(observation)
    found = codings(concept)
    if not found:
        return Code(value="", scheme="", meaning=str(concept.get("text", "")))
    chosen = next((c for c in found if c.get("system") == codes.SYSTEMS["SCT"]), found[0])
    shown = next((c["display"] for c in (chosen, *found) if c.get("display")), "") or concept.get("text", "")
    return code_of({**chosen, "display": shown} if shown else dict(chosen))


def in_words(observation: Mapping[str, Any]) -> str:
    """What was found where no code says it, on one line; "" else."""
    if not general(observation) or codings(observation.get("valueCodeableConcept")):
        return ""
    return " ".join(str(observation.get("valueString", "")).split())[:WORDS]


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
