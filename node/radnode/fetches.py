"""Studies that are wanted from other systems: the queue of fetches. The only writer of its table."""

import time
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, and_, exists, func, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from radnode import audit, events, evidence
from radnode.audit import Act, Kind, Outcome
from radnode.claims import is_alive, new_token, own_machine
from radnode.database import Database
from radnode.events import Action
from radnode.jobs import changed
from radnode.tables import InstanceRow, PeerRow, StudyRow
from radnode.tables_pacs import EvidenceRow, FetchRow

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
PRIOR, HAND, RECONCILE = "prior", "hand", "reconcile"
ATTEMPTS = 5
LEASE_S = 60.0
"""A claim that nobody renewed for so long is free again. Longer than a loop waits that failed, or a locked database."""

AFTER_S = 60.0
"""What comes so long after a fetch has ended is no part of it."""
NOT_YET = 1e18
"""In the place of the end of a fetch that goes on."""
RECENT_S = 86400.0
"""Priors are looked for of studies that came within this time: not of an old archive that is sent in."""


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """One study wanted from one peer. why: prior, hand or reconcile; wanted_by: who, or the study it is a prior of.

    token: of the claim of who fetches it now.
    """

    id: int
    study_uid: str
    peer: str
    wanted_by: str
    why: str
    state: str
    attempt: int
    instances: int | None
    created_at: float
    ended_at: float | None
    reason: str
    token: str = ""


def want(
    session: Session, study_uid: str, peer: str, why: str, wanted_by: str, now: float, *, again: bool = False
) -> bool:
    """Ask for a study, in the caller's transaction. False when it was asked for before (again: once more, if that ended)."""
    of_it = (FetchRow.study_uid == study_uid, FetchRow.peer == peer, FetchRow.why == why)
    row = session.scalars(select(FetchRow).where(*of_it)).one_or_none()
    if row is not None and (not again or row.state in (QUEUED, RUNNING)):
        return False
    if row is None:
        row = FetchRow(study_uid=study_uid, peer=peer, why=why)
        session.add(row)
    row.wanted_by, row.state, row.attempt, row.reason = wanted_by[:128], QUEUED, 0, ""
    row.created_at, row.due_at, row.ended_at, row.instances = now, now, None, None
    row.claimed_by, row.claimed_until = "", 0.0
    return True


def claim(database: Database, peer: str, now: float) -> Fetch | None:
    """The next study to fetch from this peer, for LEASE_S: what people asked for first, then priors."""
    order = (FetchRow.why != HAND, FetchRow.why != PRIOR, FetchRow.due_at, FetchRow.id)
    with database.transaction() as session:
        query = select(FetchRow).where(FetchRow.peer == peer, claimable(now)).order_by(*order).limit(1)
        row = session.scalars(query.with_for_update(skip_locked=True)).first()
        if row is None:
            return None
        row.state, row.claimed_by, row.claimed_until = RUNNING, new_token(), now + LEASE_S
        return from_row(row)


def waiting(database: Database, now: float) -> frozenset[str]:
    """The peers from which something is to be fetched now."""
    with database.reading() as session:
        return frozenset(session.scalars(select(FetchRow.peer).where(claimable(now)).distinct()))


def claimable(now: float) -> ColumnElement[bool]:
    """What waits, and what is being fetched by nobody any more."""
    lost = and_(FetchRow.state == RUNNING, FetchRow.claimed_until <= now)
    return or_(and_(FetchRow.state == QUEUED, FetchRow.due_at <= now), lost)


def renew(database: Database, tokens: Collection[str], until: float) -> None:
    """Who holds these is alive: nobody else may claim them before `until`."""
    with database.transaction() as session:
        session.execute(update(FetchRow).where(FetchRow.claimed_by.in_(tokens)).values(claimed_until=until))


def release_lost(database: Database) -> int:
    """What processes of this machine that are no more (or had this one's id) had in hand is free at once; how many."""
    with database.transaction() as session:
        mine = (FetchRow.state == RUNNING, FetchRow.claimed_by.startswith(own_machine(), autoescape=True))
        tokens = session.scalars(select(FetchRow.claimed_by).where(*mine))
        lost = [token for token in tokens if not is_alive(token)]
        change = update(FetchRow).where(FetchRow.claimed_by.in_(lost))
        return changed(session.execute(change.values(state=QUEUED, claimed_by="", claimed_until=0.0)))


