"""`radnode backup`: everything the node needs to go on where it was, in one folder or tar file, while it runs.

    database.db      every row, as SQLite, of one moment; also of a node on PostgreSQL
    data/...         the data folder: results, weights, cards, bundles, withheld results, and images
    radnode.toml     the settings file
    SHA256SUMS       of every file above, as `sha256sum -c` reads it
    manifest.json    what it is; written last: without it the backup is not whole

The rows are copied first and the files after them: a file that a row names is there, and what came later is made again.
"""

import hashlib
import json
import logging
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, Protocol

from sqlalchemy import Connection, create_engine, select

from radnode import copy_tables, migrations
from radnode import settings as settings_module
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.retention import nothing_is_deleted
from radnode.settings import Settings
from radnode.start import RESTORING
from radnode.states import StudyState
from radnode.tables import InstanceRow, StudyRow
from radnode.tables_pacs import PromiseRow

DATABASE, SUMS, MANIFEST, SETTINGS, DATA = "database.db", "SHA256SUMS", "manifest.json", "radnode.toml", "data"
NOT_COPIED = frozenset({"run", "objects", RESTORING})
PIECE = 1 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a backup is. images: "all", or "open": those of studies still to be read, or promised. bytes: of all files.

    lost: files of images that the disk had lost before, so that they are not in it.
    """

    radnode: str
    schema: str
    made_at: str
    images: str
    rows: dict[str, int]
    files: int
    bytes: int
    tables_left_out: list[str]
    lost: tuple[str, ...] = ()


class Digesting:
    """Reads a file for a shelf, and digests what was read."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._source.read(size)
        self.sha256.update(piece)
        return piece


class Shelf(Protocol):
    """Where a backup is written."""

    def add(self, source: Digesting, name: str, size: int, modified: float) -> None: ...
    def close(self) -> None: ...


class Tar:
    """One tar file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115  closed below

    def add(self, source: Digesting, name: str, size: int, modified: float) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime, entry.mode = size, int(modified), 0o640
        self._tar.addfile(entry, source)

    def close(self) -> None:
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


class Folder:
    """A folder."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True)
        self._path = path

    def add(self, source: Digesting, name: str, size: int, modified: float) -> None:
        file = self._path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as f:
            shutil.copyfileobj(source, f, PIECE)
            f.flush()
            os.fsync(f.fileno())

    def close(self) -> None:
        return


def backup(settings: Settings, to: Path, *, all_images: bool) -> Manifest:
    """Write a backup to `to`: a tar file when its name ends in .tar, else a folder. Readable for its owner alone.

    all_images: also those of studies that were read. Raises RefusedError and OSError; then nothing stands at `to`.
    """
    check(settings, to)
    part = to.with_name(f"{to.name}.part")
    remove(part)
    mask = os.umask(0o077)
    try:
        with nothing_is_deleted(settings.data, "backup"):
            manifest = write(settings, part, tar=to.suffix == ".tar", all_images=all_images)
        part.rename(to)
    except BaseException:
        remove(part)
        raise
    finally:
        os.umask(mask)
    return manifest


def check(settings: Settings, to: Path) -> None:
    """Raises RefusedError when a backup cannot be made here."""
    if to.exists():
        raise RefusedError(f"{to} is there already")
    if to.resolve().is_relative_to(settings.data.resolve()):
        raise RefusedError("a backup inside the data folder would go with it")
    found, wanted = migrations.current(settings.url), migrations.head()
    if found != wanted:
        raise RefusedError(
            f"the database has the schema {found or 'of nothing'}, this version needs {wanted}: radnode migrate"
        )


