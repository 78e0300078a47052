"""What was given up, or not taken, is owed once more because a person asks; never so that it undoes what came after it.

A note that takes results back may have been given up while what takes their place went out. Sent then, it would put what
is current in error, or have a PACS hide it. So it is withdrawn; what it says of other resources goes as a note of its own.
"""

from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import addresses, jobs, outbox, results
from radnode.database import Database
from radnode.destinations import NOTES, REJECTION, RETRACTION
from radnode.results import Result
from radnode.retract import Origin
from radnode.settings import Settings
from radnode.states import DeliveryState
from radnode.tables import DeliveryRow, ResultRow
from radnode_fhir.identifiers import identifier
from radnode_fhir.retraction import ENTERED_IN_ERROR, with_owners
from radnode_inference.findings import uid_from

NOT_DEAD = "This delivery is not dead, or its result is not current any more."
OVERTAKEN = "What this note takes back stands there anew: sent now, it would undo what is current. It is withdrawn."


def send_all_again(database: Database, settings: Settings, destination: str, now: float) -> tuple[str, ...]:
    """Everything that was given up there is owed once more; of each what `send_again` says."""
    return tuple(send_again(database, settings, d.id, now) for d in outbox.dead(database, destination))


def send_again(database: Database, settings: Settings, delivery_id: int, now: float) -> str:
    """Owe it anew; "" when it, or what still holds of it, is owed, else why not: NOT_DEAD or OVERTAKEN."""
    with database.transaction() as session:
        row = session.get(DeliveryRow, delivery_id)
        if row is not None:
            jobs.lock_study(session, row.study_uid)  # no result changes between the look and the deed
            session.refresh(row)
        result = session.get(ResultRow, row.result_uid) if row is not None else None
        if row is None or row.state not in (DeliveryState.DEAD, DeliveryState.NOT_TAKEN):
            return NOT_DEAD
        if result is None or not result.current:
            return NOT_DEAD
        anew = stands_anew(session, settings.data, row, result) if result.kind in NOTES else frozenset()
        if anew:
            return withdraw(session, settings, row, result, anew, now)
        row.state, row.attempt, row.created_at, row.due_at = DeliveryState.OWED, 0, now, now
        row.claimed_by, row.claimed_until = "", 0.0
        outbox.tell(session, row.study_uid, now, f"The {result.kind} for {row.destination} is to be sent again.")
        return ""


def stands_anew(session: Session, data: Path, row: DeliveryRow, note: ResultRow) -> frozenset[str]:
    """What a note takes back, and its destination has, or is to get, because it is current."""
    query = (
        select(ResultRow)
        .join(DeliveryRow, DeliveryRow.result_uid == ResultRow.uid)
        .where(
            DeliveryRow.destination == row.destination,
            DeliveryRow.state.in_((DeliveryState.DELIVERED, DeliveryState.OWED)),
            ResultRow.study_uid == note.study_uid,
            ResultRow.model == note.model,
            ResultRow.current,
            ResultRow.kind.not_in(NOTES),
        )
    )
    current = session.scalars(query).all()
    if note.kind == REJECTION:
        return rejected(data / note.file) & {r.uid for r in current}
    standing = (e for r in current if r.kind == "fhir" for e in entries(data / r.file) if not is_in_error(e))
    return frozenset(e["fullUrl"] for e in entries(data / note.file) if is_in_error(e)) & {
        e["fullUrl"] for e in standing
    }


def withdraw(
    session: Session, settings: Settings, row: DeliveryRow, note: ResultRow, anew: frozenset[str], now: float
) -> str:
    """The note is not owed any more; OVERTAKEN, or "" where a note of what still holds is owed in its place."""
    row.state, row.error = DeliveryState.WITHDRAWN, OVERTAKEN
    kinds = {d.name: d.kind for d in addresses.destinations(session, settings)}
    rest = [
        e
        for e in (entries(settings.data / note.file) if note.kind == RETRACTION else ())
        if e["resource"]["resourceType"] == "Observation" and is_in_error(e) and e["fullUrl"] not in anew
    ]
    told = f"The {note.kind} for {row.destination} is not sent again: what it takes back stands there anew."
    if not rest or kinds.get(row.destination) != "fhir":
        outbox.tell(session, row.study_uid, now, told)
        return OVERTAKEN
    uid = uid_from((RETRACTION, "rest", note.uid, *sorted(e["fullUrl"] for e in rest)))
    whole: dict[str, Any] = orjson.loads((settings.data / note.file).read_bytes())
    body = {**whole, "identifier": identifier(uid), "entry": with_owners(rest, whole)}
    made = Result(
        kind=RETRACTION, uid=uid, sop_class_uid="", series_uid="", digest=note.digest,
        body=orjson.dumps(body, option=orjson.OPT_SORT_KEYS),
    )  # fmt: skip
    (stored,) = results.write_files(settings.data, [made])
    results.make_current(session, Origin(id=note.job_id, study_uid=note.study_uid, model=note.model), stored, now)
    results.owe(session, note.study_uid, uid, row.destination, now, again=True)
    what = "1 finding, which does not, is" if len(rest) == 1 else f"{len(rest)} findings, which do not, are"
    outbox.tell(session, row.study_uid, now, f"{told} A note of {what} owed.")
    return ""


def entries(file: Path) -> list[dict[str, Any]]:
    """Those of a transaction Bundle; none where the file is gone."""
    try:
        found: list[dict[str, Any]] = orjson.loads(file.read_bytes()).get("entry", [])
    except OSError:
        return []
    return found


def is_in_error(entry: dict[str, Any]) -> bool:
    return bool(entry["resource"].get("status") == ENTERED_IN_ERROR)


def rejected(file: Path) -> frozenset[str]:
    """The SOP Instance UIDs that a rejection note names (PS3.3 C.17.6.2); none where the file is gone."""
    from pydicom import dcmread

    try:
        note = dcmread(file)
    except OSError:
        return frozenset()
    return frozenset(
        str(item.ReferencedSOPInstanceUID)
        for study in note.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    )
