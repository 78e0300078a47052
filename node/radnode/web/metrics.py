"""For machines that watch: /metrics (Prometheus), /healthz (the process lives), /readyz (it can take and do work)."""

import shutil
import socket
import time
from collections.abc import Iterator

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from radnode import audit_syslog
from radnode.database import Database
from radnode.serve import is_served
from radnode.settings import Settings
from radnode.tables import StudyRow
from radnode.web import metrics_machine, metrics_tables
from radnode.web.metrics_tables import Family

MB = 1_000_000
CONNECT_S = 1.0


class NodeCollector(Collector):
    """Counts when it is asked."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._gpus = metrics_machine.Gpus()

    def describe(self) -> list[Family]:
        """Nothing: otherwise registering it would count, and open the database."""
        return []

    def collect(self) -> Iterator[Family]:
        with self._database.reading() as session:
            yield from metrics_tables.families(session, time.time())
            yield GaugeMetricFamily(
                "radnode_audit_owed_oldest_seconds",
                "Since when the oldest row of the audit waits for its collector.",
                value=audit_syslog.owed_s(session, self._settings, time.time()),
            )
        ready = GaugeMetricFamily("radnode_ready", "1 where /readyz has nothing against it.", labels=["check"])
        for name, said in checks(self._settings, self._database).items():
            ready.add_metric([name], float(said == "ok"))
        yield ready
        yield from metrics_machine.families(self._settings)
        yield from self._gpus.families()


def router(settings: Settings, database: Database) -> APIRouter:
    made = APIRouter(tags=["watch"])
    registry = CollectorRegistry()
    registry.register(NodeCollector(settings, database))

    @made.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @made.get("/healthz")
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @made.get("/readyz")
    def readyz() -> JSONResponse:
        """503 when the database does not answer, the disk is nearly full, or `radnode serve` runs here and nobody
        takes DICOM connections; which of them stands in the answer."""
        said = checks(settings, database)
        return JSONResponse(said, status_code=200 if all(v == "ok" for v in said.values()) else 503)

    return made


def checks(settings: Settings, database: Database) -> dict[str, str]:
    """What the node needs to take and do work -> "ok", or what is wrong."""
    said = {"database": database_answers(database), "disk": disk_free(settings)}
    if is_served(settings.data):
        said["receiver"] = receiver_answers(settings)
    return said


def database_answers(database: Database) -> str:
    try:
        with database.reading() as session:
            session.execute(select(StudyRow.study_uid).limit(1))
    except SQLAlchemyError as e:
        return f"does not answer: {type(e).__name__}"
    return "ok"


def disk_free(settings: Settings) -> str:
    """In the unit and with the limit at which images are refused."""
    try:
        free_mb = shutil.disk_usage(settings.data).free // MB
    except OSError as e:
        return f"cannot be read: {e.strerror}"
    return "ok" if free_mb >= settings.receive.disk_free_min_mb else f"nearly full: {free_mb} MB free"


def receiver_answers(settings: Settings) -> str:
    host = settings.receive.host
    try:
        port = int((settings.data / "run" / "receive.port").read_text())
        socket.create_connection(("127.0.0.1" if host in ("0.0.0.0", "") else host, port), CONNECT_S).close()  # noqa: S104  compared
    except (OSError, ValueError) as e:
        return f"takes no connections: {type(e).__name__}"
    return "ok"
