"""Runs of weights in shadow: recorded, never reported. The only writer of their table.

A shadow run is no job: it has no results, no outbox, no report, and a study is read without it. Nothing that delivers,
reports or sorts the worklist looks at this table. A worker takes one up when no job is due.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from radnode import complete, weights_use
from radnode.database import Database
from radnode.engine import Engine, StoppedError
from radnode.engine_messages import Answer, Declined, Done, Failed, Held, Task
from radnode.jobs import changed
from radnode.route import Route, StudyFacts, decide
from radnode.settings import Rule, Settings
from radnode.states import JobState
from radnode.tables import ShadowRow
from radnode_inference.findings import Findings
from radnode_inference.model import ModelCard

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ShadowRun:
    """One unseen run. findings: as `summary` makes them. ended_at: UTC epoch seconds."""

    id: int
    study_uid: str
    revision: int
    model: str
    version: str
    state: JobState
    attempt: int
    ended_at: float | None
    reason: str
    weights_sha256: str
    findings: tuple[dict[str, Any], ...]


def summary(findings: Findings) -> tuple[dict[str, Any], ...]:
    """What a model found, as plain values: enough to compare with what was reported."""
    return tuple(
        {
            "name": f.tracking_id,
            "kind": str(f.kind),
            "concept": {"value": f.concept.value, "scheme": f.concept.scheme, "meaning": f.concept.meaning},
            "laterality": f.laterality.meaning if f.laterality else "",
            "probability": f.probability,
            "measurements": [
                {"meaning": m.concept.meaning, "value": m.value, "unit": m.unit.value} for m in f.measurements
            ],
        }
        for f in findings.items
    )


def routes(study: StudyFacts, cards: Sequence[ModelCard], rules: Sequence[Rule] | None) -> tuple[Route, ...]:
    """The versions in shadow that the rules send this study to."""
    return tuple(
        replace(route, shadow=card.identity.weights_version)
        for card in cards
        for route in decide(study, [card], rules)
        if route.chosen and route.model == card.identity.name
    )


def add(session: Session, route: Route, revision: int, now: float) -> None:
    """Queue an unseen run, in the caller's transaction."""
    session.add(
        ShadowRow(
            study_uid=route.study_uid,
            revision=revision,
            model=route.model,
            version=route.shadow,
            state=JobState.QUEUED,
            created_at=now,
        )
    )


def turn(database: Database, settings: Settings, engine: Engine, worker: str, stop: threading.Event) -> bool:
    """Claim a shadow run and take it to its end; False when there was none."""
    run = claim(database, settings, worker, time.time())
    if run is None:
        return False
    card = next((c for c in weights_use.shadow_cards(database, settings) if is_of(c, run)), None)
    if card is None:
        end(database, run, worker, Declined(gate="not-in-shadow", sentence="the version is not in shadow any more"))
        return True
    with database.reading() as session:
        files = complete.input_files(session, run.study_uid)
    task = Task(data=settings.data.resolve(), files=files, previous=(), rules=settings.rules, shadow=True)
    try:
        answer = engine.run(card, task, lambda _part: beat(database, run, worker), stop.is_set)
    except StoppedError:
        release(database, run, worker)
        return True
    end(database, run, worker, answer)
    log.info("A shadow run ended.", extra={"action": "shadow", "model": run.model, "version": run.version})
    return True


def is_of(card: ModelCard, run: ShadowRun) -> bool:
    return (card.identity.name, card.identity.weights_version) == (run.model, run.version)


def claim(database: Database, settings: Settings, worker: str, now: float) -> ShadowRun | None:
    """The oldest run that waits, or whose worker was not heard of; failed instead when it is out of attempts."""
    lost = ShadowRow.beat_at < now - settings.work.lost_after_s
    free = or_(ShadowRow.state == JobState.QUEUED, (ShadowRow.state == JobState.RUNNING) & lost)
    waiting = select(ShadowRow.id).where(free).order_by(ShadowRow.id).limit(1)
    with database.reading() as session:  # an idle worker must not take SQLite's write lock ten times a second
        if session.scalar(waiting) is None:
            return None
    with database.transaction() as session:
        run_id = session.scalar(waiting.with_for_update(skip_locked=True))
        row = session.get(ShadowRow, run_id) if run_id is not None else None
        if row is None:
            return None
        row.attempt += 1
        if row.attempt > settings.work.attempts:
            row.state, row.reason, row.ended_at = JobState.FAILED, "its worker was lost", now
            return None
        row.state, row.claimed_by, row.beat_at = JobState.RUNNING, worker, now
        return from_row(row)


