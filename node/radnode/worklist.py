"""The reading worklist: every recent study that is to be read in the order to read it, why it stands there, and what the AI did. Reads only."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from sqlalchemy import ScalarSelect, Select, func, select
from sqlalchemy.orm import Session

from radnode import abnormalities, listed, orders, readings, triage
from radnode.database import Database
from radnode.fhir_server.reports import device_of
from radnode.listed import AFTER_READING, recently
from radnode.settings import Ageing, ClassRule, Settings, TriageRule
from radnode.states import DeliveryState, JobState, StudyState
from radnode.studies import StudySummary, summary
from radnode.tables import DeliveryRow, JobRow, ReportRow, ResultRow, RouteRow, StudyRow
from radnode.triage import BY_FHIR, Context, Level, Place, Priority, Report

T = TypeVar("T", JobRow, RouteRow)

LIMIT = 1000
"""Rows that a page shows; more where more are STAT or overdue, which are never cut."""
REMEMBERED = 30_000  # reports; then they are read anew


class Outcome(StrEnum):
    """What became of a study at one model."""

    FINDING = "finding"
    CLEAR = "clear"  # looked, found nothing
    UNCODED = "uncoded"  # says it in words alone
    DECLINED = "declined"
    FAILED = "failed"
    HELD = "held"
    WAITING = "waiting"
    NOT_RUN = "not-run"
    RETRACTED = "retracted"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One model's answer in one line; model is "" for the study as a whole."""

    model: str
    outcome: Outcome
    text: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row. rank: from 1; 0: not in the list. waiting_s: since the first image. owed, dead: results on their way, given up.

    rule: of the policy that put it there, "" for none. set_level, comment: a person's. past: it waits longer than its limit.
    after_reading: it was read, and a finding came later.
    """

    rank: int
    study: StudySummary
    level: Level
    reason: str
    probability: float | None
    demonstration: bool
    waiting_s: float
    answers: tuple[Answer, ...]
    owed: int
    dead: int
    rule: str = ""
    patient_class: str = ""
    set_level: Level | None = None
    comment: str = ""
    past: bool = False
    after_reading: bool = False

    @property
    def ran(self) -> bool:
        """Whether any model was to read the study."""
        return all(a.outcome != Outcome.NOT_RUN for a in self.answers)


@dataclass(frozen=True, kw_only=True)
class Worklist:
    """The studies of the last RECENT_DAYS that nobody has read, or of which a finding came after the reading.

    older, read: how many more there are that are older, or were read. more: how many wait below these rows: none is STAT or
    overdue.
    """

    entries: tuple[Entry, ...]
    older: int
    read: int
    more: int = 0

    @property
    def past(self) -> int:
        """How many wait longer than their limit."""
        return sum(e.past for e in self.entries)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What is known of the studies that `chosen` selects. read: of them. rows: study UID, priority, since when it waits."""

    chosen: Select[str]
    studies: Mapping[str, StudySummary]
    reports: Mapping[str, tuple[Report, ...]]
    known: Mapping[str, Context]
    read: frozenset[str]
    rows: Sequence[tuple[str, Priority, float]]

    def waiting(self) -> "Snapshot":
        """Without what was read, but for that of which a finding came later."""
        rows = [row for row in self.rows if row[0] not in self.read or row[1].after_reading is not None]
        return replace(self, rows=rows, studies={uid: self.studies[uid] for uid, _, _ in rows})


