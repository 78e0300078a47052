"""A C-STORE sender that can misbehave: it writes PDUs byte by byte as a test wishes."""

import socket
import struct
from types import TracebackType

from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import build_context

from radnode.association_pdu import Command

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"


class Wire:
    """A connection to a receiver; `with Wire(port) as wire: wire.associate(); wire.store(...)`."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def associate(self, *syntaxes: str, transfer: str = EXPLICIT, called: str = "RADNODE") -> tuple[int, bytes]:
        """Ask for these abstract syntaxes (contexts 1, 3, ...); the type and body of the answer."""
        self.send(
            association_request(*(syntaxes or (CT_IMAGE_STORAGE, VERIFICATION)), transfer=transfer, called=called)
        )
        return self.read()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> tuple[int, bytes]:
        """The next PDU; (0, b"") once the receiver closed."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxL", head)
        return kind, self._exactly(length)

    def answer(self) -> Command:
        """The next DIMSE answer."""
        kind, body = self.read()
        assert kind == 4, f"PDU type {kind} {body!r} in the place of an answer"
        return Command.parse(body[6:])

    def store(
        self, sop_uid: str, dataset: bytes, *, sop_class_uid: str = CT_IMAGE_STORAGE, context: int = 1
    ) -> Command:
        """C-STORE an encoded data set; the answer."""
        self.send(pdv(context, 3, store_command(sop_uid, sop_class_uid)))
        for at in range(0, len(dataset), 16000):
            self.send(pdv(context, 0, dataset[at : at + 16000]))
        self.send(pdv(context, 2, b""))
        return self.answer()

    def status(self, sop_uid: str, dataset: bytes, **options: object) -> int:
        return self.store(sop_uid, dataset, **options).number(0x0900)  # type: ignore[arg-type]

    def release(self) -> int:
        self.send(b"\x05\0\0\0\0\x04\0\0\0\0")
        return self.read()[0]

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionResetError:
                return data
            if not piece:
                return data
            data += piece
        return data


def association_request(
    *syntaxes: str, transfer: str = EXPLICIT, called: str = "RADNODE", calling: str = "WIRE"
) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = calling, called
    contexts = []
    for number, syntax in enumerate(syntaxes):
        context = build_context(syntax, transfer)
        context.context_id = 2 * number + 1
        contexts.append(context)
    primitive.presentation_context_definition_list = contexts
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16384, "1.2.3"
    primitive.user_information = [length, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def pdv(context: int, control: int, data: bytes) -> bytes:
    """A P-DATA-TF with one item."""
    return struct.pack(">BxLLBB", 4, len(data) + 6, len(data) + 2, context, control) + data


def command(values: dict[int, bytes]) -> bytes:
    return b"".join(struct.pack("<HHL", 0, e, len(v)) + v for e, v in sorted(values.items()))


def store_command(sop_uid: str, sop_class_uid: str = CT_IMAGE_STORAGE, *, field: int = 1, data_set: int = 1) -> bytes:
    def padded(uid: str) -> bytes:
        return uid.encode() + b"\0" * (len(uid) % 2)

    number = struct.Struct("<H").pack
    return command(
        {
            0x0002: padded(sop_class_uid),
            0x0100: number(field),
            0x0110: number(7),
            0x0700: number(0),
            0x0800: number(data_set),
            0x1000: padded(sop_uid),
        }
    )
