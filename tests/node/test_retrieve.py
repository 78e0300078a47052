"""Studies that other systems have: asked for, fetched in four ways, reconciled; priors by rule. Orthanc is the PACS."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from support.core import Node, dataset, encoded
from support.orthanc import Orthanc, free_ports
from support.receiver import Receiver, receiver

from radnode import claims, commit_ask, complete, evidence, fetches, pipeline, reconcile
from radnode.destinations import dimse_fetch
from radnode.destinations.dimse_fetch import Brought
from radnode.destinations.dimse_find import Found
from radnode.errors import DeliveryError, RefusedError
from radnode.fetch_run import Fetcher, fetch
from radnode.fetches import RECENT_S
from radnode.peers.table import Peer, add_peer
from radnode.prior_fetch import AGAIN_S, PriorFinder, fitting, months_before
from radnode.settings import Deliver, Destination, Priors, Settings
from radnode.store import Store
from radnode.tables import StudyRow
from radnode.tables_pacs import FetchRow

TODAY = time.strftime("%Y%m%d", time.gmtime())


def until(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.05)


def study(number: int, **elements: Any) -> list[bytes]:
    """Three small CT images of a study of one patient."""
    uid = f"1.2.826.77.{number}"
    given = {"StudyDate": TODAY, "StudyTime": "101500", "AccessionNumber": f"A{number}"} | elements
    return [encoded(dataset(uid, f"{uid}.{n}", **given)) for n in range(3)]


@contextmanager
def node_beside(tmp_path: Path, pacs: Orthanc, way: str, **sections: Any) -> Iterator[tuple[Receiver, Settings, Peer]]:
    """A receiver that Orthanc knows; Orthanc is the peer `pacs`, fetched from in this way."""
    with receiver(tmp_path / "data", host="127.0.0.1") as running:
        pacs.know_node(running.port)
        url = {"wado": f"{pacs.url}/dicom-web", "orthanc": pacs.url}.get(way, "")
        rights = ("send", "query", "retrieve")
        peer = Peer(
            name="pacs", ae_title="PACS", address="127.0.0.1", port=pacs.dicom_port, may=rights, way=way, url=url
        )
        add_peer(running.database, peer)
        settings = Settings(data=tmp_path / "data", deliver=Deliver(timeout_s=60), **sections)
        yield running, settings, peer


@pytest.mark.system
@pytest.mark.parametrize("way", ["move", "get", "wado", "orthanc"])
def test_a_study_is_fetched_byte_for_byte(tmp_path: Path, shared_pacs: Orthanc, way: str) -> None:
    number = 100 + ["move", "get", "wado", "orthanc"].index(way)
    for file in study(number):
        shared_pacs.upload(file)
    with node_beside(tmp_path, shared_pacs, way) as (running, settings, peer):
        found, at = reconcile.find(settings, [peer], accession_number=f"A{number}")
        assert (found.study_uid, found.instances, at) == (f"1.2.826.77.{number}", 3, peer)
        store = Store(settings, running.database)
        assert fetch(peer, found.study_uid, settings, store) == Brought(many=3)
        store.close()
        until(lambda: len(running.rows()) == 3, "the objects")
        assert {r.sop_uid for r in running.rows()} == {f"1.2.826.77.{number}.{n}" for n in range(3)}
        assert {r.calling_ae for r in running.rows()} == {"PACS"}


@pytest.mark.system
def test_what_the_node_never_saw_is_listed_and_fetched_on_request(tmp_path: Path, shared_pacs: Orthanc) -> None:
    for number in (201, 202):
        for file in study(number):
            shared_pacs.upload(file)
    with node_beside(tmp_path, shared_pacs, "get") as (running, settings, peer):
        reconcile.ask(running.database, settings, peer, 2, time.time())
        with running.database.reading() as session:
            lacking = {u.study_uid: u for u in reconcile.unseen(session)}
        assert {"1.2.826.77.201", "1.2.826.77.202"} <= set(lacking)
        assert (lacking["1.2.826.77.201"].instances, lacking["1.2.826.77.201"].here) == (3, 0)
        with running.database.transaction() as session:
            uid = "1.2.826.77.201"
            assert fetches.want(session, uid, "pacs", fetches.RECONCILE, "anna", time.time())
            assert not fetches.want(session, uid, "pacs", fetches.RECONCILE, "anna", time.time())
        with beside(settings, running):
            until(lambda: [f.state for f in latest(running)] == ["done"], "the fetch")
        complete.settle(running.database, settings, since=0.0, now=time.time())
        complete.complete(running.database, now=1e11)
        reconcile.ask(running.database, settings, peer, 2, time.time())
        with running.database.reading() as session:
            left = {u.study_uid for u in reconcile.unseen(session)}
        assert "1.2.826.77.201" not in left and "1.2.826.77.202" in left


@contextmanager
def beside(settings: Settings, running: Receiver) -> Iterator[None]:
    """The threads that talk to peers."""
    stop = threading.Event()
    threads = commit_ask.threads(settings, running.database, stop)
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def latest(running: Receiver) -> tuple[fetches.Fetch, ...]:
    with running.database.reading() as session:
        return fetches.latest(session)


@pytest.mark.system
def test_priors_come_by_rule_and_are_not_read_themselves(tmp_path: Path, shared_pacs: Orthanc) -> None:
    patient = {"PatientID": "PRIOR-7"}
    for number, more in (
        (301, {"StudyDate": "20240301"}),
        (302, {"StudyDate": "20240201", "BodyPartExamined": "HEAD"}),
    ):
        for file in study(number, **patient, **more):
            shared_pacs.upload(file)
    rule = Priors(peer="pacs", months=24)
    with node_beside(tmp_path, shared_pacs, "get", priors=rule) as (running, settings, _):
        store = Store(settings, running.database)
        now = Node(settings=settings, database=running.database)
        now.arrive(time.time(), study_uid="1.2.826.77.300", StudyDate="20250101", **patient)
        complete.settle(running.database, settings, since=0.0, now=time.time())
        with beside(settings, running):
            until(lambda: [f.state for f in latest(running)] == ["done"], "the prior")
        assert [f.study_uid for f in latest(running)] == ["1.2.826.77.301"]
        complete.settle(running.database, settings, since=0.0, now=time.time())
        (route,) = pipeline.ask(running.database, settings, (), "1.2.826.77.301")
        assert not route.chosen and "fetched as an earlier study of 1.2.826.77.300" in route.reason
        store.close()


def test_priors_are_of_the_same_patient_modality_region_and_time() -> None:
    row = StudyRow(
        study_uid="1", patient_id="P", issuer_of_patient_id="", patient_birth_date="19600101", patient_sex="F",
        study_date="20260601", study_time="120000", modalities="CT\\SR", body_part="CHEST", study_description="CT thorax",
    )  # fmt: skip
    good = Found(study_uid="2", patient_id="P", study_date="20260101", modalities=("CT",), body_part="CHEST")
    wrong = [
        replace(good, patient_id="Q"),
        replace(good, patient_birth_date="19700101"),
        replace(good, study_date="20200101"),
        replace(good, study_date="20260602"),
        replace(good, modalities=("MR",)),
        replace(good, modalities=("SR",)),
        replace(good, body_part="HEAD"),
        replace(good, body_part="", description="CT Abdomen"),
        replace(good, study_uid="1"),
    ]
    older = replace(good, study_uid="3", study_date="20251201", body_part="", description="Thorax low dose")
    assert fitting(row, [*wrong, older, good], Priors(months=24, most=2)) == (good, older)
    assert fitting(row, [older, good], Priors(months=24, most=1)) == (good,)
    assert len(fitting(row, wrong[6:8], Priors(months=24, same_region=False))) == 2
    unsaid = replace(good, modalities=())
    assert fitting(row, [unsaid], Priors(months=24)) == (unsaid,), "a PACS need not say which modalities there are"


def test_a_system_that_says_nothing_while_it_gets_a_study_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient, calls = dimse_fetch.be_patient, list[object]()

    def after_a_quick_beginning(association: Any, timeout_s: float) -> None:
        calls.append(association)
        association.dimse_timeout = association.network_timeout = 1.5
        be_patient(association, 1.5)

    monkeypatch.setattr(dimse_fetch, "be_patient", after_a_quick_beginning)

    def slowly(_event: object) -> Iterator[object]:
        time.sleep(3.0)
        yield "127.0.0.1", 1
        yield 0

    ae = AE("TAPE")
    ae.add_supported_context(dimse_fetch.MOVE)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_MOVE, slowly)])
    try:
        tape = Destination(name="tape", kind="dimse", host="127.0.0.1", port=server.socket.getsockname()[1])
        assert dimse_fetch.move(tape, "1.2.3", calling_ae="RADNODE", timeout_s=60) == 0
        assert len(calls) == 1
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("date", "months", "before"),
    [
        ("20240831", 6, "20240229"),
        ("20240229", 36, "20210228"),
        ("20260115", 1, "20251215"),
        ("20261231", 12, "20251231"),
    ],
)
def test_so_many_months_earlier_is_a_day_that_there_is(date: str, months: int, before: str) -> None:
    assert months_before(date, months) == before


@pytest.mark.system
def test_a_peer_that_does_not_know_the_node_is_named_so(tmp_path: Path, shared_pacs: Orthanc) -> None:
    for file in study(401):
        shared_pacs.upload(file)
    with node_beside(tmp_path, shared_pacs, "move") as (running, settings, peer):
        strange = settings.model_copy(update={"receive": settings.receive.model_copy(update={"ae_title": "NOBODY"})})
        store = Store(settings, running.database)
        with pytest.raises(DeliveryError, match="C-MOVE"):
            fetch(peer, "1.2.826.77.401", strange, store)
        with pytest.raises(DeliveryError, match="no peer that studies may be fetched from"):
            fetch(replace(peer, may=("send",)), "1.2.826.77.401", settings, store)
        with pytest.raises(RefusedError, match="pacs has no such study"):
            reconcile.find(settings, [peer], study_uid="1.2.826.77.999")
        store.close()


def test_a_fetch_that_fails_is_tried_again_and_then_told(node: Node) -> None:
    (port,) = free_ports(1)
    peer = Peer(name="away", ae_title="AWAY", address="127.0.0.1", port=port, may=("query", "retrieve"))
    add_peer(node.database, peer)
    with node.database.transaction() as session:
        fetches.want(session, "1.2.3", "away", fetches.HAND, "anna", 0.0)
    for attempt in range(fetches.ATTEMPTS):
        wanted = fetches.claim(node.database, "away", 1e12)
        assert wanted is not None and wanted.attempt == attempt
        fetches.failed(node.database, wanted, "no connection", 1.0, 0.0)
    assert fetches.claim(node.database, "away", 1e12) is None
    with node.database.reading() as session:
        assert session.scalars(select(FetchRow.state)).all() == ["failed"]
    with pytest.raises(DeliveryError, match="no connection"):
        fetch(peer, "1.2.3", node.settings, None)  # type: ignore[arg-type]


def wanted_of(node: Node, study_uid: str = "1.2.3") -> fetches.Fetch:
    """A study that is wanted and claimed."""
    with node.database.transaction() as session:
        fetches.want(session, study_uid, "away", fetches.HAND, "anna", 0.0)
    claimed = fetches.claim(node.database, "away", 1000.0)
    assert claimed is not None
    return claimed


def states(node: Node) -> list[str]:
    with node.database.reading() as session:
        return list(session.scalars(select(FetchRow.state)))


def test_a_fetch_whose_holder_fell_silent_is_fetched_by_another_and_settled_by_that_one_only(node: Node) -> None:
    first = wanted_of(node)
    lost_at = 1000.0 + fetches.LEASE_S
    fetches.renew(node.database, [first.token], lost_at + 10.0)
    assert fetches.claim(node.database, "away", lost_at) is None and not fetches.waiting(node.database, lost_at)
    assert fetches.waiting(node.database, lost_at + 10.0) == {"away"}
    second = fetches.claim(node.database, "away", lost_at + 10.0)
    assert second is not None and second.token != first.token
    fetches.failed(node.database, first, "too late", lost_at + 11.0, 0.0)
    fetches.done(node.database, first, 7, lost_at + 11.0)
    assert states(node) == ["running"]
    fetches.done(node.database, second, 3, lost_at + 12.0)
    with node.database.reading() as session:
        assert [(f.state, f.instances) for f in fetches.latest(session)] == [("done", 3)]


@pytest.mark.parametrize(("pid", "freed"), ((os.getppid(), 0), (os.getpid(), 1)), ids=("lives", "is no more"))
def test_a_process_that_starts_frees_only_what_the_dead_left(node: Node, pid: int, freed: int) -> None:
    wanted_of(node)
    with node.database.transaction() as session:
        session.execute(update(FetchRow).values(claimed_by=f"{claims.own_machine()}{pid}:a"))
    assert fetches.release_lost(node.database) == freed
    assert states(node) == ["queued" if freed else "running"]


def test_a_database_that_fails_in_mid_fetch_leaves_nothing_running_for_ever(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = Peer(name="away", ae_title="AWAY", address="127.0.0.1", port=1, may=("retrieve",))
    gone = OperationalError("INSERT", {}, Exception("terminating connection"))
    monkeypatch.setattr("radnode.fetch_run.fetch", Mock(side_effect=gone))
    fetcher = Fetcher(node.settings, node.database)
    fetcher.one(wanted_of(node), peer)
    assert states(node) == ["queued"]  # it counts as a try
    with monkeypatch.context() as patch:
        patch.setattr(fetches, "failed", Mock(side_effect=gone))
        with node.database.transaction() as session:
            session.execute(update(FetchRow).values(due_at=0.0))
        fetcher.work_off("away", peer)  # not even that can be written
    assert states(node) == ["running"] and not fetcher._in_hand
    assert fetches.waiting(node.database, time.time() + fetches.LEASE_S + 1.0) == {"away"}


@pytest.mark.parametrize(
    ("said", "here", "state", "reason"),
    [
        (3, 3, "done", ""),
        (None, 2, "done", ""),
        (0, 0, "queued", "away has no such study"),
        (3, 0, "queued", "away says that it sent 3 objects, and nothing of it came"),
        (3, 2, "queued", "away says that it sent 3 objects, and 2 of them are here"),
        (None, 0, "queued", "away says that it sent the study, and nothing of it came"),
    ],
)
def test_what_a_peer_says_that_it_sent_counts_as_far_as_it_came(
    node: Node, monkeypatch: pytest.MonkeyPatch, said: int | None, here: int, state: str, reason: str
) -> None:
    monkeypatch.setattr("radnode.fetch_run.fetch", Mock(return_value=Brought(many=said)))
    for _ in range(here):
        node.arrive(5.0)
    Fetcher(node.settings, node.database).one(
        wanted_of(node), Peer(name="away", address="127.0.0.1", may=("retrieve",))
    )
    with node.database.reading() as session:
        (found,) = fetches.latest(session)
    assert (found.state, found.reason.partition(": look at")[0]) == (state, reason)
    assert found.instances == (here if state == "done" or reason.endswith("here") else 0)


def test_an_answer_without_counts_is_not_taken_for_a_study_that_is_not_there() -> None:
    success = Dataset()
    success.Status = 0x0000
    assert dimse_fetch.outcome([(success, None)], "C-MOVE") is None
    success.NumberOfCompletedSuboperations = 0
    assert dimse_fetch.outcome([(success, None)], "C-MOVE") == 0


def test_a_queue_of_fetches_follows_the_peer_as_it_is_changed(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Peer(name="away", address="192.0.2.1", port=104, may=("retrieve",))
    add_peer(node.database, first)
    asked: list[int | None] = []

    def fetch(peer: Peer, *_: object) -> Brought:
        asked.append(peer.port)
        add_peer(node.database, replace(first, port=11112))
        raise DeliveryError("no connection", brought=0)

    monkeypatch.setattr("radnode.fetch_run.fetch", fetch)
    with node.database.transaction() as session:
        for study_uid in ("1.2.3", "1.2.4"):
            fetches.want(session, study_uid, "away", fetches.HAND, "anna", 0.0)
    Fetcher(node.settings, node.database).work_off("away", first)
    assert asked == [104, 11112]


@contextmanager
def answering(answer: Callable[..., Any]) -> Iterator[Mock]:
    """In the place of a finder: `answer` says which studies there are, or raises."""
    yield Mock(studies=Mock(side_effect=answer))


def test_priors_are_looked_for_again_until_the_peer_answers_and_the_story_tells(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    settings = node.settings.model_copy(update={"priors": Priors(peer="away", months=24)})
    finder = PriorFinder(settings, node.database)
    peer = Peer(name="away", ae_title="AWAY", address="127.0.0.1", port=1, may=("query", "retrieve"))
    node.arrive(now, StudyDate="20250101", PatientID="P", Modality="CT")
    complete.settle(node.database, settings, since=0.0, now=now)
    (waiting,) = finder.due(now)
    finder.look(None, [waiting])  # the rule names no peer
    asked_at = time.time()
    finder.look(peer, [waiting])  # nobody listens
    failed_at = time.time()
    assert finder.due(asked_at + 5.0) == ()
    assert [s.study_uid for s in finder.due(failed_at + AGAIN_S + 2.0)] == ["1.2.3"]
    assert finder.due(now + RECENT_S + 1.0) == ()
    found = Found(study_uid="1.2.4", patient_id="P", study_date="20240601", modalities=("CT",))
    monkeypatch.setattr("radnode.prior_fetch.querying", lambda *_: answering(lambda **_: (found,)))
    finder.look(peer, [waiting])
    assert finder.due(failed_at + 1000.0) == ()
    with node.database.reading() as session:
        assert [f.study_uid for f in fetches.latest(session)] == ["1.2.4"]
    told = [e.sentence for e in node.story().events if e.action == "fetched"]
    assert len(told) == 2 and told[1] == "away answers again: 1 earlier studies fit the rule."
    assert told[0] == "away cannot be asked for earlier studies: there is no peer away. It is asked again, for a day."


def test_a_study_waits_for_the_word_about_its_priors_but_not_for_a_peer_that_is_away(node: Node) -> None:
    now = time.time()
    node.arrive(now, StudyDate="20250101", PatientID="P", Modality="CT")
    complete.settle(node.database, node.settings, since=0.0, now=now)
    with node.database.transaction() as session:
        due_at = session.get_one(StudyRow, "1.2.3").due_at

    def turn(later_s: float, *, priors: bool = True) -> tuple[str, ...]:
        return complete.complete(node.database, now=due_at + later_s, evidence_wait_s=60.0, priors=priors)

    assert turn(1.0) == ()
    evidence.keep(node.database, "1.2.3", evidence.PRIORS, "away", now, error="no connection")
    assert turn(1.0) == ("1.2.3",)


def test_a_study_whose_priors_nobody_looks_for_waits_no_longer_than_for_other_evidence(node: Node) -> None:
    now = time.time()
    node.arrive(now, StudyDate="20250101", PatientID="P", Modality="CT")
    complete.settle(node.database, node.settings, since=0.0, now=now)
    assert complete.complete(node.database, now=now + 3000.0, evidence_wait_s=1e6, priors=True) == ()
    assert complete.complete(node.database, now=now + 3000.0, evidence_wait_s=60.0, priors=True) == ("1.2.3",)
    assert "nobody has said yet which earlier studies there are" in node.story().events[-1].sentence
