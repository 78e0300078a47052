"""When a study is complete: new instances are counted into their study, and a study that stays quiet is complete.

Everything is in the tables; any step may be killed and is taken again. No rule, no model and no job is known here, but
that open jobs of a study become stale when later images arrive.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.orm import Session

from radnode import corrections, edited, events, evidence, fetches, jobs, sending
from radnode.database import Database
from radnode.events import Action
from radnode.evidence import Lack
from radnode.quiet import quiet_of
from radnode.settings import Settings
from radnode.states import StudyState
from radnode.tables import InstanceRow, PeerRow, ResultRow, StudyRow
from radnode_inference.header import Header, NotDicomError

CHUNK = 500
"""Rows named in one statement."""
ATTRIBUTES = {
    "patient_id": "PatientID",
    "issuer_of_patient_id": "IssuerOfPatientID",
    "patient_name": "PatientName",
    "patient_sex": "PatientSex",
    "patient_birth_date": "PatientBirthDate",
    "accession_number": "AccessionNumber",
    "study_description": "StudyDescription",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "body_part": "BodyPartExamined",
}
"""Column of StudyRow -> DICOM keyword. PS3.3 C.7.1.1, C.7.2.1, C.7.3.1."""
LIMITS = {"patient_sex": 16, "patient_birth_date": 16, "study_date": 16, "study_time": 16, "body_part": 255}

LOOKING_S = 5.0
"""What arrived so much later than the look began arrived meanwhile; later still: before the clock was turned back."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """What arrived for one study since the last look. own: how many were the node's own results coming back.

    copies: radiologists' edited copies of them, which are among the others. corrected: of the newest image that came
    again with other bytes.
    """

    study_uid: str
    ids: tuple[int, ...]
    own: int
    calling_ae: str
    first_at: float
    last_at: float
    quiet_s: float
    headers: tuple[Header, ...]
    copies: tuple[edited.Copy, ...] = ()
    corrected: Header | None = None

    @property
    def foreign(self) -> int:
        return len(self.ids) - self.own


def settle(database: Database, settings: Settings, *, since: float, now: float) -> int:
    """Count what arrived into its studies; returns how many instances.

    since: when this process began to look; a study's quiet time does not begin before, so that a sender which was cut
    off by a restart has time to send the rest.
    """
    with database.reading() as session:
        waiting = session.scalars(select(InstanceRow.study_uid).where(~InstanceRow.settled).distinct()).all()
    settled = 0
    for study_uid in waiting:
        try:
            arrived = look(database, settings, study_uid)
            if arrived is not None and count_in(database, arrived, since=since, now=now):
                settled += len(arrived.ids)
        except Exception:  # one study must not hold up the others; its rows are looked at again
            log.exception("A study cannot be settled.", extra={"action": "settle", "study_uid": study_uid})
    return settled


def look(database: Database, settings: Settings, study_uid: str) -> Arrived | None:
    """What arrived for a study, and a header of each series that is new. Files are read outside any write lock."""
    with database.reading() as session:
        rows = session.scalars(
            select(InstanceRow)
            .where(InstanceRow.study_uid == study_uid, ~InstanceRow.settled)
            .order_by(InstanceRow.received_at, InstanceRow.id)
        ).all()
        if not rows:
            return None
        own = own_results(session, study_uid)
        foreign = [r for r in rows if r.sop_uid not in own]
        known = set(
            session.scalars(
                select(InstanceRow.series_uid).where(InstanceRow.study_uid == study_uid, InstanceRow.settled).distinct()
            )
        )
        quiet_s = quiet_of(session, settings, rows[-1].calling_ae, rows[-1].address)
        copies = edited.copies(session, settings, study_uid, foreign)
        renewed = corrections.newest(session, foreign, settings.data)
    firsts = {r.series_uid: settings.data / r.file for r in reversed(foreign) if r.series_uid not in known}
    return Arrived(
        study_uid=study_uid,
        ids=tuple(r.id for r in rows),
        own=len(rows) - len(foreign),
        calling_ae=rows[0].calling_ae,
        first_at=rows[0].received_at,
        last_at=max((r.received_at for r in foreign), default=rows[-1].received_at),
        quiet_s=quiet_s,
        headers=readable(tuple(firsts.values())),
        copies=copies,
        corrected=next(iter(readable((renewed,) if renewed else ())), None),
    )


def count_in(database: Database, arrived: Arrived, *, since: float, now: float) -> bool:
    """One transaction: the instances are settled, the study is made, extended or reopened. False: another did it."""
    with database.transaction() as session:
        if mark(session, arrived.ids) == 0:
            return False
        if not arrived.foreign:
            sentence = f"{arrived.own} of the node's own results came back from {arrived.calling_ae}; nothing to do."
            events.write(session, arrived.study_uid, Action.RETURNED, sentence, now)
            return True
        study = jobs.lock_study(session, arrived.study_uid)
        for copy in arrived.copies:
            edited.record(session, arrived.study_uid, copy, now)
        if study is not None and len(arrived.copies) == arrived.foreign and edited.changes_nothing(session, study):
            return True
        if study is None:
            study = new_study(session, arrived, now)
        elif study.state != StudyState.RECEIVING:
            reopen(session, study, arrived, now)
        extend(session, study, arrived, since, now)
    return True


def mark(session: Session, ids: Sequence[int]) -> int:
    """Compare-and-set: these instances are settled now; how many were not before."""
    marked = 0
    for start in range(0, len(ids), CHUNK):
        chosen = InstanceRow.id.in_(ids[start : start + CHUNK])
        marked += jobs.changed(
            session.execute(update(InstanceRow).where(chosen, ~InstanceRow.settled).values(settled=True))
        )
    return marked


def new_study(session: Session, arrived: Arrived, now: float) -> StudyRow:
    study = StudyRow(
        study_uid=arrived.study_uid,
        calling_ae=arrived.calling_ae,
        state=StudyState.RECEIVING,
        revision=1,
        instances=0,
        modalities="",
        first_instance_at=arrived.first_at,
        last_instance_at=arrived.last_at,
        due_at=0.0,
        **dict.fromkeys(ATTRIBUTES, ""),
    )
    session.add(study)
    events.write(session, study.study_uid, Action.ARRIVED, f"The first image came from {arrived.calling_ae}.", now)
    return study


def reopen(session: Session, study: StudyRow, arrived: Arrived, now: float) -> None:
    """Late images: the study is received again, and nothing that was made of the part will be reported."""
    revision = study.revision + 1
    stale = jobs.make_stale(session, study.study_uid, now)
    old = StudyState(study.state)
    if not jobs.move_study(session, study.study_uid, old, StudyState.RECEIVING, revision=revision, due_at=0.0):
        raise RuntimeError(f"study {study.study_uid} changed under its own lock")
    session.refresh(study)
    sentence = f"{arrived.foreign} late images arrived: revision {revision} begins"
    sentence += f"; {stale} open runs of the part were ended." if stale else "."
    events.write(session, study.study_uid, Action.REOPENED, sentence, now)


def extend(session: Session, study: StudyRow, arrived: Arrived, since: float, now: float) -> None:
    """Fill in what the headers say, count, and begin the quiet time anew. The clock may have been turned back since."""
    for header in arrived.headers:
        for column, keyword in ATTRIBUTES.items():
            if not getattr(study, column):
                setattr(study, column, header.text(keyword)[: LIMITS.get(column)])
    if arrived.corrected is not None:
        corrections.correct(session, study, arrived.corrected, ATTRIBUTES, LIMITS, now)
    modalities = {h.text("Modality") for h in arrived.headers} | set(study.modalities.split("\\"))
    study.modalities = "\\".join(sorted(modalities - {""}))[:255]
    study.last_instance_at = max(study.last_instance_at, arrived.last_at)
    last_at = arrived.last_at if arrived.last_at <= now + LOOKING_S else now
    study.due_at = max(study.due_at, max(last_at, since) + arrived.quiet_s)
    session.flush()
    counted = select(func.count()).where(*of_study(study.study_uid))
    study.instances = session.scalar(counted) or 0


def complete(database: Database, *, now: float, evidence_wait_s: float = 0.0, priors: bool = False) -> tuple[str, ...]:
    """The studies that were quiet long enough, and that nobody is still sending, now COMPLETE: each in its own compare-and-set.

    evidence_wait_s: how long one waits of which other systems say that there is more; then it is complete as provisional.
    priors: whether a rule has earlier studies fetched; so long at most one waits for these as well.
    """
    unsettled = exists().where(InstanceRow.study_uid == StudyRow.study_uid, ~InstanceRow.settled)
    due = (StudyRow.due_at <= now, ~unsettled, ~sending.is_sent(now))
    query = select(StudyRow.study_uid, StudyRow.instances).where(StudyRow.state == StudyState.RECEIVING, *due)
    with database.reading() as session:
        ready = session.execute(query.order_by(StudyRow.due_at)).all()
        asked = tuple(session.scalars(select(PeerRow.name).where(PeerRow.may.contains("query"))))
    done = []
    for study_uid, instances in ready:
        with database.reading() as session:
            lack = lack_of(session, session.get_one(StudyRow, study_uid), asked, priors=priors, now=now)
        if not is_awaited(database, study_uid, lack, evidence_wait_s, now) and finish(
            database, study_uid, instances, lack, due, now
        ):
            done.append(study_uid)
    return tuple(done)


def lack_of(session: Session, study: StudyRow, asked: Sequence[str], *, priors: bool, now: float) -> Lack:
    """What speaks against a quiet study being read now. asked: the peers that are to count; priors: as for `complete`."""
    lack = evidence.missing(session, study, asked)
    if not lack.known and (broken := fetches.unfinished(session, study)):
        return Lack(sentence=broken, known=True)
    if not lack.sentence and fetches.are_coming(session, study.study_uid):
        return Lack(sentence="its earlier studies are still being fetched")
    if not lack.sentence and priors and fetches.are_sought(session, study.study_uid, now):
        return Lack(sentence="nobody has said yet which earlier studies there are")
    return lack


def is_awaited(database: Database, study_uid: str, lack: Lack, wait_s: float, now: float) -> bool:
    """Whether a study waits for what others say is missing; its story tells of it once."""
    if not lack.sentence:
        return False
    with database.reading() as session:
        study = session.get_one(StudyRow, study_uid)
        late, told = now >= study.due_at + wait_s, study.provisional == lack.sentence
    if late:
        return False
    if lack.known and not told:
        with database.transaction() as session:
            session.execute(update(StudyRow).where(StudyRow.study_uid == study_uid).values(provisional=lack.sentence))
            sentence = f"Quiet, but not complete: {lack.sentence}. It waits {wait_s:.0f} s at most."
            events.write(session, study_uid, Action.WAITING, sentence, now)
    return True


def finish(
    database: Database, study_uid: str, instances: int, lack: Lack, due: Sequence[ColumnElement[bool]], now: float
) -> bool:
    """One transaction: the study is COMPLETE, as provisional where others know of more. False: it changed meanwhile."""
    provisional = lack.sentence if lack.known else ""
    with database.transaction() as session:
        states = (StudyState.RECEIVING, StudyState.COMPLETE)
        if not jobs.move_study(session, study_uid, *states, *due, provisional=provisional):
            return False
        sentence = f"Quiet, and complete with {instances} images"
        if provisional:
            sentence = f"Quiet, and read as provisional with {instances} images: {provisional}"
        elif lack.sentence:
            sentence += f"; {lack.sentence}"
        events.write(session, study_uid, Action.COMPLETE, f"{sentence}.", now)
    return True


def lacking(session: Session, study_uid: str) -> str:
    """What other systems say is missing of a study that is read all the same; "" of a whole one."""
    found = session.scalar(select(StudyRow.provisional).where(StudyRow.study_uid == study_uid))
    return found or ""


def hold(database: Database, settings: Settings, *, now: float) -> None:
    """The node was not listening until now, or its clock was set: every study that is being received gets its whole
    quiet time again."""
    with database.transaction() as session:
        query = select(StudyRow).where(StudyRow.state == StudyState.RECEIVING).with_for_update()
        for study in session.scalars(query):
            study.due_at = now + quiet_of(session, settings, study.calling_ae, "")


def own_results(session: Session, study_uid: str) -> set[str]:
    """The UIDs of everything that the node ever made of a study."""
    return set(session.scalars(select(ResultRow.uid).where(ResultRow.study_uid == study_uid)))


def of_study(study_uid: str) -> tuple[ColumnElement[bool], ...]:
    """Conditions: the settled, current instances of a study that the node did not make itself."""
    own = select(ResultRow.uid).where(ResultRow.study_uid == study_uid)
    return (
        InstanceRow.study_uid == study_uid,
        InstanceRow.current.is_(True),
        InstanceRow.settled.is_(True),
        InstanceRow.sop_uid.not_in(own),
    )


def input_files(session: Session, study_uid: str) -> tuple[str, ...]:
    """The files of the study's revision, relative to the data folder, in the order of arrival; none when some were let go."""
    if let_go(session, study_uid):
        return ()
    query = select(InstanceRow.file).where(*of_study(study_uid))
    return tuple(session.scalars(query.order_by(InstanceRow.id)))


def let_go(session: Session, study_uid: str) -> int:
    """How many of a study's images retention, or a backup without images, let go: what is left is a part."""
    gone = select(func.count()).where(*of_study(study_uid), InstanceRow.gone_at.is_not(None))
    return session.scalar(gone) or 0


def is_as_settled(session: Session, study_uid: str, revision: int) -> bool:
    """Whether a study still stands at `revision` and nothing has arrived since; the caller holds its lock."""
    study = jobs.lock_study(session, study_uid)
    if study is None or study.revision != revision or study.state == StudyState.RECEIVING:
        return False
    own = own_results(session, study_uid)
    new = session.scalars(select(InstanceRow.sop_uid).where(InstanceRow.study_uid == study_uid, ~InstanceRow.settled))
    return all(uid in own for uid in new)


def readable(files: Sequence[Path]) -> tuple[Header, ...]:
    """The headers of those files that have one."""
    headers = []
    for file in files:
        try:
            headers.append(Header.read(file))
        except (NotDicomError, OSError) as e:
            log.warning("The header of a stored object cannot be read.", extra={"action": "settle", "why": str(e)})
    return tuple(headers)
