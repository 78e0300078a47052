"""`radnode rules`: what rules would do, tried on a stored study or replayed over the last days."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from radnode.commands.peers import opened

if TYPE_CHECKING:
    from radnode.settings import Rule

DRAFT = click.option(
    "--rules",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A draft: TOML with [[rules]].",
)


@click.group()
def rules() -> None:
    """Which study goes to which model, and what other rules would change."""


def drafted(file: Path | None) -> "tuple[Rule, ...] | None":
    from radnode import rules_try

    return None if file is None else rules_try.read_draft(file)


@rules.command("try")
@click.argument("study_uid")
@DRAFT
def try_(study_uid: str, file: Path | None) -> None:
    """What the rules (or a draft) decide about the stored study STUDY_UID, and why. Nothing is run."""
    from radnode import rules_try, settings, weights_use

    loaded = settings.load()
    wanted = drafted(file) if file else loaded.rules
    with opened() as database:
        cards = weights_use.live_cards(database, loaded)
        for route in rules_try.try_rules(database, loaded, cards, study_uid, wanted):
            verdict = "runs" if route.chosen else "does not run"
            subject = f"{route.model} {verdict}" if route.model else "nothing runs"
            click.echo(f"{subject}: {route.reason}")


@rules.command()
@click.option("--days", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True)
@click.option(
    "--rules", "file", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A draft: TOML with [[rules]].",
)  # fmt: skip
def replay(days: float, file: Path) -> None:
    """What a draft would have changed among the studies of the last days. Nothing is run, nothing is changed."""
    from radnode import rules_try, settings, weights_use

    loaded = settings.load()
    draft = rules_try.read_draft(file)
    with opened() as database:
        cards = weights_use.live_cards(database, loaded)
        found = rules_try.replay(database, loaded, cards, draft, time.time() - days * 86400)
    click.echo(f"{found.studies} studies, {len(found.differences)} would change.")
    for model, (more, fewer) in found.runs().items():
        click.echo(f"{model}: {more} runs more, {fewer} fewer")
    for d in found.differences:
        changes = [f"+{m}" for m in d.more] + [f"-{m}" for m in d.fewer] + ([d.urgency] if d.urgency else [])
        click.echo(f"{d.study_uid} {d.study_date} {d.modalities}: {', '.join(changes)}")
        for why in d.why:
            click.echo(f"    {why}")
    for uid in found.unreadable:
        click.echo(f"{uid}: its objects cannot be looked at any more")
