"""The tables of watching models and policies: scores, alarms, a policy in shadow, simulations. See `tables`."""

from sqlalchemy import JSON, Float, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from radnode.table import UID, Table


class ScoreRow(Table):
    """What one version of a model said of one study, and on which scanner it was made. What drift is computed from."""

    __tablename__ = "scores"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID)
    model: Mapped[str] = mapped_column(String(64))
    version: Mapped[str] = mapped_column(String(255))  # of the code and the weights, as the report names them
    scanner: Mapped[str] = mapped_column(Text)  # manufacturer, model, station; "" where the images name none
    at: Mapped[float] = mapped_column(Float)  # when it was reported first
    seen: Mapped[float] = mapped_column(Float)  # the report's `updated_at` when this row was written
    status: Mapped[str] = mapped_column(String(32))  # of the report
    findings: Mapped[int] = mapped_column(Integer)
    probability: Mapped[float | None] = mapped_column(Float)  # the highest one; None: no finding gives any
    __table_args__ = (
        UniqueConstraint("study_uid", "model", "version"),
        Index("ix_scores_model_at", "model", "at"),
        Index("ix_scores_seen", "seen"),
    )


class AlarmRow(Table):
    """An alarm about a model: open until `cleared_at`. Never deleted."""

    __tablename__ = "alarms"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))  # see radnode.monitor.Kind
    model: Mapped[str] = mapped_column(String(64))
    version: Mapped[str] = mapped_column(String(255))
    scanner: Mapped[str] = mapped_column(Text)  # "" for all of them together
    value: Mapped[float] = mapped_column(Float)
    limit: Mapped[float] = mapped_column("limit_value", Float)
    since: Mapped[float] = mapped_column(Float)  # of the studies in which it began
    raised_at: Mapped[float] = mapped_column(Float)
    cleared_at: Mapped[float | None] = mapped_column(Float, index=True)


class PolicyShadowRow(Table):
    """Where a study stands by the policy in force, and where it would by the one in shadow. Nothing sorts by it."""

    __tablename__ = "policy_shadow"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID)
    policy_sha256: Mapped[str] = mapped_column(String(64))  # of the policy in shadow
    live_level: Mapped[str] = mapped_column(String(16))
    live_rule: Mapped[str] = mapped_column(String(64))
    shadow_level: Mapped[str] = mapped_column(String(16))
    shadow_rule: Mapped[str] = mapped_column(String(64))
    at: Mapped[float] = mapped_column(Float)
    __table_args__ = (UniqueConstraint("study_uid", "policy_sha256"),)


class SimulationRow(Table):
    """A simulation that somebody asked for on the page: what was asked, how far it is, what came out."""

    __tablename__ = "simulations"
    id: Mapped[int] = mapped_column(primary_key=True)
    asked: Mapped[dict[str, object]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16))  # see radnode.simulation.runs.State
    progress: Mapped[float] = mapped_column(Float, default=0.0)
    created_at: Mapped[float] = mapped_column(Float)
    beat_at: Mapped[float] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)
    reason: Mapped[str] = mapped_column(Text, default="")
    result: Mapped[dict[str, object] | None] = mapped_column(JSON)
