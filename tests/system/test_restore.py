"""A node is backed up while it works, killed, wiped, restored, and goes on where it was."""

import shutil
import signal
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from support.node_process import TestNode
from support.orthanc import free_ports
from support.pacs_scp import Pacs, pacs_scp
from support.postgres import Postgres
from support.sending import PatientSender, dataset_bytes
from support.studies import Sample, small_breast
from support.undisturbed import ONE_MODEL

from radnode import audit
from radnode.database import Database
from radnode.demo.send import Image, send
from radnode.errors import DeliveryError
from radnode.settings import Settings
from radnode.states import CommitmentState, DeliveryState, JobState, StudyState
from radnode.tables import DeliveryRow, InstanceRow, JobRow, ResultRow, StudyRow
from radnode.tables_pacs import CommitmentRow

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

PATIENCE_S = 180.0
SLOW = {"name": "slow", "ae_title": "SLOW", "quiet_s": 600.0}
"""A sender whose pauses make no study complete."""
Sending = Generator[Image, None, None]


@dataclass(frozen=True, kw_only=True)
class Studies:
    """done: its results are in the folder and owed to the PACS. declined: by its model. waiting: its job is queued.

    half: its sender was cut off in the middle.
    """

    done: Sample
    declined: Sample
    waiting: Sample
    half: Sample

    @classmethod
    def made(cls, folder: Path) -> "Studies":
        done, waiting, half = (small_breast(folder / f"{n}", seed=n, shape=(16, 64, 64)) for n in (61, 62, 63))
        declined = small_breast(folder / "64", seed=64, shape=(8, 32, 32), phases=2)
        return cls(done=done, declined=declined, waiting=waiting, half=half)

    def all(self) -> tuple[Sample, ...]:
        return self.done, self.declined, self.waiting, self.half


@pytest.fixture
def server() -> Iterator[Postgres]:
    with Postgres() as made:
        yield made


