"""A FHIR search as SQL: what is asked for is found as FHIR says, or refused; a parameter is never left out in silence.

https://hl7.org/fhir/R4/search.html: values joined by "," mean any of them, parameters given twice mean both.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, false, func, not_, or_, select
from sqlalchemy.orm import Session

from radnode.errors import FhirError
from radnode.fhir_server import store as fhir_store
from radnode.fhir_server.store import Stored
from radnode.tables_fhir import ResourceRow, TermRow
from radnode_fhir.parameters import PARAMETERS, Parameter, parameter
from radnode_fhir.terms import LOCAL, cut, span

Pairs = Sequence[tuple[str, str]]
Condition = ColumnElement[bool]
COUNT, MOST = 100, 1000
UID = re.compile(r"[0-9]+(\.[0-9]+)+")
JSON = frozenset({"json", "application/json", "application/fhir+json", "text/json"})
ESCAPED = re.compile(r"\\([\\$,|])")
"""https://hl7.org/fhir/R4/search.html#escaping: a character of a value that would part it."""
CONTROL = frozenset({"_sort", "_count", "_offset", "_include", "_revinclude", "_format", "_summary", "_total"})
PREFIXES: Mapping[str, Callable[[Any, Any, float, float], Condition]] = {
    "eq": lambda low, high, start, end: and_(low >= start, high <= end),
    "ne": lambda low, high, start, end: or_(low < start, high > end),
    "gt": lambda low, high, start, end: high > end,
    "ge": lambda low, high, start, end: high > start,
    "lt": lambda low, high, start, end: low < start,
    "le": lambda low, high, start, end: low < end,
    "sa": lambda low, high, start, end: low >= end,
    "eb": lambda low, high, start, end: high <= start,
}
"""https://hl7.org/fhir/R4/search.html#prefix: the value is [low, high), what is asked for [start, end)."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of a search. total: of all pages. included: what `_include` and `_revinclude` add."""

    total: int
    count: int
    offset: int
    found: tuple[Stored, ...]
    included: tuple[Stored, ...] = ()


def search(session: Session, kind: str, pairs: Pairs) -> Page:
    """Raises FhirError for a parameter that is not known, or malformed."""
    where = conditions(kind, pairs)
    answerable(pairs)
    total = session.scalar(select(func.count()).select_from(ResourceRow).where(*where)) or 0
    count, offset = number(pairs, "_count", COUNT, MOST), number(pairs, "_offset", 0, None)
    if dict(pairs).get("_summary") == "count":
        count = 0
    query = ordered(select(ResourceRow.id).where(*where), kind, values(pairs, "_sort"))
    keys = session.scalars(query.limit(count).offset(offset)).all() if count else []
    found = tuple(fhir_store.load(session, keys))
    return Page(total=total, count=count, offset=offset, found=found, included=included(session, kind, pairs, found))


def answerable(pairs: Pairs) -> None:
    """Raises FhirError for a form of answer that there is none of here."""
    if not set(values(pairs, "_summary")) <= {"count", "false"}:
        raise FhirError(400, "not-supported", "_summary is count or false here.")
    if not set(values(pairs, "_format")) <= JSON:
        raise FhirError(406, "not-supported", "Answers are application/fhir+json here.")


def matches(session: Session, kind: str, pairs: Pairs, limit: int = 2) -> list[Stored]:
    """The first resources that a search finds, the oldest first: for conditional writes."""
    rows = session.scalars(select(ResourceRow).where(*conditions(kind, pairs)).order_by(ResourceRow.id).limit(limit))
    return [fhir_store.stored(row) for row in rows]


def by_identifier(
    session: Session, kind: str, names: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], list[Stored]]:
    """(system, value) of an identifier -> the resources of one type that have it, the oldest first."""
    keys: dict[int, list[tuple[str, str]]] = defaultdict(list)
    wanted = {(cut(system), cut(value)): (system, value) for system, value in names}
    for some in fhir_store.parts(list(wanted)):
        of_it = (TermRow.name == "identifier", TermRow.value.in_([value for _, value in some]))
        query = select(TermRow.system, TermRow.value, ResourceRow.id).join(
            ResourceRow, TermRow.resource == ResourceRow.id
        )
        for system, value, key in session.execute(query.where(*of_it, ResourceRow.kind == kind, ResourceRow.current)):
            if (system, value) in wanted:
                keys[key].append(wanted[system, value])
    found: dict[tuple[str, str], list[Stored]] = defaultdict(list)
    for some_keys in fhir_store.parts(sorted(keys)):
        for stored in fhir_store.load(session, some_keys):
            for name in keys[stored.key]:
                found[name].append(stored)
    return found


