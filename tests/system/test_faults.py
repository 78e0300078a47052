"""Everything that may go wrong between two systems, with real processes and peers; then `expect_nothing_lost` looks.

What it looks for: every acknowledged image byte for byte, exactly the current results of an undisturbed node in the PACS
(so none doubled and none from a part), nothing owed. RADNODE_FAULT_SEED begins the chance; RADNODE_FAULT_ROUNDS repeats
(`make faults`). Kills are in test_kill.py and test_campaign.py.
"""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from support.node_process import ROLES, TestNode, to_orthanc
from support.orthanc import Orthanc, free_ports
from support.postgres import Postgres
from support.proxy import Proxy, Trouble
from support.sending import PatientSender, listens
from support.undisturbed import ONE_MODEL, Undisturbed, expect_nothing_lost, undisturbed

from radnode.states import DeliveryState
from radnode.tables import DeliveryRow

SEED = int(os.environ.get("RADNODE_FAULT_SEED", "1"))
ROUNDS = int(os.environ.get("RADNODE_FAULT_ROUNDS", "1"))
QUIET_S = 5.0
WAIT_S = 240.0
TESTS = 11  # that need a study in each round

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500 + 300 * ROUNDS)]


@dataclass(kw_only=True)
class Ground:
    """A node, its PACS, and a wire on either side of the node. shift: the file with the seconds its clock is ahead."""

    node: TestNode
    pacs: Orthanc
    wire_in: Proxy
    wire_out: Proxy
    shift: Path
    studies: list[Undisturbed]

    def next(self) -> tuple[Undisturbed, PatientSender]:
        """A study that was not sent before, and a sender over the wire."""
        return self.studies.pop(), PatientSender(lambda: self.wire_in.port)

    def rest(self, sender: PatientSender, study: Undisturbed) -> None:
        expect_nothing_lost(self.node, sender, self.pacs, study, seconds=WAIT_S)


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory, shared_pacs: Orthanc) -> list[Undisturbed]:
    print(f"seed {SEED}, {ROUNDS} rounds")
    seeds = range(2000, 2000 + TESTS * ROUNDS)
    return list(undisturbed(tmp_path_factory.mktemp("peace"), shared_pacs, seeds, shape=(16, 64, 64), phases=5))


@pytest.fixture(scope="module")
def ground(
    tmp_path_factory: pytest.TempPathFactory, shared_pacs: Orthanc, references: list[Undisturbed]
) -> Iterator[Ground]:
    """On SQLite, with a clock that may be set."""
    folder = tmp_path_factory.mktemp("ground")
    shift = folder / "shift"
    shift.write_text("0")
    shifted = Path(__file__).resolve().parent.parent / "support" / "shifted"
    path = os.pathsep.join((str(shifted), os.environ.get("PYTHONPATH", "")))
    (port,) = free_ports(1)
    with Proxy(lambda: shared_pacs.dicom_port) as wire_out, Proxy(lambda: port) as wire_in:
        node = TestNode(
            folder,
            destinations=[over(wire_out, shared_pacs)],
            quiet_s=QUIET_S,
            rules=ONE_MODEL,
            environment={"PYTHONPATH": path, "RADNODE_TEST_SHIFT": str(shift)},
            receive={"port": port, "processes": 2, "association_idle_s": 3.0},
            deliver={"timeout_s": 3.0},
        )
        with node:
            yield Ground(
                node=node,
                pacs=shared_pacs,
                wire_in=wire_in,
                wire_out=wire_out,
                shift=shift,
                studies=references,
            )


def over(wire: Proxy, pacs: Orthanc) -> dict[str, object]:
    return {"name": "pacs", "kind": "dimse", "host": "127.0.0.1", "port": wire.port, "ae_title": pacs.ae_title}


@pytest.fixture(params=range(ROUNDS))
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{request.node.originalname} {SEED} {request.param}")


def size_of(study: Undisturbed) -> int:
    return sum(f.stat().st_size for f in study.sample.files)


