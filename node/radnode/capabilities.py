"""What destinations take, as they said themselves: asked by association negotiation, kept with its time, asked anew daily."""

import logging
from collections.abc import Mapping, Sequence
from typing import cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import addresses
from radnode.database import Database
from radnode.destinations import probe
from radnode.errors import DeliveryError
from radnode.profiles import ASKED, Capability
from radnode.settings import Destination, Settings
from radnode.tables import CapabilityRow

TIMEOUT_S = 10.0
RENEW_S = 86400.0
AFTER_ERROR_S = 60.0
"""When a destination that did not answer is asked again."""

log = logging.getLogger(__name__)


def known(session: Session, destinations: Sequence[Destination]) -> Mapping[str, Capability]:
    """The last answers, by the name of the destination; one that has moved since has not answered yet."""
    rows = {row.destination: row for row in session.scalars(select(CapabilityRow))}
    return {
        d.name: from_row(rows[d.name]) for d in destinations if d.name in rows and rows[d.name].address == address_of(d)
    }


def ask(database: Database, settings: Settings, destination: Destination, now: float) -> Capability:
    """Ask now and keep the answer. A destination that does not answer keeps what it said before, and why is kept too."""
    error, taken = "", None
    timeout_s = min(TIMEOUT_S, settings.deliver.timeout_s)
    try:
        taken = probe(destination, ASKED, calling_ae=settings.receive.ae_title, timeout_s=timeout_s)
    except DeliveryError as e:
        error = str(e)
        log.warning("%s cannot be asked what it takes: %s", destination.name, error, extra={"action": "probe"})
    with database.transaction() as session:
        row = row_of(session, destination)
        row.error, row.tried_at = error, now
        if taken is not None:
            row.taken, row.asked_at = dict(cast(Mapping[str, object], taken)), now
        session.flush()
        return from_row(row)


def row_of(session: Session, destination: Destination) -> CapabilityRow:
    """The row of a destination, locked; an empty one where it has not answered at this address yet."""
    row = session.get(CapabilityRow, destination.name, with_for_update=True)
    if row is not None and row.address == address_of(destination):
        return row
    empty = CapabilityRow(destination=destination.name, address=address_of(destination), taken={}, error="")
    empty.asked_at = empty.tried_at = 0.0
    return session.merge(empty)


def ask_those_due(database: Database, settings: Settings, now: float) -> int:
    """Ask every destination that can be asked and was not for a day, or did not answer a minute ago; how many."""
    with database.reading() as session:
        there = addresses.destinations(session, settings)
        answers = known(session, there)
    due = [d for d in there if d.kind == "dimse" and is_due(answers.get(d.name), now)]
    for destination in due:
        ask(database, settings, destination, now)
    return len(due)


def is_due(answer: Capability | None, now: float) -> bool:
    return answer is None or now - answer.tried_at >= (AFTER_ERROR_S if answer.error else RENEW_S)


def refused(session: Session, destination: Destination, sop_class_uid: str, now: float) -> None:
    """A delivery was told that this SOP class is not taken: no more of it is owed until the next asking says otherwise."""
    row = row_of(session, destination)
    known = row.taken or {uid: ["?"] for uid in ASKED}  # the others are tried, as before
    row.taken, row.asked_at = {**known, sop_class_uid: []}, now
    row.tried_at = 0.0  # asked again soon


def address_of(destination: Destination) -> str:
    return f"{destination.ae_title or 'ANY-SCP'}@{destination.host}:{destination.port}"


def from_row(row: CapabilityRow) -> Capability:
    taken = {uid: tuple(map(str, cast(list[str], syntaxes))) for uid, syntaxes in row.taken.items()}
    return Capability(
        destination=row.destination, asked_at=row.asked_at, tried_at=row.tried_at, taken=taken or None, error=row.error
    )
