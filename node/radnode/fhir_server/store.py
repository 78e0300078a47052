"""The node's FHIR store: versions of resources and the terms that find them. The only writer of these two tables."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.orm import Session

from radnode.tables_fhir import ResourceRow, TermRow
from radnode_fhir.terms import terms

T = TypeVar("T")
Json = dict[str, Any]
OWN = ""
"""The source of what the node itself wrote."""
AT_ONCE = 500
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
    """The current versions of `Kind/id`, in their order; what is not here is left out."""
    pairs = [(kind, name) for kind, _, name in (address.partition("/") for address in dict.fromkeys(addresses))]
    found: dict[tuple[str, str], Stored] = {}
    for kind, ids in by_kind(pairs):
        query = select(ResourceRow).where(ResourceRow.kind == kind, ResourceRow.resource_id.in_(ids))
        found |= {(kind, row.resource_id): stored(row) for row in session.scalars(query.where(ResourceRow.current))}
    return [found[pair] for pair in pairs if pair in found]


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A resource to be written. fresh: nobody has this id yet."""

    kind: str
    id: str
    resource: Json
    fresh: bool = False


def put(session: Session, kind: str, resource_id: str, resource: Json, source: str, now: float) -> Stored:
    """The next version of a resource, or its first. Equal content makes no version."""
    (written,) = put_all(session, [Draft(kind=kind, id=resource_id, resource=resource)], source, now)
    return written


def put_all(session: Session, drafts: Sequence[Draft], source: str, now: float) -> list[Stored]:
    """`put` of many resources with different ids, in a few statements however many they are; in their order."""
    newest = newest_rows(session, [(d.kind, d.id) for d in drafts if not d.fresh])
    done: dict[tuple[str, str], Stored] = {}
    versions: list[dict[str, Any]] = []
    for draft in drafts:
        last, body = newest.get((draft.kind, draft.id)), body_of(draft)
        if last is not None and last.current and last.body == body:
            done[draft.kind, draft.id] = stored(last)
            continue
        version = 1 + (last.version if last else 0)
        names = {"kind": draft.kind, "resource_id": draft.id, "version": version}
        versions.append({**names, "current": True, "updated_at": now, "source": source, "body": body})
    replaced = [newest[name].id for v in versions if (name := (v["kind"], v["resource_id"])) in newest]
    there = {name for name, row in newest.items() if row.current}
    for row in replace(session, replaced, versions):
        name = (row.kind, row.resource_id)
        done[name] = stored(row, created=name not in there, changed=True)
    return [done[draft.kind, draft.id] for draft in drafts]


def replace(session: Session, keys: Sequence[int], versions: Sequence[Json]) -> Iterator[ResourceRow]:
    """Write new versions in place of the rows `keys`, with the terms that find them; as they were written."""
    for some in parts(keys):
        session.execute(update(ResourceRow).where(ResourceRow.id.in_(some)).values(current=False))
        session.execute(delete(TermRow).where(TermRow.resource.in_(some)))
    if not versions:
        return
    session.execute(insert(ResourceRow), list(versions))
    made = newest_rows(session, [(v["kind"], v["resource_id"]) for v in versions])
    values = [
        {"resource": row.id, "name": t.name, "system": t.system, "value": t.value, "low": t.low, "high": t.high}
        for row in made.values()
        for t in terms(row.body)
    ]
    if values:
        session.execute(insert(TermRow), values)
    yield from made.values()


def newest_rows(session: Session, pairs: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], ResourceRow]:
    """(kind, id) -> the row of its newest version."""
    found: dict[tuple[str, str], ResourceRow] = {}
    for kind, ids in by_kind(pairs):
        mine = (ResourceRow.kind == kind, ResourceRow.resource_id.in_(ids))
        last = select(func.max(ResourceRow.id)).where(*mine).group_by(ResourceRow.resource_id)
        query = select(ResourceRow).where(ResourceRow.id.in_(last.scalar_subquery()))
        found |= {(kind, row.resource_id): row for row in session.scalars(query)}
    return found


def by_kind(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Sequence[str]]]:
    """Each kind with its ids, not too many at a time."""
    ids: dict[str, list[str]] = defaultdict(list)
    for kind, name in pairs:
        ids[kind].append(name)
    return ((kind, some) for kind, names in ids.items() for some in parts(names))


def parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many of them at a time as a statement may hold."""
    return (values[at : at + AT_ONCE] for at in range(0, len(values), AT_ONCE))


def body_of(draft: Draft) -> Json:
    body = {**draft.resource, "id": draft.id, "meta": without_version(draft.resource.get("meta", {}))}
    if not body["meta"]:
        del body["meta"]
    return body


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
