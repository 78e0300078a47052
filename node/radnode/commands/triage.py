"""`radnode triage`: what a policy does to waiting times."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from radnode.settings import Ageing, TriageRule
    from radnode.simulation.compare import Comparison, Row
    from radnode.simulation.room import Read
    from radnode.simulation.traffic import Arrival, Description

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def triage() -> None:
    """The order of the worklist: what a policy would do."""


@triage.command()
@click.option(
    "--policy",
    type=FILE,
    help="TOML with [[triage]] rules (and [ageing]) as in radnode.toml; left out: what is in force.",
)
@click.option("--room", type=FILE, help="TOML that describes the reading room; the options below go before it.")
@click.option(
    "--from", "since", type=click.DateTime(["%Y-%m-%d"]), help="Use what the node received since this day (UTC)."
)
@click.option("--readers", type=click.IntRange(1, 200), help="Readers at work.  [1]")
@click.option("--load", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="How busy they are.  [0.8]")
@click.option("--reading-min", type=click.FloatRange(0, min_open=True), help="Minutes per study, on average.  [10]")
@click.option("--ai-latency-min", type=click.FloatRange(0), help="Minutes from the last image to the AI's report.  [0]")
@click.option("--interrupts", is_flag=True, help="An urgent study interrupts the reading of a lesser one.")
@click.option("--studies", type=click.IntRange(10), default=5000, show_default=True, help="Studies in a trial.")
@click.option("--trials", type=click.IntRange(1), default=10, show_default=True, help="Trials.")
@click.option("--seed", type=int, default=1, show_default=True, help="The first trial's seed.")
@click.option("--html", type=NEW_FILE, help="Also write a page with the table and a plot.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def simulate(
    policy: Path | None, room: Path | None, since: datetime | None, html: Path | None, as_json: bool,
    studies: int, trials: int, seed: int, interrupts: bool, **given: float | None,
) -> None:  # fmt: skip
    """Read the same studies in the order of arrival and in the order of a policy, and compare the waits."""
    from radnode.simulation import compare, show

    try:
        described, (rules, ageing) = room_of(room, given), policy_of(policy)
        traffic, really = (None, []) if since is None else past(rules, since, described, trials, seed)
    except ValueError as e:
        raise click.UsageError(str(e)) from e
    with click.progressbar(length=100, label="Simulating", hidden=as_json) as bar:
        result = compare.compare(
            described, rules, traffic=traffic, really=really, studies=studies, trials=trials, seed=seed, interrupts=interrupts, ageing=ageing,
            progress=lambda part: bar.update(round(100 * part) - bar.pos),
        )  # fmt: skip
    if html is not None:
        html.write_text(show.page(result), encoding="utf-8")
    click.echo(json.dumps(show.as_json(result), indent=2)) if as_json else table(result)


def room_of(file: Path | None, given: dict[str, float | None]) -> "Description":
    from radnode.simulation.traffic import Description, read_description

    base = read_description(file) if file is not None else Description()
    changed: dict[str, float | None] = {name: value for name, value in given.items() if value is not None}
    if "load" in changed:
        changed["per_hour"] = None
    return Description.model_validate(base.model_dump() | changed)


def policy_of(file: Path | None) -> tuple[Sequence["TriageRule"], "Ageing"]:
    """The rules and the limits of a file; what it leaves out is as in force. Raises ValueError that says what is wrong."""
    from radnode import settings
    from radnode.simulation.draft import parse
    from radnode.triage import DEFAULT_POLICY

    loaded = settings.load()
    if file is None:
        return (DEFAULT_POLICY if loaded.triage is None else loaded.triage), loaded.ageing
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise ValueError(f"{file} cannot be read: {e}") from e
    try:
        return parse(text, loaded.ageing)
    except ValueError as e:
        raise ValueError(f"{file}: {e}") from e


def past(
    rules: Sequence["TriageRule"], since: datetime, room: "Description", trials: int, seed: int
) -> tuple[list[list["Arrival"]], list["Read"]]:
    """The recorded traffic once per trial, with reading times drawn anew; and how long each study really waited."""
    from radnode import settings
    from radnode.commands.peers import opened
    from radnode.simulation import recorded

    with opened() as database:
        came = recorded.recorded(
            database, rules, since.replace(tzinfo=UTC).timestamp(), settings.load().patient_classes
        )
    if not came:
        raise ValueError(f"the node received no study since {since:%Y-%m-%d}")
    return recorded.trials(came, room, trials, seed), recorded.as_it_was(came, room)


def table(result: "Comparison") -> None:
    from rich.console import Console
    from rich.table import Table

    really = any(row.really for row in result.rows)
    shown = Table(title="Minutes that a study waits: mean ± 95 % confidence (theory), longest")
    ways = ("in the order of arrival", "with triage", *(["as it was"] if really else []))
    for name in ("", "studies", *(part for way in ways for part in (way, "longest"))):
        shown.add_column(name, justify="left" if not name else "right")
    for row in result.rows:
        shown.add_row(row.group, str(row.without.studies), *cells(row, result.trials), *(was(row) if really else ()))
    Console().print(shown)
    if really:
        click.echo("As it was: until a study was marked as read, less the mean reading time.")


def cells(row: "Row", trials: int) -> list[str]:
    made = []
    for waits, exact in ((row.without, row.exact_without), (row.with_triage, row.exact_with)):
        sure = f" ± {waits.half_width:.1f}" if trials > 1 else ""
        made += [
            f"{waits.mean:.1f}{sure}" + (f" ({exact:.1f})" if exact is not None else ""),
            f"{waits.longest:.0f}",
        ]
    return made


def was(row: "Row") -> list[str]:
    return [f"{row.really.mean:.1f} ({row.really.studies})", f"{row.really.longest:.0f}"] if row.really else ["–", "–"]
