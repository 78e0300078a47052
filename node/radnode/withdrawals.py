"""What is owed to a peer that gets no results any more: counted before it is asked, then withdrawn, each with its sentence."""

from collections import Counter

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from radnode import commitment, events
from radnode.events import Action
from radnode.states import CommitmentState, DeliveryState
from radnode.tables import DeliveryRow
from radnode.tables_pacs import BreakerRow, CommitmentRow

UNDER_WAY = "; what was on its way at that moment may have arrived"


def owed(session: Session, destination: str) -> int:
    """How many results are owed to it."""
    of_it = (DeliveryRow.destination == destination, DeliveryRow.state == DeliveryState.OWED)
    return session.scalar(select(func.count(DeliveryRow.id)).where(*of_it)) or 0


def withdraw(session: Session, destination: str, why: str, now: float) -> int:
    """In the caller's transaction: nothing is owed to it any more, nor is it asked what it keeps. The rows stay, and each
    study's story says so; how many."""
    of_it = (DeliveryRow.destination == destination, DeliveryRow.state == DeliveryState.OWED)
    values = {"state": DeliveryState.WITHDRAWN, "error": why + UNDER_WAY}
    gone = session.scalars(update(DeliveryRow).where(*of_it).values(values).returning(DeliveryRow.study_uid)).all()
    for study_uid, many in sorted(Counter(gone).items()):
        what = "A result" if many == 1 else f"{many} results"
        sentence = f"{what} owed to {destination} {'is' if many == 1 else 'are'} withdrawn: {why}{UNDER_WAY}."
        events.write(session, study_uid, Action.WITHDRAWN, sentence, now)
    open_ = CommitmentRow.state.in_(commitment.OPEN)
    closed = {"state": CommitmentState.CLOSED, "reason": why}
    session.execute(update(CommitmentRow).where(CommitmentRow.destination == destination, open_).values(closed))
    session.execute(delete(BreakerRow).where(BreakerRow.destination == destination))
    return len(gone)
