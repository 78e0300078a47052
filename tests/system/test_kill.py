"""kill -9 of any process at any point: afterwards every acknowledged image is there, and exactly the right results stand in the PACS.

`support.undisturbed` says how that is known.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.node_process import TestNode, to_orthanc
from support.orthanc import Orthanc, free_ports
from support.sending import PatientSender
from support.undisturbed import ONE_MODEL, Undisturbed, expect_nothing_lost, undisturbed

from radnode.faults import Point

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(600),
]

ROUNDS = int(os.environ.get("RADNODE_FAULT_ROUNDS", "0"))  # 0: each point once, by turns one process and the whole node
QUIET_S = 4.0  # longer than a restart takes: a sender that comes back in that time continues its study
LAST_PASS = {
    Point.MID_ASSOCIATION: 60,
    Point.FILE_BEFORE_ROW: 4,
    Point.COMPLETE_BEFORE_ROUTE: 1,
    Point.MID_INFERENCE: 2,
    Point.INFERRED_BEFORE_OUTBOX: 1,
    Point.MID_DELIVERY: 3,
}
"""How often a point is certainly passed while one small study goes its way: the crash is at one of these passes, by seed.

The other points lie beside that way: tests/node/test_fault_points.py."""
DEATHS = [(point, seed) for n, point in enumerate(LAST_PASS) for seed in (range(ROUNDS) if ROUNDS else [n % 2])]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, shared_pacs: Orthanc) -> Undisturbed:
    (found,) = undisturbed(tmp_path_factory.mktemp("undisturbed"), shared_pacs, [7])
    assert len(found.results) >= LAST_PASS[Point.MID_DELIVERY]  # the lesion was found, so there is a delivery to die in
    return found


@pytest.fixture
def empty_pacs(shared_pacs: Orthanc, reference: Undisturbed) -> Iterator[Orthanc]:
    yield shared_pacs
    shared_pacs.forget(reference.sample.study_uid)


def node_that_dies(folder: Path, pacs: Orthanc, fault: str) -> TestNode:
    """A node on a port that stays the same over restarts; `fault` is POINT:N or empty."""
    environment = {"RADNODE_FAULT": fault, "RADNODE_FAULT_ONCE": str(folder / "died")} if fault else {}
    (port,) = free_ports(1)
    return TestNode(
        folder,
        destinations=[to_orthanc(pacs)],
        quiet_s=QUIET_S,
        rules=ONE_MODEL,
        environment=environment,
        receive={"port": port, "processes": 2},
    )


def port_of(node: TestNode) -> int:
    """The configured port: known also while the node is down."""
    return int(node.settings["receive"]["port"])  # type: ignore[index]


@pytest.mark.parametrize(("point", "seed"), DEATHS)
def test_nothing_is_lost_or_doubled_when_a_process_dies_at(
    point: Point, seed: int, tmp_path: Path, empty_pacs: Orthanc, reference: Undisturbed
) -> None:
    """Even seeds kill the one process that passes the point; odd seeds take the whole node down with it, then start it again."""
    nth = random.Random(f"{point} {seed}").randint(1, LAST_PASS[point])
    everything = seed % 2 == 1
    with node_that_dies(tmp_path, empty_pacs, f"{point}:{nth}") as node:
        sender = PatientSender(lambda: port_of(node))
        if everything and point in (Point.MID_ASSOCIATION, Point.FILE_BEFORE_ROW):
            with sender.in_background(reference.sample.files):
                restart_after_death(node, tmp_path)
        else:
            sender.send(reference.sample.files)
            node.wait(f"a death at {point}:{nth}", (tmp_path / "died").exists, study_uid=reference.sample.study_uid)
            if everything:
                restart_after_death(node, tmp_path)
        expect_nothing_lost(node, sender, empty_pacs, reference)


def restart_after_death(node: TestNode, folder: Path) -> None:
    node.wait("the death of a process", (folder / "died").exists)
    node.kill()
    node.start()


@pytest.mark.parametrize("role", ["receive", "schedule", "work", "deliver", "web"])
def test_nothing_is_lost_or_doubled_when_a_role_is_killed_while_a_study_is_on_its_way(
    role: str, tmp_path: Path, empty_pacs: Orthanc, reference: Undisturbed
) -> None:
    files = reference.sample.files
    with node_that_dies(tmp_path, empty_pacs, "") as node:
        sender = PatientSender(lambda: port_of(node))
        sender.send(files[: len(files) // 2])
        node.kill_role(role)
        sender.send(files[len(files) // 2 :])
        expect_nothing_lost(node, sender, empty_pacs, reference)


def test_a_power_cut_while_the_quiet_timer_runs_does_not_make_a_part_look_complete(
    tmp_path: Path, empty_pacs: Orthanc, reference: Undisturbed
) -> None:
    files = reference.sample.files
    with node_that_dies(tmp_path, empty_pacs, "") as node:
        sender = PatientSender(lambda: port_of(node))
        sender.send(files[:20])
        node.kill()
        node.start()
        sender.send(files[20:])
        expect_nothing_lost(node, sender, empty_pacs, reference)