def conditions(kind: str, pairs: Pairs) -> list[Condition]:
    if kind not in PARAMETERS:
        raise FhirError(404, "not-supported", f"Resources of the type {kind} are not kept here.")
    found: list[Condition] = [ResourceRow.kind == kind, ResourceRow.current.is_(True)]
    return found + [condition(kind, name, value) for name, value in pairs if name not in CONTROL]


def condition(kind: str, name: str, value: str) -> Condition:
    """One parameter. Its name may have a modifier (`:not`, `:Type`, `:identifier`) or a chain (`subject:Patient.identifier`)."""
    if name == "_id":
        return ResourceRow.resource_id.in_(each(value))
    if name == "_lastUpdated":
        return or_(*(moment(ResourceRow.updated_at, ResourceRow.updated_at, v) for v in each(value)))
    head, dot, rest = name.partition(".")
    base, _, modifier = head.partition(":")
    known = parameter(kind, base)
    if known is None:
        raise FhirError(400, "not-supported", f"{kind} cannot be searched by {name!r} here.")
    if base == "study" and not dot and UID.fullmatch(value):
        return chained(known, base, "", "identifier", f"urn:dicom:uid|urn:oid:{value}")
    if dot:
        return chained(known, base, modifier, rest, value)
    if known.type == "reference" and modifier == "identifier":
        return chained(known, base, "", "identifier", value)
    if modifier == "not" and known.type == "token":
        return not_(has(base, any_of(known, base, value)))
    if modifier and not (known.type == "reference" and modifier in PARAMETERS):
        raise FhirError(400, "not-supported", f"The modifier in {name!r} is not supported.")
    return has(base, any_of(known, modifier, value))


def has(name: str, wanted: Condition) -> Condition:
    """Those that a term finds, by its index: a search costs what it finds, not what is kept."""
    return ResourceRow.id.in_(select(TermRow.resource).where(TermRow.name == name, wanted).correlate(None))


def any_of(known: Parameter, modifier: str, value: str) -> Condition:
    if known.type == "token":
        return or_(*(token(v) for v in each(value)))
    if known.type == "reference":
        return or_(*(reference(known, modifier, v) for v in each(value)))
    if known.type == "date":
        return or_(*(moment(TermRow.low, TermRow.high, v) for v in each(value)))
    if known.type == "uri":
        return TermRow.value.in_([cut(plain(v)) for v in each(value)])
    return or_(*(TermRow.value.startswith(plain(v).lower(), autoescape=True) for v in each(value)))


def each(value: str) -> list[str]:
    """The values of which any is to be found."""
    return re.split(r"(?<!\\),", value)


def plain(text: str) -> str:
    return ESCAPED.sub(r"\1", text)


def token(value: str) -> Condition:
    *before, code = (plain(part) for part in re.split(r"(?<!\\)\|", value, maxsplit=1))
    bar, system = bool(before), "".join(before)
    same = TermRow.value == cut(code)
    if not bar:
        return same
    return and_(TermRow.system == cut(system), same) if code else TermRow.system == cut(system)


def reference(known: Parameter, modifier: str, value: str) -> Condition:
    value = plain(value)
    local = LOCAL.fullmatch(value)
    if local:
        return and_(TermRow.system == local.group(1), TermRow.value == local.group(2))
    if ":" in value or "/" in value:
        return and_(TermRow.system == "", TermRow.value == cut(value))
    types = [modifier] if modifier in PARAMETERS else list(known.targets)
    return and_(TermRow.value == cut(value), TermRow.system.in_(types) if types else TermRow.system != "")


def moment(low: Any, high: Any, value: str) -> Condition:
    prefix = value[:2] if value[:2] in PREFIXES else "eq"
    wanted = span(value.removeprefix(prefix))
    if wanted is None:
        raise FhirError(400, "value", f"{value!r} is no date.")
    return PREFIXES[prefix](low, high, *wanted)


