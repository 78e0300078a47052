"""The start and the stop of the application in the audit: PS3.15 section A.5.3.1, Application Activity."""

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


def tell(settings: Settings, kind: Kind, action: str) -> None:
    who = audit.at_the_command_line()
    database = Database(settings.url)
    try:
        with audit.acting(None), database.transaction() as session:
            audit.note(session, Act(who=who, kind=kind, action=action, detail=f"radnode {version('radnode')}"))
    finally:
        database.close()
