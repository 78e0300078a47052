"""kill -9 at random times under load: of roles, of the whole node, and with the database locked by somebody else now and then.

RADNODE_FAULT_KILLS says how often (`make faults`: 200), RADNODE_FAULT_SEED begins the chance; both stand in the output.
"""

import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.node_process import ROLES, TestNode, to_orthanc
from support.orthanc import Orthanc, free_ports
from support.sending import PatientSender
from support.undisturbed import ONE_MODEL, Undisturbed, expect_nothing_lost, undisturbed

from radnode import jobs
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.settings import Settings

KILLS = int(os.environ.get("RADNODE_FAULT_KILLS", "4"))
SEED = int(os.environ.get("RADNODE_FAULT_SEED", "1"))
STUDIES = max(2, KILLS // 20)
QUIET_S = 8.0 if KILLS < 20 else 20.0
"""Longer than a node takes to start: a sender that comes back in that time continues its study."""

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(600 + 60 * KILLS),
]


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory, shared_pacs: Orthanc) -> Iterator[tuple[Undisturbed, ...]]:
    found = undisturbed(tmp_path_factory.mktemp("peace"), shared_pacs, range(700, 700 + STUDIES))
    yield found
    for reference in found:
        shared_pacs.forget(reference.sample.study_uid)


class Load:
    """Sends every study in a random order, some images twice, and asks for another run of those that were read."""

    def __init__(self, node: TestNode, references: tuple[Undisturbed, ...], port: int, chance: random.Random) -> None:
        self.senders = [PatientSender(lambda: port) for _ in references]
        self.sent = threading.Event()
        self.reruns = 0
        self._node, self._references, self._chance, self._port = node, references, chance, port
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Raises what went wrong."""
        self._stop.set()
        self._thread.join(600)
        assert not self._thread.is_alive(), "the load does not end"
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            for reference, sender in zip(self._references, self.senders, strict=True):
                files = list(reference.sample.files)
                self._chance.shuffle(files)
                sender.send(files, seconds=300)
                PatientSender(lambda: self._port).send(files[:10], seconds=300)  # once more
            self.sent.set()
            while not self._stop.wait(1.0):
                self._again(self._chance.choice(self._references).sample.study_uid)
        except BaseException as e:
            self._error = e
            self.sent.set()

    def _again(self, study_uid: str) -> None:
        database = Database(Settings.model_validate({"data": self._node.data}).url)
        try:
            self.reruns += len(jobs.rerun(database, study_uid, "", time.time()))
        except RefusedError:  # it is still arriving
            pass
        finally:
            database.close()


def strike(node: TestNode, chance: random.Random, *, first: bool) -> str:
    """One blow; what it was. The first finds the database locked, for longer than it is waited for."""
    if first or chance.random() < 0.2:
        lock_the_database(node.data / "radnode.db", chance.uniform(0.5, 2.0))
    role = chance.choice((*ROLES, "everything"))
    found = node.role_processes(role) if role != "everything" else []
    if found:
        for process in found:
            process.kill()
        return role
    node.kill()
    node.start()
    return "everything"


def lock_the_database(file: Path, seconds: float) -> None:
    with closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")


def test_nothing_is_lost_or_doubled_whatever_is_killed_when(
    tmp_path: Path, shared_pacs: Orthanc, references: tuple[Undisturbed, ...]
) -> None:
    chance = random.Random(SEED)
    (port,) = free_ports(1)
    begun = time.monotonic()
    with TestNode(
        tmp_path,
        destinations=[to_orthanc(shared_pacs)],
        quiet_s=QUIET_S,
        rules=ONE_MODEL,
        receive={"port": port, "processes": 2},
        work={"attempts": 1000, "retry_s": 0.1},
        environment={"RADNODE_FAULT_BUSY_S": "0.3"},
    ) as node:
        load = Load(node, references, port, random.Random(SEED + 1))
        blows: dict[str, int] = {}
        while sum(blows.values()) < KILLS:
            time.sleep(chance.uniform(0.2, 3.0))
            name = strike(node, chance, first=not blows)
            blows[name] = blows.get(name, 0) + 1
        load.sent.wait(600)
        load.stop()
        for reference, sender in zip(references, load.senders, strict=True):
            expect_nothing_lost(node, sender, shared_pacs, reference, seconds=600)
        locked = (node.folder / "node.log").read_text(errors="replace").count("database is locked")
    assert locked, "no lock was longer than it was waited for"
    images = sum(len(r.sample.files) for r in references)
    interruptions = sum(s.interruptions for s in load.senders)
    print(
        f"\n{locked} lines of the log tell of a locked database"
        f"\nseed {SEED}: {sum(blows.values())} kills {blows} in {time.monotonic() - begun:.0f} s; {len(references)} studies, "
        f"{images} images, {interruptions} interrupted associations, {load.reruns} more runs; nothing lost, nothing doubled"
    )
