"""`radnode users` and `radnode tokens`: people who sign in, and machines that show a token."""

import sys
import time
from datetime import UTC, datetime

import click

from radnode.commands.peers import none, opened

ROLE = click.Choice(["reader", "administrator"])
SCOPES = click.Choice(["api.read", "fhir.read", "fhir.write", "dicom.write", "metrics.read"])
PASSWORD = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input, not the terminal."
)


def ask_password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))


@click.group()
def users() -> None:
    """People who may sign in on the page."""


@users.command("add")
@click.argument("name")
@click.option("--role", type=ROLE, default="reader", show_default=True)
@PASSWORD
def add_user(name: str, role: str, password_stdin: bool) -> None:
    """A new account; from the first one on, everybody has to sign in."""
    from radnode import accounts

    password = ask_password(password_stdin)
    with opened() as database:
        accounts.add(database, name, accounts.Role(role), password, time.time())
    click.echo(f"{name} may sign in as {role}.")


@users.command("list")
def list_users() -> None:
    """Every account."""
    from radnode import accounts

    with opened() as database, database.reading() as session:
        there = accounts.accounts(session)
        if not there:
            none("there is no account", "`radnode users add NAME --role administrator` makes the first one.")
        for one in there:
            click.echo(f"{one.name}: {one.role}, {'at the identity provider' if one.subject else 'by password'}")


@users.command("remove")
@click.argument("name")
def remove_user(name: str) -> None:
    """NAME may no longer sign in."""
    from radnode import accounts, accounts_tokens

    with opened() as database:
        accounts.remove(database, name)
        with database.reading() as session:
            made = [t.name for t in accounts_tokens.tokens(session) if t.created_by == name]
    click.echo(f"{name} may no longer sign in.")
    if made:
        click.echo(f"Tokens that {name} made go on working until they are revoked: {', '.join(made)}.")


@users.command()
@click.argument("name")
@PASSWORD
def passwd(name: str, password_stdin: bool) -> None:
    """A new password for NAME; its browsers are signed out."""
    from radnode import accounts

    password = ask_password(password_stdin)
    with opened() as database:
        accounts.set_password(database, name, password)
    click.echo(f"{name} has a new password.")


@users.command()
@click.argument("name")
@click.argument("role", type=ROLE)
def role(name: str, role: str) -> None:
    """NAME is a reader, or an administrator."""
    from radnode import accounts

    with opened() as database:
        accounts.set_role(database, name, accounts.Role(role))
    click.echo(f"{name} is now {role}.")


def day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


@click.group()
def tokens() -> None:
    """Tokens of machines: for /api, /fhir, /dicom-web and /metrics."""


@tokens.command("add")
@click.argument("name")
@click.option("--scope", "scopes", type=SCOPES, multiple=True, required=True, help="What it may; repeat for several.")
@click.option("--days", type=click.FloatRange(0, 3650, min_open=True), default=365.0, show_default=True)
def add_token(name: str, scopes: tuple[str, ...], days: float) -> None:
    """A new token, printed once: Authorization: Bearer TOKEN."""
    from radnode import accounts_tokens, audit
    from radnode.accounts_tokens import Scope

    with opened() as database:
        wanted = {Scope(s) for s in scopes}
        secret = accounts_tokens.add(database, name, wanted, audit.at_the_command_line(), time.time(), days=days)
    click.echo(secret)


@tokens.command("list")
def list_tokens() -> None:
    """Every token, without its secret."""
    from radnode import accounts_tokens

    with opened() as database, database.reading() as session:
        there = accounts_tokens.tokens(session)
        if not there:
            none("there is no token", "`radnode tokens add NAME` makes one for a program.")
        for one in there:
            used = "never used" if one.used_at is None else f"last used {day(one.used_at)}"
            said = f"{', '.join(sorted(one.scopes))}, valid until {day(one.expires_at)}, {used}"
            click.echo(f"{one.name}: {said}, made by {one.created_by}")


@tokens.command()
@click.argument("name")
def revoke(name: str) -> None:
    """The token NAME counts no more."""
    from radnode import accounts_tokens

    with opened() as database:
        accounts_tokens.revoke(database, name)
    click.echo(f"The token {name} counts no more.")
