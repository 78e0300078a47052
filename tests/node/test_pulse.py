"""A loop looks soon after a write, and now and then without one; nothing that is written is missed."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from radnode.database import Database
from radnode.pulse import Pulse

LONG_S = 3600.0


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    with made.transaction() as session:
        session.execute(text("CREATE TABLE news (n INTEGER)"))
    yield made
    made.close()


def write(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("INSERT INTO news VALUES (1)"))


def test_it_is_time_at_first_and_after_every_write(database: Database) -> None:
    with Pulse(database, LONG_S) as pulse:
        assert pulse.due()
        if database.engine.dialect.name == "sqlite":  # the others cannot be asked cheaply: always time
            assert not pulse.due()
        for _ in range(20):
            write(database)
            assert pulse.due()


def test_a_write_during_a_look_calls_for_another(database: Database) -> None:
    with Pulse(database, LONG_S) as pulse:
        assert pulse.due()
        write(database)  # after the version was read, while the loop looks
        assert pulse.due()


def test_without_a_write_it_is_time_now_and_then(database: Database) -> None:
    with Pulse(database, 0.0) as pulse:
        assert pulse.due() and pulse.due()


def test_waiting_ends_with_a_write_and_with_a_stop(database: Database) -> None:
    stop, looks = threading.Event(), threading.Semaphore(0)

    def loop() -> None:
        with Pulse(database, LONG_S) as pulse:
            while pulse.wait(stop, 0.01):
                looks.release()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        assert looks.acquire(timeout=60)
        write(database)
        assert looks.acquire(timeout=60)
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def test_a_database_that_is_gone_is_looked_at_and_not_made_anew(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'none.db'}")
    with Pulse(database, LONG_S) as pulse:
        assert pulse.due() and pulse.due()
    assert not (tmp_path / "none.db").exists()
    database.close()
