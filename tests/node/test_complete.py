import time

import pytest
from sqlalchemy import update
from support.core import STUDY, Node
from support.results import Ended, dicom_result, record

from radnode import complete, pipeline
from radnode.database import Database
from radnode.peers.table import Peer, add_peer
from radnode.sending import Sending, forget
from radnode.states import JobState, StudyState
from radnode.tables import InstanceRow, SendingRow

LATE_START = 0.0


def settle(node: Node, now: float, since: float = LATE_START) -> int:
    return complete.settle(node.database, node.settings, since=since, now=now)


def finish(node: Node, now: float) -> tuple[str, ...]:
    return complete.complete(node.database, now=now)


def test_the_first_image_makes_a_study_with_what_its_header_says(node: Node) -> None:
    node.arrive(100.0, AccessionNumber="A1", PatientSex="F", StudyDate="20260101")
    node.arrive(101.0, SeriesInstanceUID="1.2.3.2", Modality="SR")
    assert settle(node, 102.0) == 2
    study = node.study()
    assert (study.patient_id, study.patient_name, study.patient_sex) == ("P1", "TEST^ANNA", "F")
    assert (study.accession_number, study.study_date, study.body_part) == ("A1", "20260101", "CHEST")
    assert (study.modalities, study.instances, study.calling_ae) == ("CT\\SR", 2, "PACS")
    assert (study.state, study.revision, study.due_at) == (StudyState.RECEIVING, 1, 111.0)
    assert settle(node, 103.0) == 0


def test_a_study_is_complete_when_quiet_and_not_before(node: Node) -> None:
    node.arrive(100.0)
    settle(node, 100.1)
    assert finish(node, 109.9) == ()
    node.arrive(109.0)
    settle(node, 109.95)
    assert finish(node, 110.0) == ()
    assert finish(node, 119.0) == (STUDY,)
    assert node.study().state is StudyState.COMPLETE
    assert finish(node, 120.0) == ()


def test_an_image_that_comes_while_arrivals_are_looked_at_begins_the_quiet_time_when_it_came(node: Node) -> None:
    node.arrive(100.0)
    node.arrive(100.25)
    settle(node, 100.1)
    assert node.study().due_at == 110.25


def test_a_clock_that_was_turned_back_makes_no_study_wait_for_it(node: Node) -> None:
    node.arrive(5000.0)
    settle(node, 100.0)
    assert node.study().due_at == 110.0


def test_a_study_with_an_image_that_is_not_counted_yet_is_not_complete(node: Node) -> None:
    node.arrive(100.0)
    settle(node, 100.1)
    node.arrive(200.0)
    assert finish(node, 300.0) == ()


def test_a_study_is_not_complete_while_an_association_that_sent_images_of_it_is_open(node: Node) -> None:
    node.arrive(100.0)
    node.arrive(100.0, study_uid="1.2.4")
    settle(node, 100.1)
    one, other = (Sending(node.database, slot=n, pause_s=60.0) for n in (0, 1))
    for sender in (one, other):
        sender.sent(STUDY)
        sender.sent(STUDY)
    assert finish(node, 110.0) == ("1.2.4",)
    one.end()
    assert finish(node, 111.0) == ()
    other.end()
    assert finish(node, 112.0) == (STUDY,)


def test_an_association_that_went_silent_or_whose_process_ended_holds_no_study(node: Node) -> None:
    node.arrive(100.0)
    settle(node, 100.1)
    silent = Sending(node.database, slot=0, pause_s=60.0)
    begun = time.time()
    silent.sent(STUDY)
    assert finish(node, begun + 59.0) == ()
    assert finish(node, time.time() + 61.0) == (STUDY,)
    node.arrive(100.0, study_uid="1.2.4")
    settle(node, 100.1)
    silent.sent("1.2.4")
    assert finish(node, 110.0) == ()
    forget(node.database, 1)
    assert finish(node, 111.0) == ()
    forget(node.database, 0)
    assert finish(node, 112.0) == ("1.2.4",)


def test_an_association_that_goes_on_sending_holds_its_studies_on(node: Node) -> None:
    node.arrive(100.0)
    settle(node, 100.1)
    sender = Sending(node.database, slot=0, pause_s=60.0)
    sender.sent(STUDY)
    with node.database.transaction() as session:
        session.execute(update(SendingRow).values(alive_until=105.0))
    sender.alive()
    assert finish(node, 110.0) == ()


def test_a_peer_has_its_own_quiet_time(node: Node) -> None:
    add_peer(node.database, Peer(name="slow", ae_title="SLOW", quiet_s=60.0))
    add_peer(node.database, Peer(name="any", quiet_s=1.0))
    node.arrive(100.0, ae="SLOW")
    node.arrive(100.0, ae="OTHER", study_uid="1.2.4")
    settle(node, 100.1)
    assert node.study().due_at == 160.0
    assert node.study("1.2.4").due_at == 101.0


def test_a_late_image_reopens_a_read_study_and_ends_its_open_jobs(node: Node) -> None:
    node.arrive(100.0)
    settle(node, 100.1)
    finish(node, 110.0)
    with node.database.transaction() as session:
        assert complete.jobs.move_study(session, STUDY, StudyState.COMPLETE, StudyState.ROUTED)
    node.add_job("waiting", now=111.0)
    node.arrive(120.0)
    settle(node, 120.1)
    study = node.study()
    assert (study.state, study.revision, study.due_at, study.instances) == (StudyState.RECEIVING, 2, 130.0, 2)
    assert node.jobs()[0].state is JobState.STALE
    assert any(e.action == "reopened" and "revision 2" in e.sentence for e in node.story().events)


