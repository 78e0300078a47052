"""The upper layer as bytes: PDUs from a socket, and the DIMSE commands inside them.

Knows nothing of storage or of who may call. PS3.8 section 9.3 (PDUs), PS3.7 section 6.3 and annex E (commands).
"""

import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
MAX_PDU = 256 * 1024  # announced to the sender: the largest P-DATA-TF
MAX_ASSOCIATE = 512 * 1024  # 128 contexts with 60 transfer syntaxes each fit
MAX_COMMAND = 64 * 1024
BUFFER = 4 * MAX_PDU
ABORT_UNRECOGNIZED, ABORT_UNEXPECTED, ABORT_INVALID = 1, 2, 6  # PS3.8 table 9-26, source 2 (service provider)

C_STORE_RQ, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x0030, 0x0FFF
RESPONSE = 0x8000
NO_DATA_SET = 0x0101
AFFECTED_CLASS, COMMAND_FIELD, MESSAGE_ID, REPLIED_ID = 0x0002, 0x0100, 0x0110, 0x0120
DATA_SET_TYPE, STATUS, ERROR_COMMENT, AFFECTED_INSTANCE = 0x0800, 0x0900, 0x0902, 0x1000
REQUESTED_CLASS, REQUESTED_INSTANCE, EVENT_TYPE, ACTION_TYPE = 0x0003, 0x1001, 0x1002, 0x1008
HAS_DATA_SET = 0x0001

PDU_HEADER, PDV_HEADER = struct.Struct(">BxL"), struct.Struct(">LBB")
ELEMENT, SHORT, LONG = struct.Struct("<HHL"), struct.Struct("<H"), struct.Struct("<L")


class ProtocolError(Exception):
    """The peer broke PS3.8 or PS3.7: `reason` goes into the A-ABORT."""

    def __init__(self, sentence: str, reason: int = ABORT_INVALID) -> None:
        super().__init__(sentence)
        self.reason = reason


class ConnectionEndedError(Exception):
    """The peer closed the connection, or was silent or too slow for too long."""


class NothingCameError(ConnectionEndedError):
    """The peer closed the connection without having sent a byte: it looked whether somebody listens."""


