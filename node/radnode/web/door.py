"""Asks who is there before anything else happens, lets in by the table in `access`, and tells the audit.

Four ways in: a session cookie, a bearer token, the headers of a proxy that asked already, and, where nobody has to sign
in, sitting at this machine. Whoever was shown a patient's data stands in the audit before the first byte leaves.
"""

import ipaddress
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from urllib.parse import quote, urlsplit

from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from radnode import accounts, accounts_sessions, accounts_tokens, audit
from radnode.accounts import Role
from radnode.accounts_sessions import Limits
from radnode.audit import Act, Kind, Outcome
from radnode.database import Database
from radnode.settings import Web
from radnode.settings_access import LOOPBACK
from radnode.web.access import Access, Line, Need, Person
from radnode.web.i18n import mark
from radnode.web.rate import Rate

COOKIE, SECURE_COOKIE = "radnode", "__Host-radnode"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
BY_ITSELF = ("/fragments/", "/changes")
"""What an open page asks by itself: no sign that somebody is there."""
MACHINES = ("/api/", "/fhir", "/dicom-web/", "/metrics", "/openapi.json", "/fragments/", "/changes")
"""Answered with 401 rather than with the page to sign in on."""
FORWARDED = ("x-forwarded-for", "x-forwarded-host", "forwarded", "via")
AGAIN_S = 600.0
"""That a person looked at the same thing again is told after this long."""
OPEN = Person(name="", role=Role.ADMINISTRATOR, way="machine")
AT_THIS_MACHINE = "somebody at this machine"
ITSELF = frozenset({Kind.LOG_IN, Kind.LOG_OUT})
"""What the pages for signing in write themselves."""
SHOWN = frozenset({Kind.SEEN, Kind.LISTED, Kind.EXPORTED, Kind.AUDIT})
UNASKED = frozenset({"/healthz", "/readyz", "/static"})
"""What is answered without a look into the database, which may be what does not answer."""
MAY_NOT = mark("You may not do this.")
SIGNED_OUT = mark("You are signed out: nothing was changed.")
FROM_ELSEWHERE = mark("Only a page of this node may change anything here.")
CHALLENGE = 'Bearer realm="radnode"'
MOST_TOLD = 10_000
PERSON: ContextVar[Person | None] = ContextVar("person", default=None)
"""Who asked for what is being answered."""
Refuse = Callable[[Request, int, str], Response]
"""The answer that refuses with one sentence, under a status."""


