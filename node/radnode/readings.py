"""Studies that a person has read. A read study leaves the worklist until later images or a later finding bring it back,
or the mark is taken back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from radnode import events, triage
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.events import Action
from radnode.fhir_server.reports import device_of
from radnode.states import StudyState
from radnode.tables import ReportRow, StudyRow
from radnode.tables_triage import ReadingRow


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Who read a study, and when (UTC epoch seconds)."""

    who: str
    at: float


def read_studies() -> Select[str]:
    """The studies whose present images were read."""
    present = ReadingRow.revision == StudyRow.revision
    return select(ReadingRow.study_uid).join(StudyRow, StudyRow.study_uid == ReadingRow.study_uid).where(present)


def of_study(session: Session, study_uid: str) -> Reading | None:
    """The reading that stands; None where nobody read the study, or images came since."""
    row, study = session.get(ReadingRow, study_uid), session.get(StudyRow, study_uid)
    if row is None or study is None or row.revision != study.revision:
        return None
    return Reading(who=row.who, at=row.at)


def times(session: Session) -> Mapping[str, float]:
    """Study UID -> when its present images were read, UTC epoch seconds."""
    present = select(ReadingRow.study_uid, ReadingRow.at).join(StudyRow, StudyRow.study_uid == ReadingRow.study_uid)
    found = session.execute(present.where(ReadingRow.revision == StudyRow.revision))
    return {row.study_uid: row.at for row in found}


def latest_waits(session: Session, many: int) -> Sequence[float]:
    """How long the studies of the latest readings had waited by then, seconds, the newest reading first."""
    joined = select(ReadingRow.at - StudyRow.first_instance_at).join(
        StudyRow, StudyRow.study_uid == ReadingRow.study_uid
    )
    present = joined.where(ReadingRow.revision == StudyRow.revision)
    return session.scalars(present.order_by(ReadingRow.at.desc()).limit(max(many, 0))).all()


def mark(database: Database, study_uid: str, revision: int, who: str, now: float) -> None:
    """A person read what the study held at `revision`.

    Raises RefusedError for a study that is not here, while its images arrive, and where images came that this person has
    not seen.
    """
    with database.transaction() as session:
        study = here(session, study_uid)
        if study.state == StudyState.RECEIVING:
            raise RefusedError(
                "images of this study are still arriving; it can be marked as read once they are all here"
            )
        if study.revision != revision:
            raise RefusedError("images of this study came that are newer than what you read; look at it again")
        write(session, study, who, now)


def write(session: Session, study: StudyRow, who: str, now: float) -> None:
    """The study is read as it is now, in the caller's transaction."""
    row = session.get(ReadingRow, study.study_uid) or ReadingRow(study_uid=study.study_uid)
    row.revision, row.who, row.at = study.revision, who, now
    row.known = found_so_far(session, study.study_uid)
    session.add(row)
    events.write(session, study.study_uid, Action.READING, f"Read by {who}: the study leaves the worklist.", now)


def found_so_far(session: Session, study_uid: str) -> list[dict[str, object]]:
    """What the reports of a study say when it is read: a finding that comes or gets worse later brings it back."""
    rows = session.scalars(select(ReportRow).where(ReportRow.study_uid == study_uid)).all()
    reports = (triage.read(row.bundle, row.model, row.status, device_of(row.model, row.id)) for row in rows)
    return [
        {
            "by": report.by,
            "concept": found.concept.value,
            "codes": sorted(found.codes),
            "laterality": found.laterality,
            "probability": found.probability,
            "volume_ml": found.volume_ml,
            "long_axis_mm": found.long_axis_mm,
            "critical": found.critical,
        }
        for report in reports
        if report is not None and not report.retracted
        for found in report.said.abnormalities
    ]


def take_back(database: Database, study_uid: str, who: str, now: float) -> None:
    """The study is to be read after all. Raises RefusedError when it was not read."""
    with database.transaction() as session:
        here(session, study_uid)
        row = session.get(ReadingRow, study_uid)
        if row is None:
            raise RefusedError("nobody has read this study")
        session.delete(row)
        events.write(session, study_uid, Action.READING, f"To be read after all, says {who}.", now)


def here(session: Session, study_uid: str) -> StudyRow:
    row = session.get(StudyRow, study_uid)
    if row is None:
        raise RefusedError(f"this node never received a study {study_uid}")
    return row
