"""The role that has a language model write the texts of reports. Only where the site names one; no report waits for it."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import confirmations, events
from radnode.database import Database
from radnode.errors import SettingsError
from radnode.events import Action
from radnode.narrative import cases as narrative_cases
from radnode.narrative import narratives
from radnode.narrative.check import Statement
from radnode.narrative.facts import Told, told
from radnode.narrative.model import NoAnswerError, RefusedTextError, write
from radnode.narrative.narratives import MODELS, Narrative, Step
from radnode.patience import Patience
from radnode.pulse import Pulse, keep_turning
from radnode.settings import Settings
from radnode.tables import ReportRow
from radnode.tables_narrative import NarrativeRow
from radnode.triage import BY_FHIR
from radnode_fhir.confirm import CONFIRMED

POLL_S = 2.0
RECENT_S = 86400.0
"""Older reports keep their templates when a language model is named for the first time."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Due:
    """A report without a language model's word on it. version: when it changed last."""

    id: str
    study_uid: str
    model: str
    told: Told
    version: float


def turn(database: Database, settings: Settings, now: float, rest: Callable[[float], object] = lambda _: None) -> bool:
    """Have one text written, or find out that there is none; False when no report is due.

    rest: called with the seconds for which the server asks to be left alone. No connection to the database is open while the language model thinks.
    """
    with database.reading() as session:
        due = next_due(session, settings, now)
        if due is None:
            return False
        wanted = settings.narrative
        past = narrative_cases.similar(session, due.told, due.study_uid, wanted.language, wanted.examples)
        others = narrative_cases.of_others(session, due.study_uid, due.model)
    statements: Sequence[Statement] = ()
    step, reason, wait_s = Step.WRITTEN, "", 0.0
    try:
        statements = write(wanted, due.told, past, others)
    except RefusedTextError as e:
        step, reason = Step.REFUSED, str(e)
    except NoAnswerError as e:
        step, reason, wait_s = Step.DENIED if e.permanent else Step.UNANSWERED, str(e), e.wait_s
    keep(database, settings, due, step, reason, statements)
    if wait_s:
        rest(wait_s)
    return True


def keep(
    database: Database, settings: Settings, due: Due, step: Step, reason: str, statements: Sequence[Statement]
) -> None:
    """Record what became of it, unless the report changed meanwhile."""
    now = time.time()
    with database.transaction() as session:
        row = session.get(ReportRow, due.id, with_for_update=True)
        if row is None or row.updated_at != due.version:
            return
        made = Narrative(
            study_uid=due.study_uid,
            model=due.model,
            digest=due.told.digest,
            step=step,
            language=settings.narrative.language,
            who=settings.narrative.model or settings.narrative.url,
            at=now,
            reason=reason,
            statements=tuple({"finding": s.label, "text": s.text} for s in statements),
        )
        narratives.add(session, made)
        events.write(session, due.study_uid, Action.TEXT, sentence(due.model, step, reason), now)
    log.info("A text was asked for.", extra={"action": "text", "study_uid": due.study_uid, "state": str(step)})


def sentence(model: str, step: Step, reason: str) -> str:
    if step is Step.WRITTEN:
        return f"The language model's text for the report of {model} says what the findings say and is the draft."
    said = "was not taken" if step is Step.REFUSED else "did not come"
    return f"The language model's text for the report of {model} {said}: {reason}. The template stands."


def next_due(session: Session, settings: Settings, now: float) -> Due | None:
    """The newest report that waits for a text: what people look at next."""
    query = select(ReportRow).where(ReportRow.updated_at > now - RECENT_S, ReportRow.status.not_in(confirmations.GONE))
    answered = select(NarrativeRow.id).where(
        NarrativeRow.study_uid == ReportRow.study_uid,
        NarrativeRow.model == ReportRow.model,
        NarrativeRow.step.in_(MODELS),
        NarrativeRow.at >= ReportRow.updated_at,
    )
    query = query.where(ReportRow.status.not_in(CONFIRMED), ~answered.exists(), ~ReportRow.model.endswith(BY_FHIR))
    for row in session.scalars(query.order_by(ReportRow.updated_at.desc())):
        if may_ask(session, settings, row, now):
            try:
                said = told(row.bundle)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            return Due(id=row.id, study_uid=row.study_uid, model=row.model, told=said, version=row.updated_at)
    return None


def may_ask(session: Session, settings: Settings, row: ReportRow, now: float) -> bool:
    """Whether it was not asked in vain too often, or too lately."""
    failed = session.scalars(
        select(NarrativeRow.at).where(
            NarrativeRow.study_uid == row.study_uid,
            NarrativeRow.model == row.model,
            NarrativeRow.step == Step.UNANSWERED,
            NarrativeRow.at >= row.updated_at,
        )
    ).all()
    if len(failed) >= settings.narrative.attempts:
        return False
    return not failed or now >= max(failed) + settings.narrative.retry_s * 2.0 ** (len(failed) - 1)


def serve(settings: Settings, stop: threading.Event) -> None:
    """Have texts written until `stop`. Raises SettingsError where the site names no language model."""
    if not settings.narrative.url:
        raise SettingsError(
            "no-language-model",
            "No language model is named.",
            "Set url and model in [narrative], or leave this role out.",
        )
    database = Database(settings.url)
    patience, pulse = Patience("The writing of texts", "text"), Pulse(database, POLL_S)
    try:
        keep_turning(
            lambda: turn(database, settings, time.time(), stop.wait),
            stop,
            patience=patience,
            pulse=pulse,
            poll_s=POLL_S,
        )
    finally:
        database.close()
