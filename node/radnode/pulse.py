"""When a loop looks at the database again: soon after somebody wrote to it, and now and then for what only time brings."""

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote

from radnode.database import Database
from radnode.patience import Patience


class Pulse:
    """Of one loop. longest_s: seconds without a look at most.

    To ask SQLite whether anything was written (PRAGMA data_version) costs microseconds, a query a hundred times that.
    Other databases cannot be asked so cheaply: there each call says that it is time.
    """

    def __init__(self, database: Database, longest_s: float) -> None:
        self._url = database.engine.url
        self._longest_s = longest_s
        self._look_at = 0.0  # by the monotonic clock
        self._connection: sqlite3.Connection | None = None
        self._seen: int | None = None

    def __enter__(self) -> "Pulse":
        return self

    def __exit__(self, *_: object) -> None:
        self._disconnect()

    def wait(self, stop: threading.Event, poll_s: float) -> bool:
        """True once it is time to look, False at `stop`; asks every `poll_s` seconds."""
        while not stop.wait(poll_s):
            if self.due():
                return True
        return False

    def due(self) -> bool:
        """Whether it is time to look: then the next one is due after the next write, or after `longest_s`."""
        now = time.monotonic()
        if not self._written() and now < self._look_at:
            return False
        self._look_at = now + self._longest_s
        return True

    def _written(self) -> bool:
        """Whether another connection wrote since the last call; True also when that cannot be told."""
        if self._url.get_backend_name() != "sqlite" or not self._url.database:
            return True
        try:
            if self._connection is None:
                self._connection = connect(self._url.database)
            version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:  # the look itself will say what is wrong
            self._disconnect()
            return True
        before, self._seen = self._seen, version
        return version != before

    def _disconnect(self) -> None:
        connection, self._connection, self._seen = self._connection, None, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def keep_turning(
    turn: Callable[[], bool], stop: threading.Event, *, patience: Patience, pulse: Pulse, poll_s: float
) -> None:
    """Turn until `stop`: at once again while a turn says that it did something, else when it is time to look.

    What fails is turned again, ever more seldom.
    """
    with pulse:
        while not stop.is_set():
            try:
                worked = turn()
            except Exception as e:
                stop.wait(patience.failed(e))
                continue
            patience.worked()
            if not worked:
                pulse.wait(stop, poll_s)


def connect(path: str) -> sqlite3.Connection:
    """To a database that is there; none is made. Raises sqlite3.Error."""
    return sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, check_same_thread=False)
