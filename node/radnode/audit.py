"""Who saw, changed and sent what: a chain of rows, each written in the transaction of what it tells of.

`note` puts a row into a transaction of `Database.transaction`; `ACT` says on whose behalf the thread is working, so that
every transaction made meanwhile gets its row by itself. Row n's hash is the SHA-256 of its fields and of row n-1's hash:
a row that is changed, taken out, put in or moved breaks the chain at its number. The end of the chain stands in a row of
its own, which also orders the writers. Whoever can rewrite the whole chain is caught by a hash that was written down
elsewhere: each exported message carries one.
"""

import getpass
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode.tables import StudyRow
from radnode.tables_access import AuditHeadRow, AuditRow

HASHED = (
    "number", "at", "who", "role", "address", "kind", "action", "outcome", "study_uid", "patient_id", "detail", "hash_before",
)  # fmt: skip
NODE = "radnode"
"""Who acts where no person and no other system does."""
PENDING, ABOUT, STUDY = "audit", "about", "study"
CHUNK = 1000


class Kind(StrEnum):
    """What happened, as PS3.15 section A.5.3 sorts it."""

    START = "start"
    STOP = "stop"
    LOG_IN = "log-in"
    LOG_OUT = "log-out"
    SECURITY = "security"  # accounts, tokens, peers, settings: who may do what
    TURNED_AWAY = "turned-away"  # a caller that is no peer, or not the one it says
    SEEN = "seen"
    LISTED = "listed"  # a list or a search with patients in it
    CHANGED = "changed"
    RECEIVED = "received"
    SENT = "sent"
    EXPORTED = "exported"
    AUDIT = "audit"  # the audit itself was read or exported


class Outcome(StrEnum):
    SUCCESS = "success"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Act:
    """On whose behalf something happens, and what it is: a request, a command, or the node's own work.

    patient_id: where no study of this node says whose data it is.
    """

    who: str = NODE
    role: str = ""
    address: str = ""
    kind: Kind = Kind.CHANGED
    action: str
    study_uid: str = ""
    patient_id: str = ""
    detail: str = ""
    outcome: Outcome = Outcome.SUCCESS


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row. at: UTC epoch seconds."""

    number: int
    at: float
    who: str
    role: str
    address: str
    kind: str
    action: str
    outcome: str
    study_uid: str
    patient_id: str
    detail: str
    hash_before: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """rows: how many were looked at. head: the last one's hash. problems: sentences, each naming a row."""

    rows: int
    head: str
    problems: tuple[str, ...]


ACT: ContextVar[Act | None] = ContextVar("act", default=None)
"""What the running request or command does; every transaction in it gets a row."""


@contextmanager
def acting(act: Act | None) -> Iterator[None]:
    """Every transaction of this context is told of as `act`; None: as the node's own work."""
    before = ACT.set(act)
    try:
        yield
    finally:
        ACT.reset(before)


def at_the_command_line() -> str:
    """Who types, as the operating system says."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"user {os.getuid()}"
    return f"{name} at the command line"


def note(session: Session, act: Act) -> None:
    """One row at the end of the caller's transaction (`Database.transaction`)."""
    session.info.setdefault(PENDING, []).append(act)


def about(session: Session, words: str) -> None:
    """What exactly changes in the caller's transaction: said in the row of the running act, else in a row of its own."""
    session.info.setdefault(ABOUT, []).append(words)


def concerns(session: Session, study_uid: str) -> None:
    """The caller's transaction is about this study: for the row of the running act, where that names none itself.

    Where it is about several, the row names none of them rather than one.
    """
    session.info.setdefault(STUDY, set()).add(study_uid)


def complete(session: Session, now: float | None = None) -> None:
    """Write the rows of a transaction that is about to commit: those noted, and that of the running act."""
    acts: list[Act] = session.info.pop(PENDING, [])
    running, words = ACT.get(), "; ".join(session.info.pop(ABOUT, []))
    studies: set[str] = session.info.pop(STUDY, set())
    study_uid = next(iter(studies)) if len(studies) == 1 else ""
    if running is not None:
        said = "; ".join(w for w in (running.detail, words) if w)
        acts.insert(0, replace(running, detail=said, study_uid=running.study_uid or study_uid))
    elif words:
        acts.insert(0, Act(kind=Kind.SECURITY, action=words))
    if not acts:
        return
    session.flush()
    head = session.get(AuditHeadRow, 1, with_for_update=True, populate_existing=True)
    if head is None:  # a schema that was not made by the migrations
        head = AuditHeadRow(id=1, number=0, hash="")
        session.add(head)
    for act in acts:
        row = row_of(session, act, head, time.time() if now is None else now)
        session.add(row)
        head.number, head.hash = row.number, row.hash


