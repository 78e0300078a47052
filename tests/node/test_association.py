"""The parsers of the upper layer: right input, and any other input."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_AC
from support.wire import association_request, command, pdv, store_command

from radnode import association_pdu
from radnode.association import Association, is_accepted_syntax, judge, negotiate, parse_request
from radnode.association_pdu import (
    MAX_PDU,
    P_DATA,
    Command,
    ConnectionEndedError,
    PduReader,
    ProtocolError,
    abort,
    pdvs,
    response,
)
from radnode.peers.table import Admission

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    with near, far:
        yield near, far


def open_door(_calling_ae: str, _called_ae: str) -> Admission:
    return Admission()


def test_pdus_come_whole_however_they_are_cut(pair: Pair) -> None:
    near, far = pair
    sent = [pdv(1, 0, bytes([n]) * size) for n, size in enumerate((1, 5, 70_000, MAX_PDU - 6, 3, 200_000, 2))]
    stream = b"".join(sent)

    def feed() -> None:
        at = 0
        for size in (1, 4, 3, 100_000, 1, 250_000, 999_999):
            near.sendall(stream[at : at + size])
            at += size
            time.sleep(0.002)
        near.sendall(stream[at:])

    thread = threading.Thread(target=feed)
    thread.start()
    reader = PduReader(far, idle_s=60)
    for expected in sent:
        kind, body = reader.next(MAX_PDU)
        assert (kind, bytes(body)) == (P_DATA, expected[6:])
    thread.join()


def test_a_pdu_longer_than_agreed_is_no_pdu(pair: Pair) -> None:
    near, far = pair
    near.sendall(struct.pack(">BxL", 4, MAX_PDU + 1))
    with pytest.raises(ProtocolError):
        PduReader(far, idle_s=60).next(MAX_PDU)


def test_silence_ends_a_connection(pair: Pair) -> None:
    start = time.monotonic()
    with pytest.raises(ConnectionEndedError, match="silent"):
        PduReader(pair[1], idle_s=0.2).next(MAX_PDU)
    assert time.monotonic() - start > 0.1


def test_a_byte_now_and_then_does_not_hold_a_connection(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(0.0, 10.0)  # each look at it is ten seconds later; the byte itself comes soon enough
    monkeypatch.setattr(association_pdu, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    near, far = pair
    stop = threading.Event()

    def drip() -> None:
        for byte in pdv(1, 0, bytes(1000)):
            if stop.wait(0.05):
                return
            near.sendall(bytes([byte]))

    thread = threading.Thread(target=drip)
    thread.start()
    with pytest.raises(ConnectionEndedError, match="too slowly"):
        PduReader(far, idle_s=60).next(MAX_PDU)
    stop.set()
    thread.join()


def test_an_answer_repeats_message_id_and_uids() -> None:
    request = Command.parse(store_command("1.2.3"))
    answer = response(request, 5, 0xC000, "Because.")
    (context, control, body) = next(pdvs(memoryview(answer)[6:]))
    reply = Command.parse(bytes(body))
    assert (context, control) == (5, 3)
    assert (reply.number(0x0100), reply.number(0x0120), reply.number(0x0900)) == (0x8001, 7, 0xC000)
    assert (reply.uid(0x1000), reply.elements[0x0902]) == ("1.2.3", b"Because.")
    assert reply.elements[0x0000] == struct.pack("<L", len(body) - 12)


def test_an_error_comment_fits_lo() -> None:
    reply = response(Command.parse(store_command("1.2")), 1, 0xC000, "x" * 200 + "ä")
    assert Command.parse(reply[12:]).elements[0x0902] == b"x" * 64


@pytest.mark.parametrize(
    ("syntax", "accepted"),
    [
        ("1.2.840.10008.1.1", True),
        ("1.2.840.10008.5.1.4.1.1.2", True),
        ("1.2.840.10008.5.1.4.1.1.5", True),  # retired: Nuclear Medicine
        ("1.2.840.10008.5.1.4.1.1.9.1", True),  # retired
        ("1.2.840.10008.5.1.4.1.1.9999", True),  # newer than the library
        ("1.3.12.2.1107.5.9.1", True),  # private: Siemens CSA
        ("1.2.840.10008.5.1.4.1.2.1.1", False),  # query/retrieve
        ("1.2.840.10008.5.1.4.31", False),  # worklist
        ("1.2.840.10008.1.20.1", False),  # storage commitment
        ("1.2.840.10008.5.1.4.39.1", False),  # colour palette: no patient
        ("1.2.840.10008.5.1.4.1.1.200.1", False),  # defined procedure protocol: no patient
        ("1.2.840.10008.5.1.1.9", False),  # print
        ("../..", False),
        ("", False),
    ],
)
def test_storage_is_taken_and_other_services_are_not(syntax: str, accepted: bool) -> None:
    assert is_accepted_syntax(syntax) is accepted


def test_a_request_of_another_protocol_version_or_context_is_rejected() -> None:
    request = parse_request(association_request("1.2.840.10008.1.1")[6:])
    assert judge(request, open_door) is None
    request.protocol_version = 2
    assert judge(request, open_door) == (1, 2, 2)
    raw = association_request("1.2.840.10008.1.1").replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.2")
    assert judge(parse_request(raw[6:]), open_door) == (1, 1, 2)


def negotiated(data: bytes, pair: Pair) -> tuple[Association | None, bytes]:
    near, far = pair
    near.sendall(data)
    association = negotiate(far, PduReader(far, idle_s=60), open_door)
    near.settimeout(60)
    return association, near.recv(65536)


def test_what_was_negotiated_is_what_pynetdicom_reads(pair: Pair) -> None:
    association, answer = negotiated(
        association_request("1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.2.1.1", "1.2.3"), pair
    )
    assert association is not None
    assert {k: v.abstract_syntax for k, v in association.contexts.items()} == {1: "1.2.840.10008.1.1", 5: "1.2.3"}
    pdu = A_ASSOCIATE_AC()
    pdu.decode(answer)
    primitive = pdu.to_primitive()
    assert [c.result for c in primitive.presentation_context_definition_results_list] == [0, 3, 0]
    assert primitive.maximum_length_received == MAX_PDU


def test_items_that_nobody_defined_are_skipped_and_titles_may_end_in_nul(pair: Pair) -> None:
    whole = association_request("1.2.840.10008.1.1")[6:]
    user = whole.index(b"\x50\0", 68)
    new, private = b"\x60\0\0\3abc", b"\x5a\0\0\2xy"
    inner = whole[user + 4 :] + private
    body = whole[:68] + new + whole[68:user] + b"\x50\0" + len(inner).to_bytes(2, "big") + inner
    body = body.replace(b"RADNODE".ljust(16), b"RADNODE".ljust(16, b"\0")).replace(
        b"WIRE".ljust(16), b"WIRE".ljust(16, b"\0")
    )
    association, _ = negotiated(b"\1\0" + len(body).to_bytes(4, "big") + body, pair)
    assert association is not None and list(association.contexts) == [1]
    assert (association.calling_ae, association.called_ae, association.max_pdu) == ("WIRE", "RADNODE", 16384)
    with pytest.raises(ProtocolError):
        parse_request(body[:-3])


FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
WHOLE_COMMAND = store_command("1.2.3.4")
WHOLE_REQUEST = association_request("1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.2")[6:]


def spoiled(whole: bytes) -> st.SearchStrategy[bytes]:
    """`whole` with some bytes overwritten, cut or doubled."""

    def spoil(changes: list[tuple[int, int]], cut: int, more: bytes) -> bytes:
        data = bytearray(whole)
        for at, value in changes:
            data[at % len(data)] = value
        return bytes(data[: len(data) - cut % len(data)]) + more

    byte = st.tuples(st.integers(0, 5000), st.integers(0, 255))
    return st.builds(spoil, st.lists(byte, max_size=8), st.integers(0, 40), st.binary(max_size=20))


@FUZZ
@given(st.binary(max_size=300) | spoiled(WHOLE_COMMAND))
def test_any_bytes_are_a_command_or_a_protocol_error(data: bytes) -> None:
    try:
        parsed = Command.parse(data)
        parsed.uid(0x1000)
        response(parsed, 1, 0)
    except ProtocolError:
        return
    assert sum(8 + len(v) for v in parsed.elements.values()) <= len(data)


@FUZZ
@given(st.binary(max_size=200) | spoiled(pdv(1, 3, WHOLE_COMMAND)[6:]))
def test_any_bytes_are_presentation_data_values_or_a_protocol_error(data: bytes) -> None:
    try:
        items = list(pdvs(memoryview(data)))
    except ProtocolError:
        return
    assert sum(6 + len(fragment) for _, _, fragment in items) == len(data)


@pytest.mark.filterwarnings("ignore")  # pydicom warns of each wrong UID
@FUZZ
@given(st.binary(max_size=200) | spoiled(WHOLE_REQUEST))
def test_any_bytes_are_a_request_or_a_protocol_error(data: bytes) -> None:
    try:
        request = parse_request(data)
        judge(request, open_door)
    except ProtocolError:
        return


def test_an_abort_names_its_source_and_reason() -> None:
    assert abort(6) == b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x06"


def test_a_command_of_another_group_is_refused() -> None:
    with pytest.raises(ProtocolError):
        Command.parse(command({0x0100: b"\1\0"}) + struct.pack("<HHL", 8, 0, 0))
