"""What every role does before its work: logs, settings, the data folder, the schema, and not outliving its supervisor."""

import _thread
import logging
import os
import signal
import threading
from pathlib import Path
from types import FrameType

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from radnode import audit, migrations
from radnode import settings as settings_module
from radnode.database import Database, said
from radnode.errors import NO_DATABASE, SettingsError
from radnode.lifeline import die_with, die_with_parent
from radnode.logs import log_to_stderr
from radnode.peers import table as peers
from radnode.settings import Settings

RESTORING = ".restore"
"""In a data folder: a restore that has not ended. No role starts there."""

log = logging.getLogger(__name__)


def role(parent: int | None) -> Settings:
    """The settings of a role, once everything it needs is ready. parent: the supervisor's process id, if there is one.

    Raises SettingsError. Under a supervisor, which has used the database before, one that does not answer (locked, starting
    anew) only ends this process: it is started again.
    """
    if parent is not None:
        die_with_parent(parent)
    log_to_stderr()
    settings = settings_module.load()
    log_to_stderr(lines=settings.log)
    try:
        prepare(settings)
    except SettingsError as e:
        if parent is None or e.id != NO_DATABASE:
            raise
        log.error("A role cannot begin: %s", e.sentence, extra={"action": "start"})
        raise SystemExit(1) from e
    die_with(kept_in(settings))
    return settings


def kept_in(settings: Settings) -> tuple[Path, ...]:
    """Where everything of the node is kept on this machine: the data folder, and the database if it is a file."""
    url = make_url(settings.url)
    file = url.database if url.get_backend_name() == "sqlite" else None
    return (settings.data / "run", *((Path(file),) if file else ()))


def prepare(settings: Settings) -> None:
    """The data folder, the schema and the peers of the settings file. Raises SettingsError."""
    make_data_folder(settings)
    upgrade(settings)
    database = Database(settings.url)
    try:
        with audit.acting(None):
            peers.sync_from_settings(settings, database)
    except ValueError as e:
        raise SettingsError("peers", f"A peer in the settings is wrong: {e}.", "See deploy/radnode.toml.") from e
    finally:
        database.close()


def make_data_folder(settings: Settings) -> None:
    try:
        restoring = (settings.data / RESTORING).exists()
        if not restoring:
            (settings.data / "run").mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise SettingsError(
            "data",
            f"The data folder {settings.data} cannot be used: {e.strerror}.",
            f"It has to belong to the user that the node runs as (number {os.geteuid()}), or `data` names another one.",
        ) from e
    if restoring:
        raise SettingsError(
            "restore-unfinished",
            f"A restore into {settings.data} has not ended.",
            "Run `radnode restore` again, or begin with an empty data folder and an empty database.",
        )


def upgrade(settings: Settings) -> str:
    """The schema's revision after the upgrade. Raises SettingsError, also when the database cannot be reached."""
    try:
        return migrations.upgrade(settings.url)
    except (ArgumentError, NoSuchModuleError) as e:
        raise SettingsError("database-url", f"database_url is wrong: {e}.", "See deploy/radnode.toml.") from e
    except DBAPIError as e:
        raise SettingsError(NO_DATABASE, f"The database cannot be used: {said(e)}.", "See `database_url`.") from e


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set. Only for the main thread."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        _thread.start_new_thread(
            stop.set, ()
        )  # here, or by `Thread.start`, it could wait for the very thread that is interrupted

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop
