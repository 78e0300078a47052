"""Where a model has no result, or only half of one, destinations that asked for it get a visible object, and no other."""

import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from support.core import Node, opened
from support.findings import Scene, findings
from support.reading import NAME, work

from radnode import jobs
from radnode.outbox import Outbox
from radnode.settings import Destination, Settings, Work
from radnode.states import JobState
from radnode_inference.findings import Findings
from radnode_inference.model import DeclinedError

WANTS = Destination(name="wants", kind="folder", folder=Path("unused"), status_objects=True)
OTHER = Destination(name="other", kind="folder", folder=Path("unused"))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    settings = Settings(data=tmp_path / "data", destinations=(WANTS, OTHER), work=Work(attempts=1))
    with opened(settings) as made:
        yield made


def decline(node: Node, place: Scene, sentence: str = "a slice is missing") -> None:
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*_: object) -> Findings:
            raise DeclinedError("slice-gap", sentence)

        patch.setattr("support.reading.InProcess.read", refuse)
        work(node, place)


def owed(node: Node, place: Scene) -> set[tuple[str, str]]:
    deliveries = node.story(place.study.study_uid).deliveries
    return {(d.kind, d.destination) for d in deliveries if d.state == "owed"}


def statuses(node: Node, place: Scene) -> list[pydicom.Dataset]:
    results = [r for r in node.story(place.study.study_uid).results if r.current and r.kind == "status"]
    return [pydicom.dcmread(node.settings.data / r.file) for r in results]


def says(ds: pydicom.Dataset, words: str) -> bool:
    return any(words in str(element.value) for element in ds.iterall() if element.VR in ("LT", "UT"))


def test_a_declined_study_gets_a_report_and_a_page_where_they_are_wanted(node: Node, place: Scene) -> None:
    decline(node, place)
    assert node.jobs()[0].state is JobState.DECLINED
    assert owed(node, place) == {("status", "wants")}
    made = statuses(node, place)
    assert {ds.Modality for ds in made} == {"SR", "OT"}
    assert all(ds.StudyInstanceUID == place.study.study_uid and ds.PatientID == "PID-7" for ds in made)
    assert all(says(ds, "a slice is missing") for ds in made)


def test_a_failed_study_says_so_too(node: Node, place: Scene) -> None:
    job = jobs.claim(node.database, "w", time.time())
    assert job is not None
    jobs.try_again(node.database, job, node.settings, "its process died", time.time())
    assert node.jobs()[0].state is JobState.FAILED
    assert owed(node, place) == {("status", "wants")}
    assert all(says(ds, "its process died") for ds in statuses(node, place))


def test_a_partial_result_comes_with_its_status(node: Node, place: Scene) -> None:
    work(node, place, findings(place, partial_because="Series 5 was not sent."))
    kinds = owed(node, place)
    assert ("status", "wants") in kinds and ("status", "other") not in kinds
    assert {("sr", "wants"), ("sr", "other")} <= kinds


def test_a_withheld_result_is_a_failure_to_those_who_want_to_know(
    node: Node, place: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radnode.report.check", lambda *_: ("a rule is broken",))
    work(node, place)
    assert node.jobs()[0].state is JobState.HELD
    assert owed(node, place) == {("status", "wants")}
    assert all(says(ds, "Its result is withheld: a rule is broken.") for ds in statuses(node, place))


def test_a_study_that_was_read_whole_has_no_status(node: Node, place: Scene) -> None:
    work(node, place)
    assert "status" not in {kind for kind, _ in owed(node, place)}


def test_a_result_takes_back_the_status_that_was_delivered(node: Node, place: Scene) -> None:
    decline(node, place)
    send_all(node)
    jobs.rerun(node.database, place.study.study_uid, NAME, time.time())
    work(node, place)
    assert statuses(node, place) == []
    assert ("rejection", "wants") in owed(node, place)
    states = {d.state for d in node.story(place.study.study_uid).deliveries if d.kind == "status"}
    assert states == {"retracted"}


def test_another_reason_takes_the_place_of_the_first(node: Node, place: Scene) -> None:
    decline(node, place)
    jobs.rerun(node.database, place.study.study_uid, NAME, time.time())
    decline(node, place, "the images are rotated")
    assert all(says(ds, "the images are rotated") for ds in statuses(node, place))
    assert len(statuses(node, place)) == 2
    assert owed(node, place) == {("status", "wants")}


def send_all(node: Node) -> None:
    """Everything owed is delivered."""
    box = Outbox(node.database, node.settings.data)
    for destination in ("wants", "other"):
        while batch := box.claim(destination, time.time(), 10.0):
            for delivery in batch.deliveries:
                box.delivered(batch.token, delivery, "", time.time())
