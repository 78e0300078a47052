"""Fetch a study: C-MOVE to the node itself, or C-GET into its store. PS3.4 annexes C.4.2 and C.4.3."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import build_role, evt

from radnode.destinations import sop_class_name
from radnode.destinations.dimse import Pacs, hang_up
from radnode.destinations.dimse_commit import PENDING
from radnode.destinations.dimse_find import finding
from radnode.errors import DeliveryError, StoreError
from radnode.settings import Destination as Address
from radnode.store_check import Arrival

MOVE, GET = "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.2.3"
UNCOMPRESSED = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
SYNTAXES = (
    *UNCOMPRESSED, *map(str, (
        JPEGLosslessSV1, JPEG2000Lossless, JPEGLSLossless, JPEGBaseline8Bit, RLELossless, JPEG2000, JPEGExtended12Bit,
        HTJ2KLossless, HTJ2K, JPEGLossless, JPEGLSNearLossless, HTJ2KLosslessRPCL,
    ))
)  # fmt: skip
"""In the order in which they are asked for, where not all fit into one association."""
SOME_FAILED = 0xB000
"""PS3.4 section C.4.3.1.4."""
SILENT_S = 600.0
"""For so long a system may say nothing while it sends, or gets a study from a tape: pending answers are its choice. PS3.4
section C.4.2.3."""
CONTEXTS = 128
"""Presentation contexts of one association. PS3.8 section 9.3.2.2."""
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
"""What a C-GET asks for where nobody says which SOP classes a study has: images of the modalities that are read, and
what is made of them (PS3.4 table B.5-1)."""

Keep = Callable[[Arrival, bytes], object]
"""Takes an object into the store. Raises StoreError."""


@dataclass(frozen=True, kw_only=True)
class Brought:
    """How many objects came, None where the system does not say, and the names of the SOP classes of which it hands out none;
    "" for none."""

    many: int | None
    without: str = ""


def move(address: Address, study_uid: str, *, calling_ae: str, timeout_s: float) -> int | None:
    """Have a study sent to the node by its AE title; how many objects were, None where that is not said. Raises DeliveryError."""
    try:
        association = Pacs(address, calling_ae, timeout_s).associate([(MOVE, s) for s in UNCOMPRESSED])
    except DeliveryError as e:
        e.brought = 0  # it was asked for nothing
        raise
    try:
        if not association.accepted_contexts:
            raise DeliveryError("it sends nothing on request (C-MOVE)", brought=0)
        be_patient(association, timeout_s)
        return outcome(association.send_c_move(wanted(study_uid), calling_ae, MOVE), "C-MOVE")
    finally:
        end(association)


def get(address: Address, study_uid: str, keep: Keep, *, calling_ae: str, timeout_s: float) -> Brought:
    """Take a study over one association into the store. Raises DeliveryError.

    What the system does not hand out for its kind does not keep the rest away; whatever else did not come does.
    """
    not_kept: list[int] = []

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
            not_kept.append(e.status)
            return e.status
        return 0

    classes = sorted(classes_of(address, study_uid, calling_ae, timeout_s)) or STORED
    roles = [build_role(uid, scp_role=True) for uid in classes]
    association = Pacs(address, calling_ae, timeout_s).associate(
        contexts_of(classes), [(evt.EVT_C_STORE, store)], roles
    )
    try:
        if GET not in {c.abstract_syntax for c in association.accepted_contexts}:
            raise DeliveryError("it hands out nothing on request (C-GET)")
        be_patient(association, timeout_s)
        handed = {c.abstract_syntax for c in association.accepted_contexts if c.as_scp}
        without = "" if classes is STORED else ", ".join(sop_class_name(uid) for uid in classes if uid not in handed)
        many = outcome(association.send_c_get(wanted(study_uid), GET), "C-GET", lambda: bool(without) and not not_kept)
        return Brought(many=many, without=without)
    finally:
        end(association)


def classes_of(address: Address, study_uid: str, calling_ae: str, timeout_s: float) -> Collection[str]:
    """The SOP classes of a study as far as the system says."""
    try:
        with finding(address, calling_ae=calling_ae, timeout_s=timeout_s) as finder:
            return finder.sop_classes(study_uid)
    except DeliveryError:  # it answers no such query: what is usual is asked for
        return ()


def contexts_of(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Each SOP class in as many transfer syntaxes of its own as fit, so that each object may come as it is stored."""
    stored = [(uid, syntax) for syntax in SYNTAXES for uid in classes]
    return [(GET, s) for s in UNCOMPRESSED] + stored[: CONTEXTS - len(UNCOMPRESSED)]


def wanted(study_uid: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", study_uid
    return query


def outcome(answers: Any, what: str, is_a_part_enough: Callable[[], bool] = lambda: False) -> int | None:
    """How many objects came, None where that is not said. Raises DeliveryError when some did not and a part is not enough, or it
    ended otherwise."""
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
        raise DeliveryError("it does not know this node as a destination of C-MOVE (0xA801)", brought=0)
    if status.Status == SOME_FAILED and done and is_a_part_enough():
        return done
    if status.Status != 0 or failed:
        said = str(status.get("ErrorComment") or "")
        counted = done if "NumberOfCompletedSuboperations" in status else None
        sentence = f"{what} ended with 0x{status.Status:04X}: {done} came, {failed} failed"
        raise DeliveryError(sentence, quoted=said, brought=counted)
    return done if done or "NumberOfCompletedSuboperations" in status else None


def be_patient(association: Any, timeout_s: float) -> None:
    """Wait for the next word of an answer for longer than for a connection."""
    association.dimse_timeout = association.network_timeout = max(timeout_s, SILENT_S)


def end(association: Any) -> None:
    if association.is_established:
        association.release()
    hang_up(association)
