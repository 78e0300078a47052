"""A day of simulated traffic through the real tables and the real worklist, against the policy written down once more."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete
from sqlalchemy.orm import Session
from support.results import bundle, prepare

from radnode import orders
from radnode.database import Database
from radnode.orders import Order
from radnode.settings import Ageing, Settings
from radnode.tables import ReportRow, StudyRow
from radnode.worklist import Reader

STUDIES, READERS, HOUR = 320, 3, 3600.0
LIMITS_MIN = (60.0, 120.0, 480.0)  # STAT, HIGH, ROUTINE
NEVER, SEED = float("inf"), 8
EMBOLISM, NODULE = "59282003", "27925004"


@dataclass(kw_only=True)
class Case:
    """One patient of the day, as the test knows it."""

    uid: str
    at: float
    emergency: bool
    finding: str  # a code, or "" for none
    percent: int
    reported_at: float
    amended_at: float  # when a second report takes the finding back; never: infinity
    reading_s: float
    read_at: float = NEVER

    def flag(self, now: float) -> tuple[str, int]:
        """The finding that stands now."""
        standing = self.finding and self.reported_at <= now < self.amended_at
        return (self.finding, self.percent) if standing else ("", 0)


def a_day(seed: int) -> list[Case]:
    chance = random.Random(seed)
    cases: list[Case] = []
    for n in range(STUDIES):
        at = chance.triangular(0, 24 * HOUR, 9 * HOUR)  # most come in the morning
        finding = chance.choices(["", EMBOLISM, NODULE], [55, 8, 37])[0]
        reported = at + chance.uniform(60, 600)
        amended = reported + chance.uniform(60, 3600) if chance.random() < 0.1 else NEVER
        cases.append(
            Case(
                uid=f"1.2.{n + 1}", at=at, emergency=chance.random() < 0.1, finding=finding,
                percent=chance.choice([30, 45, 55, 65, 75, 85, 95]), reported_at=reported, amended_at=amended,
                reading_s=chance.uniform(300, 1200),
            )
        )  # fmt: skip
    return sorted(cases, key=lambda c: c.at)


def place(case: Case, now: float, *, ageing: bool = True) -> tuple[float, ...]:
    """The policy of the documentation once more, by hand: where this case belongs."""
    finding, percent = case.flag(now)
    if finding == EMBOLISM and percent >= 50:
        level, row = 0, 0
    elif finding and percent >= 50:
        level, row = 1, 2
    elif case.emergency:
        level, row = 1, 3
    elif finding:
        level, row = 2, 4
    else:
        level, row = 2, 1000
    late = (now - case.at) - 0.75 * 60 * LIMITS_MIN[level]
    if late > 0 and ageing:
        return (min(level, 1), -late, row, -(percent // 10) if finding else 0, case.at)
    return (level, 0.0, row, -(percent // 10) if finding else 0, case.at)


class Day:
    """The node's tables at the speed of the simulation."""

    def __init__(self, folder: Path, ageing: Ageing) -> None:
        settings = Settings(data=folder / "data", ageing=ageing)
        self.database: Database = prepare(settings)
        self.reader = Reader.of(settings, self.database)
        self.cases = a_day(SEED)
        self.sampled = 0
        self._kept: dict[str, int] = {}

    def catch_up(self, now: float) -> None:
        """Write what happened until now: images, orders, reports, amendments; what was read goes to the archive."""
        with self.database.transaction() as session:
            self._write(session, now)
            gone = [c.uid for c in self.cases if c.read_at < now]
            session.execute(delete(StudyRow).where(StudyRow.study_uid.in_(gone)))

    def _write(self, session: Session, now: float) -> None:
        for case in self.cases:
            stage = sum((case.at <= now, case.reported_at <= now, case.amended_at <= now))
            for step in range(self._kept.get(case.uid, 0), stage):
                (self._arrive, self._report, self._report)[step](session, case, now)
            self._kept[case.uid] = stage

    def _arrive(self, session: Session, case: Case, _now: float) -> None:
        times = {"first_instance_at": case.at, "last_instance_at": case.at, "due_at": case.at}
        session.add(StudyRow(study_uid=case.uid, accession_number=case.uid, state="routed", **times))
        if case.emergency:
            made = Order(order_number=case.uid, accession_number=case.uid, patient_class="emergency")
            orders.keep(session, made, case.at)

    def _report(self, session: Session, case: Case, now: float) -> None:
        finding, percent = case.flag(now)
        made = bundle(case.uid, "ct", "said", "amended" if case.amended_at <= now else "preliminary")
        if finding:
            observation = {
                "resourceType": "Observation", "status": "preliminary", "code": {"coding": [{"code": finding}]},
                "interpretation": [{"coding": [{"code": "POS"}]}],
                "component": [
                    {"code": {"coding": [{"code": "111047"}]}, "valueQuantity": {"value": percent, "code": "%"}}
                ],
            }  # fmt: skip
            made["entry"].append({"fullUrl": "urn:uuid:1", "resource": observation})
        row = session.get(ReportRow, f"r{case.uid}")
        if row is None:
            row = ReportRow(id=f"r{case.uid}", study_uid=case.uid, model="ct", issued_at=now)
            session.add(row)
        row.status, row.bundle, row.updated_at = made["entry"][0]["resource"]["status"], made, now

    def look(self, now: float) -> list[Case]:
        """What is to be read, in the order of the worklist, which is compared with the policy as it is looked at."""
        self.catch_up(now)
        here = {c.uid: c for c in self.cases if c.at <= now <= c.read_at}
        shown = [e.study.study_uid for e in self.reader.worklist(now).entries]
        assert shown == [c.uid for c in sorted(here.values(), key=lambda c: place(c, now))]
        self.sampled += 1
        return [here[uid] for uid in shown if here[uid].read_at > now]


def read_all(cases: Sequence[Case], look: Callable[[float], Sequence[Case]]) -> None:
    """Readers take the first study that nobody has taken."""
    free = [0.0] * READERS
    while any(c.read_at == NEVER for c in cases):
        now = min(free)
        waiting = look(now)
        if waiting:
            waiting[0].read_at = now
            free[free.index(now)] = now + waiting[0].reading_s
        else:
            free[free.index(now)] = min(c.at for c in cases if c.at > now)


def longest_unflagged_min(cases: Sequence[Case]) -> float:
    return max(c.read_at - c.at for c in cases if not c.finding and not c.emergency) / 60


def without_ageing(cases: Sequence[Case]) -> float:
    """The same day, by the policy alone."""

    def look(now: float) -> list[Case]:
        return sorted((c for c in cases if c.at <= now and c.read_at > now), key=lambda c: place(c, now, ageing=False))

    read_all(cases, look)
    return longest_unflagged_min(cases)


def test_320_studies_stand_in_the_order_of_the_policy_at_every_moment_and_no_unflagged_one_waits_too_long(
    tmp_path: Path,
) -> None:
    day = Day(tmp_path, Ageing(stat_min=LIMITS_MIN[0], high_min=LIMITS_MIN[1], routine_min=LIMITS_MIN[2]))
    read_all(day.cases, day.look)
    day.database.close()
    waited, starved = longest_unflagged_min(day.cases), without_ageing(a_day(SEED))
    print(
        f"looked {day.sampled} times; unflagged studies waited {waited:.0f} min at most, without ageing {starved:.0f}"
    )
    assert day.sampled >= STUDIES
    assert waited <= LIMITS_MIN[2] < starved
