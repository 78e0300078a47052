"""A real `radnode serve` (or one role) of a test's own, its rows, and its processes.

with TestNode(tmp_path, destinations=[to_orthanc(pacs)]) as node:
    storescu(node.receive_port, files)
    node.wait_until_read(study_uid)
"""

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import select
from support.orthanc import Orthanc

from radnode.database import Database
from radnode.demo.node import NodeError, NodeProcess
from radnode.settings import Settings
from radnode.states import DeliveryState, StudyState
from radnode.tables import DeliveryRow, EventRow, InstanceRow, JobRow, ResultRow, RouteRow, StudyRow, Table

ROLES = ("receive", "schedule", "work", "deliver", "web")


def to_orthanc(pacs: Orthanc, name: str = "pacs") -> dict[str, object]:
    """Orthanc as a C-STORE destination."""
    return {
        "name": name,
        "kind": "dimse",
        "host": "127.0.0.1",
        "port": pacs.dicom_port,
        "ae_title": pacs.ae_title,
    }


def quick_settings(
    *, destinations: Sequence[Mapping[str, object]] = (), quiet_s: float = 1.0, **sections: Mapping[str, object]
) -> dict[str, object]:
    """Settings for a test: loopback only, free ports, short waits. `sections` add to or replace single keys."""
    base: dict[str, dict[str, object]] = {
        "receive": {"host": "127.0.0.1", "port": 0, "accept_unknown_callers": True, "disk_free_min_mb": 16},
        "complete": {"quiet_s": quiet_s},
        "work": {"device": "cpu", "beat_s": 0.5, "lost_after_s": 10.0, "retry_s": 0.5},
        "deliver": {"retry_s": 0.5, "retry_max_s": 2.0},
        "web": {"host": "127.0.0.1", "port": 0},
    }
    merged: dict[str, object] = {name: base.get(name, {}) | dict(sections.get(name, {})) for name in {*base, *sections}}
    if destinations:
        merged["destinations"] = list(destinations)
    return merged


class TestNode(NodeProcess):
    """A node whose tables a test may read and whose processes it may kill."""

    __test__ = False  # not a test class for pytest

    def __init__(
        self,
        folder: Path,
        *,
        destinations: Sequence[Mapping[str, object]] = (),
        quiet_s: float = 1.0,
        environment: Mapping[str, str] | None = None,
        peers: Sequence[Mapping[str, object]] = (),
        rules: Sequence[Mapping[str, object]] = (),
        data: Path | None = None,
        database_url: str = "",
        **sections: Mapping[str, object],
    ) -> None:
        settings = quick_settings(destinations=destinations, quiet_s=quiet_s, **sections)
        settings |= {"peers": list(peers)} if peers else {}
        settings |= {"rules": list(rules)} if rules else {}
        settings |= {"data": data} if data else {}
        settings |= {"database_url": database_url} if database_url else {}
        super().__init__(folder, settings, environment=environment)
        self.data = data or self.data

    def rows(self, table: type[Table], **equal: object) -> list[Any]:
        """The rows of a table, in the order of their keys, whose columns equal the values."""
        url = self.settings.get("database_url", "")
        database = Database(Settings.model_validate({"data": self.data, "database_url": url}).url)
        try:
            with database.reading() as session:
                return list(session.scalars(select(table).filter_by(**equal).order_by(*table.__table__.primary_key)))
        finally:
            database.close()

    def study(self, study_uid: str) -> StudyRow | None:
        found: list[StudyRow] = self.rows(StudyRow, study_uid=study_uid)
        return found[0] if found else None

    def story(self, study_uid: str) -> str:
        """Everything the tables tell of a study, one line each: for the message of a failed assertion."""
        row = self.study(study_uid)
        lines = [f"state {row.state}, revision {row.revision}, {row.instances} instances" if row else "no such study"]
        lines += [f"event {e.action}: {e.sentence}" for e in self.rows(EventRow, study_uid=study_uid)]
        lines += [f"route {r.model!r} {r.chosen}: {r.reason}" for r in self.rows(RouteRow, study_uid=study_uid)]
        lines += [
            f"job {j.model} r{j.revision} {j.state} attempt {j.attempt}: {j.reason}"
            for j in self.rows(JobRow, study_uid=study_uid)
        ]
        lines += [
            f"result {r.kind} {r.model} current={r.current} {r.uid}" for r in self.rows(ResultRow, study_uid=study_uid)
        ]
        lines += [
            f"delivery {d.destination} {d.state} attempt {d.attempt}: {d.error}"
            for d in self.rows(DeliveryRow, study_uid=study_uid)
        ]
        return "\n".join(lines)

    def wait(self, what: str, met: Callable[[], object], *, study_uid: str = "", seconds: float = 180.0) -> None:
        """Wait until `met()` is true. Raises AssertionError with the study's story and the log."""
        end = time.monotonic() + seconds
        while not met():
            if time.monotonic() > end:
                story = self.story(study_uid) if study_uid else ""
                raise AssertionError(f"waited {seconds:.0f} s in vain for: {what}\n{story}\n--- log\n{self.log}")
            if self.process is not None and self.process.poll() is not None:
                raise NodeError(f"the node ended with {self.process.returncode}:\n{self.log}")
            time.sleep(0.1)

    def wait_until_read(self, study_uid: str, *, revision: int = 1, seconds: float = 180.0) -> list[JobRow]:
        """Wait until every job of this revision has ended; the jobs of that revision."""

        def ended() -> bool:
            row = self.study(study_uid)
            return row is not None and row.revision == revision and row.state == StudyState.READ

        self.wait(f"revision {revision} to be read", ended, study_uid=study_uid, seconds=seconds)
        return self.rows(JobRow, study_uid=study_uid, revision=revision)

    def wait_until_delivered(self, study_uid: str, *, seconds: float = 180.0) -> list[DeliveryRow]:
        """Wait until nothing of a study is owed any more and something was delivered."""

        def delivered() -> bool:
            states = [d.state for d in self.rows(DeliveryRow, study_uid=study_uid)]
            return DeliveryState.OWED not in states and DeliveryState.DELIVERED in states

        self.wait("every result to be delivered", delivered, study_uid=study_uid, seconds=seconds)
        return self.rows(DeliveryRow, study_uid=study_uid)

    def role_processes(self, role: str) -> list[psutil.Process]:
        """The processes of one role below `radnode serve`, found by the role's name in their command line."""
        if self.process is None:
            return []
        below = psutil.Process(self.process.pid).children(recursive=True)
        return [p for p in below if p.is_running() and role in command(p)]

    def kill_role(self, role: str) -> None:
        """SIGKILL to every process of a role. Raises AssertionError when there is none."""
        found = self.role_processes(role)
        assert found, f"no process of the role {role} runs"
        for process in found:
            process.send_signal(signal.SIGKILL)

    def stored(self, study_uid: str) -> dict[str, bytes]:
        """Every current object of a study, as the index and the disk have it: SOP Instance UID -> the file."""
        rows = self.rows(InstanceRow, study_uid=study_uid, current=True)
        return {row.sop_uid: (self.data / row.file).read_bytes() for row in rows}


def command(process: psutil.Process) -> list[str]:
    try:
        return [part for argument in process.cmdline() for part in argument.replace(":", " ").split()]
    except psutil.Error:
        return []
