"""HL7 v2 over MLLP (HL7 v2.5.1, appendix C): one message at a time, and its acknowledgement waited for."""

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import hl7

from radnode.destinations import PRIORITY, Outgoing
from radnode.errors import DeliveryError
from radnode.hl7 import messages as hl7_messages
from radnode.hl7.orders import value
from radnode.settings import Destination as Address

START, END = b"\x0b", b"\x1c\x0d"
MAX_ANSWER = 1 << 16
UNKNOWN_KIND = frozenset({"200", "201", "202", "203"})
"""Table 0357: message type, event, processing ID or version not supported. Another try cannot help."""
INTERNAL = frozenset({"206", "207"})
"""Table 0357: record locked, internal error. Another try can help."""


class Mllp:
    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.timeout_s = timeout_s

    @contextmanager
    def open(self, results: Sequence[Outgoing]) -> Iterator["Line"]:
        line = Line(self.address, self.timeout_s)
        try:
            yield line
        finally:
            line.close()


class Line:
    """A connection, opened anew where the receiver ends it after each message, as some do."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self.connection: socket.socket | None = None

    def send(self, result: Outgoing) -> str:
        body = json.loads(result.path.read_bytes())
        make = hl7_messages.priority if result.kind == PRIORITY else hl7_messages.report
        try:
            message = make(body, result.uid, self.address)
        except ValueError as e:
            raise DeliveryError(f"no HL7 message can be made: {e}", permanent=True) from e
        return acknowledged(self._exchange(message), message.split("|", 10)[9])

    def _exchange(self, message: str) -> str:
        """The answer. A connection that served before is tried first; the same message twice is known by its control ID."""
        fresh = self.connection is None
        try:
            return self._ask(message)
        except OSError as e:
            self.close()
            if fresh or isinstance(e, TimeoutError):
                host, port = self.address.host, self.address.port
                raise DeliveryError(f"{host}:{port} does not answer: {type(e).__name__}") from e
        return self._exchange(message)

    def _ask(self, message: str) -> str:
        if self.connection is None:
            self.connection = socket.create_connection((self.address.host, self.address.port), timeout=self.timeout_s)
        self.connection.sendall(START + message.encode() + END)
        got = b""
        while END not in got:  # some send a line end more
            part = self.connection.recv(4096)
            got += part
            if not part:
                raise ConnectionResetError
            if len(got) > MAX_ANSWER:
                raise DeliveryError("the answer is too long for an acknowledgement")
        return got.partition(END)[0].lstrip(b"\r\n" + START).decode("utf-8", "replace")

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def acknowledged(answer: str, control_id: str) -> str:
    """The peer's remark, "" mostly. Raises DeliveryError for a refusal, or what is no acknowledgement of this message.

    AE says that something is wrong with the message, which stays as it is; AR that it could not be taken now, unless the
    receiver says that it knows no such message (HL7 v2.5.1 section 2.9.2, table 0357).
    """
    try:
        said = hl7.parse(answer.strip("\r\n") + "\r")
        code, about = str(said.segment("MSA")[1]), str(said.segment("MSA")[2])
    except (hl7.HL7Exception, KeyError, IndexError) as e:
        raise DeliveryError("the answer is no HL7 acknowledgement") from e
    if about != control_id:
        raise DeliveryError("the answer acknowledges another message")
    if code in ("AA", "CA"):
        return ""
    number = value(said, "ERR", 3)[:8]  # ERR-7 and ERR-8 may name the patient and stay out
    permanent = (code in ("AE", "CE") and number not in INTERNAL) or number in UNKNOWN_KIND
    raise DeliveryError(
        f"the receiver answered {code}{f' (HL7 error {number})' if number else ''}", permanent=permanent
    )


def make(address: Address, *, calling_ae: str, timeout_s: float) -> Mllp:
    return Mllp(address, timeout_s)
