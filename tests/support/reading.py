"""A study on disk that a node has received and reads in this process, by the code of its worker and its model process."""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from support.core import Node
from support.findings import MODEL, Scene, findings
from support.models import card

from radnode import complete, jobs
from radnode.engine_child import read
from radnode.engine_messages import Answer, Declined, Spec, Task
from radnode.states import StudyState
from radnode.tables import InstanceRow
from radnode.work import Worker
from radnode_inference.findings import Findings
from radnode_inference.model import DeclinedError, ModelCard, Progress
from radnode_inference.study import Study

NAME = MODEL.name


class Nobody:
    """The end of a connection at which nobody listens."""

    def send(self, message: object) -> None:
        pass


@dataclass
class InProcess:
    """Stands in for `Engine` and for the model: runs the code of the model's process here, and finds what it is told."""

    said: Findings
    identity: object = MODEL
    warm: tuple[str, ...] = field(default=())

    def run(self, found: ModelCard, task: Task, beat: Callable[[float], None], stop: Callable[[], bool]) -> Answer:
        spec = Spec(card=found, device="cpu", weights=task.data, reporter="radnode.report:results")
        try:
            return read(spec, self, task, Nobody())  # type: ignore[arg-type]
        except DeclinedError as e:
            return Declined(gate=e.gate, sentence=e.sentence)

    def read(self, study: Study, progress: Progress) -> Findings:
        return self.said


def receive(node: Node, scene: Scene) -> str:
    """The node has the study, and a job for the model is waiting; returns its UID."""
    now = time.time()
    with node.database.transaction() as session:
        for file in sorted(scene.folder.glob("*.dcm")):
            ds = pydicom.dcmread(file, stop_before_pixels=True)
            body = file.read_bytes()
            session.add(
                InstanceRow(
                    sop_uid=ds.SOPInstanceUID, sha256=hashlib.sha256(body).hexdigest(), study_uid=ds.StudyInstanceUID,
                    series_uid=ds.SeriesInstanceUID, sop_class_uid=ds.SOPClassUID, calling_ae="CT1", called_ae="RADNODE",
                    transfer_syntax_uid=ds.file_meta.TransferSyntaxUID, address="127.0.0.1", file=relative(node, file),
                    size=len(body), received_at=now,
                )
            )  # fmt: skip
    complete.settle(node.database, node.settings, since=0.0, now=now)
    complete.complete(node.database, now=now + 100.0)
    uid = scene.study.study_uid
    with node.database.transaction() as session:
        assert jobs.move_study(session, uid, StudyState.COMPLETE, StudyState.ROUTED)
    node.add_job(NAME, study_uid=uid)
    return uid


def relative(node: Node, file: Path) -> str:
    """The path of a file, which must lie in the data folder, as rows have it."""
    return str(file.relative_to(node.settings.data))


def work(node: Node, scene: Scene, said: Findings | None = None) -> None:
    """A worker takes the job and ends it. said: what the model finds; by default two nodules and an organ."""
    engine = InProcess(said or findings(scene))
    worker = Worker(node.settings, node.database, engine, "w", cards=[card(NAME, "quick")])  # type: ignore[arg-type]
    assert worker.turn(threading.Event())
