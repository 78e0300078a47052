"""Fetch a study: C-MOVE to the node itself, or C-GET into its store. PS3.4 annexes C.4.2 and C.4.3."""

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import build_role, evt

from radnode.destinations.dimse import Pacs, hang_up
from radnode.destinations.dimse_commit import PENDING
from radnode.errors import DeliveryError, StoreError
from radnode.settings import Destination as Address
from radnode.store_check import Arrival

MOVE, GET = "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.2.3"
UNCOMPRESSED = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
COMPRESSED = tuple(map(str, (JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless, JPEGBaseline8Bit)))
STORED = (
    "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2",
    "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4",
    "1.2.840.10008.5.1.4.1.1.4.2", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.2", "1.2.840.10008.5.1.4.1.1.13.1.3",
    "1.2.840.10008.5.1.4.1.1.66", "1.2.840.10008.5.1.4.1.1.66.1", "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.20",
    "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.30", "1.2.840.10008.5.1.4.1.1.11.1",
    "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.5.1.4.1.1.104.1",
)  # fmt: skip
"""What a C-GET may bring: images of the modalities that are read, and what is made of them (PS3.4 table B.5-1)."""

Keep = Callable[[Arrival, bytes], object]
"""Takes an object into the store. Raises StoreError."""


def move(address: Address, study_uid: str, *, calling_ae: str, timeout_s: float) -> int:
    """Have a study sent to the node by its AE title; how many objects were. Raises DeliveryError."""
    association = Pacs(address, calling_ae, timeout_s).associate([(MOVE, s) for s in UNCOMPRESSED])
    try:
        if not association.accepted_contexts:
            raise DeliveryError("it sends nothing on request (C-MOVE)")
        return outcome(association.send_c_move(wanted(study_uid), calling_ae, MOVE), "C-MOVE")
    finally:
        end(association)


def get(address: Address, study_uid: str, keep: Keep, *, calling_ae: str, timeout_s: float) -> int:
    """Take a study over one association into the store; how many objects came. Raises DeliveryError."""

    def store(event: Any) -> int:
        arrival = Arrival(
            calling_ae=address.ae_title or address.name,
            called_ae=calling_ae,
            address=address.host,
            sop_class_uid=str(event.request.AffectedSOPClassUID),
            sop_uid=str(event.request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            study_uid=study_uid,
        )
        try:
            keep(arrival, event.encoded_dataset(include_meta=False))
        except StoreError as e:
            return e.status
        return 0

    contexts = [(GET, s) for s in UNCOMPRESSED]
    contexts += [(uid, syntax) for uid in STORED for syntax in UNCOMPRESSED[:1]]
    contexts += [(uid, syntax) for uid in STORED[:8] for syntax in COMPRESSED]
    contexts += [(uid, UNCOMPRESSED[1]) for uid in STORED]
    roles = [build_role(uid, scp_role=True) for uid in STORED]
    association = Pacs(address, calling_ae, timeout_s).associate(contexts, [(evt.EVT_C_STORE, store)], roles)
    try:
        if GET not in {c.abstract_syntax for c in association.accepted_contexts}:
            raise DeliveryError("it hands out nothing on request (C-GET)")
        return outcome(association.send_c_get(wanted(study_uid), GET), "C-GET")
    finally:
        end(association)


def wanted(study_uid: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", study_uid
    return query


def outcome(answers: Any, what: str) -> int:
    """How many objects came. Raises DeliveryError when some did not, or it ended otherwise."""
    status = Dataset()
    for status, _ in answers:
        if status.get("Status") not in PENDING:
            break
    if "Status" not in status:
        raise DeliveryError(f"no answer to {what}")
    done, failed = (
        int(status.get("NumberOfCompletedSuboperations") or 0),
        int(status.get("NumberOfFailedSuboperations") or 0),
    )
    done += int(status.get("NumberOfWarningSuboperations") or 0)
    if status.Status == 0xA801:
        raise DeliveryError("it does not know this node as a destination of C-MOVE (0xA801)")
    if status.Status != 0 or failed:
        said = str(status.get("ErrorComment") or "")
        raise DeliveryError(f"{what} ended with 0x{status.Status:04X}: {done} came, {failed} failed", quoted=said)
    return done


def end(association: Any) -> None:
    if association.is_established:
        association.release()
    hang_up(association)
