"""A caller for which no association was free while it was sending: its half study is not called whole."""

import time
from pathlib import Path

import pytest
from sqlalchemy import update
from support.core import STUDY, Node, dataset, encoded
from support.receiver import receiver, wait_until
from support.wire import VERIFICATION, Wire

from radnode import complete, evidence, second_look, studies, turned_away
from radnode.peers.table import Peer, add_peer, list_refusals
from radnode.states import StudyState
from radnode.tables import StudyRow

WHY = "WIRE, which sends it, was refused because there were too many associations, and has not come back"


def arrive(node: Node, at: float, ae: str = "WIRE", **kw: str) -> None:
    node.arrive(at, ae=ae, **kw)
    complete.settle(node.database, node.settings, since=at, now=at)


def turn(node: Node, now: float) -> tuple[str, ...]:
    return complete.complete(node.database, now=now, evidence_wait_s=60.0)


@pytest.mark.system
def test_half_a_study_of_a_caller_that_was_refused_for_want_of_seats_waits_for_it(tmp_path: Path) -> None:
    images = {uid: encoded(dataset(STUDY, uid)) for uid in ("1.2.3.9.1", "1.2.3.9.2")}
    with receiver(tmp_path / "data", accept_unknown_callers=True, max_associations=1) as node:

        def later() -> tuple[str, ...]:
            complete.settle(node.database, node.settings, since=0.0, now=time.time())
            return complete.complete(node.database, now=time.time() + 60.0, evidence_wait_s=3600.0)

        def provisional() -> str:
            with node.database.reading() as session:
                study = studies.study(session, STUDY)
            assert study is not None
            return study.provisional

        with Wire(node.port) as one, Wire(node.port) as two:
            assert one.associate()[0] == 2 and one.status("1.2.3.9.1", images["1.2.3.9.1"]) == 0
            assert two.associate()[0] == 3
            assert one.release() == 6
        (told,) = list_refusals(node.database)
        assert (told.calling_ae, told.reason, told.count) == ("WIRE", "There are too many associations.", 1)
        assert later() == () and provisional() == WHY

        def echoed() -> bool:
            with Wire(node.port) as wire:
                return wire.associate(VERIFICATION)[0] == 2

        wait_until(echoed, 60, "a seat for an echo")
        assert later() == () and provisional() == WHY, "an echo brings no images"

        def sent() -> bool:
            with Wire(node.port) as wire:
                return wire.associate()[0] == 2 and wire.status("1.2.3.9.2", images["1.2.3.9.2"]) == 0

        wait_until(sent, 60, "a seat")
        wait_until(later, 60, "the end of the association")
        assert provisional() == ""


def test_a_caller_that_never_comes_back_leaves_a_provisional_study_and_others_wait_for_nothing(node: Node) -> None:
    arrive(node, 100.0)
    arrive(node, 100.0, ae="OTHER", study_uid="1.2.77")
    turned_away.refused(node.database, "WIRE", 101.0, seated=False)
    assert turn(node, 111.0) == ("1.2.77",) and turn(node, 171.0) == (STUDY,)
    assert node.study().provisional == WHY
    with node.database.transaction() as session:
        session.execute(update(StudyRow).where(StudyRow.study_uid == STUDY).values(state=StudyState.READ))
    turned_away.back(node.database, node.settings, "WIRE", "127.0.0.1", 300.0)
    assert second_look.amend(node.database, 359.0) == () and second_look.amend(node.database, 361.0) == (STUDY,)
    assert turn(node, 362.0) == (STUDY,) and node.study().provisional == ""


def test_a_caller_that_comes_back_has_its_quiet_time_again(node: Node) -> None:
    arrive(node, 100.0)
    turned_away.refused(node.database, "WIRE", 101.0, seated=False)
    turned_away.back(node.database, node.settings, "WIRE", "127.0.0.1", 100.9)  # it came before another was refused
    assert turn(node, 111.0) == ()
    turned_away.back(node.database, node.settings, "WIRE", "127.0.0.1", 130.0)
    assert turn(node, 139.9) == () and turn(node, 140.1) == (STUDY,)
    assert node.study().provisional == ""
    turned_away.back(node.database, node.settings, "WIRE", "127.0.0.1", 150.0)  # nobody refused it since
    assert node.study().due_at == 140.0


def test_who_asks_for_all_its_associations_at_once_is_refused_before_its_first_image(node: Node) -> None:
    turned_away.refused(node.database, "SCAN", 99.0, seated=False)  # sends nothing: nothing is missing
    turned_away.refused(node.database, "WIRE", 99.0, seated=True)
    arrive(node, 100.0)
    arrive(node, 100.0, ae="SCAN", study_uid="1.2.77")
    assert turn(node, 111.0) == ("1.2.77",)


def test_a_pacs_that_counts_no_more_than_is_here_vouches_for_it(node: Node) -> None:
    add_peer(node.database, Peer(name="pacs", address="192.0.2.1", port=104, may=("query",)))
    arrive(node, 100.0)
    turned_away.refused(node.database, "WIRE", 101.0, seated=False)
    evidence.keep(node.database, STUDY, evidence.QUERY, "pacs", 109.0, instances=1)
    assert turn(node, 111.0) == (STUDY,)
    assert node.study().provisional == ""
