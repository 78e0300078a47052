"""Findings + policy -> Priority, with its reason. Pure; reads DiagnosticReports only, those of other systems as well.

It reorders and never hides: a study without a report, or whose AI declined or failed, keeps its normal place.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from radnode.settings import TriageRule
from radnode_fhir.diagnostic_report import DEMONSTRATION
from radnode_fhir.read import DEAD, Abnormality, Reported, facts

K = TypeVar("K", bound=Hashable)


class Level(StrEnum):
    """Requested Procedure Priority (0040,1003) by name, highest first."""

    STAT = "STAT"
    HIGH = "HIGH"
    ROUTINE = "ROUTINE"


RANK: Mapping[Level, int] = {Level.STAT: 0, Level.HIGH: 1, Level.ROUTINE: 2}

OVERDUE_S: Mapping[Level, float] = {Level.STAT: 0.5 * 3600, Level.HIGH: 4 * 3600, Level.ROUTINE: 24 * 3600}
"""After this a row is overdue: it goes before the others of its level, a routine one into HIGH, so that nothing starves."""

PROBABILITY_NOT_GIVEN = 0.5
"""Where a finding without a probability stands among those of its level."""

DEFAULT_POLICY: tuple[TriageRule, ...] = (
    # SCT: pulmonary embolism, pneumothorax, intracranial haemorrhage, haemorrhage (PS3.16 CID 6101, CID 7159)
    TriageRule(
        name="critical", codes=("59282003", "36118008", "1386000", "50960005"), min_probability=0.5, level="STAT"
    ),
    # SCT: emphysema of the lung, emphysema: worth reporting, not worth hurrying
    TriageRule(name="chronic", codes=("87433001", "4981000"), level="ROUTINE"),
    TriageRule(name="likely-abnormal", min_probability=0.5, level="HIGH"),
    TriageRule(name="unlikely", level="ROUTINE"),
)
"""For each finding the first rule that holds. A finding without a probability counts as certain: its model is sure or silent."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """One DiagnosticReport of a study. status is the one that holds now, which may be later than the Bundle's."""

    model: str
    status: str
    said: Reported
    demonstration: bool

    @property
    def retracted(self) -> bool:
        return self.status in DEAD or self.said.retracted


@dataclass(frozen=True, kw_only=True)
class Priority:
    """Where a study stands and why. probability: of the finding that put it there (None: not given, or no finding)."""

    level: Level
    reason: str
    probability: float | None = None
    abnormal: bool = False
    demonstration: bool = False


@dataclass(frozen=True, kw_only=True)
class Place(Generic[K]):
    """One row in its order. `priority` is what counts now: waiting may have raised it."""

    key: K
    priority: Priority
    waiting_s: float


def read(bundle: Mapping[str, Any], model: str, status: str) -> Report | None:
    """A stored report as triage sees it; None when the Bundle holds no readable report, which is no reason to hide a study."""
    try:
        said = facts(bundle)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Report(model=model, status=status, said=said, demonstration=DEMONSTRATION.strip() in said.conclusion)


def prioritise(reports: Sequence[Report], policy: Sequence[TriageRule] = DEFAULT_POLICY) -> Priority:
    """The highest level that any finding of any standing report is given, and why."""
    standing = [r for r in reports if not r.retracted]
    found = [(judge(a, policy), a, r) for r in standing for a in r.said.abnormalities]
    if not found:
        return without_finding(reports, standing)
    level, first, report = min(found, key=lambda f: (RANK[f[0]], -severity(f[1].probability)))
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return Priority(
        level=level,
        reason=f"{describe(first)}{more} [{report.model}]{marked(report.demonstration)}",
        probability=first.probability,
        abnormal=True,
        demonstration=all(r.demonstration for r in standing),
    )


def without_finding(reports: Sequence[Report], standing: Sequence[Report]) -> Priority:
    demonstration = bool(standing) and all(r.demonstration for r in standing)
    if standing:
        models = ", ".join(sorted(r.model for r in standing))
        reason = f"No finding by AI [{models}]{marked(demonstration)}"
    else:
        reason = "The AI's report was retracted" if reports else "No AI report: normal place"
    return Priority(level=Level.ROUTINE, reason=reason, demonstration=demonstration)


def judge(abnormality: Abnormality, policy: Sequence[TriageRule]) -> Level:
    """The level of the first rule that holds; STAT where the reporter itself called it critical (AA, HH, LL)."""
    if abnormality.critical:
        return Level.STAT
    for rule in policy:
        if holds(rule, abnormality):
            return Level(rule.level)
    return Level.ROUTINE


def holds(rule: TriageRule, abnormality: Abnormality) -> bool:
    if rule.codes and abnormality.concept.value not in rule.codes:
        return False
    if abnormality.probability is not None and abnormality.probability < rule.min_probability:
        return False
    return rule.min_volume_ml <= 0 or (abnormality.volume_ml or 0.0) >= rule.min_volume_ml


def severity(probability: float | None) -> float:
    return PROBABILITY_NOT_GIVEN if probability is None else probability


def describe(abnormality: Abnormality) -> str:
    """ "Nodule, left lung, 93 %, 1.2 ml"."""
    place = " ".join(w for w in (abnormality.laterality, abnormality.site.lower()) if w)
    if abnormality.laterality and abnormality.laterality in abnormality.site.lower():
        place = abnormality.site.lower()
    parts = [abnormality.concept.meaning or "Abnormal finding", place]
    if abnormality.probability is not None:
        parts.append(f"{100 * abnormality.probability:.0f} %")
    if abnormality.volume_ml is not None:
        parts.append(
            f"{abnormality.volume_ml:.2g} ml" if abnormality.volume_ml < 10 else f"{abnormality.volume_ml:.0f} ml"
        )
    return ", ".join(p for p in parts if p)


def marked(demonstration: bool) -> str:
    return " – demonstration, not for clinical use" if demonstration else ""


def order(rows: Iterable[tuple[K, Priority, float]], now: float) -> list[Place[K]]:
    """Rows of (key, priority, arrival in epoch seconds) as they are to be read.

    By level; in a level first what is overdue, longest overdue first, then by probability in steps of ten per cent, then
    by arrival. Nothing starves: only STAT and what is overdue for longer can stand before an overdue row.
    """
    places = [
        (aged(Place(key=k, priority=p, waiting_s=max(0.0, now - at))), overdue_s(p, now - at)) for k, p, at in rows
    ]
    places.sort(key=lambda p: sort_key(*p))
    return [place for place, _ in places]


def overdue_s(priority: Priority, waiting_s: float) -> float:
    return max(0.0, waiting_s - OVERDUE_S[priority.level])


def aged(place: Place[K]) -> Place[K]:
    """A routine row that waited too long is HIGH, and says why."""
    priority = place.priority
    if priority.level is not Level.ROUTINE or place.waiting_s < OVERDUE_S[Level.ROUTINE]:
        return place
    raised = Priority(
        level=Level.HIGH,
        reason=f"Waited {place.waiting_s / 3600:.0f} h. {priority.reason}",
        probability=priority.probability,
        abnormal=priority.abnormal,
        demonstration=priority.demonstration,
    )
    return Place(key=place.key, priority=raised, waiting_s=place.waiting_s)


def sort_key(place: Place[K], overdue: float) -> tuple[int, float, int, float]:
    step = -int(severity(place.priority.probability) * 10) if place.priority.abnormal else 0
    return RANK[place.priority.level], -overdue, step, -place.waiting_s
