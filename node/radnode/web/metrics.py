"""For machines that watch: /metrics (Prometheus), /healthz (the process lives), /readyz (database and disk are there)."""

import shutil
import time
from collections.abc import Iterator, Sequence

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import InstrumentedAttribute

from radnode.database import Database
from radnode.settings import Settings
from radnode.states import DeliveryState, JobState, StudyState
from radnode.tables import DeliveryRow, JobRow, RefusalRow, StudyRow

BUCKETS = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
WINDOW_S = 24 * 3600.0


class NodeCollector(Collector):
    """Counts rows when it is asked, so that every process of the node gives the same answer."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def collect(self) -> Iterator[GaugeMetricFamily | HistogramMetricFamily]:
        yield self.states("radnode_studies", "Studies by state.", StudyRow.state, list(StudyState))
        yield self.states("radnode_jobs", "Jobs by state.", JobRow.state, list(JobState))
        yield self.states(
            "radnode_deliveries", "Results owed to, or taken by, destinations.", DeliveryRow.state, list(DeliveryState)
        )
        with self.database.reading() as session:
            refused = session.scalar(select(func.coalesce(func.sum(RefusalRow.count), 0)))
        yield GaugeMetricFamily("radnode_refused_callers", "Associations that were refused.", value=float(refused or 0))
        yield self.latency(time.time())

    def states(
        self, name: str, help_text: str, column: InstrumentedAttribute[str], every: Sequence[str]
    ) -> GaugeMetricFamily:
        """One sample for each state, also for those that nothing is in."""
        with self.database.reading() as session:
            found = session.execute(select(column, func.count()).group_by(column)).all()
        counts = dict.fromkeys(every, 0) | dict(found)
        family = GaugeMetricFamily(name, help_text, labels=["state"])
        for state, count in sorted(counts.items()):
            family.add_metric([state], count)
        return family

    def latency(self, now: float) -> HistogramMetricFamily:
        """Seconds from a study's last image to a result's delivery, over the last day."""
        query = select(DeliveryRow.delivered_at - StudyRow.last_instance_at).join(
            StudyRow, StudyRow.study_uid == DeliveryRow.study_uid
        )
        with self.database.reading() as session:
            found = list(session.scalars(query.where(DeliveryRow.delivered_at >= now - WINDOW_S)))
        seconds = [s for s in found if s is not None and s >= 0]
        buckets = [(str(b), float(sum(s <= b for s in seconds))) for b in BUCKETS] + [("+Inf", float(len(seconds)))]
        family = HistogramMetricFamily(
            "radnode_last_image_to_delivered_seconds",
            "From a study's last image to a result in its destination, deliveries of the last 24 h.",
        )
        family.add_metric([], buckets=buckets, sum_value=sum(seconds))
        return family


def router(settings: Settings, database: Database) -> APIRouter:
    made = APIRouter(tags=["watch"])
    registry = CollectorRegistry()
    registry.register(NodeCollector(database))

    @made.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @made.get("/healthz")
    def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @made.get("/readyz")
    def readyz() -> JSONResponse:
        """503 when the database does not answer or the disk is nearly full; which of them stands in the answer."""
        checks = {"database": database_answers(database), "disk": disk_free(settings)}
        return JSONResponse(checks, status_code=200 if all(v == "ok" for v in checks.values()) else 503)

    return made


def database_answers(database: Database) -> str:
    try:
        with database.reading() as session:
            session.execute(select(StudyRow.study_uid).limit(1))
    except SQLAlchemyError as e:
        return f"does not answer: {type(e).__name__}"
    return "ok"


def disk_free(settings: Settings) -> str:
    try:
        free_mb = shutil.disk_usage(settings.data).free >> 20
    except OSError as e:
        return f"cannot be read: {e.strerror}"
    return "ok" if free_mb >= settings.receive.disk_free_min_mb else f"nearly full: {free_mb} MB free"
