"""The tables beside a PACS: what it committed to, what it says there is, what is fetched from it. See `tables`."""

from sqlalchemy import JSON, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from radnode.table import UID, Table


class CommitmentRow(Table):
    """Whether a destination vouches for a result that it took: one row for each delivery to a PACS."""

    __tablename__ = "commitments"
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"), primary_key=True, autoincrement=False)
    destination: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    transaction_uid: Mapped[str] = mapped_column(UID, default="", index=True)
    way: Mapped[str] = mapped_column(String(32), default="")  # how it was asked: storage commitment, C-FIND
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    due_at: Mapped[float] = mapped_column(Float)  # when it is asked, or, once asked, until when an answer is awaited
    asked_at: Mapped[float | None] = mapped_column(Float)
    committed_at: Mapped[float | None] = mapped_column(Float)
    reason: Mapped[str] = mapped_column(Text, default="")
    __table_args__ = (Index("ix_commitments_destination_state_due_at", "destination", "state", "due_at"),)


class CommitRequestRow(Table):
    """A storage commitment that another system asked of the node: kept before its N-ACTION is answered."""

    __tablename__ = "commit_requests"
    transaction_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    calling_ae: Mapped[str] = mapped_column(String(64))
    called_ae: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64))
    asked_at: Mapped[float] = mapped_column(Float)
    named: Mapped[list[list[str]]] = mapped_column(JSON)  # [SOP class, SOP instance]
    state: Mapped[str] = mapped_column(String(16))  # owed, answered, dead
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    due_at: Mapped[float] = mapped_column(Float, index=True)
    committed: Mapped[int | None] = mapped_column(Integer)  # how many, once answered
    reason: Mapped[str] = mapped_column(Text, default="")


class PromiseRow(Table):
    """A study of which the node committed itself to keep images: its caller may have deleted its own. Never deleted."""

    __tablename__ = "promises"
    study_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    calling_ae: Mapped[str] = mapped_column(String(64))  # who was told last
    at: Mapped[float] = mapped_column(Float)


class EvidenceRow(Table):
    """What another system says belongs to a study. A row of a source is replaced by its next word."""

    __tablename__ = "evidence"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    source: Mapped[str] = mapped_column(String(16))  # mpps, ian, query, priors
    key: Mapped[str] = mapped_column(String(64))  # the procedure step's UID, or the name of the peer
    ended: Mapped[bool] = mapped_column(default=True)  # False: an acquisition that is still going on
    instances: Mapped[int | None] = mapped_column(Integer)  # how many objects there are, where a number was said
    series: Mapped[dict[str, int]] = mapped_column(JSON, default=dict)  # how many objects of each, where that was said
    named: Mapped[list[str]] = mapped_column(JSON, default=list)  # SOP Instance UIDs, where objects were named
    error: Mapped[str] = mapped_column(Text, default="")  # why nothing could be learnt, or a step was broken off
    at: Mapped[float] = mapped_column(Float)
    __table_args__ = (UniqueConstraint("study_uid", "source", "key"),)


class FetchRow(Table):
    """A study that is wanted from another system: a prior, one that a person asked for, or one that was never sent."""

    __tablename__ = "fetches"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    peer: Mapped[str] = mapped_column(String(64))
    wanted_by: Mapped[str] = mapped_column(String(128))  # who, or the study that it is a prior of
    why: Mapped[str] = mapped_column(String(16))  # prior, hand, reconcile
    state: Mapped[str] = mapped_column(String(16))  # queued, running, done, failed
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    instances: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[float] = mapped_column(Float)
    due_at: Mapped[float] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)
    reason: Mapped[str] = mapped_column(Text, default="")
    claimed_by: Mapped[str] = mapped_column(String(128), default="")
    claimed_until: Mapped[float] = mapped_column(Float, default=0.0)
    __table_args__ = (UniqueConstraint("study_uid", "peer", "why"), Index("ix_fetches_state_due_at", "state", "due_at"))


class TurnedAwayRow(Table):
    """A caller that sends, and for which no association was free: the rest of a study may be what was refused."""

    __tablename__ = "turned_away"
    calling_ae: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[float] = mapped_column(Float)  # the last time
    back_at: Mapped[float] = mapped_column(Float, default=0.0)  # when it was let in next


class UnseenRow(Table):
    """A study that another system holds and that the node never received, or received only a part of."""

    __tablename__ = "unseen"
    study_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    peer: Mapped[str] = mapped_column(String(64), primary_key=True)
    study_date: Mapped[str] = mapped_column(String(16), default="")
    study_time: Mapped[str] = mapped_column(String(16), default="")
    modalities: Mapped[str] = mapped_column(String(255), default="")
    instances: Mapped[int | None] = mapped_column(Integer)  # as the other system counts them
    here: Mapped[int] = mapped_column(Integer, default=0)  # as the node has them
    first_seen_at: Mapped[float] = mapped_column(Float)
    seen_at: Mapped[float] = mapped_column(Float)


class PeerChangeRow(Table):
    """One change of a peer. Never changed, never deleted."""

    __tablename__ = "peer_changes"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), index=True)
    at: Mapped[float] = mapped_column(Float)
    who: Mapped[str] = mapped_column(String(128))
    before: Mapped[dict[str, object] | None] = mapped_column(JSON(none_as_null=True))
    after: Mapped[dict[str, object] | None] = mapped_column(JSON(none_as_null=True))


class BreakerRow(Table):
    """A destination that does not answer: nothing is tried there until `until`, and then one delivery alone."""

    __tablename__ = "breakers"
    destination: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int] = mapped_column(Integer)
    since: Mapped[float] = mapped_column(Float)
    until: Mapped[float] = mapped_column(Float)
    error: Mapped[str] = mapped_column(Text)
