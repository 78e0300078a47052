"""kill -9 where no study on its way passes by: commitments, fetches, what is superseded, retracted and let go.

Each case runs in a forked process that must die at the point; then the same is done once more, as by the next process.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock, patch

import pytest
from sqlalchemy import select, update
from support.objects import encoded, image
from support.results import add_job, add_study, four, prepare, record
from support.store import arrival_of

from radnode import commitment, fetches, results, retention, retract
from radnode.commit_ask import Asker
from radnode.database import Database
from radnode.destinations.commit_data import event_information
from radnode.destinations.dimse_fetch import Brought
from radnode.faults import Point
from radnode.fetch_run import Fetcher
from radnode.outbox import Outbox
from radnode.peers.table import Peer
from radnode.settings import Deliver, Destination, Retention, Settings
from radnode.states import StudyState
from radnode.store import Store
from radnode.tables import DeliveryRow, InstanceRow, ResultRow
from radnode.tables_pacs import CommitmentRow, FetchRow

STUDY = "1.2.3.4"
SOON = 1e11
"""A moment when everything is due."""
POLICY = Deliver(commit_wait_s=1.0)
PEER = Peer(name="away", ae_title="AWAY", address="127.0.0.1", port=104, may=("retrieve",))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    to = Destination(name="pacs", kind="dimse", host="127.0.0.1", port=1)
    made = Settings(data=tmp_path / "data", destinations=(to,), deliver=POLICY)
    prepare(made).close()
    return made


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    made = Database(settings.url)
    yield made
    made.close()


def die(settings: Settings, folder: Path, point: Point, act: Callable[[Database], object]) -> None:
    """Do `act` in a process of its own, which must be killed at `point`."""
    child = os.fork()
    if child == 0:
        try:
            os.environ |= {"RADNODE_FAULT": f"{point}:1", "RADNODE_FAULT_ONCE": str(folder / "once")}
            act(Database(settings.url))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"nothing died at {point}"


def deliver_all(settings: Settings, database: Database) -> tuple[commitment.Unproven, ...]:
    """Everything owed is at the PACS; what it is to be asked about."""
    outbox = Outbox(database, settings.data)
    batch = outbox.claim("pacs", SOON, 60.0)
    assert batch is not None
    for delivery in batch.deliveries:
        outbox.delivered(batch.token, delivery, "", time.time(), commits=True)
    return commitment.due(database, "pacs", SOON)


def read(settings: Settings, database: Database) -> None:
    add_study(database, STUDY)
    record(database, settings.data, add_job(database, STUDY), four(STUDY), settings.destinations)


def column(database: Database, of: object) -> set[object]:
    with database.reading() as session:
        return set(session.scalars(select(of)))  # type: ignore[call-overload]


def test_killed_before_a_commitment_is_asked_for_it_is_asked_for_again(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    read(settings, database)
    items = deliver_all(settings, database)

    def ask(own: Database) -> None:
        Asker(settings, settings.destinations[0], own)._commit(Mock(), items)

    die(settings, tmp_path, Point.COMMITMENT_ASKED, ask)
    assert column(database, CommitmentRow.state) == {"asked"} and not commitment.due(database, "pacs", SOON)
    assert commitment.expire(database, "pacs", SOON) == 3
    assert {i.uid for i in commitment.due(database, "pacs", SOON)} == {i.uid for i in items}


def test_killed_while_an_answer_is_written_it_counts_when_it_comes_again(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    read(settings, database)
    items = deliver_all(settings, database)
    commitment.asked(database, items, "1.2.9", 1.0, SOON)
    answer = event_information("1.2.9", {i.uid: i.sop_class_uid for i in items}, {})
    die(settings, tmp_path, Point.COMMITMENT_ANSWERED, lambda own: commitment.heard(own, POLICY, answer, 2.0))
    assert column(database, CommitmentRow.state) == {"asked"}
    assert commitment.heard(database, POLICY, answer, 3.0) == 3
    assert column(database, CommitmentRow.state) == {"committed"}


@pytest.mark.parametrize("point", (Point.FETCH_CLAIMED, Point.FETCHED_BEFORE_DONE))
def test_killed_in_a_fetch_the_next_process_fetches_at_once(
    settings: Settings, database: Database, tmp_path: Path, point: Point
) -> None:
    with database.transaction() as session:
        fetches.want(session, STUDY, "away", fetches.HAND, "anna", 1.0)

    def fetch(own: Database) -> None:
        came = patch("radnode.fetches.here", Mock(return_value=3))
        with (
            came,
            patch("radnode.fetch_run.fetch", Mock(return_value=Brought(many=3))),
            patch("radnode.fetch_run.Store"),
        ):
            Fetcher(settings, own).work_off("away", PEER)

    die(settings, tmp_path, point, fetch)
    assert column(database, FetchRow.state) == {"running"}
    assert not fetches.waiting(database, time.time())  # its lease has not ended
    assert fetches.release_lost(database) == 1
    fetch(database)
    assert column(database, FetchRow.state) == {"done"} and column(database, FetchRow.instances) == {3}


def test_killed_while_results_are_superseded_the_earlier_stand_until_it_is_done(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    read(settings, database)
    items = deliver_all(settings, database)
    first = column(database, ResultRow.uid)
    job = add_job(database, STUDY, revision=2)
    stored = results.write_files(settings.data, four(STUDY, content="B"))

    def supersede(own: Database) -> None:
        with own.transaction() as session:
            results.record(session, job, stored, settings.destinations, 9.0)

    die(settings, tmp_path, Point.SUPERSEDED, supersede)
    assert column(database, ResultRow.uid) == first and column(database, ResultRow.current) == {True}
    assert {i.uid for i in commitment.due(database, "pacs", SOON)} == {i.uid for i in items}
    supersede(database)
    with database.reading() as session:
        assert set(session.scalars(select(ResultRow.uid).where(ResultRow.current))) == {r.uid for r in stored}
    assert not commitment.due(database, "pacs", SOON)


def test_killed_while_results_are_taken_back_they_stand_until_it_is_done(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    read(settings, database)
    deliver_all(settings, database)

    def take_back(own: Database) -> tuple[str, ...]:
        return retract.by_person(own, settings, STUDY, "", "quality", "", 9.0)

    die(settings, tmp_path, Point.RETRACTED, take_back)
    assert column(database, ResultRow.current) == {True} and column(database, DeliveryRow.state) == {"delivered"}
    assert take_back(database) == ("ct-lung",)
    assert take_back(database) == ()
    with database.reading() as session:
        kinds = session.scalars(select(ResultRow.kind).where(ResultRow.current)).all()
    assert kinds == ["rejection"] and column(database, DeliveryRow.state) == {"retracted", "owed"}


def test_killed_between_the_rows_and_the_files_of_images_that_go_the_next_process_deletes_them(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    store, ds = Store(settings, Database(settings.url)), image()
    store.put(arrival_of(ds), [encoded(ds)])
    store.close()
    with database.transaction() as session:
        session.execute(update(InstanceRow).values(settled=True))
    uid = str(ds.StudyInstanceUID)
    add_study(database, uid, state=StudyState.READ, modalities="CT", instances=1)
    keeping = settings.model_copy(update={"retention": Retention(delete=True, keep_days=1)})
    folder = settings.data / "objects" / uid
    now = time.time()
    die(settings, tmp_path, Point.ROWS_GONE_BEFORE_FILES, lambda own: retention.turn(own, keeping, now))
    assert column(database, InstanceRow.gone_at) == {now} and list(folder.rglob("*.dcm"))
    retention.sweep(database, keeping)
    assert not list(folder.rglob("*.dcm"))
