"""Which open associations, and requests over HTTP, have sent images of which studies: `complete` waits for them. The only writer of that table.

A sender that pauses in the middle of a study, or sends another one first, has not ended. Its rows go when its association
ends, or when the process that served it is started again; should neither happen, they count only until `alive_until`.
"""

import logging
import time
import uuid

from sqlalchemy import ColumnElement, Executable, delete, exists, insert, update
from sqlalchemy.exc import SQLAlchemyError

from radnode.database import Database
from radnode.settings import Settings
from radnode.tables import SendingRow, StudyRow

PAUSES = 2
"""Quiet times for which a sender may pause in an open association before its study is complete all the same."""
WEB = -1
"""The slot of what comes over HTTP."""
REFRESH = 4
"""`alive_until` is moved on this often within a pause."""

log = logging.getLogger(__name__)


class Sending:
    """The studies of one association. What cannot be written is told and holds up nothing: the quiet timer still runs.

    slot: of the process that serves it. pause_s: a study is held no longer than that after the last byte of an object,
    since some senders keep an association open long after the last one.
    """

    def __init__(self, database: Database, *, slot: int, pause_s: float) -> None:
        self._database = database
        self._slot, self._pause_s = slot, pause_s
        self._association = uuid.uuid4().hex
        self._studies: set[str] = set()
        self._refresh_at = 0.0

    def sent(self, study_uid: str) -> None:
        """An image of this study was stored."""
        if study_uid in self._studies:
            return
        self._studies.add(study_uid)
        row = {"association": self._association, "study_uid": study_uid, "slot": self._slot}
        self._write(insert(SendingRow).values(**row, alive_until=time.time() + self._pause_s))

    @property
    def only(self) -> str:
        """The one study of which images came over this association; "" when there are none, or several."""
        return next(iter(self._studies)) if len(self._studies) == 1 else ""

    def alive(self) -> None:
        """A part of an object came. Quick: called for each one."""
        now = time.monotonic()
        if now < self._refresh_at or not self._studies:
            return
        self._refresh_at = now + self._pause_s / REFRESH
        mine = SendingRow.association == self._association
        self._write(update(SendingRow).where(mine).values(alive_until=time.time() + self._pause_s))

    def end(self) -> None:
        """The association is over."""
        if self._studies:
            self._write(delete(SendingRow).where(SendingRow.association == self._association))
            self._studies.clear()

    def _write(self, statement: Executable) -> None:
        try:
            with self._database.transaction() as session:
                session.execute(statement)
        except SQLAlchemyError:
            log.exception("It cannot be noted who is sending.", extra={"action": "sending"})


def pause_of(settings: Settings) -> float:
    """How long after the last byte a study is held."""
    return min(PAUSES * settings.complete.quiet_s, settings.receive.association_idle_s)


def forget(database: Database, slot: int) -> None:
    """The associations of a process that ended are over."""
    with database.transaction() as session:
        session.execute(delete(SendingRow).where(SendingRow.slot == slot))


def forget_web(database: Database) -> None:
    """The requests of an earlier web process are over. A database that is away holds up no start."""
    try:
        forget(database, WEB)
    except SQLAlchemyError:
        log.exception("It cannot be forgotten who was sending.", extra={"action": "sending"})


def is_sent(now: float) -> ColumnElement[bool]:
    """The condition that an association which sent images of a StudyRow is still open."""
    return exists().where(SendingRow.study_uid == StudyRow.study_uid, SendingRow.alive_until > now)