def chained(known: Parameter, base: str, modifier: str, name: str, value: str) -> Condition:
    """By what the reference points to; for its identifier also a reference by identifier alone counts."""
    if known.type != "reference" or (modifier and modifier not in PARAMETERS):
        raise FhirError(400, "not-supported", f"{base!r} is no reference that can be followed.")
    kinds = [k for k in ([modifier] if modifier else known.targets or PARAMETERS) if parameter(k, name.split(".")[0])]
    if not kinds:
        raise FhirError(400, "not-supported", f"Nothing that {base!r} points to can be searched by {name!r}.")
    found = [has(base, and_(TermRow.system == k, TermRow.value.in_(ids(k, name, value)))) for k in kinds]
    if name == "identifier":
        found.append(has(f"{base}:identifier", or_(*(token(v) for v in each(value)))))
    return or_(false(), *found)


def ids(kind: str, name: str, value: str) -> Select[str]:
    """The ids of the resources of one type that a parameter finds, as a query within another one."""
    head, dot, _ = name.partition(".")
    known = parameter(kind, head)
    if dot or known is None:
        raise FhirError(400, "not-supported", "A chain has one link here.")
    wanted = (TermRow.name == head, any_of(known, "", value))
    target = select(ResourceRow.resource_id).join(TermRow, TermRow.resource == ResourceRow.id)
    return target.where(ResourceRow.kind == kind, ResourceRow.current, *wanted).correlate(None)


def ordered(query: Select[int], kind: str, sorts: Sequence[str]) -> Select[int]:
    """By `_sort`; the newest first without it, and among equals."""
    for name in (n for s in sorts for n in s.split(",")):
        query, key = with_key(query, kind, name.removeprefix("-"))
        query = query.order_by((key.desc() if name.startswith("-") else key.asc()).nulls_last())
    return query.order_by(ResourceRow.updated_at.desc(), ResourceRow.id.desc())


def with_key(query: Select[int], kind: str, name: str) -> tuple[Select[int], Any]:
    """The query with what it is sorted by: the least of the values that a resource has. Raises FhirError."""
    if name in ("_lastUpdated", "_id"):
        return query, ResourceRow.updated_at if name == "_lastUpdated" else ResourceRow.resource_id
    known = parameter(kind, name)
    if known is None:
        raise FhirError(400, "not-supported", f"{kind} cannot be sorted by {name!r}.")
    least = func.min(TermRow.low if known.type == "date" else TermRow.value).label("least")
    keys = select(TermRow.resource, least).where(TermRow.name == name).group_by(TermRow.resource).subquery()
    return query.outerjoin(keys, keys.c.resource == ResourceRow.id), keys.c.least


def included(session: Session, kind: str, pairs: Pairs, found: Sequence[Stored]) -> tuple[Stored, ...]:
    there = {s.address for s in found}
    keys = [s.key for s in found]
    wanted: dict[str, Stored] = {}
    for spec in values(pairs, "_include"):
        of, name, target = include(spec)
        if of != kind or not keys:
            continue
        query = select(TermRow.system, TermRow.value).where(TermRow.resource.in_(keys), TermRow.name == name)
        query = query.where(TermRow.system == target if target else TermRow.system != "")
        addresses = [f"{k}/{i}" for k, i in session.execute(query.order_by(TermRow.id))]
        wanted |= {s.address: s for s in fhir_store.addressed(session, addresses)}
    for spec in values(pairs, "_revinclude"):
        of, name, _ = include(spec)
        for stored in found:
            pair = (name, stored.address)
            wanted |= {s.address: s for s in matches(session, of, [pair], MOST)}
    return tuple(s for address, s in wanted.items() if address not in there)


def include(spec: str) -> tuple[str, str, str]:
    kind, _, rest = spec.partition(":")
    name, _, target = rest.partition(":")
    known = parameter(kind, name) if kind in PARAMETERS else None
    if known is None or known.type != "reference":
        raise FhirError(400, "not-supported", f"{spec!r} cannot be included.")
    return kind, name, target


def values(pairs: Pairs, name: str) -> list[str]:
    return [v for n, v in pairs if n == name]


def number(pairs: Pairs, name: str, default: int, most: int | None) -> int:
    given = values(pairs, name)
    if not given:
        return default
    if not re.fullmatch(r"\d{1,9}", given[-1]):
        raise FhirError(400, "value", f"{name} is a whole number.")
    return int(given[-1]) if most is None else min(int(given[-1]), most)
