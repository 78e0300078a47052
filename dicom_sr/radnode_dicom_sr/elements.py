"""DICOM elements as bytes, Explicit VR Little Endian (PS3.5 section 7.1).

pydicom spends about a millisecond on the functional groups of one frame, and a segmentation has thousands; it also
corrects, converts and checks what the writers here have already made right.
"""

import struct
from typing import Any

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from radnode_inference.findings import Code

LONG = frozenset({"OB", "OW", "SQ", "UC", "UR", "UT", "UN"})


def element(tag: int, vr: str, value: bytes) -> bytes:
    """One element, its value padded to an even length: UIDs and bytes with a zero, text with a space."""
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB") else b" "
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    return head + (struct.pack("<HL", 0, len(value)) if vr in LONG else struct.pack("<H", len(value))) + value


def text(tag: int, vr: str, *values: str) -> bytes:
    return element(tag, vr, "\\".join(values).encode())


def item(content: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def sequence(tag: int, *contents: bytes) -> bytes:
    """A sequence with one item for each of `contents`."""
    return element(tag, "SQ", b"".join(item(c) for c in contents))


def raw_sequence(tag: int, *contents: bytes) -> RawDataElement:
    """A sequence whose items are already bytes, to stand in a data set."""
    value = b"".join(item(c) for c in contents)
    return RawDataElement(Tag(tag), "SQ", len(value), value, 0, False, True)


def instance(sop_class_uid: str, sop_uid: str) -> bytes:
    """A reference to an instance (PS3.3 table 10-11)."""
    return text(0x00081150, "UI", sop_class_uid) + text(0x00081155, "UI", sop_uid)


def code(tag: int, concept: Code) -> bytes:
    """A code sequence with one item (PS3.3 section 8.8)."""
    return sequence(
        tag,
        text(0x00080100, "SH", concept.value)
        + text(0x00080102, "SH", concept.scheme)
        + text(0x00080104, "LO", concept.meaning),
    )


def dataset(**elements: Any) -> Dataset:
    """A data set from keywords and values."""
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d"}


def encoded(ds: Dataset) -> bytes:
    """A data set as bytes, text in UTF-8, sequences with defined length. Raw elements stand as they are."""
    parts = []
    for tag in sorted(ds.keys()):
        found = ds.get_item(tag)
        if isinstance(found, RawDataElement):
            parts.append(element(tag, found.VR or "UN", found.value or b""))
        elif found.VR == "SQ":
            parts.append(sequence(tag, *(encoded(held) for held in found.value)))
        else:
            parts.append(element(tag, found.VR, value_bytes(found)))
    return b"".join(parts)


def value_bytes(found: DataElement) -> bytes:
    """The value of an element that is no sequence. Raises KeyError for a VR that no result uses."""
    value = found.value
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    several = list(value) if isinstance(value, MultiValue | list) else [value]
    if found.VR in NUMBERS:
        return struct.pack(f"<{len(several)}{NUMBERS[found.VR]}", *several)
    if found.VR == "AT":
        return b"".join(struct.pack("<HH", int(t) >> 16, int(t) & 0xFFFF) for t in several)
    if found.VR not in TEXTS:
        raise KeyError(f"{found.VR} of {found.keyword}")
    return "\\".join(str(v) for v in several).encode()


TEXTS = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
)
