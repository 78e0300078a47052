"""Routes in the tables: what a study looks like to the rules, and the decisions with their jobs in one transaction."""

import time
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import events, jobs, retract, shadow
from radnode.complete import of_study
from radnode.database import Database
from radnode.events import Action
from radnode.facts import study_facts
from radnode.route import Route, StudyFacts
from radnode.settings import Settings
from radnode.states import StudyState
from radnode.tables import InstanceRow, RouteRow, StudyRow
from radnode_inference.study import Study

SAMPLES = 3
"""Images of a series whose headers are looked at: the first, the middle and the last."""


def complete_studies(database: Database) -> tuple[tuple[str, int], ...]:
    """(Study Instance UID, revision) of every study that waits to be routed, the longest waiting first."""
    with database.reading() as session:
        query = select(StudyRow.study_uid, StudyRow.revision).where(StudyRow.state == StudyState.COMPLETE)
        return tuple((uid, revision) for uid, revision in session.execute(query.order_by(StudyRow.due_at)))


def look(database: Database, settings: Settings, study_uid: str) -> StudyFacts:
    """What the rules may know of a study. Raises OSError when a stored file cannot be read."""
    with database.reading() as session:
        rows = session.scalars(select(InstanceRow).where(*of_study(study_uid)).order_by(InstanceRow.id)).all()
    by_series: dict[str, list[InstanceRow]] = {}
    for row in rows:
        by_series.setdefault(row.series_uid, []).append(row)
    files = [settings.data / r.file for group in by_series.values() for r in sample(group)]
    try:
        study = Study.from_files(files)
    except ValueError:  # not one readable header: no series, and the rules say so
        study = Study(study_uid=study_uid, series=())
    return study_facts(
        study,
        rules=settings.rules,
        calling_ae=rows[0].calling_ae if rows else "",
        called_aes=tuple(dict.fromkeys(title for r in rows for title in r.called_ae.split("\\"))),
        images=Counter(r.series_uid for r in rows),
    )


def sample(rows: Sequence[InstanceRow]) -> list[InstanceRow]:
    if len(rows) <= SAMPLES:
        return list(rows)
    return [rows[0], rows[len(rows) // 2], rows[-1]]


def keep(database: Database, settings: Settings, study_uid: str, revision: int, routes: Sequence[Route]) -> bool:
    """One transaction: decisions, jobs, the story, and the study is ROUTED. False: the study changed in the meantime.

    What a model said of an earlier revision that is not sent to it any more is retracted.
    """
    now = time.time()
    with database.transaction() as session:
        still = StudyRow.revision == revision
        if not jobs.move_study(session, study_uid, StudyState.COMPLETE, StudyState.ROUTED, still):
            return False
        for route in routes:
            keep_one(session, revision, route, now)
        retract_unrouted(session, settings, study_uid, routes, now)
        jobs.read_if_ended(session, study_uid, revision, now)
    return True


def retract_unrouted(session: Session, settings: Settings, study_uid: str, routes: Sequence[Route], now: float) -> None:
    """Take back what stands of models that do not read the study as it is now; no later run would ever replace it.

    A study of which no model was asked (its files cannot be looked at) keeps what it has.
    """
    reported = [r for r in routes if r.model and not r.shadow]
    if not reported:
        return
    why = {r.model: r.reason for r in reported if not r.chosen}
    read = {r.model for r in reported if r.chosen}
    for model in retract.standing_models(session, study_uid):
        if model not in read:
            because = why.get(model, "the model is not in use any more")
            sentence = f"the study as it is now is not sent to it ({because.rstrip('.')})"
            retract.retract(session, settings, study_uid, model, retract.REASONS["quality"], sentence, now)


def keep_one(session: Session, revision: int, route: Route, now: float) -> None:
    if route.shadow:
        shadow.add(session, route, revision, now)
        return
    session.add(
        RouteRow(
            study_uid=route.study_uid,
            revision=revision,
            model=route.model,
            chosen=route.chosen,
            urgency=route.urgency,
            reason=route.reason,
        )
    )
    if route.chosen:
        jobs.add(
            session,
            study_uid=route.study_uid,
            revision=revision,
            model=route.model,
            urgency=route.urgency,
            now=now,
        )
    action = Action.ROUTED if route.chosen else Action.NOT_ROUTED
    subject = f"{route.model}: " if route.model else ""
    events.write(session, route.study_uid, action, subject + route.reason, now)
