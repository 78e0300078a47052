"""The same day in the node's simulation (`radnode.simulation.room`), against what really happened."""

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import t as student
from support.day import MEAN_READING_S, NEVER, READING_S, Case, Plan, Said, a_day

from radnode.database import Database
from radnode.settings import Ageing
from radnode.simulation.compare import compare
from radnode.simulation.recorded import as_it_was, recorded
from radnode.simulation.recorded import trials as drawn
from radnode.simulation.room import Read, Room
from radnode.simulation.traffic import Arrival, Description
from radnode.triage import (
    DEFAULT_POLICY,
    Context,
    Level,
    Priority,
    Report,
    is_turn_of_late,
    order,
    overdue_after,
    prioritise,
)
from radnode_fhir.read import Abnormality, Reported
from radnode_inference.findings import Code

GROUPS = ("critical", "hurried", "unflagged", "all")
CERTAINTY = 1 - 0.05 / len(GROUPS)
"""Of each group's interval, so that all of them together hold with at least 95 % (Bonferroni)."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Mean waits of one group in simulated minutes: what happened, what the simulation expects, and the interval for one day.

    same: the mean of the simulation with the very reading times of the day.
    """

    group: str
    studies: int
    real: float
    expected: float
    low: float
    high: float
    same: float

    @property
    def holds(self) -> bool:
        return self.low <= self.real <= self.high


def waits_min(cases: Sequence[Case], plan: Plan, until: str = "taken") -> Mapping[int, float]:
    """Case number -> simulated minutes from the first image until somebody took the study (or asked: "free")."""
    return {c.number: max(0.0, c.when(until) - c.when("arrived")) * plan.scale / 60 for c in cases}


def of_group(cases: Sequence[Case], group: str) -> list[Case]:
    return [c for c in cases if group in ("all", c.group)]


def known(case: Case, now: float) -> Priority:
    """What the node's triage makes of what was known of a case at a moment of its clock."""
    reports = [report(case.findings(now))] if case.when("reported") <= now else []
    context = Context(
        patient_class="emergency" if case.emergency else "",
        set_level=Level.STAT if case.when("raised") <= now else None,
    )
    return prioritise(reports, DEFAULT_POLICY, context)


def report(findings: Sequence[Said]) -> Report:
    found = tuple(
        Abnormality(
            concept=Code(value=s.code, scheme="SCT", meaning=s.code), volume_ml=None, long_axis_mm=None, laterality="",
            probability=None if s.percent is None else s.percent / 100, site="", tracking_uid="", critical=False,
        )
        for s in findings
    )  # fmt: skip
    said = Reported(
        status="preliminary", issued="", conclusion="", model="", study_uid="", accession_number="", patient_id="",
        abnormalities=found,
    )  # fmt: skip
    return Report(model="ai", status="preliminary", said=said, demonstration=False)


def simulated(
    cases: Sequence[Case], plan: Plan, reading_s: Callable[[Case], float], *, ageing: bool = True
) -> dict[int, float]:
    """Case number -> wait in simulated minutes, when readers of a simulated room take what the node's triage puts first."""
    origin = min(c.when("arrived") for c in cases)
    by_arrival: dict[int, Case] = {}
    arrivals = []
    for case in sorted(cases, key=lambda c: c.when("arrived")):
        arrivals.append(Arrival(at_s=(case.when("arrived") - origin) * plan.scale, reading_s=reading_s(case)))
        by_arrival[id(arrivals[-1])] = case
    names = ("stat_min", "high_min", "routine_min")
    setting = Ageing.model_validate(dict(zip(names, plan.limits_min, strict=True)))
    limits = overdue_after(setting) if ageing else dict.fromkeys(Level, NEVER)

    def pick(waiting: Sequence[Arrival], now: float, read: Sequence[Read]) -> Arrival:
        moment = origin + now / plan.scale
        rows = ((a, known(by_arrival[id(a)], moment), a.at_s) for a in waiting)
        turn = is_turn_of_late(setting, [r.wait_s + r.arrival.reading_s for r in reversed(read[-4:])], limits)
        return order(rows, now, limits, late_first=turn)[0].key

    reads = Room(arrivals, plan.readers, pick).run()
    return {by_arrival[id(r.arrival)].number: r.wait_s / 60 for r in reads}


