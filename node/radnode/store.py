"""The store: the only writer of object files and of their index rows.

An object counts once its file is durable and its row committed; only then may the sender hear Success. Bytes are kept
as they came. PS3.10 section 7.1 (file meta information), PS3.4 annex B.
"""

import errno
import fcntl
import hashlib
import itertools
import mmap
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode.database import Database
from radnode.errors import StoreError
from radnode.faults import Point, crash_point
from radnode.refusals import Refusals
from radnode.settings import Settings
from radnode.store_check import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION,
    OUT_OF_RESOURCES,
    Arrival,
    Identity,
    check_announced,
    identify,
)
from radnode.store_index import Entry, Index, UnsureError, flush
from radnode.tables import InstanceRow

__all__ = ["Arrival", "Instance", "Store", "Upload", "instances", "study_files"]

INCOMING = ".incoming"
FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
MB = 1_000_000
FLUSHERS = 16
EARLY = 300_000
"""Bytes after which the disk is set to work."""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One stored object. file: its full path."""

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    calling_ae: str
    file: Path


class Store:
    """Files below `data/objects` and their rows. Safe among threads; one per process, made after a fork."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.database = database
        self.data = settings.data.resolve()
        self.objects = self.data / "objects"
        self.incoming = self.objects / INCOMING
        self.max_bytes = settings.receive.max_object_mb * MB
        self.free_min_bytes = settings.receive.disk_free_min_mb * MB
        self.incoming.mkdir(parents=True, exist_ok=True)
        self.folders = Folders(self.objects)
        self._flushers = ThreadPoolExecutor(FLUSHERS, thread_name_prefix="flush")
        self.index = Index(database, self.data)
        self.refusals = Refusals(database)
        self._numbers = itertools.count()

    def begin(self, arrival: Arrival) -> "Upload":
        """Start to keep one object. Raises StoreError when it is already known that it cannot be kept."""
        check_announced(arrival)
        self.check_space(0)
        try:
            return Upload(self, arrival)
        except OSError as e:
            raise no_room(e) from e

    def put(self, arrival: Arrival, chunks: Iterable[bytes | bytearray | memoryview]) -> Instance:
        """Keep one object: the encoded data set in pieces. Returns once it is durable and indexed; raises StoreError."""
        upload = self.begin(arrival)
        try:
            for chunk in chunks:
                upload.write(chunk)
            return upload.finish()
        finally:
            upload.discard()

    def check_space(self, wanted: int) -> None:
        """Raises StoreError 0xA700 when the disk has less left than the watermark."""
        disk = os.statvfs(self.objects)
        if disk.f_bavail * disk.f_frsize - wanted < self.free_min_bytes:
            raise StoreError(OUT_OF_RESOURCES, "The disk of the node is full.")

    def flush(self, fd: int, folder: Path) -> None:
        """Make a file and its name durable: at the same time, so that the file system commits once for both."""
        named = self._flushers.submit(flush, folder)
        try:
            os.fsync(fd)
        finally:
            named.result()

    def close(self) -> None:
        """End the connections."""
        self.refusals.close()
        self._flushers.shutdown()
        self.index.close()
        self.database.close()

    def new_name(self) -> Path:
        return self.incoming / f"{os.getpid()}-{threading.get_ident()}-{next(self._numbers)}.part"


