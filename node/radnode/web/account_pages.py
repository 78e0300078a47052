"""For administrators: people, tokens of machines, and the audit."""

import time
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy.orm import Session

from radnode import accounts, accounts_tokens, audit
from radnode.accounts import Account, Role
from radnode.accounts_tokens import Scope, Token
from radnode.database import Database
from radnode.errors import RefusedError, as_sentence
from radnode.web.api import MOST
from radnode.web.i18n import mark
from radnode.web.views import Render

Text = Annotated[str, Form(max_length=512)]
ROWS = 200
SURE = mark("Are you sure?")
REMOVE, REVOKE = mark("Remove"), mark("Revoke")
NO_ACCOUNT = mark(
    "%(name)s is signed out at once and can sign in no more. This cannot be undone, only a new account be made. Tokens that %(name)s made go "
    "on working until they are revoked: the list says who made which."
)
NO_TOKEN = mark(
    "Whatever shows the token %(name)s is refused at once. This cannot be undone: a new token has another secret, which has to be put "
    "wherever this one is."
)
FIRST = mark("The first account is an administrator's: with a reader's alone nobody could manage the node any more.")


def account_pages(made: APIRouter, render: Render, database: Database) -> None:
    def page(status: int = 200, problem: str = "", secret: str = "") -> HTMLResponse:
        with database.reading() as session:
            people, machines = accounts.accounts(session), accounts_tokens.tokens(session)
        return render(
            "users.html", "Users", "users", status,
            people=people, tokens=machines, roles=list(Role), scopes=list(Scope), problem=problem, secret=secret,
        )  # fmt: skip

    def done(change: Any) -> Response:
        try:
            change()
        except RefusedError as e:
            return page(409, as_sentence(e))
        return RedirectResponse("/users", status_code=303)

    @made.get("/users")
    def users() -> HTMLResponse:
        return page()

    @made.post("/users")
    def add(role: Annotated[Role, Form()], name: Text = "", password: Text = "") -> Response:
        with database.reading() as session:
            alone = not accounts.any_account(session)
        if alone and role is not Role.ADMINISTRATOR:
            return page(409, FIRST)
        return done(lambda: accounts.add(database, name.strip(), role, password, time.time()))

    def known(name: str, found: Callable[[Session], Iterable[Account | Token]]) -> bool:
        with database.reading() as session:
            return name in {one.name for one in found(session)}

    def asked(address: str, name: str, what: str, deed: str) -> Response:
        """A page that asks before what cannot be undone; it needs no script."""
        values = {"address": address, "fields": {"name": name}, "what": what, "deed": deed, "back": "/users"}
        return render("sure.html", SURE, "users", whom=name, **values)

    @made.post("/users/remove")
    def remove(name: Text = "", sure: Annotated[bool, Form()] = False) -> Response:
        if not sure and known(name, accounts.accounts):
            return asked("/users/remove", name, NO_ACCOUNT, REMOVE)
        return done(lambda: accounts.remove(database, name))

    @made.post("/users/role")
    def role(role: Annotated[Role, Form()], name: Text = "") -> Response:
        return done(lambda: accounts.set_role(database, name, role))

    @made.post("/users/password")
    def password(name: Text = "", password: Text = "") -> Response:
        return done(lambda: accounts.set_password(database, name, password))

    @made.post("/tokens")
    def add_token(
        request: Request,
        scopes: Annotated[list[Scope] | None, Form()] = None,
        name: Text = "",
        days: Annotated[float, Form(gt=0, le=3650)] = 365.0,
    ) -> Response:
        by = str(getattr(request.state, "person", "")) or "the page"
        try:
            secret = accounts_tokens.add(database, name.strip(), scopes or [], by, time.time(), days=days)
        except RefusedError as e:
            return page(409, as_sentence(e))
        return page(secret=secret)

    @made.post("/tokens/revoke")
    def revoke(name: Text = "", sure: Annotated[bool, Form()] = False) -> Response:
        if not sure and known(name, accounts_tokens.tokens):
            return asked("/tokens/revoke", name, NO_TOKEN, REVOKE)
        return done(lambda: accounts_tokens.revoke(database, name))


def audit_pages(made: APIRouter, render: Render, database: Database) -> None:
    @made.get("/audit")
    def rows(before: Annotated[int | None, Query(ge=1, le=MOST)] = None) -> HTMLResponse:
        """The newest rows; the whole is `radnode audit list` and `export`."""
        with database.reading() as session:
            found = audit.newest(session, limit=ROWS, before=before)
        older = found[-1].number if len(found) == ROWS else None
        return render("audit.html", "Audit", "audit", rows=found, older=older)
