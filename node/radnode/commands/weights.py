"""`radnode weights`: the site's weights; which version is live, in shadow, or off; card templates."""

import getpass
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from radnode.commands.peers import none, opened

if TYPE_CHECKING:
    from radnode.database import Database
    from radnode.settings import Settings
    from radnode_inference.weights import WeightsFile

WHO = click.option("--who", default="", help="Who decides this, for the history; left out: the system's user.")


def person(who: str) -> str:
    return who or os.environ.get("SUDO_USER") or getpass.getuser()


@contextmanager
def refusals() -> Iterator["Settings"]:
    """The settings; every refusal of weights as one line and exit code 1."""
    from radnode import settings
    from radnode.errors import RadnodeError

    try:
        yield settings.load()
    except OSError as e:
        raise RadnodeError(str(e)) from e
    except (ValueError, KeyError) as e:
        raise RadnodeError(" ".join(str(e.args[0] if e.args else e).split())) from e


@click.group()
def weights() -> None:
    """The site's weights: add, list, use, verify, roll back, remove."""


@weights.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="The model they are for; `radnode models` lists the models.")
@click.option("--card", type=click.Path(path_type=Path), help="What the weights are (TOML or JSON).")
@click.option("--template", default="", help="Instead of a card: the published task they were trained for.")
@click.option("--name", default="", help="With --template: what the weights are called.")
@click.option("--task", default="", help="With --template: a name that makes them a model of their own, ct-voco-NAME.")
@click.option("--version", default="", help="With --template; left out: the lowest number that is free.")
@click.option("--sha256", default="", help="What the file must have, as its publisher says.")
@click.option(
    "--use", type=click.Choice(["live", "shadow", "off"]), help="Left out: live when it is the first version."
)
@WHO
def add(
    files: tuple[Path, ...],
    model: str,
    card: Path | None,
    template: str,
    name: str,
    task: str,
    version: str,
    sha256: str,
    use: str | None,
    who: str,
) -> None:
    """Check FILE (or the folds of an ensemble), convert it to safetensors and store it beside its card.

    Nothing is stored that the network refuses. A card that names a task makes the weights a model of their own,
    MODEL-TASK, whose live version is beside those of others.
    """
    from radnode import weights_use
    from radnode_inference import weights_store
    from radnode_inference.weights_tasks import model_of, network_of, task_of

    with refusals() as settings, opened() as database:
        if card is not None and task:
            raise ValueError("--task goes with --template; a card says its task itself")
        task = task or task_of(model)
        number = version or free_number(database, model_of(network_of(model), task), settings)
        with card_of(card, template, name, number, given=bool(version), task=task) as described:
            stored = weights_store.add(files, model, described, settings.weights_folder, sha256=sha256)
        with database.reading() as session:
            first = not any(m == stored.model for m, _ in weights_use.uses(weights_use.history(session)))
        chosen = weights_use.Use(use or ("live" if first else "off"))
        went = weights_use.put(database, settings, stored.model, stored.version, chosen, person(who))
        read = what_it_reads(stored, settings)
    click.echo(f"{stored.model} {stored.version} ({stored.name}) is stored, SHA-256 {stored.sha256}; it is {chosen}.")
    tell_off(stored.model, went)
    if read:
        click.echo(read)


def free_number(database: "Database", model: str, settings: "Settings") -> str:
    """The lowest number that no version of the model has or had."""
    from radnode import weights_use
    from radnode_inference.weights import versions

    with database.reading() as session:
        known = {c.version for c in weights_use.history(session, model)} | set(versions(model, settings.weights_folder))
    return next(str(n) for n in range(1, len(known) + 2) if str(n) not in known)


def what_it_reads(stored: "WeightsFile", settings: "Settings") -> str:
    """Which studies go to a task's model, where no rule of the site's says it; "" where one does, and for every other model."""
    from radnode_inference.weights_tasks import region_of, task_of

    if not task_of(stored.model) or any(stored.model in r.models for r in settings.rules or ()):
        return ""
    if region := region_of(stored.settings):
        return f"Studies that show {' or '.join(region)} go to it, as its card says; a rule in radnode.toml that names it takes the place of that."
    return f'It reads nothing yet, its card names no region. In radnode.toml: [[rules]] with name, models = ["{stored.model}"] and when.'


def tell_off(model: str, versions: Sequence[str]) -> None:
    """Say which versions went off because another became live."""
    for version in versions:
        click.echo(f"{model} {version}, which was live, is off now: one version of a model is live at a time.")


@contextmanager
def card_of(
    card: Path | None, template: str, name: str, version: str, *, given: bool, task: str = ""
) -> Iterator[Path]:
    """The card that was given, or that of a template. given: the version was asked for. task: of a template's weights.

    Raises ValueError when it is neither or both.
    """
    from radnode_inference import card_templates

    if card is not None and given:
        raise ValueError("--version goes with --template; a card says its version itself")
    if card is not None and not template:
        yield card
        return
    if card is not None or not (template and name):
        raise ValueError("give --card, or --template with --name")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"{template}.toml"
        made.write_text(card_templates.text(template, name, version, task), encoding="utf-8")
        yield made


@weights.command()
def templates() -> None:
    """The cards to start from, and the published tasks that have none."""
    from radnode_inference import card_templates

    for name, what in card_templates.templates():
        click.echo(f"{name}: {what}")


@weights.command()
@click.argument("name")
def template(name: str) -> None:
    """The card NAME, to be filled in (TOML)."""
    from radnode_inference import card_templates

    with refusals():
        click.echo(card_templates.text(name), nl=False)


