"""Signing in and out, one's own password, and the first administrator. Passwords and tokens are never in an address."""

import time
from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from radnode import accounts, accounts_sessions, accounts_tokens, audit
from radnode.accounts import Role
from radnode.audit import Act, Kind, Outcome
from radnode.database import Database
from radnode.errors import RefusedError, as_sentence
from radnode.settings import Settings
from radnode.web.door import COOKIE, SECURE_COOKIE, cookie_of, limits
from radnode.web.views import Render

Text = Annotated[str, Form(max_length=512)]
WAIT_S = str(int(accounts_sessions.WINDOW_S))


def login_pages(made: APIRouter, render: Render, settings: Settings, database: Database) -> None:
    def page(status: int = 200, problem: str = "", onward: str = "/", name: str = "") -> Response:
        return render(
            "login.html", "Sign in", "login", status,
            typed=name, problem=problem, onward=onward, provider=bool(settings.oidc.issuer), sentence="",
        )  # fmt: skip

    @made.get("/login")
    def ask(next: str = "/") -> Response:  # noqa: A002  stands in the address
        with database.reading() as session:
            if not accounts.any_account(session) and not settings.oidc.issuer:
                return RedirectResponse("/first", status_code=303)
        return page(onward=own_path(next))

    def must_wait(name: str, address: str) -> bool:
        with database.reading() as session:
            return accounts_sessions.must_wait(session, name, address, time.time())

    @made.post("/login")
    def sign_in(request: Request, name: Text = "", password: Text = "", onward: Text = "/") -> Response:
        now, address, name = time.time(), address_of(request), name.strip()
        waiting = must_wait(name, address)
        right = not waiting and accounts.is_password(database, name, password)
        if waiting or (right and must_wait(name, address)):  # others that were tried meanwhile count as well
            answer = page(
                429, "There were too many failed attempts: wait a quarter of an hour.", own_path(onward), name
            )
            answer.headers["retry-after"] = WAIT_S
            return answer
        if not right:
            with database.transaction() as session:
                known = name if accounts.find(session, name) else "unknown"
                accounts_sessions.failed(session, name, address, now)
                audit.note(session, signed_in(known, address, Outcome.FAILED))
            return page(401, "This name and password do not belong together.", own_path(onward), name)
        return begin(request, settings, database, name, own_path(onward))

    @made.post("/logout")
    def sign_out(request: Request) -> Response:
        with database.transaction() as session:
            accounts_sessions.end(session, cookie_of(request.headers))
            name = str(getattr(request.state, "person", ""))
            audit.note(session, Act(who=name, address=address_of(request), kind=Kind.LOG_OUT, action="signed out"))
        answer = RedirectResponse("/login", status_code=303)
        for cookie, secure in ((COOKIE, False), (SECURE_COOKIE, True)):
            answer.delete_cookie(cookie, path="/", httponly=True, secure=secure, samesite="lax")
        return answer


def own_pages(made: APIRouter, render: Render, settings: Settings, database: Database) -> None:
    def page(status: int = 200, problem: str = "", sentence: str = "") -> Response:
        return render("account.html", "Your account", "account", status, problem=problem, sentence=sentence)

    @made.get("/account")
    def own() -> Response:
        return page()

    @made.post("/account")
    def change(request: Request, before: Text = "", password: Text = "", again: Text = "") -> Response:
        name, address, now = str(getattr(request.state, "person", "")), address_of(request), time.time()
        with database.reading() as session:
            known = accounts.find(session, name)
            wait = accounts_sessions.must_wait(session, name, address, now)
        if known is None:
            return page(409, "Nobody signed in here, so there is no password to change.")
        if wait:
            return page(429, "There were too many failed attempts: wait a quarter of an hour.")
        if password != again:
            return page(422, "The two new passwords are not the same.")
        if not accounts.is_password(database, name, before):
            with database.transaction() as session:
                accounts_sessions.failed(session, name, address, now)
            return page(422, "The password until now is another one.")
        try:
            accounts.set_password(database, name, password)
        except RefusedError as e:
            return page(422, as_sentence(e))
        return begin(request, settings, database, name, "/")


def first_pages(made: APIRouter, render: Render, settings: Settings, database: Database) -> None:
    def page(status: int = 200, problem: str = "", name: str = "") -> Response:
        return render("first.html", "The first administrator", "login", status, problem=problem, typed=name)

    @made.get("/first")
    def ask() -> Response:
        with database.reading() as session:
            there = accounts.any_account(session)
        return RedirectResponse("/login", status_code=303) if there else page()

    @made.post("/first")
    def make(request: Request, token: Text = "", name: Text = "", password: Text = "", again: Text = "") -> Response:
        now, address, name = time.time(), address_of(request), name.strip()
        with database.reading() as session:
            if accounts_sessions.must_wait(session, "first", address, now):
                return page(429, "There were too many failed attempts: wait a quarter of an hour.", name)
            right = accounts_tokens.is_first_run(session, token.strip(), now)
        if not right:
            with database.transaction() as session:
                accounts_sessions.failed(session, "first", address, now)
                audit.note(session, signed_in("unknown", address, Outcome.FAILED))
            return page(403, "This is not the token that `radnode serve` printed, or it was used or is too old.", name)
        if password != again:
            return page(422, "The two passwords are not the same.", name)
        try:
            with audit.acting(Act(who=name, address=address, kind=Kind.SECURITY, action="first administrator made")):
                accounts.add(database, name, Role.ADMINISTRATOR, password, now)
        except RefusedError as e:
            return page(422, as_sentence(e), name)
        return begin(request, settings, database, name, "/")


def begin(request: Request, settings: Settings, database: Database, name: str, onward: str) -> Response:
    """A new session for this browser, in place of the one that it had."""
    with database.transaction() as session:
        return signed(session, request, settings, name, onward)


def signed(session: Session, request: Request, settings: Settings, name: str, onward: str) -> Response:
    """The answer to one who signed in, in the caller's transaction; the one-time token is void from now on."""
    accounts_sessions.succeeded(session, name)
    accounts_tokens.use_first_run(session)
    before = cookie_of(request.headers)
    secret = accounts_sessions.begin(session, name, limits(settings.web), time.time(), instead_of=before)
    audit.note(session, signed_in(name, address_of(request)))
    secure = request.url.scheme == "https"
    answer = RedirectResponse(onward, status_code=303)
    answer.set_cookie(
        SECURE_COOKIE if secure else COOKIE, secret, path="/", httponly=True, secure=secure, samesite="lax"
    )
    return answer


def signed_in(name: str, address: str, outcome: Outcome = Outcome.SUCCESS) -> Act:
    return Act(who=name, address=address, kind=Kind.LOG_IN, action="signed in", outcome=outcome)


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""


def own_path(path: str) -> str:
    """The path of a page of this node; "/" for anything else that somebody put there."""
    plain = unquote(path)
    local = plain.startswith("/") and not plain.startswith(("//", "/\\")) and plain.isprintable() and "\\" not in plain
    return path if local else "/"
