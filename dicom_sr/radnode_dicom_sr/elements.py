"""DICOM elements as bytes, Explicit VR Little Endian (PS3.5 section 7.1).

pydicom spends about a millisecond on the functional groups of one frame, and a segmentation has thousands.
"""

import struct

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


def code(tag: int, concept: Code) -> bytes:
    """A code sequence with one item (PS3.3 section 8.8)."""
    return sequence(
        tag,
        text(0x00080100, "SH", concept.value)
        + text(0x00080102, "SH", concept.scheme)
        + text(0x00080104, "LO", concept.meaning),
    )
