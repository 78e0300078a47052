"""Writes to the FHIR store: a transaction Bundle, all of it or nothing (https://hl7.org/fhir/R4/http.html#transaction).

Every write takes this way, one resource as a Bundle of one entry, the node's own results as well as what others post.
"""

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from sqlalchemy.orm import Session

from radnode import final_reports
from radnode.errors import FhirError
from radnode.fhir_server import reports as fhir_reports
from radnode.fhir_server import store as fhir_store
from radnode.fhir_server import subscriptions
from radnode.fhir_server.search import by_identifier, matches
from radnode.fhir_server.store import OWN, Draft, Json, Stored
from radnode_fhir.check import problems
from radnode_fhir.parameters import PARAMETERS

URN = "urn:uuid:"
ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
CONDITIONAL = re.compile(r"([A-Z][A-Za-z]+)\?(.+)")


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Who writes. source: OWN, or another system by name. hooks: where subscriptions may send to, as beginnings of addresses.

    reads: whether a person's final report marks its study as read.
    """

    source: str = OWN
    hooks: tuple[str, ...] = ()
    reads: bool = False


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What an entry will do: write `resource` as `kind`/`id`, or nothing where `there` has what it would make.

    fresh: nobody has this id yet.
    """

    kind: str
    id: str
    full_url: str
    resource: Json
    there: Stored | None = None
    fresh: bool = False

    @property
    def address(self) -> str:
        return f"{self.kind}/{self.id}"


Found = Mapping[tuple[str, str], Sequence[Stored]]
"""(kind, condition) -> what it finds, the oldest first."""


def transact(session: Session, bundle: Mapping[str, Any], writer: Writer, now: float) -> list[Stored]:
    """What became of each entry, in their order. Raises FhirError; then the caller's transaction must be rolled back."""
    if bundle.get("resourceType") != "Bundle" or bundle.get("type") != "transaction":
        raise FhirError(400, "not-supported", "A Bundle of the type transaction is wanted.")
    fhir_store.lock(session)
    entries = bundle.get("entry", [])
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise FhirError(400, "structure", "The entries of a Bundle are objects.")
    found = looked_up(session, entries)
    planned = [plan(session, entry, writer, found) for entry in entries]
    names = [p.address for p in planned if p.there is None]
    if len(set(names)) < len(names):
        raise FhirError(400, "invalid", "Two entries of the transaction write the same resource.")
    written = write(session, planned, writer, now)
    changed = [w for w in written if w.changed]
    left = fhir_reports.link(session, changed, now) if writer.source != OWN else {}
    if writer.reads:
        final_reports.by_fhir(session, changed, left, now)
    subscriptions.notify(session, changed, now)
    return written


def keep(session: Session, bundle: Mapping[str, Any], now: float) -> None:
    """The node's own transaction, as it is sent to others, into its own store; within the caller's transaction."""
    transact(session, bundle, Writer(), now)


def looked_up(session: Session, entries: Sequence[Mapping[str, Any]]) -> Found:
    """What the conditions by one identifier find, all in a few statements: a transaction has one for nearly each entry."""
    wanted: dict[str, dict[tuple[str, str], str]] = {}
    for entry in entries:
        for kind, query in conditions_of(entry):
            pairs = parse_qsl(query, keep_blank_values=True)
            system, bar, code = pairs[0][1].partition("|") if pairs else ("", "", "")
            if (
                len(pairs) == 1
                and pairs[0][0] == "identifier"
                and bar
                and system
                and code
                and not set(pairs[0][1]) & {",", "\\"}
            ):
                wanted.setdefault(kind, {})[system, code] = query
    found: dict[tuple[str, str], Sequence[Stored]] = {}
    for kind, queries in wanted.items():
        there = by_identifier(session, kind, list(queries))
        found |= {(kind, query): there.get(name, ()) for name, query in queries.items()}
    return found