@pytest.mark.parametrize("state", [StudyState.COMPLETE, StudyState.ROUTED, StudyState.READ])
def test_every_state_after_receiving_is_reopened_by_a_late_image(node: Node, state: StudyState) -> None:
    node.add_study(state=state, revision=4)
    node.arrive(100.0)
    settle(node, 100.1)
    assert (node.study().state, node.study().revision) == (StudyState.RECEIVING, 5)


def test_the_nodes_own_results_coming_back_reopen_nothing_and_are_no_input(node: Node) -> None:
    node.arrive(100.0)
    settle(node, 100.1)
    finish(node, 110.0)
    node.add_job()
    made = dicom_result("sr", STUDY, "A")
    record(node.database, node.settings.data, Ended(id=1, study_uid=STUDY, model="quick"), [made])
    node.arrive(120.0, sop_uid=made.uid, Modality="SR", SeriesInstanceUID="1.2.3.77")
    assert settle(node, 120.1) == 1
    study = node.study()
    assert (study.state, study.revision, study.instances, study.modalities) == (StudyState.COMPLETE, 1, 1, "CT")
    assert node.story().events[-1].action == "returned"
    with node.database.reading() as session:
        assert len(complete.input_files(session, STUDY)) == 1


def test_a_restart_between_any_two_steps_changes_nothing(node: Node) -> None:
    def restarted() -> Node:
        database = Database(node.settings.url)
        opened.append(database)
        return Node(settings=node.settings, database=database)

    opened: list[Database] = []
    node.arrive(100.0)
    settle(restarted(), 100.1)
    node.arrive(101.0)
    settle(restarted(), 101.1)
    assert finish(restarted(), 110.5) == ()
    assert finish(restarted(), 111.0) == (STUDY,)
    assert finish(restarted(), 111.0) == ()
    assert (node.study().instances, node.study().state) == (2, StudyState.COMPLETE)
    for database in opened:
        database.close()


def test_a_node_that_was_away_gives_a_sender_its_whole_quiet_time_again(node: Node) -> None:
    node.arrive(100.0)
    settle(node, 100.1)
    node.arrive(101.0, study_uid="1.2.4")
    complete.hold(node.database, node.settings, now=500.0)
    settle(node, 500.1, since=500.0)
    assert (node.study().due_at, node.study("1.2.4").due_at) == (510.0, 510.0)
    assert finish(node, 509.0) == ()
    assert len(finish(node, 510.0)) == 2


def test_two_schedulers_count_an_image_once(node: Node) -> None:
    node.arrive(100.0)
    arrived = complete.look(node.database, node.settings, STUDY)
    assert arrived is not None
    assert complete.count_in(node.database, arrived, since=0.0, now=100.1)
    assert not complete.count_in(node.database, arrived, since=0.0, now=100.2)
    assert node.study().instances == 1


def test_a_study_that_cannot_be_settled_holds_up_no_other(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.arrive(100.0, study_uid="1.2.4")
    node.arrive(100.0)
    with node.database.transaction() as session:
        broken = session.query(InstanceRow).filter_by(study_uid="1.2.4").one()
        (node.settings.data / broken.file).write_bytes(b"no DICOM")
    settle(node, 100.1)
    assert node.study().instances == 1
    assert node.study("1.2.4").patient_id == ""
    assert "cannot be read" in caplog.text


def test_routing_stores_every_decision_with_its_jobs_and_story(node: Node) -> None:
    from support.models import card

    node.arrive(100.0)
    settle(node, 100.1)
    finish(node, 110.0)
    cards = (card("ct-lung", "quick"), card("mr-breast-kinetics", "quick"))
    assert pipeline.route(node.database, node.settings, cards) == 1
    story = node.story()
    chosen = {r.model: r.chosen for r in story.routes}
    assert chosen == {"ct-lung": True, "mr-breast-kinetics": False, "ct-voco": False}
    assert [j.model for j in story.jobs] == ["ct-lung"]
    assert story.study.state is StudyState.ROUTED
    assert pipeline.route(node.database, node.settings, cards) == 0


def test_a_study_without_a_job_is_read_and_says_why(node: Node) -> None:
    node.arrive(100.0, BodyPartExamined="KNEE", StudyDescription="CT knee")
    settle(node, 100.1)
    finish(node, 110.0)
    pipeline.route(node.database, node.settings, ())
    story = node.story()
    assert (story.study.state, story.jobs) == (StudyState.READ, ())
    assert story.routes[0].model == ""
    assert "No rule matched" in story.routes[0].reason and "KNEE" in story.routes[0].reason


def test_a_study_whose_files_are_gone_says_so_and_holds_up_no_other(node: Node) -> None:
    node.arrive(100.0, study_uid="1.2.4")
    node.arrive(100.0)
    settle(node, 100.1)
    for file in (node.settings.data / "objects").glob("1.2.4*"):
        file.unlink()
    assert len(finish(node, 110.0)) == 2
    assert pipeline.route(node.database, node.settings, ()) == 2
    assert "cannot be looked at" in node.story("1.2.4").routes[0].reason
