"""A day of a radiology department at a real node, with its time compressed: what comes, what is said of it, who reads it.

Nothing of the node is changed: rates, reading times and the limits of `[ageing]` are all divided by the same number. `place` is
the policy of the documentation written down once more; it knows nothing of the node's own triage.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.series import Stack
from support.studies import study_of

from radnode_inference.generator import breast
from radnode_inference.generator.dicom_parts import Order
from radnode_inference.generator.dicom_writer import write_breast

HOUR = 3600.0
NEVER = float("inf")
EMBOLISM, NODULE, EMPHYSEMA, LESION = "59282003", "27925004", "87433001", ""
READING_S = (300.0, 1200.0)
"""Reading times are spread evenly between these."""
MEAN_READING_S = sum(READING_S) / 2
PHANTOMS = (1, 2, 6, 7)
"""Seeds of small breast phantoms: in three of them `mr-breast-kinetics` finds a lesion, in one it finds nothing."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A day: studies come over `hours`, most after three eighths of them. limits_min: STAT, HIGH, ROUTINE. scale: simulated seconds in one real second."""

    studies: int
    hours: float
    readers: int
    limits_min: tuple[float, float, float]
    scale: float
    read_by_node: int
    seed: int = 8

    def settings(self) -> dict[str, object]:
        """The section `[ageing]` of the node."""
        names = ("stat_min", "high_min", "routine_min")
        return dict(zip(names, (minutes / self.scale for minutes in self.limits_min), strict=True))


@dataclass(frozen=True, kw_only=True)
class Said:
    """One finding of a report: its code and the probability in per cent, None where the reporter gives none."""

    code: str
    percent: float | None


@dataclass(kw_only=True)
class Case:
    """One patient. Planned times are simulated seconds since the start; those under `happened` are the node's clock (epoch seconds)."""

    number: int
    at: float
    emergency: bool
    own: bool  # the node's own model reads it
    said: tuple[Said, ...]  # by another system's AI
    reported_at: float
    amended_at: float
    raised_at: float
    reading_s: float
    uid: str = ""
    files: tuple[Path, ...] = ()
    happened: dict[str, float] = field(default_factory=dict)  # arrived, reported, amended, raised, free, taken, read
    revision: int = 1

    @property
    def accession(self) -> str:
        return f"A{self.number}"

    @property
    def patient_id(self) -> str:
        return f"P{self.number}"

    def findings(self, now: float) -> tuple[Said, ...]:
        """What stands now of all that was said."""
        return self.said if self.when("reported") <= now < self.when("amended") else ()

    def when(self, what: str) -> float:
        return self.happened.get(what, NEVER)

    @property
    def group(self) -> str:
        if any(s.code == EMBOLISM and (s.percent or 0) >= 50 for s in self.said) or self.raised_at < NEVER:
            return "critical"
        hurried = any(s.code != EMPHYSEMA and (s.percent is None or s.percent >= 50) for s in self.said)
        return "hurried" if hurried or self.emergency else "unflagged"


def a_day(plan: Plan) -> list[Case]:
    """The cases in the order of their arrival, without images."""
    chance = random.Random(plan.seed)
    own = set(chance.sample(range(plan.studies), plan.read_by_node))
    times = sorted(chance.triangular(0, plan.hours, plan.hours * 3 / 8) * HOUR for _ in range(plan.studies))
    cases = []
    for number, at in enumerate(times):
        code = chance.choices(["", EMBOLISM, NODULE, EMPHYSEMA], [50, 8, 36, 6])[0]
        reported = at + chance.uniform(60, 600)
        said = (Said(code=code, percent=chance.choice([30, 45, 55, 65, 75, 85, 95])),) if code else ()
        amended = reported + chance.uniform(60, 3600) if code and chance.random() < 0.1 else NEVER
        raised = at + chance.uniform(60, 3600) if chance.random() < 0.015 else NEVER
        is_own = number in own
        cases.append(
            Case(
                number=number, at=at, emergency=chance.random() < 0.1, own=is_own, said=() if is_own else said,
                reported_at=NEVER if is_own else reported, amended_at=NEVER if is_own else amended, raised_at=raised,
                reading_s=chance.uniform(*READING_S),
            )
        )  # fmt: skip
    return cases


