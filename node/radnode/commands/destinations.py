"""`radnode destinations`: where results go, and what each destination gets and does not get."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from radnode.commands.peers import opened

if TYPE_CHECKING:
    from radnode.profiles import Capability
    from radnode.settings import Destination


@click.group()
def destinations() -> None:
    """Where results go, and what each destination takes."""


@destinations.command("list")
def list_() -> None:
    """Every destination, what it gets, and what not and why."""
    from radnode import addresses, capabilities, settings

    loaded = settings.load()
    with opened() as database, database.reading() as session:
        there = addresses.destinations(session, loaded)
        known = capabilities.known(session, there)
    for destination in there:
        click.echo("\n".join(described(destination, known.get(destination.name))))


@destinations.command()
@click.argument("name", default="")
@click.pass_context
def probe(ctx: click.Context, name: str) -> None:
    """Ask the PACS NAME (left out: every PACS) by association negotiation what it takes, and keep the answer."""
    from radnode import addresses, capabilities, settings

    loaded = settings.load()
    with opened() as database, database.reading() as session:
        asked = [d for d in addresses.destinations(session, loaded) if name in ("", d.name)]
    if name and not asked:
        click.echo(f"radnode: there is no destination {name}.", err=True)
        ctx.exit(1)
    failed = False
    with opened() as database:
        for destination in asked:
            answer = None
            if destination.kind == "dimse":
                answer = capabilities.ask(database, loaded, destination, time.time())
                failed |= bool(answer.error)
            click.echo("\n".join(described(destination, answer)))
    ctx.exit(1 if failed else 0)


def described(destination: "Destination", answer: "Capability | None") -> list[str]:
    """A destination in lines: what it gets, when it was asked, what it does not take."""
    from radnode.profiles import plan

    made = plan(destination, answer)
    lines = [f"{destination.name} ({destination.kind}): gets {', '.join(sorted(made.kinds))}"]
    if destination.kind == "dimse" and (answer is None or answer.taken is None):
        lines.append("  not asked yet what it takes")
    elif answer is not None:
        lines.append(f"  asked {datetime.fromtimestamp(answer.asked_at, UTC):%Y-%m-%d %H:%M} UTC")
    if answer is not None and answer.error:
        lines.append(f"  does not answer: {answer.error}")
    return lines + [f"  not sent: {o.kind}: {o.reason}" for o in made.omissions]
