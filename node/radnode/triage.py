"""Findings + policy -> Priority, with its reason. Pure; reads DiagnosticReports only, those of other systems as well.

It reorders and never hides: a study without a report, or whose AI declined or failed, keeps its normal place.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Generic, TypeVar

from radnode import abnormalities
from radnode.settings import Ageing, TriageRule
from radnode_fhir.confirm import CONFIRMED
from radnode_fhir.diagnostic_report import DEMONSTRATION
from radnode_fhir.read import DEAD, Abnormality, Reported, facts

K = TypeVar("K", bound=Hashable)


class Level(StrEnum):
    """Requested Procedure Priority (0040,1003) by name, highest first."""

    STAT = "STAT"
    HIGH = "HIGH"
    ROUTINE = "ROUTINE"


RANK: Mapping[Level, int] = {Level.STAT: 0, Level.HIGH: 1, Level.ROUTINE: 2}

BY_FHIR = " (by FHIR)"
"""Ends the name of another system's model: no model of the node has a name with a space."""

PERSON, REPORTER, OTHERS = -2, -1, 1000
"""Hierarchies beside the rules' places in the table: set by a person, called critical by its reporter, raised by no finding."""


def overdue_after(ageing: Ageing) -> Mapping[Level, float]:
    """Seconds after which a row is overdue: early enough to be read within its limit."""
    limits = {Level.STAT: ageing.stat_min, Level.HIGH: ageing.high_min, Level.ROUTINE: ageing.routine_min}
    return {level: 60 * ageing.due_at * minutes for level, minutes in limits.items()}


def full_limits(ageing: Ageing) -> Mapping[Level, float]:
    """Seconds within which a row is to be read."""
    return {level: seconds / ageing.due_at for level, seconds in overdue_after(ageing).items()}


def is_turn_of_late(ageing: Ageing, waits: Sequence[float], limits: Mapping[Level, float]) -> bool:
    """Whether an overdue study goes before what only an AI made STAT: one reading in `ageing.late_one_in` is for those.

    waits: how long the studies of the latest readings had waited by then, seconds. Nobody reads here: never.
    """
    latest = waits[: ageing.late_one_in - 1]
    enough = 0 < len(latest) == ageing.late_one_in - 1
    return enough and all(waited <= min(limits[Level.HIGH], limits[Level.ROUTINE]) for waited in latest)


OVERDUE_S: Mapping[Level, float] = overdue_after(Ageing())
"""After this a row is overdue: it goes before the others of its level, a routine one into HIGH, so that nothing starves."""

PROBABILITY_NOT_GIVEN = 0.5
"""Where a finding without a probability stands among those of its level."""


def severity(probability: float | None) -> float:
    return PROBABILITY_NOT_GIVEN if probability is None else probability


DEFAULT_POLICY: tuple[TriageRule, ...] = (
    # SCT: pulmonary embolism, pneumothorax, intracranial haemorrhage, haemorrhage (PS3.16 CID 6101, CID 7159)
    TriageRule(
        name="critical", codes=("59282003", "36118008", "1386000", "50960005"), min_probability=0.5, level="STAT"
    ),
    # SCT: emphysema of the lung, emphysema: worth reporting, not worth hurrying
    TriageRule(name="chronic", codes=("87433001", "4981000"), level="ROUTINE"),
    TriageRule(name="likely-abnormal", min_probability=0.5, level="HIGH"),
    TriageRule(name="emergency-patient", finding=False, classes=("emergency",), level="HIGH"),
    TriageRule(name="unlikely", level="ROUTINE"),
)
"""For each finding the first rule that holds. A finding without a probability counts as certain: its model is sure or silent.

A finding without a volume or a length meets no rule that asks for one.
"""


@dataclass(frozen=True, kw_only=True)
class Report:
    """One DiagnosticReport of a study. status is the one that holds now, which may be later than the Bundle's.

    device: what made it, where `model` had to differ because it made another one of the same study; else "".
    changed_at: when it came or changed last, UTC epoch seconds.
    """

    model: str
    status: str
    said: Reported
    demonstration: bool
    device: str = ""
    changed_at: float = 0.0

    @property
    def by(self) -> str:
        """What rules know the reporter by, and count once."""
        return self.device or self.model

    @property
    def retracted(self) -> bool:
        return self.status in DEAD or self.said.retracted


@dataclass(frozen=True, kw_only=True)
class Context:
    """What is known of a study beside its reports. ordered: the order's priority. set_level: a person's, with the comment.

    class_from: where the class of the patient is known from, in words.
    """

    patient_class: str = ""
    class_from: str = ""
    ordered: Level | None = None
    set_level: Level | None = None
    comment: str = ""


