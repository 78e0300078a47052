"""Taking back: what a model said of a study stands no more, here and wherever it went. One transaction, idempotent."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import orjson
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from radnode import addresses, capabilities, events, profiles, results
from radnode.database import Database
from radnode.destinations import NOTES, PRIORITY, REJECTION, RETRACTION
from radnode.errors import RefusedError
from radnode.events import Action
from radnode.faults import Point, crash_point
from radnode.fhir_server import transaction as fhir_transaction
from radnode.results import Result, StoredResult
from radnode.settings import Settings
from radnode.states import DeliveryState
from radnode.tables import DeliveryRow, ReportRow, ResultRow, StudyRow
from radnode_inference import registry
from radnode_inference.findings import Code, ModelIdentity, uid_from

log = logging.getLogger(__name__)

ENTERED_IN_ERROR = "entered-in-error"
REASONS: Mapping[str, Code] = {
    "quality": Code(value="113001", scheme="DCM", meaning="Rejected for Quality Reasons"),
    "patient-safety": Code(value="113037", scheme="DCM", meaning="Rejected for Patient Safety Reasons"),
}
"""Why objects are rejected (PS3.16 CID 7011, IHE RAD IOCM), by the names that people type."""


def retract(session: Session, settings: Settings, study_uid: str, model: str, code: Code, why: str, now: float) -> bool:
    """Nothing that `model` said of this study stands any more; False when nothing stood.

    Within the caller's transaction: results are not current, what had not left is withdrawn, the report says
    entered-in-error, and whoever has (or may have) something of it is owed a note that takes it back.
    """
    gone = sent(session, study_uid, model)
    stood = results.supersede(session, study_uid, model)
    report = session.scalars(
        select(ReportRow).where(ReportRow.study_uid == study_uid, ReportRow.model == model)
    ).one_or_none()
    if report is not None and report.status != ENTERED_IN_ERROR:
        report.status, report.updated_at, stood = ENTERED_IN_ERROR, now, True
        own_take_back(session, report, why, now)
    if not (stood or gone):
        return False
    told = dict.fromkeys(
        (*reject(session, settings, gone, code, why, now), *take_back(session, settings, gone, why, now))
    )
    mark(gone)
    crash_point(Point.RETRACTED)
    left = sorted({d.destination for d, _ in gone if d.state == DeliveryState.RETRACTED} - set(told))
    note = f" A note that takes it back is owed to {', '.join(told)}." if told else ""
    note += f" It still stands at {', '.join(left)}, which takes no such note." if left else ""
    sentence = f"What {model} said is retracted ({code.meaning}): {why}.{note}"
    events.write(session, study_uid, Action.RETRACTED, sentence, now)
    return True


def own_take_back(session: Session, report: ReportRow, why: str, now: float) -> None:
    """The node's own FHIR store says so too."""
    from radnode_fhir.retraction import retraction

    uid = uid_from((RETRACTION, report.id, str(now)))
    issued = datetime.fromtimestamp(now, UTC)
    fhir_transaction.keep(session, retraction([report.bundle], uid, reason=why, issued=issued), now)


def drop_findings(
    session: Session, settings: Settings, study_uid: str, model: str, stored: Sequence[StoredResult], now: float
) -> None:
    """What the report that stands found, and the one that takes its place does not, is entered in error, here and where it went.

    In the transaction that records `stored`, before it does: a server would else go on showing the Observations.
    """
    from radnode_fhir.retraction import dropped, retraction, with_owners

    query = select(ReportRow).where(ReportRow.study_uid == study_uid, ReportRow.model == model)
    report = session.scalars(query).one_or_none()
    new = next((r for r in stored if r.kind == "fhir"), None)
    if new is None or report is None or report.status == ENTERED_IN_ERROR:
        return
    old = cast(dict[str, Any], report.bundle)
    entries = dropped(old, orjson.loads(new.path.read_bytes()))
    if not entries:
        return
    uid, issued = uid_from((RETRACTION, "findings", report.id, str(now))), datetime.fromtimestamp(now, UTC)
    made = retraction([{"entry": with_owners(entries, old)}], uid, reason="", issued=issued)
    fhir_transaction.keep(session, made, now)
    servers = {d.name for d in addresses.destinations(session, settings) if d.kind == "fhir"}
    gone = [s for s in sent(session, study_uid, model) if s[1].kind == "fhir" and s[0].destination in servers]
    body = orjson.dumps(made, option=orjson.OPT_SORT_KEYS)
    note = Result(kind=RETRACTION, uid=uid, sop_class_uid="", series_uid="", digest=new.digest, body=body)
    told = owe(session, settings, note, gone, now) if gone else []
    many = "A finding" if len(entries) == 1 else f"{len(entries)} findings"
    sentence = (
        f"{many} of the earlier report of {model} stand{'s' if len(entries) == 1 else ''} no more: entered in error."
    )
    sentence += f" {', '.join(told)} will be told." if told else ""
    events.write(session, study_uid, Action.RETRACTED, sentence, now)


