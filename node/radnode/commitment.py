"""Whether destinations keep what they took: which results wait for a word about it, and what was said. PS3.4 annex J."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from radnode import events
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.events import Action
from radnode.faults import Point, crash_point
from radnode.settings import Deliver
from radnode.states import CommitmentState, DeliveryState
from radnode.store_check import is_uid
from radnode.tables import DeliveryRow, ResultRow
from radnode.tables_pacs import CommitmentRow

SETTLE_S = 0.3
"""After a delivery, so that the objects of one study are asked about together."""
MOST = 500
"""Objects in one request."""
N_ACTION, C_FIND = "storage commitment", "C-FIND"
CLOSED = "superseded or retracted before it was proven"
OPEN = (CommitmentState.WAITING, CommitmentState.ASKED)
REASONS: Mapping[int, str] = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class and instance conflict",
    0x0122: "SOP class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}
"""PS3.3 section C.14.1.1."""


@dataclass(frozen=True, kw_only=True)
class Unproven:
    """A result that a destination took and has not vouched for. attempt: how often it was asked in vain."""

    delivery_id: int
    study_uid: str
    series_uid: str
    uid: str
    sop_class_uid: str
    attempt: int


def expect(session: Session, delivery_id: int, destination: str, now: float) -> None:
    """A PACS took a result: it will be asked whether it keeps it. In the caller's transaction."""
    row = session.get(CommitmentRow, delivery_id) or CommitmentRow(delivery_id=delivery_id, destination=destination)
    row.state, row.due_at, row.transaction_uid = CommitmentState.WAITING, now + SETTLE_S, ""
    row.asked_at = row.committed_at = None
    row.attempt, row.way, row.reason = row.attempt or 0, "", ""
    session.add(row)


def close(session: Session, result_uids: Collection[str]) -> None:
    """These results stand no more: whether they are kept is not asked, and no answer sends them again."""
    of_them = select(DeliveryRow.id).where(DeliveryRow.result_uid.in_(result_uids))
    open_ = (CommitmentRow.delivery_id.in_(of_them), CommitmentRow.state.in_(OPEN))
    session.execute(update(CommitmentRow).where(*open_).values(state=CommitmentState.CLOSED, reason=CLOSED))


def due(database: Database, destination: str, now: float) -> tuple[Unproven, ...]:
    """What this destination is to be asked about now, the longest waiting first."""
    query = (
        select(CommitmentRow, DeliveryRow, ResultRow)
        .join(DeliveryRow, DeliveryRow.id == CommitmentRow.delivery_id)
        .join(ResultRow, ResultRow.uid == DeliveryRow.result_uid)
        .where(
            CommitmentRow.destination == destination,
            CommitmentRow.state == CommitmentState.WAITING,
            CommitmentRow.due_at <= now,
            DeliveryRow.state == DeliveryState.DELIVERED,
            ResultRow.current,
        )
        .order_by(CommitmentRow.due_at, CommitmentRow.delivery_id)
        .limit(MOST)
    )
    with database.reading() as session:
        return tuple(
            Unproven(
                delivery_id=d.id,
                study_uid=d.study_uid,
                series_uid=r.series_uid,
                uid=r.uid,
                sop_class_uid=r.sop_class_uid,
                attempt=c.attempt,
            )
            for c, d, r in session.execute(query)
        )


def expire(database: Database, destination: str, now: float) -> int:
    """Answers that did not come in time: they are asked for anew; how many."""
    with database.transaction() as session:
        late = (
            CommitmentRow.destination == destination,
            CommitmentRow.state == CommitmentState.ASKED,
            CommitmentRow.due_at <= now,
        )
        values = {
            "state": CommitmentState.WAITING,
            "attempt": CommitmentRow.attempt + 1,
            "due_at": now,
            "reason": "the answer to the storage commitment did not come",
        }
        change = update(CommitmentRow).where(*late).values(values).returning(CommitmentRow.delivery_id)
        return len(session.scalars(change).all())


def asked(database: Database, items: Sequence[Unproven], transaction_uid: str, now: float, until: float) -> None:
    """Written before the request leaves: the answer may be quicker than its acknowledgement."""
    values = {"state": CommitmentState.ASKED, "transaction_uid": transaction_uid, "asked_at": now, "due_at": until}
    change(database, items, **values, way=N_ACTION)


def later(database: Database, items: Sequence[Unproven], reason: str, due_at: float) -> None:
    """It could not be asked: again at `due_at`."""
    values = {"state": CommitmentState.WAITING, "due_at": due_at, "reason": reason}
    change(database, items, **values, attempt=CommitmentRow.attempt + 1)


def unknowable(database: Database, items: Sequence[Unproven], reason: str) -> None:
    """The destination can be asked in no way: its C-STORE answer is all there is."""
    change(database, items, state=CommitmentState.UNKNOWABLE, reason=reason)


