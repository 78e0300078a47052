"""A destination that is down or stuck: it is left alone for a while, costs the others nothing, and gets all once it is back."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select
from support.delivering import delivering
from support.orthanc import free_ports
from support.pacs_scp import pacs_scp
from support.results import add_job, add_study, four, prepare, record

from radnode import breaker, outbox, resend
from radnode.breaker import LIMIT, Breaker
from radnode.database import Database
from radnode.settings import Deliver, Destination, Settings
from radnode.tables import DeliveryRow

POLICY = Deliver(threads=4, timeout_s=60, retry_s=0.2, retry_max_s=0.4)


def until(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.02)


@contextmanager
def owing(tmp_path: Path, studies: int, *to: Destination) -> Iterator[tuple[Settings, Database]]:
    settings = Settings(data=tmp_path / "data", destinations=to, deliver=POLICY)
    database = prepare(settings)
    for n in range(studies):
        uid = f"1.2.{n + 1}"
        add_study(database, uid)
        record(database, settings.data, add_job(database, uid), four(uid), settings.destinations)
    try:
        yield settings, database
    finally:
        database.close()


def states(database: Database, destination: str) -> set[str]:
    with database.reading() as session:
        return set(session.scalars(select(DeliveryRow.state).where(DeliveryRow.destination == destination)))


def test_it_opens_after_failures_in_a_row_and_lets_one_try_at_a_time(tmp_path: Path) -> None:
    with owing(tmp_path, 0) as (_, database):
        one = Breaker("pacs", database, lambda failures: 10.0 * failures)
        for n in range(LIMIT - 1):
            one.failed("no connection", 100.0 + n)
            assert one.lets(100.0 + n)
        one.failed("no connection", 110.0)
        assert not one.lets(119.9)
        assert one.lets(120.1) and not one.lets(120.1)
        one.failed("no connection", 121.0)
        with database.reading() as session:
            seen = breaker.outages(session)["pacs"]
        assert (seen.failures, seen.since, seen.until, seen.error) == (LIMIT + 1, 100.0, 141.0, "no connection")
        assert one.lets(141.1) and one.worked() and one.lets(141.2)
        assert not one.worked()
        with database.reading() as session:
            assert breaker.outages(session) == {}


def test_a_pacs_that_comes_back_gets_everything_at_once(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    away = Destination(name="pacs", kind="dimse", host="127.0.0.1", port=port, commitment="off")
    with owing(tmp_path, 6, away) as (settings, database), delivering(settings):

        def outage() -> int:
            with database.reading() as session:
                found = breaker.outages(session).get("pacs")
            return found.failures if found else 0

        until(lambda: outage() >= LIMIT, "the breaker")
        assert states(database, "pacs") == {"owed"}
        with pacs_scp(None, port=port) as pacs:
            until(lambda: states(database, "pacs") == {"delivered"}, "delivery after the outage")
            assert len(pacs.stored) == 18
        until(lambda: outage() == 0, "the breaker to close")
        with database.reading() as session:
            assert outbox.counts(session)["pacs"] == outbox.Count(unproven=18)


def test_a_stuck_destination_holds_up_no_other(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf, pacs_scp(lambda _: 0) as pacs:
        stuck = Destination(name="stuck", kind="dimse", host="127.0.0.1", port=deaf.getsockname()[1])
        well = Destination(name="well", kind="dimse", host="127.0.0.1", port=pacs.port)
        with owing(tmp_path, 5, stuck, well) as (settings, database), delivering(settings):
            until(lambda: states(database, "well") == {"delivered"}, "delivery beside a stuck one")
            until(lambda: len({u for a in pacs.asked for u in a}) == 15, "storage commitment beside a stuck one")
            assert states(database, "stuck") == {"owed"}


def test_what_was_given_up_is_counted_and_sent_again_at_one_word(tmp_path: Path) -> None:
    out = Destination(name="out", kind="folder", folder=tmp_path / "out")
    with owing(tmp_path, 2, out) as (settings, database):
        with database.transaction() as session:
            for row in session.scalars(select(DeliveryRow)):
                row.state, row.error = "dead", "refused"
        with database.reading() as session:
            assert outbox.counts(session)["out"] == outbox.Count(dead=8)
        assert {d.error for d in outbox.dead(database)} == {"refused"}
        assert resend.send_all_again(database, settings, "elsewhere", 1.0) == ()
        assert resend.send_all_again(database, settings, "out", 1.0) == ("",) * 8
        with delivering(settings):
            until(lambda: states(database, "out") == {"delivered"}, "another delivery")


def test_a_failure_that_is_written_late_does_not_outlast_the_success_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lanes: one counted the last failure and waits for the database, the other has delivered by then."""
    with owing(tmp_path, 0) as (_, database):
        one = Breaker("pacs", database, lambda _: 1.0)
        for n in range(LIMIT - 1):
            one.failed("away", float(n))
        begun, on, transaction = threading.Event(), threading.Event(), database.transaction

        def late() -> object:
            if threading.current_thread() is lane:
                begun.set()
                assert on.wait(60)
            return transaction()

        monkeypatch.setattr(database, "transaction", late)
        lane = threading.Thread(target=one.failed, args=("away", float(LIMIT)))
        lane.start()
        assert begun.wait(60)
        delivered = threading.Thread(target=one.worked)
        delivered.start()
        until(lambda: one.lets(float(LIMIT)), "the success")
        on.set()
        lane.join(60)
        delivered.join(60)
        with database.reading() as session:
            assert breaker.outages(session) == {}
