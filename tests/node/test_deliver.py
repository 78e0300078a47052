import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage
from sqlalchemy import delete, select
from support.delivering import delivering
from support.postgres import Postgres
from support.results import add_job, add_study, four, prepare, record
from support.storage_scp import storage_scp

from radnode import deliver
from radnode.database import Database
from radnode.outbox import Outbox
from radnode.resend import NOT_DEAD, send_again
from radnode.settings import Deliver, Destination, Settings
from radnode.tables import DeliveryRow, EventRow, ResultRow

STUDY = "1.2.3.4"
QUICK = Deliver(threads=2, timeout_s=60, retry_s=0.1, retry_max_s=0.4)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return ""
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.new_database()


def folder(tmp_path: Path, name: str) -> Destination:
    return Destination(name=name, kind="folder", folder=tmp_path / name)


class Node(Protocol):
    def __call__(self, *to: Destination, url: str = "", policy: Deliver = QUICK) -> tuple[Settings, Database]: ...


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Makes the settings and the database of a node with one study; closed at the end."""
    made: list[Database] = []

    def make(*to: Destination, url: str = "", policy: Deliver = QUICK) -> tuple[Settings, Database]:
        settings = Settings(data=tmp_path / "data", database_url=url, destinations=to, deliver=policy)
        made.append(prepare(settings))
        add_study(made[-1], STUDY)
        return settings, made[-1]

    yield make
    for database in made:
        database.close()


def owe(settings: Settings, database: Database, content: str = "A", study_uid: str = STUDY, **values: Any) -> None:
    job = add_job(database, study_uid, model=f"model-{content}")
    record(database, settings.data, job, four(study_uid, job.model, content), settings.destinations, **values)


def rows(database: Database, destination: str | None = None) -> list[DeliveryRow]:
    query = select(DeliveryRow).order_by(DeliveryRow.id)
    if destination:
        query = query.where(DeliveryRow.destination == destination)
    with database.reading() as session:
        return list(session.scalars(query))


def states(database: Database, destination: str | None = None) -> set[str]:
    return {row.state for row in rows(database, destination)}


def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_everything_owed_arrives_and_the_story_says_so(tmp_path: Path, node: Node, url: str) -> None:
    settings, database = node(folder(tmp_path, "out"), url=url)
    owe(settings, database)
    with delivering(settings):
        until(lambda: states(database) == {"delivered"})
        assert len(list((tmp_path / "out" / STUDY).iterdir())) == 4
        until(lambda: "4 results delivered to out." in story(database))
    assert all(row.delivered_at and not row.claimed_by for row in rows(database))


def story(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(EventRow.sentence).order_by(EventRow.id)))


def test_a_result_leaves_at_the_news_of_it_and_not_at_the_next_look(
    tmp_path: Path, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How soon that is, benchmarks/latency.py says."""
    monkeypatch.setattr(deliver, "LOOK_S", 600.0)
    settings, database = node(folder(tmp_path, "out"))
    with delivering(settings):
        for content in "ABCDE":
            owe(settings, database, content)
            until(lambda: states(database) == {"delivered"})


def test_objects_go_after_those_they_refer_to(tmp_path: Path, node: Node, url: str) -> None:
    settings, database = node(folder(tmp_path, "out"), url=url)
    owe(settings, database)
    batch = Outbox(database, settings.data).claim("out", time.time(), 5)
    assert batch is not None
    assert [d.kind for d in batch.deliveries] == ["seg", "key-image", "sr", "fhir"]


def test_one_worker_gets_a_study_and_the_other_nothing_until_the_lease_ends(
    tmp_path: Path, node: Node, url: str
) -> None:
    settings, database = node(folder(tmp_path, "out"), url=url)
    owe(settings, database, now=100.0)
    outbox = Outbox(database, settings.data)
    first = outbox.claim("out", 200.0, 10.0)
    assert first is not None
    assert outbox.claim("out", 209.0, 10.0) is None
    assert outbox.due(209.0) == frozenset()
    outbox.renew([first.token], 220.0)
    assert outbox.claim("out", 215.0, 10.0) is None
    second = outbox.claim("out", 221.0, 10.0)
    assert second is not None
    outbox.delivered(first.token, first.deliveries[0], "", 222.0)  # too late: the claim is another's
    assert states(database) == {"owed"}
    outbox.delivered(second.token, second.deliveries[0], "", 223.0)
    assert states(database) == {"owed", "delivered"}


def test_many_workers_at_once_claim_each_delivery_once(tmp_path: Path, node: Node, url: str) -> None:
    settings, database = node(folder(tmp_path, "out"), url=url)
    for n in range(12):
        add_study(database, f"1.2.{n}")
        owe(settings, database, study_uid=f"1.2.{n}")
    claimed: list[int] = []

    def work() -> None:
        outbox = Outbox(database, settings.data)
        while outbox.due(time.time()):
            batch = outbox.claim("out", time.time(), 60)
            claimed.extend(d.id for d in batch.deliveries if batch) if batch else None

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(row.id for row in rows(database))


def test_a_failure_is_tried_again_until_the_destination_is_back(tmp_path: Path, node: Node) -> None:
    (tmp_path / "out").write_text("in the way")
    settings, database = node(folder(tmp_path, "out"))
    owe(settings, database)
    with delivering(settings):
        until(lambda: min(row.attempt for row in rows(database)) >= 2)
        assert states(database) == {"owed"}
        assert all("cannot be written" in row.error for row in rows(database))
        (tmp_path / "out").unlink()
        until(lambda: states(database) == {"delivered"})
    assert story(database) == [
        "4 results could not be delivered to out; tried again until it works.",
        "4 results delivered to out.",
    ]


