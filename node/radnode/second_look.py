"""Studies that were read as provisional, and of which nobody says any more that something is missing: read again, as whole.

A technologist may end a procedure step long after the last image was sent, and no image comes with that; nor does one
when a fetch that had broken off is tried again, or a sender that was turned away comes back, and all was here.
"""

from sqlalchemy import and_, exists, or_, select
from sqlalchemy.orm import Session

from radnode import complete, events, evidence, fetches, jobs, sending
from radnode.database import Database
from radnode.events import Action
from radnode.states import StudyState
from radnode.tables import InstanceRow, PeerRow, StudyRow
from radnode.tables_pacs import EvidenceRow, FetchRow, TurnedAwayRow

WEEK_S = 7 * 86_400.0
"""A study that was due longer ago is not looked at any more."""
BACK_S = 60.0
"""So long a sender that was turned away and is back has time to begin with what it had not sent."""


def amend(database: Database, now: float) -> tuple[str, ...]:
    """The studies that begin another revision of the same images: what was said of a part of them is amended by it."""
    said = exists().where(
        EvidenceRow.study_uid == StudyRow.study_uid,
        EvidenceRow.source.in_((evidence.STEP, evidence.NOTICE)),  # counts are asked for while a study is received
        EvidenceRow.at > StudyRow.due_at,
    )
    ended = FetchRow.state.in_((fetches.DONE, fetches.FAILED))  # one that was given up may have brought nothing
    brought = exists().where(FetchRow.study_uid == StudyRow.study_uid, ended, FetchRow.ended_at > StudyRow.due_at)
    sends = exists().where(
        InstanceRow.study_uid == StudyRow.study_uid, InstanceRow.calling_ae == TurnedAwayRow.calling_ae
    )
    since = (TurnedAwayRow.back_at > StudyRow.due_at, TurnedAwayRow.back_at <= now - BACK_S)
    returned = and_(exists().where(*since, sends), ~sending.is_sent(now))
    read = (StudyRow.state == StudyState.READ, StudyRow.provisional != "", StudyRow.due_at > now - WEEK_S)
    with database.reading() as session:
        wanted = session.scalars(select(StudyRow.study_uid).where(*read, or_(said, brought, returned))).all()
    return tuple(uid for uid in wanted if begin_again(database, uid, now))


def begin_again(database: Database, study_uid: str, now: float) -> bool:
    """One transaction: the study is received again, unless it lacks something, or changed meanwhile."""
    with database.transaction() as session:
        study = jobs.lock_study(session, study_uid)
        if study is None or not may_begin(session, study):
            return False
        revision = study.revision + 1
        still = (StudyRow.revision == study.revision, StudyRow.provisional != "")
        values = {"revision": revision, "due_at": now, "provisional": ""}
        if not jobs.move_study(session, study_uid, StudyState.READ, StudyState.RECEIVING, *still, **values):
            return False
        sentence = f"Nobody says any more that something is missing: revision {revision} begins, of the same images."
        events.write(session, study_uid, Action.REOPENED, sentence, now)
    return True


def may_begin(session: Session, study: StudyRow) -> bool:
    """Whether a study that was read as provisional lacks nothing now, and its images are all here."""
    asked = tuple(session.scalars(select(PeerRow.name).where(PeerRow.may.contains("query"))))
    arriving = select(InstanceRow.id).where(InstanceRow.study_uid == study.study_uid, ~InstanceRow.settled).limit(1)
    return (
        not evidence.missing(session, study, asked).known
        and not fetches.unfinished(session, study)
        and session.scalar(arriving) is None
        and not complete.let_go(session, study.study_uid)
    )
