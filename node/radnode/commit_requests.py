"""Storage commitment that others ask of the node, answered from the disk: PS3.4 annex J, PS3.3 section C.14.

A request is kept before it is answered, and a commitment before it is said: no retention rule lets go what was promised.
"""

import mmap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from pydicom.dataset import Dataset
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from radnode.database import Database
from radnode.errors import RefusedError
from radnode.jobs import changed, lock_study
from radnode.peers.table import Peer, list_peers
from radnode.store_check import is_uid
from radnode.tables import InstanceRow
from radnode.tables_pacs import CommitRequestRow, PromiseRow
from radnode_inference.header import walk

PROCESSING_FAILURE, NO_SUCH_OBJECT, CLASS_INSTANCE_CONFLICT = 0x0110, 0x0112, 0x0119
"""Failure reasons. PS3.3 section C.14.1.1."""
CHUNK = 500
SAME_ASSOCIATION_S = 60.0
"""How long a caller that can be called nowhere may take to answer on its own association."""
OWED, ANSWERED, DEAD = "owed", "answered", "dead"


@dataclass(frozen=True, kw_only=True)
class Request:
    """named: SOP Instance UID -> SOP Class UID."""

    transaction_uid: str
    calling_ae: str
    called_ae: str
    address: str
    named: Mapping[str, str]
    attempt: int = 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """committed: SOP Instance UID -> SOP Class UID. failed: the same with the reason (PS3.3 C.14.1.1)."""

    transaction_uid: str
    committed: Mapping[str, str]
    failed: Mapping[str, tuple[str, int]]


def read(dataset: Dataset, calling_ae: str, called_ae: str, address: str) -> Request:
    """The action information of an N-ACTION. Raises RefusedError when it names nothing or no transaction."""
    transaction_uid = str(dataset.get("TransactionUID", ""))
    items = dataset.get("ReferencedSOPSequence") or ()
    named = {str(i.ReferencedSOPInstanceUID): str(i.ReferencedSOPClassUID) for i in items}
    if not is_uid(transaction_uid) or not named:
        raise RefusedError("A storage commitment needs a transaction and objects.")
    return Request(
        transaction_uid=transaction_uid, calling_ae=calling_ae, called_ae=called_ae, address=address, named=named
    )


def take(database: Database, asked: Request, now: float) -> bool:
    """Keep a request; whether the answer can go to where the caller listens. The same transaction again is answered again."""
    reachable = where(list_peers(database), asked) is not None
    row = CommitRequestRow(
        transaction_uid=asked.transaction_uid,
        calling_ae=asked.calling_ae[:64],
        called_ae=asked.called_ae[:64],
        address=asked.address[:64],
        asked_at=now,
        named=[[sop_class, uid] for uid, sop_class in asked.named.items()],
        state=OWED,
        attempt=0,
        due_at=now if reachable else now + SAME_ASSOCIATION_S,
        committed=None,
        reason="",
    )
    with database.transaction() as session:
        session.merge(row)
    return reachable


def where(peers: tuple[Peer, ...], asked: Request) -> Peer | None:
    """The peer as which the caller listens, with its address; None when no peer of its AE title says."""
    fitting = [p for p in peers if p.ae_title and p.matches(asked.calling_ae, asked.address) and p.port is not None]
    best = max(fitting, key=lambda p: bool(p.called_at), default=None)
    return None if best is None else replace(best, host=best.called_at or asked.address)


def judge(database: Database, data: Path, asked: Request, now: float) -> Report:
    """What is on the disk, whole, with the bytes that came: it is promised from now on. Reads every file that was named."""
    with database.reading() as session:
        held = there(session, asked)
    committed, failed = {}, {}
    for uid, sop_class in asked.named.items():
        reason = fault(held.get(uid), sop_class, data)
        if reason:
            failed[uid] = (sop_class, reason)
        else:
            committed[uid] = sop_class
    for uid in promise(database, asked, {held[uid].study_uid for uid in committed}, now):
        if uid in committed:
            failed[uid] = (committed.pop(uid), NO_SUCH_OBJECT)
    return Report(transaction_uid=asked.transaction_uid, committed=committed, failed=failed)