def change(database: Database, items: Sequence[Unproven], **values: Any) -> None:
    with database.transaction() as session:
        open_ = CommitmentRow.state.in_(OPEN)
        ids = [i.delivery_id for i in items]
        session.execute(update(CommitmentRow).where(CommitmentRow.delivery_id.in_(ids), open_).values(**values))


def is_open(database: Database, transaction_uid: str) -> bool:
    """Whether an answer to this transaction is still awaited."""
    with database.reading() as session:
        of_it = (
            CommitmentRow.transaction_uid == transaction_uid,
            CommitmentRow.state == CommitmentState.ASKED,
        )
        return session.scalar(select(CommitmentRow.delivery_id).where(*of_it).limit(1)) is not None


def heard(database: Database, policy: Deliver, information: Dataset, now: float) -> int:
    """The event information of an N-EVENT-REPORT; how many results it was about. PS3.4 table J.3-4.

    One that comes late is as good; a transaction that nobody awaits any more changes nothing. Raises RefusedError when it
    names none: what was never asked about has none either, and is not what it speaks of.
    """
    transaction_uid = str(information.get("TransactionUID") or "")
    if not is_uid(transaction_uid):
        raise RefusedError("The report names no transaction.")
    good = {str(i.ReferencedSOPInstanceUID) for i in information.get("ReferencedSOPSequence") or ()}
    bad = {
        str(i.ReferencedSOPInstanceUID): reason_of(i.get("FailureReason"))
        for i in information.get("FailedSOPSequence") or ()
    }
    with database.transaction() as session:
        of_it = (CommitmentRow.transaction_uid == transaction_uid, CommitmentRow.state.in_(OPEN))
        rows = session.scalars(select(CommitmentRow).where(*of_it)).all()
        conclude(session, rows, good - set(bad), bad, N_ACTION, policy, now)
        crash_point(Point.COMMITMENT_ANSWERED)
        return len(rows)


def reason_of(number: Any) -> str:
    return "no reason given" if number is None else REASONS.get(int(number), f"reason 0x{int(number):04X}")


def found(database: Database, policy: Deliver, items: Sequence[Unproven], there: Collection[str], now: float) -> None:
    """The answer of a C-FIND: which of these objects the destination lists."""
    with database.transaction() as session:
        ids = [i.delivery_id for i in items]
        of_it = (CommitmentRow.delivery_id.in_(ids), CommitmentRow.state.in_(OPEN))
        rows = session.scalars(select(CommitmentRow).where(*of_it)).all()
        missing = {i.uid: "its C-FIND does not list it" for i in items if i.uid not in there}
        conclude(session, rows, set(there), missing, C_FIND, policy, now)


def conclude(
    session: Session,
    rows: Sequence[CommitmentRow],
    good: Collection[str],
    bad: Mapping[str, str],
    way: str,
    policy: Deliver,
    now: float,
) -> None:
    """Committed, or sent again; one that the answer does not name is asked about again."""
    told: dict[str, int] = {}
    for row in rows:
        delivery = session.get_one(DeliveryRow, row.delivery_id)
        row.way = way
        if delivery.result_uid in good:
            row.state, row.committed_at, row.reason = CommitmentState.COMMITTED, now, ""
            told[delivery.study_uid] = told.get(delivery.study_uid, 0) + 1
        elif delivery.result_uid in bad:
            refuse(session, row, delivery, bad[delivery.result_uid], policy, now)
        else:
            row.state, row.attempt, row.due_at = CommitmentState.WAITING, row.attempt + 1, now + policy.retry_s
            row.reason = "the answer did not name it"
    destination = rows[0].destination if rows else ""
    for study_uid, many in told.items():
        sentence = f"{destination} keeps {many} of the results that it took ({way})."
        events.write(session, study_uid, Action.COMMITTED, sentence, now)


def refuse(
    session: Session, row: CommitmentRow, delivery: DeliveryRow, reason: str, policy: Deliver, now: float
) -> None:
    """The destination does not keep what it took: it is sent again, ever more slowly, and given up after days.

    What was superseded meanwhile is not: it could become the newest there. Its row is locked against that happening now.
    """
    if not session.get_one(ResultRow, delivery.result_uid, with_for_update=True).current:
        row.state, row.reason = CommitmentState.CLOSED, CLOSED
        return
    row.state, row.reason, row.attempt = CommitmentState.REFUSED, reason, row.attempt + 1
    if delivery.state != DeliveryState.DELIVERED:
        return
    wait = min(policy.retry_max_s, policy.retry_s * 2.0 ** min(row.attempt - 1, 60))
    hopeless = now - delivery.created_at >= policy.give_up_after_days * 86400
    delivery.state = DeliveryState.DEAD if hopeless else DeliveryState.OWED
    delivery.error = f"taken, but not kept: {reason}"
    delivery.due_at, delivery.claimed_by, delivery.claimed_until = now + wait, "", 0.0
    sentence = f"{row.destination} does not keep a result that it took ({reason})"
    sentence += "; it was given up: see its delivery." if hopeless else "; it is sent again."
    events.write(session, delivery.study_uid, Action.NOT_COMMITTED, sentence, now)
