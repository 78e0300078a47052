"""The outbox: which results are owed to whom. Claims are compare-and-set with a lease, on SQLite and PostgreSQL alike."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Row, and_, func, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from radnode import audit, capabilities, commitment
from radnode.audit import Act, Kind
from radnode.claims import is_alive, new_token, own_machine
from radnode.database import Database
from radnode.destinations import PRIORITY, REJECTION, RETRACTION
from radnode.errors import NotTakenError
from radnode.settings import Destination
from radnode.states import CommitmentState, DeliveryState
from radnode.tables import DeliveryRow, EventRow, ResultRow
from radnode.tables_pacs import CommitmentRow

ORDER: Mapping[str, int] = {
    **dict.fromkeys((REJECTION, RETRACTION), 0),
    **dict.fromkeys(("seg", "parametric-map", "rtstruct"), 1),
    "key-image": 2,
    **dict.fromkeys(("sr", "kos", "pdf", "status"), 3),
    "fhir": 4,
    PRIORITY: 5,
}
"""What takes back goes before what takes its place; an object is sent after those it refers to."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One result owed to one destination. `attempt` counts those that failed; `owed_since` is epoch seconds."""

    id: int
    study_uid: str
    destination: str
    attempt: int
    owed_since: float
    kind: str
    uid: str
    sop_class_uid: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one worker claimed: everything due for one study at one destination, in the order to send it."""

    token: str
    study_uid: str
    destination: str
    deliveries: tuple[Delivery, ...]


class Outbox:
    """The only writer of delivery states, but for `results`, which owes and withdraws, `withdrawals` and `resend`."""

    def __init__(self, database: Database, data: Path) -> None:
        self.database = database
        self.data = data

    def due(self, now: float) -> frozenset[str]:
        """The destinations for which something can be claimed."""
        with self.database.reading() as session:
            return frozenset(session.scalars(select(DeliveryRow.destination).where(claimable(now)).distinct()))

    def claim(self, destination: str, now: float, lease_s: float) -> Batch | None:
        """Everything owed of the longest-waiting study at `destination` of which something is due; None when there is
        nothing, or others were first.

        Also what waits for another try: what takes a result back must not be overtaken by what takes its place.
        """
        with self.database.reading() as session:
            busy = select(DeliveryRow.study_uid).where(
                DeliveryRow.destination == destination, DeliveryRow.claimed_until > now
            )  # also by a sender whose results were withdrawn meanwhile: what takes them back must come after them
            query = select(DeliveryRow.study_uid).where(
                DeliveryRow.destination == destination, claimable(now), DeliveryRow.study_uid.not_in(busy)
            )
            study_uid = session.scalars(query.order_by(DeliveryRow.due_at, DeliveryRow.id).limit(1)).first()
        if study_uid is None:
            return None
        token = new_token()
        with self.database.transaction() as session:
            session.execute(
                update(DeliveryRow)
                .where(
                    DeliveryRow.destination == destination,
                    DeliveryRow.study_uid == study_uid,
                    DeliveryRow.study_uid.not_in(busy),  # another was quicker, and more of the study is owed since
                    free(now),
                )
                .values(claimed_by=token, claimed_until=now + lease_s, reached=True)
            )
            rows = session.execute(
                select(DeliveryRow, ResultRow)
                .join(ResultRow, ResultRow.uid == DeliveryRow.result_uid)
                .where(DeliveryRow.claimed_by == token)
            ).all()
            deliveries = sorted((self._delivery(row) for row in rows), key=lambda d: (ORDER[d.kind], d.id))
        if not deliveries:
            return None
        return Batch(token=token, study_uid=study_uid, destination=destination, deliveries=tuple(deliveries))

    def _delivery(self, row: Row[DeliveryRow, ResultRow]) -> Delivery:
        owed, result = row
        return Delivery(
            id=owed.id,
            study_uid=owed.study_uid,
            destination=owed.destination,
            attempt=owed.attempt,
            owed_since=owed.created_at,
            kind=result.kind,
            uid=result.uid,
            sop_class_uid=result.sop_class_uid,
            path=self.data / result.file,
        )

    def renew(self, tokens: Collection[str], until: float) -> None:
        """Their workers are alive: nobody else may claim these before `until`."""
        if tokens:
            with self.database.transaction() as session:
                session.execute(
                    update(DeliveryRow).where(DeliveryRow.claimed_by.in_(tokens)).values(claimed_until=until)
                )

    def delivered(self, token: str, delivery: Delivery, note: str, now: float, *, commits: bool = False) -> None:
        """The destination has it. When it was withdrawn or claimed anew meanwhile, that stands: resending is harmless.

        commits: it is to be asked whether it keeps it.
        """
        with self.database.transaction() as session:
            if settle(session, token, delivery, state=DeliveryState.DELIVERED, delivered_at=now, error=note):
                sent = f"The {delivery.kind} {delivery.uid} is at {delivery.destination}."
                act = Act(kind=Kind.SENT, action="result sent", study_uid=delivery.study_uid, detail=sent)
                audit.note(session, act)
                if commits:
                    commitment.expect(session, delivery.id, delivery.destination, now)

    def give_back(self, token: str) -> None:
        """What was claimed and not tried is anybody's again."""
        with self.database.transaction() as session:
            change = update(DeliveryRow).where(DeliveryRow.claimed_by == token)
            session.execute(change.values(claimed_by="", claimed_until=0.0))

    def postpone(self, token: str, deliveries: Sequence[Delivery], error: str, due_at: float) -> None:
        """Tried and failed: again at `due_at`."""
        with self.database.transaction() as session:
            for delivery in deliveries:
                settle(session, token, delivery, attempt=delivery.attempt + 1, due_at=due_at, error=error)

    def hasten(self, destination: str, now: float) -> None:
        """It answers again: what waits for another try there is due now."""
        waiting = (DeliveryRow.destination == destination, DeliveryRow.state == DeliveryState.OWED)
        with self.database.transaction() as session:
            session.execute(update(DeliveryRow).where(*waiting, DeliveryRow.due_at > now).values(due_at=now))

    def give_up(self, token: str, deliveries: Sequence[Delivery], error: str, now: float) -> None:
        """No more attempts until a person says so; the study's story tells it."""
        with self.database.transaction() as session:
            for delivery in deliveries:
                values = {"state": DeliveryState.DEAD, "attempt": delivery.attempt + 1, "error": error}
                if settle(session, token, delivery, **values):
                    sentence = f"The {delivery.kind} for {delivery.destination} was given up: see its delivery."
                    tell(session, delivery.study_uid, now, sentence)

    def not_taken(self, token: str, delivery: Delivery, address: Destination, error: NotTakenError, now: float) -> None:
        """The destination takes no such object: no failure, but no silence either; later results leave it out."""
        with self.database.transaction() as session:
            capabilities.refused(session, address, error.sop_class_uid, now)
            sentence = f"it does not take {error}"
            if settle(session, token, delivery, state=DeliveryState.NOT_TAKEN, error=sentence):
                told = f"The {delivery.kind} is not sent to {delivery.destination}: {sentence}."
                tell(session, delivery.study_uid, now, told)

    def tell(self, study_uid: str, now: float, sentence: str) -> None:
        """One more sentence in the study's story."""
        with self.database.transaction() as session:
            tell(session, study_uid, now, sentence)

    def release_lost(self) -> int:
        """Free what processes of this machine claimed that are no more (or had this process's id before it)."""
        with self.database.transaction() as session:
            query = select(DeliveryRow.claimed_by).where(
                DeliveryRow.state == DeliveryState.OWED,
                DeliveryRow.claimed_by.startswith(own_machine(), autoescape=True),
            )
            lost = [token for token in session.scalars(query.distinct()) if not is_alive(token)]
            change = update(DeliveryRow).where(DeliveryRow.claimed_by.in_(lost))
            return changed(session.execute(change.values(claimed_by="", claimed_until=0.0)))


