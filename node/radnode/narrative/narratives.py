"""What became of the text of each report: drafts by a language model, edits, confirmations. The only writer of that table.

Nothing is ever changed or deleted. The newest row of a person's (saved, reset, confirmed) holds; without one, the draft.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode.tables_narrative import NarrativeRow

TEXT_LENGTH = 10_000


class Step(StrEnum):
    WRITTEN = "written"  # by the language model, and accepted
    REFUSED = "refused"  # the language model's text does not say what the findings say
    UNANSWERED = "unanswered"  # the language model did not answer
    DENIED = "denied"  # it will not answer this, however often it is asked
    SAVED = "saved"  # a person's text, not confirmed
    RESET = "reset"  # a person took the draft again
    CONFIRMED = "confirmed"


PERSONS = frozenset({Step.SAVED, Step.RESET, Step.CONFIRMED})
MODELS = frozenset({Step.WRITTEN, Step.REFUSED, Step.DENIED})


@dataclass(frozen=True, kw_only=True)
class Narrative:
    """One step. digest: of the findings it is about. at: UTC epoch seconds. who: a person, or a language model by name.

    statements: of a language model, {"finding": label, "text": ...}; of a confirmed text, see cases.
    """

    study_uid: str
    model: str
    digest: str
    step: Step
    language: str
    who: str
    at: float
    text: str = ""
    reason: str = ""
    statements: tuple[dict[str, Any], ...] = field(default=())


def add(session: Session, made: Narrative) -> None:
    """Record one step, in the caller's transaction."""
    session.add(NarrativeRow(**vars(made) | {"step": str(made.step), "statements": list(made.statements)}))


def history(session: Session, study_uid: str) -> tuple[Narrative, ...]:
    """Every step of the texts of one study, the oldest first."""
    query = select(NarrativeRow).where(NarrativeRow.study_uid == study_uid).order_by(NarrativeRow.id)
    return tuple(view(row) for row in session.scalars(query))


def newest(steps: Sequence[Narrative], among: frozenset[Step], **wanted: str) -> Narrative | None:
    """The last of these steps that is `among` and as `wanted`."""
    found = (n for n in reversed(steps) if n.step in among and all(getattr(n, k) == v for k, v in wanted.items()))
    return next(found, None)


def confirmed_texts(session: Session, model: str, language: str, limit: int) -> tuple[Narrative, ...]:
    """The texts of a model's reports that people confirmed last, of all studies, the newest first."""
    query = select(NarrativeRow).where(
        NarrativeRow.step == Step.CONFIRMED, NarrativeRow.model == model, NarrativeRow.language == language
    )
    return tuple(view(row) for row in session.scalars(query.order_by(NarrativeRow.at.desc()).limit(limit)))


def view(row: NarrativeRow) -> Narrative:
    return Narrative(
        study_uid=row.study_uid,
        model=row.model,
        digest=row.digest,
        step=Step(row.step),
        language=row.language,
        who=row.who,
        at=row.at,
        text=row.text,
        reason=row.reason,
        statements=tuple(row.statements),
    )