def write(settings: Settings, part: Path, *, tar: bool, all_images: bool) -> Manifest:
    with (
        closing(Tar(part) if tar else Folder(part)) as shelf,
        tempfile.TemporaryDirectory(dir=part.parent, prefix=".radnode-backup-") as scratch,
    ):
        sums = Sums(shelf)
        database = Path(scratch) / DATABASE
        with snapshot_of(settings) as source:
            rows = copy_to_sqlite(source, database)
            left_out = copy_tables.unknown(source)
            images = image_files(source, all_images=all_images)
        sums.add(database, DATABASE)
        lost = tuple(added(sums, settings, images))
        manifest = Manifest(
            radnode=version("radnode"),
            schema=migrations.head(),
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            images="all" if all_images else "open",
            rows=rows,
            files=len(sums.lines),
            bytes=sums.bytes,
            tables_left_out=left_out,
            lost=lost,
        )
        for name, content in ((SUMS, "".join(sums.lines)), (MANIFEST, json.dumps(asdict(manifest), indent=2) + "\n")):
            (Path(scratch) / name).write_text(content)
            sums.add(Path(scratch) / name, name)
    return manifest


def added(sums: "Sums", settings: Settings, images: tuple[str, ...]) -> Iterator[str]:
    """Add every file; those of images that are not there. One that the disk lost must not keep all others from being saved."""
    for path, name in everything(settings, images):
        try:
            sums.add(path, name)
        except FileNotFoundError:
            if not name.startswith(f"{DATA}/objects/"):
                raise
            log.error(
                "A stored image is missing from the disk, and from the backup: %s", name, extra={"action": "backup"}
            )
            yield name


class Sums:
    """Puts files on a shelf, and keeps their digests and how long they are together."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.lines: list[str] = []
        self.bytes = 0

    def add(self, path: Path, name: str) -> None:
        with path.open("rb") as f:
            stat, digesting = os.fstat(f.fileno()), Digesting(f)
            self._shelf.add(digesting, name, stat.st_size, stat.st_mtime)
        self.lines.append(f"{digesting.sha256.hexdigest()}  {name}\n")
        self.bytes += stat.st_size


@contextmanager
def snapshot_of(settings: Settings) -> Iterator[Connection]:
    database = Database(settings.url)
    try:
        with copy_tables.snapshot(database) as source:
            yield source
    finally:
        database.close()


def copy_to_sqlite(source: Connection, file: Path) -> dict[str, int]:
    """Every row into a new SQLite file, which needs no second file beside it."""
    url = f"sqlite:///{file}"
    migrations.upgrade(url)
    engine = create_engine(url)
    try:
        with engine.begin() as target:
            copy_tables.empty(target)  # a new schema may hold rows of its own
            rows = copy_tables.copy(source, target)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
    finally:
        engine.dispose()
    return rows


def image_files(source: Connection, *, all_images: bool) -> tuple[str, ...]:
    """The files of received objects, relative to the data folder; not `all_images`: only of studies that are still to be
    read, or that the node committed itself to keep."""
    query = select(InstanceRow.file).where(InstanceRow.gone_at.is_(None))
    if not all_images:
        read = select(StudyRow.study_uid).where(StudyRow.state == StudyState.READ)
        promised = select(PromiseRow.study_uid)
        query = query.where(
            InstanceRow.study_uid.not_in(read) | InstanceRow.study_uid.in_(promised) | ~InstanceRow.settled
        )
    return tuple(source.scalars(query.order_by(InstanceRow.id)))


def everything(settings: Settings, images: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """Every file of a backup but the database: (where it lies, its name there)."""
    file = settings_module.settings_file()
    if file is not None:
        yield file, SETTINGS
    data = settings.data.resolve()
    for top in sorted(data.iterdir()):
        if top.name not in NOT_COPIED:
            yield from below(top, f"{DATA}/{top.name}")
    weights = settings.weights_folder.resolve()
    if weights.is_dir() and not weights.is_relative_to(data):
        yield from below(weights, f"{DATA}/weights")
    for name in images:
        yield data / name, f"{DATA}/{name}"


def below(top: Path, name: str) -> Iterator[tuple[Path, str]]:
    """The files of a folder, also behind a link to another disk; none that is half written, and no SQLite database."""
    if top.is_file():
        if not top.name.endswith(".part") and not top.name.startswith("radnode.db"):
            yield top, name
        return
    if top.is_dir():
        for entry in sorted(top.iterdir()):
            yield from below(entry, f"{name}/{entry.name}")


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
