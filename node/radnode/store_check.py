"""Whether an object may be kept: its UIDs, its agreement with what was announced, and its wholeness. Pure."""

import re
import struct
import zlib
from dataclasses import dataclass
from mmap import mmap

from radnode.errors import StoreError
from radnode_inference.header import EXPLICIT_BIG, IMPLICIT_LITTLE, Header, NotDicomError, skip_undefined, walk

IMPLEMENTATION_CLASS_UID = "2.25.325800106384741526483713126402385148937"
IMPLEMENTATION_VERSION = "RADNODE_0_1"
"""How the node names itself in file meta information and in associations. PS3.7 annex D.3.3.2."""
OUT_OF_RESOURCES, DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0xA700, 0xA900, 0xC000
"""Statuses of the Storage Service Class. PS3.4 table B.2-1."""
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_SYNTAXES = frozenset(
    ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")  # the last two: JPIP
)
UID_PATTERN = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+", re.ASCII)
"""PS3.5 section 9.1: digits and dots, no leading zero in a component, 64 characters at most."""


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """What the sender said about an object before its data set came. study_uid: "" for any."""

    calling_ae: str
    called_ae: str
    address: str
    sop_class_uid: str
    sop_uid: str
    transfer_syntax_uid: str
    study_uid: str = ""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The UIDs under which an object is kept: all valid."""

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str


def is_uid(value: str) -> bool:
    return len(value) <= 64 and UID_PATTERN.fullmatch(value) is not None


def check_announced(arrival: Arrival) -> None:
    """Raises StoreError when the announced UIDs are not valid: they become file meta information and a path."""
    for name, value in (
        ("SOP Class UID", arrival.sop_class_uid),
        ("SOP Instance UID", arrival.sop_uid),
        ("Transfer Syntax UID", arrival.transfer_syntax_uid),
    ):
        if not is_uid(value):
            raise StoreError(CANNOT_UNDERSTAND, f"The {name} is not a valid UID.")


def identify(file: bytes | mmap, start: int, arrival: Arrival, *, max_bytes: int) -> Identity:
    """The object's UIDs. file: the data set begins at `start`. Raises StoreError when it may not be kept.

    max_bytes: how large a deflated data set may become (a small one can inflate to fill the memory).
    """
    data, at, syntax = file, start, arrival.transfer_syntax_uid
    if syntax in DEFLATED_SYNTAXES:
        data, at, syntax = inflate(file[start:], max_bytes), 0, EXPLICIT_LITTLE
    try:
        header = Header.parse_dataset(data, at, syntax)
    except NotDicomError as e:
        raise StoreError(CANNOT_UNDERSTAND, f"Truncated or unreadable: {e}.") from e
    identity = Identity(
        study_uid=wanted_uid(header, "StudyInstanceUID"),
        series_uid=wanted_uid(header, "SeriesInstanceUID"),
        sop_uid=wanted_uid(header, "SOPInstanceUID"),
        sop_class_uid=wanted_uid(header, "SOPClassUID"),
    )
    if identity.sop_uid != arrival.sop_uid:
        raise StoreError(DOES_NOT_MATCH, "The SOP Instance UID is not the one announced.")
    if identity.sop_class_uid != arrival.sop_class_uid:
        raise StoreError(DOES_NOT_MATCH, "The SOP Class UID is not the one announced.")
    if arrival.study_uid not in ("", identity.study_uid):
        raise StoreError(DOES_NOT_MATCH, "The object belongs to another study.")
    check_whole(data, header)
    return identity


def inflate(data: bytes, max_bytes: int) -> bytes:
    """The data set out of its deflated stream. PS3.5 section A.5. Raises StoreError."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(data, max_bytes)
    except zlib.error as e:
        raise StoreError(CANNOT_UNDERSTAND, "The deflated data set cannot be inflated.") from e
    if not stream.eof:
        too_long = len(inflated) >= max_bytes
        raise StoreError(
            OUT_OF_RESOURCES if too_long else CANNOT_UNDERSTAND,
            "The deflated data set is too long." if too_long else "Truncated: the deflated data set does not end.",
        )
    return inflated


def wanted_uid(header: Header, keyword: str) -> str:
    value = (header.raw(keyword) or b"").rstrip(b"\0 ").decode("ascii", "replace")
    if not value:
        raise StoreError(DOES_NOT_MATCH, f"The data set has no {keyword}.")
    if not is_uid(value):
        raise StoreError(CANNOT_UNDERSTAND, f"{keyword} is not a valid UID.")
    return value


def check_whole(data: bytes | mmap, header: Header) -> None:
    """Raises StoreError when the pixels, or what follows them, end too early. PS3.5 sections 7.1 and A.4."""
    if header.pixel_offset is None:
        return
    implicit = header.transfer_syntax_uid == IMPLICIT_LITTLE
    big = header.transfer_syntax_uid == EXPLICIT_BIG
    try:
        if header.pixel_length is None:
            end = skip_undefined(data, header.pixel_offset, big=big, implicit=implicit)
        else:
            end = header.pixel_offset + header.pixel_length
        if end > len(data):
            raise StoreError(CANNOT_UNDERSTAND, "Truncated: the pixel data are shorter than stated.")
        walk(data, end, big=big, implicit=implicit)
    except struct.error as e:
        raise StoreError(CANNOT_UNDERSTAND, "Truncated: the data set ends in the middle of an element.") from e
