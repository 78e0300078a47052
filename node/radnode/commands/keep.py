"""Commands that keep and let go: backup, restore, retention."""

import time
from pathlib import Path

import click

MB = 1_000_000


@click.command()
@click.argument("to", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--images", is_flag=True, help="Also the images of studies that were read; without it, of open ones only."
)
def backup(to: Path, images: bool) -> None:
    """Copy the database, results, weights, cards, settings and images to FILE.tar or a FOLDER, while the node runs.

    It holds patient data and the secrets that stand in the settings: only its owner may read it. Secrets and
    certificates that the settings only name (file:, env:) are not in it.
    """
    from radnode import application, settings
    from radnode import backup as backups
    from radnode.audit import Kind

    loaded = settings.load()
    made = backups.backup(loaded, to, all_images=images)
    application.tell(
        loaded, Kind.EXPORTED, "radnode backup", detail=f"{to}, {'all images' if images else 'open studies'}"
    )
    kinds = "all images" if images else "the images of open studies"
    click.echo(f"{to}: {made.files} files, {made.bytes / MB:.1f} MB, {sum(made.rows.values())} rows, {kinds}.")
    if made.lost:
        click.echo(
            f"{len(made.lost)} images are not in it: the disk had lost them before. `radnode check --files` names them."
        )
    if made.tables_left_out:
        click.echo(f"Not radnode's and not copied: the tables {', '.join(made.tables_left_out)}.")


@click.command()
@click.argument("source", metavar="FILE|FOLDER", type=click.Path(exists=True, path_type=Path))
def restore(source: Path) -> None:
    """Put a backup into an empty data folder and an empty database; then `radnode serve` goes on where it was.

    Where: as the settings say. Without a settings file, the one of the backup is put in its place.
    A backup of SQLite may be restored into PostgreSQL and the other way round.
    """
    from radnode import restore as restores
    from radnode.logs import log_to_stderr

    log_to_stderr()
    settings, made = restores.restore(source)
    click.echo(
        f"The backup of {made.made_at} (radnode {made.radnode}) is in {settings.data}: {sum(made.rows.values())} rows."
    )


@click.command()
@click.option("--delete", is_flag=True, help="Delete; without it, only say what would go and what would stay.")
@click.option(
    "--clock-is-right", is_flag=True, help="Delete although the clock made a leap, or is behind the newest image."
)
@click.pass_context
def retention(ctx: click.Context, delete: bool, clock_is_right: bool) -> None:
    """Which studies' images the rules in [retention] let go, and why others stay; which HL7 messages and FHIR versions."""
    from radnode import clock_belief, retention_rows, settings
    from radnode import retention as rules
    from radnode.database import Database
    from radnode.start import prepare

    loaded = settings.load()
    prepare(loaded)
    database = Database(loaded.url)
    try:
        found = rules.plan(database, loaded, time.time())
        for c in found:
            said = f"stays, because {c.kept}" if c.kept else "goes"
            click.echo(f"{c.study_uid}: {c.images} images, {c.bytes / MB:.1f} MB, {c.why}: {said}")
        going = [c for c in found if not c.kept]
        click.echo(f"{len(going)} studies, {sum(c.bytes for c in going) / MB:.1f} MB{'' if delete else ' would go'}.")
        old = retention_rows.plan(database, loaded, time.time())
        rows = f"{old.messages} HL7 messages, {old.versions} earlier versions of FHIR resources"
        if old.messages or old.versions:
            click.echo(f"{rows}{'' if delete else ' would go'}.")
        doubt = clock_belief.look(database, loaded, time.time()) if delete and not clock_is_right else ""
        if doubt:
            click.echo(f"{doubt} If the clock is right: --clock-is-right.", err=True)
            ctx.exit(1)
        if delete:
            rules.sweep(database, loaded)
            click.echo(f"{rules.turn(database, loaded, time.time())} studies' images were deleted.")
            gone = retention_rows.turn(database, loaded, time.time())
            if gone.messages or gone.versions:
                click.echo(f"{gone.messages} messages and {gone.versions} versions were deleted.")
        elif going or old.messages or old.versions:
            click.echo("Nothing was deleted: add --delete.")
    finally:
        database.close()
