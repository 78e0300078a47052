"""Storage commitment both ways, and C-FIND in its place: whether what was delivered is also kept."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import select, update
from support.delivering import delivering
from support.orthanc import Orthanc
from support.pacs_scp import Pacs, pacs_scp
from support.receiver import Receiver, receiver
from support.results import add_job, add_study, four, prepare, record
from support.studies import small_chest

from radnode import commit_requests, commitment
from radnode.commit_ask import Answerer
from radnode.commit_requests import Request
from radnode.database import Database
from radnode.destinations.commit_data import event_information
from radnode.errors import RefusedError
from radnode.outbox import Outbox
from radnode.peers.table import Peer, add_peer
from radnode.settings import Deliver, Destination, Settings
from radnode.tables import DeliveryRow, EventRow, InstanceRow, Table
from radnode.tables_pacs import CommitmentRow, CommitRequestRow

STUDY = "1.2.3.4"
QUICK = Deliver(threads=2, timeout_s=60, retry_s=0.1, retry_max_s=0.4, commit_wait_s=600.0)


def until(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.05)


def rows(database: Database, table: type[Table]) -> list[Any]:
    with database.reading() as session:
        return list(session.scalars(select(table)))


def states(database: Database) -> set[str]:
    return {row.state for row in rows(database, CommitmentRow)}


def story(database: Database) -> list[str]:
    with database.reading() as session:
        return list(session.scalars(select(EventRow.sentence).order_by(EventRow.id)))


@contextmanager
def owed_to(tmp_path: Path, pacs: Pacs, policy: Deliver = QUICK, **values: Any) -> Iterator[Database]:
    """Three results of a study are owed to this PACS and delivered to it."""
    to = Destination(name="pacs", kind="dimse", host="127.0.0.1", port=pacs.port, **values)
    settings = Settings(data=tmp_path / "data", destinations=(to,), deliver=policy)
    database = prepare(settings)
    add_study(database, STUDY)
    job = add_job(database, STUDY)
    record(database, settings.data, job, four(STUDY), settings.destinations)
    try:
        with delivering(settings):
            yield database
    finally:
        database.close()


def test_a_report_on_the_same_association_commits_each_result(tmp_path: Path) -> None:
    with pacs_scp(lambda _: 0) as pacs, owed_to(tmp_path, pacs) as database:
        until(lambda: states(database) == {"committed"}, "commitment")
        found = rows(database, CommitmentRow)
        assert len(found) == 3 and all(r.way == "storage commitment" and r.committed_at for r in found)
        kept = [s for s in story(database) if s.startswith("pacs keeps")]  # in one answer, or one for each association
        assert kept and all(s.endswith("of the results that it took (storage commitment).") for s in kept)
        assert {uid for asked in pacs.asked for uid in asked} == set(pacs.stored)


def test_what_is_not_kept_is_sent_again_until_it_is(tmp_path: Path) -> None:
    def answer(uid: str) -> int:
        return 0 if pacs.stored[uid] > 1 else 0x0112

    with pacs_scp(answer) as pacs, owed_to(tmp_path, pacs) as database:
        until(lambda: states(database) == {"committed"}, f"commitment after another delivery: {story(database)}")
        assert set(pacs.stored.values()) == {2}
        assert "pacs does not keep a result that it took (no such object instance); it is sent again." in story(
            database
        )
        with database.reading() as session:
            assert set(session.scalars(select(DeliveryRow.state))) == {"delivered"}


def test_an_answer_that_never_comes_is_replaced_by_a_c_find(tmp_path: Path) -> None:
    soon = QUICK.model_copy(update={"commit_wait_s": 0.6})
    with pacs_scp(lambda _: 0, finds=True, silent=True) as pacs, owed_to(tmp_path, pacs, soon) as database:
        until(lambda: states(database) == {"committed"}, "C-FIND")
        assert {r.way for r in rows(database, CommitmentRow)} == {"C-FIND"}
        assert pacs.asked and pacs.found


def test_a_pacs_that_offers_neither_is_said_so(tmp_path: Path) -> None:
    with pacs_scp(None) as pacs, owed_to(tmp_path, pacs) as database:
        until(lambda: states(database) == {"unknowable"}, "the sentence")
        reasons = {r.reason for r in rows(database, CommitmentRow)}
        assert reasons == {"it offers neither storage commitment nor C-FIND"}


def test_a_destination_without_commitment_is_not_asked(tmp_path: Path) -> None:
    with pacs_scp(lambda _: 0) as pacs, owed_to(tmp_path, pacs, commitment="off") as database:
        until(lambda: len(pacs.stored) == 3, "delivery")
        until(lambda: any("delivered to pacs" in s for s in story(database)), "the story")
        assert rows(database, CommitmentRow) == [] and pacs.asked == []


@pytest.fixture
def beside(tmp_path: Path, shared_pacs: Orthanc) -> Iterator[tuple[Receiver, Settings]]:
    """A receiver and the role `deliver` beside an Orthanc; each knows the other."""
    to = Destination(name="pacs", kind="dimse", host="127.0.0.1", port=shared_pacs.dicom_port, ae_title="PACS")
    with receiver(tmp_path / "data", host="127.0.0.1") as node:
        shared_pacs.know_node(node.port)
        peer = Peer(
            name="pacs", ae_title="PACS", address="127.0.0.1", port=shared_pacs.dicom_port, may=("send", "commit")
        )
        add_peer(node.database, peer)
        settings = Settings(data=tmp_path / "data", destinations=(to,), deliver=QUICK)
        yield node, settings


@pytest.mark.system
def test_orthanc_commits_to_results_on_an_association_of_its_own(
    beside: tuple[Receiver, Settings], shared_pacs: Orthanc
) -> None:
    node, settings = beside
    add_study(node.database, STUDY)
    record(node.database, settings.data, add_job(node.database, STUDY), four(STUDY), settings.destinations)
    with delivering(settings):
        until(lambda: states(node.database) == {"committed"}, f"Orthanc's commitment: {shared_pacs.log}")
    assert {r.way for r in rows(node.database, CommitmentRow)} == {"storage commitment"}


@pytest.mark.system
def test_the_node_answers_orthanc_truthfully_from_its_disk(
    tmp_path: Path, beside: tuple[Receiver, Settings], shared_pacs: Orthanc
) -> None:
    node, settings = beside
    sample = small_chest(tmp_path / "chest", seed=3)
    for file in sample.files[:4]:
        shared_pacs.upload(file.read_bytes())
    shared_pacs.send_to_node(sample.study_uid)
    with delivering(settings):
        assert commit(shared_pacs, sample.study_uid) == ("Success", 4, {})
        gone, cut = rows(node.database, InstanceRow)[:2]
        (settings.data / gone.file).unlink()
        damaged = settings.data / cut.file
        body = bytearray(damaged.read_bytes())
        body[-1] ^= 1
        damaged.write_bytes(body)
        status, kept, failed = commit(shared_pacs, sample.study_uid)
    assert (status, kept) == ("Failure", 2)
    assert set(failed) == {gone.sop_uid, cut.sop_uid}
    assert "was not available" in failed[gone.sop_uid]  # 0x0112, in Orthanc's words
    assert failed[cut.sop_uid] == "A general failure in processing the operation was encountered"  # 0x0110
    assert {r.state for r in rows(node.database, CommitRequestRow)} == {"answered"}


def commit(pacs: Orthanc, study_uid: str) -> tuple[str, int, dict[str, str]]:
    """Orthanc asks the node: how it ended, how many objects are kept, and why the others are not."""
    body = {"Resources": [pacs.study_id(study_uid)], "Timeout": 60}
    asked = pacs.http.post("/modalities/node/storage-commitment", json=body)
    asked.raise_for_status()
    path = asked.json()["Path"]
    until(lambda: pacs.http.get(path).json()["Status"] != "Pending", f"the node's answer: {pacs.log}")
    said = pacs.http.get(path).json()
    failures = {f["SOPInstanceUID"]: str(f["Description"]) for f in said.get("Failures", ())}
    return str(said["Status"]), len(said.get("Success", ())), failures


def test_a_report_that_names_no_transaction_is_about_nothing_that_waits(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data")
    database = prepare(settings)
    add_study(database, STUDY)
    to = (Destination(name="pacs", kind="folder", folder=tmp_path),)
    record(database, settings.data, add_job(database, STUDY), four(STUDY), to)
    box = Outbox(database, settings.data)
    batch = box.claim("pacs", time.time(), 10.0)
    assert batch is not None
    for delivery in batch.deliveries:
        box.delivered(batch.token, delivery, "", time.time(), commits=True)
    information = event_information("1.2.3", {batch.deliveries[0].uid: batch.deliveries[0].sop_class_uid}, {})
    del information.TransactionUID
    with pytest.raises(RefusedError, match="names no transaction"):
        commitment.heard(database, settings.deliver, information, time.time())
    assert {(r.state, r.attempt) for r in rows(database, CommitmentRow)} == {("waiting", 0)}
    database.close()


@pytest.mark.parametrize("way", ("storage commitment", "C-FIND"))
def test_a_superseded_result_is_neither_asked_about_nor_sent_again(tmp_path: Path, way: str) -> None:
    to = Destination(name="pacs", kind="dimse", host="127.0.0.1", port=1)
    settings = Settings(data=tmp_path / "data", destinations=(to,), deliver=QUICK)
    database = prepare(settings)
    add_study(database, STUDY)
    job = add_job(database, STUDY)
    outbox = Outbox(database, settings.data)
    try:
        record(database, settings.data, job, four(STUDY), settings.destinations)
        batch = outbox.claim("pacs", time.time(), 60.0)
        assert batch is not None
        for delivery in batch.deliveries:
            outbox.delivered(batch.token, delivery, "", 100.0, commits=True)
        items = commitment.due(database, "pacs", 200.0)
        assert len(items) == 3
        record(database, settings.data, job, four(STUDY, content="B"), settings.destinations)
        assert states(database) == {"closed"}
        with database.transaction() as session:  # as if it was superseded a moment later than all this
            session.execute(update(CommitmentRow).values(state="waiting"))
        assert commitment.due(database, "pacs", 300.0) == ()
        commitment.asked(database, items, "1.2.9", 300.0, 400.0)
        if way == "C-FIND":
            commitment.found(database, QUICK, items, (), 350.0)
        else:
            lost = event_information("1.2.9", {}, {i.uid: (i.sop_class_uid, 0x0112) for i in items})
            assert commitment.heard(database, QUICK, lost, 350.0) == 3
        assert states(database) == {"closed"}
        again = outbox.claim("pacs", 1e12, 60.0)
        assert again is not None and not {d.uid for d in again.deliveries} & {i.uid for i in items}
    finally:
        database.close()


def ask_of(database: Database, number: int, calling_ae: str) -> None:
    values = {"called_ae": "RADNODE", "address": "192.0.2.1", "asked_at": 1.0, "named": [], "state": "owed"}
    row = CommitRequestRow(transaction_uid=f"1.2.{number}", calling_ae=calling_ae, **values)
    row.attempt, row.due_at, row.committed, row.reason = 0, float(number), None, ""
    with database.transaction() as session:
        session.add(row)


def test_a_caller_whose_answers_go_nowhere_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = prepare(Settings(data=tmp_path / "data"))
    stuck, asked = Event(), set[str]()
    for n in range(30):
        ask_of(database, n, "DEAD" if n < 29 else "LIVES")

    def answer(_self: Answerer, request: Request) -> None:
        asked.add(request.calling_ae)
        stuck.wait(60)

    monkeypatch.setattr(Answerer, "answer", answer)
    answerer = Answerer(Settings(data=tmp_path / "data"), database)
    try:
        answerer.turn()
        answerer.turn()
        until(lambda: asked == {"DEAD", "LIVES"}, "both to be answered")
    finally:
        stuck.set()
        database.close()


def test_an_answer_that_fails_in_whatever_way_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data=tmp_path / "data")
    database = prepare(settings)
    ask_of(database, 1, "PACS")
    monkeypatch.setattr(commit_requests, "where", Mock(side_effect=ValueError))
    begun = time.time()
    (asked,) = commit_requests.due(database, begun)
    Answerer(settings, database).answer(asked)
    (row,) = rows(database, CommitRequestRow)
    database.close()
    assert (row.state, row.attempt, row.reason) == ("owed", 1, "ValueError: see the log")
    assert row.due_at > begun + 1.0
