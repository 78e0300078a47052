"""Storage commitment as user and as provider of its answer, and C-FIND in its place. PS3.4 annexes C and J."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import build_role, evt

from radnode.destinations.commit_data import COMMITMENT, COMMITMENT_INSTANCE, event_information, references
from radnode.destinations.dimse import Pacs, hang_up
from radnode.errors import DeliveryError
from radnode.settings import Destination as Address

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
SUCCESS = 0x0000
PENDING = (0xFF00, 0xFF01)

Hear = Callable[[Dataset], None]
"""What is to be done with the event information of an N-EVENT-REPORT."""


class Way:
    """An association on which a PACS may be asked what it keeps."""

    def __init__(self, association: Any) -> None:
        self.association = association
        self._taken = {c.abstract_syntax for c in association.accepted_contexts}

    @property
    def commits(self) -> bool:
        return COMMITMENT in self._taken

    @property
    def finds(self) -> bool:
        return STUDY_ROOT_FIND in self._taken

    def request(self, transaction_uid: str, named: Mapping[str, str]) -> None:
        """N-ACTION. named: SOP Instance UID -> SOP Class UID. Raises DeliveryError when it is not taken."""
        information = Dataset()
        information.TransactionUID = transaction_uid
        information.ReferencedSOPSequence = references(named)
        status, _ = self.association.send_n_action(information, 1, COMMITMENT, COMMITMENT_INSTANCE)
        check(status, "storage commitment")

    def find(self, study_uid: str, series_uid: str, uids: Sequence[str]) -> frozenset[str]:
        """Which of these objects a C-FIND at the level IMAGE lists. Raises DeliveryError."""
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        query.StudyInstanceUID, query.SeriesInstanceUID = study_uid, series_uid
        query.SOPInstanceUID = list(uids) if len(uids) > 1 else uids[0]
        listed = set()
        status = Dataset()
        for status, identifier in self.association.send_c_find(query, STUDY_ROOT_FIND):
            if status.get("Status") in PENDING and identifier is not None:
                listed.add(str(identifier.get("SOPInstanceUID", "")))
        check(status, "C-FIND")
        return frozenset(listed) & frozenset(uids)


def check(status: Dataset, what: str) -> None:
    if "Status" not in status:
        raise DeliveryError(f"no answer to {what}")
    if status.Status != SUCCESS:
        said = str(status.get("ErrorComment") or "")
        raise DeliveryError(f"{what} was answered with 0x{status.Status:04X}", quoted=said)


@contextmanager
def open_way(address: Address, *, calling_ae: str, timeout_s: float, hear: Hear) -> Iterator[Way]:
    """An association for storage commitment and C-FIND. hear: for a report on this same association.

    Raises DeliveryError when there is none.
    """

    def reported(event: Any) -> tuple[int, None]:
        hear(event.event_information)
        return SUCCESS, None

    contexts = [(uid, s) for uid in (COMMITMENT, STUDY_ROOT_FIND) for s in (EXPLICIT, IMPLICIT)]
    pacs = Pacs(address, calling_ae, timeout_s)
    association = pacs.associate(contexts, [(evt.EVT_N_EVENT_REPORT, reported)])
    try:
        yield Way(association)
    finally:
        if association.is_established:
            association.release()
        hang_up(association)


def report(
    address: Address,
    transaction_uid: str,
    committed: Mapping[str, str],
    failed: Mapping[str, tuple[str, int]],
    *,
    calling_ae: str,
    timeout_s: float,
) -> None:
    """N-EVENT-REPORT on an association of its own, as provider (role selection). Raises DeliveryError."""
    contexts = [(COMMITMENT, EXPLICIT), (COMMITMENT, IMPLICIT)]
    association = Pacs(address, calling_ae, timeout_s).associate(
        contexts, roles=[build_role(COMMITMENT, scu_role=False, scp_role=True)]
    )
    try:
        if not association.accepted_contexts:
            raise DeliveryError("it does not take answers to storage commitment")
        information = event_information(transaction_uid, committed, failed)
        kind = 2 if failed else 1
        status, _ = association.send_n_event_report(information, kind, COMMITMENT, COMMITMENT_INSTANCE)
        check(status, "the answer to a storage commitment")
    finally:
        if association.is_established:
            association.release()
        hang_up(association)
