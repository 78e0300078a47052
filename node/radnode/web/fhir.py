"""The node's FHIR R4 endpoint: read, history, search, and what other systems may write (https://hl7.org/fhir/R4/http.html)."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from radnode import audit_search
from radnode.database import Database
from radnode.errors import FhirError
from radnode.fhir_server import search as fhir_search
from radnode.fhir_server import store as fhir_store
from radnode.fhir_server import subjects as fhir_subjects
from radnode.fhir_server import transaction as transactions
from radnode.fhir_server.search import Page, Pairs
from radnode.fhir_server.store import Json, Stored
from radnode.fhir_server.transaction import Writer
from radnode.settings import Settings
from radnode.web.fhir_answer import UNFIT, answer, guarded, handed_over, said
from radnode.web.fhir_capability import capability

LARGEST = 32 << 20
"""Bytes of one request: a report with a PDF has some hundred thousand."""


def router(database: Database, settings: Settings) -> APIRouter:
    made = APIRouter(tags=["fhir"])
    reading(made, database)
    writing(made, database, settings)

    @made.api_route("/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    @guarded
    def other(request: Request, path: str) -> Response:
        raise FhirError(405, "not-supported", f"{request.method} {path} is not supported: see metadata.")

    return made


def reading(made: APIRouter, database: Database) -> None:
    @made.get("/metadata")
    @guarded
    def metadata(request: Request) -> Response:
        """The CapabilityStatement."""
        return answer(capability(base(request)))

    @made.get(f"/{audit_search.KIND}")
    @guarded
    def audit(request: Request) -> Response:
        """Who saw, changed and sent what, the newest first."""
        with database.reading() as session:
            page = audit_search.search(session, request.query_params.multi_items())
        return answer(searchset(request, audit_search.KIND, page, request.query_params.multi_items()))

    @made.get(f"/{audit_search.KIND}/{{number}}")
    @guarded
    def audit_event(request: Request, number: str) -> Response:
        with database.reading() as session:
            return handed_over(there(audit_search.read(session, number), audit_search.KIND))

    @made.get("/{kind}")
    @guarded
    def search(request: Request, kind: str) -> Response:
        """A searchset, by the parameters that the CapabilityStatement names."""
        pairs = ours(request, request.query_params.multi_items())
        return answer(searchset(request, kind, searched(request, database, kind, pairs), pairs))

    @made.post("/{kind}/_search")
    @guarded
    async def search_by_form(request: Request, kind: str) -> Response:
        """The same by a form, so that what names a patient stands in no address (http.html#search)."""
        pairs = ours(request, [*request.query_params.multi_items(), *await form(request)])
        return answer(
            searchset(request, kind, await run_in_threadpool(searched, request, database, kind, pairs), pairs)
        )

    @made.get("/{kind}/{resource_id}")
    @guarded
    def read(request: Request, kind: str, resource_id: str) -> Response:
        with database.reading() as session:
            found = there(fhir_store.get(session, kind, resource_id), kind)
            concerning(request, session, [found])
            return handed_over(found)

    @made.get("/{kind}/{resource_id}/_history")
    @guarded
    def history(request: Request, kind: str, resource_id: str) -> Response:
        """Every version, the newest first."""
        with database.reading() as session:
            found = fhir_store.history(session, kind, resource_id)
            concerning(request, session, found)
        there(found[0] if found else None, kind)
        return answer(
            {"resourceType": "Bundle", "type": "history", "total": len(found), "entry": versions(request, found)}
        )

    @made.get("/{kind}/{resource_id}/_history/{version}")
    @guarded
    def version(request: Request, kind: str, resource_id: str, version: str) -> Response:
        number = int(version) if version.isdecimal() and len(version) < 9 else -1
        with database.reading() as session:
            found = there(fhir_store.get(session, kind, resource_id, number), kind)
            concerning(request, session, [found])
            return handed_over(found)


def concerning(request: Request, session: Session, found: Sequence[Stored]) -> None:
    """For the audit: of which study and patient it is that is read, where it is of one."""
    if found:
        request.state.study_uid, request.state.patient_id = fhir_subjects.subjects(session, found)


def writing(made: APIRouter, database: Database, settings: Settings) -> None:
    async def perform(request: Request, bundle: Callable[[Json], Json]) -> list[Stored]:
        body = relative(await content(request), f"{base(request)}/")
        reads = "final-report" in settings.reading.read_by
        writer = Writer(source=who(request), hooks=settings.fhir.hooks, reads=reads)
        return await run_in_threadpool(written, database, bundle(body), writer)

    def single(request: Request, url: str, **conditions: str) -> Awaitable[list[Stored]]:
        return perform(request, lambda body: transactions.one(request.method, url, body, **conditions))

    @made.post("")
    @made.post("/")
    @guarded
    async def transaction(request: Request) -> Response:
        """A transaction Bundle: all of it, or nothing."""
        return answer(transactions.responses(await perform(request, lambda body: body)))

    @made.post("/{kind}")
    @guarded
    async def create(request: Request, kind: str) -> Response:
        (stored,) = await single(request, kind, ifNoneExist=request.headers.get("if-none-exist", ""))
        return said(stored, base(request))

    @made.put("/{kind}")
    @guarded
    async def update_by_condition(request: Request, kind: str) -> Response:
        tag = request.headers.get("if-match", "")
        (stored,) = await single(request, f"{kind}?{request.url.query}", ifMatch=tag)
        return said(stored, base(request))

    @made.put("/{kind}/{resource_id}")
    @guarded
    async def update(request: Request, kind: str, resource_id: str) -> Response:
        tag = request.headers.get("if-match", "")
        (stored,) = await single(request, f"{kind}/{resource_id}", ifMatch=tag)
        return said(stored, base(request))


def ours(request: Request, pairs: Pairs) -> list[tuple[str, str]]:
    """What is asked for, with the addresses of this endpoint as it keeps them."""
    return [(name, value.removeprefix(f"{base(request)}/")) for name, value in pairs]


def relative(value: Any, here: str) -> Any:
    """The same, in which references to resources of this endpoint say so: it keeps them without its own address."""
    if isinstance(value, list):
        return [relative(v, here) for v in value]
    if not isinstance(value, dict):
        return value
    made = {k: relative(v, here) for k, v in value.items()}
    target = made.get("reference")
    return {**made, "reference": target.removeprefix(here)} if isinstance(target, str) else made


def searched(request: Request, database: Database, kind: str, pairs: Pairs) -> Page:
    with database.reading() as session:
        page = fhir_search.search(session, kind, pairs)
        concerning(request, session, [*page.found, *page.included])
        return page


async def form(request: Request) -> list[tuple[str, str]]:
    """The fields of a form. Raises FhirError for any other body."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise FhirError(415, "not-supported", "_search takes application/x-www-form-urlencoded.")
    try:
        found = parse_qsl((await whole(request)).decode(), keep_blank_values=True, max_num_fields=1000)
    except ValueError as e:
        raise FhirError(400, "structure", "The body is no form in UTF-8.") from e
    if any("\0" in value for pair in found for value in pair):
        raise FhirError(400, "value", UNFIT)
    return found


def written(database: Database, bundle: Json, writer: Writer) -> list[Stored]:
    try:
        with database.transaction() as session:
            return transactions.transact(session, bundle, writer, time.time())
    except (IntegrityError, OperationalError) as e:
        raise FhirError(503, "transient", "The store is busy; the same request may be sent again.") from e


async def content(request: Request) -> Json:
    """The body as an object. Raises FhirError."""
    body = await whole(request)
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as e:
        raise FhirError(400, "structure", f"The body is no JSON: {e}.") from e
    if b"\\u0000" in body and holds_nul(found):
        raise FhirError(400, "value", UNFIT)  # datatypes.html#string: no such character
    if not isinstance(found, dict):
        raise FhirError(400, "structure", "The body is no JSON object.")
    return found


def holds_nul(value: Any) -> bool:
    """Whether any text in it has a NUL character. However deep it is nested."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str) and "\0" in one:
            return True
        left += [*one, *one.values()] if isinstance(one, dict) else one if isinstance(one, list) else []
    return False


async def whole(request: Request) -> bytes:
    """The body. Raises FhirError where it is too long."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise FhirError(413, "too-long", f"A request has {LARGEST >> 20} MB at most.")
    return bytes(body)


def who(request: Request) -> str:
    """Who writes, for the record: the person or the token, else the address."""
    account = request.scope.get("state", {}).get("person")
    address = request.client.host if request.client else "unknown"
    return str(account or address)[:128]


def there(stored: Stored | None, kind: str) -> Stored:
    if stored is None:
        raise FhirError(404, "not-found", f"There is no {kind} of this id or version.")
    return stored


def base(request: Request) -> str:
    return str(request.base_url) + "fhir"


def searchset(request: Request, kind: str, page: Page, pairs: Pairs) -> Json:
    """pairs: what was asked for. The links are addresses, as FHIR has it, also where a form asked."""
    entries = [entry(request, s, "match") for s in page.found] + [entry(request, s, "include") for s in page.included]
    asked = urlencode(pairs)
    links = [{"relation": "self", "url": f"{base(request)}/{kind}{'?' if asked else ''}{asked}"}]
    for relation, offset in beside(page):
        others = [(n, v) for n, v in pairs if n not in ("_offset", "_count")]
        query = urlencode([*others, ("_count", page.count), ("_offset", offset)])
        links.append({"relation": relation, "url": f"{base(request)}/{kind}?{query}"})
    made: Json = {"resourceType": "Bundle", "type": "searchset", "total": page.total, "link": links}
    return {**made, "entry": entries} if entries else made


def beside(page: Page) -> list[tuple[str, int]]:
    """The pages around this one, each with its offset."""
    if page.count == 0:
        return []
    made = [("first", 0)]
    if page.offset > 0:
        made.append(("previous", max(0, page.offset - page.count)))
    if page.offset + page.count < page.total:
        made.append(("next", page.offset + page.count))
    return made


def entry(request: Request, stored: Stored, mode: str) -> Json:
    return {"fullUrl": f"{base(request)}/{stored.address}", "resource": stored.resource, "search": {"mode": mode}}


def versions(request: Request, found: Sequence[Stored]) -> list[dict[str, Any]]:
    return [
        {
            "fullUrl": f"{base(request)}/{s.address}",
            "resource": s.resource,
            "request": {"method": "PUT", "url": s.address},
            "response": {
                "status": "201" if s.version == 1 else "200",
                "etag": f'W/"{s.version}"',
                "lastModified": fhir_store.instant(s.updated_at),
            },
        }
        for s in found
    ]
