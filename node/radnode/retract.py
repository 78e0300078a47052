"""Taking back: what a model said of a study stands no more, here and wherever it went. One transaction, idempotent."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import events, results
from radnode.database import Database
from radnode.destinations import NOTES, RETRACTION, takes
from radnode.errors import RefusedError
from radnode.events import Action
from radnode.results import Result
from radnode.settings import Settings
from radnode.states import DeliveryState
from radnode.tables import DeliveryRow, ReportRow, ResultRow, StudyRow
from radnode_inference.findings import Code, uid_from

log = logging.getLogger(__name__)

ENTERED_IN_ERROR = "entered-in-error"
REASONS: Mapping[str, Code] = {
    "quality": Code(value="113001", scheme="DCM", meaning="Rejected for Quality Reasons"),
    "patient-safety": Code(value="113037", scheme="DCM", meaning="Rejected for Patient Safety Reasons"),
    "wrong-worklist-entry": Code(value="113038", scheme="DCM", meaning="Incorrect Modality Worklist Entry"),
    "expired": Code(value="113039", scheme="DCM", meaning="Data Retention Policy Expired"),
}
"""Why objects are rejected (PS3.16 CID 7011, IHE IOCM), by the names that people type."""


def retract(session: Session, settings: Settings, study_uid: str, model: str, code: Code, why: str, now: float) -> bool:
    """Nothing that `model` said of this study stands any more; False when nothing stood.

    Within the caller's transaction: results are not current, what had not left is withdrawn, the report says
    entered-in-error, and whoever has (or may have) something of it is owed a note that takes it back.
    """
    gone = sent(session, study_uid, model, now)
    stood = results.supersede(session, study_uid, model)
    report = session.scalars(
        select(ReportRow).where(ReportRow.study_uid == study_uid, ReportRow.model == model)
    ).one_or_none()
    if report is not None and report.status != ENTERED_IN_ERROR:
        report.status, report.updated_at, stood = ENTERED_IN_ERROR, now, True
    if not (stood or gone):
        return False
    told = [*reject(session, settings, gone, code, why, now), *take_back(session, settings, gone, why, now)]
    for delivery, _ in gone:
        if delivery.state == DeliveryState.DELIVERED:
            delivery.state = DeliveryState.RETRACTED
    note = f" A note that takes it back is owed to {', '.join(told)}." if told else ""
    sentence = f"What {model} said is retracted ({code.meaning}): {why}.{note}"
    events.write(session, study_uid, Action.RETRACTED, sentence, now)
    return True


def by_person(
    database: Database, settings: Settings, study_uid: str, model: str, reason: str, comment: str, now: float
) -> tuple[str, ...]:
    """A person takes back what `model` ("": every model) said of a study; the models of which something stood.

    reason: a key of REASONS. Raises RefusedError when the node does not know the study.
    """
    with database.transaction() as session:
        if session.get(StudyRow, study_uid, with_for_update=True) is None:
            raise RefusedError(f"this node never received a study {study_uid}")
        query = select(ResultRow.model).where(ResultRow.study_uid == study_uid).distinct().order_by(ResultRow.model)
        models = [name for name in session.scalars(query) if model in ("", name)]
        why = comment.strip() or "a person asked for it"
        return tuple(m for m in models if retract(session, settings, study_uid, m, REASONS[reason], why, now))


Sent = tuple[DeliveryRow, ResultRow]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The job that a note hangs on: the newest whose results are taken back."""

    id: int
    study_uid: str
    model: str


def sent(session: Session, study_uid: str, model: str, now: float) -> list[Sent]:
    """What destinations have, or may have because it was tried or is on its way, and was not taken back yet."""
    query = (
        select(DeliveryRow, ResultRow)
        .join(ResultRow, ResultRow.uid == DeliveryRow.result_uid)
        .where(
            ResultRow.study_uid == study_uid,
            ResultRow.model == model,
            ResultRow.kind.not_in(NOTES),
            DeliveryRow.state.in_((DeliveryState.DELIVERED, DeliveryState.OWED)),
        )
        .order_by(ResultRow.created_at, ResultRow.uid)
    )
    return [
        (delivery, result)
        for delivery, result in session.execute(query).all()
        if delivery.state == DeliveryState.DELIVERED or delivery.attempt > 0 or delivery.claimed_until > now
    ]


def take_back(session: Session, settings: Settings, gone: Sequence[Sent], why: str, now: float) -> list[str]:
    """Owe every FHIR destination that has the report a transaction that takes it back; their names."""
    from radnode_fhir.retraction import retraction

    fhir = [(delivery, result) for delivery, result in gone if result.kind == "fhir"]
    bundles = [orjson.loads(body) for body in bodies(settings, [result for _, result in fhir])]
    if not bundles:
        return []
    uid = note_uid(session, RETRACTION, [result for _, result in fhir])
    made = retraction(bundles, uid, reason=why, issued=datetime.fromtimestamp(now, UTC))
    body = orjson.dumps(made, option=orjson.OPT_SORT_KEYS)
    note = Result(kind=RETRACTION, uid=uid, sop_class_uid="", series_uid="", digest=fhir[-1][1].digest, body=body)
    return owe(session, settings, note, fhir, now)


def reject(session: Session, settings: Settings, gone: Sequence[Sent], code: Code, why: str, now: float) -> list[str]:
    """Owe every DICOM destination that has objects of it a rejection note (KOS, IHE IOCM); their names."""
    return []


def owe(session: Session, settings: Settings, note: Result, gone: Sequence[Sent], now: float) -> list[str]:
    """Owe `note` to every destination in `gone` that takes it; their names. Its row hangs on the newest job."""
    (stored,) = results.write_files(settings.data, [note])
    newest = gone[-1][1]
    origin = Origin(id=newest.job_id, study_uid=newest.study_uid, model=newest.model)
    results.make_current(session, origin, stored, now)
    holders = {delivery.destination for delivery, _ in gone}
    told = [d.name for d in settings.destinations if d.name in holders and note.kind in takes(d)]
    for name in told:
        results.owe(session, newest.study_uid, note.uid, name, now, again=True)
    return told


def bodies(settings: Settings, rows: Sequence[ResultRow]) -> list[bytes]:
    """The files of these results, each once; one that is gone is left out and logged."""
    found: dict[str, bytes] = {}
    for row in rows:
        try:
            found.setdefault(row.uid, (settings.data / row.file).read_bytes())
        except OSError:
            log.exception("A sent result is gone.", extra={"action": "retract", "study_uid": row.study_uid})
    return list(found.values())


def note_uid(session: Session, kind: str, rows: Sequence[ResultRow]) -> str:
    """The same for the same results, until they are sent and taken back once more."""
    query = select(ResultRow.uid).where(
        ResultRow.study_uid == rows[0].study_uid, ResultRow.model == rows[0].model, ResultRow.kind == kind
    )
    before = len(session.scalars(query).all())
    return uid_from((kind, *sorted({r.uid for r in rows}), str(before)))
