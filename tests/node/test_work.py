import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from support.core import STUDY, Node
from support.models import card

from radnode import complete, jobs
from radnode.database import Database
from radnode.engine import Engine, warm_bytes
from radnode.engine_messages import Declined, Failed, Task
from radnode.settings import Destination, Settings, Work
from radnode.states import JobState, StudyState
from radnode.tables import DeliveryRow, ReportRow, ResultRow
from radnode.work import Worker
from radnode_inference.model import Availability, ModelCard

HABITS = ("quick", "sleepy", "held", "killed", "killed_once", "raising", "declining", "telling")
CARDS = (*(card(h, h) for h in HABITS), card("demo", "quick", Availability.DEMONSTRATION))
NEVER = threading.Event()


@pytest.fixture(autouse=True)
def children_find_the_test_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parent.parent))


def ready(node: Node, model: str, **work: Any) -> Node:
    """A study of three images that is routed to `model`; results go to a folder."""
    out = Destination(name="out", kind="folder", folder=node.settings.data / "out")
    sections = {"work": Work(**{"retry_s": 0.0, "beat_s": 0.1, "timeout_s": 250.0} | work), "destinations": (out,)}
    node.settings = node.settings.model_copy(update=sections)
    node.settings.weights_folder.mkdir()
    for at in range(3):
        node.arrive(float(at))
    complete.settle(node.database, node.settings, since=0.0, now=1.0)
    complete.complete(node.database, now=50.0)
    with node.database.transaction() as session:
        assert jobs.move_study(session, STUDY, StudyState.COMPLETE, StudyState.ROUTED)
    node.add_job(model)
    return node


def card_of(name: str) -> ModelCard:
    return next(c for c in CARDS if c.identity.name == name)


def engine_of(settings: Settings) -> Engine:
    return Engine(settings, reporter="support.models:report")


def turn(node: Node, times: int = 1, stop: threading.Event = NEVER) -> None:
    with engine_of(node.settings) as engine:
        for _ in range(times):
            assert Worker(node.settings, node.database, engine, "w", CARDS).turn(stop)


def rows(node: Node, table: Any) -> int:
    with node.database.reading() as session:
        return len(session.scalars(select(table)).all())


@pytest.fixture
def busy(node: Node) -> Iterator[Callable[[str], threading.Thread]]:
    """A worker that runs one job in a thread of its own, with its own database connections."""
    threads: list[threading.Thread] = []

    def start(worker: str) -> threading.Thread:
        def run() -> None:
            database = Database(node.settings.url)
            with engine_of(node.settings) as engine:
                Worker(node.settings, database, engine, worker, CARDS).turn(NEVER)
            database.close()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join(60)


def go(settings: Settings) -> None:
    """The model `held` may end."""
    (settings.weights_folder / "go").touch()


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def test_a_job_ends_with_results_a_report_and_an_outbox_in_one(node: Node) -> None:
    turn(ready(node, "quick"))
    story = node.story()
    assert [(j.state, j.attempt) for j in story.jobs] == [(JobState.DONE, 1)]
    assert story.study.state is StudyState.READ
    assert {r.kind for r in story.results} == {"sr", "seg", "key-image", "fhir"}
    assert {d.destination for d in story.deliveries} == {"out"} and len(story.deliveries) == 4
    assert rows(node, ReportRow) == 1
    assert all((node.settings.data / r.file).stat().st_size == r.size for r in story.results)
    assert [e.action for e in story.events][-3:] == ["started", "done", "read"]


def test_the_story_says_what_the_model_took_each_series_for(node: Node) -> None:
    turn(ready(node, "telling"))
    assert [e.sentence for e in node.story().events if e.action == "series"] == ["telling: series 1: the only one."]


def test_a_declined_job_is_never_tried_again_and_tells_gate_and_sentence(node: Node) -> None:
    turn(ready(node, "declining"))
    story = node.story()
    assert [(j.state, j.attempt) for j in story.jobs] == [(JobState.DECLINED, 1)]
    assert story.jobs[0].reason == "slice-gap: a slice is missing"
    assert any(e.sentence == "declining declined (slice-gap): a slice is missing" for e in story.events)
    assert [e.sentence for e in story.events if e.action == "series"] == [
        "declining: series 1: not used, a slice is missing."
    ]
    assert jobs.claim(node.database, "w", time.time() + 1e6) is None
    assert rows(node, ResultRow) == 0


def test_a_model_that_sleeps_is_ended_by_its_timeout_and_its_process_is_gone(node: Node) -> None:
    ready(node, "sleepy", timeout_s=3.0, attempts=1)
    turn(node)
    assert node.jobs()[0].state is JobState.FAILED
    assert node.jobs()[0].reason == "it took longer than 3 s and was stopped (attempt 1 of 1)"
    assert not [p for p in psutil.Process().children(recursive=True) if "radnode.engine_child" in p.cmdline()]


