"""Priorities that people set on studies. They are kept, only raise, and are taken back by a person alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from radnode import events
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.events import Action
from radnode.tables import StudyRow
from radnode.tables_triage import PriorityRow
from radnode.triage import RANK, Level

MAX_COMMENT = 500


@dataclass(frozen=True, kw_only=True)
class SetPriority:
    """What a person set; level None: took back. at: UTC epoch seconds."""

    level: Level | None
    comment: str
    who: str
    at: float


def standing(session: Session, study_uids: Sequence[str]) -> Mapping[str, SetPriority]:
    """Study UID -> the priority that a person set and nobody took back."""
    newest = (
        select(func.max(PriorityRow.id)).where(PriorityRow.study_uid.in_(study_uids)).group_by(PriorityRow.study_uid)
    )
    rows = session.scalars(select(PriorityRow).where(PriorityRow.id.in_(newest.scalar_subquery())))
    return {row.study_uid: from_row(row) for row in rows if row.level}


def history(session: Session, study_uid: str) -> tuple[SetPriority, ...]:
    """Everything that people decided of this study's priority, in order."""
    rows = session.scalars(select(PriorityRow).where(PriorityRow.study_uid == study_uid).order_by(PriorityRow.id))
    return tuple(from_row(row) for row in rows)


def from_row(row: PriorityRow) -> SetPriority:
    return SetPriority(level=Level(row.level) if row.level else None, comment=row.comment, who=row.who, at=row.at)


def set_level(
    database: Database, study_uid: str, level: Level, comment: str, now: float, *, stands: Level, who: str = ""
) -> None:
    """A person raises a study, or fixes it where it stands. stands: its level without what people set before.

    Raises RefusedError for a study that is not here, and for a level below `stands`, which a person cannot lower.
    """
    if RANK[level] > RANK[stands]:
        raise RefusedError(f"the study stands at {stands} already, and a person's priority only raises")
    said = f" ({comment.strip()[:MAX_COMMENT]})" if comment.strip() else ""
    write(database, study_uid, level, comment, now, who, f"{who or 'A person'} set the priority to {level}{said}.")


def undo(database: Database, study_uid: str, now: float, *, comment: str = "", who: str = "") -> None:
    """The study stands where it would without a person. Raises RefusedError when no person set its priority."""
    with database.reading() as session:
        before = standing(session, [study_uid]).get(study_uid)
    if before is None:
        raise RefusedError("nobody set the priority of this study")
    write(database, study_uid, None, comment, now, who, f"{who or 'A person'} took back the priority {before.level}.")


def write(
    database: Database, study_uid: str, level: Level | None, comment: str, now: float, who: str, sentence: str
) -> None:
    with database.transaction() as session:
        if session.get(StudyRow, study_uid) is None:
            raise RefusedError(f"this node never received a study {study_uid}")
        comment = comment.strip()[:MAX_COMMENT]
        session.add(PriorityRow(study_uid=study_uid, level=level or "", comment=comment, who=who, at=now))
        events.write(session, study_uid, Action.PRIORITY, sentence, now)
