"""Scores and alarms in the tables: what each report said, on which scanner. The only writer of both.

Read from the reports that the node keeps, after they were issued, so that nothing of a study's way depends on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from radnode import monitor, triage, verdicts
from radnode.complete import of_study
from radnode.database import Database
from radnode.monitor import Alarm, Kind, Ruled, Score
from radnode.settings import Settings
from radnode.tables import InstanceRow, ReportRow, VerdictRow
from radnode.tables_monitoring import AlarmRow, ScoreRow
from radnode.verdicts import Ruling
from radnode_fhir.read import DEAD
from radnode_inference.header import Header, NotDicomError

TURN = 200
"""Reports that one turn takes."""
OVERLAP_S = 600.0
"""A report may be committed so much later than its time says; older ones were seen."""
UNREADABLE = "unreadable"
KEPT_DAYS = 3 * 365.0
SCANNER = ("Manufacturer", "ManufacturerModelName", "StationName")
"""PS3.3 C.7.5.1, General Equipment."""


@dataclass(frozen=True, kw_only=True)
class KnownAlarm:
    """An alarm with its times. cleared_at: None while it is open."""

    alarm: Alarm
    raised_at: float
    cleared_at: float | None


class Watch:
    """Keeps scores and alarms current. Alarms are computed anew when there is something new, and once an hour."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._judged: tuple[object, ...] = ()

    def turn(self, now: float) -> int:
        """How many reports were taken."""
        taken = collect(self._database, self._settings)
        if taken < TURN:
            with self._database.reading() as session:
                stamp = (*stand(session), now // 3600)
            if stamp != self._judged:
                judge(self._database, self._settings, now)
                self._judged = stamp
        return taken


def collect(database: Database, settings: Settings) -> int:
    """Write the scores of reports that are new or changed; how many, at most TURN."""
    with database.reading() as session:
        changed = to_write(session)
    rows = [row_of(database, settings, *report) for report in changed]
    if rows:
        with database.transaction() as session:
            for row in rows:
                keep(session, row)
    return len(rows)


def judge(database: Database, settings: Settings, now: float) -> None:
    """Compute every alarm anew, and open and clear what changed."""
    with database.reading() as session:
        found = alarms(session, settings, now)
    with database.transaction() as session:
        settle(session, found, now)


def stand(session: Session) -> tuple[object, ...]:
    """Differs whenever an alarm may."""
    newest = (func.max(ScoreRow.id), func.max(ScoreRow.seen), func.max(VerdictRow.id))
    return tuple(session.scalar(select(n)) for n in newest)


def to_write(session: Session) -> list[tuple[str, float]]:
    """(id, updated_at) of the reports whose row is missing or older than they are, the oldest first."""
    newest = session.scalar(select(func.max(ScoreRow.seen)))
    same = (ScoreRow.study_uid == ReportRow.study_uid, ScoreRow.model == ReportRow.model)
    query = (
        select(ReportRow.id, ReportRow.updated_at)
        .where(ReportRow.updated_at >= (newest or 0.0) - OVERLAP_S)
        .where(~select(ScoreRow.id).where(*same, ScoreRow.seen >= ReportRow.updated_at).exists())
    )
    return [(i, at) for i, at in session.execute(query.order_by(ReportRow.updated_at).limit(TURN))]


def row_of(database: Database, settings: Settings, report_id: str, seen: float) -> ScoreRow:
    with database.reading() as session:
        report = session.get_one(ReportRow, report_id)
        said = triage.read(report.bundle, report.model, report.status)
        file = session.scalar(select(InstanceRow.file).where(*of_study(report.study_uid)).limit(1))
    found = said.said.abnormalities if said is not None else ()
    sure = [a.probability for a in found if a.probability is not None]
    return ScoreRow(
        study_uid=report.study_uid,
        model=report.model,
        version=version(report.bundle),
        scanner=scanner(settings, file),
        at=report.issued_at,
        seen=seen,
        status=report.status if said is not None else UNREADABLE,
        findings=len(found),
        probability=max(sure, default=None),
    )


def version(bundle: Mapping[str, Any]) -> str:
    """ "0.1 · demo 2": of the code and the weights, as the report's Device names them; "" where it does not."""
    resources = [e.get("resource", {}) for e in bundle.get("entry", ()) if isinstance(e, Mapping)]
    devices = [r for r in resources if r.get("resourceType") == "Device"]
    named = [v for d in devices[:1] for v in d.get("version", ())]
    words = [str(v.get("value", "")) for v in named if "SHA" not in str(v.get("type", {}).get("text", ""))]
    return " · ".join(w for w in words if w)[:255]


def scanner(settings: Settings, file: str | None) -> str:
    """ "SIEMENS Skyra (MR1)": manufacturer, model and station as the first image names them; "" where it names none."""
    if file is None:
        return ""
    try:
        header = Header.read(settings.data / file)
    except (OSError, NotDicomError):
        return ""
    maker, model, station = (header.text(keyword) for keyword in SCANNER)
    return " ".join(w for w in (maker, model, f"({station})" if station else "") if w)[:200]


def keep(session: Session, row: ScoreRow) -> None:
    """In place of the one before of this study, model and version. A retraction changes the status, not what was said."""
    same = (ScoreRow.study_uid == row.study_uid, ScoreRow.model == row.model, ScoreRow.version == row.version)
    before = session.scalars(select(ScoreRow).where(*same)).one_or_none()
    if before is None:
        session.add(row)
        return
    before.seen, before.status = row.seen, row.status
    if row.status not in DEAD:
        before.findings, before.probability = row.findings, row.probability


def scores(session: Session, model: str = "", *, since: float = 0.0) -> tuple[Score, ...]:
    """Of one model or of all, in order of time."""
    columns = (ScoreRow.study_uid, ScoreRow.model, ScoreRow.version, ScoreRow.scanner, ScoreRow.at, ScoreRow.status)
    query = select(*columns, ScoreRow.findings, ScoreRow.probability).where(
        ScoreRow.at >= since, ScoreRow.status != UNREADABLE
    )
    if model:
        query = query.where(ScoreRow.model == model)
    return tuple(
        Score(
            study_uid=uid, model=name, version=of, scanner=on, at=at, status=status, findings=count, probability=sure
        )
        for uid, name, of, on, at, status, count, sure in session.execute(query.order_by(ScoreRow.at))
    )  # fmt: skip


def models(session: Session) -> tuple[str, ...]:
    """Every model that reported anything, those of other systems among them."""
    return tuple(session.scalars(select(ScoreRow.model).distinct().order_by(ScoreRow.model)))


def scanners(session: Session) -> Mapping[str, str]:
    """Study UID -> the scanner it was made on, of the studies that anybody ruled on; those that name none are left out."""
    query = select(ScoreRow.study_uid, func.max(ScoreRow.scanner)).where(
        ScoreRow.study_uid.in_(select(VerdictRow.study_uid)), ScoreRow.scanner != ""
    )
    return {uid: str(scanner) for uid, scanner in session.execute(query.group_by(ScoreRow.study_uid))}


def ruled(session: Session, model: str = "") -> tuple[Ruled, ...]:
    """The rulings that hold on findings of a model, those that people added left out."""
    standing, on = verdicts.in_force(session, model), scanners(session)
    return tuple(
        Ruled(
            model=v.model,
            at=v.at,
            disputed=v.ruling is not Ruling.ACCEPTED,
            scanner=on.get(v.study_uid, verdicts.UNKNOWN),
        )
        for v in standing
        if v.ruling is not Ruling.ADDED
    )


def alarms(session: Session, settings: Settings, now: float) -> tuple[Alarm, ...]:
    """Every alarm there is now, computed anew from the rows."""
    watched = monitor.watch(scores(session, since=now - KEPT_DAYS * monitor.DAY_S), settings.monitoring, now)
    _, of_rulings = monitor.rulings(ruled(session), settings.monitoring)
    return (*(a for w in watched for a in w.alarms), *of_rulings)


def key(alarm: Alarm) -> tuple[str, str, str, str]:
    return alarm.kind, alarm.model, alarm.version, alarm.scanner


def settle(session: Session, found: Sequence[Alarm], now: float) -> None:
    """Open the alarms that are new, keep the values of those that stand, clear those that are over."""
    rows = session.scalars(select(AlarmRow).where(AlarmRow.cleared_at.is_(None))).all()
    there = {key(from_row(row).alarm): row for row in rows}
    for alarm in found:
        row = there.pop(key(alarm), None)
        if row is None:
            session.add(AlarmRow(**vars(alarm) | {"kind": str(alarm.kind)}, raised_at=now))
        else:
            row.value, row.limit = alarm.value, alarm.limit
    over = [row.id for row in there.values()]
    if over:
        session.execute(update(AlarmRow).where(AlarmRow.id.in_(over)).values(cleared_at=now))


def known(session: Session, model: str = "", *, open_only: bool = False, limit: int = 200) -> tuple[KnownAlarm, ...]:
    """Alarms, the open ones first, then the newest."""
    query = select(AlarmRow).order_by(AlarmRow.cleared_at.is_not(None), AlarmRow.id.desc()).limit(limit)
    if model:
        query = query.where(AlarmRow.model == model)
    if open_only:
        query = query.where(AlarmRow.cleared_at.is_(None))
    return tuple(from_row(row) for row in session.scalars(query))


def from_row(row: AlarmRow) -> KnownAlarm:
    return KnownAlarm(
        alarm=Alarm(
            kind=Kind(row.kind),
            model=row.model,
            version=row.version,
            scanner=row.scanner,
            value=row.value,
            limit=row.limit,
            since=row.since,
        ),
        raised_at=row.raised_at,
        cleared_at=row.cleared_at,
    )
