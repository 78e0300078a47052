"""Which studies' images may be let go, by rule and by the disk's watermark, and letting them go.

Only images go, a whole study's at once; rows, results and the story stay, and the story says so. Nothing goes that is
still arriving, being read or owed to a destination that there is, that a model failed on, that the node committed itself
to keep for another system, or that an open study of the patient may be compared with.
First the rows say that the files are gone, then the files go: a crash between leaves files, which the next run removes.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import exists, func, select, text, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from radnode import addresses, events, jobs
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.events import Action
from radnode.faults import Point, crash_point
from radnode.settings import Retention, RetentionRule, Settings
from radnode.states import DeliveryState, JobState, StudyState
from radnode.store import abandoned
from radnode.store_index import ADVISORY_LOCK
from radnode.tables import DeliveryRow, InstanceRow, JobRow, ResultRow, SendingRow, ShadowRow, StudyRow
from radnode.tables_pacs import PromiseRow

DAY_S = 86400.0
MB = 1_000_000
AT_ONCE, PAUSE_S = 50, 0.1
"""Files that are deleted while nobody can write, and how long others may write then."""
UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.FAILED, JobState.HELD)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A study whose time is over. why: by which rule. kept: why its images stay all the same; "": they go."""

    study_uid: str
    last_image_at: float
    images: int
    bytes: int
    why: str
    kept: str = ""


def plan(database: Database, settings: Settings, now: float, *, free_bytes: int | None = None) -> tuple[Candidate, ...]:
    """Every study whose time is over, the oldest first, and whether its images go. Changes nothing.

    free_bytes: what the disk has left; None: looked up.
    """
    free = shutil.disk_usage(settings.data).free if free_bytes is None else free_bytes
    missing = settings.retention.free_mb * MB - free if settings.retention.free_mb else 0
    found = []
    with database.reading() as session:
        there = places(session, settings)
        oldest_first = select(StudyRow).where(has_images()).order_by(StudyRow.last_instance_at, StudyRow.study_uid)
        for study in session.scalars(oldest_first):
            if not may_go(settings.retention, now - study.last_instance_at, low=missing > 0):
                break  # every later one is younger than any rule asks for
            why = over(study, settings, now, low=missing > 0)
            if why:
                candidate = weigh(session, study, why, there, now)
                found.append(candidate)
                missing -= 0 if candidate.kept else candidate.bytes
    return tuple(found)


def may_go(retention: Retention, age_s: float, *, low: bool) -> bool:
    """Whether any rule, or the watermark, lets a study of this age go."""
    ages = [rule.keep_days for rule in retention.rules if rule.keep_days]
    ages += [retention.keep_days] if retention.keep_days else []
    ages += [retention.least_days] if low else []
    return bool(ages) and age_s >= min(ages) * DAY_S


def over(study: StudyRow, settings: Settings, now: float, *, low: bool) -> str:
    """Why a study's time is over, as a sentence; "" when it is not. The first rule that fits decides; 0 days: for ever."""
    retention = settings.retention
    rule = next((r for r in retention.rules if fits(r, study)), None)
    days = retention.keep_days if rule is None else rule.keep_days
    age = (now - study.last_instance_at) / DAY_S
    if days and age >= days:
        return f"kept {days:g} days {f'by the rule {rule.name}' if rule else 'by default'}"
    if low and not (rule and not days) and age >= retention.least_days:
        return f"less than {retention.free_mb} MB were free, and it was among the oldest"
    return ""


def fits(rule: RetentionRule, study: StudyRow) -> bool:
    modalities = set(study.modalities.split("\\"))
    return (not rule.modalities or bool(modalities & set(rule.modalities))) and (
        not rule.calling_aes or study.calling_ae in rule.calling_aes
    )


def places(session: Session, settings: Settings) -> frozenset[str]:
    """The names of where results go."""
    return frozenset(d.name for d in addresses.destinations(session, settings))


def weigh(session: Session, study: StudyRow, why: str, places: Collection[str], now: float) -> Candidate:
    there = (InstanceRow.study_uid == study.study_uid, InstanceRow.gone_at.is_(None))
    images, size = session.execute(
        select(func.count(), func.coalesce(func.sum(InstanceRow.size), 0)).where(*there)
    ).one()
    return Candidate(
        study_uid=study.study_uid,
        last_image_at=study.last_instance_at,
        images=images,
        bytes=int(size),
        why=why,
        kept=kept_because(session, study, places, now),
    )


