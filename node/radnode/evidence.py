"""What other systems say belongs to a study: procedure steps, availability notifications, counts of a PACS.

Modality Performed Procedure Step: PS3.4 annex F.7, PS3.3 C.4.13 to C.4.15. Instance Availability Notification: PS3.4
annex R, PS3.3 C.4.23. Nothing here decides anything: `complete` asks what is missing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session

from radnode import turned_away
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.store_check import is_uid
from radnode.tables import DeliveryRow, InstanceRow, ResultRow, StudyRow
from radnode.tables_pacs import EvidenceRow

STEP, NOTICE, QUERY, PRIORS, REFUSED = "mpps", "ian", "query", "priors", "refused"
"""PRIORS: of the row that says that a study's priors were looked for, or why they could not be. REFUSED: see `refusals`."""
SOURCES = {STEP: "a procedure step", NOTICE: "an availability notification"}
IMAGES = "1.2.840.10008.5.1.4.1.1."
NO_IMAGES = tuple(
    f"{IMAGES}{n}" for n in ("88.", "11.", "9.", "104.", "66", "481.3", "481.5", "481.8", "67", "68", "78.")
)
"""The beginning of SOP classes of what is no image, and is not waited for: reports, presentation states, waveforms, documents,
what others made of images. A region that is given (SEG, RTSTRUCT) and comes late has its study read again. PS3.4 table B.5-1."""
CHUNK = 500


def procedure_step(database: Database, uid: str, dataset: Dataset, now: float) -> None:
    """An N-CREATE or N-SET of a performed procedure step. Raises RefusedError when it says nothing of a study."""
    studies = {str(i.get("StudyInstanceUID", "")) for i in dataset.get("ScheduledStepAttributesSequence") or ()}
    named = tuple(performed(dataset))
    status = str(dataset.get("PerformedProcedureStepStatus", ""))
    with database.transaction() as session:
        known = session.scalars(select(EvidenceRow).where(EvidenceRow.source == STEP, EvidenceRow.key == uid)).all()
        for study_uid in filter(is_uid, studies - {row.study_uid for row in known}):
            row = EvidenceRow(study_uid=study_uid, source=STEP, key=uid, ended=False, named=[], error="", at=now)
            session.add(row)
            known = [*known, row]
        if not known:
            raise RefusedError("The procedure step is unknown and names no study.")
        for row in known:
            row.at = now
            if status:
                row.ended = status in ("COMPLETED", "DISCONTINUED")
                row.error = broken_off(dataset) if status == "DISCONTINUED" else ""
            if named and len(known) == 1:  # of a step for several studies nobody knows which object is whose
                row.named = sorted({*row.named, *named})


def broken_off(dataset: Dataset) -> str:
    """That a procedure step was discontinued, and why, where it names a reason of CID 9300 (PS3.16)."""
    from pydicom.sr.codedict import codes

    known = {str(c.value): c.meaning for c in codes.cid9300.concepts.values()}
    given = dataset.get("PerformedProcedureStepDiscontinuationReasonCodeSequence") or ()
    why = next((known[str(i.CodeValue)] for i in given if str(i.get("CodeValue", "")) in known), "")
    return "procedure step discontinued" + (f": {why}" if why else "")


def performed(dataset: Dataset) -> Iterable[str]:
    """SOP Instance UIDs of the images that a procedure step says it made. No model reads what else it made."""
    for series in dataset.get("PerformedSeriesSequence") or ():
        yield from (str(i.ReferencedSOPInstanceUID) for i in series.get("ReferencedImageSequence") or ())


def availability(database: Database, uid: str, dataset: Dataset, now: float) -> None:
    """An N-CREATE of an Instance Availability Notification. Raises RefusedError when it names no study."""
    study_uid = str(dataset.get("StudyInstanceUID", ""))
    if not is_uid(study_uid):
        raise RefusedError("The notification names no study.")
    items = [i for s in dataset.get("ReferencedSeriesSequence") or () for i in s.get("ReferencedSOPSequence") or ()]
    said = {str(i.ReferencedSOPInstanceUID): str(i.get("InstanceAvailability", "ONLINE")) for i in items}
    images = {str(i.ReferencedSOPInstanceUID) for i in items if is_image(str(i.get("ReferencedSOPClassUID") or IMAGES))}
    there = sorted(o for o, how in said.items() if how in ("ONLINE", "NEARLINE") and o in images)
    forget_named(database, study_uid, {o for o, how in said.items() if how == "UNAVAILABLE"})
    keep(database, study_uid, NOTICE, uid or study_uid, now, named=there)


def forget_named(database: Database, study_uid: str, gone: Collection[str]) -> None:
    """What earlier notifications named and nobody can have any more, since it was deleted there, is not waited for."""
    if not gone:
        return
    with database.transaction() as session:
        of_it = (EvidenceRow.study_uid == study_uid, EvidenceRow.source == NOTICE)
        for row in session.scalars(select(EvidenceRow).where(*of_it)):
            row.named = [uid for uid in row.named if uid not in gone]


def keep(
    database: Database,
    study_uid: str,
    source: str,
    key: str,
    now: float,
    *,
    instances: int | None = None,
    series: Mapping[str, int] | None = None,
    named: Sequence[str] = (),
    error: str = "",
) -> None:
    """The newest word of a source, in the place of its last one."""
    with database.transaction() as session:
        of_it = (EvidenceRow.study_uid == study_uid, EvidenceRow.source == source, EvidenceRow.key == key)
        session.execute(delete(EvidenceRow).where(*of_it))
        row = EvidenceRow(study_uid=study_uid, source=source, key=key, ended=True, at=now, error=error)
        row.instances, row.series, row.named = instances, dict(series or {}), list(named)
        session.add(row)


