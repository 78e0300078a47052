"""The data sets of storage commitment. PS3.4 annex J.3."""

from collections.abc import Mapping

from pydicom.dataset import Dataset

COMMITMENT, COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
"""Storage Commitment Push Model and its well-known instance. PS3.4 annex J.4."""


def references(named: Mapping[str, str]) -> list[Dataset]:
    items = []
    for uid, sop_class in named.items():
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        items.append(item)
    return items


def event_information(
    transaction_uid: str, committed: Mapping[str, str], failed: Mapping[str, tuple[str, int]]
) -> Dataset:
    """PS3.4 table J.3-4."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    if committed:
        information.ReferencedSOPSequence = references(committed)
    if failed:
        items = references({uid: sop_class for uid, (sop_class, _) in failed.items()})
        for item, (_, reason) in zip(items, failed.values(), strict=True):
            item.FailureReason = reason
        information.FailedSOPSequence = items
    return information
