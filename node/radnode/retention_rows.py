"""Which HL7 messages and which earlier versions of FHIR resources may be let go, by age, and letting them go.

Of a FHIR resource the current version always stays, and so does what somebody may have to answer for: each version that a
person confirmed, and every version of what was taken back. What is still to be told of a resource holds its versions, too.
Each deletion is a row of the audit; the audit itself is deleted by nothing.
"""

from dataclasses import dataclass

from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import aliased

from radnode import audit
from radnode.audit import Act, Kind
from radnode.database import Database
from radnode.settings import Settings
from radnode.states import DeliveryState
from radnode.tables_fhir import NotificationRow, ResourceRow
from radnode.tables_triage import MessageRow
from radnode_fhir.confirm import CONFIRMED
from radnode_fhir.retraction import ENTERED_IN_ERROR

DAY_S = 86400.0
AT_ONCE = 500
"""Rows of one transaction: nobody waits long for it."""
MOST = 50
"""Transactions of one turn; the rest goes in the next."""


@dataclass(frozen=True, kw_only=True)
class Old:
    """How many rows are older than the settings keep them, and may go."""

    messages: int = 0
    versions: int = 0


def plan(database: Database, settings: Settings, now: float) -> Old:
    """What would go. Changes nothing."""
    with database.reading() as session:
        many = [session.scalar(select(func.count()).select_from(q.subquery())) or 0 for q in queries(settings, now)]
    return Old(messages=many[0], versions=many[1])


def turn(database: Database, settings: Settings, now: float) -> Old:
    """Let go what may go, the oldest first; how many of each."""
    messages, versions = queries(settings, now)
    return Old(
        messages=let_go(database, MessageRow, messages, "HL7 messages"),
        versions=let_go(database, ResourceRow, versions, "earlier versions of FHIR resources"),
    )


def let_go(database: Database, table: type[MessageRow | ResourceRow], old: Select[int], what: str) -> int:
    """Delete these rows in small transactions, each of which says so in the audit; how many."""
    gone = 0
    for _ in range(MOST):
        with database.transaction() as session:
            ids = session.scalars(old.order_by(table.id).limit(AT_ONCE)).all()
            if ids:
                session.execute(delete(table).where(table.id.in_(ids)))
                detail = f"{len(ids)} {what} (rows {min(ids)} to {max(ids)}) were older than the settings keep them"
                audit.note(session, Act(kind=Kind.CHANGED, action="retention", detail=detail))
        gone += len(ids)
        if len(ids) < AT_ONCE:
            break
    return gone


def queries(settings: Settings, now: float) -> tuple[Select[int], Select[int]]:
    """The ids of messages and of versions that may go."""
    rules = settings.retention
    messages = select(MessageRow.id).where(MessageRow.received_at < before(rules.messages_days, now))
    versions = versions_replaced(before(rules.versions_days, now))
    return messages, versions


def before(days: float, now: float) -> float:
    """What is older goes; with 0 days nothing does."""
    return now - days * DAY_S if days else 0.0


def versions_replaced(at: float) -> Select[int]:
    """The ids of the versions that others took the place of before `at`, but for those that stay."""
    later, current = aliased(ResourceRow), aliased(ResourceRow)
    same = (later.kind == ResourceRow.kind, later.resource_id == ResourceRow.resource_id)
    replaced_at = (
        select(func.min(later.updated_at)).where(*same, later.version > ResourceRow.version).correlate(ResourceRow)
    )
    taken_back = (
        select(current.id)
        .where(current.kind == ResourceRow.kind, current.resource_id == ResourceRow.resource_id, current.current)
        .where(current.body["status"].as_string() == ENTERED_IN_ERROR)
        .correlate(ResourceRow)
    )
    owed = (
        select(NotificationRow.id)
        .where(NotificationRow.kind == ResourceRow.kind, NotificationRow.resource_id == ResourceRow.resource_id)
        .where(NotificationRow.state == DeliveryState.OWED)
        .correlate(ResourceRow)
    )
    status = func.coalesce(ResourceRow.body["status"].as_string(), "")
    return select(ResourceRow.id).where(
        ResourceRow.current.is_(False),
        ResourceRow.updated_at < at,
        replaced_at.scalar_subquery() < at,
        status.not_in(CONFIRMED | {ENTERED_IN_ERROR}),
        ~taken_back.exists(),
        ~owed.exists(),
    )