def test_a_wiped_node_goes_on_where_its_backup_was_also_on_another_database(server: Postgres, tmp_path: Path) -> None:
    """SQLite while it works, PostgreSQL afterwards: both under a node, in the time of one."""
    studies, (port,) = Studies.made(tmp_path / "studies"), free_ports(1)
    out = tmp_path / "out"
    to = (
        {"name": "out", "kind": "folder", "folder": out},
        {"name": "pacs", "kind": "dimse", "host": "127.0.0.1", "port": port, "ae_title": "TESTPACS"},
    )
    with TestNode(tmp_path / "node", destinations=to, rules=ONE_MODEL, peers=[SLOW]) as node:
        sending = begin(node, studies)
        acknowledged = [next(sending) for _ in range(len(studies.half.files) // 2)]
        before = [seen(node, sample) for sample in studies.all()]
        backed_up = node.run("backup", str(tmp_path / "node.tar"))
        assert backed_up.returncode == 0, backed_up.stderr
        node.kill()
        with suppress(DeliveryError, OSError):
            sending.close()
        for gone in (node.data, out):
            shutil.rmtree(gone)
        node.settings |= {"database_url": server.new_database(), "peers": [SLOW | {"quiet_s": 1.0}]}
        restored = node.run("restore", str(tmp_path / "node.tar"))
        assert restored.returncode == 0, restored.stderr
        for sample, was in zip(studies.all(), before, strict=True):
            assert seen(node, sample) == was, node.story(sample.study_uid)
        with pacs_scp(lambda _: 0, port=port) as pacs:
            node.start()
            PatientSender(lambda: node.receive_port).send(studies.half.files)  # its sender tries again
            goes_on(node, studies, pacs)
        log = (node.folder / "node.log").read_text()  # of every role, over two lives
        assert log and [mark for mark in ("Generated", "BREAST-6") if mark in log] == []
        for image in acknowledged:
            kept = node.stored(studies.half.study_uid)[image.uid]
            assert dataset_bytes(kept) == dataset_bytes(image.path.read_bytes())


def begin(node: TestNode, studies: Studies) -> Sending:
    """A study in every state; the association over which the half one comes."""
    sender = PatientSender(lambda: node.receive_port)
    sender.send([*studies.done.files, *studies.declined.files])
    for sample in (studies.done, studies.declined):
        node.wait_until_read(sample.study_uid, seconds=PATIENCE_S)
    node.wait("the folder to be served", lambda: states(node, studies.done, "out") == {DeliveryState.DELIVERED})
    assert states(node, studies.done, "pacs") == {DeliveryState.OWED}
    assert {j.state for j in node.rows(JobRow, study_uid=studies.declined.study_uid)} == {JobState.DECLINED}
    for process in node.role_processes("work"):
        process.send_signal(signal.SIGSTOP)
    sender.send(studies.waiting.files)
    node.wait("a job to be queued", lambda: node.rows(JobRow, study_uid=studies.waiting.study_uid))
    return cast(Sending, send(studies.half.files, node.receive_port, calling_ae=str(SLOW["ae_title"])))


def states(node: TestNode, sample: Sample, destination: str) -> set[str]:
    return {d.state for d in node.rows(DeliveryRow, study_uid=sample.study_uid, destination=destination)}


def seen(node: TestNode, sample: Sample) -> dict[str, object]:
    """What the tables and the disk hold of a study and what a node at work does not change."""
    uid = {"study_uid": sample.study_uid}
    return {
        "results": {(r.uid, r.current, (node.data / r.file).read_bytes()) for r in node.rows(ResultRow, **uid)},
        "deliveries": {(d.destination, d.result_uid, d.state) for d in node.rows(DeliveryRow, **uid)},
        "jobs": [(j.model, j.revision, j.state) for j in node.rows(JobRow, **uid)],
        "images": {i.sop_uid: i.sha256 for i in node.rows(InstanceRow, **uid)},
    }


def goes_on(node: TestNode, studies: Studies, pacs: Pacs) -> None:
    """What was owed is delivered once and kept, what waited is read, the half study is read whole."""
    read = (studies.done, studies.waiting, studies.half)
    node.wait(
        "the half study to be whole",
        lambda: is_whole(node, studies.half),
        study_uid=studies.half.study_uid,
        seconds=PATIENCE_S,
    )
    for sample in read:
        node.wait(
            "its results at the PACS", lambda s=sample: is_kept(node, s), study_uid=sample.study_uid, seconds=PATIENCE_S
        )  # type: ignore[misc]
    for sample in read[:2]:
        of_it = {"study_uid": sample.study_uid, "destination": "pacs", "state": DeliveryState.DELIVERED}
        dicom = {d.result_uid for d in node.rows(DeliveryRow, **of_it)}
        assert dicom and {pacs.stored[uid] for uid in dicom} == {1}, node.story(sample.study_uid)
    assert {j.state for j in node.rows(JobRow, study_uid=studies.declined.study_uid)} == {JobState.DECLINED}
    database = Database(Settings.model_validate({"data": node.data, "database_url": node.settings["database_url"]}).url)
    with database.reading() as session:
        assert audit.verify(session).problems == ()
        assert [e.kind for e in audit.walk(session) if e.kind in ("start", "stop")] == ["start", "start"]
    database.close()


def is_whole(node: TestNode, sample: Sample) -> bool:
    """Read, with every image, and one set of results stands."""
    row: StudyRow | None = node.study(sample.study_uid)
    if row is None or row.state != StudyState.READ or row.instances != len(sample.files):
        return False
    current = [r.kind for r in node.rows(ResultRow, study_uid=sample.study_uid, current=True)]
    jobs = {j.state for j in node.rows(JobRow, study_uid=sample.study_uid, revision=row.revision)}
    return JobState.DONE in jobs and current.count("sr") == 1


def is_kept(node: TestNode, sample: Sample) -> bool:
    """Every result that the PACS was owed is delivered, and the PACS committed itself to keep it."""
    owed = node.rows(DeliveryRow, study_uid=sample.study_uid, destination="pacs", state=DeliveryState.DELIVERED)
    kept = {c.delivery_id for c in node.rows(CommitmentRow, state=CommitmentState.COMMITTED)}
    return DeliveryState.OWED not in states(node, sample, "pacs") and bool(owed) and {d.id for d in owed} <= kept
