"""`radnode peers`: who may send to the node."""

import getpass
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import reduce
from typing import TYPE_CHECKING, Any

import click

from radnode.errors import RefusedError
from radnode.peers.peer import PROFILE, RIGHTS, WAYS, check_places, check_reference

if TYPE_CHECKING:
    from radnode.database import Database
    from radnode.peers.peer import Peer

NOTHING = "none"
"""What --may says for a peer without a right."""
ALL = "all"
"""What --profile says for all the results that a peer takes."""


def refused_early(ctx: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """What holds a secret is refused before anything is written, the audit's row of the command itself included."""
    try:
        if value and option.name == "url":
            check_places("", "", value)
        elif value:
            check_reference(str(option.name), value)
    except ValueError as e:
        raise click.BadParameter(str(e)) from e
    return value


OPTIONS = (
    click.option("--ae-title", help="Its AE title; empty: any."),
    click.option("--address", help="From where it calls: an IP address, or a network such as 10.1.0.0/16; empty: any."),
    click.option("--host", help="Where it is called, a name or an IP address; empty: at its address."),
    click.option("--port", type=click.IntRange(1, 65535), help="Where it listens itself."),
    click.option("--quiet-s", type=click.FloatRange(0), help="Its own quiet time before a study is complete."),
    click.option("--may", multiple=True, type=click.Choice((*RIGHTS, NOTHING)), help="Several times.  [default: send]"),
    click.option(
        "--profile",
        multiple=True,
        type=click.Choice((*PROFILE, ALL)),
        help="With --may results: kinds of them. Several times.  [default: all that it takes]",
    ),
    click.option("--way", type=click.Choice(WAYS), help="How studies are fetched from it.  [default: move]"),
    click.option("--url", callback=refused_early, help="Of its DICOMweb (wado) or of Orthanc."),
    click.option("--user", help="Of that web address."),
    click.option("--password", callback=refused_early, help="Where it lies: file:PATH or env:NAME."),
    click.option(
        "--token",
        callback=refused_early,
        help="Where a bearer token lies, instead of user and password: file:PATH or env:NAME.",
    ),
    click.option("--tls/--no-tls", default=None, help="The node calls it over TLS, and refuses it in the clear."),
    click.option("--certificate-name", help="With TLS: the name that its certificate must have; empty: any."),
)


def described(command: Callable[..., None]) -> Callable[..., None]:
    """The options of what a peer is; what is not given comes as None, or ()."""
    return reduce(lambda made, option: option(made), reversed(OPTIONS), command)


@contextmanager
def opened() -> Iterator["Database"]:
    from radnode import settings
    from radnode.database import Database
    from radnode.start import prepare

    loaded = settings.load()
    prepare(loaded)
    database = Database(loaded.url)
    try:
        yield database
    finally:
        database.close()


def none(what: str, next_step: str) -> None:
    """A list with nothing in it says so, beside what programs read, and what to do next."""
    click.echo(f"none: {what}. {next_step}", err=True)


@click.group()
def peers() -> None:
    """Who may send to the node."""


@peers.command()
@click.argument("name")
@described
def add(name: str, **given: Any) -> None:
    """Add a peer NAME. In force at once, and kept in the history."""
    peer = made(name, chosen(given))
    with opened() as database:
        if found(database, name) is not None:
            raise RefusedError(f"there is a peer {name} already: `radnode peers edit {name}` changes it.")
        keep(database, peer)


@peers.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask where what is owed to it is withdrawn.")
@described
def edit(name: str, yes: bool, **given: Any) -> None:
    """Change what is given of the peer NAME, and nothing else. In force at once, and kept in the history."""
    from radnode.peers.ties import ends

    changes = chosen(given)
    if not changes:
        raise click.UsageError("Say what to change.")
    with opened() as database:
        before = own(database, name)
        after = made(name, vars(before) | changes)
        with database.reading() as session:
            sentence = ends(session, before, after)
        if sentence and not yes:
            click.confirm(f"{sentence} Change {name}?", abort=True, err=True)
        keep(database, after)


def chosen(given: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    said = {k: v for k, v in given.items() if v is not None and v != ()}
    if "may" in said:
        said["may"] = tuple(right for right in RIGHTS if right in said["may"])
        if "results" not in said["may"]:
            said.setdefault("profile", ())
    if ALL in said.get("profile", ()):
        said["profile"] = ()
    return said


def made(name: str, fields: dict[str, Any]) -> "Peer":
    """The peer, by the rules of the settings file. Raises click.BadParameter."""
    from pydantic import ValidationError

    from radnode import settings
    from radnode.peers.peer import Peer
    from radnode.settings_peers import what_is_wrong

    try:
        if fields.get("ae_title"):
            settings.Receive(ae_title=fields["ae_title"])  # the same rule as for the node's own AE title
        plain = {k: v for k, v in fields.items() if k not in ("name", "from_settings")}
        return Peer(**settings.Peer(name=name, **plain).model_dump())
    except ValidationError as e:
        raise click.BadParameter(what_is_wrong(e)) from e


def keep(database: "Database", peer: "Peer") -> None:
    from radnode import settings
    from radnode.addresses import clash
    from radnode.peers.table import add_peer
    from radnode.peers.ties import wide

    if why := clash(peer, settings.load().destinations):
        raise RefusedError(why)
    add_peer(database, peer, who=getpass.getuser())
    click.echo(f"{peer.name} may {', '.join(peer.may) or 'nothing'}.")
    for sentence in wide([peer]):
        click.echo(sentence, err=True)


def found(database: "Database", name: str) -> "Peer | None":
    from radnode.peers.table import list_peers

    return next((p for p in list_peers(database) if p.name == name), None)


def own(database: "Database", name: str) -> "Peer":
    """The peer, where a command may change it. Raises RefusedError."""
    there = found(database, name)
    if there is None:
        raise RefusedError(f"there is no peer {name}.")
    if there.from_settings:
        raise RefusedError(f"{name} stands in the settings file: change it there.")
    return there


@peers.command("list")
def list_() -> None:
    """Every peer, and who was turned away."""
    from radnode import settings
    from radnode.peers.table import list_peers, list_refusals, unheard
    from radnode.peers.ties import wide

    with opened() as database:
        for p in list_peers(database):
            click.echo(line(p))
        if not list_peers(database):
            none(
                "nobody may send to the node",
                "`radnode peers add NAME --ae-title AE --address ADDRESS` lets somebody in.",
            )
        for sentence in (*unheard(settings.load(), list_peers(database)), *wide(list_peers(database))):
            click.echo(sentence, err=True)
        for r in list_refusals(database):
            click.echo(f"refused {r.count} times: {r.calling_ae} at {r.address}, calling {r.called_ae}: {r.reason}")


def line(p: "Peer") -> str:
    """A peer in one line."""
    where = f"{p.address or 'any address'}{f':{p.port}' if p.port and not p.host else ''}"
    called = f", called at {p.host}{f':{p.port}' if p.port else ''}" if p.host else ""
    source = "settings" if p.from_settings else "added"
    quiet = "" if p.quiet_s is None else f", quiet {p.quiet_s:g} s"
    fetched = f", fetched from by {p.way}" if "retrieve" in p.may else ""
    gets = f", gets {', '.join(p.profile) or 'all that it takes'}" if p.gets_results else ""
    named = f" as {p.certificate_name}" if p.certificate_name else ""
    rights = f"may {', '.join(p.may) or 'nothing'}{fetched}{gets}{f', only over TLS{named}' if p.tls else ''}"
    return f"{p.name}: {p.ae_title or 'any AE title'} at {where}{called}{quiet}; {rights} ({source})"


@peers.command()
@click.argument("name")
@click.pass_context
def test(ctx: click.Context, name: str) -> None:
    """Connect to the peer NAME, C-ECHO, ask what it takes and what it has; say what is wrong."""
    from radnode import settings
    from radnode.peers.examine import examine

    with opened() as database:
        peer = found(database, name)
    if peer is None:
        raise RefusedError(f"there is no peer {name}.")
    well = True
    for step in examine(peer, settings.load()):
        click.echo(f"{name}: {step.what}: {step.sentence}", err=not step.ok)
        well &= step.ok
    ctx.exit(0 if well else 1)


@peers.command()
def history() -> None:
    """Who changed which peer, the latest first."""
    from radnode.peers import changes as peer_changes

    with opened() as database, database.reading() as session:
        changes = peer_changes.history(session)
        if not changes:
            none("no peer was ever changed here", "Peers of the settings file change there.")
        for change in changes:
            at = datetime.fromtimestamp(change.at, UTC)
            click.echo(f"{at:%Y-%m-%d %H:%M:%S} UTC {change.name}: {change.sentence} ({change.who or 'unknown'})")


@peers.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(name: str, yes: bool) -> None:
    """The peer NAME may no longer send, and nothing is asked of it or fetched from it any more."""
    from radnode import settings
    from radnode.peers.table import remove_peer
    from radnode.peers.ties import hangs_on

    with opened() as database:
        there = own(database, name)
        with database.reading() as session:
            sentences = hangs_on(session, settings.load(), there, time.time())
        for sentence in sentences:
            click.echo(sentence, err=True)
        if not yes:
            click.confirm(f"Remove {name}? It is refused from then on.", abort=True, err=True)
        remove_peer(database, name, who=getpass.getuser())
    click.echo(f"{name} may no longer send.")