def beat(database: Database, run: ShadowRun, worker: str) -> None:
    with database.transaction() as session:
        set_ours(session, run, worker, beat_at=time.time())


def release(database: Database, run: ShadowRun, worker: str) -> None:
    """Give a run back that its worker cannot finish because it is stopping; this attempt does not count."""
    with database.transaction() as session:
        set_ours(session, run, worker, state=JobState.QUEUED, attempt=ShadowRow.attempt - 1, claimed_by="")


def end(database: Database, run: ShadowRun, worker: str, answer: Answer) -> None:
    """Record what came of a run; a run on a study that has changed since is stale, as a job would be."""
    values: dict[str, Any] = {"ended_at": time.time(), "claimed_by": ""}
    with database.transaction() as session:
        if not complete.is_as_settled(session, run.study_uid, run.revision):
            values |= {"state": JobState.STALE, "reason": "later images of the study arrived"}
        elif isinstance(answer, Done):
            values |= {"state": JobState.DONE, "findings": list(answer.shadow), "weights_sha256": answer.weights_sha256}
        elif isinstance(answer, Failed):
            values |= {"state": JobState.FAILED, "reason": answer.sentence}
        elif isinstance(answer, Held):  # no run in shadow makes results
            values |= {"state": JobState.FAILED, "reason": "; ".join(answer.reasons)}
        else:
            values |= {"state": JobState.DECLINED, "reason": f"{answer.gate}: {answer.sentence}"}
        set_ours(session, run, worker, **values)


def set_ours(session: Session, run: ShadowRun, worker: str, **values: Any) -> bool:
    """Change a run that is still this worker's; False when another has it by now."""
    ours = (ShadowRow.id == run.id, ShadowRow.claimed_by == worker, ShadowRow.attempt == run.attempt)
    return changed(session.execute(update(ShadowRow).where(*ours).values(**values))) == 1


def runs(session: Session, study_uid: str = "", *, limit: int = 500) -> tuple[ShadowRun, ...]:
    """The runs of one study, or the newest of all; the oldest first."""
    query = select(ShadowRow).order_by(ShadowRow.id.desc()).limit(limit)
    if study_uid:
        query = query.where(ShadowRow.study_uid == study_uid)
    return tuple(from_row(r) for r in reversed(session.scalars(query).all()))


def in_words(run: ShadowRun) -> str:
    """One run in a sentence, with the warning that belongs to it."""
    said = run.reason
    if run.state is JobState.DONE:
        said = "; ".join(one(f) for f in run.findings) or "found nothing"
    return f"shadow, not reported: {run.model} {run.version}, {run.state}" + (f": {said}" if said else "")


def one(finding: dict[str, Any]) -> str:
    """ "Nodule 1 (left), 87 %, Volume 0.51 mL"."""
    parts = [finding["name"] + (f" ({finding['laterality'].lower()})" if finding["laterality"] else "")]
    if finding["probability"] is not None:
        parts.append(f"{100 * finding['probability']:.0f} %")
    parts += [f"{m['meaning']} {m['value']:.4g} {m['unit']}" for m in finding["measurements"][:1]]
    return ", ".join(parts)


def from_row(row: ShadowRow) -> ShadowRun:
    return ShadowRun(
        id=row.id,
        study_uid=row.study_uid,
        revision=row.revision,
        model=row.model,
        version=row.version,
        state=JobState(row.state),
        attempt=row.attempt,
        ended_at=row.ended_at,
        reason=row.reason,
        weights_sha256=row.weights_sha256,
        findings=tuple(row.findings),
    )
