"""`radnode deliveries`: what is owed to whom, what is kept, and what was given up."""

import time

import click

from radnode.commands.peers import none, opened


@click.group()
def deliveries() -> None:
    """What is owed, taken, kept and given up."""


@deliveries.command("list")
@click.argument("destination", default="")
def list_(destination: str) -> None:
    """Counts for each destination, and everything that was given up (of DESTINATION alone, where one is named)."""
    from radnode import breaker, outbox

    with opened() as database:
        with database.reading() as session:
            counts, outages = outbox.counts(session), breaker.outages(session)
        if not [name for name in counts if destination in ("", name)]:
            where = f"to {destination}" if destination else "to anybody"
            none(f"nothing was ever owed {where}", "`radnode destinations list` says where results go.")
        for name, of_it in sorted(counts.items()):
            if destination in ("", name):
                shown = f"{name}: {of_it.owed} owed, {of_it.kept} kept, {of_it.unproven} taken"
                click.echo(f"{shown}, {of_it.dead} given up")
                if name in outages:
                    click.echo(f"  does not answer, {outages[name].failures} failures: {outages[name].error}")
        for dead in outbox.dead(database, destination):
            click.echo(f"given up {dead.id}: {dead.kind} of {dead.study_uid} for {dead.destination}: {dead.error}")


@deliveries.command("send-again")
@click.argument("numbers", type=int, nargs=-1)
@click.option("--all", "destination", default="", help="Everything that was given up at this destination.")
@click.pass_context
def send_again(ctx: click.Context, numbers: tuple[int, ...], destination: str) -> None:
    """Owe what was given up once more: deliveries by their NUMBERS (see `list`), or all of one destination."""
    from radnode import resend, settings

    if not numbers and not destination:
        raise click.UsageError("Name deliveries, or a destination with --all.")
    loaded, now = settings.load(), time.time()
    with opened() as database:
        sent = resend.send_all_again(database, loaded, destination, now) if destination else ()
        said = {n: resend.send_again(database, loaded, n, now) for n in numbers}
    outcomes = (*sent, *said.values())
    click.echo(f"{outcomes.count('')} are owed again.")
    if overtaken := sent.count(resend.OVERTAKEN):
        click.echo(f"{overtaken} withdrawn: {resend.OVERTAKEN}")
    for number, problem in said.items():
        if problem:
            click.echo(f"radnode: delivery {number}: {problem}", err=True)
    ctx.exit(1 if any(said.values()) else 0)
