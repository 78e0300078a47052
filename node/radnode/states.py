"""The life cycles, each as a table: state -> the states it may go to."""

from collections.abc import Mapping
from enum import StrEnum


class StudyState(StrEnum):
    RECEIVING = "receiving"  # images arrive; the quiet timer runs
    COMPLETE = "complete"  # quiet long enough; about to be routed
    ROUTED = "routed"  # every rule was asked; jobs, if any, exist
    READ = "read"  # every job of this revision has ended


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"  # results exist (also "looked, found nothing")
    DECLINED = "declined"  # the input does not suit the model
    FAILED = "failed"  # out of attempts
    HELD = "held"  # results were made, break an invariant, and are withheld
    STALE = "stale"  # later images made this revision a part: nothing of it is reported


class DeliveryState(StrEnum):
    OWED = "owed"
    DELIVERED = "delivered"
    DEAD = "dead"  # given up after days, or refused for good; a person may send it again
    WITHDRAWN = "withdrawn"  # superseded or retracted before it left
    RETRACTED = "retracted"  # delivered, and a note that takes it back is owed since
    NOT_TAKEN = "not-taken"  # the destination does not take this kind of object


class CommitmentState(StrEnum):
    WAITING = "waiting"  # delivered; the destination is to be asked whether it keeps it
    ASKED = "asked"  # the answer may come on any association
    COMMITTED = "committed"
    REFUSED = "refused"  # it does not keep it: the delivery is owed again
    UNKNOWABLE = "unknowable"  # it can be asked in no way
    CLOSED = "closed"  # superseded or retracted before it was proven: nobody waits for it any more


STUDY: Mapping[StudyState, frozenset[StudyState]] = {
    StudyState.RECEIVING: frozenset({StudyState.COMPLETE}),
    StudyState.COMPLETE: frozenset({StudyState.ROUTED, StudyState.RECEIVING}),
    StudyState.ROUTED: frozenset({StudyState.READ, StudyState.RECEIVING}),
    StudyState.READ: frozenset({StudyState.RECEIVING, StudyState.ROUTED}),
}
JOB: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.STALE}),
    JobState.RUNNING: frozenset(
        {JobState.DONE, JobState.DECLINED, JobState.FAILED, JobState.STALE, JobState.QUEUED, JobState.HELD}
    ),
    JobState.DONE: frozenset({JobState.QUEUED}),  # this and the next three: a person asks for another run
    JobState.DECLINED: frozenset({JobState.QUEUED}),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.HELD: frozenset({JobState.QUEUED}),
    JobState.STALE: frozenset(),
}
DELIVERY: Mapping[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.OWED: frozenset(
        {DeliveryState.DELIVERED, DeliveryState.DEAD, DeliveryState.WITHDRAWN, DeliveryState.NOT_TAKEN}
    ),
    # owed: current again, re-run, or not kept by the destination; dead: not kept for days
    DeliveryState.DELIVERED: frozenset({DeliveryState.OWED, DeliveryState.RETRACTED, DeliveryState.DEAD}),
    DeliveryState.RETRACTED: frozenset({DeliveryState.OWED}),
    DeliveryState.DEAD: frozenset(
        {DeliveryState.OWED, DeliveryState.WITHDRAWN}
    ),  # withdrawn: a note that was overtaken
    DeliveryState.WITHDRAWN: frozenset({DeliveryState.OWED}),  # superseded before it left, and current again
    DeliveryState.NOT_TAKEN: frozenset({DeliveryState.OWED}),
}
COMMITMENT: Mapping[CommitmentState, frozenset[CommitmentState]] = {
    CommitmentState.WAITING: frozenset(set(CommitmentState) - {CommitmentState.WAITING}),
    CommitmentState.ASKED: frozenset(
        {CommitmentState.COMMITTED, CommitmentState.REFUSED, CommitmentState.WAITING, CommitmentState.CLOSED}
    ),
    CommitmentState.COMMITTED: frozenset({CommitmentState.WAITING}),  # this and the next three: delivered once more
    CommitmentState.REFUSED: frozenset({CommitmentState.WAITING}),
    CommitmentState.UNKNOWABLE: frozenset({CommitmentState.WAITING}),
    CommitmentState.CLOSED: frozenset({CommitmentState.WAITING}),
}
