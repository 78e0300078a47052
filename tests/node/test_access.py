"""Every route x everybody who may ask: nobody, a reader, an administrator, a token of each scope. No route is left out."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy import select
from support.access import ADMINISTRATOR, READER, People, people, served, sign_in

from radnode.accounts import Role
from radnode.accounts_sessions import OF_ADDRESS
from radnode.accounts_tokens import Scope
from radnode.settings import Settings
from radnode.tables_access import AuditRow
from radnode.web import app
from radnode.web.access import NO_LINE, TABLE, Access, Line, Need, Person
from radnode.web.rate import MOST_ADDRESSES, Rate

VALUES = {
    "study_uid": "1.2.3", "series_uid": "1.2.3", "tracking_uid": "1.2.3", "uid": "1.2.3", "delivery_id": "1", "job_id": "1",
    "name": "sr-1.2.dcm", "kind": "Patient", "resource_id": "a", "version": "1", "path": "a/b/c/d/e",
}  # fmt: skip
REFUSED = frozenset({401, 403})
STREAMS = "/changes"
"""Answers for as long as the page is open: only its refusals are asked for here."""


OWN_REFUSALS = frozenset({"/login", "/first", "/login/oidc", "/login/oidc/back"})
"""Pages for signing in: whoever comes with nothing is refused by the page itself, or led to /login."""


ADMINISTRATORS_ALONE = frozenset(
    {
        "POST /peers",
        "POST /peers/remove",
        "POST /peers/test",
        "POST /destinations/probe",
        "POST /destinations/send-again",
        "POST /rules/try",
        "POST /rules/replay",
        "GET /users",
        "POST /users",
        "POST /users/remove",
        "POST /users/role",
        "POST /users/password",
        "POST /tokens",
        "POST /tokens/revoke",
        "GET /audit",
        "GET /metrics",
        "GET /fhir/AuditEvent",
        "GET /fhir/AuditEvent/{number}",
        "POST /fhir",
        "POST /fhir/",
        "POST /fhir/{kind}",
        "PUT /fhir/{kind}",
        "PUT /fhir/{kind}/{resource_id}",
        "POST /fhir/{path:path}",
        "PUT /fhir/{path:path}",
        "PATCH /fhir/{path:path}",
        "DELETE /fhir/{path:path}",
    }
)
"""Written down by hand, apart from the table that the product decides by: a line of it that is too wide is found here."""
SEARCHES = frozenset({"/fhir/{kind}/_search"})
"""What is asked by POST and changes nothing: a search whose parameters stand in a form."""
READERS_CHANGE = frozenset(
    {
        "/logout",
        "/account",
        "/studies/{study_uid}/rerun",
        "/studies/{study_uid}/retract",
        "/studies/{study_uid}/rulings",
        "/studies/{study_uid}/remark",
        "/studies/{study_uid}/missed",
        "/studies/{study_uid}/missed/undo",
        "/studies/{study_uid}/text",
        "/worklist/{study_uid}/priority",
        "/worklist/{study_uid}/priority/undo",
        "/worklist/{study_uid}/read",
        "/worklist/{study_uid}/read/undo",
        "/upload",
        "/triage/simulation",
        "/triage/simulation/{number}/cancel",
        "/deliveries/{delivery_id}/send-again",
        "/reconcile",
        "/reconcile/fetch",
        "/fetch",
        "/dicom-web/studies",
        "/dicom-web/studies/{study_uid}",
    }
)
"""What a reader may change, by hand as well: a new route that changes something is in one of the two lists."""


@dataclass(frozen=True)
class Route:
    method: str
    path: str

    @property
    def address(self) -> str:
        return re.sub(r"\{(\w+)(?::\w+)?\}", lambda place: VALUES.get(place[1], "1"), self.path)


def routes_of(application: FastAPI) -> Iterator[Route]:
    """Each route and method that the application answers; the folder of static files by one of them."""
    for found in iter_route_contexts(application.routes):
        path = found.path or ""
        for method in sorted(found.methods or ()):
            if method != "HEAD":
                yield Route(method, path)
    yield Route("GET", "/static/style.css")


ROUTES = tuple(routes_of(app.create(Settings())))


def line_of(route: Route) -> Line:
    return Access().line(route.method, route.address)[0]


def test_there_are_routes_to_judge() -> None:
    assert len(ROUTES) > 60
    assert Route("POST", "/studies/{study_uid}/retract") in ROUTES


def test_every_route_has_a_line_and_every_line_a_route() -> None:
    named = {(method, one.path) for one in TABLE for method in one.methods} - {("GET", "/static")}
    there = {(r.method, r.path) for r in ROUTES} - {("GET", "/static/style.css"), ("GET", "/static")}
    assert there - named == set(), "routes without a line in radnode.web.access.TABLE"
    assert named - there == set(), "lines without a route"


def test_each_route_is_judged_by_its_own_line() -> None:
    for route in ROUTES:
        if not route.path.startswith("/static"):
            assert line_of(route).path == route.path, route


def test_a_path_without_a_line_is_for_administrators() -> None:
    assert Access().line("GET", "/new")[0] is NO_LINE
    assert Access().line("DELETE", "/studies/1.2.3")[0] is NO_LINE
    assert not Person(name="rita", role=Role.READER).may(NO_LINE)


def test_what_must_hold_whatever_the_table_says() -> None:
    """Rules that no line may break, written down apart from the table."""
    for one in TABLE:
        changes = one.methods != {"GET"} and one.path not in SEARCHES
        if one.need is Need.PUBLIC:
            assert one.path.startswith(("/static", "/healthz", "/readyz", "/login", "/first", "/fhir/metadata")), one
        if one.path.startswith(("/users", "/tokens", "/audit")) or (changes and one.path.startswith("/peers")):
            assert one.need is Need.ADMINISTRATOR, one
            assert one.scope is None, one
        if "AuditEvent" in one.path or one.scope is Scope.AUDIT_READ:  # the audit names everybody who read anything
            assert (one.need, one.scope, changes) == (Need.ADMINISTRATOR, Scope.AUDIT_READ, False), one
        if one.scope is not None and changes:
            assert one.scope in (Scope.FHIR_WRITE, Scope.DICOM_WRITE), one
        if changes and one.scope is None:
            assert one.kind is not None, one  # a change is always told of
        if not one.path.startswith(("/api", "/fhir", "/dicom-web", "/metrics", "/openapi.json")):
            assert one.scope is None, one  # pages are for people


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    made = people(tmp_path_factory.mktemp("node"))
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def client(here: People) -> Iterator[httpx.Client]:
    with served(here) as made:
        yield made


def asked(client: httpx.Client, route: Route, **headers: str) -> int:
    """The status of the answer. The body is sent empty: whoever is let in is told that it is wrong, and changes nothing."""
    headers |= {"connection": "close"}  # a server that failed may close it anyway
    with client.stream(route.method, route.address, headers=headers, follow_redirects=False) as answer:
        if answer.status_code == 303 and answer.headers["location"].startswith("/login"):
            return 401
        if route.path != STREAMS:
            answer.read()
        return answer.status_code


def wrong(client: httpx.Client, routes: Sequence[Route], person: Person | None, **headers: str) -> list[str]:
    """The routes that were not answered as the table says."""
    found = []
    for route in routes:
        line = line_of(route)
        may = line.need is Need.PUBLIC or (person is not None and person.may(line))
        if may and route.path in (STREAMS, "/logout"):
            continue
        status = asked(client, route, **headers)
        if (status in REFUSED) == may and not (may and route.path in OWN_REFUSALS):
            found.append(f"{route.method} {route.path}: {status}, may {may}")
        if status >= 500:
            found.append(f"{route.method} {route.path}: {status}")
    return found


def test_nobody_gets_in_without_saying_who(client: httpx.Client) -> None:
    client.cookies.clear()
    assert wrong(client, ROUTES, None) == []


def test_a_wrong_token_opens_nothing(client: httpx.Client) -> None:
    client.cookies.clear()
    for route in ROUTES:
        if line_of(route).path not in ("/healthz", "/readyz", "/static"):  # answered to anybody, whatever they show
            status = asked(client, route, authorization="Bearer rn_wrong")
            assert status in (401, 429), route  # the second after OF_ADDRESS wrong ones


def test_wrong_tokens_are_counted_and_a_right_one_still_opens(tmp_path: Path) -> None:
    made = people(tmp_path / "limited")
    with served(made) as client:
        wrong = [
            client.get("/api/worklist", headers={"authorization": f"Bearer rn_{n}"}) for n in range(OF_ADDRESS + 3)
        ]
        assert [a.status_code for a in wrong] == [401] * OF_ADDRESS + [429] * 3
        assert wrong[-1].headers["retry-after"] == "900"
        token = made.tokens[Scope.API_READ]
        assert client.get("/api/worklist", headers={"authorization": f"Bearer {token}"}).status_code == 200
        assert sign_in(client, READER).status_code == 303, "whose token is too old locks out nobody at that address"
    with made.database.reading() as session:
        told = session.scalars(select(AuditRow.action).where(AuditRow.outcome == "failed")).all()
    made.database.close()
    assert told == ["wrong token"]


def test_an_address_that_asks_too_often_has_to_wait_and_others_not() -> None:
    rate = Rate(per_min=3)
    assert [rate.wait_s("a", 60.0 + n) for n in range(4)] == [0, 0, 0, 57]
    assert (rate.wait_s("b", 64.0), rate.wait_s("a", 120.0), Rate(per_min=0).wait_s("a", 1.0)) == (0, 0, 0)
    for n in range(MOST_ADDRESSES + 10):
        rate.wait_s(str(n), 130.0)
    assert len(rate) <= MOST_ADDRESSES + 1


def test_too_many_requests_of_one_address_are_answered_so_but_whether_it_lives_is_always_said(tmp_path: Path) -> None:
    made = people(tmp_path / "hurried", requests_per_min=5)
    with served(made) as client:
        answers = [client.get("/login") for _ in range(12)]
        assert {a.status_code for a in answers} == {200, 429} and client.get("/healthz").status_code == 200
        assert 0 < int(next(a for a in answers if a.status_code == 429).headers["retry-after"]) <= 60
    made.database.close()


@pytest.mark.parametrize("scope", list(Scope))
def test_a_token_may_what_its_scope_says_and_nothing_else(client: httpx.Client, here: People, scope: Scope) -> None:
    client.cookies.clear()
    person = Person(name="token", role=None, scopes=frozenset({scope}), way="token")
    assert wrong(client, ROUTES, person, authorization=f"Bearer {here.tokens[scope]}") == []


@pytest.mark.parametrize(("name", "role"), [(READER, Role.READER), (ADMINISTRATOR, Role.ADMINISTRATOR)])
def test_a_person_may_what_the_role_says_and_nothing_else(client: httpx.Client, name: str, role: Role) -> None:
    client.cookies.clear()
    assert sign_in(client, name).status_code == 303
    assert wrong(client, ROUTES, Person(name=name, role=role)) == []


def test_every_change_is_an_administrators_or_a_readers_by_a_list_apart_from_the_table() -> None:
    there = {f"{r.method} {r.path}" for r in ROUTES}
    assert ADMINISTRATORS_ALONE - there == set(), "no such routes"
    changing = {r for r in ROUTES if r.method != "GET" and r.path not in ("/login", "/first")}
    decided = READERS_CHANGE | SEARCHES
    undecided = {r for r in changing if f"{r.method} {r.path}" not in ADMINISTRATORS_ALONE and r.path not in decided}
    assert undecided == set(), "whose change is this? Put it into one of the lists"


def test_a_reader_is_refused_what_is_an_administrators_by_that_list(client: httpx.Client) -> None:
    client.cookies.clear()
    sign_in(client, READER)
    open_ = {str(r): asked(client, r) for r in ROUTES if f"{r.method} {r.path}" in ADMINISTRATORS_ALONE}
    assert len(open_) >= 25 and {route: status for route, status in open_.items() if status != 403} == {}


@pytest.mark.parametrize("name", [READER, ADMINISTRATOR])
def test_no_change_is_made_with_a_cookie_that_another_site_sent(client: httpx.Client, name: str) -> None:
    client.cookies.clear()
    sign_in(client, name)
    for route in ROUTES:
        if route.method != "GET" and line_of(route).need is not Need.PUBLIC:
            assert asked(client, route, origin="http://evil.example") == 403, route
