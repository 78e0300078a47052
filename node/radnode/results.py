"""Results: immutable files, and the rows that say which of them are current and to whom they are owed.

Files come first and are durable before `record` writes their rows in the transaction that ends the job. A crash in
between leaves files without rows; the next attempt makes results of the same UIDs and finds those files.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import orjson
from sqlalchemy import Select, delete, select, update
from sqlalchemy.orm import Session

from radnode import commitment
from radnode.destinations import NOTES, takes
from radnode.faults import Point, crash_point
from radnode.fhir_server import transaction as fhir_transaction
from radnode.profiles import Omission
from radnode.settings import Destination
from radnode.states import DeliveryState
from radnode.tables import DeliveryRow, OmissionRow, ReportRow, ResultRow
from radnode_fhir.bundle import uid_of
from radnode_fhir.confirm import CONFIRMED
from radnode_inference.findings import uid_from

LEFT_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """One object made from findings: bytes, immutable, so that every retry sends the same object.

    to: the destinations it was made for; None: for all that take its kind. kind: one of `radnode.destinations`. uid: SOP Instance UID, or the Bundle's own. digest: of the findings.
    """

    kind: str
    uid: str
    sop_class_uid: str
    series_uid: str
    digest: str
    body: bytes
    to: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class StoredResult:
    """A result whose file is durable. `file` is relative to the data folder, `path` is where it is now."""

    kind: str
    uid: str
    sop_class_uid: str
    series_uid: str
    digest: str
    file: str
    size: int
    path: Path
    to: tuple[str, ...] | None = None
    study_uid: str = ""  # of one that was found again


@dataclass(frozen=True, kw_only=True)
class Previous:
    """A current result that a new one of the same study and model would supersede. amended: it replaced another itself."""

    kind: str
    uid: str
    sop_class_uid: str
    series_uid: str
    digest: str
    amended: bool = False


class EndedJob(Protocol):
    """What `record` needs of a job."""

    @property
    def id(self) -> int | None: ...
    @property
    def study_uid(self) -> str: ...
    @property
    def model(self) -> str: ...


def write_files(data: Path, results: Sequence[Result]) -> tuple[StoredResult, ...]:
    """Make every result durable below `data` (the data folder): temporary name, flush to disk, rename.

    A file that is already there is kept, also if the bytes differ: a result never changes once it has a name.
    """
    return tuple(write_file(data, result) for result in results)


def write_file(data: Path, result: Result) -> StoredResult:
    suffix = "dcm" if result.sop_class_uid else "json"
    shard = hashlib.sha256(result.uid.encode()).hexdigest()[:2]
    path = data / "results" / shard / f"{result.uid}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
        with temporary.open("wb") as f:
            f.write(result.body)
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(path)
    for folder in (path.parent, path.parent.parent, data):
        flush_folder(folder)
    return StoredResult(
        kind=result.kind,
        uid=result.uid,
        sop_class_uid=result.sop_class_uid,
        series_uid=result.series_uid,
        digest=result.digest,
        file=str(path.relative_to(data)),
        size=path.stat().st_size,
        path=path,
        to=result.to,
    )


def sweep(data: Path, now: float) -> int:
    """Delete what killed writers left half written, once it is a day old (a living one is done in seconds); how many files."""
    swept = 0
    for file in (data / "results").glob("*/*.part"):
        with suppress(FileNotFoundError):  # its writer has just named it
            if now - file.stat().st_mtime > LEFT_S:
                file.unlink()
                swept += 1
    return swept


def hold(data: Path, results: Sequence[Result]) -> str:
    """Keep withheld results for inspection, where nothing finds them that delivers; the folder, relative to `data`."""
    folder = Path("held") / uid_from(sorted(r.uid for r in results))
    (data / folder).mkdir(parents=True, exist_ok=True)
    for result in results:
        suffix = "dcm" if result.sop_class_uid else "json"
        (data / folder / f"{result.kind}-{result.uid}.{suffix}").write_bytes(result.body)
    return str(folder)


def find(session: Session, data: Path, uid: str) -> StoredResult | None:
    """A recorded result. Its file may be gone: look before you read."""
    row = session.get(ResultRow, uid)
    if row is None:
        return None
    return StoredResult(
        kind=row.kind,
        uid=row.uid,
        sop_class_uid=row.sop_class_uid,
        series_uid=row.series_uid,
        digest=row.digest,
        file=row.file,
        size=row.size,
        path=data / row.file,
        study_uid=row.study_uid,
    )


def flush_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def record(
    session: Session,
    job: EndedJob,
    stored: Sequence[StoredResult],
    destinations: Sequence[Destination],
    now: float,
    *,
    again: bool = False,
    omissions: Sequence[Omission] = (),
) -> None:
    """Within the caller's transaction: these are now the current results of the job's study and model, and owed.

    Recording the same results twice changes nothing and owes nothing twice. A result that had been superseded and comes
    back is owed again: the destination must end up with what is current. again: equal results are owed anew as well.
    omissions: what some destinations do not get of it. What a person confirmed of the same findings goes on standing.
    """
    kept = confirmed_alike(session, job, stored)
    stored = [r for r in stored if r.kind != "fhir"] if kept else stored
    supersede(session, job.study_uid, job.model, [*(r.uid for r in stored), kept])
    leave_out(session, job, omissions)
    for destination in destinations if kept and again else ():
        if "fhir" in takes(destination):
            owe(session, job.study_uid, kept, destination.name, now, again=True)
    for result in stored:
        returns = make_current(session, job, result, now)
        for destination in destinations:
            if is_for(result, destination):
                owe(session, job.study_uid, result.uid, destination.name, now, again=returns or again)
        if result.kind == "fhir":
            upsert_report(session, job, orjson.loads(result.path.read_bytes()), now)


def confirmed_alike(session: Session, job: EndedJob, stored: Sequence[StoredResult]) -> str:
    """The UID of the current report of exactly these findings that a person confirmed; "" for none."""
    of_job = (ReportRow.study_uid == job.study_uid, ReportRow.model == job.model, ReportRow.status.in_(CONFIRMED))
    bundle = session.scalars(select(ReportRow.bundle).where(*of_job)).one_or_none()
    row = session.get(ResultRow, uid_of(cast(dict[str, Any], bundle))) if bundle else None
    same = row is not None and row.current and row.digest in {r.digest for r in stored if r.kind == "fhir"}
    return row.uid if row is not None and same else ""


def leave_out(session: Session, job: EndedJob, omissions: Sequence[Omission]) -> None:
    """The page says what a destination does not get, and why: nothing is left out in silence."""
    of_job = (OmissionRow.study_uid == job.study_uid, OmissionRow.model == job.model)
    session.execute(delete(OmissionRow).where(*of_job))
    for o in omissions:
        row = OmissionRow(study_uid=job.study_uid, model=job.model, destination=o.destination, kind=o.kind)
        row.reason = o.reason
        session.add(row)


def is_for(result: StoredResult, destination: Destination) -> bool:
    return result.kind in takes(destination) and (result.to is None or destination.name in result.to)


def supersede(session: Session, study_uid: str, model: str, but: Sequence[str] = ()) -> bool:
    """No result of this study and model but those named is current any more; what had not left yet stays here.

    Returns whether any was. Notes that take back what was sent earlier stay owed.
    """
    old = standing(study_uid, model).where(ResultRow.uid.not_in(but))
    old_uids = [row.uid for row in session.scalars(old)]
    if not old_uids:
        return False
    session.execute(update(ResultRow).where(ResultRow.uid.in_(old_uids)).values(current=False))
    session.execute(
        update(DeliveryRow)
        .where(DeliveryRow.result_uid.in_(old_uids), DeliveryRow.state == DeliveryState.OWED)
        .values(state=DeliveryState.WITHDRAWN, error="superseded or retracted before it left")
    )
    commitment.close(session, old_uids)
    crash_point(Point.SUPERSEDED)
    return True


def standing(study_uid: str, model: str) -> Select[ResultRow]:
    """The current results of this study and model, without notes that take others back."""
    return select(ResultRow).where(
        ResultRow.study_uid == study_uid, ResultRow.model == model, ResultRow.current, ResultRow.kind.not_in(NOTES)
    )


def make_current(session: Session, job: EndedJob, result: StoredResult, now: float) -> bool:
    """The row of `result`, current. Returns whether it had been superseded before and comes back."""
    row = session.get(ResultRow, result.uid)
    if row is not None:
        returns, row.current, row.job_id = not row.current, True, job.id
        return returns
    session.add(
        ResultRow(
            uid=result.uid,
            job_id=job.id,
            study_uid=job.study_uid,
            model=job.model,
            kind=result.kind,
            sop_class_uid=result.sop_class_uid,
            series_uid=result.series_uid,
            digest=result.digest,
            file=result.file,
            size=result.size,
            created_at=now,
            current=True,
        )
    )
    session.flush()
    return False


def owe(session: Session, study_uid: str, result_uid: str, destination: str, now: float, *, again: bool) -> None:
    """The outbox row of one result for one destination, made once; owed anew when `again`, or withdrawn before."""
    query = select(DeliveryRow).where(DeliveryRow.result_uid == result_uid, DeliveryRow.destination == destination)
    row = session.scalars(query).one_or_none()
    if row is None:
        row = DeliveryRow(result_uid=result_uid, study_uid=study_uid, destination=destination)
        session.add(row)
    elif not again and row.state != DeliveryState.WITHDRAWN:
        return
    row.state, row.attempt, row.error = DeliveryState.OWED, 0, ""
    row.created_at, row.due_at, row.delivered_at = now, now, None
    row.claimed_by, row.claimed_until = "", 0.0


def upsert_report(session: Session, job: EndedJob, bundle: dict[str, Any], now: float) -> None:
    """What triage reads of this study and model is now `bundle`."""
    fhir_transaction.keep(session, bundle, now)
    status = report_of(bundle)["status"]
    query = select(ReportRow).where(ReportRow.study_uid == job.study_uid, ReportRow.model == job.model)
    row = session.scalars(query).one_or_none()
    if row is None:
        row = ReportRow(
            id=report_id(job.study_uid, job.model), study_uid=job.study_uid, model=job.model, issued_at=now, bundle={}
        )
        session.add(row)
    if row.bundle != bundle or row.status != status:
        row.bundle, row.status, row.updated_at = cast(dict[str, object], bundle), status, now


def report_id(study_uid: str, model: str) -> str:
    """The FHIR id of the one DiagnosticReport of a study and a model; the same for ever."""
    return uid_from(("report", study_uid, model))


def report_of(bundle: dict[str, Any]) -> dict[str, Any]:
    """The DiagnosticReport in a transaction Bundle."""
    for entry in bundle.get("entry", ()):
        if entry["resource"]["resourceType"] == "DiagnosticReport":
            return cast(dict[str, Any], entry["resource"])
    raise ValueError("the Bundle holds no DiagnosticReport")


def previous(session: Session, study_uid: str, model: str) -> tuple[Previous, ...]:
    """The current results of this study and model, in the order of their UIDs."""
    report = select(ReportRow.status).where(ReportRow.study_uid == study_uid, ReportRow.model == model)
    amended = session.scalars(report).one_or_none() == "amended"
    return tuple(
        Previous(
            kind=row.kind,
            uid=row.uid,
            sop_class_uid=row.sop_class_uid,
            series_uid=row.series_uid,
            digest=row.digest,
            amended=amended,
        )
        for row in session.scalars(standing(study_uid, model).order_by(ResultRow.uid))
    )
