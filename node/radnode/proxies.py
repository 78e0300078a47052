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
from radnode.verdicts import UNKNOWN, Ruling
from radnode_fhir.read import DEAD

Place = tuple[str, str]
"""Scanner ("" for all) and month."""
CHANGED, CONFIRMED = frozenset({"amended", "corrected"}), frozenset({"final"})


@dataclass(frozen=True, kw_only=True)
class Month:
    """One month (UTC, of the report; of the ruling for the first three) of one model.

    added: findings that people made and the model had not. stand: findings of the model that people accepted or corrected.
    rejected: those they rejected. raised: studies without a finding of the model whose priority a person set.
    retracted, amended, confirmed: reports by their status now. reports: all of them. scanner: "" for all together.
    """

    month: str
    scanner: str
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

    def of_reports(self, count: int) -> float | None:
        """`count` as a share of the reports."""
        return count / self.reports if self.reports else None


def of_model(session: Session, model: str, *, by_scanner: bool = False) -> tuple[Month, ...]:
    """By scanner, the oldest month first; months of which there is nothing to say are left out."""
    on = scores.scanners(session)
    ruled: dict[Place, Counter[Ruling]] = defaultdict(Counter)
    for verdict in verdicts.in_force(session, model):
        place = on.get(verdict.study_uid, UNKNOWN) if by_scanner else ""
        ruled[place, month_of(verdict.at)][verdict.ruling] += 1
    newest = {s.study_uid: s for s in scores.scores(session, model)}
    by_month: dict[Place, list[Score]] = defaultdict(list)
    for score in newest.values():
        by_month[(score.scanner or UNKNOWN) if by_scanner else "", month_of(score.at)].append(score)
    urgent = set(session.scalars(select(PriorityRow.study_uid).where(PriorityRow.level != "").distinct()))
    return tuple(month(place, ruled, by_month, urgent) for place in sorted({*ruled, *by_month}))


def month(
    place: Place, ruled: Mapping[Place, Counter[Ruling]], reports: Mapping[Place, list[Score]], urgent: set[str]
) -> Month:
    said, found = ruled.get(place, Counter()), reports.get(place, [])
    return Month(
        scanner=place[0],
        month=place[1],
        added=said[Ruling.ADDED],
        stand=said[Ruling.ACCEPTED] + said[Ruling.EDITED],
        rejected=said[Ruling.REJECTED],
        raised=sum(1 for s in found if not s.findings and s.study_uid in urgent),
        retracted=sum(1 for s in found if s.status in DEAD),
        amended=sum(1 for s in found if s.status in CHANGED),
        confirmed=sum(1 for s in found if s.status in CONFIRMED),
        reports=len(found),
    )
