"""What a start puts right after a crash, and what it tells."""

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from pydicom import Dataset
from sqlalchemy import delete, select, update
from support.objects import dataset_of, encoded, image
from support.receiver import wait_until
from support.store import arrival_of, files, forget_rows, open_store, rows, settings_for

from radnode.errors import StoreError
from radnode.store import Instance, Store
from radnode.store_checkpoint import MARGIN_S
from radnode.store_recover import Recovery, recover
from radnode.tables import EventRow, InstanceRow


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(settings_for(tmp_path / "data"))
    yield store
    store.close()


def test_a_file_without_a_row_is_indexed_as_it_would_have_been(store: Store) -> None:
    ds = image()
    kept = store.put(arrival_of(ds), [encoded(ds)])
    (before,) = rows(store)
    forget_rows(store)
    assert recover(store, store.database).indexed == 1
    (after,) = rows(store)
    for name in ("sop_uid", "sha256", "study_uid", "series_uid", "calling_ae", "called_ae", "file", "size", "current"):
        assert getattr(after, name) == getattr(before, name), name
    assert kept.file.exists()
    assert recover(store, store.database).indexed == 0


def test_a_half_written_file_is_deleted_but_not_one_being_written(store: Store) -> None:
    (store.incoming / "1-2-3.part").write_bytes(b"half")
    ds = image()
    upload = store.begin(arrival_of(ds))
    upload.write(encoded(ds))
    assert recover(store, store.database).swept == 1
    assert upload.finish().file.exists()
    assert list(store.incoming.iterdir()) == []