class Reader:
    """Makes worklists. Remembers the reports it has read, by id and change, because they are read every second."""

    def __init__(
        self,
        database: Database,
        policy: Sequence[TriageRule] | None,
        *,
        ageing: Ageing | None = None,
        classes: Sequence[ClassRule] = (),
    ) -> None:
        self.database = database
        self.policy = triage.DEFAULT_POLICY if policy is None else tuple(policy)
        self.ageing = ageing or Ageing()
        self.limits, self.full = triage.overdue_after(self.ageing), triage.full_limits(self.ageing)
        self.classes = tuple(classes)
        self._reports: dict[str, tuple[float, Report | None]] = {}

    @classmethod
    def of(cls, settings: Settings, database: Database) -> "Reader":
        """As the settings say."""
        return cls(database, settings.triage, ageing=settings.ageing, classes=settings.patient_classes)

    def worklist(self, now: float, limit: int | None = LIMIT) -> Worklist:
        """limit: how many rows are enough; None: every one."""
        with self.database.reading() as session:
            seen = self.look(session, recently(now)).waiting()
            waits = readings.latest_waits(session, self.ageing.late_one_in - 1)
            late_first = triage.is_turn_of_late(self.ageing, waits, self.limits)
            ranked = triage.order(seen.rows, now, self.limits, late_first=late_first)
            shown = ranked if limit is None else ranked[: max(limit, self.urgent(seen, ranked))]
            entries = self.entries(session, seen, shown)
            total = listed.all_to_read(session)
            read = session.scalar(select(func.count()).select_from(readings.read_studies().subquery())) or 0
        read -= sum(uid in seen.read for uid in seen.studies)
        older = total - read - len(ranked)
        return Worklist(entries=entries, older=older, read=read, more=len(ranked) - len(shown))

    def urgent(self, seen: "Snapshot", ranked: Sequence[Place[str]]) -> int:
        """How many rows there are from the first to the last one that is STAT or overdue."""
        levels = {uid: priority.level for uid, priority, _ in seen.rows}
        late = (p.priority.level is Level.STAT or p.waiting_s > self.limits[levels[p.key]] for p in ranked)
        return max((rank for rank, one in enumerate(late, start=1) if one), default=0)

    def look(self, session: Session, chosen: Select[str]) -> "Snapshot":
        """What is known of the studies that `chosen` selects, and where each stands."""
        chosen = listed.fixed(session, chosen)
        studies, reports = summaries(session, chosen), self.reports(session, chosen)
        known = orders.contexts(session, studies, self.classes)
        read = listed.read_before(session, chosen)
        rows = []
        for uid, study in studies.items():
            priority, arrived = triage.prioritise(reports[uid], self.policy, known[uid]), study.first_instance_at
            reading = read.get(uid)
            came = listed.after(reading, reports[uid], self.policy, known[uid].patient_class) if reading else None
            if came is not None:
                reason = f"{AFTER_READING}. {priority.reason}"
                priority, arrived = replace(priority, reason=reason, after_reading=came), came
            rows.append((uid, priority, arrived))
        return Snapshot(chosen=chosen, studies=studies, reports=reports, known=known, read=frozenset(read), rows=rows)

    def entries(self, session: Session, seen: "Snapshot", shown: Sequence[Place[str]]) -> tuple[Entry, ...]:
        """The rows of these places."""
        studies = {place.key: seen.studies[place.key] for place in shown}
        answers = all_answers(session, seen.chosen, studies, seen.reports)
        counts = delivery_counts(session, seen.chosen)
        levels = {uid: priority.level for uid, priority, _ in seen.rows}
        return tuple(
            Entry(
                rank=rank,
                study=studies[place.key],
                level=place.priority.level,
                reason=place.priority.reason,
                probability=place.priority.probability,
                demonstration=place.priority.demonstration,
                waiting_s=place.waiting_s,
                answers=answers[place.key],
                owed=counts.get((place.key, DeliveryState.OWED), 0),
                dead=counts.get((place.key, DeliveryState.DEAD), 0),
                rule=place.priority.rule,
                patient_class=seen.known[place.key].patient_class,
                set_level=seen.known[place.key].set_level,
                comment=seen.known[place.key].comment,
                past=place.waiting_s > self.full[levels[place.key]],
                after_reading=place.priority.after_reading is not None,
            )
            for rank, place in enumerate(shown, start=1)
        )

    def priorities(self, now: float) -> Mapping[str, tuple[StudySummary, Priority, Context]]:
        """The priority of every study of the list without what waiting adds to it, by Study Instance UID.

        And of every other one that others were told of, and of which a report changed since.
        """
        with self.database.reading() as session:
            seen = self.look(session, recently(now)).waiting()
            more = self.look(session, listed.told(now))
        found = (*((seen, row) for row in seen.rows), *((more, row) for row in more.rows))
        return {uid: (of.studies[uid], priority, of.known[uid]) for of, (uid, priority, _) in found}

    def without_person(self, study_uid: str) -> Level | None:
        """The level of a study without what people set; None when it is not here."""
        with self.database.reading() as session:
            seen = self.look(session, select(StudyRow.study_uid).where(StudyRow.study_uid == study_uid))
        if study_uid not in seen.studies:
            return None
        alone = replace(seen.known[study_uid], set_level=None, comment="")
        return triage.prioritise(seen.reports[study_uid], self.policy, alone).level

    def entry(self, study_uid: str, now: float) -> Entry | None:
        """A study's row, as it would stand alone where it was read or is older than the list; None when it is not here."""
        there = next((e for e in self.worklist(now).entries if e.study.study_uid == study_uid), None)
        if there is not None:
            return there
        with self.database.reading() as session:
            seen = self.look(session, select(StudyRow.study_uid).where(StudyRow.study_uid == study_uid))
            places = triage.order(seen.rows, now, self.limits)
            alone = self.entries(session, seen, places)
        return replace(alone[0], rank=0) if alone else None

    def reports_of(self, study_uid: str) -> tuple[Report, ...]:
        """Every stored report of one study."""
        with self.database.reading() as session:
            return self.reports(session, select(StudyRow.study_uid).where(StudyRow.study_uid == study_uid))[study_uid]

    def reports(self, session: Session, studies: Select[str]) -> Mapping[str, tuple[Report, ...]]:
        """Every stored report of the studies that `studies` selects; () for those without."""
        query = select(ReportRow.id, ReportRow.study_uid, ReportRow.updated_at, ReportRow.status).where(
            ReportRow.study_uid.in_(studies.scalar_subquery())
        )
        found: dict[str, list[Report]] = defaultdict(list)
        for report_id, study_uid, updated_at, _ in session.execute(query.order_by(ReportRow.id)):
            if len(self._reports) > REMEMBERED:
                self._reports.clear()
            known = self._reports.get(report_id)
            if known is None or known[0] != updated_at:
                known = self._reports[report_id] = (updated_at, load(session, report_id))
            if known[1] is not None:
                found[study_uid].append(known[1])
        return defaultdict(tuple, {uid: tuple(reports) for uid, reports in found.items()})


