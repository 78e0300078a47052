"""Whether the clock is to be believed where something would be deleted by its age.

A clock that is set while the node works is noticed by `clock`. One that is wrong when the machine starts (a dead battery, no
time server yet) is not, so the last time that was seen lies in the data folder: after a leap, forward by more than a day or
back by more than an hour, nothing counts as old for a day, whether the machine was off for so long or its clock is wrong.
Where nothing was seen yet, the newest image tells.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select

from radnode.database import Database
from radnode.durable import write_json
from radnode.settings import Settings
from radnode.tables import StudyRow

FORWARD_S, BACK_S, DOUBT_S = 86_400.0, 3600.0, 86_400.0


@dataclass(frozen=True, kw_only=True)
class Belief:
    """seen: the last time that was looked at. since, until: from where the last leap was, and how long it is doubted.

    UTC epoch seconds; 0.0: never.
    """

    seen: float = 0.0
    since: float = 0.0
    until: float = 0.0


def look(database: Database, settings: Settings, now: float) -> str:
    """Why nothing may be deleted by age now, in sentences; "" when it may. What was seen is kept."""
    file = settings.data / "run" / "clock.json"
    belief = going_on(read(file), newest_image(database), now)
    with suppress(OSError):  # a disk that is full has to be emptied all the same
        write_json(file, asdict(belief))
    if now >= belief.until:
        return ""
    leap = f"from {at(belief.since)} to {at(belief.until - DOUBT_S)}"
    return f"The clock went {leap}: is it right? Nothing is deleted by age until {at(belief.until)}."


def going_on(before: Belief, newest: float, now: float) -> Belief:
    """newest: when the newest image came, 0.0 without any."""
    leapt = now - before.seen > FORWARD_S or now < before.seen - BACK_S if before.seen else now < newest - BACK_S
    if leapt:
        return Belief(seen=now, since=before.seen or newest, until=now + DOUBT_S)
    return Belief(seen=now, since=before.since, until=before.until)


def newest_image(database: Database) -> float:
    with database.reading() as session:
        return session.scalar(select(func.max(StudyRow.last_instance_at))) or 0.0


def read(file: Path) -> Belief:
    with suppress(OSError, ValueError, TypeError):
        return Belief(**json.loads(file.read_text()))
    return Belief()


def at(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%MZ")
