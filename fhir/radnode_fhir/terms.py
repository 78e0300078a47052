"""A resource as search sees it: one Term for each value of each parameter (https://hl7.org/fhir/R4/search.html)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from radnode_fhir.parameters import COMMON, PARAMETERS, Parameter

FIRST, LAST = -1e15, 1e15
"""Of a Period without start or end, in epoch seconds."""
VALUE_CHARACTERS = 255
LOCAL = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]+)?")
DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?")


@dataclass(frozen=True, kw_only=True)
class Term:
    """system, value: of a token; type and id of a local reference, "" and the address of another one.

    low, high: epoch seconds of a date, `high` just after it. A reference by identifier has a name that ends in ":identifier".
    """

    name: str
    system: str = ""
    value: str = ""
    low: float | None = None
    high: float | None = None


def terms(resource: Mapping[str, Any]) -> list[Term]:
    """Every value that some parameter of this type finds. What is malformed is left out: checks are not made here."""
    known = {**PARAMETERS[resource["resourceType"]], **COMMON}
    found = (t for name, p in known.items() for path in p.paths for v in at(resource, path) for t in made(name, p, v))
    return list(dict.fromkeys(found))


def at(node: Any, path: str) -> Iterator[Any]:
    """Every value at a path; lists are gone through."""
    if isinstance(node, list):
        for item in node:
            yield from at(item, path)
    elif not path:
        yield node
    elif isinstance(node, dict):
        first, _, rest = path.partition(".")
        if first in node:
            yield from at(node[first], rest)


def made(name: str, parameter: Parameter, value: Any) -> Iterator[Term]:
    if parameter.type == "token":
        for system, code in tokens(value):
            yield Term(name=name, system=cut(system), value=cut(code))
    elif parameter.type == "reference":
        yield from references(name, value)
    elif parameter.type == "date":
        yield from dates(name, value)
    else:
        for text in strings(value):
            yield Term(name=name, value=cut(text if parameter.type == "uri" else text.lower()))


def tokens(value: Any) -> Iterator[tuple[str, str]]:
    """(system, code) of a code, boolean, Coding, CodeableConcept or Identifier."""
    if isinstance(value, bool):
        yield "", str(value).lower()
    elif isinstance(value, str):
        yield "", value
    elif isinstance(value, dict) and "coding" in value:
        for coding in value["coding"]:
            yield from tokens(coding)
    elif isinstance(value, dict):
        code = value.get("code", value.get("value"))
        if isinstance(code, str):
            yield str(value.get("system", "")), code


def references(name: str, value: Any) -> Iterator[Term]:
    if not isinstance(value, dict):
        return
    if isinstance(value.get("reference"), str):
        local = LOCAL.fullmatch(value["reference"])
        kind, target = local.groups() if local else ("", value["reference"])
        yield Term(name=name, system=kind, value=cut(target))
    for system, code in tokens(value.get("identifier", {})):
        yield Term(name=f"{name}:identifier", system=cut(system), value=cut(code))


def dates(name: str, value: Any) -> Iterator[Term]:
    if isinstance(value, dict):
        start, end = span(str(value.get("start", ""))), span(str(value.get("end", "")))
        if start or end:
            yield Term(name=name, low=start[0] if start else FIRST, high=end[1] if end else LAST)
    elif found := span(str(value)):
        yield Term(name=name, low=found[0], high=found[1])


def span(text: str) -> tuple[float, float] | None:
    """A FHIR date, dateTime or instant as [from, to) in epoch seconds; without a zone it is UTC. None for anything else."""
    parts = DATE.fullmatch(text)
    if parts is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = parts.groups()
    try:
        iso = f"{year}-{month or '01'}-{day or '01'}T{hour or '00'}:{minute or '00'}:{second or '00'}{zone or 'Z'}"
        start = datetime.fromisoformat(iso).astimezone(UTC)
        begin = start.timestamp() + (float(fraction) if fraction else 0.0)
        if hour is not None:
            return begin, begin + (0.001 if fraction else 1.0 if second else 60.0)
        return begin, after(start, month, day).timestamp()
    except (ValueError, OverflowError):
        return None


def after(start: datetime, month: str | None, day: str | None) -> datetime:
    """The first moment after the day, month or year that begins at `start`."""
    if day:
        return start + timedelta(days=1)
    if month:
        return (start + timedelta(days=32)).replace(day=1)
    return start.replace(year=start.year + 1)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)


def cut(text: str) -> str:
    return text[:VALUE_CHARACTERS]