class PduReader:
    """Whole PDUs from a blocking socket, read in large pieces into one buffer without copying.

    `idle_s` bounds both the silence between PDUs and the time one PDU may take, so that a peer which sends a byte now
    and then is cut off too.
    """

    def __init__(self, connection: socket.socket, *, idle_s: float) -> None:
        self._socket = connection
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._came = False
        self.set_idle(idle_s)

    def set_idle(self, idle_s: float) -> None:
        self._idle_s = idle_s
        if isinstance(self._socket, ssl.SSLSocket):  # which would wait on whatever the socket's own limits say
            self._socket.settimeout(idle_s)
            return
        timeout = struct.pack("ll", int(idle_s), int(idle_s % 1 * 1_000_000) or (1 if idle_s < 1 else 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)

    def next(self, limit: int) -> tuple[int, memoryview]:
        """The next PDU's type and its body, valid until the next call.

        Raises ProtocolError when it is longer than `limit`, ConnectionEndedError when it never comes.
        """
        deadline = time.monotonic() + self._idle_s
        while self._end - self._start < 6:
            self._fill(6, deadline)
        kind, length = PDU_HEADER.unpack_from(self._buffer, self._start)
        if not ASSOCIATE_RQ <= kind <= ABORT:
            raise ProtocolError(f"PDU type {kind:#04x} does not exist", ABORT_UNRECOGNIZED)
        if length > limit:
            raise ProtocolError(f"A PDU of {length} bytes is longer than the {limit} agreed")
        while self._end - self._start < 6 + length:
            self._fill(6 + length, deadline)
        body = self._view[self._start + 6 : self._start + 6 + length]
        self._start += 6 + length
        return kind, body

    def _fill(self, wanted: int, deadline: float) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start + wanted > BUFFER:
            self._buffer[: self._end - self._start] = self._buffer[self._start : self._end]
            self._start, self._end = 0, self._end - self._start
        try:
            count = self._socket.recv_into(self._view[self._end :])
        except OSError as e:
            raise ConnectionEndedError("the peer was silent for too long or reset the connection") from e
        if not count:
            raise (ConnectionEndedError if self._came else NothingCameError)("the peer closed the connection")
        self._end += count
        self._came = True
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if time.monotonic() > deadline:
            raise ConnectionEndedError("the peer sends too slowly")


def pdvs(body: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(presentation context id, control header, fragment) of each item in a P-DATA-TF. PS3.8 section 9.3.5.1, annex E.2."""
    at, end = 0, len(body)
    if not end:
        raise ProtocolError("A P-DATA-TF without an item")
    while at < end:
        if end - at < 6:
            raise ProtocolError("A presentation data value ends in its header")
        length, context, control = PDV_HEADER.unpack_from(body, at)
        if length < 2 or at + 4 + length > end:
            raise ProtocolError("A presentation data value is longer than its PDU")
        yield context, control, body[at + 6 : at + 4 + length]
        at += 4 + length


@dataclass(frozen=True, kw_only=True)
class Command:
    """A DIMSE command set: element number (of group 0000) -> raw value."""

    elements: Mapping[int, bytes]

    @classmethod
    def parse(cls, data: bytes | bytearray) -> "Command":
        """Decode Implicit VR Little Endian. Raises ProtocolError."""
        elements, at = {}, 0
        while at < len(data):
            if len(data) - at < 8:
                raise ProtocolError("A command ends in the middle of an element")
            group, element, length = ELEMENT.unpack_from(data, at)
            at += 8
            if group != 0 or at + length > len(data):
                raise ProtocolError("A command holds an element that does not belong there or does not end")
            elements[element] = bytes(data[at : at + length])
            at += length
        return cls(elements=elements)

    def number(self, element: int) -> int:
        """A US value. Raises ProtocolError when it is absent or of another length."""
        value = self.elements.get(element, b"")
        if len(value) != 2:
            raise ProtocolError(f"A command without a proper (0000,{element:04X})")
        return int(SHORT.unpack(value)[0])

    def uid(self, element: int) -> str:
        """A UI value without its padding; "" when absent; undecodable bytes show as such and are never a valid UID."""
        return self.elements.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")


def response(request: Command, context: int, status: int, comment: str = "", *, has_data: bool = False) -> bytes:
    """The P-DATA-TF with the answer to `request`: the same UIDs and message id. PS3.7 sections 9.3.1.2, 9.3.5.2, C."""
    values = {
        COMMAND_FIELD: SHORT.pack(request.number(COMMAND_FIELD) | RESPONSE),
        REPLIED_ID: SHORT.pack(request.number(MESSAGE_ID)),
        DATA_SET_TYPE: SHORT.pack(HAS_DATA_SET if has_data else NO_DATA_SET),
        STATUS: SHORT.pack(status),
    }
    for element in (AFFECTED_CLASS, AFFECTED_INSTANCE, EVENT_TYPE, ACTION_TYPE):
        if element in request.elements:
            values[element] = request.elements[element]
    for requested, affected in ((REQUESTED_CLASS, AFFECTED_CLASS), (REQUESTED_INSTANCE, AFFECTED_INSTANCE)):
        if requested in request.elements:  # N-SET and N-ACTION name it so. PS3.7 sections 10.1.3 and 10.1.4
            values[affected] = request.elements[requested]
    if comment:
        text = comment.encode("ascii", "replace")[:64]
        values[ERROR_COMMENT] = text + b" " * (len(text) % 2)
    return command_pdu(context, values)


def command_pdu(context: int, values: Mapping[int, bytes]) -> bytes:
    """The P-DATA-TF with a command set. PS3.7 section 6.3.1."""
    body = b"".join(ELEMENT.pack(0, e, len(v)) + v for e, v in sorted(values.items()))
    command = ELEMENT.pack(0, 0, 4) + LONG.pack(len(body)) + body
    return PDU_HEADER.pack(P_DATA, len(command) + 6) + PDV_HEADER.pack(len(command) + 2, context, 3) + command


def data_pdus(context: int, data: bytes, max_pdu: int) -> bytes:
    """The P-DATA-TFs with a data set, none longer than the peer takes (0: any length). PS3.8 annex D.1."""
    most = min(max_pdu or MAX_PDU, MAX_PDU) - PDV_HEADER.size
    parts = [data[at : at + most] for at in range(0, len(data), most)] or [b""]
    last = len(parts) - 1
    return b"".join(
        PDU_HEADER.pack(P_DATA, len(p) + 6) + PDV_HEADER.pack(len(p) + 2, context, 2 if n == last else 0) + p
        for n, p in enumerate(parts)
    )


def abort(reason: int, source: int = 2) -> bytes:
    """An A-ABORT. PS3.8 section 9.3.8."""
    return PDU_HEADER.pack(ABORT, 4) + bytes((0, 0, source, reason))


RELEASE_REPLY = PDU_HEADER.pack(RELEASE_RP, 4) + bytes(4)