def test_results_wait_while_the_pacs_is_down_and_arrive_when_it_is_back(ground: Ground, chance: random.Random) -> None:
    study, sender = ground.next()
    with ground.wire_out.away():
        sender.send(study.sample.files)
        ground.node.wait_until_read(study.sample.study_uid, seconds=WAIT_S)
        rows = ground.node.rows(DeliveryRow, study_uid=study.sample.study_uid)
        assert {r.state for r in rows} == {DeliveryState.OWED}
    ground.rest(sender, study)


def test_a_sender_whose_connections_break_in_the_middle_of_a_pdu_loses_nothing(
    ground: Ground, chance: random.Random
) -> None:
    study, sender = ground.next()
    size = size_of(study)
    kinds = ("cut", "reset", "stall", "drop", "cut", "delay")
    ground.wire_in.trouble(
        t for kind in kinds for t in (Trouble(kind="delay"), Trouble(kind=kind, after=chance.randrange(size // 4)))
    )
    before = ground.wire_in.met
    sender.send(study.sample.files, seconds=WAIT_S)
    assert sender.interruptions >= 4, (
        f"{ground.wire_in.met - before} connections had trouble, {sender.interruptions} broke"
    )
    ground.rest(sender, study)


def test_results_survive_connections_to_the_pacs_that_break_in_the_middle_of_a_pdu(
    ground: Ground, chance: random.Random
) -> None:
    study, sender = ground.next()
    kinds = ("cut", "reset", "stall", "drop", "delay")
    ground.wire_out.trouble(Trouble(kind=kind, after=chance.randrange(200, 40_000)) for kind in kinds)
    before = ground.wire_out.met
    sender.send(study.sample.files)
    ground.rest(sender, study)
    assert ground.wire_out.met - before >= 3


def test_images_that_come_twice_at_once_and_in_any_order_are_kept_once(ground: Ground, chance: random.Random) -> None:
    study, sender = ground.next()
    other = PatientSender(lambda: ground.wire_in.port)
    first, second = list(study.sample.files), list(study.sample.files)
    chance.shuffle(first)
    chance.shuffle(second)
    with other.in_background(second, seconds=WAIT_S):
        sender.send(first, seconds=WAIT_S)
    assert other.acknowledged == sender.acknowledged
    ground.rest(sender, study)


def test_a_read_only_disk_refuses_and_what_was_acknowledged_goes_its_way_afterwards(
    ground: Ground, chance: random.Random
) -> None:
    study, sender = ground.next()
    half = chance.randrange(5, len(study.sample.files) - 5)
    sender.send(study.sample.files[:half])
    with read_only(ground.node.data):
        with pytest.raises(AssertionError, match="never acknowledged"):
            sender.send(study.sample.files[half:], seconds=1.0)
        assert len(sender.acknowledged) == half
        for role in ("schedule", "work", "deliver"):  # they open the database anew, which cannot be written to
            ground.node.kill_role(role)
            ground.node.wait(f"another {role}", lambda name=role: ground.node.role_processes(name), seconds=WAIT_S)
    sender.send(study.sample.files[half:], seconds=WAIT_S)
    ground.rest(sender, study)


def test_a_clock_that_jumps_forward_and_back_loses_nothing(ground: Ground, chance: random.Random) -> None:
    study, sender = ground.next()
    files = study.sample.files
    half = chance.randrange(5, len(files) - 5)
    sender.send(files[:half])
    ground.shift.write_text(str(chance.choice((3600, 86400))))
    sender.send(files[half:])
    ground.node.wait_until_read(study.sample.study_uid, seconds=WAIT_S)
    ground.shift.write_text("-7200")
    ground.rest(sender, study)
    again, sender = ground.next()
    sender.send(again.sample.files)
    ground.shift.write_text("0")
    ground.rest(sender, again)


# ------------------------------------------------------------------------------------------ PostgreSQL


@dataclass(kw_only=True)
class Served:
    """A node on PostgreSQL, and the ports of its listener and of that of a second set of its roles."""

    node: TestNode
    server: Postgres
    pacs: Orthanc
    port: int
    second_port: int


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, shared_pacs: Orthanc) -> Iterator[Served]:
    port, second_port = free_ports(2)
    with Postgres() as server:
        node = TestNode(
            tmp_path_factory.mktemp("served"),
            destinations=[to_orthanc(shared_pacs)],
            quiet_s=QUIET_S,
            rules=ONE_MODEL,
            database_url=server.new_database(),
            receive={"port": port, "processes": 2},
        )
        with node:
            yield Served(node=node, server=server, pacs=shared_pacs, port=port, second_port=second_port)


def test_a_database_that_is_restarted_again_and_again_loses_nothing(
    served: Served, references: list[Undisturbed], chance: random.Random
) -> None:
    study = references.pop()
    sender = PatientSender(lambda: served.port)
    with sender.in_background(study.sample.files, seconds=WAIT_S):
        for _ in range(3):
            time.sleep(chance.uniform(0.1, 1.5))
            served.server.restart()
    for _ in range(4):  # while it settles, reads and delivers
        time.sleep(chance.uniform(0.5, 3.0))
        served.server.restart()
    expect_nothing_lost(served.node, sender, served.pacs, study, seconds=WAIT_S)


def test_roles_without_a_database_wait_say_so_once_and_go_on(
    served: Served, references: list[Undisturbed], chance: random.Random
) -> None:
    study = references.pop()
    roles = [p for name in ROLES for p in served.node.role_processes(name)]
    written = (served.node.folder / "node.log").stat().st_size
    with served.server.away():
        with pytest.raises(AssertionError, match="never acknowledged"):
            PatientSender(lambda: served.port).send(study.sample.files[:1], seconds=2.0)
        time.sleep(3.0)
        used, begun = sum(spent(p) for p in roles), time.monotonic()
        time.sleep(8.0)
        used, seconds = sum(spent(p) for p in roles) - used, time.monotonic() - begun
        told = (served.node.folder / "node.log").read_bytes()[written:].decode()
    assert used < 0.1 * seconds * len(ROLES), f"{used:.1f} s of processor time in {seconds:.1f} s"
    assert told.count("it fails and is tried again") <= 20 and told.count("Traceback") == 0, told
    assert len(told.splitlines()) < 60, told
    sender = PatientSender(lambda: served.port)
    sender.send(study.sample.files, seconds=WAIT_S)
    expect_nothing_lost(served.node, sender, served.pacs, study, seconds=WAIT_S)
    assert [p.pid for name in ROLES for p in served.node.role_processes(name)] == [p.pid for p in roles]


def spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def test_two_sets_of_every_role_on_one_database_do_nothing_twice(
    served: Served, references: list[Undisturbed], chance: random.Random
) -> None:
    first, second = references.pop(), references.pop()
    senders = PatientSender(lambda: served.port), PatientSender(lambda: served.second_port)
    with second_roles(served):
        served.node.wait("the second listener", lambda: listens(served.second_port), seconds=WAIT_S)
        with senders[1].in_background(second.sample.files, seconds=WAIT_S):
            senders[0].send(first.sample.files, seconds=WAIT_S)
        for study, sender in zip((first, second), senders, strict=True):
            expect_nothing_lost(served.node, sender, served.pacs, study, seconds=WAIT_S)


NAMED = ("unshare", "--uts", "sh", "-c", 'hostname second-node && exec "$0" "$@"')


@contextmanager
def second_roles(served: Served) -> Iterator[None]:
    """The roles once more, each by itself, on the same data folder and database, as on a machine of another name."""
    environment = served.node.variables() | {"RADNODE_RECEIVE_PORT": str(served.second_port)}
    log = (served.node.folder / "second.log").open("wb")
    started = [
        subprocess.Popen(
            [*NAMED, served.node.program(), role], env=environment, cwd=served.node.folder, stdout=log, stderr=log
        )
        for role in ROLES
        if role != "web"
    ]
    try:
        yield
        assert [p.poll() for p in started] == [None] * len(started), (served.node.folder / "second.log").read_text()
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(60)
        log.close()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder cannot be written to, as after an error of its disk; what is open for writing stays so."""
    for flags in (["--bind", str(folder)], ["-o", "remount,bind,ro"]):
        done = subprocess.run(["mount", *flags, str(folder)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"only root may mount, as this test must: {done.stderr}"
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
