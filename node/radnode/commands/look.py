"""Commands that only look: models, study, check, conformance."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from radnode.monitor import Alarm
    from radnode.settings import Settings
    from radnode.studies import DeliveryView, Story
    from radnode.waiting import Waiting
    from radnode_inference.model import ModelCard


@click.command()
@click.argument("name", required=False)
@click.pass_context
def models(ctx: click.Context, name: str | None) -> None:
    """What is installed: version, weights, inputs, findings, intended use, engine, open alarms.

    Of the model NAME also the rest of its card (training data, licence, gates, limitations, figures) and how each engine compared.
    """
    from radnode import settings, weights_use
    from radnode.commands.engines import told as engine

    loaded = settings.load()
    cards = [c for c in weights_use.known_cards(loaded) if name in (None, c.identity.name)]
    alarms = open_alarms(loaded)
    for card in cards:
        engines = [f"  engine       {engine(card, loaded.weights_folder)}"] if card.takes_weights else []
        said = [*whole(card), *comparisons(card, loaded.weights_folder)] if name else []
        click.echo("\n".join([*describe(card), *engines, *said, *alarms.get(card.identity.name, []), ""]))
    if name and not cards:
        click.echo(f"radnode: no model {name} is installed.", err=True)
        ctx.exit(1)


def open_alarms(loaded: "Settings") -> dict[str, list[str]]:
    """Model -> a line for each open alarm; {} where there is no database yet."""
    from sqlalchemy import inspect
    from sqlalchemy.exc import OperationalError

    from radnode import scores
    from radnode.database import Database
    from radnode.tables_monitoring import AlarmRow

    if not loaded.database_url and not (loaded.data / "radnode.db").is_file():
        return {}
    database = Database(loaded.url)
    told: dict[str, list[str]] = {}
    try:
        if inspect(database.engine).has_table(AlarmRow.__tablename__):
            with database.reading() as session:
                for known in scores.known(session, open_only=True):
                    told.setdefault(known.alarm.model, []).append(f"  ALARM        {in_words(known.alarm)}")
    except OperationalError:
        return {}  # the cards do not need the database, and `radnode check` says what is wrong with it
    finally:
        database.close()
    return told


def in_words(alarm: "Alarm") -> str:
    """ "score-up: 6.20 is above 5.00 since 2026-10-01 08:00, version 0.1, on SIEMENS Skyra"."""
    about = f", version {alarm.version}" if alarm.version else ""
    on = f", on {alarm.scanner}" if alarm.scanner else ""
    return f"{alarm.kind}: {alarm.value:.2f} is above {alarm.limit:.2f} since {moment(alarm.since)[:16]}{about}{on}"


def describe(card: "ModelCard") -> list[str]:
    identity = card.identity
    weights = identity.weights_name + (f" {identity.weights_version}" if identity.weights_version else "")
    digest = f" sha256 {identity.weights_sha256}" if identity.weights_sha256 else ""
    return [
        f"{identity.name} {identity.version}: {card.title}",
        f"  state        {card.availability}",
        f"  weights      {weights}{digest}",
        f"  reads        {card.modality}: {'; '.join(card.inputs)}",
        f"  finds        {', '.join(f.meaning for f in card.findings)}",
        f"  intended use {identity.intended_use}",
    ]


def whole(card: "ModelCard") -> list[str]:
    """What the card of the weights says besides its intended use."""
    about = card.about
    width = max((len(f"{f.of} {f.name}") for f in about.figures), default=0)
    said = [
        ("training", about.training_data), ("licence", about.licence), ("gates", "; ".join(about.gates)), ("calibration", about.calibration),
        *(("limitation", sentence) for sentence in about.limitations),
        *(("figures", cohort) for cohort in about.cohorts),
        *(("", f"{f'{f.of} {f.name}'.strip():<{width}}  {f.told}") for f in about.figures),
    ]  # fmt: skip
    return [f"  {key:<12} {words}" for key, words in said if words]


def comparisons(card: "ModelCard", weights: "Path") -> list[str]:
    """Every comparison of engines that is recorded for these weights, on whatever machine."""
    from radnode_inference.engines import record

    found = record.read(record.place(weights, card.engines_key)) if card.engines_key else ()
    return [f"  compared     {a.verdict} ({a.version}; {a.hardware})" for a in found]


@click.command()
@click.argument("uid")
@click.pass_context
def study(ctx: click.Context, uid: str) -> None:
    """Everything that happened to the study UID, and why."""
    import time

    from radnode import application, evidence, series_names, settings, studies, waiting
    from radnode.audit import Kind
    from radnode.database import Database
    from radnode.start import prepare

    loaded = settings.load()
    prepare(loaded)
    database = Database(loaded.url)
    try:
        with database.reading() as session:
            story, names = studies.story(session, uid), series_names.of(session, loaded.data, uid)
            waits, refused = waiting.of_study(session, loaded, uid, time.time()), evidence.refusal(session, uid)
    finally:
        database.close()
    if story is None:
        click.echo(f"radnode: this node never received a study {uid}. {refused}".rstrip(), err=True)
        ctx.exit(1)
    application.tell(loaded, Kind.SEEN, "radnode study", study_uid=uid)
    click.echo("\n".join(told(story, names, waits)))


def told(story: "Story", names: Mapping[str, str], waits: "Waiting | None") -> list[str]:
    """names: of the series, by their UIDs. waits: why it is not complete yet."""
    from radnode.shadow import in_words

    s = story.study
    lines = [
        f"study      {s.study_uid}",
        f"state      {s.state}, revision {s.revision}, {s.instances} images, {s.modalities or 'no modality'}",
        f"what       {s.study_description or '-'} {s.body_part}".rstrip(),
    ]
    if waits is not None:
        lines.append(f"waits      {waits.why}" + (f"; until {moment(waits.until)} at most" if waits.until else ""))
    if s.provisional:
        lines.append(f"lacks      {s.provisional}")
    lines += [
        f"series     {names[x.series_uid] or 'no name'}: {x.instances} objects, {x.series_uid}" for x in story.series
    ]
    for route in story.routes:
        lines.append(f"{'route' if route.chosen else 'not':<11}{route.model or 'any model'}: {route.reason}")
    for job in story.jobs:
        lines.append(
            f"job        {job.model}: {job.state} (attempt {job.attempt})" + (f": {job.reason}" * bool(job.reason))
        )
    lines += [f"result     {r.kind} {r.uid} by {r.model}{'' if r.current else ' (not current)'}" for r in story.results]
    for d in story.deliveries:
        why = f": {d.error}" if d.error else ""
        lines.append(f"delivery   {d.kind} {d.result_uid} to {d.destination}: {whereabouts(d)}{why}")
    lines += [f"shadow     {in_words(run)}" for run in story.shadow]
    lines += [f"not sent   {o.kind} of {o.model} to {o.destination}: {o.reason}" for o in story.omissions]
    lines += [f"{moment(e.at)} {e.action:<11} {e.sentence}" for e in story.events]
    return lines


def whereabouts(d: "DeliveryView") -> str:
    """How far a result is on its way: sent, taken, kept."""
    if d.state == "owed":
        return f"owed (attempt {d.attempt}), tried again at {moment(d.due_at)}"
    if d.state != "delivered" or d.proof in ("", "closed"):
        return f"{d.state} (attempt {d.attempt})"
    if d.proof == "committed":
        return f"taken, and kept since {moment(d.kept_at or 0.0)} ({d.proof_way})"
    said = "nobody can say whether it is kept" if d.proof == "unknowable" else "not proven to be kept yet"
    return f"taken, {said}" + (f" ({d.proof_reason})" if d.proof_reason else "")


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


@click.command()
@click.option("--files", is_flag=True, help="Also look at every stored file: minutes for a million of them.")
@click.pass_context
def check(ctx: click.Context, files: bool) -> None:
    """Test every setting, peer, destination, weight file, disk and the database: one line each."""
    from radnode import check as checks

    wrong = 0
    for answer in checks.everything(files=files):
        click.echo(f"{'ok   ' if answer.ok else 'WRONG'} {answer.what}: {answer.sentence}")
        wrong += not answer.ok
    ctx.exit(1 if wrong else 0)


@click.command()
def conformance() -> None:
    """The DICOM conformance statement (Markdown), generated from the code."""
    from radnode import settings
    from radnode.conformance import statement

    click.echo(statement(settings.load()))
