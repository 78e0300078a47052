"""The clock of the machine is set while the node works: nothing is taken for complete too early, nothing waits for ever."""

import errno
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import time_machine
from support.core import STUDY, Node

from radnode import clock, clock_belief, complete, evidence, retention, retention_rows, studies, turned_away
from radnode.breaker import LIMIT, Breaker
from radnode.pipeline import settle
from radnode.schedule import DOUBT_S, Clock
from radnode.settings import Complete
from radnode.states import DeliveryState, StudyState
from radnode.tables import JobRow, StudyRow
from radnode.tables_fhir import NotificationRow


def state(node: Node) -> str:
    with node.database.reading() as session:
        found = studies.study(session, STUDY)
    return "" if found is None else found.state


def wait_until_routed(node: Node) -> None:
    end = time.monotonic() + 120
    while state(node) not in (StudyState.ROUTED, StudyState.READ):
        assert time.monotonic() < end, f"it is {state(node)}"
        time.sleep(0.02)


def test_a_jump_is_noticed_once_and_small_corrections_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = SimpleNamespace(time=lambda: 1000.0, monotonic=lambda: 5.0)
    monkeypatch.setattr(clock, "time", shown)
    jumps = clock.Jumps()
    assert jumps.look() == 0.0
    shown.time, shown.monotonic = lambda: 8260.0, lambda: 65.0  # a minute later it is two hours ahead
    assert jumps.look() == 7200.0
    assert jumps.look() == 0.0
    shown.time = lambda: 1060.0
    assert jumps.look() == -7200.0
    shown.time = lambda: 1060.5
    assert jumps.look() == 0.0


def wait_until_seen(node: Node) -> None:
    end = time.monotonic() + 60
    while not state(node):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_clock_that_is_set_back_by_hours_holds_nothing_up(node: Node) -> None:
    """The scheduler goes by the wall clock: without help it would turn its next crank only in two hours."""
    node.settings = node.settings.model_copy(update={"complete": Complete(quiet_s=2.0)})
    with Clock(node.settings, node.database, ()):
        node.arrive(time.time())
        wait_until_seen(node)
        with time_machine.travel(datetime.now(UTC) - timedelta(hours=2)):
            wait_until_routed(node)


def test_a_clock_that_is_set_forward_does_not_make_a_part_look_complete(node: Node) -> None:
    node.settings = node.settings.model_copy(update={"complete": Complete(quiet_s=5.0)})
    with Clock(node.settings, node.database, ()):
        begun = time.monotonic()
        node.arrive(time.time())
        wait_until_seen(node)
        with time_machine.travel(datetime.now(UTC) + timedelta(days=1)):
            wait_until_routed(node)
            assert time.monotonic() - begun > 4.0


