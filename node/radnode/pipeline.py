"""READ FIRST: a study's way through the node, one short function for each arrow, each with one trigger.

    C-STORE / STOW     quiet and counted      claimed                        due
    instance --------> study --------------> job --------> findings -------> delivery
    receive, store     complete, route       work          report            deliver

Every arrow ends in one transaction. A crash between two arrows leaves a row that the next turn picks up:

| arrow    | trigger               | what it leaves                                  | where         |
|----------|-----------------------|-------------------------------------------------|---------------|
| receive  | a C-STORE or STOW-RS  | a durable file, then an InstanceRow (unsettled) | `store`       |
| settle   | unsettled instances   | a StudyRow: RECEIVING, or reopened              | here          |
| complete | quiet, nobody sending | the study is COMPLETE                           | here          |
| route    | a COMPLETE study      | RouteRows, JobRows; the study is ROUTED         | here          |
| claim    | a due job             | the job is RUNNING and this worker's            | here          |
| read     | a claimed job         | result files, durable, without rows             | `engine`      |
| end      | an answer of a model  | ResultRows, the outbox; job ended; study READ   | here          |
| deliver  | a due delivery        | the delivery is DELIVERED, or due again         | `deliver`     |
| recover  | a silent worker       | the job is QUEUED again, or FAILED              | here          |
| amend    | nothing is missing    | the study is RECEIVING, one revision later      | `second_look` |
| rerun    | a person              | the job is QUEUED again; study ROUTED           | `jobs`        |
| retract  | a person, a worse end | nothing is current; notes in the outbox         | `retract`     |
"""

import logging
import time
from collections.abc import Sequence

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from radnode import addresses, events, fetches, jobs, results, routing, shadow, weights_use
from radnode import complete as completeness
from radnode.database import Database
from radnode.events import Action
from radnode.faults import Point, crash_point
from radnode.jobs import Job
from radnode.profiles import Omission
from radnode.results import StoredResult
from radnode.retract import drop_findings, reject_status
from radnode.route import Route, decide, nothing
from radnode.settings import Settings
from radnode.states import JobState
from radnode.unread import leave
from radnode_inference.model import DeclinedError, ModelCard

log = logging.getLogger(__name__)


def settle(database: Database, settings: Settings, *, since: float) -> int:
    """instance -> study: count what arrived into its studies, and reopen those that were complete; how many."""
    return completeness.settle(database, settings, since=since, now=time.time())


def complete(
    database: Database, evidence_wait_s: float = 0.0, *, priors: bool = False, now: float | None = None
) -> tuple[str, ...]:
    """study -> complete study: those that were quiet long enough, and that nobody says is not whole (so long at most).

    now: a time at which the clock was known to be right; a jump since then makes nothing look quiet.
    """
    now = time.time() if now is None else min(now, time.time())
    return completeness.complete(database, now=now, evidence_wait_s=evidence_wait_s, priors=priors)


def route(database: Database, settings: Settings, cards: Sequence[ModelCard] | None = None) -> int:
    """complete study -> jobs: ask every rule about every complete study; how many studies were routed.

    cards: the models there are; None: those whose weights are live now. A study that cannot be routed is tried again at
    the next turn; its error is raised where no other one was routed.
    """
    routed, failed = 0, None
    for study_uid, revision in routing.complete_studies(database):
        crash_point(Point.COMPLETE_BEFORE_ROUTE)
        there = weights_use.live_cards(database, settings) if cards is None else cards
        try:
            routes = ask(database, settings, there, study_uid)
            routed += routing.keep(database, settings, study_uid, revision, routes)
        except (OperationalError, InterfaceError):  # the database is away: for all of them
            raise
        except Exception as e:  # the studies behind it do not wait for it
            e.add_note(f"while study {study_uid} was routed")
            failed = e
    if failed is not None and not routed:
        raise failed
    return routed


