"""The same store on PostgreSQL, with four processes' worth of connections."""

import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from support.objects import encoded, image
from support.postgres import Postgres
from support.store import arrival_of, files, forget_rows, rows

from radnode.database import Database
from radnode.errors import StoreError
from radnode.settings import Receive, Settings
from radnode.store import Store
from radnode.store_recover import recover
from radnode.tables import Table


@pytest.mark.system
def test_objects_conflicts_and_recovery_are_the_same_on_postgresql(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    settings = Settings(data=tmp_path / "data", database_url=url, receive=Receive(disk_free_min_mb=0))
    first = Database(url)
    Table.metadata.create_all(first.engine)
    stores = [Store(settings, Database(url)) for _ in range(4)]
    objects = [image(seed=n) for n in range(8)]
    failures: list[BaseException] = []

    def send(store: Store) -> None:
        try:
            for ds in objects:
                store.put(arrival_of(ds), [encoded(ds)])
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=send, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(rows(stores[0])) == len(files(stores[0])) == 8
    ds = objects[0]
    ds.PatientID = "CHANGED"
    stores[1].put(arrival_of(ds), [encoded(ds)])
    assert sorted(r.current for r in rows(stores[0]) if r.sop_uid == ds.SOPInstanceUID) == [False, True]
    forget_rows(stores[2])
    assert recover(stores[2], stores[2].database).indexed == 9
    for store in stores:
        store.close()
    first.close()


def broken(commit: Callable[[psycopg.Connection], None], *, committed: bool) -> Callable[[psycopg.Connection], None]:
    """A commit whose connection breaks: after the server has done it, or before."""

    def fail(connection: psycopg.Connection) -> None:
        if committed:
            commit(connection)
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    return fail


@pytest.mark.system
@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_that_was_not_answered_leaves_no_row_without_its_file(
    committed: bool, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new_database()
    settings = Settings(data=tmp_path / "data", database_url=url, receive=Receive(disk_free_min_mb=0))
    store = Store(settings, Database(url))
    Table.metadata.create_all(store.database.engine)
    ds = image(seed=1)
    with monkeypatch.context() as wire:
        wire.setattr(psycopg.Connection, "commit", broken(psycopg.Connection.commit, committed=committed))
        with pytest.raises(StoreError, match="index of the node"):
            store.put(arrival_of(ds), [encoded(ds)])
    assert len(files(store)) == 1, "the sender may have given it up, and its row may stand"
    assert recover(store, store.database).missing == ()
    assert len(rows(store)) == 1
    store.put(arrival_of(ds), [encoded(ds)])  # as most senders do
    assert (len(rows(store)), len(files(store))) == (1, 1)
    store.close()
