"""`radnode restore`: a backup into an empty data folder and an empty database; the node then goes on where it was.

Until the end the folder `.restore` stands in the data folder, and no role starts there: one that is killed is begun anew.
"""

import filecmp
import hashlib
import json
import os
import shutil
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, insert, make_url, select, update

from radnode import copy_tables, migrations
from radnode import settings as settings_module
from radnode.backup import DATA, DATABASE, MANIFEST, SETTINGS, SUMS, Manifest
from radnode.database import Database
from radnode.errors import RefusedError, SettingsError
from radnode.events import Action
from radnode.serve import the_only_one
from radnode.settings import Settings
from radnode.start import RESTORING
from radnode.tables import EventRow, InstanceRow

CHUNK = 500


def restore(source: Path) -> tuple[Settings, Manifest]:
    """Restore a backup to where the settings point; the settings and what the backup says of itself.

    Without a settings file, the backup's takes its place. Raises RefusedError when something would be overwritten, the
    node runs, or the backup is not whole; SettingsError when it is of a newer version. Then nothing was changed.
    """
    manifest = read_manifest(source)
    made = settings_from(source)
    try:
        settings = settings_module.load()
        (settings.data / "run").mkdir(parents=True, exist_ok=True)
        with closing(the_only_one(settings.data)), staged(settings, source, manifest) as stage:
            move_files(settings, stage / DATA)
            fill(settings, stage / DATABASE, manifest)
    except BaseException:
        if made is not None:
            made.unlink()
        raise
    return settings, manifest


def read_manifest(source: Path) -> Manifest:
    try:
        return Manifest(**json.loads(read_one(source, MANIFEST)))
    except (OSError, KeyError, ValueError, TypeError, tarfile.TarError) as e:
        raise RefusedError(f"{source} is not a whole backup of radnode: it has no readable {MANIFEST}") from e


def read_one(source: Path, name: str) -> bytes:
    """One file of a backup. Raises OSError, KeyError or TarError when it is not there."""
    if source.is_dir():
        return (source / name).read_bytes()
    with tarfile.open(source) as tar:
        found = tar.extractfile(name)
        if found is None:
            raise KeyError(name)
        return found.read()


def settings_from(source: Path) -> Path | None:
    """Put the backup's settings file where this node looks for one, if there is none; the file that was made."""
    file = settings_module.settings_file() or Path("radnode.toml")
    if file.exists():
        return None
    try:
        content = read_one(source, SETTINGS)
    except (OSError, KeyError, tarfile.TarError):
        return None
    file.touch(mode=0o600)
    file.write_bytes(content)
    return file


@contextmanager
def staged(settings: Settings, source: Path, manifest: Manifest) -> Iterator[Path]:
    """The backup's files in the data folder, checked, under a name that says that they do not count yet."""
    stage = settings.data / RESTORING
    if not stage.exists():
        check_empty(settings)
    elif not is_of(stage, settings):
        raise RefusedError(f"{stage} is of a restore into another database: end that one, or empty the data folder")
    try:
        unpack(source, stage, settings)
        verify(stage, manifest)
        keep_weights(settings, stage)
        migrations.upgrade(f"sqlite:///{(stage / DATABASE).resolve()}")
    except BaseException:
        if not (stage / "moving").exists():
            shutil.rmtree(stage, ignore_errors=True)
        raise
    (stage / "moving").touch()
    yield stage
    shutil.rmtree(stage)


def check_empty(settings: Settings) -> None:
    """Raises RefusedError when there is anything that a restore would mix with."""
    there = sorted(f.name for f in settings.data.iterdir() if f.name != "run" and not f.name.startswith("radnode.db"))
    if there:
        raise RefusedError(f"the data folder {settings.data} is not empty ({', '.join(there[:5])})")
    database = Database(settings.url)
    try:
        with database.engine.connect() as connection:
            if not copy_tables.is_empty(connection):
                raise RefusedError("the database is not empty")
    finally:
        database.close()


def is_of(stage: Path, settings: Settings) -> bool:
    target = stage / "target"
    return not target.exists() or target.read_text() == target_of(settings)


def target_of(settings: Settings) -> str:
    return make_url(settings.url).render_as_string(hide_password=True)


def unpack(source: Path, stage: Path, settings: Settings) -> None:
    """A killed restore may have moved files already: `moving` stays, and says so."""
    moving = (stage / "moving").exists()
    if stage.exists():
        shutil.rmtree(stage)
    stage.mkdir()
    (stage / "target").write_text(target_of(settings))
    if moving:
        (stage / "moving").touch()
    if source.is_dir():
        shutil.copytree(source, stage, dirs_exist_ok=True)
        return
    with tarfile.open(source) as tar:
        for entry in tar:
            take_out(tar, entry, stage)


