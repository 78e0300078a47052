"""Recorded traffic: what was known of each study at each moment of the past, and from when it waited."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.findings import MODEL, Scene, findings, lesion, scene
from support.results import add_job, add_study, prepare, record

from radnode import report, results, retract
from radnode.database import Database
from radnode.settings import Settings
from radnode.simulation import recorded
from radnode.simulation.room import Room, by_worklist, known
from radnode.simulation.traffic import Arrival, Description
from radnode.triage import DEFAULT_POLICY, Level
from radnode_inference.findings import Code

EMBOLISM = Code(value="59282003", scheme="SCT", meaning="Pulmonary embolism")
FIRST, LAST = 1000.0, 1060.0
FLAGGED, AMENDED, CLEARED, HURRIED, RETRACTED = 1100.0, 3000.0, 5000.0, 6000.0, 7000.0


class Node:
    """A node that got reports of one study, each at its time."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data=folder / "data")
        self.database: Database = prepare(self.settings)
        self.scene: Scene = scene(folder / "images", shape=(2, 8, 8))
        self.uid = self.scene.study.study_uid
        add_study(self.database, self.uid, state="read", first_instance_at=FIRST, last_instance_at=LAST)

    def says(self, model: str, at: float, concept: Code | None, previous: bool = False) -> None:
        items = (lesion(self.scene, "f", (0, 0, 0), 2, concept=concept, probability=0.9),) if concept else ()
        said = findings(self.scene, items, model=replace(MODEL, name=model, demonstration=False))
        with self.database.reading() as session:
            before = results.previous(session, self.uid, model) if previous else ()
        made = report.results(said, self.scene.study, previous=before)
        job = add_job(self.database, self.uid, model, revision=2 if previous else 1, state="done")
        record(self.database, self.settings.data, job, list(made), now=at)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("node"))
    made.says("fast", FLAGGED, EMBOLISM)
    made.says("fast", AMENDED, None, previous=True)
    made.says("slow", CLEARED, None)
    made.says("third", HURRIED, Code(value="27925004", scheme="SCT", meaning="Nodule"))
    retract.by_person(made.database, made.settings, made.uid, "third", "quality", "", RETRACTED)
    yield made
    made.database.close()


def arrival(node: Node) -> Arrival:
    [came] = recorded.recorded(node.database, DEFAULT_POLICY, 0.0)
    return came.arrival(600.0)


def test_a_flag_counts_from_its_own_report_on_and_until_it_was_amended_away(node: Node) -> None:
    """Not from the slowest model's report, and not as the reports stand today."""
    study = arrival(node)
    levels = {at: known(study, at).level for at in (FLAGGED - 1, FLAGGED, AMENDED, CLEARED, HURRIED, RETRACTED)}
    assert levels == {
        FLAGGED - 1: Level.ROUTINE,
        FLAGGED: Level.STAT,
        AMENDED: Level.ROUTINE,
        CLEARED: Level.ROUTINE,
        HURRIED: Level.HIGH,
        RETRACTED: Level.ROUTINE,
    }
    assert (study.flag.level, study.flagged_at_s) == (Level.STAT, FLAGGED), "its class is the highest that it had"
    assert known(study, RETRACTED).reason == "No finding by AI [fast, slow]"


def test_a_study_waits_from_its_first_image_and_is_read_after_its_last(node: Node) -> None:
    assert (arrival(node).waits_from_s, arrival(node).at_s) == (FIRST, LAST)
    [read] = Room([arrival(node)], 1, by_worklist()).run()
    assert read.wait_s == LAST - FIRST
    [came] = recorded.recorded(node.database, DEFAULT_POLICY, 0.0)
    [really] = recorded.as_it_was([replace(came, read_at=4000.0)], Description(reading_min=10))
    assert really.wait_s == 4000 - FIRST - 600


def test_a_flag_amended_away_before_a_reader_is_free_hurries_nobody(node: Node) -> None:
    def read(busy_until: float) -> list[Arrival]:
        busy = Arrival(at_s=FIRST - 100, reading_s=busy_until - FIRST + 100)
        earlier = Arrival(at_s=FIRST - 50, reading_s=60)
        return [r.arrival for r in Room([busy, earlier, arrival(node)], 1, by_worklist()).run()][1:]

    assert [a.reading_s for a in read(FLAGGED + 10)] == [600, 60]
    assert [a.reading_s for a in read(AMENDED + 10)] == [60, 600]