class Door:
    """ASGI middleware. refuse: how one who is known and may not is told so."""

    def __init__(self, app: ASGIApp, web: Web, database: Database, refuse: Refuse) -> None:
        self.app = app
        self._refuse = refuse
        self._web = web
        self._database = database
        self._access = Access()
        self._told = Told()
        self._rate = Rate(web.requests_per_min)
        self._loopback = web.host in LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        line, places = self._access.line(scope["method"], scope["path"])
        if line.path in UNASKED:  # also while every thread waits for a database that does not answer
            person, answer = self._decide(scope, headers, line)
        else:
            person, answer = await run_in_threadpool(self._decide, scope, headers, line)
        if answer is not None:
            await answer(scope, receive, send)
            return
        name = "" if person is None else person.name
        scope.setdefault("state", {}).update(person=name, asking=person)
        act = self._act(scope, line, places, person)
        mine = PERSON.set(person)
        try:
            if line.kind in ITSELF or line.need is Need.PUBLIC:
                await self.app(scope, receive, send)
            elif scope["method"] in SAFE_METHODS:
                await self.app(scope, receive, self._telling(send, act, scope) if line.kind in SHOWN else send)
            elif line.kind is Kind.RECEIVED:  # its rows are written by the store, many requests in one transaction
                await run_in_threadpool(self._tell, act)
                await self.app(scope, receive, send)
            else:
                with audit.acting(act):
                    await self.app(scope, receive, send)
        finally:
            PERSON.reset(mine)

    def _decide(self, scope: Scope, headers: Headers, line: Line) -> tuple[Person | None, Response | None]:
        """Who asks, and the answer to one who may not come in."""
        problem = self._forwarded(scope, headers)
        if problem:
            return None, PlainTextResponse(problem, status_code=403)
        if line.path in UNASKED:
            return None, None
        wait_s = self._rate.wait_s(address_of(scope), time.monotonic())
        if wait_s:
            return None, too_many("This address asks too often.", wait_s)
        person, wrong_token = self._who(scope, headers)
        if wrong_token:
            return None, self._wrong_token(address_of(scope))
        if line.need is Need.PUBLIC:
            return person, None
        if person is None:
            return None, self._sign_in_first(scope, headers)
        if person.way == "session" and scope["method"] not in SAFE_METHODS and not from_own_page(headers):
            return None, self._turned_away(scope, person, FROM_ELSEWHERE)
        if not person.may(line):
            self._refused(scope, person)
            return None, self._turned_away(scope, person, MAY_NOT)
        return person, None

    def _turned_away(self, scope: Scope, person: Person, sentence: str) -> Response:
        mine = PERSON.set(person)
        try:
            return self._refuse(Request(scope), 403, sentence)
        finally:
            PERSON.reset(mine)

    def _forwarded(self, scope: Scope, headers: Headers) -> str:
        """Put the caller's own address and scheme in place of the proxy's; why it may not pass, or ""."""
        client = scope["client"][0] if scope.get("client") else ""
        if not self._web.behind_proxy:
            strange = self._loopback and any(name in headers for name in FORWARDED)
            return (
                "A proxy stands before this node, and its settings do not say so (`behind_proxy`)." if strange else ""
            )
        if not is_among(client, self._web.proxy_addresses):
            return "Call this node by its proxy." if self._web.login == "off" else ""
        scope["client"] = (last_said(headers, "x-forwarded-for") or client, 0)
        if last_said(headers, "x-forwarded-proto").lower() == "https":
            scope["scheme"] = "https"
        return ""

    def _who(self, scope: Scope, headers: Headers) -> tuple[Person | None, bool]:
        """The person or machine, and whether it showed a token that is none."""
        now = time.time()
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            token = accounts_tokens.look(self._database, secret.strip(), now)
            return (None, True) if token is None else (
                Person(name=f"token {token.name}", role=None, scopes=token.scopes, way="token"), False,
            )  # fmt: skip
        if self._web.login == "off":
            return self._of_proxy(headers), False
        secret = cookie_of(headers)
        if secret:
            active = not scope["path"].startswith(BY_ITSELF)
            found = accounts_sessions.look(self._database, secret, limits(self._web), now, active=active)
            if found is not None:
                return Person(name=found.name, role=found.role), False
        return (OPEN if self.is_open() else None), False

    def _wrong_token(self, address: str) -> Response:
        """Counted as failed sign-ins are. A right token is not refused for it: another machine may share the address."""
        with self._database.transaction() as session:
            counted = accounts_sessions.wrong_token(session, address, time.time())
        if not counted:
            return too_many("There were too many wrong tokens.", int(accounts_sessions.WINDOW_S))
        act = Act(who="unknown", address=address, kind=Kind.LOG_IN, action="wrong token", outcome=Outcome.FAILED)
        self._tell(act)
        return unauthorized("This token is not known, was revoked, or is too old.")

    def _of_proxy(self, headers: Headers) -> Person | None:
        """Who a proxy says is there. Nobody when one of its headers came twice: the other one may be the caller's own."""
        name = headers.get(self._web.proxy_user_header, "").strip()
        said = (self._web.proxy_user_header, self._web.proxy_groups_header)
        if not name or any(len(headers.getlist(header)) > 1 for header in said):
            return None
        groups = {g.strip() for g in headers.get(self._web.proxy_groups_header, "").replace(";", ",").split(",")}
        administers = bool(groups & set(self._web.proxy_administrators))
        return Person(name=name[:128], role=Role.ADMINISTRATOR if administers else Role.READER, way="proxy")

    def is_open(self) -> bool:
        """Whether nobody has to sign in: on a loopback address, by the settings, and before there is an account."""
        if self._web.login != "auto" or not self._loopback or self._web.behind_proxy:
            return False
        with self._database.reading() as session:
            return not accounts.any_account(session)

    def _sign_in_first(self, scope: Scope, headers: Headers) -> Response:
        path = scope["path"]
        if self._web.login == "off":
            return PlainTextResponse("The proxy before this node does not say who asks.", status_code=401)
        if path.startswith(MACHINES) or (
            scope["method"] not in SAFE_METHODS and "text/html" not in headers.get("accept", "")
        ):
            return unauthorized("Sign in, or show a token.")
        if scope["method"] not in SAFE_METHODS:
            answer = self._refuse(Request(scope), 401, SIGNED_OUT)
            answer.headers["www-authenticate"] = CHALLENGE
            return answer
        return RedirectResponse("/login" if path == "/" else f"/login?next={quote(path)}", status_code=303)

    def _act(self, scope: Scope, line: Line, places: dict[str, str], person: Person | None) -> Act:
        asked = scope["query_string"].decode("latin-1") if line.kind is Kind.LISTED else ""
        return Act(
            who=(person.name if person is not None else "") or AT_THIS_MACHINE,
            role=str(person.role or "") if person is not None else "",
            address=address_of(scope),
            kind=line.kind or Kind.CHANGED,
            action=f"{scope['method']} {line.path or scope['path']}",
            study_uid=places.get("study_uid", ""),
            detail=scope["path"] + (f"?{asked}" if asked else ""),
        )

    def _telling(self, send: Send, act: Act, scope: Scope) -> Send:
        """Sends only after the audit has the row of what is shown; a failure to write it is a failure to show.

        Where the address names no study, the route says whose it was, as `study_uid` and `patient_id` of the request's state.
        """

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start" and 200 <= message["status"] < 300:
                of_it, patient = (str(scope["state"].get(name, "")) for name in ("study_uid", "patient_id"))
                whole = replace(act, study_uid=act.study_uid or of_it, patient_id=act.patient_id or patient)
                await run_in_threadpool(self._tell, whole)
            await send(message)

        return telling

    def _tell(self, act: Act) -> None:
        if not self._told.is_new(act):
            return
        with self._database.transaction() as session:
            audit.note(session, act)
        self._told.remember(act)

    def _refused(self, scope: Scope, person: Person) -> None:
        """A person or machine that is known asked for more than it may."""
        act = Act(
            who=person.name, role=str(person.role or ""), address=address_of(scope),
            kind=Kind.SECURITY, action=f"{scope['method']} refused", detail=scope["path"], outcome=Outcome.REFUSED,
        )  # fmt: skip
        self._tell(act)


