"""What radiologists say about single findings, and their remarks on studies. The only writer of these two tables.

Nothing is ever changed or deleted: the newest row of a finding holds, and an undone verdict is a row as well. A verdict
changes no result; it is counted for the agreement of people and model.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import ScalarSelect, func, select
from sqlalchemy.orm import Session

from radnode.tables import RemarkRow, VerdictRow

REMARK_LENGTH = 500
UNKNOWN = "?"
"""The scanner of a study whose images name none."""


class Ruling(StrEnum):
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    EDITED = "edited"  # there is something, but not as the model says; the comment says how
    UNDONE = "undone"
    ADDED = "added"  # a finding of a person's that the model did not make; the comment says which


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One ruling. said: the finding in words as the person saw it. at: UTC epoch seconds."""

    study_uid: str
    model: str
    tracking_uid: str
    said: str
    ruling: Ruling
    comment: str
    who: str
    at: float


@dataclass(frozen=True, kw_only=True)
class Remark:
    """A remark on a study; text "" for none, or one that was taken away. at: UTC epoch seconds."""

    text: str = ""
    who: str = ""
    at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How people ruled on a model's findings in one month ("2026-11"), on images of one scanner ("" for all)."""

    model: str
    month: str
    scanner: str
    accepted: int
    rejected: int
    edited: int
    added: int = 0

    @property
    def share(self) -> float:
        """Accepted findings among those ruled on, 0..1."""
        return self.accepted / max(1, self.accepted + self.rejected + self.edited)

    @property
    def found(self) -> float | None:
        """Of the findings that people stand by, the share that the model had made, 0..1; None where there are none.

        A proxy of its sensitivity and no more: people do not write down everything that they find.
        """
        real = self.accepted + self.edited + self.added
        return (self.accepted + self.edited) / real if real else None


def rule(session: Session, verdict: Verdict) -> None:
    """Record one ruling, in the caller's transaction. Raises ValueError for a correction that says nothing."""
    if verdict.ruling is Ruling.EDITED and not verdict.comment:
        raise ValueError("say in a few words what is right instead")
    if verdict.ruling is Ruling.ADDED and not verdict.comment:
        raise ValueError("say in a few words what the model did not find")
    session.add(VerdictRow(**vars(verdict) | {"ruling": str(verdict.ruling)}))


def history(session: Session, study_uid: str) -> tuple[Verdict, ...]:
    """Every ruling on the findings of one study, the oldest first."""
    query = select(VerdictRow).where(VerdictRow.study_uid == study_uid).order_by(VerdictRow.id)
    return tuple(view(row) for row in session.scalars(query))


def standing(rulings: tuple[Verdict, ...]) -> Mapping[tuple[str, str], Verdict]:
    """(model, tracking UID) -> the ruling that holds; those undone are left out."""
    newest = {(v.model, v.tracking_uid): v for v in rulings}
    return {key: v for key, v in newest.items() if v.ruling is not Ruling.UNDONE}


def agreement(session: Session, scanners: Mapping[str, str] | None = None) -> tuple[Agreement, ...]:
    """For each model and month (of the ruling, UTC) how people ruled, the oldest month first.

    scanners: study UID -> its scanner (`scores.scanners`), to tell them apart; UNKNOWN for those left out.
    """
    counts: dict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for verdict in in_force(session):
        month = datetime.fromtimestamp(verdict.at, UTC).strftime("%Y-%m")
        scanner = "" if scanners is None else scanners.get(verdict.study_uid, UNKNOWN)
        counts[verdict.model, month, scanner][verdict.ruling] += 1
    return tuple(
        Agreement(
            model=model,
            month=month,
            scanner=scanner,
            accepted=found[Ruling.ACCEPTED],
            rejected=found[Ruling.REJECTED],
            edited=found[Ruling.EDITED],
            added=found[Ruling.ADDED],
        )
        for (model, month, scanner), found in sorted(counts.items())
    )


def newest_of_findings() -> ScalarSelect[int]:
    """The id of the newest row of each finding."""
    finding = (VerdictRow.study_uid, VerdictRow.model, VerdictRow.tracking_uid)
    return select(func.max(VerdictRow.id)).group_by(*finding).scalar_subquery()


def in_force(session: Session, model: str = "") -> tuple[Verdict, ...]:
    """The ruling that holds of every finding, of one model or of all, in order of time; those undone are left out."""
    query = select(VerdictRow).where(VerdictRow.id.in_(newest_of_findings()), VerdictRow.ruling != Ruling.UNDONE)
    if model:
        query = query.where(VerdictRow.model == model)
    return tuple(view(row) for row in session.scalars(query.order_by(VerdictRow.at)))


def remark(session: Session, study_uid: str, text: str, who: str, at: float) -> None:
    """Put a remark on a study in place of the one before; "" takes it away."""
    session.add(RemarkRow(study_uid=study_uid, text=text[:REMARK_LENGTH], who=who, at=at))


def newest_remark(session: Session, study_uid: str) -> Remark:
    """The remark that holds of a study."""
    query = select(RemarkRow).where(RemarkRow.study_uid == study_uid).order_by(RemarkRow.id.desc()).limit(1)
    row = session.scalars(query).first()
    return Remark() if row is None else Remark(text=row.text, who=row.who, at=row.at)


def remarks(session: Session) -> Mapping[str, str]:
    """Study UID -> its remark; studies without one are left out."""
    newest = select(func.max(RemarkRow.id)).group_by(RemarkRow.study_uid)
    query = select(RemarkRow.study_uid, RemarkRow.text).where(RemarkRow.id.in_(newest.scalar_subquery()))
    return {uid: text for uid, text in session.execute(query) if text}


def view(row: VerdictRow) -> Verdict:
    return Verdict(
        study_uid=row.study_uid,
        model=row.model,
        tracking_uid=row.tracking_uid,
        said=row.said,
        ruling=Ruling(row.ruling),
        comment=row.comment,
        who=row.who,
        at=row.at,
    )
