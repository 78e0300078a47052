"""The node's own past traffic, as arrivals at a reading room. Reads only."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select

from radnode import orders, readings, triage
from radnode.database import Database
from radnode.fetches import as_prior_only
from radnode.settings import ClassRule, TriageRule
from radnode.simulation import past
from radnode.simulation.past import Said
from radnode.simulation.room import Read
from radnode.simulation.traffic import Arrival, Description, reading_time
from radnode.tables import StudyRow
from radnode.triage import RANK, Context, Priority, Report
from radnode.worklist import summaries


@dataclass(frozen=True, kw_only=True)
class Came:
    """One study as it came; times in epoch seconds. first_at: its first image, from which on it waits. at: its last one.

    before: where a policy puts it without any report; steps: from each moment on at which what the AI said changed that.
    read_at: when it was marked as read; None where nobody did, or images came since.
    """

    first_at: float
    at: float
    read_at: float | None = None
    before: Priority
    steps: tuple[tuple[float, Priority], ...] = ()
    patient_class: str = ""

    def arrival(self, reading_s: float) -> Arrival:
        """Its class is the highest place that it ever had, from the moment on at which it first had it."""
        flagged_at, flag = min(((self.first_at, self.before), *self.steps), key=lambda s: rank(s[1]))
        return Arrival(
            at_s=self.at, since_s=self.first_at, reading_s=reading_s,
            before=self.before, steps=self.steps, flag=flag, flagged_at_s=flagged_at,
            patient_class=self.patient_class,
        )  # fmt: skip


def rank(priority: Priority) -> tuple[int, int]:
    return RANK[priority.level], priority.hierarchy


def recorded(
    database: Database, policy: Sequence[TriageRule], since: float, classes: Sequence[ClassRule] = ()
) -> list[Came]:
    """Every study that came since (UTC epoch seconds), where `policy` would have put it at each moment.

    What people set is left out. Orders and patient classes count as they are known now.
    """
    studies = select(StudyRow.study_uid).where(StudyRow.first_instance_at >= since, ~as_prior_only())
    with database.reading() as session:
        there = summaries(session, studies)
        said = past.told(session, studies)
        contexts = orders.contexts(session, there, classes)
        marked = readings.times(session)
    made = []
    for uid, study in there.items():
        context = replace(contexts[uid], set_level=None, comment="")
        before = triage.prioritise((), policy, context)
        made.append(
            Came(
                first_at=study.first_instance_at,
                at=study.last_instance_at,
                read_at=marked.get(uid),
                before=before,
                steps=steps(said[uid], policy, context),
                patient_class=context.patient_class,
            )
        )
    return sorted(made, key=lambda c: c.at)


def steps(said: Sequence[Said], policy: Sequence[TriageRule], context: Context) -> tuple[tuple[float, Priority], ...]:
    """The places of a study while its reports come, are amended and taken back."""
    standing: dict[str, Report] = {}
    made: list[tuple[float, Priority]] = []
    for one in said:
        standing.pop(one.report_id, None)
        if one.report is not None:
            standing[one.report_id] = one.report
        place = triage.prioritise(tuple(standing.values()), policy, context)
        if not made or place != made[-1][1]:
            made.append((one.at, place))
    return tuple(made)


def trials(came: Sequence[Came], room: Description, count: int, seed: int) -> list[list[Arrival]]:
    """The same studies once for each trial. Reading times are not recorded: they are drawn as `room` describes them.

    Who was diseased nobody knows.
    """
    made = []
    for trial in range(count):
        chance = random.Random(seed + trial)  # noqa: S311
        made.append([c.arrival(reading_time(room, chance)) for c in came])
    return made


def as_it_was(came: Sequence[Came], room: Description) -> list[Read]:
    """How long each study that was marked as read really waited: until then, less the mean reading time of `room`."""
    reading_s = room.reading_min * 60
    return [
        Read(
            arrival=c.arrival(reading_s),
            wait_s=max(0.0, c.read_at - c.first_at - reading_s),
        )
        for c in came
        if c.read_at is not None
    ]
