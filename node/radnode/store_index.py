"""The rows of stored objects, committed in groups: whoever waits first commits for everybody who waits."""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Insert, Select, bindparam, case, insert, literal_column, select, update
from sqlalchemy.exc import SQLAlchemyError

from radnode.database import Database
from radnode.errors import StoreError
from radnode.fetches import is_sent_anew
from radnode.store_check import OUT_OF_RESOURCES, Arrival, Identity
from radnode.tables import EventRow, InstanceRow

ADVISORY_LOCK = 0x52414431
"""PostgreSQL: one group of commits at a time, as SQLite does by itself."""
MAX_GROUP = 200
INSTANCES: Any = InstanceRow.__table__
COLUMNS = [c.name for c in INSTANCES.columns if c.name != "id"]
INSERT = insert(INSTANCES)
LET_GO = -1
"""In the place of the size of a file that was let go (see InstanceRow.gone_at)."""
KNOWN: Select[Any] = select(
    INSTANCES.c.sha256,
    INSTANCES.c.file,
    case((INSTANCES.c.gone_at.is_(None), INSTANCES.c.size), else_=literal_column(str(LET_GO))),
    INSTANCES.c.current,
).where(INSTANCES.c.sop_uid == bindparam("sop_uid"), INSTANCES.c.study_uid == bindparam("study_uid"))

Versions = dict[str, tuple[str, int, bool]]
"""Of one SOP Instance UID in one study (a copy in another study is no version of it): SHA-256 -> (file, size, current)."""

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class Entry:
    """An object whose row is wanted. file: full path, already durable.

    kept: the file that holds these bytes once the row is committed (another one, if they were here before).
    older: than the version of it that counts: it is kept beside that one.
    """

    identity: Identity
    arrival: Arrival
    sha256: str
    file: Path
    size: int
    older: bool = False
    kept: Path | None = None
    error: Exception | None = field(default=None)


class UnsureError(StoreError):
    """The database did not say whether it committed: the row may stand, so its file has to."""


class Statement:
    """A statement compiled once and run on the driver's own cursor: SQLAlchemy's way costs more than SQLite does."""

    def __init__(self, statement: Insert | Select[Any], engine: Engine) -> None:
        compiled = statement.compile(dialect=engine.dialect, column_keys=COLUMNS)
        self._text = str(compiled)
        self._order = getattr(compiled, "positiontup", None)

    def run(self, cursor: Any, row: dict[str, Any]) -> None:
        cursor.execute(self._text, row if self._order is None else tuple(row[k] for k in self._order))


