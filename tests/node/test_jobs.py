import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.core import STUDY, Node
from support.results import Ended, four, record

from radnode import jobs
from radnode.errors import LostClaimError
from radnode.jobs import Job
from radnode.settings import Settings, Work
from radnode.states import JOB, JobState, StudyState
from radnode.states import STUDY as STUDY_LIFE
from radnode.tables import JobRow, StudyRow

WORK = Work(attempts=3, retry_s=10.0, lost_after_s=30.0)


def settled(node: Node) -> Settings:
    return node.settings.model_copy(update={"work": WORK})


def claim(node: Node, worker: str = "w", now: float = 10.0) -> Job:
    job = jobs.claim(node.database, worker, now)
    assert job is not None
    return job


def finish(node: Node, job: Job, state: JobState, now: float = 11.0) -> None:
    with node.database.transaction() as session:
        jobs.finish(session, job, state, "", now)


def test_every_step_of_a_job_is_allowed_exactly_where_the_table_says(node: Node) -> None:
    node.add_study()
    node.add_job()
    for old, new in itertools.product(JobState, JobState):
        node.set_job(1, old)
        with node.database.transaction() as session:
            if new in JOB[old]:
                assert jobs.move(session, 1, old, new)
                assert session.get_one(JobRow, 1, populate_existing=True).state == new
                assert not jobs.move(session, 1, old, new) or old == new
            else:
                with pytest.raises(ValueError, match="cannot go"):
                    jobs.move(session, 1, old, new)


def test_every_step_of_a_study_is_allowed_exactly_where_the_table_says(node: Node) -> None:
    node.add_study()
    for old, new in itertools.product(StudyState, StudyState):
        with node.database.transaction() as session:
            session.get_one(StudyRow, STUDY).state = old
            session.flush()
            if new in STUDY_LIFE[old]:
                assert jobs.move_study(session, STUDY, old, new)
                assert not jobs.move_study(session, STUDY, old, new)
            else:
                with pytest.raises(ValueError, match="cannot go"):
                    jobs.move_study(session, STUDY, old, new)


def test_the_most_urgent_job_is_claimed_first_then_the_one_that_waits_longest(node: Node) -> None:
    node.add_study()
    node.add_job("later", now=2.0)
    node.add_job("sooner", now=1.0)
    node.add_job("urgent", now=3.0, urgency=5)
    node.add_job("not-yet", now=99.0, urgency=9)
    assert [claim(node).model for _ in range(3)] == ["urgent", "sooner", "later"]
    assert jobs.claim(node.database, "w", 10.0) is None


def test_an_old_routine_job_goes_before_newer_urgent_ones(node: Node) -> None:
    """Nothing starves, however much urgent work arrives."""
    node.add_study()
    node.add_job("routine", now=0.0)
    node.add_job("urgent", now=jobs.URGENCY_S - 1, urgency=1)
    node.add_job("newer-urgent", now=jobs.URGENCY_S + 1, urgency=1)
    claimed = [jobs.claim(node.database, "w", 2 * jobs.URGENCY_S) for _ in range(3)]
    assert [job.model for job in claimed if job] == ["urgent", "routine", "newer-urgent"]


def test_no_job_is_claimed_twice_by_workers_that_race(node: Node) -> None:
    node.add_study()
    for number in range(24):
        node.add_job(f"m{number}")
    start = threading.Barrier(6)

    def work(worker: str) -> list[int]:
        start.wait()
        mine = []
        while (job := jobs.claim(node.database, worker, 10.0)) is not None:
            mine.append(job.id)
        return mine

    with ThreadPoolExecutor(6) as pool:
        claimed = [i for ids in pool.map(work, [f"w{n}" for n in range(6)]) for i in ids]
    assert sorted(claimed) == sorted(j.id for j in node.jobs())
    assert {j.attempt for j in node.jobs()} == {1}


def test_the_study_is_read_when_its_last_job_ends_also_when_two_end_at_once(node: Node) -> None:
    node.add_study()
    for model in ("a", "b"):
        node.add_job(model)
    both = [claim(node), claim(node)]
    start = threading.Barrier(2)

    def end(job: Job) -> None:
        start.wait()
        finish(node, job, JobState.DONE)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(end, both))
    assert node.study().state == StudyState.READ
    assert [e.action for e in node.story().events].count("read") == 1


def test_a_study_with_an_open_job_is_not_read(node: Node) -> None:
    node.add_study()
    node.add_job("a")
    node.add_job("b")
    finish(node, claim(node), JobState.DECLINED)
    assert node.study().state == StudyState.ROUTED


def test_a_heartbeat_keeps_a_job_and_tells_its_progress(node: Node) -> None:
    node.add_study()
    node.add_job()
    job = claim(node, now=10.0)
    jobs.beat(node.database, job, 0.4, 35.0)
    assert jobs.recover(node.database, settled(node), 60.0) == 0
    assert node.jobs()[0].progress == pytest.approx(0.4)