def by_person(
    database: Database, settings: Settings, study_uid: str, model: str, reason: str, comment: str, now: float
) -> tuple[str, ...]:
    """A person takes back what `model` ("": every model) said of a study; the models of which something stood.

    reason: a key of REASONS. Raises RefusedError when the node does not know the study, or no result of that model in it.
    """
    with database.transaction() as session:
        if session.get(StudyRow, study_uid, with_for_update=True) is None:
            raise RefusedError(f"this node never received a study {study_uid}")
        query = select(ResultRow.model).where(ResultRow.study_uid == study_uid, ResultRow.kind != PRIORITY)
        query = query.distinct().order_by(ResultRow.model)
        every = session.scalars(query).all()
        models = [name for name in every if model in ("", name)]
        if model and not models:  # a name that is misspelt must not look like something taken back
            made = f"; there are some of {', '.join(every)}" if every else ""
            raise RefusedError(f"{model} made no result of this study{made}")
        why = comment.strip() or "a person asked for it"
        return tuple(m for m in models if retract(session, settings, study_uid, m, REASONS[reason], why, now))


def standing_models(session: Session, study_uid: str) -> tuple[str, ...]:
    """The models of which something stands in this study."""
    mine = (ResultRow.study_uid == study_uid, ResultRow.current, ResultRow.kind.not_in((*NOTES, PRIORITY)))
    return tuple(session.scalars(select(ResultRow.model).where(*mine).distinct().order_by(ResultRow.model)))


MAYBE = (DeliveryState.OWED, DeliveryState.WITHDRAWN, DeliveryState.DEAD)
Sent = tuple[DeliveryRow, ResultRow]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The job that a note hangs on: the newest whose results are taken back."""

    id: int | None
    study_uid: str
    model: str


def sent(session: Session, study_uid: str, model: str) -> list[Sent]:
    """What destinations have, or may have because it was tried, and that was not taken back yet.

    Also what was owed anew, withdrawn or given up since: a PACS that has an object may refuse the second copy for good.
    """
    query = (
        select(DeliveryRow, ResultRow)
        .join(ResultRow, ResultRow.uid == DeliveryRow.result_uid)
        .where(
            ResultRow.study_uid == study_uid,
            ResultRow.model == model,
            ResultRow.kind.not_in(NOTES),
            or_(DeliveryRow.state == DeliveryState.DELIVERED, DeliveryRow.state.in_(MAYBE) & DeliveryRow.reached),
        )
        .order_by(ResultRow.created_at, ResultRow.uid)
    )
    return [(delivery, result) for delivery, result in session.execute(query).all()]


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
    objects = [(delivery, result) for delivery, result in gone if result.sop_class_uid]
    if not objects:
        return []
    from radnode.report import rejection
    from radnode_dicom_sr import DicomObject

    rows = list({result.uid: result for _, result in objects}.values())
    first = bodies(settings, rows[:1])
    if not first:
        return []
    kept = [
        DicomObject(
            kind=cast(Any, r.kind), sop_class_uid=r.sop_class_uid, sop_uid=r.uid, series_uid=r.series_uid, body=first[0]
        )
        for r in rows
    ]
    earlier = before(session, REJECTION, rows[0])
    why += f" (retraction {earlier + 1} of this study)" if earlier else ""  # so that it is a note of its own
    unsafe = code == REASONS["patient-safety"]
    model = identity_of(settings, rows[0].model)
    note = rejection(kept, model, why, unsafe=unsafe, digest=rows[-1].digest)
    return owe(session, settings, note, objects, now)


def reject_status(
    session: Session, settings: Settings, study_uid: str, model: str, but: Collection[str], now: float
) -> None:
    """A run has another outcome now: status objects of earlier ones, but for those named, do not stand any more."""
    gone = [s for s in sent(session, study_uid, model) if s[1].kind == "status" and s[1].uid not in but]
    if gone:
        reject(session, settings, gone, REASONS["quality"], f"{model} has been run again", now)
        mark(gone)


def mark(gone: Sequence[Sent]) -> None:
    for delivery, _ in gone:
        delivery.reached = False
        if delivery.state == DeliveryState.DELIVERED:
            delivery.state = DeliveryState.RETRACTED


def identity_of(settings: Settings, model: str) -> ModelIdentity:
    """Who a note says it is from: the model as it is installed, or its bare name when it is no more."""
    for card in registry.cards(settings.weights_folder):
        if card.identity.name == model:
            return card.identity
    return ModelIdentity(
        name=model, version="unknown", weights_name="", weights_version="", weights_sha256="", intended_use=""
    )


def owe(session: Session, settings: Settings, note: Result, gone: Sequence[Sent], now: float) -> list[str]:
    """Owe `note` to every destination in `gone` that takes it; their names. Its row hangs on the newest job."""
    (stored,) = results.write_files(settings.data, [note])
    newest = gone[-1][1]
    origin = Origin(id=newest.job_id, study_uid=newest.study_uid, model=newest.model)
    results.make_current(session, origin, stored, now)
    holders = {delivery.destination for delivery, _ in gone}
    there = addresses.destinations(session, settings)
    plans = profiles.plans(there, capabilities.known(session, there))
    told = [p.destination for p in plans if p.destination in holders and note.kind in p.kinds]
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
    return uid_from((kind, *sorted({r.uid for r in rows}), str(before(session, kind, rows[0]))))


def before(session: Session, kind: str, row: ResultRow) -> int:
    """How many notes of this kind there are for the study and model of `row`."""
    query = select(func.count()).select_from(ResultRow)
    of_it = (ResultRow.study_uid == row.study_uid, ResultRow.model == row.model, ResultRow.kind == kind)
    return session.scalar(query.where(*of_it)) or 0
