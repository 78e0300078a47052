"""Reads for pages and commands: what studies there are, and a study's whole story. Changes nothing."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from radnode import events, shadow
from radnode.events import Event
from radnode.shadow import ShadowRun
from radnode.states import DeliveryState, JobState, StudyState
from radnode.tables import DeliveryRow, InstanceRow, JobRow, OmissionRow, ResultRow, RouteRow, StudyRow
from radnode.tables_pacs import CommitmentRow


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """A study as its row says. Times are UTC epoch seconds; modalities are backslash-separated."""

    study_uid: str
    patient_id: str
    patient_name: str
    patient_sex: str
    patient_birth_date: str
    accession_number: str
    study_description: str
    study_date: str
    study_time: str
    modalities: str
    body_part: str
    calling_ae: str
    instances: int
    state: StudyState
    revision: int
    first_instance_at: float
    last_instance_at: float
    due_at: float
    issuer_of_patient_id: str = ""
    provisional: str = ""  # what others say is missing of it, in words


@dataclass(frozen=True, kw_only=True)
class SeriesSummary:
    """A series. instances: objects that are current; own: made by the node itself and come back."""

    series_uid: str
    sop_class_uid: str
    instances: int
    own: bool


@dataclass(frozen=True, kw_only=True)
class RouteView:
    """A decision of the current or an earlier revision; `model` is "" for the study as a whole."""

    revision: int
    model: str
    chosen: bool
    urgency: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class JobView:
    id: int
    revision: int
    model: str
    state: JobState
    attempt: int
    progress: float
    reason: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    held: str = ""


@dataclass(frozen=True, kw_only=True)
class ResultView:
    """`file` is relative to the data folder."""

    uid: str
    job_id: int | None
    model: str
    kind: str
    sop_class_uid: str
    series_uid: str
    file: str
    size: int
    created_at: float
    current: bool


@dataclass(frozen=True, kw_only=True)
class DeliveryView:
    id: int
    result_uid: str
    kind: str
    destination: str
    state: DeliveryState
    attempt: int
    due_at: float
    delivered_at: float | None
    error: str
    proof: str = ""  # a CommitmentState, or "" where nobody asks
    proof_way: str = ""
    proof_reason: str = ""
    kept_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class OmissionView:
    """What a destination does not get of a model's current results, and why."""

    model: str
    destination: str
    kind: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Story:
    """Everything the node knows of one study, each part in the order in which it happened."""

    study: StudySummary
    series: tuple[SeriesSummary, ...]
    routes: tuple[RouteView, ...]
    jobs: tuple[JobView, ...]
    results: tuple[ResultView, ...]
    deliveries: tuple[DeliveryView, ...]
    omissions: tuple[OmissionView, ...]
    events: tuple[Event, ...]
    shadow: tuple[ShadowRun, ...] = ()  # never part of what is reported


def studies(
    session: Session, *, limit: int = 500, after: int = 0, state: StudyState | None = None
) -> tuple[StudySummary, ...]:
    """The studies, the one with the newest image first. after: so many of them are left out."""
    query = select(StudyRow).order_by(StudyRow.last_instance_at.desc(), StudyRow.study_uid).limit(limit).offset(after)
    if state is not None:
        query = query.where(StudyRow.state == state)
    return tuple(summary(row) for row in session.scalars(query))


def many(session: Session) -> int:
    """How many studies there are."""
    return session.scalar(select(func.count()).select_from(StudyRow)) or 0


def of_patient(session: Session, study_uid: str) -> tuple[StudySummary, ...]:
    """Every study of the same patient (ID and issuer), the newest first; only this one where it names no patient."""
    row = session.get(StudyRow, study_uid)
    if row is None or not row.patient_id:
        return () if row is None else (summary(row),)
    same = (StudyRow.patient_id == row.patient_id, StudyRow.issuer_of_patient_id == row.issuer_of_patient_id)
    query = select(StudyRow).where(*same).order_by(StudyRow.study_date.desc(), StudyRow.first_instance_at.desc())
    return tuple(summary(found) for found in session.scalars(query))


def with_jobs(session: Session) -> frozenset[str]:
    """The studies whose present revision any model was to read."""
    query = select(JobRow.study_uid).join(StudyRow, StudyRow.study_uid == JobRow.study_uid)
    return frozenset(session.scalars(query.where(JobRow.revision == StudyRow.revision).distinct()))


def study(session: Session, study_uid: str) -> StudySummary | None:
    row = session.get(StudyRow, study_uid)
    return None if row is None else summary(row)