def kept_because(session: Session, study: StudyRow, places: Collection[str], now: float) -> str:
    """Why the images of a study must stay whatever its age; "" when they may go. places: the names of where results go.

    What can never end holds nothing: a sender that is not heard of any more, what is owed to a name that leads nowhere,
    what was given up of a result that is not current.
    """
    if study.state != StudyState.READ:
        return "it is still being received or read"
    uid, revision = study.study_uid, study.revision
    same_patient = (
        StudyRow.patient_id == study.patient_id,
        StudyRow.study_uid != uid,
        StudyRow.state != StudyState.READ,
    )
    to_go = (DeliveryRow.study_uid == uid, DeliveryRow.destination.in_(places))
    reasons: Sequence[tuple[str, ColumnElement[bool]]] = (
        ("images arrived that are not counted yet", exists().where(InstanceRow.study_uid == uid, ~InstanceRow.settled)),
        ("it is being sent", exists().where(SendingRow.study_uid == uid, SendingRow.alive_until > now)),
        (
            "a model has not read it to the end",
            exists().where(JobRow.study_uid == uid, JobRow.revision == revision, JobRow.state.in_(UNFINISHED)),
        ),
        (
            "a version in shadow is to read it",
            exists().where(ShadowRow.study_uid == uid, ShadowRow.state.in_((JobState.QUEUED, JobState.RUNNING))),
        ),
        ("a result is owed", exists().where(*to_go, DeliveryRow.state == DeliveryState.OWED)),
        (
            "a result was given up and not delivered",
            exists().where(
                *to_go,
                DeliveryRow.state == DeliveryState.DEAD,
                ResultRow.uid == DeliveryRow.result_uid,
                ResultRow.current,
            ),
        ),
        ("the node committed itself to keep it for another system", exists().where(PromiseRow.study_uid == uid)),
        (
            "another study of the patient is open and may be compared with it",
            exists().where(*same_patient) & (StudyRow.patient_id != ""),
        ),
    )
    for reason, holds in reasons:
        if session.scalar(select(StudyRow.study_uid).where(StudyRow.study_uid == uid, holds)) is not None:
            return reason
    return ""


def owed_to_nobody(session: Session, study_uid: str) -> list[str]:
    """The names that something of a study is owed to still; where its images go, none of them leads anywhere."""
    owed = (DeliveryRow.study_uid == study_uid, DeliveryRow.state == DeliveryState.OWED)
    return list(
        session.scalars(select(DeliveryRow.destination).where(*owed).distinct().order_by(DeliveryRow.destination))
    )


def has_images() -> ColumnElement[bool]:
    return exists().where(InstanceRow.study_uid == StudyRow.study_uid, InstanceRow.gone_at.is_(None))


def turn(database: Database, settings: Settings, now: float) -> int:
    """Let go what may go; how many studies. Nothing while a backup is made."""
    done = 0
    with nothing_is_deleted(settings.data, "retention"):
        for candidate in plan(database, settings, now):
            if not candidate.kept:
                done += let_go(database, settings, candidate, now)
    return done


def let_go(database: Database, settings: Settings, candidate: Candidate, now: float) -> bool:
    """Say so in the rows and the study's story, then delete the files. False: something happened to it meanwhile."""
    with database.transaction() as session:
        study = jobs.lock_study(session, candidate.study_uid)
        no_object_arrives(session)  # one that came between the look and the rows would go with them
        if study is None or kept_because(session, study, places(session, settings), now):
            return False
        there = (InstanceRow.study_uid == candidate.study_uid, InstanceRow.gone_at.is_(None))
        session.execute(update(InstanceRow).where(*there).values(gone_at=now))
        sentence = f"Its {candidate.images} images ({candidate.bytes / MB:.1f} MB) were deleted here: {candidate.why}."
        if lost := owed_to_nobody(session, candidate.study_uid):
            sentence += f" Results are still owed to {', '.join(lost)}, which is no destination any more: that held them no longer."
        events.write(session, candidate.study_uid, Action.LET_GO, sentence, now)
    crash_point(Point.ROWS_GONE_BEFORE_FILES)
    delete_files(database, settings.data.resolve(), candidate.study_uid)
    return True


def delete_files(database: Database, data: Path, study_uid: str) -> None:
    """Delete the files of rows that say so, a few at a time: nobody can index an object meanwhile. One that is just arriving stays."""
    gone = (InstanceRow.study_uid == study_uid, InstanceRow.gone_at.is_not(None))
    with database.reading() as session:
        names = session.scalars(select(InstanceRow.file).where(*gone)).all()
    for start in range(0, len(names), AT_ONCE):
        with database.transaction() as session:
            no_object_arrives(session)
            there = InstanceRow.file.in_(names[start : start + AT_ONCE])
            for name in session.scalars(select(InstanceRow.file).where(*gone, there)):
                delete_unless_arriving(data / name)
        time.sleep(PAUSE_S)
    folder = data / "objects" / study_uid
    for empty in (*folder.glob("*"), folder):
        with suppress(OSError):
            empty.rmdir()


def no_object_arrives(session: Session) -> None:
    """Nobody can index an object until the transaction ends. On SQLite it holds the only write lock anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})


def delete_unless_arriving(file: Path) -> None:
    with suppress(FileNotFoundError), abandoned(file) as left:
        if left:
            file.unlink()


def sweep(database: Database, settings: Settings) -> None:
    """Delete the files that an earlier run was killed before."""
    data = settings.data.resolve()
    with database.reading() as session:
        gone = session.scalars(select(InstanceRow.study_uid).where(InstanceRow.gone_at.is_not(None)).distinct()).all()
    for study_uid in gone:
        if (data / "objects" / study_uid).is_dir():
            delete_files(database, data, study_uid)


@contextmanager
def nothing_is_deleted(data: Path, who: str) -> Iterator[None]:
    """Retention and backup exclude each other. Raises RefusedError when the other one is at work."""
    (data / "run").mkdir(parents=True, exist_ok=True)
    with (data / "run" / "retention.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            lock.seek(0)
            raise RefusedError(
                f"a {lock.read().strip() or 'backup'} is at work on this data folder: try again later"
            ) from e
        lock.truncate(0)
        lock.write(who)
        lock.flush()
        os.fsync(lock.fileno())
        yield
