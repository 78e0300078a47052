"""A report as facts to be told: one for each finding, with its place, numbers and answers. Reads the node's own Bundles only."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from radnode_fhir import codes
from radnode_fhir.codes import code_of
from radnode_fhir.confirm import tracking_uid
from radnode_fhir.diagnostic_report import DEMONSTRATION
from radnode_fhir.read import ABSENT, DEAD, codings, comparison, finding_concept, is_abnormal, laterality, model_name
from radnode_inference.findings import Code

DRAWN = "SHAPLEY-"
"""Contributions of modalities (99RADNODE): the page draws them, the text leaves them out."""
NOTHING = Code(value="121071", scheme="DCM", meaning="Finding")


class Kind(StrEnum):
    ABNORMALITY = "abnormality"
    ANATOMY = "anatomy"
    EXAMINATION = "examination"
    NOTHING = "nothing"  # the model reported no abnormality: this is to be said, too


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A measurement (value, and unit as a UCUM code) or an answer."""

    name: Code
    value: float | None = None
    unit: str = ""
    answer: Code | None = None


@dataclass(frozen=True, kw_only=True)
class Fact:
    """What one finding says. uid: its tracking UID. side: left, right, bilateral or "".

    site: None where the concept is the place itself. absent: what is said is that there is none. compared: what changed
    since an earlier study, in words, or "".
    """

    uid: str
    kind: Kind
    concept: Code
    side: str = ""
    site: Code | None = None
    slots: tuple[Slot, ...] = ()
    absent: bool = False
    compared: str = ""


@dataclass(frozen=True, kw_only=True)
class Told:
    """One report. limits: sentences that a reader must see. digest: of all of it; equal findings have the same."""

    model: str
    version: str
    demonstration: bool
    facts: tuple[Fact, ...]
    limits: tuple[str, ...]

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr((self.model, self.version, self.facts, self.limits)).encode()).hexdigest()


def told(bundle: Mapping[str, Any]) -> Told:
    """What the transaction Bundle of a result says. Raises ValueError, KeyError or TypeError for what is none."""
    resources = [e["resource"] for e in bundle["entry"]]
    report = next((r for r in resources if r["resourceType"] == "DiagnosticReport"), None)
    if report is None:
        raise ValueError("the Bundle holds no DiagnosticReport")
    found = [r for r in resources if r["resourceType"] == "Observation" and r.get("status") not in DEAD]
    facts = tuple(sorted((fact(o) for o in found), key=lambda f: (list(Kind).index(f.kind), -certainty(f))))
    if not any(f.kind is Kind.ABNORMALITY for f in facts):
        facts = (Fact(uid="", kind=Kind.NOTHING, concept=NOTHING, absent=True), *facts)
    return Told(
        model=model_name(resources),
        version=version(resources),
        demonstration=DEMONSTRATION.strip() in str(report.get("conclusion", "")),
        facts=facts,
        limits=tuple(n["text"] for r in resources if r["resourceType"] == "Task" for n in r.get("note", ())),
    )


def fact(observation: Mapping[str, Any]) -> Fact:
    concept = finding_concept(observation)
    sites = [code_of(dict(c)) for c in codings(observation.get("bodySite"))]
    site = next((s for s in sites if s.value != concept.value), None)
    here = any(s.value == concept.value for s in sites)
    slots = tuple(s for part in observation.get("component", ()) for s in slot(part))
    abnormal = is_abnormal(observation)
    return Fact(
        uid=tracking_uid(dict(observation)),
        kind=Kind.ABNORMALITY if abnormal else Kind.ANATOMY if here else Kind.EXAMINATION,
        concept=concept,
        side=laterality(observation),
        site=site,
        slots=tuple(s for s in slots if s.answer is None or s.answer.value not in ABSENT),
        absent=any(s.answer is not None and s.answer.value in ABSENT for s in slots),
        compared=comparison(observation).partition(": ")[2].partition(" Earlier study: ")[0],
    )


def slot(part: Mapping[str, Any]) -> Iterable[Slot]:
    name = code_of(dict((part["code"].get("coding") or [{}])[0]))
    if name.value in (codes.LATERALITY.value, codes.COMPARISON.value) or name.value.startswith(DRAWN):
        return
    if "valueQuantity" in part:
        quantity = part["valueQuantity"]
        unit = str(quantity.get("code") or quantity.get("unit", ""))
        yield Slot(name=name, value=float(quantity["value"]), unit=unit)
    for coding in codings(part.get("valueCodeableConcept"))[:1]:
        yield Slot(name=name, answer=code_of(dict(coding)))


def version(resources: Sequence[Mapping[str, Any]]) -> str:
    """Of the software, as the Device says."""
    named = (v for r in resources if r["resourceType"] == "Device" for v in r.get("version", ()))
    return next((str(v["value"]) for v in named if v.get("type", {}).get("text") == "software"), "")


def certainty(fact: Fact) -> float:
    """In per cent; 0 where the model gives none."""
    names = (codes.CERTAINTY_OF_FINDING.value, codes.PROBABILITY_OF_CANCER.value)
    return next((s.value for s in fact.slots if s.name.value in names and s.value is not None), 0.0)
