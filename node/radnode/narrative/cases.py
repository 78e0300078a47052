"""What a language model is told beside a report's findings: other models' on the study, and past cases that a person confirmed.

Nothing in it names a patient.

Of a confirmed text only those lines are kept that say exactly what one finding says and nothing else (check):
there is no word in them that is not of that finding.
"""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import verdicts
from radnode.narrative import narratives
from radnode.narrative.facts import Fact, Kind, Slot, Told, told
from radnode.narrative.template import number, recognised
from radnode.narrative.words import unit
from radnode.tables import ReportRow
from radnode.triage import BY_FHIR
from radnode.verdicts import Ruling
from radnode_fhir.read import DEAD

LOOKED_AT = 200
"""The newest confirmed texts of a model, among which the most alike are chosen."""


def described(fact: Fact) -> dict[str, Any]:
    """A finding as a language model is told of it: codes' meanings and numbers, nothing of the patient."""
    return {
        "name": fact.concept.meaning,
        "side": fact.side,
        "site": fact.site.meaning if fact.site else "",
        "absent": fact.absent,
        "values": [value(s) for s in fact.slots],
    }


def value(slot: Slot) -> dict[str, str]:
    if slot.answer is not None:
        return {"name": slot.name.meaning, "value": slot.answer.meaning, "unit": ""}
    return {"name": slot.name.meaning, "value": number(slot.value or 0.0), "unit": unit(slot.unit)}


def cases(told: Told, text: str, language: str) -> tuple[dict[str, Any], ...]:
    """What of a confirmed text may be shown to a language model later: each finding with the line that states it."""
    return tuple({"finding": described(fact), "text": line} for fact, line in recognised(told, text, language))


def similar(session: Session, told: Told, study_uid: str, language: str, count: int) -> tuple[dict[str, Any], ...]:
    """The findings with their confirmed lines of the `count` past studies most alike, the most alike first."""
    if not count:
        return ()
    wanted = {key(described(f)) for f in told.facts if f.kind is not Kind.NOTHING}
    found = narratives.confirmed_texts(session, told.model, language, LOOKED_AT)
    others = {n.study_uid: n for n in reversed(found) if n.study_uid != study_uid and n.statements}
    ranked = sorted(others.values(), key=lambda n: -likeness(wanted, {key(s["finding"]) for s in n.statements}))
    return tuple(s for n in ranked[:count] for s in n.statements)


def of_others(session: Session, study_uid: str, model: str) -> tuple[dict[str, Any], ...]:
    """What the node's other models found in this study and nobody rejected, as a language model is told of it.

    Of reports that stand now; one that comes later changes no text. Reports of other systems are left out: the words in
    their codes are not ours, and may name a patient.
    """
    query = select(ReportRow).where(
        ReportRow.study_uid == study_uid, ReportRow.model != model, ReportRow.status.not_in(DEAD), ~ReportRow.model.endswith(BY_FHIR)
    )  # fmt: skip
    ruled = verdicts.standing(verdicts.history(session, study_uid))
    rejected = {place for place, v in ruled.items() if v.ruling is Ruling.REJECTED}
    made: list[dict[str, Any]] = []
    for row in session.scalars(query.order_by(ReportRow.model)):
        try:
            facts = told(row.bundle).facts
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        found = [described(f) for f in facts if (row.model, f.uid) not in rejected]
        made.append({"model": row.model, "findings": found})
    return tuple(made)


def key(finding: dict[str, Any]) -> tuple[str, str]:
    return finding["name"], finding["side"]


def likeness(one: set[tuple[str, str]], other: set[tuple[str, str]]) -> float:
    """Shared findings among all of both (Jaccard), 0..1."""
    return len(one & other) / max(1, len(one | other))
