"""Jobs: one model run on one revision of one study. Every step is a compare-and-set, so that no two workers own one.

The life cycle is `radnode.states.JOB`; `move` is the only place that changes a job's state.
"""

from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from radnode import events
from radnode.database import Database
from radnode.errors import LostClaimError, RefusedError
from radnode.events import Action
from radnode.settings import Settings
from radnode.states import JOB, STUDY, JobState, StudyState
from radnode.tables import InstanceRow, JobRow, ResultRow, StudyRow
from radnode.unread import leave

OPEN = (JobState.QUEUED, JobState.RUNNING)
ENDED = (JobState.DONE, JobState.DECLINED, JobState.FAILED, JobState.HELD)
GONE = InstanceRow.current & InstanceRow.gone_at.is_not(None) & InstanceRow.sop_uid.not_in(select(ResultRow.uid))
"""An image that was let go; not a result of the node that had come back."""
URGENCY_S = 600.0
"""What one step of urgency is worth in waiting time: urgent work goes first, and old routine work is still served."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A claimed job. `attempt` counts from 1; `worker` is who claimed it; rerun: a person asked for it."""

    id: int
    study_uid: str
    revision: int
    model: str
    urgency: int
    attempt: int
    worker: str
    rerun: bool = False


def add(session: Session, *, study_uid: str, revision: int, model: str, urgency: int, now: float) -> None:
    """Queue a run, in the caller's transaction. A second one of the same revision and model is an IntegrityError."""
    session.add(
        JobRow(
            study_uid=study_uid,
            revision=revision,
            model=model,
            urgency=urgency,
            state=JobState.QUEUED,
            created_at=now,
            due_at=now,
        )
    )


def claim(database: Database, worker: str, now: float) -> Job | None:
    """The most urgent job that is due (see URGENCY_S), now this worker's; None when there is none.

    PostgreSQL: rows that another worker is claiming are skipped. SQLite: the transaction holds the write lock.
    """
    due = (
        select(JobRow.id)
        .where(JobRow.state == JobState.QUEUED, JobRow.due_at <= now)
        .order_by(JobRow.due_at - URGENCY_S * JobRow.urgency, JobRow.id)
        .limit(1)
    )
    with database.reading() as session:  # an idle worker must not take SQLite's write lock ten times a second
        if session.scalar(due) is None:
            return None
    with database.transaction() as session:
        job_id = session.scalar(due.with_for_update(skip_locked=True))
        if job_id is None:
            return None
        claimed = {"claimed_by": worker, "attempt": JobRow.attempt + 1, "beat_at": now, "started_at": now}
        if not move(session, job_id, JobState.QUEUED, JobState.RUNNING, **claimed, ended_at=None, progress=0.0):
            return None
        job = from_row(session.get_one(JobRow, job_id, populate_existing=True))
        events.write(session, job.study_uid, Action.STARTED, f"{job.model} started (attempt {job.attempt}).", now)
        return job


def beat(database: Database, job: Job, progress: float, now: float) -> None:
    """Say that the job is alive and how far it is (0..1). Raises LostClaimError when it is this worker's no longer."""
    with database.transaction() as session:
        query = update(JobRow).where(*ours(job)).values(beat_at=now, progress=progress)
        if changed(session.execute(query)) == 0:
            raise LostClaimError(f"job {job.id} is no longer {job.worker}'s")


def finish(session: Session, job: Job, state: JobState, reason: str, now: float, *, held: str = "") -> None:
    """End a claimed job, in the caller's transaction. held: the folder of withheld results. Raises LostClaimError when it is this worker's no longer."""
    lock_study(session, job.study_uid)
    if not move(
        session, job.id, JobState.RUNNING, state, *ours(job), reason=reason, ended_at=now, claimed_by="", held=held
    ):
        raise LostClaimError(f"job {job.id} is no longer {job.worker}'s")
    read_if_ended(session, job.study_uid, job.revision, now)


