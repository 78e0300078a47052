"""The command line. Every command imports what it needs when it runs, so that `radnode --help` is quick."""

import sys
import traceback
from importlib import import_module
from typing import Any

import click

COMMANDS = {
    "run": "radnode.commands.run:run",
    "models": "radnode.commands.look:models",
    "study": "radnode.commands.look:study",
    "check": "radnode.commands.look:check",
    "conformance": "radnode.commands.look:conformance",
    "peers": "radnode.commands.peers:peers",
    "bundles": "radnode.commands.bundles:bundles",
    "engines": "radnode.commands.engines:engines",
    "deliveries": "radnode.commands.deliveries:deliveries",
    "fetch": "radnode.commands.fetch:fetch",
    "reconcile": "radnode.commands.fetch:reconcile_",
    "rules": "radnode.commands.rules:rules",
    "destinations": "radnode.commands.destinations:destinations",
    "read": "radnode.commands.read:read",
    "rerun": "radnode.commands.retract:rerun",
    "retract": "radnode.commands.retract:retract",
    "demo": "radnode.commands.run:demo",
    "weights": "radnode.commands.weights:weights",
    "users": "radnode.commands.users:users",
    "audit": "radnode.commands.audit:audit",
    "tokens": "radnode.commands.users:tokens",
    "triage": "radnode.commands.triage:triage",
    "backup": "radnode.commands.keep:backup",
    "restore": "radnode.commands.keep:restore",
    "retention": "radnode.commands.keep:retention",
}
"""Commands of other modules, imported only when they are asked for."""
SERVICES = frozenset({"serve", "receive", "schedule", "work", "deliver", "web", "hl7", "narrate"})
ROLES = SERVICES | {"run", "demo", "migrate", "check"}
"""Commands on whose behalf the node works by itself: what they change is nobody's act."""
PARENT = click.option("--parent", type=int, default=None, hidden=True, help="The supervisor's process id.")


class Commands(click.Group):
    """Commands that are imported when asked for, and errors as one line with an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command; what it changes, the audit tells of as done by whoever typed it."""
        found = super().resolve_command(ctx, args)
        if found[0] not in ROLES:
            from radnode.audit import Act, Kind, acting, at_the_command_line

            kind = Kind.SECURITY if found[0] in ("users", "tokens", "peers") else Kind.CHANGED
            said = " ".join(("radnode", *args))
            ctx.with_resource(acting(Act(who=at_the_command_line(), kind=kind, action=said)))
        return found

    def invoke(self, ctx: click.Context) -> Any:
        from radnode.errors import NO_DATABASE, SettingsError

        try:
            return super().invoke(ctx)
        except SettingsError as e:
            click.echo(f"radnode: [{e.id}] {e.sentence} {e.hint}", err=True)
            ctx.exit(1 if e.id == NO_DATABASE else 2)  # one that is only starting answers the next time
        except BrokenPipeError:
            raise  # nobody reads what is written any more, as with `| head`: click ends in silence
        except Exception as e:
            words = in_words(e)
            if not words:
                raise
            if ctx.params.get("verbose"):
                traceback.print_exc()
            click.echo(f"radnode: {words}", err=True)
            ctx.exit(1)


def in_words(error: Exception) -> str:
    """One line for an error of ours, the machine's or the database's; "" for one that nobody foresaw."""
    from radnode.errors import RadnodeError

    if isinstance(error, RadnodeError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    if "sqlalchemy.exc" in sys.modules:
        from sqlalchemy.exc import DBAPIError

        from radnode.database import said

        return f"[database] The database cannot be used: {said(error)}." if isinstance(error, DBAPIError) else ""
    return ""


@click.group(cls=Commands)
@click.option("-v", "--verbose", is_flag=True, help="Say more; show the traceback of an error.")
@click.version_option(package_name="radnode")
def cli(verbose: bool) -> None:
    """radnode: DICOM in, models, DICOM SR and SEG, FHIR and a triage worklist out."""


@cli.command()
def serve() -> None:
    """Every role of the node, until it is stopped."""
    from radnode import accounts_start, application
    from radnode import serve as supervisor
    from radnode.start import role, stop_on_signals

    settings = role(None)
    accounts_start.refuse_unsafe(settings)
    if words := accounts_start.first_words(settings):
        click.echo(words)
    with application.told(settings, "serve"):
        supervisor.serve(settings, stop_on_signals())


@cli.command()
@PARENT
def receive(parent: int | None) -> None:
    """Receive DICOM objects (C-ECHO, C-STORE)."""
    import time

    from radnode import application, complete, start
    from radnode import receive as receiver
    from radnode.database import Database

    settings = start.role(parent)
    database = Database(settings.url)
    complete.hold(database, settings, now=time.time())
    database.close()
    with application.told(settings, "receive", parent):
        receiver.serve(settings, start.stop_on_signals())


@cli.command()
@PARENT
def schedule(parent: int | None) -> None:
    """Decide when studies are complete and which models read them."""
    from radnode import application, start
    from radnode import schedule as clock

    settings = start.role(parent)
    with application.told(settings, "schedule", parent):
        clock.serve(settings, start.stop_on_signals())


@cli.command()
@click.option("--name", default="", help="What stands in the jobs it claims; no two living workers may share it.")
@PARENT
def work(name: str, parent: int | None) -> None:
    """Run models: one worker, one job at a time."""
    from radnode import application, start
    from radnode import work as worker

    settings = start.role(parent)
    with application.told(settings, "work", parent):
        worker.serve(settings, start.stop_on_signals(), name=name)


@cli.command()
@PARENT
def deliver(parent: int | None) -> None:
    """Send results to where they are owed."""
    from radnode import application, start
    from radnode import deliver as outbox

    settings = start.role(parent)
    with application.told(settings, "deliver", parent):
        outbox.serve(settings, start.stop_on_signals())


@cli.command()
@PARENT
def hl7(parent: int | None) -> None:
    """Take orders over HL7 v2 (MLLP)."""
    from radnode import application, start
    from radnode.hl7 import listen as hl7_listen

    settings = start.role(parent)
    with application.told(settings, "hl7", parent):
        hl7_listen.serve(settings, start.stop_on_signals())


@cli.command()
@PARENT
def narrate(parent: int | None) -> None:
    """Have a language model write the texts of reports, where one is named."""
    from radnode import application, start
    from radnode.narrative import narrate as writer

    settings = start.role(parent)
    with application.told(settings, "narrate", parent):
        writer.serve(settings, start.stop_on_signals())


@cli.command()
@PARENT
def web(parent: int | None) -> None:
    """The worklist page, the API and STOW-RS."""
    from radnode import application, start
    from radnode.web import app

    settings = start.role(parent)
    with application.told(settings, "web", parent):
        app.serve(settings)


@cli.command()
def migrate() -> None:
    """Bring the database to this version's schema."""
    from radnode import settings, start

    loaded = settings.load()
    start.make_data_folder(loaded)
    click.echo(f"The database has the schema {start.upgrade(loaded)}.")


def main() -> None:
    if SERVICES & set(sys.argv[1:3]):
        from radnode.logs import as_a_service

        as_a_service()
    sys.exit(cli(prog_name="radnode"))
