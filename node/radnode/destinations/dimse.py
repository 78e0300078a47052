"""C-STORE to a PACS. The only module, beside the receiver, that knows pynetdicom."""

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from queue import Empty
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import _config, evt
from pynetdicom.pdu_primitives import A_ASSOCIATE

from radnode.destinations import Outgoing, sop_class_name
from radnode.destinations.caller import CONNECT_S, Caller, tls_args, tls_problem
from radnode.destinations.gate import Gate
from radnode.errors import DeliveryError, NotTakenError
from radnode.settings import Destination as Address

REFUSED_FOR_GOOD: Mapping[int, str] = {
    0x0117: "invalid SOP instance",
    0x0118: "no such SOP class",
    0x0122: "SOP class not supported",
}
"""Statuses of PS3.7 Annex C that the same bytes will get again."""

CONTEXT_RESULT: Mapping[int, str] = {
    1: "user rejection",
    2: "no reason given",
    3: "abstract syntax not supported",
    4: "transfer syntaxes not supported",
}
"""Presentation context results of PS3.8 section 9.3.3.2."""


class Pacs:
    """A storage SCP. One association per batch, with contexts for each SOP class that is being sent and no more."""

    def __init__(self, address: Address, calling_ae: str, timeout_s: float) -> None:
        self.address = address
        self.calling_ae = calling_ae
        self.timeout_s = timeout_s

    @contextmanager
    def open(self, results: Sequence[Outgoing]) -> Iterator["StoreAssociation"]:
        association = self.associate(sorted({c for r in results for c in contexts_of(r.path)}))
        try:
            yield StoreAssociation(association)
        finally:
            hang_up(association)

    def associate(
        self, contexts: Sequence[tuple[str, str]], handlers: Sequence[tuple[Any, Any]] = (), roles: Sequence[Any] = ()
    ) -> Any:
        """An association with a presentation context for each (SOP class, transfer syntax); some may be refused.

        handlers: of pynetdicom's events; roles: role selection items. Raises DeliveryError when there is none.
        """
        ae, began = Caller(self.calling_ae, self.timeout_s), time.monotonic()
        for sop_class_uid, transfer_syntax_uid in contexts:
            ae.add_requested_context(sop_class_uid, transfer_syntax_uid)
        try:
            association = ae.associate(
                self.address.host,
                self.address.port,
                ae_title=self.address.ae_title or "ANY-SCP",
                evt_handlers=[(evt.EVT_CONN_OPEN, prepare), *handlers],
                ext_neg=list(roles),
                tls_args=tls_args(self.address),
            )
        except OSError as e:  # the name of the host leads nowhere
            raise DeliveryError(f"{self._name()}: {e.strerror or type(e).__name__}") from e
        if not association.is_established and not association.rejected_contexts:
            hang_up(association)
            raise DeliveryError(f"{self._name()}: {self._why_not(association, time.monotonic() - began)}")
        return association

    def _why_not(self, association: Any, waited_s: float) -> str:
        """Why there is no association, in words. Never permanent: an administrator adds the AE title, and it works.

        waited_s: how long it was asked for.
        """
        if (refused := refusal(association)) is not None:
            return f"association rejected: {refused.reason_str} ({refused.source_str})"
        try:
            socket.create_connection((self.address.host, self.address.port), timeout=CONNECT_S).close()
        except OSError as e:
            return f"no connection: {e.strerror or type(e).__name__}"
        if problem := tls_problem(self.address, CONNECT_S):
            return problem
        if waited_s >= min(CONNECT_S, self.timeout_s):
            return f"it takes the connection, but has not answered for {waited_s:.0f} s"
        return "it listens, but ended the association without an answer"

    def _name(self) -> str:
        return f"{self.address.ae_title or 'ANY-SCP'} at {self.address.host}:{self.address.port}"