def as_planned(plan: Plan) -> list[Case]:
    """The cases of a plan as a machine without delays would have them, those of the node's own model without a report."""
    cases = a_day(plan)
    for case in cases:
        moments = {
            "arrived": case.at,
            "reported": case.reported_at,
            "amended": case.amended_at,
            "raised": case.raised_at,
        }
        case.happened |= {what: at / plan.scale for what, at in moments.items() if at < NEVER}
    return cases


def longest_as_planned_min(plan: Plan, *, ageing: bool) -> float:
    """The longest wait of an unflagged study of a plan: what the limit of the plan is worth without ageing."""
    cases = as_planned(plan)
    return longest_unflagged_min(cases, simulated(cases, plan, lambda c: c.reading_s, ageing=ageing))


def agreement(cases: Sequence[Case], plan: Plan, trials: int, gaps_s: Sequence[float]) -> list[Agreement]:
    """Reality beside `trials` simulated days with the same arrivals and flags, and reading times drawn anew.

    gaps_s: simulated seconds from a reader's asking until the test had looked at the page: every study waits that much longer.
    """
    chance = random.Random(plan.seed + 1)
    gap_min = statistics.fmean(gaps_s) / 60
    real = waits_min(cases, plan)
    same = {number: wait + gap_min for number, wait in simulated(cases, plan, lambda c: c.reading_s).items()}
    runs = [
        {number: wait + chance.choice(gaps_s) / 60 for number, wait in day.items()}
        for day in (simulated(cases, plan, lambda _: chance.uniform(*READING_S)) for _ in range(trials))
    ]
    made = []
    for group in GROUPS:
        numbers = [c.number for c in of_group(cases, group)]
        if not numbers:
            continue
        means = [statistics.fmean(run[n] for n in numbers) for run in runs]
        middle = statistics.fmean(means)
        half = float(student.ppf((1 + CERTAINTY) / 2, trials - 1)) * statistics.stdev(means) * math.sqrt(1 + 1 / trials)
        made.append(
            Agreement(
                group=group, studies=len(numbers), real=statistics.fmean(real[n] for n in numbers), expected=middle,
                low=middle - half, high=middle + half, same=statistics.fmean(same[n] for n in numbers),
            )
        )  # fmt: skip
    return made


def longest_unflagged_min(cases: Sequence[Case], waits: Mapping[int, float]) -> float:
    return max(waits[c.number] for c in of_group(cases, "unflagged"))


def from_recording(database: Database, plan: Plan, trials: int) -> list[Agreement]:
    """What `radnode triage simulate --from` makes of the day as the node recorded it, beside how long studies really waited.

    Real minutes become simulated ones. What people set is not simulated, and reading times are drawn as lognormal ones.
    """
    room = Description(readers=plan.readers, reading_min=MEAN_READING_S / 60 / plan.scale, reading_times="lognormal")
    came = recorded(database, DEFAULT_POLICY, since=0.0)
    result = compare(
        room, DEFAULT_POLICY, traffic=drawn(came, room, trials, plan.seed), really=as_it_was(came, room),
        ageing=Ageing.model_validate(plan.settings()),
    )  # fmt: skip
    made = []
    for row in result.rows:
        assert row.really is not None
        half = row.with_triage.half_width * math.sqrt(trials + 1)  # for one day, not for the mean of the trials
        mean = row.with_triage.mean
        low, high, real = mean - half, mean + half, row.really.mean
        numbers = {"real": real, "expected": mean, "low": low, "high": high, "same": mean}
        scaled = {name: minutes * plan.scale for name, minutes in numbers.items()}
        made.append(Agreement(group=row.group, studies=row.really.studies, **scaled))
    return made
