"""`radnode rerun` and `radnode retract`: what a person decides about results. Both may be asked for twice."""

import time

import click

from radnode.commands.peers import opened

REASONS = ("quality", "patient-safety")
"""The keys of radnode.retract.REASONS; a test compares them. Here, so that `--help` loads nothing."""


@click.command()
@click.argument("study_uid", metavar="STUDY")
@click.argument("model", default="")
def rerun(study_uid: str, model: str) -> None:
    """Run MODEL (left out: every model) on STUDY again.

    Equal results are sent again as the identical objects; others take their place. This is also the only way to release
    a result that was withheld.
    """
    from radnode import jobs

    with opened() as database:
        queued = jobs.rerun(database, study_uid, model, time.time())
    if not queued:
        click.echo("It waits or runs already.")
    for name in queued:
        click.echo(f"{name} is to run again.")


@click.command()
@click.argument("study_uid", metavar="STUDY")
@click.argument("model", default="")
@click.option("--reason", required=True, type=click.Choice(REASONS), help="Why, as the rejection note will say it.")
@click.option("--comment", default="", help="In your own words, for the study's story; no patient data.")
def retract(study_uid: str, model: str, reason: str, comment: str) -> None:
    """Take back what MODEL (left out: every model) said of STUDY.

    Its report is entered in error and counts no more in the worklist, what had not left is withdrawn, and every
    destination that has something of it is owed a note that takes it back: a rejection note (DICOM), a transaction (FHIR).
    """
    from radnode import settings
    from radnode.retract import by_person

    with opened() as database:
        done = by_person(database, settings.load(), study_uid, model, reason, comment, time.time())
    if not done:
        click.echo("Nothing of it stands: there is nothing to retract.")
    for name in done:
        click.echo(f"What {name} said is retracted.")
