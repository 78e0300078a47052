"""C-GET from a PACS of the test's own: which SOP classes are asked for, and what it does not hand out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedUSVolumeStorage,
    ExplicitVRLittleEndian,
    XRayAngiographicImageStorage,
)
from pynetdicom import AE, evt
from support.core import dataset

from radnode.destinations.dimse_commit import STUDY_ROOT_FIND
from radnode.destinations.dimse_fetch import CONTEXTS, GET, SYNTAXES, Brought, contexts_of, get
from radnode.errors import DeliveryError, StoreError
from radnode.settings import Destination
from radnode.store_check import Arrival

CLASSES = (CTImageStorage, XRayAngiographicImageStorage, EnhancedUSVolumeStorage)
STUDY = "1.2.826.99.1"


@contextmanager
def handing_out(*classes: str, counts_classes: bool) -> Iterator[Destination]:
    """A PACS with one object of each of CLASSES, which hands out these. counts_classes: at the level of the study."""
    objects = [dataset(STUDY, f"{STUDY}.{n}", SOPClassUID=uid) for n, uid in enumerate(CLASSES)]
    for ds in objects:
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian

    def find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        level, answer = event.identifier.QueryRetrieveLevel, Dataset()
        answer.QueryRetrieveLevel, answer.StudyInstanceUID = level, STUDY
        answer.SeriesInstanceUID = objects[0].SeriesInstanceUID
        if level == "STUDY" and counts_classes:
            answer.SOPClassesInStudy = list(CLASSES)
        for ds in objects if level == "IMAGE" else objects[:1]:
            answer.SOPInstanceUID, answer.SOPClassUID = ds.SOPInstanceUID, ds.SOPClassUID
            yield 0xFF00, answer

    def hand_out(_: Any) -> Iterator[Any]:
        yield len(objects)
        yield from ((0xFF00, ds) for ds in objects)

    ae = AE("PACS")
    ae.add_supported_context(STUDY_ROOT_FIND)
    ae.add_supported_context(GET)
    for uid in classes:
        ae.add_supported_context(uid, ExplicitVRLittleEndian, scu_role=False, scp_role=True)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, find), (evt.EVT_C_GET, hand_out)]
    )
    try:
        port = server.socket.getsockname()[1]
        yield Destination(name="pacs", kind="dimse", host="127.0.0.1", port=port, ae_title="PACS")
    finally:
        server.shutdown()


@pytest.mark.parametrize("counts_classes", (True, False), ids=("of the study", "of each object"))
def test_every_sop_class_of_a_study_is_asked_for_and_what_is_not_handed_out_is_named(counts_classes: bool) -> None:
    came: list[str] = []

    def keep(arrival: Arrival, body: bytes) -> None:
        assert body
        came.append(arrival.sop_class_uid)

    with handing_out(*CLASSES[:2], counts_classes=counts_classes) as pacs:
        brought = get(pacs, STUDY, keep, calling_ae="RADNODE", timeout_s=60)
    assert brought == Brought(many=2, without="Enhanced US Volume Storage")
    assert came == list(CLASSES[:2])


def test_what_the_node_itself_cannot_keep_is_no_part_that_is_enough() -> None:
    def keep(_: Arrival, body: bytes) -> None:
        raise StoreError(0xA700, "the disk is full")

    with (
        handing_out(*CLASSES[:2], counts_classes=True) as pacs,
        pytest.raises(DeliveryError, match="0 came, 3 failed"),
    ):
        get(pacs, STUDY, keep, calling_ae="RADNODE", timeout_s=60)


def test_all_classes_fit_into_one_association() -> None:
    for many in (1, 8, 27, 200):
        asked = contexts_of([f"1.2.{n}" for n in range(many)])
        assert len(asked) <= CONTEXTS and len(set(asked)) == len(asked)
    assert {syntax for _, syntax in contexts_of(CLASSES)} == set(SYNTAXES)
