"""A PACS of a test's own with pynetdicom: it stores, lists by C-FIND, and answers storage commitment as the test says."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.pdu import P_DATA_TF

COMMITMENT, INSTANCE, FIND = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1", "1.2.840.10008.5.1.4.1.2.2.1"

Answer = Callable[[str], int]
"""SOP Instance UID -> 0 when it is committed to, else the failure reason."""


@dataclass
class Pacs:
    """stored: how often each object came. asked: the objects of each N-ACTION."""

    port: int = 0
    stored: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    found: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def pacs_scp(answer: Answer | None, *, finds: bool = False, silent: bool = False, port: int = 0) -> Iterator[Pacs]:
    """A running PACS. answer: of storage commitment, on the same association; None: not offered. silent: it never reports."""
    pacs = Pacs()
    owed: dict[object, list[Dataset]] = {}  # association -> what is reported once the response to the N-ACTION has left

    def store(event: Any) -> int:
        with pacs.lock:
            uid = str(event.request.AffectedSOPInstanceUID)
            pacs.stored[uid] = pacs.stored.get(uid, 0) + 1
        return 0

    def act(event: Any) -> tuple[int, None]:
        items = event.action_information.ReferencedSOPSequence
        with pacs.lock:
            pacs.asked.append(tuple(str(i.ReferencedSOPInstanceUID) for i in items))
            if not silent:
                owed.setdefault(event.assoc, []).append(event.action_information)
        return 0, None

    def sent(event: Any) -> None:
        if not isinstance(event.pdu, P_DATA_TF):
            return
        with pacs.lock:
            left = owed.pop(event.assoc, [])
        for asked in left:
            threading.Thread(target=report, args=(event.assoc, asked), daemon=True).start()

    def report(association: Any, asked: Dataset) -> None:
        assert answer is not None
        said = Dataset()
        said.TransactionUID = asked.TransactionUID
        good = [i for i in asked.ReferencedSOPSequence if not answer(str(i.ReferencedSOPInstanceUID))]
        bad = [i for i in asked.ReferencedSOPSequence if answer(str(i.ReferencedSOPInstanceUID))]
        for item in bad:
            item.FailureReason = answer(str(item.ReferencedSOPInstanceUID))
        said.ReferencedSOPSequence = good
        if bad:
            said.FailedSOPSequence = bad
        association.send_n_event_report(said, 2 if bad else 1, UID(COMMITMENT), UID(INSTANCE))

    def find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        pacs.found += 1
        wanted = event.identifier.get("SOPInstanceUID") or ()
        for uid in [wanted] if isinstance(wanted, str) else wanted:
            if str(uid) in pacs.stored:
                item = Dataset()
                item.QueryRetrieveLevel, item.SOPInstanceUID = "IMAGE", str(uid)
                yield 0xFF00, item

    ae = AE(ae_title="TESTPACS")
    ae.supported_contexts = StoragePresentationContexts
    if answer is not None:
        ae.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
    if finds:
        ae.add_supported_context(FIND)
    handlers = [(evt.EVT_C_STORE, store), (evt.EVT_N_ACTION, act), (evt.EVT_C_FIND, find), (evt.EVT_PDU_SENT, sent)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    assert server is not None
    pacs.port = server.server_address[1]
    try:
        yield pacs
    finally:
        server.shutdown()
