"""What a destination has or may have is taken back, whatever became of its delivery since."""

import time

import pytest
from sqlalchemy import select
from support.core import STUDY, Node
from support.results import Ended, dicom_result, record

from radnode import outbox
from radnode.destinations import REJECTION
from radnode.outbox import Batch, Outbox
from radnode.retract import by_person
from radnode.settings import Destination
from radnode.states import DeliveryState
from radnode.tables import DeliveryRow, ResultRow

PACS = Destination(name="pacs", kind="folder", folder="/nowhere")


def read(node: Node, content: str, *, again: bool = False) -> None:
    """The model m has read the study and made a report of this content."""
    if not node.jobs():
        node.settings = node.settings.model_copy(update={"destinations": (PACS,)})
        node.add_study()
        node.add_job("m")
    ended = Ended(id=node.jobs()[0].id, study_uid=STUDY, model="m")
    made = [dicom_result("sr", STUDY, content, digest=content * 64)]
    record(node.database, node.settings.data, ended, made, (PACS,), again=again)


def box(node: Node) -> Outbox:
    return Outbox(node.database, node.settings.data)


def claim(node: Node) -> Batch:
    batch = box(node).claim("pacs", time.time(), 10.0)
    assert batch is not None
    return batch


def deliver(node: Node, batch: Batch) -> None:
    for delivery in batch.deliveries:
        box(node).delivered(batch.token, delivery, "", time.time())


def retract(node: Node) -> bool:
    return bool(by_person(node.database, node.settings, STUDY, "m", "quality", "wrong side", time.time()))


def states(node: Node) -> list[tuple[str, str]]:
    with node.database.reading() as session:
        query = select(ResultRow.kind, DeliveryRow.state).join(DeliveryRow, DeliveryRow.result_uid == ResultRow.uid)
        return [(row.kind, row.state) for row in session.execute(query.order_by(DeliveryRow.id))]


def named(node: Node) -> int:
    """How many reports the rejection notes name."""
    with node.database.reading() as session:
        files = session.scalars(select(ResultRow.file).where(ResultRow.kind == REJECTION)).all()
        uids = session.scalars(select(ResultRow.uid).where(ResultRow.kind == "sr")).all()
    notes = [(node.settings.data / file).read_bytes() for file in files]
    return sum(uid.encode() in note for note in notes for uid in uids)


def test_what_is_there_and_owed_once_more_is_taken_back(node: Node) -> None:
    read(node, "A")
    deliver(node, claim(node))
    read(node, "A", again=True)  # a person asked for another run; the PACS does not answer now
    assert states(node) == [("sr", DeliveryState.OWED)]
    assert retract(node)
    assert states(node) == [("sr", DeliveryState.WITHDRAWN), (REJECTION, DeliveryState.OWED)]
    assert not retract(node), "once is enough"


def test_what_a_sender_that_was_killed_had_in_hand_is_taken_back(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    read(node, "A")
    claim(node)  # the PACS took it; nobody lived to write that down
    monkeypatch.setattr(outbox, "is_alive", lambda _: False)
    assert box(node).release_lost() == 1
    assert retract(node)
    assert states(node)[-1] == (REJECTION, DeliveryState.OWED)


def test_what_is_there_and_was_given_up_is_taken_back(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    read(node, "A")
    claim(node)  # the PACS took it; nobody lived to write that down
    monkeypatch.setattr(outbox, "is_alive", lambda _: False)
    box(node).release_lost()
    again = claim(node)
    box(node).give_up(again.token, again.deliveries, "it is a duplicate", time.time())
    assert retract(node)
    assert states(node) == [("sr", DeliveryState.DEAD), (REJECTION, DeliveryState.OWED)] and named(node) == 1
    assert not retract(node), "once is enough"


def test_what_arrived_after_it_was_superseded_is_taken_back_with_what_took_its_place(node: Node) -> None:
    read(node, "A")
    under_way = claim(node)
    read(node, "B")
    deliver(node, under_way)
    deliver(node, claim(node))
    assert retract(node)
    assert named(node) == 2


def test_what_never_left_needs_no_note(node: Node) -> None:
    read(node, "A")
    assert retract(node)
    assert states(node) == [("sr", DeliveryState.WITHDRAWN)]


def test_nothing_of_a_study_is_sent_beside_what_another_lane_is_sending(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both lanes had seen that the study is free; meanwhile a new report takes the place of the one in the first's hand."""
    read(node, "A")
    new_token, first = outbox.new_token, []

    def token_of_the_second() -> str:
        monkeypatch.setattr(outbox, "new_token", new_token)
        first.append(claim(node))
        read(node, "B")
        return new_token()

    monkeypatch.setattr(outbox, "new_token", token_of_the_second)
    assert box(node).claim("pacs", time.time(), 10.0) is None
    deliver(node, first[0])
    assert len(claim(node).deliveries) == 1
