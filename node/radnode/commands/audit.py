"""`radnode audit`: who saw, changed and sent what; is the record whole; hand it over."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from radnode.commands.peers import opened

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from radnode.audit import Entry


@click.group()
def audit() -> None:
    """Who saw, changed and sent what."""


@audit.command("list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@click.option("--who", default="", help="Only of this person or system.")
@click.option("--study", "study_uid", default="", help="Only of this study.")
def list_(limit: int, who: str, study_uid: str) -> None:
    """The newest rows, the newest first."""
    from radnode import application, settings
    from radnode import audit as chain

    with opened() as database, database.reading() as session:
        application.tell(settings.load(), chain.Kind.AUDIT, "radnode audit list")
        for e in chain.newest(session, limit=limit, who=who, study_uid=study_uid):
            at = datetime.fromtimestamp(e.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
            said = f"{e.kind} {e.outcome}: {e.action}{f' ({e.study_uid})' if e.study_uid else ''}"
            click.echo(
                f"{e.number} {at}Z {e.who}{f' from {e.address}' if e.address else ''} {said} {e.detail}".rstrip()
            )


@audit.command()
@click.option("--head", default="", metavar="NUMBER:HASH", help="A row's number and hash, written down earlier.")
@click.pass_context
def verify(ctx: click.Context, head: str) -> None:
    """Check every row's hash; exit code 1, each wrong row named, when the record was changed."""
    from radnode import audit as chain

    number, _, noted = head.partition(":")
    if head and not (number.isdecimal() and noted):
        raise click.BadParameter("NUMBER:HASH, as this command prints it", param_hint="--head")
    with opened() as database, database.reading() as session:
        verdict = chain.verify(session, written_down=(int(number), noted) if head else None)
    for problem in verdict.problems:
        click.echo(problem, err=True)
    if verdict.problems:
        ctx.exit(1)
    click.echo(f"{verdict.rows} rows, none changed. Write this down elsewhere: {verdict.rows}:{verdict.head}")


@audit.command()
@click.option("--as", "form", type=click.Choice(["dicom", "fhir", "json"]), default="dicom", show_default=True)
@click.option("--after", type=click.IntRange(0), default=0, help="Only rows behind this number.")
@click.option("--syslog", is_flag=True, help="Send what is new to the collector of the settings instead of printing.")
def export(form: str, after: int, syslog: bool) -> None:
    """Every row, one line each: DICOM audit messages (PS3.15 A.5), FHIR AuditEvents, or plain JSON."""
    from radnode import application, audit_syslog, settings
    from radnode.audit import Kind

    if syslog:
        with opened() as database:
            sent = audit_syslog.export(database, settings.load())
        click.echo(f"{sent} messages were sent.")
        return
    with opened() as database, database.reading() as session:
        application.tell(settings.load(), Kind.AUDIT, "radnode audit export")
        for text in lines(session, form, after):
            click.echo(text)


def lines(session: "Session", form: str, after: int) -> Iterator[str]:
    from radnode import audit as chain
    from radnode import audit_messages
    from radnode_fhir.audit_event import audit_event

    makers: Mapping[str, Callable[[Entry], str]] = {
        "dicom": audit_messages.message,
        "fhir": lambda entry: json.dumps(audit_event(audit_messages.facts(entry)), ensure_ascii=False),
        "json": lambda entry: json.dumps(vars(entry), ensure_ascii=False),
    }
    for entry in chain.walk(session, after):
        yield makers[form](entry)