def test_a_stuck_destination_does_not_hold_up_another(tmp_path: Path, node: Node) -> None:
    with silent_server() as port:
        stuck = Destination(name="stuck", kind="fhir", url=f"http://127.0.0.1:{port}")
        policy = Deliver(threads=1, timeout_s=30, retry_s=0.1)
        settings, database = node(stuck, folder(tmp_path, "good"), policy=policy)
        for n in range(3):
            add_study(database, f"1.2.{n}")
            owe(settings, database, study_uid=f"1.2.{n}")
        with delivering(settings):
            until(lambda: states(database, "good") == {"delivered"})
            assert states(database, "stuck") == {"owed"}


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def test_after_days_it_is_dead_and_a_person_can_send_it_again(tmp_path: Path, node: Node, url: str) -> None:
    (tmp_path / "out").write_text("in the way")
    settings, database = node(folder(tmp_path, "out"), url=url)
    owe(settings, database, now=time.time() - 8 * 86400)
    with delivering(settings):
        until(lambda: states(database) == {"dead"})
        (tmp_path / "out").unlink()
        for row in rows(database):
            assert send_again(database, settings, row.id, time.time()) == ""
        until(lambda: states(database) == {"delivered"})
    assert send_again(database, settings, rows(database)[0].id, time.time()) == NOT_DEAD
    assert "The sr for out was given up: see its delivery." in story(database)


def test_a_dead_delivery_of_a_superseded_result_is_not_sent_again(tmp_path: Path, node: Node) -> None:
    settings, database = node(folder(tmp_path, "out"))
    owe(settings, database)
    with database.transaction() as session:
        for row in session.scalars(select(DeliveryRow)):
            row.state = "dead"
        for result in session.scalars(select(ResultRow)):
            result.current = False
    assert send_again(database, settings, rows(database)[0].id, 1.0) == NOT_DEAD
    assert states(database) == {"dead"}


def test_what_is_refused_for_good_is_dead_at_once_and_the_rest_goes(tmp_path: Path, node: Node) -> None:
    with storage_scp([Comprehensive3DSRStorage, SecondaryCaptureImageStorage]) as pacs:
        settings, database = node(pacs)
        owe(settings, database)
        with delivering(settings):
            until(lambda: "owed" not in states(database))
    with database.reading() as session:
        query = select(ResultRow.kind, DeliveryRow.state).join(ResultRow, ResultRow.uid == DeliveryRow.result_uid)
        assert {row.kind: row.state for row in session.execute(query)} == {
            "seg": "not-taken",
            "sr": "delivered",
            "key-image": "delivered",
        }


def test_a_file_that_is_gone_stays_owed_and_is_named(tmp_path: Path, node: Node) -> None:
    settings, database = node(folder(tmp_path, "out"))
    owe(settings, database)
    for file in (settings.data / "results").rglob("*.dcm"):
        file.unlink()
    with delivering(settings):
        until(lambda: max(row.attempt for row in rows(database)) >= 1)
    assert "owed" in states(database)
    assert any(row.error for row in rows(database))


def test_backoff_doubles_up_to_the_maximum() -> None:
    policy = Deliver(retry_s=5, retry_max_s=60)
    assert [deliver.backoff_s(policy, n, 0.0) for n in (1, 2, 3, 4, 5, 6, 5000)] == [5, 10, 20, 40, 60, 60, 60]
    assert deliver.backoff_s(policy, 2, 1.0) == 7.5


@pytest.mark.system
@pytest.mark.parametrize("nth", [1, 3])
def test_killed_in_mid_delivery_it_goes_on_where_it_was(tmp_path: Path, node: Node, nth: int, url: str) -> None:
    settings, database = node(folder(tmp_path, "out"), url=url)
    owe(settings, database)
    environment = {
        "RADNODE_FAULT": f"mid-delivery:{nth}",
        "RADNODE_FAULT_ONCE": str(tmp_path / "once"),
        "PATH": "",
    }
    code = (
        "import sys; from radnode import deliver; from radnode.settings import Settings;"
        "deliver.LEASE_S = 600.0; deliver.serve(Settings.model_validate_json(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, settings.model_dump_json()]
    killed = subprocess.run(command, env=environment, timeout=250, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "out" / STUDY).iterdir())) == nth
    assert sum(row.state == "delivered" for row in rows(database)) == nth - 1
    with delivering(settings):
        until(lambda: states(database) == {"delivered"})  # the lease of the dead is not waited for
    assert len(list((tmp_path / "out" / STUDY).iterdir())) == 4


def test_what_takes_a_result_back_is_not_overtaken_by_what_takes_its_place(
    tmp_path: Path, node: Node, url: str
) -> None:
    settings, database = node(folder(tmp_path, "out"), url=url)
    outbox = Outbox(database, settings.data)
    owe(settings, database, now=100.0)
    first = outbox.claim("out", 100.0, 10.0)
    assert first is not None
    outbox.postpone(first.token, first.deliveries, "no connection", 900.0)
    owe(settings, database, "B", now=200.0)
    second = outbox.claim("out", 200.0, 10.0)
    assert second is not None and len(second.deliveries) == 8, "what waits for another try goes with it, in order"
    outbox.give_back(second.token)
    with database.transaction() as session:
        session.execute(delete(DeliveryRow).where(DeliveryRow.due_at <= 200.0))
    assert outbox.claim("out", 300.0, 10.0) is None, "and waits its time when nothing new is owed"
