"""What the audit has to hear from the command line: starts and stops (PS3.15 section A.5.3.1), and what was shown there."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from sqlalchemy.exc import SQLAlchemyError

from radnode import audit
from radnode.audit import Act, Kind
from radnode.database import Database
from radnode.settings import Settings

log = logging.getLogger(__name__)


@contextmanager
def told(settings: Settings, name: str, parent: int | None = None) -> Iterator[None]:
    """Start and stop of `radnode NAME` as rows; of a role that a supervisor started (parent), nothing: its own are there.

    A stop that the database cannot keep any more is logged: the next start shows that it is missing.
    """
    if parent is not None:
        yield
        return
    tell(settings, Kind.START, f"radnode {name} started")
    try:
        yield
    finally:
        try:
            tell(settings, Kind.STOP, f"radnode {name} stopped")
        except SQLAlchemyError:
            log.exception("The stop could not be told to the audit.", extra={"action": "stop", "role": name})


def tell(settings: Settings, kind: Kind, action: str, *, study_uid: str = "", detail: str = "") -> None:
    """A row of its own, for whoever types. What is to be shown is told of first."""
    who, said = audit.at_the_command_line(), detail or f"radnode {version('radnode')}"
    database = Database(settings.url)
    try:
        with audit.acting(None), database.transaction() as session:
            audit.note(session, Act(who=who, kind=kind, action=action, study_uid=study_uid, detail=said))
    finally:
        database.close()