def row_of(session: Session, act: Act, head: AuditHeadRow, now: float) -> AuditRow:
    known = session.get(StudyRow, act.study_uid) if act.study_uid else None
    sender = known.calling_ae if known is not None and act.kind is Kind.RECEIVED else ""
    row = AuditRow(
        number=head.number + 1,
        at=now,
        who=(sender or act.who)[:128],
        role=act.role[:16],
        address=act.address[:64],
        kind=str(act.kind),
        action=act.action[:255],
        outcome=str(act.outcome),
        study_uid=act.study_uid[:64],
        patient_id=known.patient_id if known is not None else act.patient_id,
        detail=act.detail,
        hash_before=head.hash,
        hash="",
    )
    row.hash = hash_of(row)
    return row


def hash_of(row: AuditRow | Entry) -> str:
    """SHA-256 of the fields as one JSON array in UTF-8; `at` as the shortest decimal that reads back equal."""
    values = [getattr(row, name) for name in HASHED]
    return hashlib.sha256(json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def verify(session: Session, *, written_down: tuple[int, str] | None = None) -> Verdict:
    """Walk the whole chain, also while it grows. written_down: a row's number and hash as they were noted elsewhere.

    Rows are only ever added, with their end in the same transaction. So what was the end before the walk is met on it, and
    what is met on it is not behind the end afterwards.
    """
    problems: list[str] = []
    ended, before, last, rows = end_of(session), "", 0, 0
    for entry in walk(session):
        problems.extend(broken(entry, last, before))
        if written_down and entry.number == written_down[0] and entry.hash != written_down[1]:
            problems.append(f"Row {entry.number} has another hash than was written down: the chain was made anew.")
        if entry.number == ended[0] and entry.hash != ended[1]:
            problems.append(f"The recorded end of the chain is not row {entry.number}.")
        before, last, rows = entry.hash, entry.number, rows + 1
    if written_down and written_down[0] > last:
        problems.append(f"Row {written_down[0]}, which was written down, is missing.")
    if ended[0] > last:
        problems.append(f"The rows after {last} up to {ended[0]} are missing at the end.")
    elif end_of(session)[0] < last:
        problems.append(f"The recorded end of the chain is not row {last}.")
    return Verdict(rows=rows, head=before, problems=tuple(problems))


def end_of(session: Session) -> tuple[int, str]:
    """The number and the hash that are recorded as the chain's end; (0, "") without."""
    head = session.get(AuditHeadRow, 1, populate_existing=True)
    return (head.number, head.hash) if head is not None else (0, "")


def broken(entry: Entry, last: int, before: str) -> Iterator[str]:
    """What is wrong with a row that stands after row `last`, whose hash is `before`."""
    if entry.number != last + 1:
        missing = f"row {last + 1} is" if entry.number == last + 2 else f"rows {last + 1} to {entry.number - 1} are"
        yield f"Before row {entry.number} {missing} missing."
    elif entry.hash_before != before:
        yield f"Row {entry.number} does not follow row {last}: one of them was changed or put there."
    if hash_of(entry) != entry.hash:
        yield f"Row {entry.number} was changed: its hash is not that of its content."


def walk(session: Session, after: int = 0) -> Iterator[Entry]:
    """The rows behind number `after`, in order, read in pieces."""
    while True:
        query = select(AuditRow).where(AuditRow.number > after).order_by(AuditRow.number).limit(CHUNK)
        rows = session.scalars(query.execution_options(populate_existing=True)).all()
        yield from (view(row) for row in rows)
        if len(rows) < CHUNK:
            return
        after = rows[-1].number
        session.expunge_all()


def newest(
    session: Session, *, limit: int, before: int | None = None, who: str = "", study_uid: str = ""
) -> Sequence[Entry]:
    """The last rows, the newest first; only those below number `before`, of one person, or of one study."""
    query = select(AuditRow).order_by(AuditRow.number.desc()).limit(limit)
    query = query.where(AuditRow.number < before) if before is not None else query
    query = query.where(AuditRow.who == who) if who else query
    query = query.where(AuditRow.study_uid == study_uid) if study_uid else query
    return [view(row) for row in session.scalars(query)]


def view(row: AuditRow) -> Entry:
    return Entry(**{name: getattr(row, name) for name in (*HASHED, "hash")})
