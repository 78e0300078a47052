"""`radnode peers`: who may send to the node."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from radnode.database import Database

RIGHTS = ("send", "query", "retrieve", "commit", "worklist")
WAYS = ("move", "get", "wado", "orthanc")


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


@click.group()
def peers() -> None:
    """Who may send to the node."""


@peers.command()
@click.argument("name")
@click.option("--ae-title", default="", help="Its AE title; left out: any.")
@click.option("--address", default="", help="Its IP address, or a network such as 10.1.0.0/16; left out: any.")
@click.option("--port", type=click.IntRange(1, 65535), help="Where it listens itself, for `peers test`.")
@click.option("--quiet-s", type=click.FloatRange(0), help="Its own quiet time before a study is complete.")
@click.option(
    "--may", multiple=True, type=click.Choice(RIGHTS), default=("send",), show_default=True, help="Several times."
)
@click.option(
    "--way", type=click.Choice(WAYS), default="move", show_default=True, help="How studies are fetched from it."
)
@click.option("--url", default="", help="Of its DICOMweb (wado) or of Orthanc.")
@click.option("--tls/--no-tls", default=False, help="The node calls it over TLS, and refuses it in the clear.")
def add(
    name: str, ae_title: str, address: str, port: int | None, quiet_s: float | None,
    may: tuple[str, ...], way: str, url: str, tls: bool,
) -> None:  # fmt: skip
    """Add a peer, or replace the one of that name. In force at once, and kept in the history."""
    from pydantic import ValidationError

    from radnode import settings
    from radnode.peers import Peer, add_peer

    try:
        if ae_title:
            settings.Receive(ae_title=ae_title)  # the same rule as for the node's own AE title
        settings.Peer(name=name)
        peer = Peer(
            name=name,
            ae_title=ae_title,
            address=address,
            port=port,
            quiet_s=quiet_s,
            may=may,
            way=way,
            url=url,
            tls=tls,
        )
    except ValidationError as e:
        raise click.BadParameter(e.errors()[0]["msg"]) from e
    except ValueError as e:
        raise click.BadParameter(str(e)) from e
    with opened() as database:
        add_peer(database, peer, who=getpass.getuser())
    click.echo(f"{name} may {', '.join(may)}.")


@peers.command("list")
def list_() -> None:
    """Every peer, and who was turned away."""
    from radnode import settings
    from radnode.peers import list_peers, list_refusals, unheard

    with opened() as database:
        for p in list_peers(database):
            where = f"{p.address or 'any address'}{f':{p.port}' if p.port else ''}"
            source = "settings" if p.from_settings else "added"
            quiet = "" if p.quiet_s is None else f", quiet {p.quiet_s:g} s"
            fetched = f", fetched from by {p.way}" if "retrieve" in p.may else ""
            rights = f"may {', '.join(p.may) or 'nothing'}{fetched}{', only over TLS' if p.tls else ''}"
            click.echo(f"{p.name}: {p.ae_title or 'any AE title'} at {where}{quiet}; {rights} ({source})")
        for sentence in unheard(settings.load(), list_peers(database)):
            click.echo(sentence, err=True)
        for r in list_refusals(database):
            click.echo(f"refused {r.count} times: {r.calling_ae} at {r.address}, calling {r.called_ae}: {r.reason}")


@peers.command()
@click.argument("name")
@click.pass_context
def test(ctx: click.Context, name: str) -> None:
    """Connect to the peer NAME, C-ECHO, ask what it takes and what it has; say what is wrong."""
    from radnode import settings
    from radnode.peer_examine import examine
    from radnode.peers import list_peers

    with opened() as database:
        found = next((p for p in list_peers(database) if p.name == name), None)
    if found is None:
        click.echo(f"radnode: there is no peer {name}.", err=True)
        ctx.exit(1)
    well = True
    for step in examine(found, settings.load()):
        click.echo(f"{name}: {step.what}: {step.sentence}", err=not step.ok)
        well &= step.ok
    ctx.exit(0 if well else 1)


@peers.command()
def history() -> None:
    """Who changed which peer, the latest first."""
    from radnode import peer_changes

    with opened() as database, database.reading() as session:
        for change in peer_changes.history(session):
            at = datetime.fromtimestamp(change.at, UTC)
            click.echo(f"{at:%Y-%m-%d %H:%M:%S} UTC {change.name}: {change.sentence} ({change.who or 'unknown'})")


@peers.command()
@click.argument("name")
@click.pass_context
def remove(ctx: click.Context, name: str) -> None:
    """The peer NAME may no longer send."""
    from radnode.peers import remove_peer

    with opened() as database:
        removed = remove_peer(database, name, who=getpass.getuser())
    if not removed:
        click.echo(f"radnode: there is no peer {name}.", err=True)
        ctx.exit(1)
    click.echo(f"{name} may no longer send.")