class StoreAssociation:
    """An association that was answered; possibly with contexts refused, in the worst case all of them."""

    def __init__(self, association: Any) -> None:
        self.association = association

    def send(self, result: Outgoing) -> str:
        """The file as it is where the PACS takes it so, else in another encoding of the same content."""
        own, *others = contexts_of(result.path)
        accepted = {(c.abstract_syntax, c.transfer_syntax[0]) for c in self.association.accepted_contexts}
        wanted = next((c for c in (own, *others) if c in accepted), None)
        if wanted is None:
            raise self._refusal(own[0])
        if not self.association.is_established:
            raise DeliveryError("the association was lost")
        what = result.path if wanted == own else encoded(result.path, wanted[1])
        status = self.association.send_c_store(what)
        if "Status" not in status:
            raise DeliveryError("no answer to C-STORE")
        return judge(int(status.Status), str(status.get("ErrorComment", "")))

    def _refusal(self, sop_class_uid: str) -> DeliveryError:
        """Why none of the contexts of this SOP class was accepted; refused for good only where the peer says so."""
        refused = [c.result for c in self.association.rejected_contexts if c.abstract_syntax == sop_class_uid]
        if not refused:
            return DeliveryError(f"no presentation context for SOP class {sop_class_uid}")
        result = 3 if 3 in refused else max(refused)
        words = f"{sop_class_name(sop_class_uid)}: {CONTEXT_RESULT.get(result, 'refused')}"
        return NotTakenError(words, sop_class_uid) if result in (3, 4) else DeliveryError(words)


def refusal(association: Any) -> Any:
    """The A-ASSOCIATE-RJ, or None. A refusal that came before pynetdicom looked whether it is connected stays in its queue."""
    if association.is_rejected:
        return association.acceptor.primitive
    with suppress(Empty):
        while (came := association.dul.to_user_queue.get_nowait()) is not None:
            if isinstance(came, A_ASSOCIATE) and came.result:
                return came
    return None


def hang_up(association: Any) -> None:
    """Release an association, if it still stands, and close its connection, which pynetdicom may have left open."""
    if association.is_established:
        association.release()
    transport = association.dul.socket
    if transport is not None:
        transport.close()


def judge(status: int, comment: str) -> str:
    """The remark for a status that means stored; DeliveryError for every other (PS3.4 section B.2.3, PS3.7 Annex C).

    0xA9xx is permanent as well: the data set does not match its SOP class. 0xA7xx (out of resources) and 0xCxxx (which
    some systems answer to anything that went wrong) may pass.
    """
    said = f"status 0x{status:04X}"
    if status == 0x0000:
        return ""
    if status in (0x0001, 0x0107, 0x0116) or 0xB000 <= status <= 0xBFFF:
        return f"stored with a warning: {said}" + (f": {comment}" if comment else "")
    if status in REFUSED_FOR_GOOD:
        raise DeliveryError(f"{REFUSED_FOR_GOOD[status]}: {said}", permanent=True, quoted=comment)
    raise DeliveryError(f"not stored: {said}", permanent=0xA900 <= status <= 0xA9FF, quoted=comment)


def contexts_of(path: Path) -> tuple[tuple[str, str], ...]:
    """(SOP class, transfer syntax) pairs in which a file may be sent: its own, from its meta information (PS3.10
    section 7.1), then those that it can be written anew in without loss."""
    meta = read_file_meta_info(path)
    own = str(meta.TransferSyntaxUID)
    syntaxes = dict.fromkeys((own, str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)))
    return tuple((str(meta.MediaStorageSOPClassUID), syntax) for syntax in syntaxes)


def encoded(path: Path, transfer_syntax_uid: str) -> Dataset:
    """The content of a file in an uncompressed little-endian transfer syntax. Raises DeliveryError when it cannot be."""
    try:
        ds = pydicom.dcmread(path)
        if ds.file_meta.TransferSyntaxUID.is_compressed:
            ds.decompress(generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = syntax = UID(transfer_syntax_uid)
        written = BytesIO()
        ds.save_as(written, implicit_vr=syntax.is_implicit_VR, little_endian=True)
        return pydicom.dcmread(BytesIO(written.getvalue()))
    except (AttributeError, KeyError, ValueError, RuntimeError) as e:
        raise DeliveryError(f"it cannot be written in {UID(transfer_syntax_uid).name}: {e}", permanent=True) from e


def prepare(event: Any) -> None:
    """No waiting for acknowledgements of small packets, which costs 40 ms per object; and no lost answers (`gate`)."""
    event.assoc._reactor_checkpoint = Gate()
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def make(address: Address, *, calling_ae: str, timeout_s: float) -> Pacs:
    _config.STORE_SEND_CHUNKED_DATASET = True  # pynetdicom's only way to send a file's bytes as they are
    return Pacs(address, calling_ae, timeout_s)
