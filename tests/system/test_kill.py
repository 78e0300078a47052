"""kill -9 of any process at any point: afterwards every acknowledged image is there, and exactly the right results stand in the PACS.

Results have UIDs that depend on source, model and content only. So the objects that an undisturbed node makes of a study
are the ones that must stand in the PACS after a crash: one missing is a lost result, one more is a second current one
or one that was made from a part of the study.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.node_process import TestNode, to_orthanc
from support.orthanc import Orthanc, free_ports
from support.sending import PatientSender, dataset_bytes
from support.studies import Sample, small_breast

from radnode.faults import Point
from radnode.states import JobState
from radnode.tables import InstanceRow, JobRow, ResultRow

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(600),
    # pynetdicom does not close its socket when the other side dies while it connects.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]

ROUNDS = int(os.environ.get("RADNODE_FAULT_ROUNDS", "2"))
QUIET_S = 4.0  # longer than a restart takes: a sender that comes back in that time continues its study
LAST_PASS = {
    Point.MID_ASSOCIATION: 60,
    Point.FILE_BEFORE_ROW: 4,
    Point.COMPLETE_BEFORE_ROUTE: 1,
    Point.MID_INFERENCE: 2,
    Point.INFERRED_BEFORE_OUTBOX: 1,
    Point.MID_DELIVERY: 3,
}
"""How often a point is certainly passed while one small study goes its way: the crash is at one of these passes, by seed."""


ONE_MODEL = [
    {
        "name": "breast-mr",
        "models": ["mr-breast-kinetics"],
        "when": [{"attribute": "Modality", "test": "equals", "values": ["MR"]}],
    }
]


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """A study, and the SOP Instance UIDs of what a node that nobody killed made of it and delivered."""

    sample: Sample
    results: frozenset[str]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, shared_pacs: Orthanc) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    sample = small_breast(folder / "study", seed=7)
    with TestNode(folder, destinations=[to_orthanc(shared_pacs)], rules=ONE_MODEL) as node:
        PatientSender(lambda: node.receive_port).send(sample.files)
        jobs = node.wait_until_read(sample.study_uid)
        assert [j.state for j in jobs if j.state == JobState.DONE], node.story(sample.study_uid)
        node.wait_until_delivered(sample.study_uid)
        results = frozenset(shared_pacs.files(sample.study_uid))
    shared_pacs.forget(sample.study_uid)
    assert len(results) >= LAST_PASS[Point.MID_DELIVERY]  # the lesion was found, so there is a delivery to die in
    return Undisturbed(sample=sample, results=results)


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


def expect_nothing_lost(node: TestNode, sender: PatientSender, pacs: Orthanc, reference: Undisturbed) -> None:
    """The three promises, checked once everything has come to rest."""
    study_uid = reference.sample.study_uid
    node.wait(
        "the undisturbed results, and nothing else, in the PACS",
        lambda: reference.results <= pacs.files(study_uid).keys(),
        study_uid=study_uid,
        seconds=120,
    )
    node.wait_until_delivered(study_uid)
    assert pacs.files(study_uid).keys() == reference.results, node.story(study_uid)
    current = {r.uid for r in node.rows(ResultRow, study_uid=study_uid, current=True) if r.kind != "fhir"}
    assert current == reference.results, node.story(study_uid)
    done = [j for j in node.rows(JobRow, study_uid=study_uid) if j.state == JobState.DONE]
    assert len({(j.model, j.revision) for j in done}) == len({j.model for j in done}), node.story(study_uid)
    expect_every_acknowledged_image(node, sender, reference)


def expect_every_acknowledged_image(node: TestNode, sender: PatientSender, reference: Undisturbed) -> None:
    """On disk and indexed, byte for byte, each once."""
    stored = node.stored(reference.sample.study_uid)
    assert {uid: dataset_bytes(file) for uid, file in stored.items()} == sender.acknowledged
    rows = node.rows(InstanceRow, study_uid=reference.sample.study_uid)
    assert len(rows) == len(sender.acknowledged) == len(reference.sample.files)


@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize("point", list(Point))
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