def there(session: Session, asked: Request) -> dict[str, InstanceRow]:
    """The rows of what was named and not let go, by SOP Instance UID; of one in several studies the newest."""
    held: dict[str, InstanceRow] = {}
    uids = list(asked.named)
    for start in range(0, len(uids), CHUNK):
        query = select(InstanceRow).where(
            InstanceRow.sop_uid.in_(uids[start : start + CHUNK]),
            InstanceRow.current.is_(True),
            InstanceRow.gone_at.is_(None),
        )
        held |= {row.sop_uid: row for row in session.scalars(query.order_by(InstanceRow.id))}
    return held


def promise(database: Database, asked: Request, studies: Collection[str], now: float) -> Collection[str]:
    """From now on no rule lets these studies' images go; which of the objects named went while their files were read."""
    with database.transaction() as session:
        for study_uid in sorted(studies):  # in one order, so that two that promise never wait for each other
            lock_study(session, study_uid)
            session.merge(PromiseRow(study_uid=study_uid, calling_ae=asked.calling_ae[:64], at=now))
            session.flush()
        return asked.named.keys() - there(session, asked).keys()


def fault(row: InstanceRow | None, sop_class: str, data: Path) -> int:
    """Why an object is not vouched for; 0 when it is."""
    if row is None:
        return NO_SUCH_OBJECT
    if row.sop_class_uid != sop_class:
        return CLASS_INSTANCE_CONFLICT
    file = data / row.file
    try:
        whole = file.stat().st_size == row.size and digest(file) == row.sha256
    except FileNotFoundError:
        return NO_SUCH_OBJECT
    except (OSError, ValueError):
        return PROCESSING_FAILURE
    return 0 if whole else PROCESSING_FAILURE


def digest(file: Path) -> str:
    """SHA-256 of the data set in a stored file, as the index has it."""
    with file.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _, start, _, _ = walk(data, 132, big=False, implicit=False, stop_after_group=2)
        with memoryview(data) as view, view[start:] as dataset:
            return sha256(dataset).hexdigest()


def due(database: Database, now: float, busy: Collection[str] = ()) -> tuple[Request, ...]:
    """The requests whose answer is owed now, but for those of callers (AE titles) who are being answered."""
    with database.reading() as session:
        others = CommitRequestRow.calling_ae.not_in(busy)
        query = select(CommitRequestRow).where(CommitRequestRow.state == OWED, CommitRequestRow.due_at <= now, others)
        return tuple(
            Request(
                transaction_uid=r.transaction_uid,
                calling_ae=r.calling_ae,
                called_ae=r.called_ae,
                address=r.address,
                named={uid: sop_class for sop_class, uid in r.named},
                attempt=r.attempt,
            )
            for r in session.scalars(query.order_by(CommitRequestRow.due_at).limit(20))
        )


def answered(database: Database, transaction_uid: str, committed: int, now: float) -> bool:
    """The caller has its answer."""
    return settle(database, transaction_uid, state=ANSWERED, committed=committed, due_at=now, reason="")


def postpone(database: Database, asked: Request, reason: str, due_at: float) -> bool:
    return settle(database, asked.transaction_uid, attempt=asked.attempt + 1, reason=reason, due_at=due_at)


def give_up(database: Database, asked: Request, reason: str) -> bool:
    return settle(database, asked.transaction_uid, state=DEAD, reason=reason)


def settle(database: Database, transaction_uid: str, **values: object) -> bool:
    """Compare-and-set: only what is still owed changes."""
    with database.transaction() as session:
        of_it = (CommitRequestRow.transaction_uid == transaction_uid, CommitRequestRow.state == OWED)
        return changed(session.execute(update(CommitRequestRow).where(*of_it).values(**values))) == 1
