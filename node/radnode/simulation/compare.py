"""Waits with and without triage over several trials, by who waits: the table that a policy is judged by."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from scipy.special import stdtrit

from radnode.settings import Ageing, TriageRule
from radnode.simulation import controls, queueing
from radnode.simulation.controls import Trial, flagged_shares
from radnode.simulation.room import Read, Room, by_worklist, first_come
from radnode.simulation.traffic import Arrival, Description, described, flag_of
from radnode.triage import Level

Group = Callable[[Arrival], bool]
WARM_UP = 0.1
"""Part of each trial that is left out: the room begins empty."""

GROUPS: Mapping[str, Group] = {
    "all": lambda _: True,
    "diseased": lambda a: a.diseased is True,
    "diseased, missed by the AI": lambda a: a.diseased is True and not a.flag.abnormal,
    "not diseased": lambda a: a.diseased is False,
    "STAT": lambda a: a.flag.level is Level.STAT,
    "HIGH": lambda a: a.flag.level is Level.HIGH,
    "ROUTINE": lambda a: a.flag.level is Level.ROUTINE,
    "emergency patients": lambda a: a.patient_class == "emergency",
    "inpatients": lambda a: a.patient_class == "inpatient",
    "outpatients": lambda a: a.patient_class == "outpatient",
}


@dataclass(frozen=True, kw_only=True)
class Waits:
    """Minutes that one group waited. mean ± half a 95 % confidence interval over the trials (nan with one trial)."""

    studies: int
    mean: float
    half_width: float
    median: float
    p95: float
    longest: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One group of studies, read in the order of arrival and in the order of the policy. exact: the closed form, where it holds.

    really: what the room did, where that was recorded.
    """

    group: str
    without: Waits
    with_triage: Waits
    exact_without: float | None = None
    exact_with: float | None = None
    really: Waits | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """rows: by group, those without studies left out.

    histograms: waits in minutes by the way of reading, of all studies; by_class: the same for each group.
    """

    room: Description
    trials: int
    interrupts: bool
    rows: tuple[Row, ...]
    histograms: Mapping[str, tuple[float, ...]]
    by_class: Mapping[str, Mapping[str, tuple[float, ...]]]


