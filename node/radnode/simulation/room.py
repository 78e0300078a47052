"""A reading room as a discrete-event simulation (SimPy): readers take the study that the worklist puts first."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import simpy

from radnode.settings import Ageing
from radnode.simulation.traffic import Arrival
from radnode.triage import RANK, Level, Priority, is_turn_of_late, order, overdue_after

Steps = Generator[simpy.Event, Any, None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """A study that was read. wait_s: from its first image to the end of its reading, without the reading itself."""

    arrival: Arrival
    wait_s: float


Pick = Callable[[Sequence[Arrival], float, Sequence[Read]], Arrival]
"""Which of the waiting studies is read next: now, in seconds, and after all that was read before."""


def known(study: Arrival, now: float) -> Priority:
    """What the worklist knows of a study now."""
    return next((priority for at, priority in reversed(study.steps) if at <= now), study.before)


def first_come(waiting: Sequence[Arrival], _now: float, _read: Sequence[Read]) -> Arrival:
    """No triage."""
    return min(waiting, key=lambda a: a.waits_from_s)


def by_level(waiting: Sequence[Arrival], now: float, _read: Sequence[Read]) -> Arrival:
    """Levels alone, without ageing: what the closed form describes."""
    return min(waiting, key=lambda a: (RANK[known(a, now).level], a.at_s))


def by_worklist(setting: Ageing | None = None) -> Pick:
    """The order of the node's own worklist, ageing included."""
    ageing = setting or Ageing()
    limits = overdue_after(ageing)

    def pick(waiting: Sequence[Arrival], now: float, read: Sequence[Read]) -> Arrival:
        if len(waiting) == 1:
            return waiting[0]
        waits = [r.wait_s + r.arrival.reading_s for r in reversed(read[-max(ageing.late_one_in, 1) :])]
        rows = ((a, known(a, now), a.waits_from_s) for a in waiting)
        return order(rows, now, limits, late_first=is_turn_of_late(ageing, waits, limits))[0].key

    return pick


class Room:
    """One run. `interrupts`: a study of a higher level stops the reading of a lower one, which is finished later."""

    def __init__(self, arrivals: Sequence[Arrival], readers: int, pick: Pick, *, interrupts: bool = False) -> None:
        self._arrivals, self._pick, self._interrupts = arrivals, pick, interrupts
        self._world = simpy.Environment()
        self._waiting: list[Arrival] = []
        self._idle: list[simpy.Event] = []
        self._reading: dict[simpy.Process, Arrival] = {}
        self._done: list[Read] = []
        for _ in range(readers):
            self._world.process(self._read())
        self._world.process(self._arrive())

    def run(self) -> list[Read]:
        """Every study, in the order in which the readings ended."""
        self._world.run()
        return self._done

    def _arrive(self) -> Steps:
        for arrival in self._arrivals:
            arrival.left_s = arrival.reading_s
            yield self._world.timeout(arrival.at_s - self._world.now)
            self._waiting.append(arrival)
            for at, priority in arrival.steps:
                if priority.level is not Level.ROUTINE and at > arrival.at_s:
                    self._world.process(self._flag(arrival, at))
            self._call(arrival)

    def _flag(self, arrival: Arrival, at: float) -> Steps:
        yield self._world.timeout(at - self._world.now)
        if arrival in self._waiting:
            self._call(arrival)

    def _call(self, arrival: Arrival) -> None:
        """Somebody who is idle looks at the list; where interruptions are allowed, the reader of the least urgent study does."""
        if self._idle:
            self._idle.pop().succeed()
        elif self._interrupts and self._reading:
            now = self._world.now
            reader, study = max(self._reading.items(), key=lambda r: (RANK[known(r[1], now).level], r[1].at_s))
            if RANK[known(study, now).level] > RANK[known(arrival, now).level]:
                del self._reading[reader]  # one interruption each
                reader.interrupt()

    def _read(self) -> Steps:
        me = None
        while True:
            while not self._waiting:
                call = self._world.event()
                self._idle.append(call)
                yield call
            me = me or self._world.active_process
            study = self._pick(self._waiting, self._world.now, self._done)
            self._waiting.remove(study)
            assert me is not None
            self._reading[me] = study
            began = self._world.now
            try:
                yield self._world.timeout(study.left_s)
            except simpy.Interrupt:
                study.left_s -= self._world.now - began
                self._waiting.append(study)
                continue
            del self._reading[me]
            self._done.append(Read(arrival=study, wait_s=self._world.now - study.waits_from_s - study.reading_s))
