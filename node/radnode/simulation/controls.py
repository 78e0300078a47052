"""Sharper means of a described room: control variates, whose expectations are known (Lavenberg and Welch 1981).

A mean wait at a high load varies by several per cent from run to run, with what happened to come. What came also moves things
of which the expectation is known whatever the policy; by how much they missed it, the mean is corrected. The policy's own
closed form is not among them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from radnode.simulation import queueing
from radnode.simulation.room import Read, Room, first_come
from radnode.simulation.traffic import Arrival, Condition, Description
from radnode.triage import Level

EACH = 5
"""Trials for each control: with fewer, the correction is worse than none."""
NOW_S = 1e-3
"""Times that differ by less are the same."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial in minutes. waits: means of the flagged and of the others; surplus: see `surplus_min`; first: of all in the order of arrival.

    alone: of the flagged, were they the only ones; share: of the flagged; busy: share that found no reader free.
    """

    waits: tuple[float, float]
    surplus: tuple[float, float]
    first: float
    alone: float
    share: float
    busy: float


def flagged_shares(condition: Condition, level: Level) -> Mapping[str, float]:
    """Group -> how many of it are flagged. `level`: what the policy makes of a flag."""
    hits = condition.prevalence * condition.sensitivity
    everybody = hits + (1 - condition.prevalence) * (1 - condition.specificity)
    return {
        "all": everybody,
        "diseased": condition.sensitivity,
        "diseased, missed by the AI": 0.0,
        "not diseased": 1 - condition.specificity,
        level.value: 1.0,
        "ROUTINE": everybody if level is Level.ROUTINE else 0.0,
    }


def observed(
    room: Description, arrivals: Sequence[Arrival], skipped: set[int], first: Sequence[Read], triaged: Sequence[Read]
) -> Trial | None:
    """One trial, in which both orders read the same studies; None where nobody or everybody is flagged."""
    flagged = [a for a in arrivals if a.flag.abnormal]
    counted = [a for a in arrivals if id(a) not in skipped]
    of = tuple([a for a in counted if a.flag.abnormal is wanted] for wanted in (True, False))
    if not all(of):
        return None
    fifo = {id(r.arrival): r.wait_s / 60 for r in first}
    alone = {id(r.arrival): r.wait_s / 60 for r in Room(flagged, room.readers, first_come).run()}
    waits = {id(r.arrival): r.wait_s / 60 for r in triaged}
    more = surplus_min(room, triaged)

    def mean(values: Mapping[int, float], studies: Sequence[Arrival]) -> float:
        return float(np.mean([values[id(a)] for a in studies]))

    return Trial(
        waits=(mean(waits, of[0]), mean(waits, of[1])),
        surplus=(mean(more, of[0]), mean(more, of[1])),
        first=mean(fifo, counted),
        alone=mean(alone, of[0]),
        share=len(of[0]) / len(counted),
        busy=float(np.mean([fifo[id(a)] * 60 > NOW_S for a in counted])),
    )


def surplus_min(room: Description, reads: Sequence[Read]) -> Mapping[int, float]:
    """How much longer each study waited than the readings that ended meanwhile take on average; zero in expectation.

    While a study waits every reader is busy, and readings of exponential length then end at a steady rate (a martingale).
    Only where no reading is interrupted.
    """
    begun = np.array([r.arrival.at_s + r.wait_s for r in reads])
    came = np.array([r.arrival.at_s for r in reads])
    ends = np.sort(begun + np.array([r.arrival.reading_s for r in reads]))
    ended = np.searchsorted(ends, begun + NOW_S) - np.searchsorted(ends, came)
    more = (begun - came) / 60 - room.reading_min / room.readers * ended
    return {id(r.arrival): float(value) for r, value in zip(reads, more, strict=True)}


def sharpened(
    room: Description, trials: Sequence[Trial], flagged: float, overall: float, *, interrupts: bool
) -> tuple[float, float] | None:
    """The mean wait of a group of which the share `flagged` is flagged, and half its 95 % interval; None with too few trials.

    Who of the flagged is diseased changes no order, so a group waits as its flagged and its other studies do. overall:
    the share that is flagged of all.
    """

    def mixed(parts: tuple[float, float]) -> float:
        return flagged * parts[0] + (1 - flagged) * parts[1]

    rate = room.rates()[0] * 60
    first = [t.first - queueing.first_come(rate, room.reading_min, room.readers) for t in trials]
    alone = [t.alone - queueing.first_come(rate * overall, room.reading_min, room.readers) for t in trials]
    share = [t.share - overall for t in trials]
    busy = [t.busy - queueing.all_busy(room.readers, rate * room.reading_min) for t in trials]
    surplus = [mixed(t.surplus) for t in trials]
    known = [first, alone, share, busy] if interrupts else [first, surplus, share, alone, busy]
    known = known[: len(trials) // EACH]
    if not known:
        return None
    return fitted(np.array([mixed(t.waits) for t in trials]), np.column_stack([np.ones(len(trials)), *known]))


def fitted(values: np.ndarray, columns: np.ndarray) -> tuple[float, float]:
    """Where `values` would stand if every column but the first were zero, by least squares, and half its 95 % interval."""
    found, *_ = np.linalg.lstsq(columns, values, rcond=None)
    free = len(values) - columns.shape[1]
    rest = values - columns @ found
    spread = float(np.linalg.pinv(columns.T @ columns)[0, 0] * (rest @ rest) / free)
    return float(found[0]), float(stdtrit(free, 0.975)) * math.sqrt(spread)
