"""The tables of the FHIR store, beside those in `tables`."""

from sqlalchemy import JSON, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from radnode.table import Table


class ResourceRow(Table):
    """One version of one FHIR resource, the node's own or another system's; never changed but for `current`."""

    __tablename__ = "fhir_resources"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))  # resourceType
    resource_id: Mapped[str] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(Integer)
    current: Mapped[bool] = mapped_column(default=True)
    updated_at: Mapped[float] = mapped_column(Float)
    source: Mapped[str] = mapped_column(String(128), default="")  # who posted it; "" for the node itself
    body: Mapped[dict[str, object]] = mapped_column(JSON)
    __table_args__ = (
        UniqueConstraint("kind", "resource_id", "version"),
        Index("ix_fhir_resources_kind_current_updated_at", "kind", "current", "updated_at"),
    )


class TermRow(Table):
    """One value by which a search finds the current version of a resource: see radnode_fhir.terms."""

    __tablename__ = "fhir_terms"
    id: Mapped[int] = mapped_column(primary_key=True)
    resource: Mapped[int] = mapped_column(ForeignKey("fhir_resources.id"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    system: Mapped[str] = mapped_column(String(255), default="")
    value: Mapped[str] = mapped_column(String(255), default="")
    low: Mapped[float | None] = mapped_column(Float)
    high: Mapped[float | None] = mapped_column(Float)
    __table_args__ = (
        Index("ix_fhir_terms_name_value", "name", "value"),
        Index("ix_fhir_terms_name_low", "name", "low"),
    )


class NotificationRow(Table):
    """A change that a Subscription is to be told of: its own outbox, written in the transaction that makes the change."""

    __tablename__ = "fhir_notifications"
    id: Mapped[int] = mapped_column(primary_key=True)
    subscription_id: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(32))
    resource_id: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))  # of radnode.states.DeliveryState
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    created_at: Mapped[float] = mapped_column(Float)
    due_at: Mapped[float] = mapped_column(Float)
    claimed_until: Mapped[float] = mapped_column(Float, default=0.0)
    error: Mapped[str] = mapped_column(Text, default="")
    __table_args__ = (Index("ix_fhir_notifications_state_due_at", "state", "due_at"),)
