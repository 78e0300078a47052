"""Requests with a data set that is spoiled: each has its answer, and the association goes on."""

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from sqlalchemy.exc import OperationalError
from support.core import Node
from support.fuzzing import deep, service_requests, spoiled
from support.receiver import receiver
from support.wire import EXPLICIT, Wire, pdv

from radnode.association_pdu import Command
from radnode.association_services import C_FIND_RQ, Caller, Services
from radnode.database import Database
from radnode.receive_child import Child, Slots
from radnode.settings import Settings

CALLER = Caller(
    calling_ae="WIRE", called_ae="RADNODE", address="127.0.0.1", may=frozenset({"send", "commit", "worklist"})
)
REQUESTS = tuple(service_requests())
NAMES = ("step", "notice", "commitment", "report", "worklist")
IMPOSSIBLE = {
    "nested too deep": deep(2000),
    "a number of three bytes": struct.pack("<HH2sH", 0x0028, 0x0010, b"US", 3) + b"123",
    "a VR that is none": struct.pack("<HH2sH", 0x0028, 0x0010, b"??", 2) + b"12",
    "cut off": struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 100) + b"\xfe\xff\x00\xe0",
}


@pytest.mark.parametrize("request_", REQUESTS, ids=NAMES)
def test_a_request_that_is_right_is_done_and_a_spoiled_one_is_answered(
    request_: tuple[str, bytes, bytes], node: Node
) -> None:
    sop_class, head, good = request_
    services = Services(node.settings, node.database)
    said = Command.parse(head)
    assert services.answer(sop_class, said, good, EXPLICIT, CALLER, 1.0).status == 0
    statuses: set[int] = set()

    @seed(1)
    @settings(
        max_examples=60, deadline=None, database=None, phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(data=spoiled((good,)))
    def bear(data: bytes) -> None:
        statuses.add(services.answer(sop_class, said, data, EXPLICIT, CALLER, 1.0).status)

    bear()
    assert len(statuses) > 1, "nothing that was spoiled was refused"


@pytest.mark.parametrize("request_", REQUESTS, ids=NAMES)
@pytest.mark.parametrize("data", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_cannot_be_decoded_is_a_failure_that_is_said(
    request_: tuple[str, bytes, bytes], data: bytes, node: Node
) -> None:
    sop_class, head, _ = request_
    said = Command.parse(head)
    answer = Services(node.settings, node.database).answer(sop_class, said, data, EXPLICIT, CALLER, 1.0)
    assert answer.status == (0xC000 if said.number(0x0100) == C_FIND_RQ else 0x0110)
    assert "cannot be decoded" in answer.comment


@pytest.mark.parametrize("request_", REQUESTS, ids=NAMES)
def test_a_database_that_does_not_answer_is_a_failure_that_is_said(
    request_: tuple[str, bytes, bytes], node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Database) -> None:
        raise OperationalError("BEGIN", {}, Exception("the server closed the connection"))

    sop_class, head, good = request_
    services = Services(node.settings, node.database)
    for way in ("transaction", "reading"):
        monkeypatch.setattr(Database, way, away)
    answer = services.answer(sop_class, Command.parse(head), good, EXPLICIT, CALLER, 1.0)
    assert (answer.status, answer.comment) in (
        (0x0110, "The database of the node does not answer."),
        (0xC000, "The database of the node does not answer."),
    )


def test_procedure_steps_without_a_uid_are_not_one_and_the_same(node: Node) -> None:
    sop_class, head, good = REQUESTS[0]
    said = Command.parse(head)
    nameless = Command(elements={k: v for k, v in said.elements.items() if k not in (0x1000, 0x1001)})
    answer = Services(node.settings, node.database).answer(sop_class, nameless, good, EXPLICIT, CALLER, 1.0)
    assert (answer.status, answer.comment) == (0x0110, "The request names no instance.")


def test_what_is_promised_outlives_a_power_cut_before_it_is_said(tmp_path: Path) -> None:
    """SQLite flushes a commit to the disk where `synchronous` is FULL (2); the receiver's rows have files instead."""
    made = Settings(data=tmp_path / "data")
    made.data.mkdir()
    child = Child(made, {}, Slots(1), 0)
    databases = (child._services._database, child._database)
    flushes = []
    for database in databases:
        with database.engine.connect() as connection:
            flushes.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())
    assert flushes == [2, 1]
    child._store.close()
    databases[0].close()


@pytest.mark.system
def test_the_association_goes_on_after_a_data_set_that_cannot_be_decoded(tmp_path: Path) -> None:
    sop_class, head, good = REQUESTS[0]
    with (
        receiver(tmp_path / "data", host="127.0.0.1", accept_unknown_callers="true") as running,
        Wire(running.port) as wire,
    ):
        wire.associate(sop_class)
        for data, status in ((IMPOSSIBLE["nested too deep"], 0x0110), (good, 0)):
            wire.send(pdv(1, 3, head))
            for at in range(0, len(data), 16000):
                wire.send(pdv(1, 0, data[at : at + 16000]))
            wire.send(pdv(1, 2, b""))
            assert wire.answer().number(0x0900) == status
        assert wire.release() == 6