def held(session: Session, fetch: Fetch) -> FetchRow | None:
    """The row of a claimed fetch, for its holder to settle; None when it is another's by now."""
    mine = (FetchRow.id == fetch.id, FetchRow.state == RUNNING, FetchRow.claimed_by == fetch.token)
    row = session.scalars(select(FetchRow).where(*mine).with_for_update()).one_or_none()
    if row is not None:
        row.claimed_by, row.claimed_until = "", 0.0
    return row


def here(database: Database, study_uid: str) -> int:
    """How many objects of a study the node has, or had."""
    of_it = select(func.count(InstanceRow.sop_uid.distinct())).where(InstanceRow.study_uid == study_uid)
    with database.reading() as session:
        return session.scalar(of_it) or 0


def done(database: Database, fetch: Fetch, instances: int, now: float, *, without: str = "") -> None:
    """It came; the story of the study that wanted it tells. without: kinds of objects that the peer hands out to nobody."""
    with database.transaction() as session:
        row = held(session, fetch)
        if row is None:
            return
        row.state, row.instances, row.ended_at = DONE, instances, now
        row.reason = f"it does not hand out {without}" if without else ""
        audit_of(session, fetch, f"{instances} objects", Outcome.SUCCESS)
        told = fetch.wanted_by if fetch.why == PRIOR else fetch.study_uid
        what = f"An earlier study ({fetch.study_uid})" if fetch.why == PRIOR else "The study"
        sentence = f"{what} was fetched from {fetch.peer}: {instances} objects"
        sentence += f", but {row.reason}." if without else "."
        events.write(session, told, Action.FETCHED, sentence, now)


def failed(
    database: Database, fetch: Fetch, reason: str, now: float, retry_s: float, *, brought: int | None = None
) -> None:
    """It did not come: tried again a few times, ever later, then told. brought: objects that came all the same; None: not known."""
    with database.transaction() as session:
        row = held(session, fetch)
        if row is None:
            return
        before = row.instances if fetch.attempt else 0
        row.instances = None if before is None or brought is None else before + brought
        row.attempt, row.reason = fetch.attempt + 1, reason
        row.state = QUEUED if row.attempt < ATTEMPTS else FAILED
        row.due_at = now + retry_s * 2.0**fetch.attempt
        if row.state == FAILED:
            row.ended_at = now
            audit_of(session, fetch, reason, Outcome.FAILED)
            told = fetch.wanted_by if fetch.why == PRIOR else fetch.study_uid
            sentence = f"{fetch.study_uid} could not be fetched from {fetch.peer}: {reason}."
            if row.instances == 0 and fetch.why != PRIOR:
                sentence += " Nothing of it came from there: what others sent counts by itself."
            events.write(session, told, Action.FETCHED, sentence, now)


def audit_of(session: Session, fetch: Fetch, said: str, outcome: Outcome) -> None:
    """The audit's row of a study that was asked for elsewhere: from whom, for whom, and what came of it."""
    detail = f"from {fetch.peer} for {fetch.wanted_by or 'nobody'} ({fetch.why}): {said}"
    act = Act(kind=Kind.RECEIVED, action="study fetched", study_uid=fetch.study_uid, detail=detail, outcome=outcome)
    audit.note(session, act)


def is_prior_only(session: Session, study_uid: str) -> str:
    """The study whose prior this one was fetched as, when nobody asked for it otherwise, nor sent it since; ""."""
    only = select(StudyRow.study_uid).where(StudyRow.study_uid == study_uid, as_prior_only())
    if session.scalar(only) is None:
        return ""
    wanted_by = select(FetchRow.wanted_by).where(FetchRow.study_uid == study_uid)
    return session.scalars(wanted_by.order_by(FetchRow.id)).first() or ""


def as_prior_only() -> ColumnElement[bool]:
    """The condition that a StudyRow was fetched as a prior, and neither asked for otherwise nor sent since: nobody is to read
    it. What comes AFTER_S after the fetch has ended is no part of it."""
    of_it = FetchRow.study_uid == StudyRow.study_uid
    ended_at = select(func.max(func.coalesce(FetchRow.ended_at, NOT_YET))).where(of_it).correlate(StudyRow)
    asked = exists().where(of_it, FetchRow.why == PRIOR) & ~exists().where(of_it, FetchRow.why != PRIOR)
    return asked & (StudyRow.last_instance_at <= ended_at.scalar_subquery() + AFTER_S)