def try_again(database: Database, job: Job, settings: Settings, reason: str, now: float) -> JobState:
    """After a crash or a timeout: queue the job again with backoff, or end it as failed when out of attempts."""
    with database.transaction() as session:
        lock_study(session, job.study_uid)
        wait_s = settings.work.retry_s * 2 ** (job.attempt - 1)
        return again_or_failed(session, job, settings, reason, due_at=now + wait_s, now=now)


def release(database: Database, job: Job, reason: str, now: float) -> None:
    """Give a job back that its worker cannot finish because it is stopping; this attempt does not count."""
    with database.transaction() as session:
        back = {"reason": reason, "due_at": now, "attempt": JobRow.attempt - 1, "claimed_by": "", "beat_at": None}
        if move(session, job.id, JobState.RUNNING, JobState.QUEUED, *ours(job), **back):
            events.write(session, job.study_uid, Action.RETRY, f"{job.model} was given back: {reason}", now)


def rerun(database: Database, study_uid: str, model: str, now: float) -> tuple[str, ...]:
    """A person asks for another run of `model` ("": of every model) on the study as it stands; the models queued.

    Those that wait or run already are left alone. Raises RefusedError when there is nothing to run.
    """
    with database.transaction() as session:
        study = lock_study(session, study_uid)
        if study is None:
            raise RefusedError(f"this node never received a study {study_uid}")
        if study.state in (StudyState.RECEIVING, StudyState.COMPLETE):
            raise RefusedError("the images of this study are still arriving")
        if session.scalar(select(InstanceRow.id).where(InstanceRow.study_uid == study_uid, GONE).limit(1)) is not None:
            raise RefusedError("images of this study were let go (see its story): send them again to have it read")
        query = select(JobRow).where(JobRow.study_uid == study_uid, JobRow.revision == study.revision)
        found = [row for row in session.scalars(query.order_by(JobRow.id)) if model in ("", row.model)]
        if not found:
            raise RefusedError(f"{model or 'no model'} was not to read this study: see its routes")
        ended = [row for row in found if JobState(row.state) in ENDED]
        for row in ended:
            again = {"reason": "", "held": "", "attempt": 0, "due_at": now, "rerun": True, "progress": 0.0}
            move(session, row.id, JobState(row.state), JobState.QUEUED, **again)
            events.write(session, study_uid, Action.RERUN, f"A person asked for another run of {row.model}.", now)
        move_study(session, study_uid, StudyState.READ, StudyState.ROUTED)
        return tuple(row.model for row in ended)


def recover(database: Database, settings: Settings, now: float, *, worker: str = "") -> int:
    """Queue the jobs whose worker was not heard of for `lost_after_s`, or fail them when out of attempts; how many.

    worker: instead, every job of this worker, which is known to be dead (it is about to start anew).
    """
    lost = JobRow.claimed_by == worker if worker else JobRow.beat_at < now - settings.work.lost_after_s
    query = select(JobRow).where(JobRow.state == JobState.RUNNING, lost).order_by(JobRow.id)
    with database.reading() as session:
        jobs = [from_row(row) for row in session.scalars(query)]
    return sum(recover_one(database, job, settings, now, lost) for job in jobs)


def recover_one(database: Database, job: Job, settings: Settings, now: float, lost: Any) -> bool:
    with database.transaction() as session:
        lock_study(session, job.study_uid)
        if session.scalar(select(JobRow.id).where(*ours(job), lost)) is None:
            return False  # it beat in the meantime
        again_or_failed(session, job, settings, "its worker was lost", due_at=now, now=now)
        return True