class Upload:
    """One object on its way in. After `finish` or `discard` nothing of a failed one is left."""

    def __init__(self, store: Store, arrival: Arrival) -> None:
        self._store = store
        self._arrival = arrival
        self._name, self._fd = create(store)
        self._open = True
        meta = file_meta(arrival)
        self._start = self._size = len(meta)
        self._checked = self._flushing = 0
        self._digest = hashlib.sha256()
        try:
            write_all(self._fd, meta)
        except OSError:
            self.discard()
            raise

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append a piece of the encoded data set. Raises StoreError 0xA700."""
        self._size += len(chunk)
        if self._size - self._start > self._store.max_bytes:
            raise StoreError(OUT_OF_RESOURCES, f"The object is longer than {self._store.max_bytes // MB} MB.")
        if self._size - self._checked > 8 * MB:
            self._store.check_space(0)
            self._checked = self._size
        try:
            write_all(self._fd, chunk)
        except OSError as e:
            raise no_room(e) from e
        self._digest.update(chunk)
        if self._size - self._flushing > EARLY:
            # start writing to the disk now, so that little is left for the flush at the end
            os.posix_fadvise(self._fd, self._flushing, self._size - self._flushing, os.POSIX_FADV_DONTNEED)
            self._flushing = self._size

    def finish(self) -> Instance:
        """Check, make durable, index. Raises StoreError."""
        try:
            with mmap.mmap(self._fd, self._size, access=mmap.ACCESS_READ) as file:
                identity = identify(file, self._start, self._arrival, max_bytes=self._store.max_bytes)
            return self._keep(identity)
        except OSError as e:
            raise no_room(e) from e
        finally:
            self.discard()

    def discard(self) -> None:
        """Leave nothing of it, unless it was kept. May be called again."""
        if not self._open:
            return
        self._open = False
        with suppress(OSError):
            self._name.unlink()
        os.close(self._fd)

    def _keep(self, identity: Identity) -> Instance:
        """Name it, flush it and its name, index it, in this order; take the name away again when that fails."""
        sha256 = self._digest.hexdigest()
        file = self._store.folders.link(self._name, identity, sha256)
        try:
            self._store.flush(self._fd, file.parent)
            crash_point(Point.FILE_BEFORE_ROW)
            entry = Entry(identity=identity, arrival=self._arrival, sha256=sha256, file=file, size=self._size)
            kept = self._store.index.add(entry)
        except UnsureError:  # `recover` gives it its row, where it has none
            raise
        except BaseException:
            with suppress(OSError):
                file.unlink()
            raise
        if kept != file:
            file.unlink(missing_ok=True)
        return Instance(
            study_uid=identity.study_uid,
            series_uid=identity.series_uid,
            sop_uid=identity.sop_uid,
            sop_class_uid=identity.sop_class_uid,
            calling_ae=self._arrival.calling_ae,
            file=kept,
        )


class Folders:
    """The folders of studies and series, made durable once each."""

    def __init__(self, objects: Path) -> None:
        self._objects = objects
        self._known: set[Path] = set()

    def link(self, name: Path, identity: Identity, sha256: str) -> Path:
        """Give the finished file its lasting name, never in the place of another. Its folder is yet to be flushed.

        The second object with a UID is named with its digest, and numbered should that name exist.
        """
        folder = self._objects / identity.study_uid / identity.series_uid
        self._make(folder)
        file = folder / f"{identity.sop_uid}.dcm"
        for number in itertools.count():
            try:
                os.link(name, file)
                break
            except FileExistsError:
                file = folder / f"{identity.sop_uid}.{sha256[:16]}{f'.{number}' if number else ''}.dcm"
        return file

    def _make(self, folder: Path) -> None:
        if folder in self._known and folder.is_dir():
            return
        folder.mkdir(parents=True, exist_ok=True)
        for changed in (folder.parent, self._objects):
            flush(changed)
        if len(self._known) > 10_000:
            self._known.clear()
        self._known.add(folder)


def create(store: Store) -> tuple[Path, int]:
    """A new file under a temporary name, locked: `recover` deletes only names whose writer is gone."""
    while True:
        name = store.new_name()
        try:
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        except FileExistsError:  # left by an earlier process of the same id
            continue
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return name, fd
        os.close(fd)  # `recover` came between the two calls


@contextmanager
def abandoned(file: Path) -> Iterator[bool]:
    """Whether the writer of a file is gone: a living one holds a lock on it until its row is committed (`create`).

    Nobody else finds it abandoned meanwhile. Raises OSError.
    """
    how = os.O_RDWR if os.access(file, os.W_OK) else os.O_RDONLY  # NFS locks only what is open for writing
    fd = os.open(file, how | os.O_CLOEXEC)
    try:
        yield locks(fd)
    finally:
        os.close(fd)


def locks(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Raises OSError, also when the disk takes only a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def no_room(error: OSError) -> StoreError:
    why = "The disk of the node is full." if error.errno in FULL else f"The disk of the node fails: {error.strerror}."
    return StoreError(OUT_OF_RESOURCES, why)


def file_meta(arrival: Arrival) -> bytes:
    """Preamble, prefix and file meta information, Explicit VR Little Endian. PS3.10 table 7.1-1."""
    elements = b"".join(
        (
            struct.pack("<HH2sHL2s", 2, 0x0001, b"OB", 0, 2, b"\0\1"),
            short_element(0x0002, b"UI", arrival.sop_class_uid),
            short_element(0x0003, b"UI", arrival.sop_uid),
            short_element(0x0010, b"UI", arrival.transfer_syntax_uid),
            short_element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            short_element(0x0013, b"SH", IMPLEMENTATION_VERSION),
            short_element(0x0016, b"AE", arrival.calling_ae[:16]),
            short_element(0x0018, b"AE", arrival.called_ae[:16]),
        )
    )
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(elements)) + elements


def short_element(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


def instances(session: Session, study_uid: str, data: Path) -> tuple[Instance, ...]:
    """The current objects of a study, by series and SOP Instance UID. data: the node's data folder."""
    rows = session.scalars(
        select(InstanceRow)
        .where(InstanceRow.study_uid == study_uid, InstanceRow.current, InstanceRow.gone_at.is_(None))
        .order_by(InstanceRow.series_uid, InstanceRow.sop_uid)
    )
    return tuple(
        Instance(
            study_uid=row.study_uid,
            series_uid=row.series_uid,
            sop_uid=row.sop_uid,
            sop_class_uid=row.sop_class_uid,
            calling_ae=row.calling_ae,
            file=data / row.file,
        )
        for row in rows
    )


def study_files(session: Session, study_uid: str, data: Path) -> tuple[Path, ...]:
    """The files of the current objects of a study."""
    return tuple(i.file for i in instances(session, study_uid, data))
