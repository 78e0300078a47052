"""The table of report texts, beside those in `tables`."""

from sqlalchemy import JSON, Float, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from radnode.table import UID, Table


class NarrativeRow(Table):
    """One thing that happened to the text of a report. Never changed, never deleted."""

    __tablename__ = "narratives"
    id: Mapped[int] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID)
    model: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))  # of the findings that the text is about
    step: Mapped[str] = mapped_column(String(16))  # see radnode.narratives.Step
    language: Mapped[str] = mapped_column(String(8))
    text: Mapped[str] = mapped_column(Text, default="")
    statements: Mapped[list[dict[str, object]]] = mapped_column(JSON, default=list)
    reason: Mapped[str] = mapped_column(Text, default="")  # why a language model's text does not stand
    who: Mapped[str] = mapped_column(String(128))
    at: Mapped[float] = mapped_column(Float)
    __table_args__ = (
        Index("ix_narratives_study_uid_model", "study_uid", "model"),
        Index("ix_narratives_step_at", "step", "at"),
    )
