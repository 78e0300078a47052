"""What a sender, a network or a kill may do in the middle, and what must stand afterwards."""

import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select
from support.objects import dataset_of, encoded, image
from support.receiver import Receiver, receiver, wait_until
from support.wire import Wire, association_request, pdv, store_command

from radnode.faults import Point
from radnode.peers.table import REFRESH_S
from radnode.receive_child import STRANGERS, TEMPORARY_CONGESTION
from radnode.tables import SendingRow


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A receiver that waits for whoever is silent."""
    data = tmp_path_factory.mktemp("node") / "data"
    with receiver(data, accept_unknown_callers=True, association_idle_s=600) as node:
        yield node


def kept(node: Receiver) -> dict[str, bytes]:
    """SOP Instance UID -> data set on disk, of every row; every row has its file and every file its row."""
    rows = node.rows()
    assert sorted(node.settings.data / row.file for row in rows) == node.files()
    return {row.sop_uid: dataset_of(node.settings.data / row.file) for row in rows}


def test_a_connection_cut_in_an_object_leaves_what_was_acknowledged_and_nothing_else(node: Receiver) -> None:
    whole, half = image(), image(size=512)
    before = kept(node)
    wire = Wire(node.port)
    wire.associate()
    assert wire.status(whole.SOPInstanceUID, encoded(whole)) == 0
    wire.send(pdv(1, 3, store_command(half.SOPInstanceUID)))
    wire.send(pdv(1, 0, encoded(half)[:100_000]))
    wait_until(lambda: len(node.files()) == len(before) + 2, 60, "the half object's temporary file")
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    wire.socket.close()
    wait_until(lambda: len(node.files()) == len(before) + 1, 60, "the half object's end")
    assert kept(node) == before | {whole.SOPInstanceUID: encoded(whole)}


BAD: dict[str, Callable[[], bytes]] = {
    "a PDU type that does not exist": lambda: b"\x42\0\0\0\0\4\0\0\0\0",
    "a second request": lambda: association_request("1.2.840.10008.1.1"),
    "a PDU that is too long": lambda: struct.pack(">BxL", 4, 1 << 30),
    "a context that was not accepted": lambda: pdv(99, 3, store_command("1.2.3")),
    "a data set without a command": lambda: pdv(1, 2, b"data"),
    "an item longer than its PDU": lambda: struct.pack(">BxLLBB", 4, 6, 5000, 1, 3),
    "a P-DATA-TF without an item": lambda: struct.pack(">BxL", 4, 0),
    "a command that is none": lambda: pdv(1, 3, bytes(range(100))),
    "a command without an end": lambda: b"".join(pdv(1, 1, bytes(30_000)) for _ in range(4)),
    "a command in the middle of an object": lambda: pdv(1, 3, store_command("1.2.3")) * 2,
    "a response": lambda: pdv(1, 3, store_command("1.2.3", field=0x8001)),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_breach_of_protocol_is_aborted_and_nothing_acknowledged_is_lost(
    node: Receiver, bad: Callable[[], bytes]
) -> None:
    ds = image()
    with Wire(node.port) as wire:
        wire.associate()
        assert wire.status(ds.SOPInstanceUID, encoded(ds)) == 0
        wire.send(bad())
        kind, body = wire.read()
        assert (kind, body[2]) == (7, 2), "no A-ABORT of the service provider"
        assert wire.read() == (0, b""), "the connection stays open"
    assert kept(node)[ds.SOPInstanceUID] == encoded(ds)


def test_garbage_in_the_place_of_a_request_is_aborted(node: Receiver) -> None:
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(100), struct.pack(">BxL", 1, 50) + bytes(50), pdv(1, 3, b"x")):
        with Wire(node.port) as wire:
            wire.send(garbage)
            assert wire.read()[0] == 7


def test_an_abort_or_a_release_ends_the_association(node: Receiver) -> None:
    for last in (b"\x07\0\0\0\0\x04\0\0\0\0", b"\x05\0\0\0\0\x04\0\0\0\0"):
        with Wire(node.port) as wire:
            wire.associate()
            wire.send(last)
            assert wire.read()[0] == (6 if last[0] == 5 else 0)
            assert wire.read()[0] == 0


def test_an_unknown_operation_is_answered_and_the_association_goes_on(node: Receiver) -> None:
    ds = image()
    with Wire(node.port) as wire:
        wire.associate()
        wire.send(pdv(1, 3, store_command("1.2.3", field=0x0020)) + pdv(1, 2, b"an identifier"))
        answer = wire.answer()
        assert (answer.number(0x0100), answer.number(0x0900)) == (0x8020, 0x0211)
        wire.send(pdv(1, 3, store_command("1.2.3", data_set=0x0101)))
        assert wire.answer().number(0x0900) == 0xC000  # C-STORE without a data set
        assert wire.status(ds.SOPInstanceUID, encoded(ds)) == 0


def test_a_caller_that_says_nothing_or_drips_is_cut_off(tmp_path: Path) -> None:
    with (
        receiver(tmp_path / "data", accept_unknown_callers=True, association_idle_s=3) as node,
        Wire(node.port) as silent,
        Wire(node.port) as idle,
        Wire(node.port) as dripping,
    ):
        with suppress(OSError):  # on a slow machine they may be cut off before they have asked
            idle.associate()
            dripping.associate()
        ended = False
        for byte in pdv(1, 3, bytes(1000)):
            try:
                dripping.send(bytes([byte]))
            except OSError:
                ended = True
                break
            time.sleep(0.1)
        assert ended, "a byte every 100 ms kept the association alive"
        assert silent.read() == idle.read() == (0, b"")


@pytest.mark.parametrize("point", [Point.MID_ASSOCIATION, Point.FILE_BEFORE_ROW])
@pytest.mark.parametrize("nth", [1, 4])
def test_after_a_kill_every_acknowledged_object_stands_and_the_node_goes_on(
    tmp_path: Path, point: Point, nth: int
) -> None:
    fault = {"RADNODE_FAULT": f"{point}:{nth}", "RADNODE_FAULT_ONCE": str(tmp_path / "once")}
    objects = [image(seed=n) for n in range(6)]
    acknowledged = {}
    with receiver(tmp_path / "data", environment=fault, accept_unknown_callers=True, processes=1) as node:
        with Wire(node.port) as wire:
            wire.associate()
            for ds in objects:
                wire.send(pdv(1, 3, store_command(ds.SOPInstanceUID)) + pdv(1, 2, encoded(ds)))
                kind, _ = wire.read()
                if kind != 4:
                    break
                acknowledged[ds.SOPInstanceUID] = encoded(ds)
        assert len(acknowledged) == nth - 1, "the process was not killed where the test asked"
        node.wait_for_log("A receiving process died")
        whole = nth if point == Point.FILE_BEFORE_ROW else nth - 1  # the file that lacked its row gets it
        wait_until(lambda: len(node.rows()) == len(node.files()) == whole, 60, "the recovery")
        found = kept(node)
        assert found.items() >= acknowledged.items()
        with Wire(node.port) as wire:
            wire.associate()
            for ds in objects:
                assert wire.status(ds.SOPInstanceUID, encoded(ds)) == 0
        assert kept(node) == {ds.SOPInstanceUID: encoded(ds) for ds in objects}


def test_a_study_counts_as_being_sent_until_its_association_or_the_process_that_serves_it_ends(tmp_path: Path) -> None:
    def sent() -> set[str]:
        with node.database.reading() as session:
            return set(session.scalars(select(SendingRow.study_uid)))

    first, second = image(), image()
    with receiver(tmp_path / "data", accept_unknown_callers=True, processes=1) as node:
        with Wire(node.port) as wire:
            wire.associate()
            assert sent() == set()
            assert wire.status(first.SOPInstanceUID, encoded(first)) == 0
            assert sent() == {first.StudyInstanceUID}
            assert wire.release() == 6
        wait_until(lambda: sent() == set(), 60, "the end of the association")
        with Wire(node.port) as wire:
            wire.associate()
            assert wire.status(second.SOPInstanceUID, encoded(second)) == 0
            os.kill(node.children[0], signal.SIGKILL)
            wait_until(lambda: sent() == set(), 60, "the new process")


def test_a_stuck_or_slow_peer_blocks_nobody(tmp_path: Path) -> None:
    """Three peers stop in the middle of an object and one drips, all in the process that must serve another."""
    objects = [image(size=256, seed=n) for n in range(30)]
    stuck = [image(size=256, seed=n) for n in range(100, 104)]
    with (
        receiver(tmp_path / "data", accept_unknown_callers=True, processes=1, association_idle_s=600) as node,
        ExitStack() as wires,
    ):
        for ds in stuck:
            wire = wires.enter_context(Wire(node.port))
            wire.associate()
            wire.send(pdv(1, 3, store_command(ds.SOPInstanceUID)) + pdv(1, 0, encoded(ds)[:50_000]))
        dripping = wires.enter_context(Wire(node.port))
        dripping.send(association_request("1.2.840.10008.1.1")[:20])
        with Wire(node.port) as quick:  # which waits a minute for an answer, a stuck peer is waited for ten
            quick.associate()
            assert [quick.status(ds.SOPInstanceUID, encoded(ds)) for ds in objects] == [0] * len(objects)
        assert {r.sop_uid for r in node.rows()} == {ds.SOPInstanceUID for ds in objects}


def test_many_half_open_connections_shut_nobody_out(tmp_path: Path) -> None:
    """More than the process keeps, each with the first byte of a request; the oldest go when another comes."""
    objects = [image(seed=n) for n in range(5)]
    with (
        receiver(tmp_path / "data", accept_unknown_callers=True, processes=1, max_associations=2) as node,
        ExitStack() as wires,
    ):
        half_open = [wires.enter_context(Wire(node.port)) for _ in range(3 * STRANGERS)]
        for wire in half_open:
            with suppress(OSError):
                wire.send(b"\x01")
        begun = time.monotonic()
        with Wire(node.port) as honest:
            assert honest.associate()[0] == 2
            assert [honest.status(ds.SOPInstanceUID, encoded(ds)) for ds in objects] == [0] * len(objects)
            assert honest.release() == 6
        assert time.monotonic() - begun < 50
        assert half_open[0].read() == (0, b"")
        assert psutil.Process(node.children[0]).num_threads() < 3 * STRANGERS


def test_a_kill_of_the_whole_node_between_file_and_row_is_put_right_at_the_next_start(tmp_path: Path) -> None:
    fault = {"RADNODE_FAULT": f"{Point.FILE_BEFORE_ROW}:2", "RADNODE_FAULT_ONCE": str(tmp_path / "once")}
    first, second = image(), image()
    with receiver(tmp_path / "data", environment=fault, accept_unknown_callers=True) as node, Wire(node.port) as wire:
        wire.associate()
        assert wire.status(first.SOPInstanceUID, encoded(first)) == 0
        os.kill(node.process.pid, signal.SIGSTOP)  # the parent shall not start another child
        wire.send(pdv(1, 3, store_command(second.SOPInstanceUID)) + pdv(1, 2, encoded(second)))
        assert wire.read() == (0, b"")
        os.kill(node.process.pid, signal.SIGKILL)
        node.process.wait()
    with receiver(tmp_path / "data", accept_unknown_callers=True) as node:
        wait_until(lambda: len(node.rows()) == 2, 60, "the recovery")
        assert kept(node) == {ds.SOPInstanceUID: encoded(ds) for ds in (first, second)}


def test_a_disk_that_fills_up_is_a700_and_everything_acknowledged_stays(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(data)], check=True)
    try:
        with receiver(data, accept_unknown_callers=True, disk_free_min_mb=0) as node, Wire(node.port) as wire:
            wire.associate()
            acknowledged, statuses = {}, []
            for number in range(12):
                ds = image(size=512, seed=number)
                statuses.append(wire.status(ds.SOPInstanceUID, encoded(ds)))
                if statuses[-1] == 0:
                    acknowledged[ds.SOPInstanceUID] = encoded(ds)
            assert set(statuses) == {0, 0xA700}
            assert wire.release() == 6
            assert kept(node) == acknowledged
    finally:
        subprocess.run(["umount", "-l", str(data)], check=True)


def test_a_caller_is_turned_away_for_the_moment_while_the_database_does_not_answer(tmp_path: Path) -> None:
    with receiver(tmp_path / "data", accept_unknown_callers=True, processes=1) as node:
        with Wire(node.port) as wire:
            assert wire.associate()[0] == 2
        with node.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE peers RENAME TO away")
        time.sleep(REFRESH_S)
        with Wire(node.port) as wire:
            assert wire.associate() == (3, bytes((0, *TEMPORARY_CONGESTION)))
        with node.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO peers")
        with Wire(node.port) as wire:
            assert wire.associate()[0] == 2
        assert "Traceback" not in node.log.read_text()