class Index:
    """Writes InstanceRow. Safe among threads; one per process."""

    def __init__(self, database: Database, data: Path) -> None:
        self._database = database
        self._data = data
        self._waiting: list[Entry] = []
        self._queue_lock = threading.Lock()
        self._commit_lock = threading.Lock()
        self._connection: Connection | None = None
        self._changed = False
        self._insert = Statement(INSERT, database.engine)
        self._known = Statement(KNOWN, database.engine)
        sqlite = database.engine.dialect.name == "sqlite"
        self._begin = "BEGIN IMMEDIATE" if sqlite else f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"
        run = data / "run"
        run.mkdir(parents=True, exist_ok=True)
        self._turn = os.open(run / "store.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def close(self) -> None:
        self._disconnect()
        os.close(self._turn)

    def flush(self) -> None:
        """Make every row committed so far durable. PostgreSQL flushes each commit; SQLite has them in its log."""
        url = self._database.engine.url
        if url.get_backend_name() == "sqlite" and url.database:
            with suppress(FileNotFoundError):  # no log: everything is in the database itself, flushed
                flush(Path(f"{url.database}-wal"))

    def add(self, entry: Entry) -> Path:
        """The file that holds the object. Returns after the commit. Raises StoreError 0xA700."""
        with self._queue_lock:
            self._waiting.append(entry)
        with self._commit_lock:
            while entry.kept is None and entry.error is None:
                self._commit_waiting()
        if entry.error is not None:
            kind = UnsureError if isinstance(entry.error, UnsureError) else StoreError
            raise kind(OUT_OF_RESOURCES, "The index of the node cannot be written.") from entry.error
        assert entry.kept is not None
        return entry.kept

    def _commit_waiting(self) -> None:
        with self._queue_lock:
            group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
        try:
            with self._transaction() as connection:
                files = self._write(connection, group)
            if self._changed:  # no file tells of it, should a power cut undo the commit
                self.flush()
                self._changed = False
        except Exception as e:
            for entry in group:
                entry.error = e
            return
        for entry, file in zip(group, files, strict=True):
            entry.kept = file

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """A transaction that writes, one at a time on this machine.

        SQLite alone would let a second process poll for its turn, up to 100 ms late; a file lock wakes it at once.
        """
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            connection = self._connection = self._connection or self._database.engine.connect()
            connection.connection.cursor().execute(self._begin)
            yield connection
            self._commit(connection)
        except BaseException:
            self._disconnect()
            raise
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        if self._database.engine.dialect.name != "sqlite":
            self._disconnect()  # a server may end an idle connection: the pool finds out

    def _commit(self, connection: Connection) -> None:
        """Raises UnsureError where a server, unlike SQLite, may have committed and not have said so."""
        try:
            # SQLAlchemy knows only of what went through it: the usual insert goes past it, which is quicker
            (connection if connection.in_transaction() else connection.connection).commit()
        except Exception as e:
            if self._database.engine.dialect.name == "sqlite":
                raise
            raise UnsureError(OUT_OF_RESOURCES, "The commit of the index was not answered.") from e

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.close()

    def _write(self, connection: Connection, group: list[Entry]) -> list[Path]:
        """Insert the rows of a group; the file that holds each of its objects."""
        known: dict[tuple[str, str], Versions] = {}  # by SOP and Study Instance UID
        new: dict[int, dict[str, Any]] = {}
        cursor = connection.connection.cursor()
        files = []
        for entry in group:
            uids = entry.identity.sop_uid, entry.identity.study_uid
            if uids not in known:
                self._known.run(cursor, {"sop_uid": uids[0], "study_uid": uids[1]})
                known[uids] = {sha256: (file, size, bool(now)) for sha256, file, size, now in cursor.fetchall()}
            versions = known[uids]
            if entry.sha256 in versions:
                files.append(self._again(connection, entry, versions))
                continue
            row = self._row(entry)
            if versions and not entry.older:
                self._supersede(connection, entry, new)
            versions[entry.sha256] = (row["file"], entry.size, row["current"])
            new[id(entry)] = row
            files.append(entry.file)
        for row in new.values():
            self._insert.run(cursor, row)
        cursor.close()
        return files

    def _again(self, connection: Connection, entry: Entry, versions: Versions) -> Path:
        """The same bytes once more: no second row. They become current again, and replace a file that was lost or let go."""
        file, size, current = versions[entry.sha256]
        row = (INSTANCES.c.sop_uid == entry.identity.sop_uid) & (INSTANCES.c.sha256 == entry.sha256)
        kept = self._data / file
        if size == LET_GO:
            kept, size = entry.file, entry.size
            file = str(kept.relative_to(self._data))
            back = {"file": file, "size": size, "gone_at": None, "settled": False}
            connection.execute(update(INSTANCES).where(row).values(back))
            self._changed = True
        elif kept != entry.file and size_of(kept) != size:
            log.error("A stored file was lost; the sender sent it again.", extra={"action": "restore", "file": file})
            kept, size = entry.file, entry.size
            file = str(kept.relative_to(self._data))
            connection.execute(update(INSTANCES).where(row).values(file=file, size=size))
        if entry.older:
            return kept
        called = called_also(connection.execute(select(INSTANCES.c.called_ae).where(row)).scalar() or "", entry)
        if called:  # the rules of that title have not seen it: its study is looked at anew
            connection.execute(update(INSTANCES).where(row).values(called_ae=called, settled=False))
        if is_sent_anew(connection, entry.identity.study_uid):
            connection.execute(update(INSTANCES).where(row).values(received_at=time.time(), settled=False))
        if not current:
            self._supersede(connection, entry, {})
            connection.execute(update(INSTANCES).where(row).values(current=True, settled=False))
            self._changed = True
        for digest, (other, length, _) in versions.items():
            versions[digest] = (other, length, False)
        versions[entry.sha256] = (file, size, True)
        return kept

    def _supersede(self, connection: Connection, entry: Entry, new: dict[int, dict[str, Any]]) -> None:
        """Another version of an object becomes the current one; the study's story tells."""
        sop_uid, study_uid = entry.identity.sop_uid, entry.identity.study_uid
        for row in new.values():
            if (row["sop_uid"], row["study_uid"]) == (sop_uid, study_uid):
                row["current"] = False
        versions = (INSTANCES.c.sop_uid == sop_uid, INSTANCES.c.study_uid == study_uid)
        connection.execute(update(INSTANCES).where(*versions).values(current=False))
        sentence = f"Object {sop_uid} came again with other bytes; both are kept, the newest counts."
        event = {
            "study_uid": entry.identity.study_uid,
            "at": time.time(),
            "action": "conflict",
            "sentence": sentence,
        }
        connection.execute(insert(EventRow), [event])
        log.warning(
            "An object came again with other bytes; both are kept.",
            extra={"action": "conflict", "study_uid": entry.identity.study_uid, "sop_uid": sop_uid},
        )

    def _row(self, entry: Entry) -> dict[str, Any]:
        return {
            **vars(entry.identity),
            "sha256": entry.sha256,
            "transfer_syntax_uid": entry.arrival.transfer_syntax_uid,
            "calling_ae": entry.arrival.calling_ae[:64],
            "called_ae": entry.arrival.called_ae[:64],
            "address": entry.arrival.address[:64],
            "file": str(entry.file.relative_to(self._data)),
            "size": entry.size,
            "received_at": time.time(),
            "current": not entry.older,
            "settled": entry.older,
            "gone_at": None,
        }


def called_also(before: str, entry: Entry) -> str:
    """The AE titles of the node that an object was sent to, with this one; "" when it stands there, or none has room."""
    titles = before.split("\\")
    also = "\\".join((*titles, entry.arrival.called_ae))
    return "" if entry.arrival.called_ae in titles or len(also) > 64 else also


def flush(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def size_of(file: Path) -> int | None:
    """None when there is no such file."""
    with suppress(FileNotFoundError):
        return file.stat().st_size
    return None
