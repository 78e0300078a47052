"""A circuit breaker for each destination: one that fails again and again is left alone, and tried by one delivery at a time.

It spares a PACS that is down the attempts of every study, and its recovery is noticed once, for all that is owed to it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from radnode.database import Database
from radnode.tables_pacs import BreakerRow

LIMIT = 3
"""Failures in a row after which it opens."""
LONGEST_S = 30.0
"""Until the next try: one object that is always refused must not keep the others of its destination waiting for long."""


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A destination that does not answer. since, until: UTC epoch seconds."""

    destination: str
    failures: int
    since: float
    until: float
    error: str


class Breaker:
    """Of one destination, shared by its lanes. wait_s: failures -> seconds until the next try."""

    def __init__(self, destination: str, database: Database, wait_s: Callable[[int], float]) -> None:
        self._destination = destination
        self._database = database
        self._wait_s = wait_s
        self._lock, self._telling = threading.Lock(), threading.Lock()
        self._failures = 0
        self._since = self._until = 0.0
        self._error = ""
        self._trying = False

    def lets(self, now: float) -> bool:
        """Whether a delivery may be tried. Once it is open, one at a time and not before its wait is over."""
        with self._lock:
            if self._failures < LIMIT:
                return True
            if 0.0 < self._until - now <= LONGEST_S or self._trying:  # more: the clock was turned back
                return False
            self._trying = True
            return True

    def untried(self) -> None:
        """There was nothing to deliver after all."""
        with self._lock:
            self._trying = False

    def failed(self, error: str, now: float) -> None:
        """A delivery failed in a way that another time may mend."""
        with self._lock:
            self._trying = False
            self._since = self._since if self._failures else now
            self._failures, self._error = self._failures + 1, error
            if self._failures < LIMIT:
                return
            self._until = now + min(LONGEST_S, self._wait_s(self._failures - LIMIT + 1))
        self._tell()

    def worked(self) -> bool:
        """A delivery arrived; whether the destination had been given up for a while."""
        with self._lock:
            was_open, self._failures, self._trying = self._failures >= LIMIT, 0, False
        if was_open:
            self._tell()
        return was_open

    def _tell(self) -> None:
        """Its row, as things stand now: another lane may have changed them since."""
        with self._telling, self._database.transaction() as session:
            with self._lock:
                is_open = self._failures >= LIMIT
                row = BreakerRow(destination=self._destination, failures=self._failures, since=self._since)
                row.until, row.error = self._until, self._error
            if is_open:
                session.merge(row)
            else:
                session.execute(delete(BreakerRow).where(BreakerRow.destination == self._destination))


def outages(session: Session) -> dict[str, Outage]:
    """The destinations that do not answer now, by name."""
    return {
        r.destination: Outage(
            destination=r.destination, failures=r.failures, since=r.since, until=r.until, error=r.error
        )
        for r in session.scalars(select(BreakerRow))
    }


def forget(database: Database, destination: str = "") -> None:
    """A new process knows nothing of earlier failures, nor does who begins anew with a destination ("": all of them)."""
    of_it = (BreakerRow.destination == destination,) if destination else ()
    with database.transaction() as session:
        session.execute(delete(BreakerRow).where(*of_it))