@dataclass(frozen=True, kw_only=True)
class Priority:
    """Where a study stands and why. probability: of the finding that put it there (None: not given, or no finding).

    hierarchy: within a level, lower goes first. rule: the name of the rule that decided, "" for none.
    after_reading: when a finding came that is new or worse, although the study had been read; UTC epoch seconds.
    given: the level that it has without any AI: as ordered, by the class of the patient, by a person who set it or confirmed a report.
    """

    level: Level
    reason: str
    probability: float | None = None
    abnormal: bool = False
    demonstration: bool = False
    hierarchy: int = 0
    rule: str = ""
    given: Level = Level.ROUTINE
    after_reading: float | None = None


@dataclass(frozen=True, kw_only=True)
class Place(Generic[K]):
    """One row in its order. `priority` is what counts now: waiting may have raised it."""

    key: K
    priority: Priority
    waiting_s: float


NOTHING_KNOWN = Context()


def read(bundle: Mapping[str, Any], model: str, status: str, device: str = "") -> Report | None:
    """A stored report as triage sees it; None when the Bundle holds no readable report, which is no reason to hide a study.

    What the node's own report calls critical was so by the policy of its time: the policy of today decides. Its own is whole.
    """
    try:
        said = facts(bundle)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not model.endswith(BY_FHIR):
        ours = tuple(replace(a, critical=False) for a in said.abnormalities)
        said = replace(said, abnormalities=ours, unclear="")
    shown = DEMONSTRATION.strip() in said.conclusion
    return Report(model=model, status=status, said=said, demonstration=shown, device=device)


def prioritise(
    reports: Sequence[Report], policy: Sequence[TriageRule] = DEFAULT_POLICY, context: Context = NOTHING_KNOWN
) -> Priority:
    """The highest of: what any finding of any standing report is given, the normal place, what a person set; and why."""
    said = by_findings(reports, policy, context)
    final = [r for r in reports if r.status in CONFIRMED and r.said.confirmed_by]
    given = by_findings(final, policy, context).level if final else Level.ROUTINE
    for other in (normal_place(policy, context), set_by_person(context)):
        if other is not None:
            said, given = raised(said, other), min(given, other.level, key=RANK.__getitem__)
    return replace(said, given=given)


def by_findings(reports: Sequence[Report], policy: Sequence[TriageRule], context: Context) -> Priority:
    standing = [r for r in reports if not r.retracted]
    found = [(verdict(a, policy, context.patient_class, r.by, standing), a, r) for r in standing for a in r.said.abnormalities]  # fmt: skip
    if not found:
        return without_finding(reports, standing)
    decided, first, report = min(found, key=lambda f: (RANK[f[0].level], f[0].hierarchy, -severity(f[1].probability)))
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return Priority(
        level=decided.level,
        reason=f"{abnormalities.describe(first)}{more} [{report.model}]{abnormalities.marked(report.demonstration)}",
        probability=first.probability,
        abnormal=True,
        demonstration=all(r.demonstration for r in standing),
        hierarchy=decided.hierarchy,
        rule=decided.rule,
    )


def without_finding(reports: Sequence[Report], standing: Sequence[Report]) -> Priority:
    demonstration = bool(standing) and all(r.demonstration for r in standing)
    if standing:
        models = ", ".join(sorted(r.model for r in standing))
        final = all(r.status in CONFIRMED for r in standing)
        said = "No finding, report final" if final else "No finding by AI"
        unclear = next((r.said.unclear for r in standing if r.said.unclear), "")
        said = f"{'Report final' if final else 'No finding to go by'}: {unclear}" if unclear else said
        reason = f"{said} [{models}]{abnormalities.marked(demonstration)}"
    else:
        reason = "The AI's report was retracted" if reports else "No AI report: normal place"
    return Priority(level=Level.ROUTINE, reason=reason, demonstration=demonstration, hierarchy=OTHERS)


def normal_place(policy: Sequence[TriageRule], context: Context) -> Priority | None:
    """Where the study stands whatever an AI says: as it was ordered, or by the class of the patient, whichever is higher."""
    places = [
        Priority(level=Level(rule.level), hierarchy=at, rule=rule.name, reason=f"{context.patient_class} patient".capitalize() + context.class_from)
        for at, rule in enumerate(policy)
        if not rule.finding and context.patient_class in rule.classes
    ]  # fmt: skip
    if context.ordered is not None:
        places.append(Priority(level=context.ordered, hierarchy=OTHERS, reason=f"Ordered as {context.ordered}"))
    return min(places, key=lambda p: (RANK[p.level], p.hierarchy), default=None)


def set_by_person(context: Context) -> Priority | None:
    if context.set_level is None:
        return None
    said = f": {context.comment}" if context.comment else ""
    return Priority(level=context.set_level, hierarchy=PERSON, reason=f"Set to {context.set_level} by a person{said}")