def story(session: Session, study_uid: str) -> Story | None:
    """The whole story of a study; None when the node never received it."""
    found = study(session, study_uid)
    if found is None:
        return None
    return Story(
        study=found,
        series=series(session, study_uid),
        routes=routes(session, study_uid),
        jobs=jobs(session, study_uid),
        results=results(session, study_uid),
        deliveries=deliveries(session, study_uid),
        omissions=omissions(session, study_uid),
        events=events.of_study(session, study_uid),
        shadow=shadow.runs(session, study_uid),
    )


def summary(row: StudyRow) -> StudySummary:
    return StudySummary(
        study_uid=row.study_uid,
        patient_id=row.patient_id,
        patient_name=row.patient_name,
        patient_sex=row.patient_sex,
        patient_birth_date=row.patient_birth_date,
        accession_number=row.accession_number,
        study_description=row.study_description,
        study_date=row.study_date,
        study_time=row.study_time,
        modalities=row.modalities,
        body_part=row.body_part,
        calling_ae=row.calling_ae,
        instances=row.instances,
        state=StudyState(row.state),
        revision=row.revision,
        first_instance_at=row.first_instance_at,
        last_instance_at=row.last_instance_at,
        due_at=row.due_at,
        issuer_of_patient_id=row.issuer_of_patient_id,
        provisional=row.provisional,
    )


def series(session: Session, study_uid: str) -> tuple[SeriesSummary, ...]:
    own = set(session.scalars(select(ResultRow.series_uid).where(ResultRow.study_uid == study_uid)))
    query = (
        select(InstanceRow.series_uid, func.min(InstanceRow.sop_class_uid), func.count())
        .where(InstanceRow.study_uid == study_uid, InstanceRow.current)
        .group_by(InstanceRow.series_uid)
        .order_by(func.min(InstanceRow.id))
    )
    return tuple(
        SeriesSummary(series_uid=uid, sop_class_uid=sop_class, instances=count, own=uid in own)
        for uid, sop_class, count in session.execute(query)
    )


def routes(session: Session, study_uid: str) -> tuple[RouteView, ...]:
    query = select(RouteRow).where(RouteRow.study_uid == study_uid).order_by(RouteRow.id)
    return tuple(
        RouteView(revision=r.revision, model=r.model, chosen=r.chosen, urgency=r.urgency, reason=r.reason)
        for r in session.scalars(query)
    )


def jobs(session: Session, study_uid: str) -> tuple[JobView, ...]:
    query = select(JobRow).where(JobRow.study_uid == study_uid).order_by(JobRow.id)
    return tuple(
        JobView(
            id=j.id,
            revision=j.revision,
            model=j.model,
            state=JobState(j.state),
            attempt=j.attempt,
            progress=j.progress,
            reason=j.reason,
            created_at=j.created_at,
            started_at=j.started_at,
            ended_at=j.ended_at,
            held=j.held,
        )
        for j in session.scalars(query)
    )


def results(session: Session, study_uid: str) -> tuple[ResultView, ...]:
    query = select(ResultRow).where(ResultRow.study_uid == study_uid)
    return tuple(
        ResultView(
            uid=r.uid,
            job_id=r.job_id,
            model=r.model,
            kind=r.kind,
            sop_class_uid=r.sop_class_uid,
            series_uid=r.series_uid,
            file=r.file,
            size=r.size,
            created_at=r.created_at,
            current=r.current,
        )
        for r in session.scalars(query.order_by(ResultRow.created_at, ResultRow.kind, ResultRow.uid))
    )


def deliveries(session: Session, study_uid: str) -> tuple[DeliveryView, ...]:
    query = (
        select(DeliveryRow, ResultRow.kind, CommitmentRow)
        .join(ResultRow, ResultRow.uid == DeliveryRow.result_uid)
        .outerjoin(CommitmentRow, CommitmentRow.delivery_id == DeliveryRow.id)
        .where(DeliveryRow.study_uid == study_uid)
        .order_by(DeliveryRow.id)
    )
    return tuple(
        DeliveryView(
            id=d.id,
            result_uid=d.result_uid,
            kind=kind,
            destination=d.destination,
            state=DeliveryState(d.state),
            attempt=d.attempt,
            due_at=d.due_at,
            delivered_at=d.delivered_at,
            error=d.error,
            **proof(c),
        )
        for d, kind, c in session.execute(query)
    )


def proof(row: CommitmentRow | None) -> dict[str, Any]:
    if row is None:
        return {}
    return {"proof": row.state, "proof_way": row.way, "proof_reason": row.reason, "kept_at": row.committed_at}


def omissions(session: Session, study_uid: str) -> tuple[OmissionView, ...]:
    query = select(OmissionRow).where(OmissionRow.study_uid == study_uid).order_by(OmissionRow.id)
    return tuple(
        OmissionView(model=o.model, destination=o.destination, kind=o.kind, reason=o.reason)
        for o in session.scalars(query)
    )