def claimable(now: float) -> ColumnElement[bool]:
    return and_(free(now), DeliveryRow.due_at <= now)


def free(now: float) -> ColumnElement[bool]:
    """Owed, and in nobody's hand."""
    return and_(DeliveryRow.state == DeliveryState.OWED, DeliveryRow.claimed_until <= now)


def settle(session: Session, token: str, delivery: Delivery, **values: object) -> bool:
    """Compare-and-set: only the holder of the claim changes the row. Returns whether it did; it has it in hand no longer."""
    change = update(DeliveryRow).where(DeliveryRow.id == delivery.id, DeliveryRow.claimed_by == token)
    let_go = {"claimed_by": "", "claimed_until": 0.0}
    if changed(session.execute(change.where(DeliveryRow.state == DeliveryState.OWED).values(**let_go, **values))) == 1:
        return True
    session.execute(change.values(**let_go))  # withdrawn meanwhile: what comes after it waits for it no more
    return False


def changed(result: object) -> int:
    """How many rows an UPDATE changed."""
    assert isinstance(result, CursorResult)
    return int(result.rowcount)


def tell(session: Session, study_uid: str, now: float, sentence: str) -> None:
    session.add(EventRow(study_uid=study_uid, at=now, action="deliver", sentence=sentence))
    audit.concerns(session, study_uid)


@dataclass(frozen=True, kw_only=True)
class Count:
    """How many current results are owed to a destination, taken and kept by it, taken and not proven, given up."""

    owed: int = 0
    kept: int = 0
    unproven: int = 0
    dead: int = 0


def counts(session: Session) -> dict[str, Count]:
    """Of every destination that anything was ever owed to."""
    query = (
        select(DeliveryRow.destination, DeliveryRow.state, CommitmentRow.state, func.count())
        .join(ResultRow, ResultRow.uid == DeliveryRow.result_uid)
        .outerjoin(CommitmentRow, CommitmentRow.delivery_id == DeliveryRow.id)
        .where(ResultRow.current)
        .group_by(DeliveryRow.destination, DeliveryRow.state, CommitmentRow.state)
    )
    found: dict[str, dict[str, int]] = {}
    for destination, state, proof, many in session.execute(query):
        of_it = found.setdefault(destination, {"owed": 0, "kept": 0, "unproven": 0, "dead": 0})
        if state in (DeliveryState.OWED, DeliveryState.DEAD):
            of_it[state] += many
        elif state == DeliveryState.DELIVERED:
            of_it["kept" if proof == CommitmentState.COMMITTED else "unproven"] += many
    return {destination: Count(**of_it) for destination, of_it in found.items()}


@dataclass(frozen=True, kw_only=True)
class Dead:
    """A delivery that was given up, and why."""

    id: int
    study_uid: str
    destination: str
    kind: str
    error: str


def dead(database: Database, destination: str = "") -> tuple[Dead, ...]:
    """What was given up of the current results, the oldest first; at one destination, or at all."""
    query = (
        select(DeliveryRow, ResultRow.kind)
        .join(ResultRow, ResultRow.uid == DeliveryRow.result_uid)
        .where(DeliveryRow.state == DeliveryState.DEAD, ResultRow.current)
        .order_by(DeliveryRow.id)
    )
    if destination:
        query = query.where(DeliveryRow.destination == destination)
    with database.reading() as session:
        return tuple(
            Dead(id=d.id, study_uid=d.study_uid, destination=d.destination, kind=kind, error=d.error)
            for d, kind in session.execute(query)
        )
