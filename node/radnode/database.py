"""The connection to the database: SQLite in WAL mode by default, PostgreSQL by URL."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, ExceptionContext, create_engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import Session, sessionmaker

from radnode import audit
from radnode.errors import SettingsError
from radnode.faults import busy_s

SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA foreign_keys=ON",
)


class Database:
    """An engine and its transactions. Cheap to make; one per process (never carried over a fork).

    flush_commits: False lets SQLite commit without a flush of its own: the commit outlives any crash of a process, but
    a power cut may undo the last ones. Only for rows that are made again from files which are durable (the receiver's).
    """

    def __init__(self, url: str, *, flush_commits: bool = True) -> None:
        self.url = url
        self.engine = connect(url, flush_commits=flush_commits)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session in a transaction that writes: commits at the end, rolls back on an error.

        On SQLite it takes the write lock at once (BEGIN IMMEDIATE), so that read-then-write never fails half way. What
        the audit has to tell of it is written at its end.
        """
        with self._sessions.begin() as session:
            if self.engine.dialect.name == "sqlite":
                session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            yield session
            audit.complete(session)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads."""
        with self._sessions() as session:
            yield session

    def close(self) -> None:
        self.engine.dispose()


def said(error: DBAPIError) -> str:
    """The first line of what the database or its driver said: further ones may hold values."""
    words = str(error.orig).strip()
    return words.splitlines()[0] if words else type(error.orig).__name__


def connect(url: str, *, flush_commits: bool = True) -> Engine:
    """Raises SettingsError for a kind of database that cannot be had here."""
    if not url.startswith("sqlite"):
        try:
            return create_engine(url, pool_pre_ping=True, hide_parameters=True)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as e:
            raise SettingsError(
                "database-url", f"database_url is wrong: {e}.",
                "PostgreSQL: postgresql+psycopg://USER:PASSWORD@HOST/NAME; left out: SQLite in the data folder.",
            ) from e  # fmt: skip
    engine = create_engine(url, connect_args={"timeout": busy_s(), "check_same_thread": False}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        for pragma in (
            *SQLITE_PRAGMAS,
            f"PRAGMA busy_timeout={busy_s() * 1000:.0f}",
            f"PRAGMA synchronous={'FULL' if flush_commits else 'NORMAL'}",
        ):
            connection.execute(pragma)

    @event.listens_for(engine, "handle_error")
    def let_go(context: ExceptionContext) -> None:
        """A connection that was made while the disk was read-only stays so: it and its like are made anew."""
        if isinstance(context.original_exception, sqlite3.OperationalError):
            # the lower byte is the primary code (https://www.sqlite.org/rescode.html); the upper ones tell its kinds
            code = getattr(context.original_exception, "sqlite_errorcode", 0) & 0xFF
            context.is_disconnect = context.is_disconnect or code == sqlite3.SQLITE_READONLY

    return engine
