"""What may stand for the sensitivity of a model where nobody knows the truth: counts of what people did. Reads only.

None of them is a sensitivity. Each says that a person saw something that the model had not said, or took back what it said.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import scores, verdicts
from radnode.monitor import Score, month_of
from radnode.tables_triage import PriorityRow
from radnode.verdicts import Ruling
from radnode_fhir.read import DEAD

CHANGED, CONFIRMED = frozenset({"amended", "corrected"}), frozenset({"final"})


@dataclass(frozen=True, kw_only=True)
class Month:
    """One month (UTC, of the report; of the ruling for the first three) of one model.

    added: findings that people made and the model had not. stand: findings of the model that people accepted or corrected.
    rejected: those they rejected. raised: studies without a finding of the model whose priority a person set.
    retracted, amended, confirmed: reports by their status now. reports: all of them.
    """

    month: str
    added: int
    stand: int
    rejected: int
    raised: int
    retracted: int
    amended: int
    confirmed: int
    reports: int

    @property
    def found(self) -> float | None:
        """Of the findings that people stand by, the share that the model had made."""
        return self.stand / (self.stand + self.added) if self.stand + self.added else None


def of_model(session: Session, model: str) -> tuple[Month, ...]:
    """The oldest month first; months of which there is nothing to say are left out."""
    ruled: dict[str, Counter[Ruling]] = defaultdict(Counter)
    for verdict in verdicts.in_force(session, model):
        ruled[month_of(verdict.at)][verdict.ruling] += 1
    newest = {s.study_uid: s for s in scores.scores(session, model)}
    by_month: dict[str, list[Score]] = defaultdict(list)
    for score in newest.values():
        by_month[month_of(score.at)].append(score)
    urgent = set(session.scalars(select(PriorityRow.study_uid).where(PriorityRow.level != "").distinct()))
    return tuple(month(name, ruled, by_month, urgent) for name in sorted({*ruled, *by_month}))


def month(
    name: str, ruled: Mapping[str, Counter[Ruling]], reports: Mapping[str, list[Score]], urgent: set[str]
) -> Month:
    said, found = ruled.get(name, Counter()), reports.get(name, [])
    return Month(
        month=name,
        added=said[Ruling.ADDED],
        stand=said[Ruling.ACCEPTED] + said[Ruling.EDITED],
        rejected=said[Ruling.REJECTED],
        raised=sum(1 for s in found if not s.findings and s.study_uid in urgent),
        retracted=sum(1 for s in found if s.status in DEAD),
        amended=sum(1 for s in found if s.status in CHANGED),
        confirmed=sum(1 for s in found if s.status in CONFIRMED),
        reports=len(found),
    )
