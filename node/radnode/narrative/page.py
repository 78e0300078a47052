"""The text of each report as a person finds it: the draft or what a person made of it, where it comes from, whether it stands."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import confirmations, verdicts
from radnode.confirmations import GONE
from radnode.narrative import narratives
from radnode.narrative.check import Statement
from radnode.narrative.facts import Told, told
from radnode.narrative.narratives import MODELS, PERSONS, Narrative, Step
from radnode.narrative.template import draft, statements
from radnode.tables import ReportRow
from radnode.triage import BY_FHIR
from radnode.verdicts import Verdict
from radnode_fhir.confirm import CONFIRMED


@dataclass(frozen=True, kw_only=True)
class ReportText:
    """One report and its text. token: of what a person sees; another one means that something changed meanwhile.
    version: of the text that a person wrote of these findings; "" where nobody did.

    source: template, language-model, saved or confirmed. written: the last word of the language model on these
    findings, None where it was not asked. person: the last step of a person. stands: a person confirmed it as it is now.
    unconfirmed: a confirmation of an earlier result, which this one replaced. ruled: findings were ruled on since.
    """

    model: str
    status: str
    told: Told
    text: str
    language: str
    source: str
    token: str
    version: str
    written: Narrative | None
    person: Narrative | None
    stands: bool
    unconfirmed: Narrative | None
    ruled: bool


def texts(session: Session, data: Path, study_uid: str, language: str) -> tuple[ReportText, ...]:
    """The texts of the node's own reports on a study that stand. language: of drafts, where no person chose another."""
    query = select(ReportRow).where(ReportRow.study_uid == study_uid, ReportRow.status.not_in(GONE))
    rows = [r for r in session.scalars(query.order_by(ReportRow.model)) if not r.model.endswith(BY_FHIR)]
    if not rows:
        return ()
    steps, rulings = narratives.history(session, study_uid), verdicts.history(session, study_uid)
    found = (text_of(session, data, row, steps, rulings, language) for row in rows)
    return tuple(t for t in found if t is not None)


def text_of(
    session: Session,
    data: Path,
    row: ReportRow,
    steps: Sequence[Narrative],
    rulings: Sequence[Verdict],
    language: str,
) -> ReportText | None:
    """The text of one report; None for a Bundle that is none of the node's."""
    said = findings_of(session, data, row)
    if said is None:
        return None
    mine = [s for s in steps if s.model == row.model]
    ruled = [v for v in rulings if v.model == row.model]
    digest = said.digest
    person = narratives.newest(mine, PERSONS, digest=digest)
    language = person.language if person else language
    written = narratives.newest(mine, MODELS | {Step.UNANSWERED}, digest=digest, language=language)
    confirmed = narratives.newest(mine, frozenset({Step.CONFIRMED}))
    stands = row.status in CONFIRMED
    return ReportText(
        model=row.model,
        status=row.status,
        told=said,
        text=person.text if person and person.step is not Step.RESET else drafted(said, ruled, written, language),
        language=language,
        source=source_of(person, written),
        token=token(row, ruled),
        version=version(person),
        written=written,
        person=person,
        stands=stands,
        unconfirmed=confirmed if confirmed and not stands else None,
        ruled=bool(person and ruled and ruled[-1].at > person.at and person.step is not Step.RESET),
    )


def findings_of(session: Session, data: Path, row: ReportRow) -> Told | None:
    """What the AI said, whatever a person made of it since."""
    try:
        return told(confirmations.original(session, data, row))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def drafted(said: Told, rulings: Sequence[Verdict], written: Narrative | None, language: str) -> str:
    """The draft: in the language model's words where they were accepted, else by the template."""
    texts = accepted(written) or statements(said, language)
    standing = verdicts.standing(tuple(rulings))
    return draft(said, texts, {uid: v for (_, uid), v in standing.items()}, language)


def accepted(written: Narrative | None) -> tuple[Statement, ...]:
    if written is None or written.step is not Step.WRITTEN:
        return ()
    return tuple(Statement(label=str(s["finding"]), text=str(s["text"])) for s in written.statements)


def source_of(person: Narrative | None, written: Narrative | None) -> str:
    if person is not None and person.step is not Step.RESET:
        return str(person.step)
    return "language-model" if written is not None and written.step is Step.WRITTEN else "template"


def version(person: Narrative | None) -> str:
    """Changes with every step of a person."""
    return hashlib.sha256(repr((person.at, person.who, str(person.step))).encode()).hexdigest()[:32] if person else ""


def token(row: ReportRow, rulings: Sequence[Verdict]) -> str:
    """Changes with the report, its status and every ruling on its findings."""
    seen = (row.id, row.status, row.updated_at, [(v.tracking_uid, v.ruling, v.at) for v in rulings])
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:32]
