"""FHIR Subscriptions by REST hook: whoever subscribed is told of a change, and told again until it is heard.

https://hl7.org/fhir/R4/subscription.html: without a payload an empty POST, with one the resource as an update (PUT) below
the endpoint. A change and its notifications are written in one transaction; a loop sends
them. What is sent is the resource as it stands then, so that an old state never overtakes a new one.
"""

import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import orjson
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from radnode.database import Database
from radnode.errors import FhirError
from radnode.fhir_server import reports as fhir_reports
from radnode.fhir_server import store as fhir_store
from radnode.fhir_server.search import conditions
from radnode.fhir_server.store import Json, Stored
from radnode.outbox import changed as count_of
from radnode.patience import Patience
from radnode.pulse import Pulse
from radnode.settings import Deliver, Settings
from radnode.states import DeliveryState
from radnode.tables_fhir import NotificationRow, ResourceRow

log = logging.getLogger(__name__)

POLL_S, LOOK_S, LEASE_S, LINK_S = 0.1, 1.0, 90.0, 2.0
BATCH = 50
PAYLOADS = frozenset({"", "application/fhir+json", "application/json"})


@dataclass(frozen=True, kw_only=True)
class Notification:
    """One claimed change to tell a subscriber of."""

    id: int
    subscription_id: str
    kind: str
    resource_id: str
    attempt: int
    created_at: float


def accepted(resource: Json, hooks: Sequence[str]) -> Json:
    """A Subscription as it is kept: active, when it can be served. Raises FhirError."""
    channel = resource["channel"]
    endpoint = str(channel.get("endpoint", ""))
    if channel.get("type") != "rest-hook":
        raise FhirError(422, "not-supported", "Only channels of the type rest-hook are served.")
    if str(channel.get("payload", "")) not in PAYLOADS:
        raise FhirError(422, "not-supported", "The payload is application/fhir+json, or nothing.")
    if not any(is_below(endpoint, hook) for hook in hooks):
        raise FhirError(422, "forbidden", "The settings ([fhir] hooks) do not allow to send to this endpoint.")
    kind, pairs = criteria(resource)
    conditions(kind, pairs)
    return {**resource, "status": "active"} if resource.get("status") in ("requested", "active") else resource


def is_below(endpoint: str, hook: str) -> bool:
    """Whether an address begins as the settings allow, on that very host: "https://ris.example" allows no "https://ris.example.org"."""
    try:
        wanted, allowed = urlsplit(endpoint), urlsplit(hook)
    except ValueError:
        return False
    return endpoint.startswith(hook) and wanted.hostname == allowed.hostname and "@" not in wanted.netloc