def summaries(session: Session, chosen: Select[str]) -> Mapping[str, StudySummary]:
    rows = session.scalars(select(StudyRow).where(StudyRow.study_uid.in_(chosen.scalar_subquery())))
    return {row.study_uid: summary(row) for row in rows}


def load(session: Session, report_id: str) -> Report | None:
    row = session.get_one(ReportRow, report_id)
    said = triage.read(row.bundle, row.model, row.status, device_of(row.model, row.id))
    return None if said is None else replace(said, changed_at=row.updated_at)


def all_answers(
    session: Session,
    recent: Select[str],
    studies: Mapping[str, StudySummary],
    reports: Mapping[str, tuple[Report, ...]],
) -> Mapping[str, tuple[Answer, ...]]:
    """Study UID -> what each model of the study's present revision answered; never empty."""
    wanted = recent.scalar_subquery()
    jobs, routes = of_revision(session, JobRow, wanted, studies), of_revision(session, RouteRow, wanted, studies)
    return {uid: answers(study, jobs[uid], routes[uid], reports[uid]) for uid, study in studies.items()}


def of_revision(
    session: Session, table: type[T], wanted: ScalarSelect[str], studies: Mapping[str, StudySummary]
) -> Mapping[str, list[T]]:
    rows: dict[str, list[T]] = defaultdict(list)
    for row in session.scalars(select(table).where(table.study_uid.in_(wanted)).order_by(table.id)):
        if row.study_uid in studies and row.revision == studies[row.study_uid].revision:
            rows[row.study_uid].append(row)
    return rows


def answers(
    study: StudySummary, jobs: Sequence[JobRow], routes: Sequence[RouteRow], reports: Sequence[Report]
) -> tuple[Answer, ...]:
    """What each model said, or why it said nothing: silence is never an answer."""
    told = {r.model: r for r in reports}
    made = [answer_of(job, told.pop(job.model, None)) for job in jobs]
    made += [reported(r, "" if r.model.endswith(BY_FHIR) else "earlier images: ") for r in told.values()]
    if made:
        return tuple(made)
    if study.state in (StudyState.RECEIVING, StudyState.COMPLETE):
        return (Answer(model="", outcome=Outcome.WAITING, text="images are arriving"),)
    refused = [r for r in routes if not r.chosen]
    whole = [r.reason for r in refused if not r.model] or [f"{r.model}: {r.reason}" for r in refused]
    return (Answer(model="", outcome=Outcome.NOT_RUN, text="; ".join(whole) or "no rule matched"),)


def answer_of(job: JobRow, report: Report | None) -> Answer:
    state = JobState(job.state)
    if state is JobState.DONE and report is not None:
        return reported(report, "")
    texts = {
        JobState.QUEUED: (Outcome.WAITING, "waits for a worker"),
        JobState.RUNNING: (Outcome.WAITING, f"is reading, {100 * job.progress:.0f} %"),
        JobState.DONE: (Outcome.FAILED, "ended, but its report cannot be read"),
        JobState.DECLINED: (Outcome.DECLINED, f"declined: {job.reason}"),
        JobState.FAILED: (Outcome.FAILED, f"failed: {job.reason}"),
        JobState.HELD: (Outcome.HELD, f"result withheld: {job.reason}"),
        JobState.STALE: (Outcome.WAITING, "starts anew: later images came"),
    }
    outcome, text = texts[state]
    if report is not None and state is not JobState.DONE:
        text += f" (report of earlier images: {reported(report, '').text})"
    return Answer(model=job.model, outcome=outcome, text=text)


def reported(report: Report, prefix: str) -> Answer:
    if report.retracted:
        return Answer(model=report.model, outcome=Outcome.RETRACTED, text=f"{prefix}retracted")
    found = [abnormalities.describe(a) for a in report.said.abnormalities]
    mark = abnormalities.marked(report.demonstration)
    partial = " (PARTIAL: not every image was read)" if "PARTIAL:" in report.said.conclusion else ""
    text = "; ".join(w for w in (*found, report.said.unclear) if w) or "no finding"
    outcome = Outcome.FINDING if found else Outcome(report.said.without)
    by = f" – confirmed by {report.said.confirmed_by}" if report.said.confirmed_by else ""
    return Answer(model=report.model, outcome=outcome, text=f"{prefix}{text}{partial}{mark}{by}")


def delivery_counts(session: Session, recent: Select[str]) -> Mapping[tuple[str, str], int]:
    """(study UID, delivery state) -> how many of the current results."""
    query = (
        select(DeliveryRow.study_uid, DeliveryRow.state, func.count())
        .join(ResultRow, ResultRow.uid == DeliveryRow.result_uid)
        .where(DeliveryRow.study_uid.in_(recent.scalar_subquery()), ResultRow.current)
        .group_by(DeliveryRow.study_uid, DeliveryRow.state)
    )
    return {(uid, state): count for uid, state, count in session.execute(query)}
