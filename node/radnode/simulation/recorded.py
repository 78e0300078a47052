"""The node's own past traffic, as arrivals at a reading room. Reads only."""

import random
from collections.abc import Sequence

from sqlalchemy import select

from radnode import triage
from radnode.database import Database
from radnode.settings import TriageRule
from radnode.simulation.traffic import Arrival, Description, reading_time
from radnode.tables import ReportRow, StudyRow
from radnode.worklist import Reader


def recorded(
    database: Database, policy: Sequence[TriageRule], since: float, room: Description, seed: int
) -> list[Arrival]:
    """Every study that came since (UTC epoch seconds), flagged as `policy` would have flagged it when its report was there.

    Reading times are not recorded: they are drawn as `room` describes them. Who was diseased nobody knows.
    """
    chance = random.Random(seed)  # noqa: S311
    studies = select(StudyRow.study_uid).where(StudyRow.first_instance_at >= since)
    with database.reading() as session:
        came = session.execute(
            select(StudyRow.study_uid, StudyRow.last_instance_at)
            .where(StudyRow.first_instance_at >= since)
            .order_by(StudyRow.last_instance_at)
        ).all()
        issued: dict[str, float] = {}
        for study_uid, at in session.execute(select(ReportRow.study_uid, ReportRow.issued_at)):
            issued[study_uid] = max(at, issued.get(study_uid, 0.0))
        reports = Reader(database, policy).reports(session, studies)
    return [
        Arrival(
            at_s=at,
            reading_s=reading_time(room, chance),
            flag=triage.prioritise(reports[study_uid], policy),
            flagged_at_s=max(at, issued.get(study_uid, at)),
        )
        for study_uid, at in came
    ]