def unanswered(database: Database, study_uid: str, peer: str, now: float, error: str) -> None:
    """A peer could not be asked: why, beside what it counted before, which still speaks against a study that has less."""
    of_it = (EvidenceRow.study_uid == study_uid, EvidenceRow.source == QUERY, EvidenceRow.key == peer)
    with database.transaction() as session:
        row = session.scalar(select(EvidenceRow).where(*of_it))
        if row is None:
            row = EvidenceRow(study_uid=study_uid, source=QUERY, key=peer, named=[], series={})
            session.add(row)
        row.error, row.at = error, now


@dataclass(frozen=True, kw_only=True)
class Lack:
    """What speaks against a study being complete, in words; "" for nothing. known: it is not only that nobody answered."""

    sentence: str = ""
    known: bool = False


def missing(session: Session, study: StudyRow, asked: Sequence[str]) -> Lack:
    """What others say has not come. asked: the names of the peers whose count has to be newer than the last image."""
    rows = session.scalars(select(EvidenceRow).where(EvidenceRow.study_uid == study.study_uid)).all()
    for row in rows:
        if not row.ended:
            return Lack(sentence="its acquisition is still going on (procedure step)", known=True)
    own = set(session.scalars(select(ResultRow.uid).where(ResultRow.study_uid == study.study_uid))) if rows else set()
    for row in rows:
        named_of_others = [uid for uid in row.named if uid not in own]
        away = len(named_of_others) - present(session, study.study_uid, named_of_others)
        if away and row.source == REFUSED:
            why = row.error.rstrip(".")
            return Lack(sentence=f"{away} images that were refused have not come again ({why})", known=True)
        if away:
            named = f"the {len(named_of_others)} objects that {SOURCES.get(row.source, row.key)} names"
            return Lack(sentence=f"{away} of {named} have not come", known=True)
    if broken := cut_short(rows):
        return Lack(sentence=f"its acquisition was broken off ({broken})", known=True)
    counts = {row.key: row for row in rows if row.source == QUERY and row.key in asked}
    for name, said in counts.items():
        if more := surplus(session, study, said):
            sentence = f"{name} has {said.instances} images of this study, the node {study.instances}"
            if said.instances is None or said.instances <= study.instances:  # others came that it does not have
                sentence = f"{name} has {more} images in series of this study that the node has not"
            return Lack(sentence=sentence, known=True)
    told = {name for name, c in counts.items() if not c.error and c.at >= study.last_instance_at}
    counted = any(counts[name].instances for name in told)
    if not counted and (refused := turned_away.lacking(session, study)):
        return Lack(sentence=refused, known=True)
    for name in asked:
        if name not in told:
            return Lack(sentence=f"{name} has not said how many images there are")
    return Lack()


def refusal(session: Session, study_uid: str) -> str:
    """What the node refused of a study, and why; "" for nothing."""
    row = session.scalar(select(EvidenceRow).where(EvidenceRow.study_uid == study_uid, EvidenceRow.source == REFUSED))
    return "" if row is None else f"It refused {len(row.named)} images of it: {row.error.rstrip('.')}."


def cut_short(rows: Sequence[EvidenceRow]) -> str:
    """How the last procedure step that ended was broken off; "" when it was completed, or there is none."""
    last = max((r for r in rows if r.source == STEP and r.ended), key=lambda r: (r.at, not r.error), default=None)
    return "" if last is None else last.error


def is_image(sop_class_uid: str) -> bool:
    """Whether a model may read objects of this class: what is no image is no part of what is read."""
    return sop_class_uid.startswith(IMAGES) and not sop_class_uid.startswith(NO_IMAGES)


def surplus(session: Session, study: StudyRow, said: EvidenceRow) -> int:
    """How many images a peer has of a study that the node has not: of each series, and in all."""
    of_it = (InstanceRow.study_uid == study.study_uid, InstanceRow.current.is_(True))
    count = select(InstanceRow.series_uid, func.count()).where(*of_it).group_by(InstanceRow.series_uid)
    here = {row[0]: int(row[1]) for row in session.execute(count)} if said.series else {}
    by_series = sum(max(0, many - here.get(uid, 0)) for uid, many in said.series.items())
    return max(by_series, (said.instances or 0) - study.instances, 0)


def present(session: Session, study_uid: str, uids: Sequence[str]) -> int:
    """How many of these objects the node has."""
    many = 0
    for start in range(0, len(uids), CHUNK):
        of_them = InstanceRow.sop_uid.in_(uids[start : start + CHUNK])
        query = select(func.count(InstanceRow.sop_uid.distinct())).where(InstanceRow.study_uid == study_uid, of_them)
        many += session.scalar(query) or 0
    return many


def own_objects(session: Session, study_uid: str) -> int:
    """How many DICOM objects the node made of a study and has delivered: so many of those that a PACS counts may be its own."""
    left = (DeliveryRow.result_uid == ResultRow.uid, DeliveryRow.delivered_at.is_not(None))
    query = select(func.count()).where(
        ResultRow.study_uid == study_uid, ResultRow.sop_class_uid != "", exists().where(*left)
    )
    return session.scalar(query) or 0


def own_series(session: Session, study_uid: str) -> set[str]:
    """The series that the node made of a study: a PACS counts them, and they are no images that could be missing."""
    query = select(ResultRow.series_uid).where(ResultRow.study_uid == study_uid, ResultRow.series_uid != "").distinct()
    return set(session.scalars(query))