def raised(said: Priority, other: Priority) -> Priority:
    """`said`, not lower than `other`, whose reason then stands first."""
    here, there = (RANK[said.level], said.hierarchy), (RANK[other.level], other.hierarchy)
    if there >= here:
        return said
    reason = f"{other.reason}. {said.reason}"
    return replace(said, level=other.level, hierarchy=other.hierarchy, rule=other.rule, reason=reason)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the policy says of one finding. hierarchy: the place of the rule in the table, from 0."""

    level: Level
    hierarchy: int
    rule: str


def judge(abnormality: Abnormality, policy: Sequence[TriageRule]) -> Level:
    """The level of a finding of which nothing else is known."""
    return verdict(abnormality, policy).level


def verdict(
    abnormality: Abnormality,
    policy: Sequence[TriageRule],
    patient_class: str = "",
    model: str = "",
    standing: Sequence[Report] = (),
) -> Verdict:
    """The first rule that holds; STAT where the reporter itself called it critical (AA, HH, LL)."""
    if abnormality.critical:
        return Verdict(level=Level.STAT, hierarchy=REPORTER, rule="critical by its reporter")
    for at, rule in enumerate(policy):
        if holds(rule, abnormality, patient_class, model) and agree(rule, abnormality, patient_class, standing):
            return Verdict(level=Level(rule.level), hierarchy=at, rule=rule.name)
    return Verdict(level=Level.ROUTINE, hierarchy=OTHERS, rule="")


def holds(rule: TriageRule, abnormality: Abnormality, patient_class: str, model: str) -> bool:
    if not rule.finding or (rule.codes and not abnormality.names & set(rule.codes)):
        return False
    if (rule.classes and patient_class not in rule.classes) or (rule.models and model not in rule.models):
        return False
    if abnormality.probability is not None and abnormality.probability < rule.min_probability:
        return False
    large = rule.min_volume_ml <= 0 or (abnormality.volume_ml or 0.0) >= rule.min_volume_ml
    return large and (rule.min_long_axis_mm <= 0 or (abnormality.long_axis_mm or 0.0) >= rule.min_long_axis_mm)


def agree(rule: TriageRule, abnormality: Abnormality, patient_class: str, standing: Sequence[Report]) -> bool:
    """Whether as many models as the rule asks for say the same of the same concept."""
    if rule.agreeing <= 1:
        return True
    same = {
        r.by
        for r in standing
        for a in r.said.abnormalities
        if a.names & abnormality.names and holds(rule, a, patient_class, r.by)
    }
    return len(same) >= rule.agreeing


def order(
    rows: Iterable[tuple[K, Priority, float]],
    now: float,
    limits: Mapping[Level, float] = OVERDUE_S,
    *,
    late_first: bool = False,
) -> list[Place[K]]:
    """Rows of (key, priority, arrival in epoch seconds) as they are to be read. limits: seconds, see `overdue_after`.

    By level; in a level first what is overdue, longest overdue first, then by the rule's place in the table, then by
    probability in steps of ten per cent, then by arrival. late_first: it is the turn of a late
    study (`is_turn_of_late`): the first overdue row stands before all but the STAT of people and orders.
    """
    places = []
    for key, priority, at in rows:
        waiting = max(0.0, now - at)
        overdue = max(0.0, waiting - limits[priority.level])
        places.append((Place(key=key, priority=aged(priority, waiting, overdue), waiting_s=waiting), overdue))
    places.sort(key=lambda p: sort_key(*p))
    late = next((place for place, overdue in places if overdue and place.priority.level is not Level.STAT), None)
    ranked = [place for place, _ in places]
    return before_flags(ranked, late) if late_first and late is not None else ranked


def before_flags(ranked: Sequence[Place[K]], late: Place[K]) -> list[Place[K]]:
    """`late` before what only an AI made STAT, and says so where there is such."""
    given = [p for p in ranked if p.priority.given is Level.STAT]
    others = [p for p in ranked if p is not late and p.priority.given is not Level.STAT]
    if others and others[0].priority.level is Level.STAT:
        reason = f"Its turn before the STAT of an AI. {late.priority.reason}"
        late = replace(late, priority=replace(late.priority, reason=reason))
    return [*given, late, *others]


def aged(priority: Priority, waiting_s: float, overdue_s: float) -> Priority:
    """A row that waited too long says so; a routine one is HIGH."""
    if overdue_s <= 0:
        return priority
    level = Level.HIGH if priority.level is Level.ROUTINE else priority.level
    waited = f"{waiting_s / 3600:.0f} h" if waiting_s >= 7200 else f"{waiting_s / 60:.0f} min"
    return replace(priority, level=level, reason=f"Waited {waited}. {priority.reason}")


def sort_key(place: Place[K], overdue: float) -> tuple[int, float, int, float, float]:
    priority = place.priority
    step = -int(severity(priority.probability) * 10) if priority.abnormal else 0
    return RANK[priority.level], -overdue, priority.hierarchy, step, -place.waiting_s
