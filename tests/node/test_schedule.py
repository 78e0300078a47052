import threading
import time
from pathlib import Path

import pytest
from support.core import STUDY, Node
from support.models import card

from radnode import pipeline
from radnode.database import Database
from radnode.engine import Engine
from radnode.schedule import Clock
from radnode.settings import Complete
from radnode.states import JobState, StudyState
from radnode.tables import JobRow
from radnode.work import Worker

CARDS = (card("ct-lung", "quick"),)


@pytest.fixture(autouse=True)
def children_find_the_test_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parent.parent))


def wait_for_state(node: Node, state: StudyState, revision: int = 1, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while True:
        with node.database.reading() as session:
            from radnode import studies

            found = studies.study(session, STUDY)
        if found is not None and (found.state, found.revision) == (state, revision):
            return
        assert time.monotonic() < end, f"it is {found}"
        time.sleep(0.05)


def test_a_study_goes_its_whole_way_by_the_clock_and_again_when_it_is_amended(node: Node) -> None:
    node.settings = node.settings.model_copy(update={"complete": Complete(quiet_s=0.3)})
    stop = threading.Event()
    database = Database(node.settings.url)
    with Engine(node.settings, reporter="support.models:report") as engine:
        worker = threading.Thread(target=Worker(node.settings, database, engine, cards=CARDS).run, args=(stop,))
        with Clock(node.settings, node.database, CARDS):
            worker.start()
            node.arrive(time.time())
            wait_for_state(node, StudyState.READ)
            node.arrive(time.time())
            wait_for_state(node, StudyState.READ, revision=2)
        stop.set()
        worker.join(60)
    database.close()
    story = node.story()
    assert [(j.revision, j.state) for j in story.jobs] == [(1, JobState.DONE), (2, JobState.DONE)]
    current = {r.model for r in story.results if r.current}
    assert current == {"ct-lung"} and sum(r.current for r in story.results) == 4
    assert [e.action for e in story.events if e.action in ("complete", "reopened", "done")] == [
        "complete",
        "done",
        "reopened",
        "complete",
        "done",
    ]


def test_a_crank_that_fails_does_not_stop_the_clock(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node.settings = node.settings.model_copy(update={"complete": Complete(quiet_s=0.1)})
    settle = pipeline.settle
    failures = iter([True, True])

    def failing(*arguments: object, **keywords: float) -> int:
        if next(failures, False):
            raise ConnectionError("the database is away")
        return settle(*arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "settle", failing)
    with caplog.at_level("INFO"), Clock(node.settings, node.database, CARDS):
        node.arrive(time.time())
        wait_for_state(node, StudyState.ROUTED)
    assert caplog.text.count("The crank `settle`: it fails and is tried again, ever more seldom (ConnectionError") == 1
    assert "The crank `settle`: it works again." in caplog.text


def test_the_clock_gives_the_jobs_of_silent_workers_to_others(node: Node) -> None:
    node.add_study()
    node.add_job()
    with node.database.transaction() as session:
        row = session.get_one(JobRow, 1)
        row.state, row.claimed_by, row.attempt, row.beat_at = JobState.RUNNING, "dead", 1, time.time() - 60
    with Clock(node.settings, node.database, CARDS):
        end = time.monotonic() + 60
        while node.jobs()[0].state is not JobState.QUEUED:
            assert time.monotonic() < end
            time.sleep(0.1)
