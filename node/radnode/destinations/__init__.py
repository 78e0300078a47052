"""Where results go: one module for each kind of destination. `open_destination` is the only way in."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from pydicom.uid import UID

from radnode.errors import DeliveryError
from radnode.settings import Destination as Address

REJECTION, RETRACTION = "rejection", "retraction"
NOTES = frozenset({REJECTION, RETRACTION})
"""What takes results back: a rejection note (Key Object Selection, IHE IOCM), a FHIR transaction of what was entered in error."""
PRIORITY = "priority"
"""That a study's priority changed: see `radnode.notify`."""
BY_CHOICE = frozenset({"pdf", "kos", "rtstruct", "status"})
"""Kinds that only those destinations get whose settings name them."""
DICOM_KINDS = frozenset({"sr", "seg", "key-image", "parametric-map"}) | BY_CHOICE
TAKES: Mapping[str, frozenset[str]] = {
    "dimse": DICOM_KINDS | {REJECTION},
    "orthanc": DICOM_KINDS | {REJECTION},
    "fhir": frozenset({"fhir", RETRACTION, PRIORITY}),
    "hl7": frozenset({"fhir", RETRACTION, PRIORITY}),
    "webhook": frozenset({PRIORITY}),
    "mail": frozenset({PRIORITY}),
    "folder": DICOM_KINDS | NOTES | {"fhir"},
}
"""Which kinds of results each kind of destination can take."""

LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage (DICOM 2024d), which pydicom's dictionary does not name yet."""
MODULES: Mapping[str, str] = {
    "dimse": "radnode.destinations.dimse",
    "orthanc": "radnode.destinations.orthanc",
    "fhir": "radnode.destinations.fhir_rest",
    "folder": "radnode.destinations.folder",
    "hl7": "radnode.destinations.hl7_mllp",
    "webhook": "radnode.destinations.webhook",
    "mail": "radnode.destinations.mail",
}


class Outgoing(Protocol):
    """A result on its way: what a destination may know of it. `path` holds the immutable bytes."""

    @property
    def study_uid(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def sop_class_uid(self) -> str: ...
    @property
    def path(self) -> Path: ...


class Sender(Protocol):
    """An open way to a destination."""

    def send(self, result: Outgoing) -> str:
        """Hand over one result and return the peer's remark ("" mostly). Sending the same result again is harmless.

        Raises DeliveryError: `permanent` when the same bytes can never be taken.
        """
        ...


class Destination(Protocol):
    """A place for results. Cheap to make: nothing is connected before `open`."""

    def open(self, results: Sequence[Outgoing]) -> AbstractContextManager[Sender]:
        """One connection for `results`, which are all of one study. Raises DeliveryError when there is no way in."""
        ...


def sop_class_name(uid: str) -> str:
    return "Label Map Segmentation Storage" if uid == LABELMAP else UID(uid).name


def takes(address: Address) -> frozenset[str]:
    """The kinds of results this destination is to get. Notes go wherever results went, unless they are switched off."""
    possible = TAKES[address.kind]
    by_choice = BY_CHOICE | {PRIORITY} if address.kind == "fhir" else BY_CHOICE  # there it changes another's order
    chosen = possible & (frozenset(address.results) | NOTES) if address.results else possible - by_choice
    if address.status_objects:
        chosen |= possible & {"status"}
    return chosen if address.rejection_notes else chosen - {REJECTION}


def open_destination(address: Address, *, calling_ae: str, timeout_s: float) -> Destination:
    """The destination at `address`. Its library is imported here, so that a node loads only what it uses."""
    make = import_module(MODULES[address.kind]).make
    return cast(Destination, make(address, calling_ae=calling_ae, timeout_s=timeout_s))


def probe(
    address: Address, sop_classes: Sequence[str], *, calling_ae: str, timeout_s: float
) -> Mapping[str, tuple[str, ...]]:
    """SOP class -> the transfer syntaxes in which a PACS takes it. Raises DeliveryError when it cannot be asked."""
    if address.kind != "dimse":
        raise DeliveryError("only a PACS that is reached by C-STORE can be asked what it takes")
    ask = import_module("radnode.destinations.dimse_probe").ask
    return cast(Mapping[str, tuple[str, ...]], ask(address, sop_classes, calling_ae=calling_ae, timeout_s=timeout_s))