def conditions_of(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(kind, condition) of an entry, of which nothing is known to be right yet."""
    request = entry.get("request")
    url = str(request.get("url", "")) if isinstance(request, dict) else ""
    kind, _, query = url.partition("?")
    if isinstance(request, dict) and kind in PARAMETERS:
        yield from ((kind, c) for c in (query, str(request.get("ifNoneExist", ""))) if c)


def plan(session: Session, entry: Mapping[str, Any], writer: Writer, known: Found) -> Planned:
    request, resource = entry.get("request"), entry.get("resource")
    if not isinstance(request, dict) or not isinstance(resource, dict):
        raise FhirError(400, "structure", "Each entry has a request and a resource; only POST and PUT are supported.")
    full_url = str(entry.get("fullUrl", ""))
    method, url = str(request.get("method", "")), str(request.get("url", ""))
    kind, _, query = url.partition("?")
    kind, _, named = kind.partition("/")
    if kind not in PARAMETERS:
        raise FhirError(422, "not-supported", f"Resources of the type {kind!r} are not kept here.")
    if resource.get("resourceType") != kind:
        raise FhirError(400, "invalid", f"{url} is no place for a {resource.get('resourceType')}.")
    if method == "POST" and not named and not query:
        condition = str(request.get("ifNoneExist", ""))
        there = the_one(session, kind, condition, writer, known, any_source=True) if condition else None
        chosen, fresh = (there.id, False) if there else fresh_id(full_url, writer)
        if there and there.source == writer.source == OWN and there.body.get("subject") != resource.get("subject"):
            there = None  # the node's own of a patient that was corrected since
        return Planned(kind=kind, id=chosen, full_url=full_url, resource=resource, there=there, fresh=fresh)
    if method != "PUT" or bool(named) == bool(query):
        raise FhirError(400, "not-supported", f"{method} {url} is not supported in a transaction.")
    if named and not ID.fullmatch(named):
        raise FhirError(400, "value", f"{named!r} is no id.")
    found = fhir_store.get(session, kind, named) if named else the_one(session, kind, query, writer, known)
    expected(found, str(request.get("ifMatch", "")))
    name = named or (found.id if found else "")
    chosen, fresh = (name, False) if name else fresh_id(full_url, writer)
    if writer.source != OWN and resource.get("id", chosen) != chosen:
        raise FhirError(400, "invalid", f"The resource says that its id is {resource['id']!r}.")
    return Planned(kind=kind, id=chosen, full_url=full_url, resource=resource, fresh=fresh)


def the_one(
    session: Session, kind: str, query: str, writer: Writer, known: Found, *, any_source: bool = False
) -> Stored | None:
    """What a condition finds. Others must name one; the node itself takes its own before that of others."""
    pairs = parse_qsl(query, keep_blank_values=True)
    if not pairs:
        raise FhirError(412, "multiple-matches", "A condition without a parameter finds everything.")
    found = known[kind, query] if (kind, query) in known else matches(session, kind, pairs, 100)
    if writer.source == OWN:
        mine = [s for s in found if s.source == OWN]
        return next(iter(mine or (found if any_source else ())), None)
    if len(found) > 1:
        raise FhirError(412, "multiple-matches", f"{kind}?{query} finds more than one resource.")
    return found[0] if found else None


def expected(found: Stored | None, tag: str) -> None:
    """If-Match: the version that is changed must be the one that the caller knows."""
    if tag and (found is None or tag.removeprefix("W/").strip('"') != str(found.version)):
        raise FhirError(412, "conflict", "The resource has another version by now.")


def fresh_id(full_url: str, writer: Writer) -> tuple[str, bool]:
    """An id, and whether nobody has it: the node's own resources have the same for ever, those of others any new one."""
    own = writer.source == OWN and full_url.startswith(URN)
    return (full_url.removeprefix(URN), False) if own else (str(uuid.uuid4()), True)


def write(session: Session, planned: Sequence[Planned], writer: Writer, now: float) -> list[Stored]:
    """What became of each, in their order. Conditional references are resolved last, as FHIR has it."""
    addresses = {p.full_url: p.address for p in planned if p.full_url}
    before = {s.address: s for s in fhir_store.addressed(session, [p.address for p in planned if not p.fresh])}
    done = {p.address: p.there for p in planned if p.there is not None}
    todo = [p for p in planned if p.there is None]
    late = {p.address for p in todo if any(CONDITIONAL.fullmatch(target) for target in references(p.resource))}
    for some in ([p for p in todo if p.address not in late], *([p] for p in todo if p.address in late)):
        drafts = [drafted(session, p, addresses, before.get(p.address), writer) for p in some]
        for stored in fhir_store.put_all(session, drafts, writer.source, now):
            done[stored.address] = stored
    return [done[p.address] for p in planned]


def drafted(
    session: Session, planned: Planned, addresses: Mapping[str, str], last: Stored | None, writer: Writer
) -> Draft:
    resource: Json = addressed(session, planned.resource, addresses, writer)
    if writer.source != OWN:
        resource = checked(planned, resource, last, writer)
    return Draft(kind=planned.kind, id=planned.id, resource=resource, fresh=planned.fresh)


def references(value: Any) -> Iterator[str]:
    """Every reference in a resource."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        target = value.get("reference")
        if isinstance(target, str):
            yield target
        for item in value.values():
            yield from references(item)


def checked(planned: Planned, resource: Json, last: Stored | None, writer: Writer) -> Json:
    """What another system may write: valid R4, and nothing that the node itself says. Raises FhirError."""
    wrong = problems(resource)
    if wrong:
        raise FhirError(422, "invalid", f"{planned.kind}: {'; '.join(wrong)}")
    if planned.kind == "Subscription":
        resource = subscriptions.accepted(resource, writer.hooks)
    meta = {"source": f"urn:radnode:posted-by:{writer.source}", **resource.get("meta", {})}
    if last is not None and last.source == OWN:
        meta = resource.get("meta", {})
        if not same(last.body, {**resource, "id": planned.id}):
            raise FhirError(403, "forbidden", "What the node itself reported is changed by nobody else.")
    return {**resource, "meta": meta}


def same(one: Json, other: Json) -> bool:
    def bare(body: Json) -> Json:
        return {**body, "meta": fhir_store.without_version(body.get("meta", {}))}

    return bare(one) == bare(other)


def addressed(session: Session, value: Any, addresses: Mapping[str, str], writer: Writer) -> Any:
    """A resource whose references lead to resources of this store; conditional ones are resolved."""
    if isinstance(value, list):
        return [addressed(session, v, addresses, writer) for v in value]
    if not isinstance(value, dict):
        return value
    made = {k: addressed(session, v, addresses, writer) for k, v in value.items()}
    target = value.get("reference")
    if isinstance(target, str):
        made["reference"] = addresses.get(target) or resolved(session, target, writer)
    return made


def resolved(session: Session, target: str, writer: Writer) -> str:
    conditional = CONDITIONAL.fullmatch(target)
    if conditional:
        found = the_one(session, conditional.group(1), conditional.group(2), writer, {})
        if found is None:
            raise FhirError(412, "not-found", f"Nothing is found by the reference {target}.")
        return found.address
    if target.startswith(URN) and writer.source != OWN:
        raise FhirError(400, "not-found", f"The reference {target} leads to no entry of the transaction.")
    return target


def one(method: str, url: str, resource: Json, **conditions: str) -> Json:
    """A transaction of one entry. conditions: ifNoneExist, ifMatch."""
    request = {"method": method, "url": url, **{k: v for k, v in conditions.items() if v}}
    return {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": resource, "request": request}]}


def responses(written: Sequence[Stored]) -> Json:
    """The transaction-response."""
    entries = [
        {
            "response": {
                "status": "201 Created" if s.created else "200 OK",
                "location": f"{s.address}/_history/{s.version}",
                "etag": f'W/"{s.version}"',
                "lastModified": fhir_store.instant(s.updated_at),
            }
        }
        for s in written
    ]
    return {"resourceType": "Bundle", "type": "transaction-response", "entry": entries}