class Told:
    """What was told of whom in the last AGAIN_S. Safe among threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at: dict[tuple[str, ...], float] = {}

    def is_new(self, act: Act) -> bool:
        with self._lock:
            return time.monotonic() - self._at.get(key_of(act), float("-inf")) >= AGAIN_S

    def remember(self, act: Act) -> None:
        now = time.monotonic()
        with self._lock:
            if len(self._at) > MOST_TOLD:
                self._at = {k: at for k, at in self._at.items() if now - at < AGAIN_S}
            self._at[key_of(act)] = now


def key_of(act: Act) -> tuple[str, ...]:
    """A study's pages are one thing; each object, report or list is one of its own."""
    what = act.study_uid if act.study_uid and act.study_uid in act.detail else act.detail
    return (act.who, act.address, what, act.kind, act.outcome)


def limits(web: Web) -> Limits:
    return Limits(idle_s=web.session_idle_min * 60, whole_s=web.session_hours * 3600)


def address_of(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""


def too_many(sentence: str, wait_s: int) -> Response:
    return JSONResponse({"detail": sentence}, 429, headers={"retry-after": str(wait_s)})


def unauthorized(sentence: str) -> Response:
    return JSONResponse({"detail": sentence}, 401, headers={"www-authenticate": CHALLENGE})


def cookie_of(headers: Headers) -> str:
    """The session's secret, "" without one. Another system's odd cookie on the same domain takes nothing away (RFC 6265 5.4)."""
    found = cookie_parser(headers.get("cookie", ""))
    return found.get(SECURE_COOKIE) or found.get(COOKIE, "")


def last_said(headers: Headers, name: str) -> str:
    """The last value of all lines of a header: what the proxy itself added, on the caller's line (nginx) or below it (HAProxy)."""
    return ",".join(headers.getlist(name)).rpartition(",")[2].strip()


def from_own_page(headers: Headers) -> bool:
    """Whether a browser says that a page of this node sent this (Fetch Metadata, RFC 6454). It says so or it is not."""
    site = headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc == headers.get("host", "")
    return site == "same-origin"


def is_among(address: str, networks: Sequence[str]) -> bool:
    try:
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(n, strict=False) for n in networks)
    except ValueError:
        return False
