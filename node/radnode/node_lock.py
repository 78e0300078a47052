"""One node for one database: what `radnode serve` holds as long as it runs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import func, select

from radnode.database import Database
from radnode.errors import SettingsError

NODE_LOCK = 0x5241444E
"""PostgreSQL: the advisory lock of the one node of a database."""
TAKEN_S = 40.0
ALIVE = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}
"""PostgreSQL then notices within TAKEN_S that a machine is gone."""


@contextmanager
def the_only_node(url: str) -> Iterator[None]:
    """PostgreSQL: a lock on the database, held by a connection. Two nodes with a data folder each would take each other's
    work and not find its files. SQLite's file lies in the data folder.

    Raises SettingsError when another node holds it for TAKEN_S; one whose machine has died lets go sooner.
    """
    if not url.startswith("postgresql"):
        yield
        return
    database = Database(url)
    try:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for name, value in ALIVE.items():
                connection.exec_driver_sql(f"SET {name} = {value}")
            deadline = time.monotonic() + TAKEN_S
            while not connection.scalar(select(func.pg_try_advisory_lock(NODE_LOCK))):
                if time.monotonic() > deadline:
                    raise SettingsError(
                        "already-serving",
                        "Another `radnode serve` uses this database.",
                        "Stop it, or set another `database_url`.",
                    )
                time.sleep(0.5)
            try:
                yield
            finally:
                connection.invalidate()  # the server lets go; nothing is asked of it, which may be gone
    finally:
        database.close()
