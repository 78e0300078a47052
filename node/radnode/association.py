"""Negotiation: an A-ASSOCIATE-RQ judged and answered, by pynetdicom's own PDU classes.

Knows nothing of files. PS3.8 sections 7.1 and 9.3.2 to 9.3.4, PS3.7 annex D.3.
"""

import socket
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context, negotiate_as_acceptor
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from radnode import association_services as services
from radnode.association_pdu import ASSOCIATE_RQ, MAX_ASSOCIATE, MAX_PDU, PduReader, ProtocolError
from radnode.destinations.commit_data import COMMITMENT
from radnode.peers.table import Admission
from radnode.store_check import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION, is_uid

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
STANDARD_ROOT = "1.2.840.10008."
STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
"""PS3.6 annex A keeps every patient storage SOP class, retired ones too, below this root."""
ARTIM_S = 30.0
"""How long a caller may take to ask for an association. PS3.8 section 9.1.5."""
ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
USER_INFORMATION = 0x50
ITEMS, USER_ITEMS = frozenset((0x10, 0x20, USER_INFORMATION)), frozenset(range(0x51, 0x5A))
"""Item types of an A-ASSOCIATE-RQ and of its User Information. PS3.8 section 9.3.2, PS3.7 annex D.3.3."""
ITEM = struct.Struct(">BxH")

Admit = Callable[[str, str], Admission]
"""(calling AE, called AE) -> whether it may come in, or how it is refused."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """An accepted presentation context."""

    abstract_syntax: str
    transfer_syntax_uid: str


@dataclass(frozen=True, kw_only=True)
class Association:
    """What was agreed. contexts: presentation context id -> Context. may: the rights of the caller.

    max_pdu: the longest P-DATA-TF that the caller takes; 0: any.
    """

    calling_ae: str
    called_ae: str
    contexts: dict[int, Context]
    may: frozenset[str] = frozenset()
    max_pdu: int = 0


def negotiate(connection: socket.socket, reader: PduReader, admit: Admit) -> Association | None:
    """The association that was agreed; None when it was refused (and the refusal sent).

    Raises ProtocolError when the first PDU is no readable request, ConnectionEndedError when none comes in time.
    """
    kind, body = reader.next(MAX_ASSOCIATE)
    if kind != ASSOCIATE_RQ:
        raise ProtocolError("The first PDU is not an A-ASSOCIATE-RQ", 2)
    request = parse_request(bytes(body))
    admissions: list[Admission] = []

    def ask(calling_ae: str, called_ae: str) -> Admission:
        admissions.append(admit(calling_ae, called_ae))
        return admissions[-1]

    refusal = judge(request, ask)
    if refusal is not None:
        connection.sendall(rejection(*refusal))
        return None
    may = admissions[-1].may
    results = [answer(context, request, may) for context in request.presentation_context_definition_list]
    connection.sendall(acceptance(request, results))
    contexts = {
        int(c.context_id or 0): Context(
            abstract_syntax=str(c.abstract_syntax), transfer_syntax_uid=str(c.transfer_syntax[0])
        )
        for c in results
        if c.result == 0
    }
    return Association(
        calling_ae=str(request.calling_ae_title),
        called_ae=str(request.called_ae_title),
        contexts=contexts,
        may=may,
        max_pdu=request.maximum_length_received or 0,
    )


def parse_request(body: bytes) -> A_ASSOCIATE:
    """The request as pynetdicom's primitive. Raises ProtocolError, whatever is wrong with the bytes."""
    try:
        pdu = A_ASSOCIATE_RQ()
        body = understood(body)
        pdu.decode(b"\x01\x00" + len(body).to_bytes(4, "big") + body)
        request = pdu.to_primitive()
        request.protocol_version = pdu.protocol_version
    except Exception as e:  # pynetdicom raises what its decoders happen to raise
        raise ProtocolError("The A-ASSOCIATE-RQ cannot be decoded") from e
    return request


def understood(body: bytes) -> bytes:
    """The request without items of types that are not defined, which are skipped (PS3.8 section 9.3.1), and with AE titles
    padded by blanks, where old systems pad with NUL."""
    if len(body) < 68:
        return body
    titles = (body[at : at + 16].rstrip(b"\0 ").ljust(16) for at in (4, 20))
    return body[:4] + b"".join(titles) + body[36:68] + b"".join(map(plain, known(body[68:], ITEMS)))