def test_a_model_whose_process_dies_is_tried_again_and_may_succeed(node: Node) -> None:
    turn(ready(node, "killed_once"), times=2)
    story = node.story()
    assert [(j.state, j.attempt) for j in story.jobs] == [(JobState.DONE, 2)]
    assert any(e.action == "retry" and "killed by signal 9 (SIGKILL)" in e.sentence for e in story.events)
    assert rows(node, ResultRow) == 4


def test_a_model_whose_process_always_dies_fails_in_the_end_and_says_why(node: Node) -> None:
    turn(ready(node, "killed", attempts=2), times=2)
    assert [(j.state, j.attempt) for j in node.jobs()] == [(JobState.FAILED, 2)]
    assert "SIGKILL" in node.jobs()[0].reason
    assert node.story().events[-2].action == "failed"


def test_a_model_that_raises_is_tried_again_in_a_fresh_process(node: Node) -> None:
    ready(node, "raising", attempts=2)
    with engine_of(node.settings) as engine:
        worker = Worker(node.settings, node.database, engine, "w", CARDS)
        assert worker.turn(NEVER)
        assert engine.warm == ()
        assert worker.turn(NEVER)
    assert node.jobs()[0].state is JobState.FAILED
    assert "RuntimeError: the model is broken" in node.jobs()[0].reason


def test_results_of_a_study_that_got_images_meanwhile_are_not_reported(
    node: Node, busy: Callable[[str], threading.Thread]
) -> None:
    ready(node, "held", beat_s=600.0)
    running = busy("w")
    wait_for((node.settings.weights_folder / "held.pid").exists)
    node.arrive(60.0)
    go(node.settings)
    running.join(60)
    assert node.jobs()[0].state is JobState.STALE
    assert (rows(node, ResultRow), rows(node, DeliveryRow), rows(node, ReportRow)) == (0, 0, 0)
    assert any(e.action == "stale" and "not reported" in e.sentence for e in node.story().events)


def test_a_running_job_of_a_reopened_study_is_stopped_at_its_next_heartbeat(
    node: Node, busy: Callable[[str], threading.Thread]
) -> None:
    ready(node, "sleepy")
    running = busy("w")
    wait_for(lambda: node.jobs()[0].state is JobState.RUNNING)
    node.arrive(60.0)
    complete.settle(node.database, node.settings, since=0.0, now=61.0)
    running.join(60)
    assert not running.is_alive()
    assert (node.study().revision, node.jobs()[0].state) == (2, JobState.STALE)
    assert rows(node, ResultRow) == 0


def test_a_result_that_came_back_from_the_pacs_meanwhile_makes_nothing_stale(
    node: Node, busy: Callable[[str], threading.Thread]
) -> None:
    ready(node, "quick")
    turn(node)
    own = next(r for r in node.story().results if r.kind == "sr")
    node.add_job("held")
    running = busy("w")
    wait_for((node.settings.weights_folder / "held.pid").exists)
    node.arrive(60.0, sop_uid=own.uid, Modality="SR")
    go(node.settings)
    running.join(60)
    assert [j.state for j in node.jobs()] == [JobState.DONE, JobState.DONE]


def test_a_job_whose_worker_falls_silent_is_done_once_by_another(
    node: Node, busy: Callable[[str], threading.Thread]
) -> None:
    ready(node, "held", beat_s=600.0, lost_after_s=0.2)
    note = node.settings.weights_folder / "held.pid"
    silent = busy("silent")
    wait_for(note.exists)
    note.unlink()
    time.sleep(0.3)
    assert jobs.recover(node.database, node.settings, time.time()) == 1
    another = busy("w")
    wait_for(note.exists)
    go(node.settings)
    for running in (silent, another):
        running.join(60)
    assert [(j.state, j.attempt) for j in node.jobs()] == [(JobState.DONE, 2)]
    assert rows(node, ResultRow) == 4 and rows(node, DeliveryRow) == 4


def test_a_stopping_worker_gives_its_job_back(node: Node, busy: Callable[[str], threading.Thread]) -> None:
    ready(node, "sleepy")
    stop = threading.Event()

    def stopping() -> None:
        wait_for(lambda: node.jobs()[0].state is JobState.RUNNING)
        stop.set()

    thread = threading.Thread(target=stopping)
    thread.start()
    turn(node, stop=stop)
    thread.join()
    assert [(j.state, j.attempt) for j in node.jobs()] == [(JobState.QUEUED, 0)]