def test_a_file_that_is_not_whole_and_has_no_row_is_left_and_told(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    ds = image()
    kept = store.put(arrival_of(ds), [encoded(ds)])
    forget_rows(store)
    os.truncate(kept.file, kept.file.stat().st_size // 2)
    with caplog.at_level(logging.ERROR):
        found = recover(store, store.database)
    assert found.damaged == (str(kept.file.relative_to(store.data)),)
    assert "cannot be read" in caplog.text
    assert rows(store) == []


def test_a_row_whose_file_is_missing_is_told_and_not_deleted(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    ds = image()
    kept = store.put(arrival_of(ds), [encoded(ds)])
    kept.file.unlink()
    with caplog.at_level(logging.ERROR):
        found = recover(store, store.database)
        recover(store, store.database)
    assert found.missing == (str(kept.file.relative_to(store.data)),)
    assert "A stored file is missing" in caplog.text
    assert len(rows(store)) == 1
    with store.database.reading() as session:
        (event,) = session.scalars(select(EventRow))
    assert event.action == "missing"


def test_a_row_whose_file_is_too_short_is_told(store: Store) -> None:
    ds = image()
    kept = store.put(arrival_of(ds), [encoded(ds)])
    os.truncate(kept.file, 100)
    assert recover(store, store.database).missing == (str(kept.file.relative_to(store.data)),)


def age(store: Store, kept: Instance) -> None:
    """Make a stored object older than the margin of the checkpoint."""
    long_ago = time.time() - 2 * MARGIN_S
    os.utime(kept.file.parent, (long_ago, long_ago))


def test_only_what_is_newer_than_the_checkpoint_is_looked_at(store: Store) -> None:
    old, new = image(), image()
    first = store.put(arrival_of(old), [encoded(old)])
    recover(store, store.database)
    first.file.unlink()
    age(store, first)
    second = store.put(arrival_of(new), [encoded(new)])
    second.file.unlink()
    assert recover(store, store.database).missing == (str(second.file.relative_to(store.data)),)
    every = recover(store, store.database, everything=True).missing
    assert set(every) == {str(i.file.relative_to(store.data)) for i in (first, second)}


def test_a_row_lost_since_the_checkpoint_is_made_again_although_others_are_older(store: Store) -> None:
    old, new = image(), image()
    age(store, store.put(arrival_of(old), [encoded(old)]))
    recover(store, store.database)
    store.put(arrival_of(new), [encoded(new)])
    with store.database.transaction() as session:  # as a power cut may do
        session.execute(delete(InstanceRow).where(InstanceRow.sop_uid == new.SOPInstanceUID))
    assert recover(store, store.database).indexed == 1
    assert {r.sop_uid for r in rows(store)} == {old.SOPInstanceUID, new.SOPInstanceUID}


@pytest.mark.parametrize("spoil", ["the clock", "the table", "the file"])
def test_a_checkpoint_that_cannot_be_true_counts_for_nothing(store: Store, spoil: str) -> None:
    """A clock set back, a database from a backup, a file cut off: then everything is looked at."""
    ds = image()
    age(store, store.put(arrival_of(ds), [encoded(ds)]))
    recover(store, store.database)
    checkpoint = store.data / "run" / "store.checkpoint"
    found = json.loads(checkpoint.read_text())
    if spoil == "the table":
        forget_rows(store)
    else:
        text = json.dumps(found | {"at": time.time() + 1000}) if spoil == "the clock" else '{"at": 1'
        checkpoint.write_text(text)
        with store.database.transaction() as session:
            session.execute(update(InstanceRow).values(size=1))
    result = recover(store, store.database)
    assert (result.indexed, len(result.missing)) == ((1, 0) if spoil == "the table" else (0, 1))


def test_a_second_copy_left_by_a_crash_is_taken_away(store: Store) -> None:
    ds = image()
    kept = store.put(arrival_of(ds), [encoded(ds)])
    os.link(kept.file, kept.file.with_name(f"{ds.SOPInstanceUID}.0123456789abcdef.dcm"))
    recover(store, store.database)
    assert files(store) == [kept.file]
    assert dataset_of(kept.file) == encoded(ds)
    assert len(rows(store)) == 1


def changed(ds: Dataset, **attributes: str) -> Dataset:
    made = deepcopy(ds)
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def test_of_two_versions_without_rows_the_later_counts(store: Store) -> None:
    """A patient was put right, then the power failed: a name with a digest sorts before one without, mostly."""
    for number in range(4):
        wrong = image(seed=number)
        right = changed(wrong, PatientID=f"RIGHT{number}")
        for at, ds in enumerate((wrong, right)):
            kept = store.put(arrival_of(ds), [encoded(ds)])
            os.utime(kept.file, (1_000_000.0 + at, 1_000_000.0 + at))
    forget_rows(store)
    assert recover(store, store.database).indexed == 8
    current = [(store.data / r.file).read_bytes() for r in rows(store) if r.current]
    assert len(current) == 4 and all(b"RIGHT" in data for data in current)


def test_a_version_that_never_got_its_row_takes_no_later_ones_place(store: Store) -> None:
    """The node was killed between file and row of the first; the sender had it put right before it sent again."""
    wrong = image()
    kept = store.put(arrival_of(wrong), [encoded(wrong)])
    os.utime(kept.file, (1_000_000.0, 1_000_000.0))
    forget_rows(store)
    right = changed(wrong, PatientID="RIGHT")
    store.put(arrival_of(right), [encoded(right)])
    assert recover(store, store.database, everything=True).indexed == 1
    first = next(r.file for r in rows(store) if not r.current)
    os.link(store.data / first, (store.data / first).with_suffix(".again.dcm"))  # and once more, killed before its end
    recover(store, store.database, everything=True)
    assert len(files(store)) == 2
    found = {(b"RIGHT" in (store.data / r.file).read_bytes()): (r.current, r.settled) for r in rows(store)}
    assert found == {True: (True, False), False: (False, True)}


def test_what_a_living_writer_has_not_indexed_is_left_to_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the database; then it writes the row, or takes the file away and refuses the object."""
    monkeypatch.setenv("RADNODE_FAULT_BUSY_S", "2")
    other = open_store(settings_for(tmp_path / "data"))
    monkeypatch.delenv("RADNODE_FAULT_BUSY_S")
    ds = image()
    told: list[str] = []

    def send() -> None:
        with pytest.raises(StoreError) as e:
            other.put(arrival_of(ds), [encoded(ds)])
        told.append(str(e.value))

    sender = threading.Thread(target=send)
    found: list[Recovery] = []
    recovering = threading.Thread(target=lambda: found.append(recover(store, store.database)))
    with store.database.transaction():  # somebody writes for longer than the sender's process waits
        sender.start()
        wait_until(lambda: any(f.suffix == ".dcm" for f in files(store)), 60, "the file")
        recovering.start()
        sender.join(60)
    recovering.join(60)
    other.close()
    assert len(told) == len(found) == 1
    assert (found[0].indexed, found[0].damaged) == (0, ())
    assert (rows(store), files(store)) == ([], [])