def take_out(tar: tarfile.TarFile, entry: tarfile.TarInfo, stage: Path) -> None:
    """One file of a backup, below `stage`. Raises RefusedError for anything else, such as a link or a name with "..".

    Python's own `filter="data"` came with 3.11.4, and Debian 12 has 3.11.2.
    """
    place = (stage / entry.name).resolve()
    content = tar.extractfile(entry) if entry.isreg() else None
    if content is None or not place.is_relative_to(stage.resolve()):
        raise RefusedError(f"the backup holds what no backup does: {entry.name}")
    place.parent.mkdir(parents=True, exist_ok=True)
    with content, place.open("wb") as f:
        shutil.copyfileobj(content, f)
    place.chmod(0o640)
    os.utime(place, (entry.mtime, entry.mtime))


def verify(stage: Path, manifest: Manifest) -> None:
    """Raises RefusedError when a file of the backup is missing, changed, or too many."""
    lines = (line.partition("  ") for line in (stage / SUMS).read_text().splitlines())
    named = {name: sha256 for sha256, _, name in lines}
    if len(named) != manifest.files:
        raise RefusedError(f"the backup is damaged: {SUMS} names {len(named)} files of {manifest.files}")
    for name, sha256 in named.items():
        path = stage / name
        if not path.is_file():
            raise RefusedError(f"the backup is not whole: {name} is missing")
        with path.open("rb") as f:
            if hashlib.file_digest(f, "sha256").hexdigest() != sha256:
                raise RefusedError(f"the backup is damaged: {name} is not what was written")
    data = stage / DATA
    extra = [
        str(p.relative_to(stage)) for p in data.rglob("*") if p.is_file() and str(p.relative_to(stage)) not in named
    ]
    if extra:
        raise RefusedError(f"the backup holds what it does not name: {extra[0]}")


def keep_weights(settings: Settings, stage: Path) -> None:
    """Raises RefusedError when other weights would be overwritten, in a folder outside the data folder. Equal ones may be there."""
    if settings.weights is None or (stage / "moving").exists():
        return
    there = stage / DATA / "weights"
    for file in (f for f in there.rglob("*") if f.is_file()):
        name = file.relative_to(there)
        place = settings.weights_folder / name
        if place.exists() and not (place.is_file() and filecmp.cmp(file, place, shallow=False)):
            raise RefusedError(f"the weights folder {settings.weights_folder} holds another {name} than the backup")


def move_files(settings: Settings, data: Path) -> None:
    """Into their places, each top folder by one rename. The caller knows that nothing else stands there."""
    if not data.exists():
        return
    for top in sorted(data.iterdir()):
        place = settings.data / top.name
        if top.name == "weights" and settings.weights is not None:
            shutil.copytree(top, settings.weights_folder, dirs_exist_ok=True)
            continue
        if place.is_dir():
            shutil.rmtree(place)
        top.rename(place)


def fill(settings: Settings, file: Path, manifest: Manifest) -> None:
    """The rows, in one transaction, and what is no longer there told on each study's story."""
    migrations.upgrade(settings.url)
    source, target = create_engine(f"sqlite:///{file.resolve()}"), Database(settings.url)
    try:
        with source.connect() as rows, target.transaction() as session:
            connection = session.connection()
            copy_tables.empty(connection)
            copy_tables.copy(rows, connection)
            tell_missing(connection, settings.data, manifest)
    except OSError as e:
        raise SettingsError("restore", f"The backup cannot be restored: {e}.", "Try again.") from e
    finally:
        source.dispose()
        target.close()


def tell_missing(connection: Connection, data: Path, manifest: Manifest) -> None:
    """Images that the backup left out are let go: their studies say so, and are read again only once all came again."""
    query = select(InstanceRow.id, InstanceRow.study_uid, InstanceRow.file).where(InstanceRow.gone_at.is_(None))
    gone = [(row.id, row.study_uid) for row in connection.execute(query) if not (data / row.file).is_file()]
    now = time.time()
    for start in range(0, len(gone), CHUNK):
        ids = [i for i, _ in gone[start : start + CHUNK]]
        connection.execute(update(InstanceRow).where(InstanceRow.id.in_(ids)).values(gone_at=now))
    for study_uid, count in Counter(uid for _, uid in gone).items():
        sentence = f"Restored from a backup of {manifest.made_at} without its {count} images."
        event = {"study_uid": study_uid, "at": now, "action": Action.LET_GO, "sentence": sentence}
        connection.execute(insert(EventRow), [event])