def is_sent_anew(connection: Connection, study_uid: str) -> bool:
    """Whether a study that was fetched as a prior, and not read, is now sent to be read. Its first object says so."""
    of_it = (FetchRow.study_uid == study_uid, FetchRow.why == PRIOR, FetchRow.state == DONE)
    ended_at = connection.execute(select(func.max(FetchRow.ended_at)).where(*of_it)).scalar()
    if ended_at is None or time.time() <= ended_at + AFTER_S:
        return False
    since = (InstanceRow.study_uid == study_uid, InstanceRow.received_at > ended_at + AFTER_S)
    return connection.execute(select(InstanceRow.id).where(*since).limit(1)).first() is None


def are_coming(session: Session, study_uid: str) -> bool:
    """Whether priors of this study are being fetched for the first time."""
    of_it = (FetchRow.wanted_by == study_uid, FetchRow.why == PRIOR, FetchRow.attempt == 0)
    state = FetchRow.state.in_((QUEUED, RUNNING))
    return session.scalar(select(FetchRow.id).where(*of_it, state).limit(1)) is not None


def unfinished(session: Session, study: StudyRow) -> str:
    """Why a study that is being fetched is not whole yet, or broke off since its last image; "" otherwise."""
    rows = session.scalars(select(FetchRow).where(FetchRow.study_uid == study.study_uid).order_by(FetchRow.id)).all()
    if any(row.state == DONE and (row.ended_at or 0.0) >= study.last_instance_at for row in rows):
        return ""
    for row in rows:
        if row.state == RUNNING or (row.state == QUEUED and row.attempt > 0):
            return f"it is still being fetched from {row.peer}"
        late = row.state == FAILED and (row.ended_at or 0.0) >= study.last_instance_at
        if late and not (brought_nothing(session, row) or is_all_that_it_has(session, study, row)):
            return f"it could not be fetched whole from {row.peer}"
    return ""


def brought_nothing(session: Session, row: FetchRow) -> bool:
    """Whether a fetch that was given up left no part of the study here: then what others sent counts by itself."""
    peer = session.scalars(select(PeerRow).where(PeerRow.name == row.peer)).one_or_none()
    if row.instances != 0 or peer is None:
        return row.instances == 0
    since = (InstanceRow.study_uid == row.study_uid, InstanceRow.received_at >= row.created_at)
    its = InstanceRow.calling_ae.in_({peer.ae_title, peer.name} - {""})
    return session.scalar(select(InstanceRow.id).where(*since, its).limit(1)) is None


def is_all_that_it_has(session: Session, study: StudyRow, row: FetchRow) -> bool:
    """Whether the peer itself counted, after the last image came, no more than is here."""
    of_it = (
        EvidenceRow.study_uid == study.study_uid,
        EvidenceRow.source == evidence.QUERY,
        EvidenceRow.key == row.peer,
    )
    said = session.scalars(select(EvidenceRow).where(*of_it)).one_or_none()
    if said is None or said.error or said.at < study.last_instance_at or not said.instances:
        return False
    return evidence.surplus(session, study, said) == 0


def may_have_priors(now: float) -> tuple[ColumnElement[bool], ...]:
    """Conditions: studies whose priors are looked for. Priors themselves have none."""
    fetched = exists().where(FetchRow.study_uid == StudyRow.study_uid, FetchRow.why == PRIOR)
    whole = (StudyRow.patient_id != "", StudyRow.study_date != "", StudyRow.modalities != "")
    return (*whole, StudyRow.first_instance_at >= now - RECENT_S, ~fetched)


def are_sought(session: Session, study_uid: str, now: float) -> bool:
    """Whether nobody has looked for the priors of this study yet; one try that failed ends it."""
    looked = exists().where(EvidenceRow.study_uid == StudyRow.study_uid, EvidenceRow.source == evidence.PRIORS)
    query = select(StudyRow.study_uid).where(StudyRow.study_uid == study_uid, *may_have_priors(now), ~looked)
    return session.scalar(query) is not None


def latest(session: Session, limit: int = 200) -> tuple[Fetch, ...]:
    """The fetches, the newest first."""
    return tuple(
        from_row(r) for r in session.scalars(select(FetchRow).order_by(FetchRow.created_at.desc()).limit(limit))
    )


def from_row(row: FetchRow) -> Fetch:
    return Fetch(
        id=row.id, study_uid=row.study_uid, peer=row.peer, wanted_by=row.wanted_by, why=row.why, state=row.state,
        attempt=row.attempt, instances=row.instances, created_at=row.created_at, ended_at=row.ended_at, reason=row.reason,
        token=row.claimed_by,
    )  # fmt: skip
