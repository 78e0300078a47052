"""Callers for which no association was free while they were sending: what was refused may be the rest of a study.

`receive_child` writes, `evidence` asks. A study of such a caller is no whole one before the caller was let in again and had
its quiet time since, unless a system that has the study counts no more than is here.
"""

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session

from radnode.database import Database
from radnode.quiet import quiet_of
from radnode.settings import Settings
from radnode.states import StudyState
from radnode.tables import InstanceRow, StudyRow
from radnode.tables_pacs import TurnedAwayRow

SLACK_S = 60.0
"""A sender asks for all its associations at once: one may be refused so long before the first image came over another."""


def refused(database: Database, calling_ae: str, now: float, *, seated: bool) -> None:
    """There was no room for this caller. seated: another association of it is open. Raises SQLAlchemyError."""
    calling_ae = calling_ae[:64]
    with database.reading() as session:
        arriving = select(InstanceRow.id).where(~InstanceRow.settled, InstanceRow.calling_ae == calling_ae).limit(1)
        open_ = select(StudyRow.study_uid).where(*received_from(calling_ae)).limit(1)
        sends = seated or any(session.scalar(query) is not None for query in (arriving, open_))
    if sends:
        with database.transaction() as session:
            row = session.get(TurnedAwayRow, calling_ae) or TurnedAwayRow(calling_ae=calling_ae, back_at=0.0)
            row.at = now
            session.add(row)


def back(database: Database, settings: Settings, calling_ae: str, address: str, came_at: float) -> None:
    """This caller was let in: its studies have their whole quiet time from then on. Raises SQLAlchemyError.

    came_at: when it connected, which is not after a refusal of another association that it asked for at the same time.
    """
    calling_ae = calling_ae[:64]
    with database.reading() as session:
        row = session.get(TurnedAwayRow, calling_ae)
    if row is None or row.back_at >= row.at or came_at <= row.at:
        return
    with database.transaction() as session:
        session.get_one(TurnedAwayRow, calling_ae).back_at = came_at
        due_at = came_at + quiet_of(session, settings, calling_ae, address)
        for study in session.scalars(select(StudyRow).where(*received_from(calling_ae)).with_for_update()):
            study.due_at = max(study.due_at, due_at)


def lacking(session: Session, study: StudyRow) -> str:
    """Why the rest of a study may be what was refused; "" where nothing says so."""
    senders = select(InstanceRow.calling_ae).where(InstanceRow.study_uid == study.study_uid).distinct()
    query = select(TurnedAwayRow.calling_ae).where(
        TurnedAwayRow.calling_ae.in_(senders),
        TurnedAwayRow.at > TurnedAwayRow.back_at,
        TurnedAwayRow.at >= study.first_instance_at - SLACK_S,
    )
    away = session.scalars(query.order_by(TurnedAwayRow.calling_ae)).first()
    if away is None:
        return ""
    return f"{away}, which sends it, was refused because there were too many associations, and has not come back"


def received_from(calling_ae: str) -> tuple[ColumnElement[bool], ...]:
    """Conditions: a study of which this caller sent images, and that is still being received."""
    sent = exists().where(InstanceRow.study_uid == StudyRow.study_uid, InstanceRow.calling_ae == calling_ae)
    return StudyRow.state == StudyState.RECEIVING, sent
