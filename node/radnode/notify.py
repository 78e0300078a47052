"""A changed priority -> the outbox: what the worklists of other systems are told, once for each change.

What waiting adds to a study's place is not told: it moves this list, not the order that somebody placed. A finding that comes
after the reading is told although the priority may be the same: nobody would look again.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from radnode import events, orders, results
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
        rows = session.execute(select(NoticeRow.study_uid, NoticeRow.level, NoticeRow.at)).all()
        told = {uid: (Level(level), at) for uid, level, at in rows}
    changed = 0
    for uid, (study, priority, context) in standing.items():
        before, at = told.get(uid, (context.ordered or Level.ROUTINE, 0.0))
        if priority.level is not before or (priority.after_reading or 0.0) > at:
            with database.transaction() as session:
                owe(session, settings, addresses, study, priority, context, before, now)
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
) -> None:
    """Within the caller's transaction: the notice is kept, what it replaces is withdrawn, and it is owed."""
    said = notice(session, study, priority, context, before, now)
    uid = uid_from(("priority", study.study_uid, priority.level, str(now)))
    body = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    made = Result(kind=PRIORITY, uid=uid, sop_class_uid="", series_uid="", digest="", body=body)
    (stored,) = results.write_files(settings.data, [made])
    replace(session, study.study_uid)
    keep(session, study.study_uid, stored, now)
    names = [a.name for a in addresses if a.kind != "mail" or priority.level is Level.STAT]
    for name in names:
        results.owe(session, study.study_uid, uid, name, now, again=False)
    row = session.get(NoticeRow, study.study_uid) or NoticeRow(study_uid=study.study_uid)
    row.level, row.reason, row.at = priority.level, priority.reason, now
    session.add(row)
    after = f"{AFTER_READING}. " if priority.after_reading is not None else ""
    sentence = (
        f"{after}The priority is {priority.level}, it was {before}: to be told to {', '.join(names) or 'nobody'}."
    )
    events.write(session, study.study_uid, Action.PRIORITY, sentence, now)


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


def replace(session: Session, study_uid: str) -> None:
    """An earlier notice that had not left yet stays here; none but the newest is current."""
    earlier = (ResultRow.study_uid == study_uid, ResultRow.kind == PRIORITY, ResultRow.current)
    uids = list(session.scalars(select(ResultRow.uid).where(*earlier)))
    session.execute(update(ResultRow).where(ResultRow.uid.in_(uids)).values(current=False))
    owed = (DeliveryRow.result_uid.in_(uids), DeliveryRow.state == DeliveryState.OWED)
    change = update(DeliveryRow).where(*owed)
    session.execute(change.values(state=DeliveryState.WITHDRAWN, error="the priority changed again before it left"))


def keep(session: Session, study_uid: str, stored: StoredResult, now: float) -> None:
    row = ResultRow(uid=stored.uid, job_id=None, study_uid=study_uid, model=SOURCE, kind=PRIORITY, created_at=now)
    row.digest, row.file, row.size, row.current = stored.digest, stored.file, stored.size, True
    session.add(row)
    session.flush()
