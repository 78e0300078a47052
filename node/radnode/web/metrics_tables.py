"""What /metrics counts in the tables: states, queues, what is owed, declines, and how long each stage took.

Everything is counted when it is asked for, so that every process of the node, on every machine, gives the same answer.
Histograms look at the last 24 hours: they are gauges of a window in the shape that Prometheus's histogram_quantile reads.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from radnode import scores
from radnode.events import Action
from radnode.fhir_server import unplaced as fhir_unplaced
from radnode.states import DeliveryState, JobState, StudyState
from radnode.tables import DeliveryRow, EventRow, JobRow, RefusalRow, ReportRow, StudyRow

Family = GaugeMetricFamily | HistogramMetricFamily

BUCKETS = (0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
WINDOW_S = 24 * 3600.0


def families(session: Session, now: float) -> Iterator[Family]:
    """Every family. now: UTC epoch seconds."""
    yield states(session, "radnode_studies", "Studies by state.", StudyRow.state, list(StudyState))
    yield states(session, "radnode_jobs", "Jobs by state.", JobRow.state, list(JobState))
    yield states(
        session, "radnode_deliveries", "Results owed to, or taken by, destinations.",
        DeliveryRow.state, list(DeliveryState),
    )  # fmt: skip
    refused = session.scalar(select(func.coalesce(func.sum(RefusalRow.count), 0)))
    yield GaugeMetricFamily("radnode_refused_callers", "Associations that were refused.", value=float(refused or 0))
    unplaced = float(fhir_unplaced.count(session, now))
    yield GaugeMetricFamily(
        "radnode_reports_without_study", "Reports by FHIR that are about no study here.", value=unplaced
    )
    yield from owed(session, now)
    yield from queue(session, now)
    yield declines(session)
    yield failures(session)
    yield from latencies(session, now - WINDOW_S)
    yield alarms(session)


def alarms(session: Session) -> GaugeMetricFamily:
    """1 for each open alarm about a model (`radnode.monitor`)."""
    family = GaugeMetricFamily(
        "radnode_model_alarm", "Open alarms about models.", labels=["kind", "model", "version", "scanner"]
    )
    for known in scores.known(session, open_only=True):
        alarm = known.alarm
        family.add_metric([alarm.kind, alarm.model, alarm.version, alarm.scanner], 1.0)
    return family


def states(
    session: Session, name: str, help_text: str, column: InstrumentedAttribute[str], every: Sequence[str]
) -> GaugeMetricFamily:
    """One sample for each state, also for those that nothing is in."""
    found = session.execute(select(column, func.count()).group_by(column)).all()
    counts = dict.fromkeys(every, 0) | dict(found)
    family = GaugeMetricFamily(name, help_text, labels=["state"])
    for state, count in sorted(counts.items()):
        family.add_metric([state], count)
    return family


def owed(session: Session, now: float) -> Iterator[Family]:
    """Results that a destination has not got, and for how long the oldest waits."""
    query = select(DeliveryRow.destination, func.count(), func.min(DeliveryRow.created_at))
    found = session.execute(
        query.where(DeliveryRow.state == DeliveryState.OWED).group_by(DeliveryRow.destination)
    ).all()
    count = GaugeMetricFamily("radnode_results_owed", "Results owed.", labels=["destination"])
    oldest = GaugeMetricFamily(
        "radnode_results_owed_oldest_seconds", "Since when the oldest owed result waits.", labels=["destination"]
    )
    for destination, results, since in found:
        count.add_metric([destination], results)
        oldest.add_metric([destination], max(0.0, now - since))
    yield count
    yield oldest


def queue(session: Session, now: float) -> Iterator[Family]:
    """Jobs that wait for a worker."""
    query = select(func.count(), func.min(JobRow.created_at)).where(JobRow.state == JobState.QUEUED)
    depth, since = session.execute(query).one()
    yield GaugeMetricFamily("radnode_queue_depth", "Jobs that wait for a worker.", value=float(depth))
    age = max(0.0, now - since) if since is not None else 0.0
    yield GaugeMetricFamily("radnode_queue_oldest_seconds", "Since when the oldest of them waits.", value=age)


def declines(session: Session) -> GaugeMetricFamily:
    """Declined jobs by model and gate: the word before the colon of a reason, of which each model has a few."""
    family = GaugeMetricFamily("radnode_declines", "Declined studies by gate.", labels=["model", "gate"])
    query = select(JobRow.model, JobRow.reason).where(JobRow.state == JobState.DECLINED)
    counts: dict[tuple[str, str], int] = {}
    for model, reason in session.execute(query):
        gate = reason.partition(":")[0] if ":" in reason[:40] else "other"
        counts[model, gate] = counts.get((model, gate), 0) + 1
    for (model, gate), count in sorted(counts.items()):
        family.add_metric([model, gate], count)
    return family


def failures(session: Session) -> GaugeMetricFamily:
    family = GaugeMetricFamily("radnode_failures", "Jobs that failed or are withheld.", labels=["model", "state"])
    bad = (JobState.FAILED, JobState.HELD)
    query = select(JobRow.model, JobRow.state, func.count()).where(JobRow.state.in_(bad))
    for model, state, count in session.execute(query.group_by(JobRow.model, JobRow.state)):
        family.add_metric([model, state], count)
    return family


def latencies(session: Session, since: float) -> Iterator[Family]:
    delivered = select(DeliveryRow.delivered_at - StudyRow.last_instance_at)
    delivered = delivered.join(StudyRow, StudyRow.study_uid == DeliveryRow.study_uid)
    yield histogram(
        "radnode_last_image_to_delivered_seconds",
        "From a study's last image to a result in its destination, last 24 h.",
        {(): seconds(session.scalars(delivered.where(DeliveryRow.delivered_at >= since)))},
    )
    listed = select(ReportRow.issued_at - StudyRow.last_instance_at)
    listed = listed.join(StudyRow, StudyRow.study_uid == ReportRow.study_uid)
    yield histogram(
        "radnode_last_image_to_worklist_seconds",
        "From a study's last image to its place on the worklist by a model's report, last 24 h.",
        {(): seconds(session.scalars(listed.where(ReportRow.issued_at >= since)))},
    )
    yield histogram("radnode_stage_seconds", "How long each stage took, last 24 h.", stages(session, since), "stage")
    read = select(JobRow.model, JobRow.ended_at - JobRow.started_at)
    read = read.where(JobRow.state == JobState.DONE, JobRow.ended_at >= since)
    by_model: dict[tuple[str, ...], list[float]] = {}
    for model, took in session.execute(read):
        by_model.setdefault((model,), []).extend(seconds([took]))
    yield histogram("radnode_model_seconds", "How long each model's runs took, last 24 h.", by_model, "model")


def stages(session: Session, since: float) -> dict[tuple[str, ...], list[float]]:
    """receive: first to last image; complete: until the study counts as complete; wait: a job until it is claimed; read:
    a job; deliver: from owed to delivered."""
    received = select(StudyRow.last_instance_at - StudyRow.first_instance_at).where(StudyRow.last_instance_at >= since)
    complete = select(EventRow.at - StudyRow.last_instance_at).join(StudyRow, StudyRow.study_uid == EventRow.study_uid)
    complete = complete.where(EventRow.action == Action.COMPLETE, EventRow.at >= since)
    wait = select(JobRow.started_at - JobRow.created_at).where(JobRow.started_at >= since)
    read = select(JobRow.ended_at - JobRow.started_at).where(JobRow.ended_at >= since)
    deliver = select(DeliveryRow.delivered_at - DeliveryRow.created_at).where(DeliveryRow.delivered_at >= since)
    queries = {"receive": received, "complete": complete, "wait": wait, "read": read, "deliver": deliver}
    return {(stage,): seconds(session.scalars(query)) for stage, query in queries.items()}


def seconds(found: Iterable[float | None]) -> list[float]:
    """Without those that are unknown, or negative because images came later."""
    return [s for s in found if s is not None and s >= 0]


def histogram(
    name: str, help_text: str, values: Mapping[tuple[str, ...], Sequence[float]], *labels: str
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, help_text, labels=labels)
    for key, found in sorted(values.items()):
        buckets = [(str(b), float(sum(s <= b for s in found))) for b in BUCKETS] + [("+Inf", float(len(found)))]
        family.add_metric(list(key), buckets=buckets, sum_value=sum(found))
    return family