def again_or_failed(
    session: Session, job: Job, settings: Settings, reason: str, *, due_at: float, now: float
) -> JobState:
    """Raises LostClaimError when the job is no longer the worker's."""
    attempts = settings.work.attempts
    if job.attempt >= attempts:
        sentence = f"{reason} (attempt {job.attempt} of {attempts})"
        events.write(session, job.study_uid, Action.FAILED, f"{job.model} failed: {sentence}", now)
        finish(session, job, JobState.FAILED, sentence, now)
        leave(session, settings, job, "failed", sentence, now)
        return JobState.FAILED
    back = {"reason": reason, "due_at": due_at, "claimed_by": "", "beat_at": None}
    if not move(session, job.id, JobState.RUNNING, JobState.QUEUED, *ours(job), **back):
        raise LostClaimError(f"job {job.id} is no longer {job.worker}'s")
    sentence = f"{job.model} is tried again in {max(0.0, due_at - now):.0f} s: {reason}"
    events.write(session, job.study_uid, Action.RETRY, sentence, now)
    return JobState.QUEUED


def make_stale(session: Session, study_uid: str, now: float) -> int:
    """End every open job of a study that later images made a part; a running one is stopped at its next beat."""
    query = select(JobRow.id, JobRow.state).where(JobRow.study_uid == study_uid, JobRow.state.in_(OPEN))
    ended = 0
    for job_id, state in session.execute(query.with_for_update()).all():
        reason = "later images of the study arrived"
        ended += move(session, job_id, JobState(state), JobState.STALE, reason=reason, ended_at=now, claimed_by="")
    return ended


def read_if_ended(session: Session, study_uid: str, revision: int, now: float) -> bool:
    """The study is READ once no job of its revision is open; the caller holds the study's lock."""
    still_open = select(JobRow.id).where(
        JobRow.study_uid == study_uid, JobRow.revision == revision, JobRow.state.in_(OPEN)
    )
    if session.scalar(still_open.limit(1)) is not None:
        return False
    read = move_study(session, study_uid, StudyState.ROUTED, StudyState.READ, StudyRow.revision == revision)
    if read:
        ran = session.scalar(
            select(JobRow.id).where(JobRow.study_uid == study_uid, JobRow.revision == revision).limit(1)
        )
        sentence = "Every run of this study has ended." if ran is not None else "No model was to read this study."
        events.write(session, study_uid, Action.READ, sentence, now)
    return read


def move(session: Session, job_id: int, old: JobState, new: JobState, *conditions: Any, **values: Any) -> bool:
    """Compare-and-set of a job's state; False when it was not `old` any more."""
    if new not in JOB[old]:
        raise ValueError(f"a job cannot go from {old} to {new}")
    query = update(JobRow).where(JobRow.id == job_id, JobRow.state == old, *conditions)
    return changed(session.execute(query.values(state=new, **values))) == 1


def move_study(
    session: Session, study_uid: str, old: StudyState, new: StudyState, *conditions: Any, **values: Any
) -> bool:
    """Compare-and-set of a study's state; False when it was not `old` any more."""
    if new not in STUDY[old]:
        raise ValueError(f"a study cannot go from {old} to {new}")
    query = update(StudyRow).where(StudyRow.study_uid == study_uid, StudyRow.state == old, *conditions)
    return changed(session.execute(query.values(state=new, **values))) == 1


def lock_study(session: Session, study_uid: str) -> StudyRow | None:
    """The row of a study, locked until the transaction ends (SQLite: the transaction holds the only write lock)."""
    return session.get(StudyRow, study_uid, with_for_update=True, populate_existing=True)


def ours(job: Job) -> tuple[Any, ...]:
    return (
        JobRow.id == job.id,
        JobRow.state == JobState.RUNNING,
        JobRow.claimed_by == job.worker,
        JobRow.attempt == job.attempt,
    )


def changed(result: object) -> int:
    return cast(CursorResult[Any], result).rowcount


def from_row(row: JobRow) -> Job:
    return Job(
        id=row.id,
        study_uid=row.study_uid,
        revision=row.revision,
        model=row.model,
        urgency=row.urgency,
        attempt=row.attempt,
        worker=row.claimed_by,
        rerun=row.rerun,
    )
