"""A study's story: one row per thing that happened to it, in words. No patient data."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import audit
from radnode.audit import Act, Kind
from radnode.tables import EventRow


class Action(StrEnum):
    """What can happen to a study between the last image and the end of its jobs."""

    ARRIVED = "arrived"
    REOPENED = "reopened"
    RETURNED = "returned"  # the node's own results came back from the PACS
    COMPLETE = "complete"
    ROUTED = "routed"
    NOT_ROUTED = "not-routed"
    STARTED = "started"
    SERIES = "series"  # what a model took a series for
    DONE = "done"
    DECLINED = "declined"
    RETRY = "retry"
    FAILED = "failed"
    STALE = "stale"
    READ = "read"
    RETRACTED = "retracted"
    RERUN = "rerun"
    HELD = "held"
    PRIORITY = "priority"  # a person set it or took it back, or other systems were told
    READING = "reading"  # a person read it, or takes that back
    LET_GO = "let-go"  # its images were deleted here: by retention, or a restore without them
    COMMITTED = "committed"  # a PACS keeps what it took
    NOT_COMMITTED = "not-committed"
    WAITING = "waiting"  # others say that there is more of the study
    REFUSED = "refused"  # the node did not keep images of it
    FETCHED = "fetched"
    CONFIRMED = "confirmed"  # a person stands for a report
    TEXT = "text"  # what a language model made of a report's text
    WITHDRAWN = "withdrawn"  # owed to a peer that gets no results any more
    CORRECTED = "corrected"  # its images came again and say that it is another patient's, or another study's name
    MOVED = "moved"  # another system's report was corrected to be about another study
    RULED = "ruled"  # a person said what a finding is worth


AUDITED = {
    Action.ARRIVED: Kind.RECEIVED,
    Action.REOPENED: Kind.RECEIVED,
    Action.COMPLETE: Kind.RECEIVED,
    Action.CORRECTED: Kind.CHANGED,
    Action.DONE: Kind.CHANGED,
    Action.RETRACTED: Kind.CHANGED,
    Action.HELD: Kind.CHANGED,
}
"""What the node itself does to a study and the audit tells of. What a person does is told of by `audit.ACT`."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """`at`: UTC epoch seconds. `action` is an Action, or one that the receiver or the outbox wrote."""

    at: float
    action: str
    sentence: str


def write(session: Session, study_uid: str, action: Action, sentence: str, now: float) -> None:
    """Add to the story, in the caller's transaction; what the audit has to tell too gets its row there."""
    session.add(EventRow(study_uid=study_uid, at=now, action=action, sentence=sentence))
    audit.concerns(session, study_uid)
    if action in AUDITED:
        audit.note(session, Act(kind=AUDITED[action], action=f"study {action}", study_uid=study_uid, detail=sentence))


def of_study(session: Session, study_uid: str) -> tuple[Event, ...]:
    """The story so far, in order."""
    rows = session.scalars(select(EventRow).where(EventRow.study_uid == study_uid).order_by(EventRow.id))
    return tuple(Event(at=r.at, action=r.action, sentence=r.sentence) for r in rows)
