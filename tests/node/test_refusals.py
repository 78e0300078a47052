"""Images that the node refused are missing from their study until they come again: it is never called whole without them."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from support.core import STUDY, Node
from support.objects import encoded, image, write
from support.receiver import receiver, wait_until
from support.store import open_store, settings_for
from support.wire import Wire

from radnode import complete, pipeline, refusals, studies
from radnode.database import Database
from radnode.evidence import REFUSED
from radnode.refusals import Refusals
from radnode.schedule import Clock
from radnode.states import StudyState
from radnode.store import Store
from radnode.tables import StudyRow
from radnode.tables_pacs import EvidenceRow
from radnode.web.dicomweb import Batch

CT, REPORT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.33"


def refused(database: Database) -> dict[str, list[str]]:
    """Study -> the objects of it that were refused."""
    with database.reading() as session:
        rows = session.scalars(select(EvidenceRow).where(EvidenceRow.source == REFUSED)).all()
        return {row.study_uid: row.named for row in rows}


def found(database: Database, study_uid: str) -> studies.Story:
    with database.reading() as session:
        story = studies.story(session, study_uid)
    assert story is not None
    return story


def test_a_study_of_which_images_were_refused_is_a_part_until_they_come(tmp_path: Path) -> None:
    """The disk has room for the first image and for none like the second; the third is cut short on its way."""
    first = image()
    uid = first.StudyInstanceUID
    large, cut = image(size=1024, StudyInstanceUID=uid), image(StudyInstanceUID=uid)
    with receiver(tmp_path / "data", accept_unknown_callers=True, processes=1, max_object_mb=1) as node:
        with Wire(node.port) as wire:
            wire.associate()
            assert wire.status(first.SOPInstanceUID, encoded(first)) == 0
            assert wire.status(large.SOPInstanceUID, encoded(large)) == 0xA700
            assert wire.status(cut.SOPInstanceUID, encoded(cut)[:-20]) == 0xC000
            assert wire.release() == 6
        lacking = sorted((large.SOPInstanceUID, cut.SOPInstanceUID))
        wait_until(lambda: refused(node.database) == {uid: lacking}, 60, "the note of what was refused")
        settings, now = node.settings, time.time() + 60.0
        complete.settle(node.database, settings, since=0.0, now=time.time())
        assert complete.complete(node.database, now=now, evidence_wait_s=600.0) == ()
        assert complete.complete(node.database, now=now, evidence_wait_s=0.0) == (uid,)
        story = found(node.database, uid)
        assert story.study.provisional.startswith("2 images that were refused have not come again (")
        assert [e.action for e in story.events if e.action == "refused"]
        with Wire(node.port) as wire:
            wire.associate()
            assert wire.status(cut.SOPInstanceUID, encoded(cut)) == 0
        small = Dataset()
        small.update(large)
        small.file_meta, small.PixelData, small.Rows, small.Columns = large.file_meta, bytes(2), 1, 1
        with Wire(node.port) as wire:
            wire.associate()
            assert wire.status(large.SOPInstanceUID, encoded(small)) == 0
        complete.settle(node.database, settings, since=0.0, now=time.time())
        assert complete.complete(node.database, now=now, evidence_wait_s=600.0) == (uid,)
        assert found(node.database, uid).study.provisional == ""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(settings_for(tmp_path / "data"))
    yield made
    made.close()


def test_the_same_over_http_unless_it_was_sent_to_another_studys_address(store: Store, tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "data")
    cut, astray = image(), image()
    files = [file.read_bytes()[:-20] for file in write(tmp_path / "sent", cut, astray)]
    for file, address in zip(files, ("", str(generate_uid())), strict=True):
        batch = Batch(store, settings, "127.0.0.1", address)
        assert batch.take([file[:1000], file[1000:]])[0]
        batch.close()
    store.refusals.write()
    assert refused(store.database) == {cut.StudyInstanceUID: [cut.SOPInstanceUID]}


def test_what_another_thread_is_writing_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keep, begun, on = refusals.keep, threading.Event(), threading.Event()

    def slowly(*arguments: object) -> None:
        begun.set()
        assert on.wait(60)
        keep(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(refusals, "keep", slowly)
    store.refusals.note(STUDY, CT, "1.2.3.1", "It is cut short.")
    assert begun.wait(60)
    asked = threading.Thread(target=store.refusals.write)
    asked.start()
    asked.join(0.2)
    assert asked.is_alive()
    on.set()
    asked.join(60)
    assert refused(store.database) == {STUDY: ["1.2.3.1"]}


def test_what_no_model_reads_is_not_missed_and_names_are_valid(store: Store) -> None:
    store.refusals.note(STUDY, REPORT, "1.2.3.1", "It is cut short.")
    store.refusals.note("../1", CT, "1.2.3.1", "It is cut short.")
    store.refusals.note(STUDY, CT, "1.2\0.3", "It is cut short.")
    store.refusals.write()
    assert refused(store.database) == {STUDY: [refusals.UNNAMED]}


def test_what_the_database_cannot_take_is_noted_once_it_can(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    keep, away = refusals.keep, [True]

    def sometimes(*arguments: object) -> None:
        if away:
            away.pop()
            raise OperationalError("INSERT", {}, Exception("the database is away"))
        keep(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(refusals, "keep", sometimes)
    noted = Refusals(node.database)
    noted.note(STUDY, CT, "1.2.3.1", "The index of the node cannot be written.")
    wait_until(lambda: refused(node.database) == {STUDY: ["1.2.3.1"]}, 60, "the note")
    noted.close()


def test_senders_have_their_time_again_when_the_database_was_away(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came meanwhile was refused, and comes again only after a while."""
    node.arrive(time.time())
    clock = Clock(node.settings, node.database, ())
    clock.turn()

    def fail(*_: object, **__: object) -> None:
        raise OperationalError("SELECT", {}, Exception("the database is away"))

    with monkeypatch.context() as away:
        away.setattr(pipeline, "complete", fail)
        clock.turn()
    with node.database.transaction() as session:
        session.execute(update(StudyRow).values(due_at=1.0))  # it was quiet for so long
    clock._patience.clear()  # no wait for the next try
    begun = time.time()
    clock.turn()
    study = node.study()
    assert study.state is StudyState.RECEIVING and study.due_at > begun
    with node.database.transaction() as session:
        session.execute(update(StudyRow).values(due_at=1.0))
    clock.turn()
    assert node.study().state is not StudyState.RECEIVING, "once is enough"


def test_what_was_refused_shortly_before_the_receiver_is_stopped_is_kept(tmp_path: Path) -> None:
    first = image()
    uid = first.StudyInstanceUID
    one, two = (image(size=1024, StudyInstanceUID=uid) for _ in range(2))
    with receiver(tmp_path / "data", accept_unknown_callers=True, processes=1, max_object_mb=1) as node:
        with Wire(node.port) as wire:
            wire.associate()
            assert wire.status(first.SOPInstanceUID, encoded(first)) == 0
            assert wire.status(one.SOPInstanceUID, encoded(one)) == 0xA700
            wait_until(lambda: refused(node.database) == {uid: [one.SOPInstanceUID]}, 30, "the first note")
            assert wire.status(two.SOPInstanceUID, encoded(two)) == 0xA700
            assert wire.release() == 6
        node.process.terminate()
        assert node.process.wait(60) == 0
        assert refused(node.database) == {uid: sorted((one.SOPInstanceUID, two.SOPInstanceUID))}