@pytest.mark.parametrize("hours", [24, -24])
def test_a_clock_that_is_set_in_the_middle_of_a_turn_makes_nothing_look_complete(
    node: Node, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Just after the turn has looked at the clock."""
    node.settings = node.settings.model_copy(update={"complete": Complete(quiet_s=600.0)})
    running = Clock(node.settings, node.database, ())
    node.arrive(time.time())
    set_to = time_machine.travel(datetime.now(UTC) + timedelta(hours=hours))
    monkeypatch.setattr(running, "look_at_the_clock", set_to.start)
    try:
        running.turn()
    finally:
        set_to.stop()
    assert state(node) == StudyState.RECEIVING


def test_a_clock_that_is_set_forward_by_years_deletes_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    monkeypatch.setattr(retention, "turn", lambda *_: turns.append("images"))
    monkeypatch.setattr(retention_rows, "turn", lambda *_: turns.append("rows"))
    running = Clock(node.settings, node.database, ())
    running.let_go()
    assert turns == ["images", "rows"]
    with time_machine.travel(datetime.now(UTC) + timedelta(days=3650)):
        running.look_at_the_clock()
        running.let_go()
        assert len(turns) == 2
    later = time.monotonic() + DOUBT_S
    monkeypatch.setattr(time, "monotonic", lambda: later)
    running.let_go()
    assert len(turns) == 4


def test_a_clock_that_is_wrong_when_the_node_begins_deletes_nothing_for_a_day(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when the node is started again within that day. What is said for a day is believed then, or nothing would ever go."""
    turns: list[str] = []
    monkeypatch.setattr(retention, "turn", lambda *_: turns.append("images"))
    monkeypatch.setattr(retention_rows, "turn", lambda *_: None)
    begun = datetime.now(UTC)

    def deletes(days: float) -> bool:
        before = len(turns)
        with time_machine.travel(begun + timedelta(days=days)):
            Clock(node.settings, node.database, ()).let_go()
        return len(turns) > before

    assert deletes(0)
    assert deletes(0.9)
    assert [deletes(days) for days in (3650, 3650.5, 3650.9)] == [False, False, False]
    assert caplog.text.count("Nothing is deleted by age until") == 3
    assert [deletes(days) for days in (1.0, 1.9, 2.1, 2.1 - 0.03, 2.0)] == [False, False, True, True, False]


def test_on_a_full_disk_the_clock_is_believed_so_that_something_can_go(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    now = time.time()
    assert clock_belief.look(node.database, node.settings, now) == ""
    monkeypatch.setattr(clock_belief, "write_json", full)
    assert clock_belief.look(node.database, node.settings, now + 60) == ""
    assert "is it right?" in clock_belief.look(node.database, node.settings, now + 90_000)


def test_where_nothing_was_seen_yet_the_newest_image_tells_that_the_clock_is_behind(node: Node) -> None:
    node.arrive(time.time())
    settle(node.database, node.settings, since=0.0)
    for hours, said in ((-0.5, False), (-24, True)):
        (node.settings.data / "run" / "clock.json").unlink(missing_ok=True)
        now = time.time() + hours * 3600
        assert ("is it right?" in clock_belief.look(node.database, node.settings, now)) == said


def test_what_waits_waits_no_longer_than_it_could_after_the_clock_was_set_back(node: Node) -> None:
    node.add_study()
    node.add_job()
    later = time.time() + 7200
    with node.database.transaction() as session:
        session.get_one(JobRow, 1).due_at = later
        session.get_one(JobRow, 1).beat_at = later
        row = {"subscription_id": "1", "kind": "Observation", "resource_id": "1", "state": DeliveryState.OWED}
        session.add(NotificationRow(**row, created_at=0.0, due_at=later, claimed_until=later))
    now = time.time()
    clock.put_right(node.database, node.settings, now=now)
    with node.database.reading() as session:
        job, owed = session.get_one(JobRow, 1), session.get_one(NotificationRow, 1)
        assert job.due_at <= now + 90 and job.beat_at is not None and job.beat_at <= now
        assert owed.due_at <= now + node.settings.deliver.retry_max_s
        assert owed.claimed_until <= now + clock.CLAIM_S


def test_what_was_said_before_the_clock_was_set_back_is_older_than_what_came_since(node: Node) -> None:
    now = time.time()
    node.arrive(now + 7200.0)
    complete.settle(node.database, node.settings, since=0.0, now=now + 7200.0)
    evidence.keep(node.database, STUDY, evidence.QUERY, "pacs", now + 7201.0, instances=1)
    turned_away.refused(node.database, "PACS", now + 7202.0, seated=True)
    clock.put_right(node.database, node.settings, now=now)
    turned_away.back(node.database, node.settings, "PACS", "127.0.0.1", now + 1.0)
    node.arrive(now + 2.0)
    complete.settle(node.database, node.settings, since=0.0, now=now + 2.0)
    with node.database.reading() as session:
        study = session.get_one(StudyRow, STUDY)
        assert evidence.missing(session, study, ("pacs",)).sentence == "pacs has not said how many images there are"


def test_every_time_to_come_of_the_tables_is_bounded() -> None:
    """A column that is added later is thought of here."""
    from radnode.settings import Settings
    from radnode.tables import Table

    known = {f"{c.class_.__tablename__}.{c.key}" for c, _ in clock.bounds(Settings())}
    names = {"due_at", "claimed_until", "alive_until", "beat_at"}
    found = {f"{t.name}.{c.name}" for t in Table.metadata.sorted_tables for c in t.columns if c.name in names}
    assert found - known == {f"{StudyRow.__tablename__}.due_at"}  # `complete.hold` gives studies theirs


def test_an_open_breaker_does_not_wait_for_a_clock_that_was_set_back(node: Node) -> None:
    breaker = Breaker("pacs", node.database, lambda _: 30.0)
    now = time.time()
    for _ in range(LIMIT):
        breaker.failed("away", now)
    assert not breaker.lets(now + 1)
    assert breaker.lets(now - 7200)
