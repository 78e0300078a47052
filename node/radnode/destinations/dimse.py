"""C-STORE to a PACS. The only module, beside the receiver, that knows pynetdicom."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, _config, evt

from radnode.destinations import Outgoing
from radnode.destinations.gate import Gate
from radnode.errors import DeliveryError
from radnode.settings import Destination as Address

CONNECT_S = 10.0
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
    """A storage SCP. One association per batch, with a context for each SOP class that is being sent and no more."""

    def __init__(self, address: Address, calling_ae: str, timeout_s: float) -> None:
        self.address = address
        self.calling_ae = calling_ae
        self.timeout_s = timeout_s

    @contextmanager
    def open(self, results: Sequence[Outgoing]) -> Iterator["StoreAssociation"]:
        association = self._associate(results)
        try:
            yield StoreAssociation(association)
        finally:
            if association.is_established:
                association.release()

    def _associate(self, results: Sequence[Outgoing]) -> Any:
        ae = AE(ae_title=self.calling_ae)
        ae.connection_timeout = min(CONNECT_S, self.timeout_s)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = self.timeout_s
        for sop_class_uid, transfer_syntax_uid in sorted({context_of(r.path) for r in results}):
            ae.add_requested_context(sop_class_uid, transfer_syntax_uid)
        try:
            association = ae.associate(
                self.address.host,
                self.address.port,
                ae_title=self.address.ae_title or "ANY-SCP",
                evt_handlers=[(evt.EVT_CONN_OPEN, prepare)],
            )
        except OSError as e:  # the name of the host leads nowhere
            raise DeliveryError(f"{self._name()}: {e.strerror or type(e).__name__}") from e
        if not association.is_established and not association.rejected_contexts:
            raise DeliveryError(f"{self._name()}: {self._why_not(association)}")
        return association

    def _why_not(self, association: Any) -> str:
        """Why there is no association, in words. Never permanent: an administrator adds the AE title, and it works."""
        if association.is_rejected:
            primitive = association.acceptor.primitive
            return f"association rejected: {primitive.reason_str} ({primitive.source_str})"
        try:
            socket.create_connection((self.address.host, self.address.port), timeout=CONNECT_S).close()
        except OSError as e:
            return f"no connection: {e.strerror or type(e).__name__}"
        return "it listens, but ended the association without an answer"

    def _name(self) -> str:
        return f"{self.address.ae_title or 'ANY-SCP'} at {self.address.host}:{self.address.port}"


class StoreAssociation:
    """An association that was answered; possibly with contexts refused, in the worst case all of them."""

    def __init__(self, association: Any) -> None:
        self.association = association

    def send(self, result: Outgoing) -> str:
        self._check_context(result)
        if not self.association.is_established:
            raise DeliveryError("the association was lost")
        status = self.association.send_c_store(result.path)
        if "Status" not in status:
            raise DeliveryError("no answer to C-STORE")
        return judge(int(status.Status), str(status.get("ErrorComment", "")))

    def _check_context(self, result: Outgoing) -> None:
        wanted = context_of(result.path)
        for context in self.association.accepted_contexts:
            if (context.abstract_syntax, context.transfer_syntax[0]) == wanted:
                return
        for context in self.association.rejected_contexts:
            if context.abstract_syntax == wanted[0]:
                why = CONTEXT_RESULT.get(context.result, "refused")
                raise DeliveryError(f"SOP class {wanted[0]}: {why}", permanent=context.result in (3, 4))
        raise DeliveryError(f"no presentation context for SOP class {wanted[0]}")


def judge(status: int, comment: str) -> str:
    """The remark for a status that means stored; DeliveryError for every other (PS3.4 section B.2.3, PS3.7 Annex C).

    0xA9xx is permanent as well: the data set does not match its SOP class. 0xA7xx (out of resources) and 0xCxxx (which
    some systems answer to anything that went wrong) may pass.
    """
    said = f"status 0x{status:04X}" + (f", {comment}" if comment else "")
    if status == 0x0000:
        return ""
    if status in (0x0001, 0x0107, 0x0116) or 0xB000 <= status <= 0xBFFF:
        return f"stored with a warning: {said}"
    if status in REFUSED_FOR_GOOD:
        raise DeliveryError(f"{REFUSED_FOR_GOOD[status]}: {said}", permanent=True)
    raise DeliveryError(f"not stored: {said}", permanent=0xA900 <= status <= 0xA9FF)


def context_of(path: Path) -> tuple[str, str]:
    """SOP class and transfer syntax of a file, from its meta information (PS3.10 section 7.1)."""
    meta = read_file_meta_info(path)
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)


def prepare(event: Any) -> None:
    """No waiting for acknowledgements of small packets, which costs 40 ms per object; and no lost answers (`gate`)."""
    event.assoc._reactor_checkpoint = Gate()
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def make(address: Address, *, calling_ae: str, timeout_s: float) -> Pacs:
    _config.STORE_SEND_CHUNKED_DATASET = True  # pynetdicom's only way to send a file's bytes as they are
    return Pacs(address, calling_ae, timeout_s)