def write_images(cases: Sequence[Case], folder: Path) -> None:
    """Small images of every case: one CT slice of a head, or a small dynamic breast MR where the node reads it."""
    phantoms = {
        s: breast.phantom(s, lesion=True, shape=(20, 64, 64), phases=4, other_sequences=False) for s in PHANTOMS
    }
    for case in cases:
        where = folder / f"{case.number:03}"
        if case.own:
            order = Order(
                patient_name=f"Generated^Breast {case.number}", patient_id=case.patient_id, accession_number=case.accession,
                study_description="MR BREAST BILATERAL DYNAMIC", identity=f"day-{case.number}", patient_position="HFP",
            )  # fmt: skip
            case.files = write_breast(phantoms[PHANTOMS[case.number % len(PHANTOMS)]], where, order)
            case.uid = study_of(case.files)
        else:
            write_head(case, where)


def write_head(case: Case, folder: Path) -> None:
    def edit(_: int, ds: Any) -> None:
        ds.PatientID, ds.AccessionNumber, ds.PatientName = case.patient_id, case.accession, f"Generated^{case.number}"
        ds.StudyDescription, ds.BodyPartExamined = "CT HEAD", "HEAD"

    stack = Stack(shape=(1, 16, 16))
    stack.write(folder, edit)
    case.uid, case.files = stack.study_uid, tuple(sorted(folder.iterdir()))


def place(case: Case, now: float, plan: Plan, *, ageing: bool = True) -> tuple[int, float, int, int, float]:
    """Where a case belongs at `now` (the node's clock): level, how overdue, row of the table, probability, arrival."""
    level, row, percent = 2, 1000, 0
    found = sorted(verdict(said) for said in case.findings(now))
    if found:
        level, row, minus = found[0]
        percent = -minus
    if case.emergency:
        level, row = min((level, row), (1, 3))
    if case.when("raised") <= now:
        level, row = min((level, row), (0, -2))
    late = now - case.happened["arrived"] - 0.75 * 60 * plan.limits_min[level] / plan.scale
    if late > 0 and ageing:
        return min(level, 1), -late, row, -(percent // 10), case.happened["arrived"]
    return level, 0.0, row, -(percent // 10), case.happened["arrived"]


def in_order(cases: Sequence[Case], now: float, plan: Plan) -> list[Case]:
    """What is not read, by place. But after three readings in a row of what had not waited long, the first overdue case goes first.

    Only whom a person raised to STAT goes before that one.
    """
    here = [c for c in cases if c.when("arrived") < NEVER and c.when("read") == NEVER]
    ranked = sorted(here, key=lambda c: (place(c, now, plan), c.uid))
    read = sorted((c for c in cases if c.when("read") < NEVER), key=lambda c: c.when("read"))[-3:]
    overdue = [c for c in ranked if place(c, now, plan)[0] > 0 and place(c, now, plan)[1] < 0]
    if overdue and len(read) == 3 and not any(had_waited_long(c, plan) for c in read):
        ranked.remove(overdue[0])
        raised = [c for c in ranked if c.when("raised") <= now]
        ranked = [*raised, overdue[0], *(c for c in ranked if c not in raised)]
    return ranked


def had_waited_long(case: Case, plan: Plan) -> bool:
    return case.when("read") - case.happened["arrived"] > 0.75 * 60 * min(plan.limits_min[1:]) / plan.scale


def verdict(said: Said) -> tuple[int, int, int]:
    """The first rule of the table that holds: level, row, minus the probability (50 % where none is given, which counts as sure)."""
    percent = 50 if said.percent is None else int(said.percent)
    sure = said.percent is None or said.percent >= 50
    if said.code == EMBOLISM and sure:
        return 0, 0, -percent
    if said.code == EMPHYSEMA:
        return 2, 1, -percent
    return (1, 2, -percent) if sure else (2, 4, -percent)
