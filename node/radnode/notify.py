"""A changed priority -> the outbox: what the worklists of other systems are told, once for each change.

What waiting adds to a study's place is not told: it moves this list, not the order that somebody placed. A finding that comes
after the reading is told although the priority may be the same: nobody would look again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from radnode import events, notify_moved, orders, results
from radnode.database import Database
from radnode.destinations import PRIORITY, takes
from radnode.events import Action
from radnode.listed import AFTER_READING
from radnode.results import Result, StoredResult
from radnode.settings import Destination, Settings
from radnode.states import DeliveryState
from radnode.studies import StudySummary
from radnode.tables import DeliveryRow, ResultRow
from radnode.tables_triage import NoticeRow
from radnode.triage import Context, Level, Priority
from radnode.worklist import Reader
from radnode_inference.findings import uid_from

SOURCE = "triage"
"""What stands as the model of a notice."""


def tell(database: Database, settings: Settings, reader: Reader, now: float) -> int:
    """Owe every destination that takes them the priorities that changed since the last time; how many changed.

    One transaction for each study. A crash before it leaves nothing; the next turn sees the same change.
    """
    addresses = [d for d in settings.destinations if PRIORITY in takes(d)]
    if not addresses:
        return 0
    standing = reader.priorities(now)
    with database.reading() as session:
        rows = session.execute(select(NoticeRow.study_uid, NoticeRow.level, NoticeRow.at, NoticeRow.whose)).all()
        told = {uid: (Level(level), at, whose) for uid, level, at, whose in rows}
    changed = 0
    for uid, (study, priority, context) in standing.items():
        ordered = context.ordered or Level.ROUTINE
        before, at, whose = told.get(uid, (ordered, 0.0, ""))
        moved = whose not in ("", notify_moved.whose(study))
        before = ordered if moved else before
        if moved or priority.level is not before or (priority.after_reading or 0.0) > at:
            with database.transaction() as session:
                owe(session, settings, addresses, study, priority, context, before, now, moved=moved)
            changed += 1
    return changed


def owe(
    session: Session,
    settings: Settings,
    addresses: list[Destination],
    study: StudySummary,
    priority: Priority,
    context: Context,
    before: Level,
    now: float,
    *,
    moved: bool = False,
) -> None:
    """Within the caller's transaction: the notice is kept, what it replaces is withdrawn, and it is owed.

    moved: the study's patient or accession number was corrected; the order that was told of it is told that it was not meant.
    """
    former = notify_moved.told_before(session, settings, addresses, study.study_uid, now) if moved else {}
    said = notice(session, study, priority, context, before, now)
    uid = uid_from(("priority", study.study_uid, priority.level, str(now)))
    replace(session, settings, study)
    corrected = take_back(session, settings, study, former, now)
    names = [a.name for a in addresses if a.kind != "mail" or priority.level is Level.STAT]
    names = [] if moved and priority.level is before else names  # its own order says so already
    send(session, settings, uid, said, names, now)
    row = session.get(NoticeRow, study.study_uid) or NoticeRow(study_uid=study.study_uid)
    row.level, row.reason, row.at = priority.level, priority.reason, now
    row.whose = notify_moved.whose(study)
    session.add(row)
    after = f"{AFTER_READING}. " if priority.after_reading is not None else ""
    sentence = (
        f"{after}The priority is {priority.level}, it was {before}: to be told to {', '.join(names) or 'nobody'}."
    )
    if moved:
        anew = f"told anew to {', '.join(names)}" if names else "not told, since its order says so"
        sentence = f"Its patient or accession number was corrected. The priority {priority.level} is {anew}."
        sentence += f" {', '.join(corrected)} will hear that the order of before was not meant." if corrected else ""
    events.write(session, study.study_uid, Action.PRIORITY, sentence, now)


def take_back(
    session: Session, settings: Settings, study: StudySummary, former: Mapping[str, notify_moved.Notice], now: float
) -> list[str]:
    """Owe those that raised the order of before a correction its own priority; their names. It goes before what is told anew."""
    told = []
    for name, last in sorted(former.items()):
        said = notify_moved.taken_back(session, study, last, now)
        if said is not None:
            uid = uid_from(("priority", study.study_uid, "moved", name, str(now)))
            send(session, settings, uid, said, [name], now, source=notify_moved.SOURCE)
            told.append(name)
    return told


def send(
    session: Session,
    settings: Settings,
    uid: str,
    said: Mapping[str, Any],
    names: Sequence[str],
    now: float,
    *,
    source: str = SOURCE,
) -> None:
    """Keep a notice, and owe it to these destinations."""
    study_uid = str(said["study_uid"])
    body = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    made = Result(kind=PRIORITY, uid=uid, sop_class_uid="", series_uid="", digest="", body=body)
    (stored,) = results.write_files(settings.data, [made])
    keep(session, study_uid, stored, now, source)
    for name in names:
        results.owe(session, study_uid, uid, name, now, again=False)


def notice(
    session: Session, study: StudySummary, priority: Priority, context: Context, before: Level, now: float
) -> Mapping[str, Any]:
    """Everything that any destination may say of the change; each takes only what it may. at: UTC epoch seconds."""
    placed = orders.of_accessions(session, [study.accession_number]).get(study.accession_number, ())
    order = next((o for o in placed if orders.is_of(o, study)), None)
    return {
        "study_uid": study.study_uid,
        "accession_number": study.accession_number,
        "order_number": order.placer if order else "",
        "procedure": (order.procedure if order else "") or study.study_description,
        "patient_id": study.patient_id,
        "issuer_of_patient_id": study.issuer_of_patient_id,
        "patient_name": study.patient_name,
        "patient_sex": study.patient_sex,
        "patient_birth_date": study.patient_birth_date,
        "patient_class": context.patient_class,
        "level": priority.level.value,
        "before": before.value,
        "reason": priority.reason,
        "abnormal": priority.abnormal,
        "demonstration": priority.demonstration,
        "at": now,
    }


def replace(session: Session, settings: Settings, study: StudySummary) -> None:
    """An earlier notice that had not left yet stays here; none but the newest is current, beside those to former orders."""
    earlier = (ResultRow.study_uid == study.study_uid, ResultRow.kind == PRIORITY, ResultRow.current)
    uids = list(session.scalars(select(ResultRow.uid).where(*earlier, ResultRow.model == SOURCE)))
    uids += notify_moved.meant_after_all(session, settings, study)
    session.execute(update(ResultRow).where(ResultRow.uid.in_(uids)).values(current=False))
    owed = (DeliveryRow.result_uid.in_(uids), DeliveryRow.state == DeliveryState.OWED)
    change = update(DeliveryRow).where(*owed)
    session.execute(change.values(state=DeliveryState.WITHDRAWN, error="the priority changed again before it left"))


def keep(session: Session, study_uid: str, stored: StoredResult, now: float, source: str) -> None:
    row = ResultRow(uid=stored.uid, job_id=None, study_uid=study_uid, model=source, kind=PRIORITY, created_at=now)
    row.digest, row.file, row.size, row.current = stored.digest, stored.file, stored.size, True
    session.add(row)
    session.flush()
