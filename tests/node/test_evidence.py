"""Completeness by evidence: what a PACS counts, a procedure step names, a notification lists; waiting, and reading as provisional."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from sqlalchemy import delete, select, update
from support.core import STUDY, Node, dataset, encoded
from support.findings import findings, scene
from support.orthanc import Orthanc
from support.receiver import receiver

from radnode import complete, evidence, fetches, reconcile, second_look
from radnode.destinations.dimse_find import Finder, Found
from radnode.engine_child import said_provisional
from radnode.errors import DeliveryError, RefusedError
from radnode.evidence_ask import AGAIN_S, MOST, EvidenceAsker, count, due
from radnode.peers.table import Peer, add_peer
from radnode.states import StudyState
from radnode.tables import DeliveryRow, InstanceRow, ResultRow, StudyRow
from radnode.tables_pacs import EvidenceRow, FetchRow

QUIET = 10.0
STEP, NOTICE = "1.2.840.10008.3.1.2.3.3", "1.2.840.10008.5.1.4.33"


def until(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.05)


def arrive(node: Node, many: int, at: float = 100.0) -> list[str]:
    uids = [node.arrive(at) for _ in range(many)]
    complete.settle(node.database, node.settings, since=at, now=at)
    return uids


def turn(node: Node, now: float, wait_s: float = 60.0) -> tuple[str, ...]:
    return complete.complete(node.database, now=now, evidence_wait_s=wait_s)


def row(node: Node) -> StudyRow:
    with node.database.reading() as session:
        return session.get_one(StudyRow, STUDY)


def step(status: str, named: tuple[str, ...] = (), study_uid: str = STUDY) -> Dataset:
    ds = Dataset()
    ds.PerformedProcedureStepStatus = status
    if study_uid:
        scheduled = Dataset()
        scheduled.StudyInstanceUID = study_uid
        ds.ScheduledStepAttributesSequence = [scheduled]
    series = Dataset()
    series.ReferencedImageSequence = [reference(uid) for uid in named]
    ds.PerformedSeriesSequence = [series]
    return ds


def reference(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
    return item


def notice(named: tuple[str, ...]) -> Dataset:
    ds, series = Dataset(), Dataset()
    ds.StudyInstanceUID = STUDY
    items = [reference(uid) for uid in named]
    for item in items:
        item.InstanceAvailability = "ONLINE"
    series.ReferencedSOPSequence = items
    ds.ReferencedSeriesSequence = [series]
    return ds


def test_nobody_says_anything_and_the_study_is_complete_after_its_quiet_time(node: Node) -> None:
    arrive(node, 3)
    assert turn(node, 110.5) == (STUDY,)
    assert row(node).provisional == ""


def test_an_acquisition_that_goes_on_is_waited_for_until_it_ends(node: Node) -> None:
    uids = arrive(node, 2)
    evidence.procedure_step(node.database, "1.9", step("IN PROGRESS"), 90.0)
    assert turn(node, 111.0) == () and turn(node, 120.0) == ()
    sentences = [e.sentence for e in node.story().events]
    told = "Quiet, but not complete: its acquisition is still going on (procedure step). It waits 60 s at most."
    assert sentences.count(told) == 1
    evidence.procedure_step(node.database, "1.9", step("COMPLETED", tuple(uids), study_uid=""), 121.0)
    assert turn(node, 122.0) == (STUDY,)
    assert row(node).provisional == ""


def test_objects_that_a_step_names_and_that_never_come_make_it_provisional_and_late_ones_amend_it(node: Node) -> None:
    uids = arrive(node, 2)
    late = f"{STUDY}.9.77"
    evidence.procedure_step(node.database, "1.9", step("COMPLETED", (*uids, late)), 105.0)
    assert turn(node, 150.0) == ()
    assert turn(node, 110.0 + 60.0) == (STUDY,)
    why = "1 of the 3 objects that a procedure step names have not come"
    assert row(node).provisional == why
    with node.database.reading() as session:
        assert complete.lacking(session, STUDY) == why
    node.arrive(200.0, sop_uid=late)
    complete.settle(node.database, node.settings, since=200.0, now=200.0)
    assert turn(node, 211.0) == (STUDY,)
    assert (row(node).provisional, row(node).revision) == ("", 2)


def test_a_notification_names_what_is_missing(node: Node) -> None:
    uids = arrive(node, 2)
    evidence.availability(node.database, "1.8", notice((*uids, "1.2.3.9.50")), 105.0)
    assert turn(node, 111.0) == ()
    node.arrive(112.0, sop_uid="1.2.3.9.50")
    complete.settle(node.database, node.settings, since=112.0, now=112.0)
    assert turn(node, 123.0) == (STUDY,)


def test_what_a_later_notification_says_is_deleted_is_not_waited_for(node: Node) -> None:
    uids = arrive(node, 2)
    evidence.availability(node.database, "1.8", notice((*uids, "1.2.3.9.50")), 105.0)
    deleted = notice(("1.2.3.9.50",))
    deleted.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].InstanceAvailability = "UNAVAILABLE"
    evidence.availability(node.database, "1.9", deleted, 106.0)
    assert turn(node, 111.0) == (STUDY,)


def test_a_notification_of_our_own_results_and_of_what_is_no_image_names_nothing_that_is_missing(node: Node) -> None:
    uids = arrive(node, 2)
    with node.database.transaction() as session:
        made = {"job_id": None, "study_uid": STUDY, "model": "m", "kind": "key-image", "digest": "", "file": "f"}
        session.add(ResultRow(uid="1.9.1", sop_class_uid="1.2.840.10008.5.1.4.1.1.7", size=1, created_at=1.0, **made))
    said = notice((*uids, "1.9.1", "1.2.3.9.70"))
    said.ReferencedSeriesSequence[0].ReferencedSOPSequence[-1].ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"
    evidence.availability(node.database, "1.8", said, 105.0)
    assert turn(node, 111.0) == (STUDY,)


def test_an_acquisition_that_was_broken_off_is_provisional_until_another_step_completes_it(node: Node) -> None:
    uids = arrive(node, 2)
    broken = step("DISCONTINUED", tuple(uids))
    reason = Dataset()
    reason.CodeValue, reason.CodingSchemeDesignator, reason.CodeMeaning = "110514", "DCM", "TEST^ANNA"
    broken.PerformedProcedureStepDiscontinuationReasonCodeSequence = [reason]
    evidence.procedure_step(node.database, "1.9", broken, 105.0)
    assert turn(node, 111.0) == () and turn(node, 171.0) == (STUDY,)
    why = "its acquisition was broken off (procedure step discontinued: Incorrect worklist entry selected)"
    assert row(node).provisional == why
    is_read(node)
    evidence.procedure_step(node.database, "1.10", step("COMPLETED", tuple(uids)), 200.0)
    assert second_look.amend(node.database, 201.0) == (STUDY,)


def test_a_step_that_names_no_study_is_refused(node: Node) -> None:
    with pytest.raises(RefusedError, match="names no study"):
        evidence.procedure_step(node.database, "1.9", step("IN PROGRESS", study_uid=""), 1.0)


def test_a_peer_that_counts_more_is_waited_for_and_one_that_is_silent_only_for_so_long(node: Node) -> None:
    add_peer(node.database, Peer(name="pacs", address="192.0.2.1", port=104, may=("query",)))
    arrive(node, 2)
    assert turn(node, 111.0) == ()  # it has not been asked
    evidence.keep(node.database, STUDY, evidence.QUERY, "pacs", 111.0, instances=3)
    assert turn(node, 112.0) == ()
    evidence.keep(node.database, STUDY, evidence.QUERY, "pacs", 113.0, instances=2)
    assert turn(node, 114.0) == (STUDY,)


def test_a_peer_that_never_answers_makes_nothing_provisional(node: Node) -> None:
    add_peer(node.database, Peer(name="pacs", address="192.0.2.1", port=104, may=("query",)))
    arrive(node, 2)
    assert turn(node, 111.0) == () and turn(node, 171.0) == (STUDY,)
    assert row(node).provisional == ""
    last = [e.sentence for e in node.story().events][-1]
    assert last == "Quiet, and complete with 2 images; pacs has not said how many images there are."


def test_a_peer_that_falls_silent_takes_nothing_of_its_count_back(node: Node) -> None:
    add_peer(node.database, Peer(name="pacs", address="192.0.2.1", port=104, may=("query",)))
    arrive(node, 2)
    evidence.keep(node.database, STUDY, evidence.QUERY, "pacs", 109.7, instances=5)
    evidence.unanswered(node.database, STUDY, "pacs", 112.0, "no connection")
    assert turn(node, 113.0) == () and due(node.database, "pacs", 112.0 + AGAIN_S) == (STUDY,)
    assert turn(node, 171.0) == (STUDY,)
    assert row(node).provisional == "pacs has 5 images of this study, the node 2"


def test_a_peer_that_cannot_be_asked_has_not_said_that_the_study_is_whole(node: Node) -> None:
    add_peer(node.database, Peer(name="pacs", address="192.0.2.1", port=104, may=("query",)))
    arrive(node, 2)
    evidence.unanswered(node.database, STUDY, "pacs", 112.0, "no connection")
    assert turn(node, 113.0) == () and turn(node, 171.0) == (STUDY,)
    last = [e.sentence for e in node.story().events][-1]
    assert last == "Quiet, and complete with 2 images; pacs has not said how many images there are."


def test_a_silent_peer_does_not_hide_one_that_counts_more(node: Node) -> None:
    for name in ("archive", "pacs"):
        add_peer(node.database, Peer(name=name, address="192.0.2.1", port=104, may=("query",)))
    arrive(node, 2)
    evidence.keep(node.database, STUDY, evidence.QUERY, "pacs", 111.0, instances=3)
    assert turn(node, 112.0) == () and turn(node, 171.0) == (STUDY,)
    assert row(node).provisional == "pacs has 3 images of this study, the node 2"


def test_what_a_peer_said_before_the_wire_broke_stands(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Said(by_series={}, total=7)

    class Breaking:
        def series(self, study_uid: str) -> Mapping[str, int | None]:
            if study_uid != STUDY:
                raise DeliveryError("the wire broke")
            return counted.series(study_uid)

        def studies(self, **_: str) -> tuple[Found, ...]:
            return counted.studies()

    @contextmanager
    def querying(*_: object) -> Iterator[Breaking]:
        yield Breaking()

    monkeypatch.setattr("radnode.evidence_ask.querying", querying)
    asker = EvidenceAsker(node.settings, node.database)
    asker.ask(Peer(name="pacs", address="192.0.2.1", port=104, may=("query",)), (STUDY, "1.2.77"))
    with node.database.reading() as session:
        said = {r.study_uid: (r.instances, r.error) for r in session.scalars(select(EvidenceRow))}
    assert said == {STUDY: (7, ""), "1.2.77": (None, "the wire broke")}


def test_only_results_that_have_left_are_taken_for_a_part_of_what_a_peer_counts(node: Node) -> None:
    result = {"job_id": None, "study_uid": STUDY, "model": "m", "kind": "sr", "sop_class_uid": "1.2", "digest": ""}
    with node.database.transaction() as session:
        for uid in ("1.1", "1.2"):
            session.add(ResultRow(uid=uid, file=uid, size=1, created_at=1.0, **result))
        session.flush()
        times = {"created_at": 1.0, "due_at": 1.0}
        sent = DeliveryRow(result_uid="1.1", study_uid=STUDY, destination="pacs", state="delivered", **times)
        sent.delivered_at = 2.0
        owed = DeliveryRow(result_uid="1.2", study_uid=STUDY, destination="pacs", state="owed", **times)
        session.add_all((sent, owed))
        session.flush()
        assert evidence.own_objects(session, STUDY) == 1


def test_findings_of_a_part_say_so(tmp_path: Path) -> None:
    whole = findings(scene(tmp_path, shape=(2, 8, 8)), ())
    found = said_provisional(whole, "PACS has 3 images of this study, the node 2")
    assert found.partial_because and "Read as provisional: PACS has 3 images" in found.partial_because
    assert said_provisional(whole, "") is whole


@pytest.mark.system
def test_orthanc_is_asked_how_many_images_there_are(node: Node, shared_pacs: Orthanc) -> None:
    study = "1.2.3.404"
    for n in range(4):
        shared_pacs.upload(encoded(dataset(study, f"{study}.{n}")))
    for n in range(3):
        node.arrive(100.0, study_uid=study, sop_uid=f"{study}.{n}")
    complete.settle(node.database, node.settings, since=100.0, now=100.0)
    add_peer(
        node.database,
        Peer(name="pacs", ae_title="PACS", address="127.0.0.1", port=shared_pacs.dicom_port, may=("send", "query")),
    )
    EvidenceAsker(node.settings, node.database).turn()

    def said() -> list[EvidenceRow]:
        with node.database.reading() as session:
            return list(session.scalars(select(EvidenceRow)))

    until(said, "Orthanc's count")
    assert [(r.key, r.instances, r.error) for r in said()] == [("pacs", 4, "")]
    assert turn(node, 111.0) == ()


@pytest.mark.system
def test_steps_and_notifications_come_over_associations(tmp_path: Path) -> None:
    with receiver(tmp_path / "data", host="127.0.0.1", accept_unknown_callers="true") as running:
        ae = AE("MODALITY")
        ae.add_requested_context(STEP)
        ae.add_requested_context(NOTICE)
        association = ae.associate("127.0.0.1", running.port, ae_title="RADNODE")
        assert association.is_established
        created, _ = association.send_n_create(step("IN PROGRESS"), STEP, "1.2.3.99")
        done, _ = association.send_n_set(step("COMPLETED", ("1.2.3.9.1",), study_uid=""), STEP, "1.2.3.99")
        told, _ = association.send_n_create(notice(("1.2.3.9.1", "1.2.3.9.2")), NOTICE, "1.2.3.98")
        unknown, _ = association.send_n_set(step("COMPLETED", study_uid=""), STEP, "1.2.3.97")
        association.release()
        assert [s.Status for s in (created, done, told, unknown)] == [0, 0, 0, 0x0110]
        with running.database.reading() as session:
            rows = session.scalars(select(EvidenceRow).order_by(EvidenceRow.source)).all()
        assert [(r.source, r.ended, r.named) for r in rows] == [
            ("ian", True, ["1.2.3.9.1", "1.2.3.9.2"]),
            ("mpps", True, ["1.2.3.9.1"]),
        ]


def test_a_waiting_study_is_still_being_received(node: Node) -> None:
    arrive(node, 1)
    evidence.procedure_step(node.database, "1.9", step("IN PROGRESS"), 90.0)
    turn(node, 111.0)
    assert node.study().state is StudyState.RECEIVING


@dataclass(frozen=True, kw_only=True)
class Said:
    """In the place of a finder: a PACS that counts these."""

    by_series: Mapping[str, int | None]
    total: int | None
    listed: Mapping[str, int] = field(default_factory=dict)

    def images(self, study_uid: str, series_uid: str) -> int | None:
        return self.listed.get(series_uid)

    def series(self, study_uid: str) -> Mapping[str, int | None]:
        return self.by_series

    def studies(self, **_: str) -> tuple[Found, ...]:
        return (Found(study_uid=STUDY, instances=self.total),)


@pytest.mark.parametrize(
    ("by_series", "total", "found"),
    (
        ({"1.1": 3, "1.2": 2, "1.9": 1}, None, (5, {"1.1": 3, "1.2": 2})),  # 1.9 is the node's own
        ({"1.1": 3, "1.2": None}, 7, (6, {"1.1": 3})),
        ({"1.1": None}, 5, (4, {})),
        ({}, 5, (4, {})),
        ({"1.1": None}, None, (None, {})),
    ),
)
def test_where_series_are_not_counted_the_study_is(
    by_series: Mapping[str, int | None], total: int | None, found: tuple[int | None, dict[str, int]]
) -> None:
    assert count(Said(by_series=by_series, total=total), STUDY, {"1.9"}, 1) == found


def test_where_nothing_is_counted_what_is_listed_is() -> None:
    said = Said(by_series={"1.1": None, "1.2": 2, "1.9": None}, total=None, listed={"1.1": 3, "1.9": 4})
    assert count(said, STUDY, {"1.9"}, 1) == (5, {"1.1": 3, "1.2": 2})


def test_an_image_too_many_here_does_not_hide_one_that_is_missing(node: Node) -> None:
    add_peer(node.database, Peer(name="pacs", address="192.0.2.1", port=104, may=("query",)))
    arrive(node, 2)
    with node.database.reading() as session:
        (here,) = set(session.scalars(select(InstanceRow.series_uid)))
    evidence.keep(node.database, STUDY, evidence.QUERY, "pacs", 111.0, instances=2, series={here: 1, "1.2.3.77": 1})
    assert turn(node, 112.0) == () and due(node.database, "pacs", 111.0 + AGAIN_S) == (STUDY,)
    assert turn(node, 171.0) == (STUDY,)
    assert row(node).provisional == "pacs has 1 images in series of this study that the node has not"


def fetched(node: Node, state: str, ended_at: float | None = None) -> None:
    with node.database.transaction() as session:
        session.execute(delete(FetchRow))
        row = FetchRow(study_uid=STUDY, peer="pacs", why=fetches.HAND, wanted_by="anna", state=state, attempt=1)
        row.created_at, row.due_at, row.ended_at = 90.0, 130.0, ended_at
        session.add(row)


def test_a_study_whose_fetch_goes_on_is_waited_for_and_one_whose_fetch_broke_off_is_provisional(node: Node) -> None:
    arrive(node, 2)
    for state in (fetches.RUNNING, fetches.QUEUED):
        fetched(node, state)
        assert turn(node, 111.0) == (), state
    fetched(node, fetches.FAILED, ended_at=105.0)
    assert turn(node, 111.0) == () and turn(node, 171.0) == (STUDY,)
    assert row(node).provisional == "it could not be fetched whole from pacs"


def test_a_fetch_that_was_given_up_and_brought_nothing_ends_what_it_held_up(node: Node) -> None:
    add_peer(node.database, Peer(name="pacs", ae_title="ARCHIVE", address="192.0.2.1", port=104, may=("retrieve",)))
    arrive(node, 2)
    fetched(node, fetches.RUNNING)
    with node.database.transaction() as session:
        session.execute(update(FetchRow).values(attempt=0))
    assert turn(node, 171.0) == (STUDY,), "the wait is over"
    is_read(node)
    for attempt in range(fetches.ATTEMPTS):
        wanted = fetches.claim(node.database, "pacs", 1e6)
        assert wanted is not None and row(node).provisional == "it is still being fetched from pacs"
        assert second_look.amend(node.database, 180.0 + attempt) == ()
        fetches.failed(node.database, wanted, "no connection", 180.0 + attempt, 0.0, brought=0)
    told = [e.sentence for e in node.story(STUDY).events]
    assert (
        f"{STUDY} could not be fetched from pacs: no connection. Nothing of it came from there: what others sent counts by itself."
        in told
    )
    assert second_look.amend(node.database, 190.0) == (STUDY,)
    assert turn(node, 191.0) == (STUDY,) and row(node).provisional == "", "the same images, as whole"


@pytest.mark.parametrize("brought", [(1, 0, 0, 0, 0), (None, 0, 0, 0, 0), (0, 0, 0, 0, 2)])
def test_a_fetch_that_may_have_brought_a_part_stays_provisional_until_its_peer_counts_no_more(
    node: Node, brought: tuple[int | None, ...]
) -> None:
    arrive(node, 2)
    fetched(node, fetches.QUEUED)
    with node.database.transaction() as session:
        session.execute(update(FetchRow).values(attempt=0))
    for many in brought:
        wanted = fetches.claim(node.database, "pacs", 1e6)
        assert wanted is not None
        fetches.failed(node.database, wanted, "it broke off", 105.0, 0.0, brought=many)
    assert turn(node, 111.0) == ()
    evidence.keep(node.database, STUDY, evidence.QUERY, "pacs", 112.0, instances=3)
    assert turn(node, 113.0) == (), "the peer has more"
    evidence.keep(node.database, STUDY, evidence.QUERY, "pacs", 114.0, instances=2)
    assert turn(node, 115.0) == (STUDY,) and row(node).provisional == ""


def test_images_under_the_name_of_the_peer_are_a_part_whatever_the_fetch_says(node: Node) -> None:
    add_peer(node.database, Peer(name="pacs", ae_title="PACS", address="192.0.2.1", port=104, may=("retrieve",)))
    arrive(node, 2)
    fetched(node, fetches.FAILED, ended_at=105.0)
    with node.database.transaction() as session:
        session.execute(update(FetchRow).values(instances=0))
        session.execute(update(InstanceRow).values(calling_ae="PACS"))
    assert turn(node, 171.0) == (STUDY,)
    assert row(node).provisional == "it could not be fetched whole from pacs"


def test_a_fetch_that_brought_all_or_failed_before_the_images_came_says_nothing(node: Node) -> None:
    arrive(node, 2)
    for state, ended_at in ((fetches.DONE, 105.0), (fetches.FAILED, 99.0)):
        fetched(node, state, ended_at)
        with node.database.reading() as session:
            assert fetches.unfinished(session, session.get_one(StudyRow, STUDY)) == ""


def is_read(node: Node) -> None:
    with node.database.transaction() as session:
        session.execute(update(StudyRow).values(state=StudyState.READ))


def test_a_fetch_that_is_tried_again_and_brings_nothing_new_has_the_study_read_again_as_whole(node: Node) -> None:
    arrive(node, 2)
    fetched(node, fetches.FAILED, ended_at=105.0)
    assert turn(node, 171.0) == (STUDY,)
    with node.database.transaction() as session:
        session.get_one(StudyRow, STUDY).state = StudyState.READ
    assert second_look.amend(node.database, 180.0) == ()
    fetched(node, fetches.DONE, ended_at=179.0)
    assert second_look.amend(node.database, 180.0) == (STUDY,)
    assert turn(node, 181.0) == (STUDY,)
    assert (row(node).provisional, row(node).revision) == ("", 2)


def test_a_step_that_ends_after_the_study_was_read_has_it_read_again_as_whole(node: Node) -> None:
    uids = arrive(node, 2)
    evidence.procedure_step(node.database, "1.9", step("IN PROGRESS"), 90.0)
    assert turn(node, 171.0) == (STUDY,) and row(node).provisional
    is_read(node)
    assert second_look.amend(node.database, 200.0) == ()
    evidence.procedure_step(node.database, "1.9", step("COMPLETED", (*uids, "1.2.3.9.99")), 300.0)
    assert second_look.amend(node.database, 301.0) == (), "it names an image that has not come"
    evidence.procedure_step(node.database, "1.8", step("IN PROGRESS"), 302.0)
    node.arrive(303.0, sop_uid="1.2.3.9.99")
    complete.settle(node.database, node.settings, since=303.0, now=303.0)
    assert turn(node, 400.0) == (STUDY,) and row(node).revision == 2
    is_read(node)
    evidence.procedure_step(node.database, "1.8", step("COMPLETED"), 500.0)
    assert second_look.amend(node.database, 501.0) == (STUDY,)
    assert second_look.amend(node.database, 501.0) == ()
    assert (row(node).revision, row(node).state, row(node).provisional) == (3, StudyState.RECEIVING, "")
    assert turn(node, 501.1) == (STUDY,)
    assert (row(node).provisional, row(node).instances) == ("", 3)


def test_a_study_that_a_pacs_has_more_of_is_not_called_whole_because_a_step_ends(node: Node) -> None:
    add_peer(node.database, Peer(name="pacs", address="192.0.2.1", port=104, may=("query",)))
    uids = arrive(node, 2)
    evidence.procedure_step(node.database, "1.9", step("IN PROGRESS"), 90.0)
    evidence.keep(node.database, STUDY, evidence.QUERY, "pacs", 111.0, instances=3)
    assert turn(node, 171.0) == (STUDY,)
    is_read(node)
    evidence.procedure_step(node.database, "1.9", step("COMPLETED", tuple(uids)), 300.0)
    assert second_look.amend(node.database, 301.0) == ()


def test_what_a_step_made_that_is_no_image_is_not_waited_for(node: Node) -> None:
    uids = arrive(node, 2)
    ended = step("COMPLETED", tuple(uids))
    ended.PerformedSeriesSequence[0].ReferencedNonImageCompositeSOPInstanceSequence = [reference("1.2.3.9.70")]
    evidence.procedure_step(node.database, "1.9", ended, 105.0)
    assert turn(node, 110.5) == (STUDY,) and row(node).provisional == ""


class Odd:
    """In the place of an association: a PACS that does not count, lists things twice, and knows Chinese names."""

    def __init__(self) -> None:
        self.asked: list[Dataset] = []

    def send_c_find(self, query: Dataset, _model: str) -> Iterator[tuple[Dataset, Dataset | None]]:
        self.asked.append(query)
        status = Dataset()
        for uid in ("1.1", "1.2", "1.2") if query.QueryRetrieveLevel == "IMAGE" else ("1.7", "1.7"):
            status.Status = 0xFF01
            item = Dataset()
            item.StudyInstanceUID, item.SeriesInstanceUID, item.SOPInstanceUID, item.Modality = STUDY, "1.7", uid, "CT"
            item.NumberOfSeriesRelatedInstances = item.NumberOfStudyRelatedInstances = 0
            item.PatientID = "  病1"
            yield status, item
        status.Status = 0
        yield status, None


def test_a_count_of_nothing_is_no_count_and_the_images_that_are_listed_are_counted_once() -> None:
    pacs = Odd()
    assert count(Finder(pacs), STUDY, (), 0) == (2, {"1.7": 2})
    assert [(f.study_uid, f.patient_id, f.instances) for f in Finder(pacs).studies(PatientID="病1")] == [
        (STUDY, "病1", None)
    ]
    assert pacs.asked[-1].SpecificCharacterSet == "ISO_IR 192" and "SpecificCharacterSet" not in pacs.asked[0]


def test_an_answer_that_cannot_be_read_is_not_taken_for_nothing() -> None:
    class Garbled:
        def send_c_find(self, _query: Dataset, _model: str) -> Iterator[tuple[Dataset, Dataset | None]]:
            for code in (0xFF00, 0x0000):
                status = Dataset()
                status.Status = code
                yield status, None

    with pytest.raises(DeliveryError, match="1 of its answers to C-FIND cannot be read"):
        Finder(Garbled()).series(STUDY)


def test_what_comes_while_a_peer_counts_is_newer_than_its_count(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Said):
        def series(self, study_uid: str) -> Mapping[str, int | None]:
            node.arrive(time.time())
            complete.settle(node.database, node.settings, since=0.0, now=time.time())
            return super().series(study_uid)

    @contextmanager
    def querying(*_: object) -> Iterator[Said]:
        yield Slow(by_series={"1.2.3.1": 1}, total=1)

    monkeypatch.setattr("radnode.evidence_ask.querying", querying)
    peer = Peer(name="pacs", address="192.0.2.1", port=104, may=("query",))
    add_peer(node.database, peer)
    EvidenceAsker(node.settings, node.database).ask(peer, (STUDY,))
    assert turn(node, time.time() + 20.0) == (), "its count is older than the image"
    assert due(node.database, "pacs", time.time() + 20.0) == (STUDY,)


class Answering:
    """In the place of an association: answers every C-FIND with these series, (UID, modality, how many)."""

    def __init__(self, *series: tuple[str, str, int]) -> None:
        self.series = series

    def send_c_find(self, query: Dataset, _model: str) -> Iterator[tuple[Dataset, Dataset | None]]:
        assert query.QueryRetrieveLevel == "SERIES"
        status = Dataset()
        for uid, modality, many in self.series:
            status.Status = 0xFF00
            item = Dataset()
            item.SeriesInstanceUID, item.Modality, item.NumberOfSeriesRelatedInstances = uid, modality, many
            yield status, item
        status.Status = 0
        yield status, None


def test_a_dose_report_that_only_the_pacs_has_makes_no_part_of_a_study() -> None:
    finder = Finder(Answering(("1.1", "CT", 100), ("1.2", "SR", 1), ("1.3", "PR", 4), ("1.4", "SEG", 1)))
    assert finder.series(STUDY) == {"1.1": 100, "1.4": 1}


def test_a_peer_is_asked_about_every_study_however_many_wait_for_it(node: Node) -> None:
    studies = [f"1.2.3.{n}" for n in range(MOST + 1)]
    for n, study_uid in enumerate(studies):
        node.arrive(100.0 + n / 1000, study_uid=study_uid)
    complete.settle(node.database, node.settings, since=100.0, now=100.0)
    for study_uid in studies[:MOST]:
        evidence.keep(node.database, study_uid, evidence.QUERY, "pacs", 111.0, instances=9)
    assert due(node.database, "pacs", 112.0) == (studies[MOST],)


def test_images_that_only_the_pacs_has_are_not_hidden_by_results_of_the_node(node: Node) -> None:
    arrive(node, 2)
    with node.database.transaction() as session:
        (here,) = set(session.scalars(select(InstanceRow.series_uid)))
        made = {"job_id": None, "study_uid": STUDY, "model": "m", "kind": "sr", "digest": "d", "file": "f", "size": 1}
        left = {"study_uid": STUDY, "destination": "out", "state": "delivered", "created_at": 1.0, "due_at": 1.0}
        for uid in ("1.9.1", "1.9.2"):
            session.add(ResultRow(uid=uid, sop_class_uid="1.2", series_uid="1.9", created_at=1.0, current=True, **made))
            session.flush()
            session.add(DeliveryRow(result_uid=uid, delivered_at=1.0, **left))
    is_read(node)

    def lacking(by_series: dict[str, int | None], total: int) -> list[tuple[int | None, int]]:
        found = Found(study_uid=STUDY, instances=total)
        said = reconcile.images_of(node.database, Said(by_series=by_series, total=total), found)
        reconcile.keep(node.database, "pacs", [said], 200.0)
        with node.database.reading() as session:
            return [(u.instances, u.here) for u in reconcile.unseen(session)]

    assert lacking({here: 4}, 4) == [(4, 2)], "two images are missing, and two results went elsewhere"
    assert lacking({here: 2, "1.9": 2}, 4) == []
    assert lacking({here: 1, "1.2.3.77": 1}, 3) == [(3, 2)]


def test_a_peer_whose_answer_cannot_be_used_is_told_and_no_evening_of_any_zone_is_left_out(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Strange:
        def studies(self, **keys: str) -> tuple[Found, ...]:
            asked.append(keys["StudyDate"])
            raise ValueError("no date")

    @contextmanager
    def querying(*_: object) -> Iterator[Strange]:
        yield Strange()

    monkeypatch.setattr("radnode.reconcile.querying", querying)
    peer, now = (
        Peer(name="pacs", address="192.0.2.1", port=104, may=("query",)),
        1_710_032_400.0,
    )  # 2024-03-10 01:00 UTC
    with pytest.raises(DeliveryError, match="cannot be read"):
        reconcile.ask(node.database, node.settings, peer, 1, now)
    with node.database.reading() as session:
        assert reconcile.asked(session)["pacs"].error == "its answer cannot be read (ValueError)"
    assert asked == ["20240308-20240311"], "in Los Angeles it is the afternoon of the 9th"