def plain(item: bytes) -> bytes:
    """A whole User Information without the items in it that are not defined; every other item as it is."""
    if len(item) < ITEM.size or ITEM.unpack_from(item) != (USER_INFORMATION, len(item) - ITEM.size):
        return item
    inner = b"".join(known(item[ITEM.size :], USER_ITEMS))
    return ITEM.pack(USER_INFORMATION, len(inner)) + inner


def known(items: bytes, types: Collection[int]) -> Iterator[bytes]:
    """The items of these types; what is cut off in its header is left to the decoder."""
    at = 0
    while at + ITEM.size <= len(items):
        kind, length = ITEM.unpack_from(items, at)
        if kind in types:
            yield items[at : at + ITEM.size + length]
        at += ITEM.size + length
    if at < len(items):
        yield items[at:]


def judge(request: A_ASSOCIATE, admit: Admit) -> tuple[int, int, int] | None:
    """None to accept, else (result, source, reason) of the rejection. PS3.8 section 9.3.4."""
    if not request.protocol_version & 1:
        return 1, 2, 2
    if str(request.application_context_name) != APPLICATION_CONTEXT:
        return 1, 1, 2
    admission = admit(str(request.calling_ae_title), str(request.called_ae_title))
    return admission.rejection


def is_accepted_syntax(abstract_syntax: str) -> bool:
    """Whether objects of this SOP class are taken: Verification, patient storage, and anything private.

    Not taken: every other service, and Non-Patient Object Storage (PS3.4 annex GG), whose objects have no study.
    """
    if abstract_syntax == VERIFICATION:
        return True
    if not is_uid(abstract_syntax):
        return False
    if not abstract_syntax.startswith(STANDARD_ROOT):
        return True
    service = uid_to_service_class(abstract_syntax)
    # the bare ServiceClass: a retired class that pynetdicom does not list, or one newer than it
    return service is StorageServiceClass or (service is ServiceClass and abstract_syntax.startswith(STORAGE_ROOT))


def answer(
    asked: PresentationContext, request: A_ASSOCIATE, may: frozenset[str] = frozenset({"send"})
) -> PresentationContext:
    """The negotiated context: the sender's first transfer syntax, because bytes are kept as they come.

    may: the caller's rights; one that may not send gets no context for an object.
    """
    abstract_syntax = str(asked.abstract_syntax)
    usable = [s for s in asked.transfer_syntax if is_uid(str(s))]
    if abstract_syntax in services.SERVICES:
        usable = [s for s in services.SYNTAXES if s in map(str, usable)]
    elif not is_accepted_syntax(abstract_syntax) or not (may & {"send"} or abstract_syntax == VERIFICATION):
        usable = []
    supported = [build_context(abstract_syntax, usable)] if usable else []
    results, _ = negotiate_as_acceptor([asked], supported)
    return results[0]


def roles(request: A_ASSOCIATE) -> list[SCP_SCU_RoleSelectionNegotiation]:
    """As proposed for storage commitment, whose answer comes from its provider (PS3.4 annex J.3.3); no other role changes."""
    return [
        item
        for item in request.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation) and str(item.sop_class_uid) == COMMITMENT
    ]


def acceptance(request: A_ASSOCIATE, results: list[PresentationContext]) -> bytes:
    """The A-ASSOCIATE-AC."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(APPLICATION_CONTEXT)
    primitive.calling_ae_title = request.calling_ae_title
    primitive.called_ae_title = request.called_ae_title
    primitive.result, primitive.result_source = 0, 1
    primitive.presentation_context_definition_results_list = results
    length, implementation, version = (
        MaximumLengthNotification(),
        ImplementationClassUIDNotification(),
        ImplementationVersionNameNotification(),
    )
    length.maximum_length_received = MAX_PDU
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version.implementation_version_name = IMPLEMENTATION_VERSION
    primitive.user_information = [length, implementation, version, *roles(request)]
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def rejection(result: int, source: int, reason: int) -> bytes:
    """The A-ASSOCIATE-RJ."""
    primitive = A_ASSOCIATE()
    primitive.result, primitive.result_source, primitive.diagnostic = result, source, reason
    pdu = A_ASSOCIATE_RJ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())