def ask(database: Database, settings: Settings, cards: Sequence[ModelCard], study_uid: str) -> tuple[Route, ...]:
    """Every decision about a study. One that cannot be looked at holds up no other, and its story says why."""
    with database.reading() as session:
        gone = completeness.let_go(session, study_uid)
    if gone:
        return (nothing(study_uid, f"{gone} of its images were let go earlier: it is read when they were sent again."),)
    with database.reading() as session:
        later = fetches.is_prior_only(session, study_uid)
    if later:
        return (
            nothing(
                study_uid, f"It was fetched as an earlier study of {later}, to compare with, and is not read itself."
            ),
        )
    try:
        facts = routing.look(database, settings, study_uid)
        unseen = shadow.routes(facts, weights_use.shadow_cards(database, settings), settings.rules)
        return (*decide(facts, cards, settings.rules), *unseen)
    except SQLAlchemyError:
        raise
    except Exception as e:  # a header or a library may fail in any way; whoever comes after must not wait for it
        log.exception("A study cannot be looked at.", extra={"action": "route", "study_uid": study_uid})
        reason = f"The stored objects of this study cannot be looked at ({type(e).__name__}: {e})."
        return (nothing(study_uid, reason),)


def claim(database: Database, worker: str) -> Job | None:
    """job -> claimed job: the most urgent one that is due."""
    return jobs.claim(database, worker, time.time())


def end(
    database: Database,
    settings: Settings,
    job: Job,
    stored: Sequence[StoredResult],
    *,
    read_s: float = 0.0,
    omissions: Sequence[Omission] = (),
    reasons: Sequence[str] = (),
) -> JobState:
    """findings -> deliveries: the results are current and owed, unless images arrived since; then nothing is reported.

    read_s: how long the model itself took, for the study's story. omissions: what some destinations do not get.
    reasons: what the model took each series for.
    Raises LostClaimError when the job is another worker's by now.
    """
    crash_point(Point.INFERRED_BEFORE_OUTBOX)
    now = time.time()
    with database.transaction() as session:
        if not completeness.is_as_settled(session, job.study_uid, job.revision):
            return end_stale(session, job, now)
        tell_series(session, job, reasons, now)
        sentence = f"{job.model} read it in {read_s:.2f} s and made {len(stored)} results."
        events.write(session, job.study_uid, Action.DONE, sentence, now)
        jobs.finish(session, job, JobState.DONE, "", now)
        reject_status(session, settings, job.study_uid, job.model, {r.uid for r in stored}, now)
        drop_findings(session, settings, job.study_uid, job.model, stored, now)
        to = addresses.destinations(session, settings)
        results.record(session, job, stored, to, now, again=job.rerun, omissions=omissions)
    return JobState.DONE


def end_declined(database: Database, settings: Settings, job: Job, declined: DeclinedError) -> JobState:
    """findings -> declined: the input does not suit the model; what it said of an earlier revision is retracted."""
    now = time.time()
    with database.transaction() as session:
        if not completeness.is_as_settled(session, job.study_uid, job.revision):
            return end_stale(session, job, now)
        tell_series(session, job, declined.reasons, now)
        sentence = f"{job.model} declined ({declined.gate}): {declined.sentence}"
        events.write(session, job.study_uid, Action.DECLINED, sentence, now)
        jobs.finish(session, job, JobState.DECLINED, str(declined), now)
        leave(session, settings, job, "declined", declined.sentence, now)
    return JobState.DECLINED


def tell_series(session: Session, job: Job, reasons: Sequence[str], now: float) -> None:
    """Write into the study's story what a model took each series for."""
    for reason in reasons:
        events.write(session, job.study_uid, Action.SERIES, f"{job.model}: {reason}.", now)


def end_held(database: Database, settings: Settings, job: Job, reasons: Sequence[str], folder: str) -> JobState:
    """findings -> withheld: the results contradict themselves; nothing of them is owed, and nothing earlier stands."""
    now = time.time()
    with database.transaction() as session:
        if not completeness.is_as_settled(session, job.study_uid, job.revision):
            return end_stale(session, job, now)
        reason = "; ".join(reasons)
        sentence = f"The result of {job.model} is withheld, its objects are kept in {folder}: {reason}."
        events.write(session, job.study_uid, Action.HELD, sentence, now)
        jobs.finish(session, job, JobState.HELD, reason, now, held=folder)
        leave(session, settings, job, "failed", f"Its result is withheld: {reason}.", now)
    return JobState.HELD


def end_stale(session: Session, job: Job, now: float) -> JobState:
    """findings -> nothing: they were made from a part of the study."""
    reason = "later images of the study arrived"
    events.write(session, job.study_uid, Action.STALE, f"What {job.model} found is not reported: {reason}.", now)
    jobs.finish(session, job, JobState.STALE, reason, now)
    return JobState.STALE


def recover(database: Database, settings: Settings) -> int:
    """lost job -> job: give the jobs of silent workers to others; how many."""
    return jobs.recover(database, settings, time.time())