def compare(
    room: Description,
    policy: Sequence[TriageRule],
    *,
    traffic: Sequence[Sequence[Arrival]] | None = None,
    really: Sequence[Read] = (),
    studies: int = 5000,
    trials: int = 10,
    seed: int = 1,
    interrupts: bool = False,
    ageing: Ageing | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Comparison:
    """Read the same studies both ways. traffic: what came, one list per trial; None: drawn from the description.

    really: how long those of them waited whose reading was recorded. Mean waits with triage of a described room that is
    `solved` are sharpened by control variates.
    """
    ageing = ageing or Ageing()
    worklist = by_worklist(ageing)
    without: list[list[Read]] = []
    triaged: list[list[Read]] = []
    controlled = traffic is None and room.solved
    seen: list[Trial | None] = []
    trials = len(traffic) if traffic is not None else trials
    for trial in range(trials):
        arrivals = traffic[trial] if traffic is not None else described(room, policy, studies, seed + trial)
        skipped = set(map(id, arrivals[: int(WARM_UP * len(arrivals))])) if traffic is None else set()
        first = Room(arrivals, room.readers, first_come).run()
        ranked = Room(arrivals, room.readers, worklist, interrupts=interrupts).run()
        for runs, reads in ((without, first), (triaged, ranked)):
            runs.append([r for r in reads if id(r.arrival) not in skipped])
        seen.append(controls.observed(room, arrivals, skipped, first, ranked) if controlled else None)
        progress((trial + 1) / trials)
    known = exact(room, policy, interrupts=interrupts) if traffic is None else {}
    rows = (row(name, group, without, triaged) for name, group in GROUPS.items())
    found = [with_really(r, really) for r in rows if r is not None]
    if controlled and all(seen):
        found = [sharper(r, room, policy, [t for t in seen if t], interrupts=interrupts) for r in found]
    return Comparison(
        room=room,
        trials=trials,
        interrupts=interrupts,
        rows=tuple(with_exact(r, known) for r in found),
        histograms=spread(without, triaged, lambda _: True),
        by_class={r.group: spread(without, triaged, GROUPS[r.group]) for r in found},
    )


def spread(
    without: Sequence[Sequence[Read]], triaged: Sequence[Sequence[Read]], group: Group
) -> Mapping[str, tuple[float, ...]]:
    """Way of reading -> every wait of a group, in minutes."""
    return {
        name: tuple(r.wait_s / 60 for reads in runs for r in reads if group(r.arrival))
        for name, runs in (("in the order of arrival", without), ("with triage", triaged))
    }


def exact(
    room: Description, policy: Sequence[TriageRule], *, interrupts: bool = False
) -> Mapping[str, tuple[float, float]]:
    """Group -> mean wait in minutes without and with triage, in closed form; {} where none is known.

    It holds for a steady room, exponential reading times, an AI without delay, one condition and patients without classes;
    ageing is left out.
    """
    if not room.solved or room.ai_latency_min:
        return {}
    [condition] = room.conditions
    level = flag_of(condition, policy).level
    rate = room.rates()[0] * 60
    without = queueing.first_come(rate, room.reading_min, room.readers)
    shares = flagged_shares(condition, level)
    flagged = shares["all"]
    plain = level is Level.ROUTINE  # then a flag goes before the others of its level, and interrupts nobody
    discipline = queueing.interrupting if interrupts and not plain else queueing.by_priority
    first, last = discipline([rate * flagged, rate * (1 - flagged)], room.reading_min, room.readers)
    return {group: (without, share * first + (1 - share) * last) for group, share in shares.items()}


def sharper(
    row: Row, room: Description, policy: Sequence[TriageRule], trials: Sequence[Trial], *, interrupts: bool
) -> Row:
    """The row with the mean wait by control variates, where there are trials enough."""
    shares = flagged_shares(room.conditions[0], flag_of(room.conditions[0], policy).level)
    if row.group not in shares:
        return row
    found = controls.sharpened(room, trials, shares[row.group], shares["all"], interrupts=interrupts)
    if found is None:
        return row
    return replace(row, with_triage=replace(row.with_triage, mean=found[0], half_width=found[1]))


def with_exact(row: Row, known: Mapping[str, tuple[float, float]]) -> Row:
    if row.group not in known:
        return row
    without, triaged = known[row.group]
    return replace(row, exact_without=without, exact_with=triaged)


def with_really(row: Row, really: Sequence[Read]) -> Row:
    group = GROUPS[row.group]
    return replace(row, really=waits([really], group)) if any(group(r.arrival) for r in really) else row


def row(name: str, group: Group, without: Sequence[Sequence[Read]], triaged: Sequence[Sequence[Read]]) -> Row | None:
    if not any(group(r.arrival) for reads in without for r in reads):
        return None
    return Row(group=name, without=waits(without, group), with_triage=waits(triaged, group))


def waits(trials: Sequence[Sequence[Read]], group: Group) -> Waits:
    by_trial = [[r.wait_s / 60 for r in reads if group(r.arrival)] for reads in trials]
    means = [statistics.fmean(values) for values in by_trial if values]
    every = sorted(value for values in by_trial for value in values)
    n = len(means)
    half = float(stdtrit(n - 1, 0.975)) * statistics.stdev(means) / math.sqrt(n) if n > 1 else math.nan
    return Waits(
        studies=len(every),
        mean=statistics.fmean(means),
        half_width=half,
        median=statistics.median(every),
        p95=every[min(len(every) - 1, int(0.95 * len(every)))],
        longest=every[-1],
    )
