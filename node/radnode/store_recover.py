"""What a crash left between file and row is put right, and what is missing is told: at a start, and now and then.

Only what is newer than the checkpoint is looked at: it is written when everything older is durable and was found right.
"""

import logging
import mmap
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from sqlalchemy import insert, select

from radnode.database import Database
from radnode.errors import StoreError
from radnode.store import INCOMING, Store, abandoned
from radnode.store_check import Arrival, identify
from radnode.store_checkpoint import MARGIN_S, NEVER, Checkpoint, last_row, read_checkpoint, write_checkpoint
from radnode.store_index import Entry, size_of
from radnode.tables import EventRow, InstanceRow
from radnode_inference.header import walk

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What was found. missing: files (relative to the data folder) that rows name and the disk
    lacks, or has in another size."""

    swept: int
    indexed: int
    damaged: tuple[str, ...]
    missing: tuple[str, ...]


def recover(store: Store, database: Database, *, everything: bool = False) -> Recovery:
    """Delete half-written files, index whole ones without a row, report rows without a file and files that are broken.

    everything: look at every study, however old (it takes long: minutes for a million files).
    May run while objects arrive: a file whose writer lives is left to it, which gives it its row or takes it away.
    """
    checkpoint = Checkpoint(at=time.time(), row=last_row(database))
    since = NEVER if everything else read_checkpoint(store.data, checkpoint)
    swept = sweep(store.incoming)
    indexed, damaged, missing = 0, [], []
    for study_uid in studies(store, database, since):
        files = {str(f.relative_to(store.data)) for f in (store.objects / study_uid).glob("*/*.dcm")}
        rows = rows_of(database, study_uid)
        for file in in_order(store.data / name for name in files - rows.keys()):
            adopted = adopt(store, file)
            indexed += adopted is True
            if adopted is False:
                damaged.append(str(file.relative_to(store.data)))
        lost = [name for name, size in sorted(rows.items()) if size not in (None, size_of(store.data / name))]
        if lost:
            report_missing(database, study_uid, lost)
            missing += lost
    store.index.flush()
    write_checkpoint(store.data, checkpoint)
    found = Recovery(swept=swept, indexed=indexed, damaged=tuple(damaged), missing=tuple(missing))
    log.info(
        "The store was checked.",
        extra={
            "action": "recover",
            "swept": swept,
            "indexed": indexed,
            "damaged": len(damaged),
            "missing": len(missing),
        },
    )
    return found


def sweep(incoming: Path) -> int:
    """Delete temporary files whose writer is gone."""
    swept = 0
    for name in incoming.glob("*.part"):
        with suppress(OSError), abandoned(name) as left:
            if left:
                name.unlink()
                swept += 1
    return swept


def studies(store: Store, database: Database, since: Checkpoint) -> Iterator[str]:
    """Every Study Instance UID with a folder or a row that is newer than the checkpoint."""
    oldest = since.at - MARGIN_S
    folders = {f.name for f in store.objects.iterdir() if f.is_dir() and f.name != INCOMING and is_newer(f, oldest)}
    with database.reading() as session:
        rows = set(session.scalars(select(InstanceRow.study_uid).where(InstanceRow.id > since.row).distinct()))
    yield from sorted(folders | rows)


def is_newer(study: Path, oldest: float) -> bool:
    """Whether a file came into a study's folder, or a name changed there, since `oldest` (UTC epoch seconds)."""
    with os.scandir(study) as entries:
        return any(entry.is_dir() and entry.stat().st_mtime >= oldest for entry in entries)


def rows_of(database: Database, study_uid: str) -> dict[str, int | None]:
    """File -> size, as the rows have it; None for one that was let go."""
    with database.reading() as session:
        query = select(InstanceRow.file, InstanceRow.size, InstanceRow.gone_at)
        found = session.execute(query.where(InstanceRow.study_uid == study_uid))
        return {row.file: row.size if row.gone_at is None else None for row in found}


def adopt(store: Store, file: Path) -> bool | None:
    """Index a file that has no row. False when it is not whole: then it is left, and told. None when its writer has it, or took
    it away."""
    with ExitStack() as held:
        try:
            if not held.enter_context(abandoned(file)):
                return None
            entry = read_entry(store, file)
            entry.older = is_older(store, entry, file.stat().st_mtime)
        except FileNotFoundError:
            return None
        except (StoreError, OSError, ValueError) as e:
            log.error(
                "A file in the store has no row and cannot be read.",
                extra={"action": "damaged", "file": str(file.relative_to(store.data)), "why": str(e)},
            )
            return False
        if store.index.add(entry) != file:
            file.unlink(missing_ok=True)
    return True


def in_order(files: Iterable[Path]) -> list[Path]:
    """As they were written: of two versions of an object the later one counts."""
    written = {}
    for file in files:
        with suppress(FileNotFoundError):  # its writer took it away meanwhile
            written[file] = file.stat().st_mtime_ns
    return sorted(written, key=lambda file: (written[file], file))


def is_older(store: Store, entry: Entry, written_at: float) -> bool:
    """Whether the version of this object that counts was written after this one."""
    of_it = (InstanceRow.sop_uid == entry.identity.sop_uid, InstanceRow.study_uid == entry.identity.study_uid)
    with store.database.reading() as session:
        counts = session.scalar(select(InstanceRow.file).where(*of_it, InstanceRow.current).limit(1))
    with suppress(FileNotFoundError):
        return counts is not None and (store.data / counts).stat().st_mtime > written_at
    return False


def read_entry(store: Store, file: Path) -> Entry:
    """The row that a file of the store should have. Raises StoreError, OSError, ValueError."""
    with file.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        meta, start, _, _ = walk(data, 132, big=False, implicit=False, stop_after_group=2)

        def text(element: int) -> str:
            return meta.get(0x00020000 | element, (b"", b""))[1].rstrip(b"\0 ").decode("ascii", "replace")

        arrival = Arrival(
            calling_ae=text(0x16),
            called_ae=text(0x18),
            address="",
            sop_class_uid=text(0x02),
            sop_uid=text(0x03),
            transfer_syntax_uid=text(0x10),
        )
        identity = identify(data, start, arrival, max_bytes=store.max_bytes)
        with memoryview(data) as view, view[start:] as dataset:
            digest = sha256(dataset).hexdigest()
        store.flush(f.fileno(), file.parent)
        return Entry(identity=identity, arrival=arrival, sha256=digest, file=file, size=len(data))


def report_missing(database: Database, study_uid: str, lost: list[str]) -> None:
    """Say loudly that acknowledged objects are gone: in the log each time, in the study's story once."""
    for name in lost:
        log.error(
            "A stored file is missing or cut off.", extra={"action": "missing", "study_uid": study_uid, "file": name}
        )
    sentence = f"{len(lost)} stored files are missing from the disk or cut off: {', '.join(lost[:3])}."
    with database.transaction() as session:
        told = session.scalar(select(EventRow.id).where(EventRow.study_uid == study_uid, EventRow.sentence == sentence))
        if told is None:
            event = {"study_uid": study_uid, "at": time.time(), "action": "missing", "sentence": sentence}
            session.execute(insert(EventRow), [event])