def test_a_database_that_is_away_for_a_moment_ends_no_run(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(node, "held")
    beat, times = jobs.beat, []

    def away(*arguments: Any) -> None:
        times.append(arguments)
        if len(times) == 1:
            raise OperationalError("UPDATE", {}, Exception("the server closed the connection"))
        beat(*arguments)
        go(node.settings)

    monkeypatch.setattr(jobs, "beat", away)
    turn(node)
    assert len(times) > 1
    assert [(j.state, j.attempt) for j in node.jobs()] == [(JobState.DONE, 1)]


def test_an_error_at_the_end_of_a_job_is_told_and_tried_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(node, "quick", attempts=1)

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("radnode.results.record", full)
    turn(node)
    assert node.jobs()[0].state is JobState.FAILED
    assert "could not be recorded" in node.jobs()[0].reason
    assert rows(node, ResultRow) == 0


class TestEngine:
    """The engine alone, without a database."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        (tmp_path / "weights").mkdir()
        made = Settings(data=tmp_path, work=Work(timeout_s=250.0, beat_s=0.1))
        go(made)
        return made

    @pytest.fixture
    def task(self, tmp_path: Path) -> Task:
        from support.core import dataset, encoded

        (tmp_path / "1.dcm").write_bytes(encoded(dataset("1.2.3", "1.2.3.1")))
        return Task(data=tmp_path, files=("1.dcm",), previous=(), rules=None)

    def test_a_process_that_does_not_read_its_task_is_ended_by_the_timeout(
        self, settings: Settings, task: Task, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begin = subprocess.Popen

        def frozen(*given: Any, **named: Any) -> "subprocess.Popen[bytes]":
            process = begin(*given, **named)
            process.send_signal(signal.SIGSTOP)
            return process

        monkeypatch.setattr(subprocess, "Popen", frozen)
        large = Task(data=task.data, files=tuple(f"{n:0200d}.dcm" for n in range(5000)), previous=(), rules=None)
        beats: list[float] = []
        short = settings.model_copy(update={"work": Work(timeout_s=2.0, beat_s=0.1)})
        with engine_of(short) as engine:
            answer = engine.run(card_of("quick"), large, beats.append, lambda: False)
        assert isinstance(answer, Failed) and "it took longer than 2 s" in answer.sentence
        assert beats

    def test_a_model_stays_warm_in_one_process(self, settings: Settings, task: Task) -> None:
        with engine_of(settings) as engine:
            engine.run(card_of("held"), task, lambda _: None, lambda: False)
            first = (settings.weights_folder / "held.pid").read_text()
            engine.run(card_of("held"), task, lambda _: None, lambda: False)
            assert (settings.weights_folder / "held.pid").read_text() == first
            assert engine.warm == ("held",)
            assert psutil.pid_exists(int(first))
        assert not psutil.pid_exists(int(first))

    def test_the_least_recently_used_model_is_let_go_when_memory_is_short(self, settings: Settings, task: Task) -> None:
        small = settings.model_copy(update={"work": Work(warm_mb=1)})
        with engine_of(small) as engine:
            engine.run(card_of("held"), task, lambda _: None, lambda: False)
            engine.run(card_of("quick"), task, lambda _: None, lambda: False)
            assert engine.warm == ("quick",)

    def test_warm_models_share_the_memory_that_is_set(self, settings: Settings) -> None:
        assert warm_bytes(settings.model_copy(update={"work": Work(warm_mb=7)})) == 7 * 1024 * 1024
        assert warm_bytes(settings) == psutil.virtual_memory().total // 2

    def test_an_unreadable_stored_object_fails_the_run(self, settings: Settings, task: Task) -> None:
        (settings.data / "2.dcm").write_bytes(b"rotten")
        both = Task(data=task.data, files=("1.dcm", "2.dcm"), previous=(), rules=None)
        with engine_of(settings) as engine:
            answer = engine.run(card_of("quick"), both, lambda _: None, lambda: False)
        assert isinstance(answer, Failed) and "1 of 2 stored objects cannot be read" in answer.sentence

    def test_a_demonstration_model_declines_what_is_not_generated(self, settings: Settings, task: Task) -> None:
        with engine_of(settings) as engine:
            answer = engine.run(card_of("demo"), task, lambda _: None, lambda: False)
        assert isinstance(answer, Declined) and answer.gate == "not-installed"

    def test_a_model_without_weights_declines(self, settings: Settings, task: Task) -> None:
        with engine_of(settings) as engine:
            answer = engine.run(card("empty", "quick", Availability.NOT_INSTALLED), task, lambda _: None, lambda: False)
        assert answer == Declined(gate="not-installed", sentence="not installed: weights missing")

    def test_a_child_does_not_outlive_a_parent_that_is_killed(
        self, settings: Settings, task: Task, tmp_path: Path
    ) -> None:
        parent = os.fork()
        if parent == 0:
            engine_of(settings).run(card_of("sleepy"), task, lambda _: None, lambda: False)
            os._exit(0)
        found: list[psutil.Process] = []

        def children() -> bool:
            found[:] = psutil.Process(parent).children()
            return bool(found)

        wait_for(children)
        time.sleep(1.0)
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        wait_for(lambda: not found[0].is_running() or found[0].status() == psutil.STATUS_ZOMBIE)
