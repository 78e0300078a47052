"""`radnode fetch` and `radnode reconcile`: studies that other systems have."""

import getpass
import time

import click

from radnode.commands.peers import opened


@click.command()
@click.option("--study", "study_uid", default="", help="Its Study Instance UID.")
@click.option("--accession", default="", help="Its accession number.")
@click.option("--peer", default="", help="From this peer; left out: the first that has it.")
@click.pass_context
def fetch(ctx: click.Context, study_uid: str, accession: str, peer: str) -> None:
    """Fetch one study from a peer that may be queried and fetched from. The running node does it."""
    from radnode import fetches, reconcile, settings
    from radnode.errors import RefusedError
    from radnode.peers.table import list_peers

    if bool(study_uid) == bool(accession):
        raise click.UsageError("Name the study by --study or by --accession.")
    loaded = settings.load()
    with opened() as database:
        asked = [p for p in reconcile.sources(list_peers(database)) if peer in ("", p.name)]
        try:
            found, at = reconcile.find(loaded, asked, study_uid=study_uid, accession_number=accession)
        except RefusedError as e:
            click.echo(f"radnode: {e}", err=True)
            ctx.exit(1)
        with database.transaction() as session:
            wanted = fetches.want(
                session, found.study_uid, at.name, fetches.HAND, getpass.getuser(), time.time(), again=True
            )
    words = "is fetched" if wanted else "is being fetched already"
    click.echo(f"{found.study_uid} ({found.instances or '?'} objects) {words} from {at.name} by the running node.")


@click.command("reconcile")
@click.option(
    "--days", type=click.IntRange(1, 366), default=None, help="Of how many days; left out: as in the settings."
)
@click.option("--peer", default="", help="This peer alone.")
@click.option("--fetch", "fetching", is_flag=True, help="Fetch what the node lacks.")
@click.pass_context
def reconcile_(ctx: click.Context, days: int | None, peer: str, fetching: bool) -> None:
    """Ask the peers what they have, and list what the node never saw, or has only a part of."""
    from radnode import fetches, reconcile, settings
    from radnode.errors import DeliveryError
    from radnode.peers.table import list_peers

    loaded = settings.load()
    now, failed = time.time(), False
    with opened() as database:
        asked = [p for p in list_peers(database) if "query" in p.may and peer in ("", p.name)]
        if not asked:
            click.echo("radnode: there is no peer that may be queried.", err=True)
            ctx.exit(1)
        for one in asked:
            try:
                many = reconcile.ask(database, loaded, one, days or loaded.reconcile.days, now)
                click.echo(f"{one.name}: {many} studies that the node lacks")
            except DeliveryError as e:
                click.echo(f"{one.name} cannot be asked: {e}", err=True)
                failed = True
        with database.reading() as session:
            lacking = [u for u in reconcile.unseen(session) if u.peer in {p.name for p in asked}]
        for u in lacking:
            click.echo(
                f"{u.study_uid} {u.study_date} {u.modalities}: {u.peer} has {u.instances or '?'}, the node {u.here}"
            )
        if fetching:
            with database.transaction() as session:
                wanted = [
                    fetches.want(session, u.study_uid, u.peer, fetches.RECONCILE, getpass.getuser(), now, again=True)
                    for u in lacking
                ]
            click.echo(f"{sum(wanted)} are fetched by the running node.")
    ctx.exit(1 if failed else 0)