@weights.command("list")
def list_() -> None:
    """Every stored version and what it is used for."""
    from radnode import weights_use
    from radnode_inference.weights import WeightsError, find

    with refusals() as settings, opened() as database:
        with database.reading() as session:
            uses = weights_use.uses(weights_use.history(session))
        there = weights_use.stored(settings)
        if not there:
            none(
                "no weights are stored here",
                "`radnode weights add` takes in a file; `radnode models` says what each model needs.",
            )
        for model, version in there:
            use = uses.get((model, version), "without a setting")
            try:
                found = find(model, settings.weights_folder, None, version)
                assert found is not None
                told = f"{found.name}; SHA-256 {found.sha256}; {found.intended_use}"
            except WeightsError as e:
                told = f"WRONG: {e}"
            click.echo(f"{model} {version}: {use}; {told}")


@weights.command()
@click.argument("model", required=False)
@click.argument("version", required=False)
@click.pass_context
def verify(ctx: click.Context, model: str | None, version: str | None) -> None:
    """Read every stored file, or those of MODEL, or one VERSION, and compare it with its card. Exit code 1 when one differs."""
    from radnode import weights_use
    from radnode_inference import weights as files

    wrong = 0
    with refusals() as settings:
        asked = [(m, v) for m, v in weights_use.stored(settings) if model in (None, m) and version in (None, v)]
        if model is not None and not asked:
            raise ValueError(f"there are no such weights in {settings.weights_folder}")
        if not asked:
            none("no weights are stored here", "`radnode weights add` takes in a file.")
        for m, v in asked:
            try:
                found = files.find(m, settings.weights_folder, None, v)
                assert found is not None
                files.verify_all(found)
                click.echo(f"ok    {m} {v}: SHA-256 {found.sha256}")
            except files.WeightsError as e:
                wrong += 1
                click.echo(f"WRONG {m} {v}: {e}")
    ctx.exit(1 if wrong else 0)


@weights.command()
@click.argument("model")
@click.argument("version")
@click.argument("use", type=click.Choice(["live", "shadow", "off"]))
@WHO
def use(model: str, version: str, use: str, who: str) -> None:
    """Use VERSION of MODEL so, from the next job on. Only one version is live: the one before it goes off."""
    from radnode import weights_use

    with refusals() as settings, opened() as database:
        went = weights_use.put(database, settings, model, version, weights_use.Use(use), person(who))
    click.echo(f"{model} {version} is {use}.")
    tell_off(model, went)


@weights.command()
@click.argument("model")
@WHO
def rollback(model: str, who: str) -> None:
    """Make the version live that was so before."""
    from radnode import weights_use

    with refusals() as settings, opened() as database:
        version = weights_use.rollback(database, settings, model, person(who))
    click.echo(f"{model} {version} is live again.")


@weights.command()
@click.argument("model")
@click.argument("version")
@WHO
def remove(model: str, version: str, who: str) -> None:
    """Delete a stored version that is off. What it reported stays, but cannot be made again."""
    from radnode import weights_use
    from radnode_inference import weights as files

    with refusals() as settings, opened() as database:
        with database.reading() as session:
            now = weights_use.uses(weights_use.history(session)).get((model, version))
        if now in (weights_use.Use.LIVE, weights_use.Use.SHADOW):
            raise ValueError(
                f"{model} {version} is {now}: turn it off first (radnode weights use {model} {version} off)"
            )
        files.remove(model, version, settings.weights_folder)
        weights_use.put(database, settings, model, version, weights_use.Use.REMOVED, person(who))
    click.echo(f"{model} {version} is removed.")


@weights.command()
@click.argument("model", default="")
def history(model: str) -> None:
    """Who used which version for what, and when."""
    from radnode import weights_use
    from radnode.commands.look import moment

    with refusals(), opened() as database, database.reading() as session:
        changes = weights_use.history(session, model)
        if not changes:
            none("no version was ever put to use", "`radnode weights list` says what is stored.")
        for c in changes:
            click.echo(f"{moment(c.at)} {c.model} {c.version}: {c.before or 'new'} -> {c.use}, by {c.who}")


@weights.command()
@click.argument("study_uid", default="")
def shadow(study_uid: str) -> None:
    """What versions in shadow found, in one study or in the newest of all. None of it is reported."""
    from radnode import shadow as runs

    with refusals(), opened() as database, database.reading() as session:
        found = runs.runs(session, study_uid)
        if not found:
            none("nothing was read in shadow", "`radnode weights use MODEL VERSION shadow` has a version read unseen.")
        for run in found:
            click.echo(f"{run.study_uid} revision {run.revision}: {runs.in_words(run)}")


@weights.command()
@click.argument("model")
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--says", required=True, help="Which studies these are, in words; it stands in every result.")
def reference(model: str, folders: tuple[Path, ...], says: str) -> None:
    """What the inputs of MODEL look like in the studies in FOLDERS, one each: the card's out_of_distribution (JSON)."""
    import orjson

    from radnode import weights_use
    from radnode_inference import guards_fit, registry
    from radnode_inference.study import Study

    with refusals() as settings:
        card = next((c for c in weights_use.known_cards(settings) if c.identity.name == model), None)
        loaded = registry.load(card or registry.card(model, settings.weights_folder), "cpu", settings.weights_folder)
        made, left_out = guards_fit.section(loaded, (Study.from_folder(f) for f in folders), says)
    for sentence in left_out:
        click.echo(f"left out: {sentence}", err=True)
    click.echo(orjson.dumps({"out_of_distribution": made}, option=orjson.OPT_INDENT_2).decode())
