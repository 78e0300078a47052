"""The tables of triage: what was ordered, what people decided, what other systems were told. See `tables`."""

from sqlalchemy import JSON, Float, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from radnode.table import UID, Table


class OrderRow(Table):
    """An examination that another system ordered, as its newest HL7 messages say. Found by its accession number."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_number: Mapped[str] = mapped_column(String(255))  # the placer's, else the filler's
    accession_number: Mapped[str] = mapped_column(Text, index=True)
    patient_id: Mapped[str] = mapped_column(Text, default="")
    issuer_of_patient_id: Mapped[str] = mapped_column(Text, default="")
    other_ids: Mapped[list[list[str]]] = mapped_column(JSON, default=list)  # (identifier, issuer) each
    filler_number: Mapped[str] = mapped_column(String(255), default="", index=True)
    patient_class: Mapped[str] = mapped_column(String(16), default="")  # emergency, inpatient, outpatient or ""
    level: Mapped[str] = mapped_column(String(16), default="")  # STAT, HIGH, ROUTINE or ""
    level_at: Mapped[float] = mapped_column(Float, default=0.0)  # when a message said another level than before
    procedure: Mapped[str] = mapped_column(Text, default="")
    patient_name: Mapped[str] = mapped_column(Text, default="")  # as DICOM writes it (PS3.5 section 6.2.1)
    study_uid: Mapped[str] = mapped_column(UID, default="")
    modality: Mapped[str] = mapped_column(String(16), default="")
    scheduled_at: Mapped[str] = mapped_column(String(32), default="")  # as the message writes it
    cancelled: Mapped[bool] = mapped_column(default=False)
    said_at: Mapped[str] = mapped_column(String(32), default="")  # MSH-7 of the message that holds
    updated_at: Mapped[float] = mapped_column(Float, index=True)
    __table_args__ = (UniqueConstraint("order_number", "accession_number"),)


class MessageRow(Table):
    """An HL7 v2 message as it came, whether it was understood or not: committed before it is answered."""

    __tablename__ = "messages"
    id: Mapped[int] = mapped_column(primary_key=True)
    received_at: Mapped[float] = mapped_column(Float, index=True)
    address: Mapped[str] = mapped_column(String(64))
    control_id: Mapped[str] = mapped_column(String(255))
    answer: Mapped[str] = mapped_column(String(2))  # AA, AE or AR
    reason: Mapped[str] = mapped_column(Text, default="")
    body: Mapped[str] = mapped_column(Text)


class PriorityRow(Table):
    """A priority that a person set, or took back (`level` is ""). The newest row of a study holds; none is ever changed."""

    __tablename__ = "priorities"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    level: Mapped[str] = mapped_column(String(16))
    comment: Mapped[str] = mapped_column(Text)
    who: Mapped[str] = mapped_column(String(128))
    at: Mapped[float] = mapped_column(Float)


class ReadingRow(Table):
    """The revision of a study that a person has read. Images that come later make another revision, which nobody has read."""

    __tablename__ = "readings"
    study_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    revision: Mapped[int]
    who: Mapped[str] = mapped_column(String(128))
    at: Mapped[float] = mapped_column(Float, index=True)
    known: Mapped[list[dict[str, object]]] = mapped_column(JSON, default=list)  # what the AIs had found by then


class NoticeRow(Table):
    """The priority of a study that other systems were told last."""

    __tablename__ = "notices"
    study_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    level: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    at: Mapped[float] = mapped_column(Float)
    whose: Mapped[str] = mapped_column(String(64), default="")  # of which patient and order: see radnode.notify_moved


class PolicyRow(Table):
    """A triage policy that was in force from `at` on. Never changed."""

    __tablename__ = "policies"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float] = mapped_column(Float)
    settings_sha256: Mapped[str] = mapped_column(String(64))  # of the settings file; "" without one
    policy_sha256: Mapped[str] = mapped_column(String(64))
    policy: Mapped[dict[str, object]] = mapped_column(JSON)
