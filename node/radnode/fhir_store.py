"""The node's FHIR store: versions of resources and the terms that find them. The only writer of these two tables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import delete, insert, select, text
from sqlalchemy.orm import Session

from radnode.tables_fhir import ResourceRow, TermRow
from radnode_fhir.terms import terms

Json = dict[str, Any]
OWN = ""
"""The source of what the node itself wrote."""
LOCK = 740_215  # of PostgreSQL: whoever writes resources waits for the others; SQLite has one writer anyway


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One version of a resource. key: of its row. created, changed: what the write that returned it did."""

    key: int
    kind: str
    id: str
    version: int
    updated_at: float
    source: str
    body: Json
    created: bool = False
    changed: bool = False

    @property
    def address(self) -> str:
        return f"{self.kind}/{self.id}"

    @property
    def resource(self) -> Json:
        """As it is read: with its id, its version and when it was written."""
        meta = {**self.body.get("meta", {}), "versionId": str(self.version), "lastUpdated": instant(self.updated_at)}
        return {**self.body, "id": self.id, "meta": meta}


def instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def lock(session: Session) -> None:
    """One writer of resources at a time, until the transaction ends."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})


def get(session: Session, kind: str, resource_id: str, version: int | None = None) -> Stored | None:
    """The current version, or the one asked for."""
    query = select(ResourceRow).where(ResourceRow.kind == kind, ResourceRow.resource_id == resource_id)
    query = query.where(ResourceRow.current if version is None else ResourceRow.version == version)
    row = session.scalars(query).one_or_none()
    return None if row is None else stored(row)


def history(session: Session, kind: str, resource_id: str) -> list[Stored]:
    """Every version, the newest first."""
    query = select(ResourceRow).where(ResourceRow.kind == kind, ResourceRow.resource_id == resource_id)
    return [stored(row) for row in session.scalars(query.order_by(ResourceRow.version.desc()))]


def load(session: Session, keys: Sequence[int]) -> list[Stored]:
    """The rows of these keys, in their order."""
    rows = {r.id: r for r in session.scalars(select(ResourceRow).where(ResourceRow.id.in_(keys)))}
    return [stored(rows[k]) for k in keys if k in rows]


def addressed(session: Session, addresses: Iterable[str]) -> list[Stored]:
    """The current versions of `Kind/id`; what is not here is left out."""
    pairs = (address.partition("/") for address in dict.fromkeys(addresses))
    found = (get(session, kind, resource_id) for kind, _, resource_id in pairs)
    return [s for s in found if s is not None]


def put(session: Session, kind: str, resource_id: str, resource: Json, source: str, now: float) -> Stored:
    """The next version of a resource, or its first. Equal content makes no version."""
    body = {**resource, "id": resource_id, "meta": without_version(resource.get("meta", {}))}
    if not body["meta"]:
        del body["meta"]
    newest = newest_row(session, kind, resource_id)
    last = newest if newest is not None and newest.current else None
    if last is not None and last.body == body:
        return stored(last)
    if last is not None:
        last.current = False
        session.execute(delete(TermRow).where(TermRow.resource == last.id))
    version = 1 + (newest.version if newest else 0)
    row = ResourceRow(kind=kind, resource_id=resource_id, version=version, updated_at=now, source=source, body=body)
    session.add(row)
    session.flush()
    values = [
        {"resource": row.id, "name": t.name, "system": t.system, "value": t.value, "low": t.low, "high": t.high}
        for t in terms(body)
    ]
    if values:
        session.execute(insert(TermRow), values)
    return stored(row, created=last is None, changed=True)


def newest_row(session: Session, kind: str, resource_id: str) -> ResourceRow | None:
    query = select(ResourceRow).where(ResourceRow.kind == kind, ResourceRow.resource_id == resource_id)
    return session.scalars(query.order_by(ResourceRow.version.desc()).limit(1)).one_or_none()


def without_version(meta: Json) -> Json:
    return {k: v for k, v in meta.items() if k not in ("versionId", "lastUpdated")}


def stored(row: ResourceRow, *, created: bool = False, changed: bool = False) -> Stored:
    return Stored(
        key=row.id,
        kind=row.kind,
        id=row.resource_id,
        version=row.version,
        updated_at=row.updated_at,
        source=row.source,
        body=cast(Json, row.body),
        created=created,
        changed=changed,
    )
