"""Why a study that is being received is not complete yet, for its page and `radnode study`. Changes nothing."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import complete, sending
from radnode.settings import Settings
from radnode.states import StudyState
from radnode.tables import PeerRow, StudyRow


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """why: in words. until: UTC epoch seconds, at most; None while nobody can say."""

    why: str
    until: float | None


def of_study(session: Session, settings: Settings, study_uid: str, now: float) -> Waiting | None:
    """What a study waits for; None for one that is complete, or that the node does not know."""
    study = session.get(StudyRow, study_uid)
    if study is None or study.state != StudyState.RECEIVING:
        return None
    if session.scalar(select(StudyRow.study_uid).where(StudyRow.study_uid == study_uid, sending.is_sent(now))):
        return Waiting(why="it is being sent: an association with images of it is open", until=None)
    if study.due_at > now:
        return Waiting(why="more images may come", until=study.due_at)
    asked = tuple(session.scalars(select(PeerRow.name).where(PeerRow.may.contains("query"))))
    lack = complete.lack_of(session, study, asked, priors=bool(settings.priors.peer), now=now)
    until = study.due_at + settings.complete.evidence_wait_s
    if not lack.sentence or until <= now:
        return Waiting(why="nothing any more: the scheduler's next look completes it", until=None)
    return Waiting(why=lack.sentence, until=until)