def criteria(resource: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    kind, _, query = str(resource.get("criteria", "")).partition("?")
    return kind, parse_qsl(query, keep_blank_values=True)


def notify(session: Session, changed: Sequence[Stored], now: float) -> None:
    """Owe every active subscriber what it asked for among `changed`; within the transaction that changed it."""
    if not changed:
        return
    for subscription in active(session):
        kind, pairs = criteria(subscription.body)
        keys = [s.key for s in changed if s.kind == kind]
        if not keys:
            continue
        found = session.scalars(select(ResourceRow).where(ResourceRow.id.in_(keys), *conditions(kind, pairs)))
        for row in found.all():
            owed = NotificationRow(subscription_id=subscription.id, kind=kind, resource_id=row.resource_id)
            owed.state, owed.created_at, owed.due_at = DeliveryState.OWED, now, now
            session.add(owed)


def active(session: Session) -> list[Stored]:
    rows = session.scalars(select(ResourceRow).where(ResourceRow.kind == "Subscription", ResourceRow.current))
    return [s for s in map(fhir_store.stored, rows) if s.body.get("status") == "active"]


def claim(database: Database, now: float) -> list[Notification]:
    """What is due, each given to one sender."""
    due = (
        NotificationRow.state == DeliveryState.OWED,
        NotificationRow.due_at <= now,
        NotificationRow.claimed_until <= now,
    )
    with database.reading() as session:
        rows = session.scalars(select(NotificationRow).where(*due).order_by(NotificationRow.id).limit(BATCH)).all()
    if not rows:
        return []
    mine = []
    with database.transaction() as session:
        for row in rows:
            take = update(NotificationRow).where(NotificationRow.id == row.id, *due)
            if count_of(session.execute(take.values(claimed_until=now + LEASE_S))):
                mine.append(row)
    return [
        Notification(
            id=r.id, subscription_id=r.subscription_id, kind=r.kind, resource_id=r.resource_id,
            attempt=r.attempt, created_at=r.created_at,
        )
        for r in mine
    ]  # fmt: skip


def deliver_due(database: Database, policy: Deliver, client: httpx.Client, now: float) -> int:
    """Tell every subscriber what is due; how many notifications were tried."""
    claimed = claim(database, now)
    silent: dict[str, str] = {}  # one that does not answer is not waited for again in this turn
    for notification in claimed:
        error = silent.get(notification.subscription_id) or tell(database, client, notification)
        if error:
            silent[notification.subscription_id] = error
        settle(database, policy, notification, error, time.time())
    return len(claimed)


def tell(database: Database, client: httpx.Client, notification: Notification) -> str:
    """Why it could not be told, or ""."""
    with database.reading() as session:
        subscription = fhir_store.get(session, "Subscription", notification.subscription_id)
        resource = fhir_store.get(session, notification.kind, notification.resource_id)
    if subscription is None or resource is None or subscription.body.get("status") != "active":
        return ""
    channel: Json = subscription.body["channel"]
    headers = dict(h.split(":", 1) for h in channel.get("header", ()) if ":" in h)
    headers = {name.strip(): value.strip() for name, value in headers.items()}
    method, url, body = "POST", str(channel["endpoint"]), b""
    if channel.get("payload"):
        method, url, body = "PUT", f"{url.rstrip('/')}/{resource.address}", orjson.dumps(resource.resource)
        headers["Content-Type"] = "application/fhir+json"
    try:
        answer = client.request(method, url, content=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as e:
        return f"it does not answer: {type(e).__name__}"
    return "" if answer.is_success else f"it answered {answer.status_code}"


def settle(database: Database, policy: Deliver, notification: Notification, error: str, now: float) -> None:
    attempt = notification.attempt + bool(error)
    values: dict[str, Any] = {"state": DeliveryState.DELIVERED, "error": "", "claimed_until": 0.0}
    dead = bool(error) and now - notification.created_at >= policy.give_up_after_days * 86400
    if error:
        longest = min(policy.retry_max_s, policy.retry_s * 2.0 ** min(attempt - 1, 60))
        wait = longest * (1.0 - 0.25 * random.random())  # noqa: S311
        state = DeliveryState.DEAD if dead else DeliveryState.OWED
        values |= {"state": state, "error": error, "attempt": attempt, "due_at": now + wait}
    with database.transaction() as session:
        session.execute(update(NotificationRow).where(NotificationRow.id == notification.id).values(**values))
        if dead:
            stop(session, notification.subscription_id, error, now)
    if error:
        log.warning(
            "A subscriber was not told: %s",
            error,
            extra={"action": "notify", "subscription": notification.subscription_id},
        )


def stop(session: Session, subscription_id: str, error: str, now: float) -> None:
    """A subscriber that was not reached for so long is not written to any more, and its Subscription says so."""
    fhir_store.lock(session)
    last = fhir_store.get(session, "Subscription", subscription_id)
    if last is not None:
        body = {**last.body, "status": "error", "error": error}
        fhir_store.put(session, "Subscription", subscription_id, body, last.source, now)


def serve(settings: Settings, stop: threading.Event) -> None:
    """Tell subscribers, and find the studies of reports that came early, until `stop`."""
    database = Database(settings.url)
    link_at = 0.0
    patience = Patience("The telling of subscribers", "notify")
    try:
        with httpx.Client(timeout=settings.deliver.timeout_s, follow_redirects=False) as client:
            pulse = Pulse(database, LOOK_S)
            while pulse.wait(stop, POLL_S):
                try:
                    deliver_due(database, settings.deliver, client, time.time())
                    if time.monotonic() >= link_at:
                        fhir_reports.link_waiting(database, time.time())
                        link_at = time.monotonic() + LINK_S
                    patience.worked()
                except Exception as e:  # a thread that ends would leave all subscribers without news
                    stop.wait(patience.failed(e))
    finally:
        database.close()
