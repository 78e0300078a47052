"""The node's own past traffic, as arrivals at a reading room. Reads only."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select

from radnode import orders, readings, triage
from radnode.database import Database
from radnode.settings import ClassRule, TriageRule
from radnode.simulation.room import Read
from radnode.simulation.traffic import Arrival, Description, reading_time
from radnode.tables import ReportRow, StudyRow
from radnode.triage import Priority
from radnode.worklist import Reader, summaries


@dataclass(frozen=True, kw_only=True)
class Came:
    """One study as it came. before, flag: where a policy puts it without and with what the AI said; times in epoch seconds.

    read_at: when it was marked as read; None where nobody did, or images came since.
    """

    at: float
    read_at: float | None = None
    flagged_at: float
    before: Priority
    flag: Priority


def recorded(
    database: Database, policy: Sequence[TriageRule], since: float, classes: Sequence[ClassRule] = ()
) -> list[Came]:
    """Every study that came since (UTC epoch seconds), where `policy` would have put it. What people set is left out."""
    studies = select(StudyRow.study_uid).where(StudyRow.first_instance_at >= since)
    with database.reading() as session:
        issued: dict[str, float] = {}
        for study_uid, at in session.execute(select(ReportRow.study_uid, ReportRow.issued_at)):
            issued[study_uid] = max(at, issued.get(study_uid, 0.0))
        there = summaries(session, studies)
        reports = Reader(database, policy).reports(session, studies)
        contexts = orders.contexts(session, there, classes)
        marked = readings.times(session)
    made = []
    for uid, study in there.items():
        context = replace(contexts[uid], set_level=None, comment="")
        at = study.last_instance_at
        made.append(
            Came(
                at=at,
                read_at=marked.get(uid),
                flagged_at=max(at, issued.get(uid, at)),
                before=triage.prioritise((), policy, context),
                flag=triage.prioritise(reports[uid], policy, context),
            )
        )
    return sorted(made, key=lambda c: c.at)


def trials(came: Sequence[Came], room: Description, count: int, seed: int) -> list[list[Arrival]]:
    """The same studies once for each trial. Reading times are not recorded: they are drawn as `room` describes them.

    Who was diseased nobody knows.
    """
    made = []
    for trial in range(count):
        chance = random.Random(seed + trial)  # noqa: S311
        made.append(
            [
                Arrival(
                    at_s=c.at, reading_s=reading_time(room, chance), flag=c.flag, flagged_at_s=c.flagged_at, before=c.before
                )
                for c in came
            ]
        )  # fmt: skip
    return made


def as_it_was(came: Sequence[Came], room: Description) -> list[Read]:
    """How long each study that was marked as read really waited: until then, less the mean reading time of `room`."""
    reading_s = room.reading_min * 60
    return [
        Read(
            arrival=Arrival(at_s=c.at, reading_s=reading_s, flag=c.flag, flagged_at_s=c.flagged_at, before=c.before),
            wait_s=max(0.0, c.read_at - c.at - reading_s),
        )
        for c in came
        if c.read_at is not None
    ]