def test_a_job_whose_heartbeat_stops_is_given_to_another_and_the_first_can_end_nothing(node: Node) -> None:
    node.add_study()
    node.add_job()
    first = claim(node, "first", 10.0)
    assert jobs.recover(node.database, settled(node), 41.0) == 1
    second = claim(node, "second", 41.0)
    assert (second.id, second.attempt) == (first.id, 2)
    with pytest.raises(LostClaimError):
        jobs.beat(node.database, first, 0.9, 42.0)
    with pytest.raises(LostClaimError):
        finish(node, first, JobState.DONE)
    with pytest.raises(LostClaimError):
        jobs.try_again(node.database, first, settled(node), "late", 43.0)
    finish(node, second, JobState.DONE)
    assert node.jobs()[0].state is JobState.DONE


def test_a_job_that_loses_its_worker_too_often_fails_and_says_so(node: Node) -> None:
    node.add_study()
    node.add_job()
    for attempt in range(3):
        claim(node, now=100.0 * attempt + 100.0)
        assert jobs.recover(node.database, settled(node), 100.0 * attempt + 150.0) == 1
    job = node.jobs()[0]
    assert (job.state, job.attempt) == (JobState.FAILED, 3)
    assert job.reason == "its worker was lost (attempt 3 of 3)"
    assert node.study().state is StudyState.READ
    assert any(e.action == "failed" and "its worker was lost" in e.sentence for e in node.story().events)


def test_a_worker_that_starts_anew_frees_its_own_jobs_at_once_and_no_others(node: Node) -> None:
    node.add_study()
    node.add_job("a")
    node.add_job("b")
    claim(node, "mine")
    other = claim(node, "other")
    assert jobs.recover(node.database, settled(node), 10.5, worker="mine") == 1
    assert claim(node, "mine", 10.5).model == "a"
    jobs.beat(node.database, other, 0.1, 10.6)


def test_retries_wait_twice_as_long_each_time_and_end(node: Node) -> None:
    node.add_study()
    node.add_job()
    waits = []
    now = 10.0
    for _ in range(2):
        job = claim(node, now=now)
        assert jobs.try_again(node.database, job, settled(node), "it crashed", now) is JobState.QUEUED
        with node.database.reading() as session:
            waits.append(session.get_one(JobRow, job.id).due_at - now)
        assert jobs.claim(node.database, "w", now + waits[-1] - 0.1) is None
        now += waits[-1]
    assert waits == pytest.approx([10.0, 20.0])
    assert jobs.try_again(node.database, claim(node, now=now), settled(node), "it crashed", now) is JobState.FAILED


def test_a_job_given_back_by_a_stopping_worker_has_not_lost_an_attempt(node: Node) -> None:
    node.add_study()
    node.add_job()
    jobs.release(node.database, claim(node), "the worker was stopped", 11.0)
    assert claim(node, now=11.0).attempt == 1


def test_open_jobs_of_a_part_become_stale_and_a_running_one_is_lost_to_its_worker(node: Node) -> None:
    node.add_study()
    node.add_job("a")
    node.add_job("b")
    running = claim(node)
    with node.database.transaction() as session:
        assert jobs.make_stale(session, STUDY, 12.0) == 2
    assert {j.state for j in node.jobs()} == {JobState.STALE}
    with pytest.raises(LostClaimError):
        jobs.beat(node.database, running, 0.5, 13.0)


def test_an_earlier_report_does_not_stand_once_a_later_run_failed_for_good(node: Node) -> None:
    node.add_study()
    node.add_job("m")
    first = claim(node)
    finish(node, first, JobState.DONE)
    record(node.database, node.settings.data, Ended(id=first.id, study_uid=STUDY, model="m"), four(STUDY, "m"))
    node.add_job("m", revision=2)
    for attempt in (1, 2, 3):
        assert node.report_status() == "preliminary", attempt
        jobs.try_again(node.database, claim(node, now=1e3 * attempt), settled(node), "its process died", 1e3 * attempt)
    assert node.jobs()[1].state is JobState.FAILED
    assert node.report_status() == "entered-in-error"
    assert not any(r.current for r in node.story().results)
    assert "What m said is retracted (Rejected for Quality Reasons): a later run of the model failed." in [
        e.sentence for e in node.story().events
    ]


def test_a_study_that_no_model_was_to_read_says_so(node: Node) -> None:
    node.add_study()
    with node.database.transaction() as session:
        jobs.read_if_ended(session, STUDY, 1, 5.0)
    assert node.study().state is StudyState.READ
    assert node.story().events[-1].sentence == "No model was to read this study."
