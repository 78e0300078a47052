"""What one MR frame says of its weighting, its time and its contrast: standard attributes first, then the makers' own.

Private elements by the conformance statements of Siemens, GE and Philips; they stand in a block that names its creator.
"""

import re
import struct
from dataclasses import dataclass
from datetime import datetime

import pydicom

from radnode_inference.frames import Frame, macro
from radnode_inference.header import Header

DAY_S = 86400.0
SIEMENS, GE, PHILIPS = "SIEMENS MR HEADER", "GEMS", "PHILIPS"
PHILIPS_B, PHILIPS_BEGIN, PHILIPS_SCALE, PHILIPS_FRAME = 0x200103, 0x2005A0, 0x20050E, 0x20050F
SIEMENS_B, GE_B = 0x00190C, 0x004339
NO_AGENT = re.compile(
    r"|NO|NONE|OFF|NATIVE|N/?A|-+|0|(WITHOUT|NO|W/O|UN)[ _-]*(CONTRAST|CM|KM|ENHANCED)?", re.IGNORECASE
)
SHORTEST_MS = 1000.0
"""No volume of the breasts is acquired in less: a smaller Temporal Resolution is written in another unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """One frame; None where it says nothing.

    acquired_s, content_s, injected_s: seconds on one clock (a date counts). trigger_s, offset_s, dynamic_s: seconds after
    the series began, from Trigger Time, Temporal Position Time Offset and Philips' Dynamic Scan Begin Time.
    contrast: whether it says that contrast was given. scale: Philips' scale slope. b_value: s/mm2. expected: Number of
    Temporal Positions. stamped_s: Acquisition DateTime where it differs from Acquisition Time. floating: the times of which
    the day is that of the series, so that midnight may lie between.
    """

    b_value: float | None
    position: int | None
    acquired_s: float | None
    content_s: float | None
    trigger_s: float | None
    offset_s: float | None
    dynamic_s: float | None
    lasts_s: float | None
    injected_s: float | None
    contrast: bool | None
    scale: float | None
    expected: int | None = None
    stamped_s: float | None = None
    floating: tuple[str, ...] = ()


def classic_facts(frame: Frame) -> Facts:
    """Of a single-frame image."""
    header = frame.header
    trigger, resolution = header.number("TriggerTime"), header.number("TemporalResolution")
    acquired, stamped = acquired_of(header)
    dates = ("AcquisitionDate", "acquired_s"), ("ContentDate", "content_s")
    return Facts(
        b_value=b_value(header),
        position=frame.temporal_position,
        acquired_s=acquired,
        content_s=dated(header, header.text("ContentTime"), "ContentDate"),
        trigger_s=None if trigger is None else trigger / 1000,
        offset_s=None,
        dynamic_s=private_float(header, PHILIPS_BEGIN, PHILIPS),
        lasts_s=resolution / 1000 if resolution and resolution >= SHORTEST_MS else None,
        injected_s=seconds(header.text("ContrastBolusStartTime")),
        contrast=not NO_AGENT.fullmatch(header.text("ContrastBolusAgent")),
        scale=private_float(header, PHILIPS_SCALE, PHILIPS),
        expected=int(header.number("NumberOfTemporalPositions") or 0) or None,
        stamped_s=stamped,
        floating=tuple(name for keyword, name in dates if not header.text(keyword)),
    )


def acquired_of(header: Header) -> tuple[float | None, float | None]:
    """Acquisition Time with its day, and Acquisition DateTime where it is a time and says otherwise.

    De-identification cuts or replaces one of them; where both are there and agree, the day is that of the latter.
    """
    time = seconds(header.text("AcquisitionTime"))
    stamp = dated(header, header.text("AcquisitionDateTime"), "AcquisitionDate")
    if time is None:
        return stamp, None
    if stamp is not None and stamp >= DAY_S and abs(stamp % DAY_S - time) < 1.0:
        return stamp, None
    return dated(header, header.text("AcquisitionTime"), "AcquisitionDate"), stamp


def nested_facts(frame: Frame, ds: pydicom.Dataset) -> Facts:
    """Of a frame of an enhanced image, by its functional groups (PS3.3 C.7.6.16, C.8.13.5)."""
    group = ds.PerFrameFunctionalGroupsSequence[frame.number - 1]
    shared = first_item(ds, "SharedFunctionalGroupsSequence")
    lasts = optional(macro(group, shared, "FrameContentSequence").get("FrameAcquisitionDuration"))
    usage = macro(group, shared, "ContrastBolusUsageSequence").get("ContrastBolusAgentAdministered")
    profile = first_item(first_item(ds, "ContrastBolusAgentSequence"), "ContrastAdministrationProfileSequence")
    philips = philips_frame(group)
    b = optional(macro(group, shared, "MRDiffusionSequence").get("DiffusionBValue"))
    return Facts(
        b_value=nested_private(philips, PHILIPS_B) if b is None else b,
        position=frame.temporal_position,
        acquired_s=dated(frame.header, frame.acquired, "AcquisitionDate"),
        content_s=dated(frame.header, frame.header.text("ContentTime"), "ContentDate"),
        trigger_s=None,
        offset_s=optional(macro(group, shared, "TemporalPositionSequence").get("TemporalPositionTimeOffset")),
        dynamic_s=nested_private(philips, PHILIPS_BEGIN),
        lasts_s=lasts / 1000 if lasts else None,
        injected_s=seconds(str(profile.get("ContrastBolusStartTime") or "")),
        contrast=None if usage is None else usage == "YES",
        scale=nested_private(philips, PHILIPS_SCALE),
    )


def b_value(header: Header) -> float | None:
    """The b value of an image in s/mm2: the standard attribute, those of the makers, the sequence's name (Siemens)."""
    raw = header.raw("DiffusionBValue")
    if raw is not None and len(raw) == 8:
        return float(struct.unpack(">d" if header.big_endian else "<d", raw)[0])
    for number, creator in ((SIEMENS_B, SIEMENS), (GE_B, GE)):
        text = private(header, number, creator).split(b"\\")[0].strip(b"\0 ")
        if re.fullmatch(rb"\d+(\.\d+)?", text):
            return float(text) % 1e6  # GE adds 1e9 where the value was computed
    found = private_float(header, PHILIPS_B, PHILIPS)
    named = re.search(r"\bEP_B(\d+)(?:T|\b)(?!_)", header.text("SequenceName").upper())
    return float(named[1]) if found is None and named else found


def private(header: Header, number: int, creator: str) -> bytes:
    """A private value by group and last byte of its element (0x200103: (2001,xx03)), in whichever block is `creator`'s."""
    group, offset = number >> 8 << 16, number & 0xFF
    for block in range(0x10, 0x100):
        reserved = header.elements.get(group | block)
        if reserved is None:
            continue
        found = header.elements.get(group | block << 8 | offset)
        if found is not None and reserved[1].decode("latin-1").upper().startswith(creator):
            return found[1]
    return b""


def private_float(header: Header, number: int, creator: str) -> float | None:
    """A private FL value."""
    raw = private(header, number, creator)
    return float(struct.unpack(">f" if header.big_endian else "<f", raw)[0]) if len(raw) == 4 else None


def philips_frame(group: pydicom.Dataset) -> pydicom.Dataset:
    """What a classic Philips image would carry, in an enhanced one: (2005,xx0F) of the frame; empty where there is none."""
    for element in group.group_dataset(0x2005):
        if element.tag.element & 0xFF == PHILIPS_FRAME & 0xFF and element.VR == "SQ" and element.value:
            found: pydicom.Dataset = element.value[0]
            return found
    return pydicom.Dataset()


def nested_private(ds: pydicom.Dataset, number: int) -> float | None:
    group, offset = number >> 8, number & 0xFF
    for element in ds.group_dataset(group):
        creator = str(ds.get((group, element.tag.element >> 8), pydicom.DataElement(0x00090010, "LO", "")).value)
        if element.tag.element > 0xFF and element.tag.element & 0xFF == offset and creator.upper().startswith(PHILIPS):
            return optional(element.value)
    return None


def dated(header: Header, written: str, keyword: str) -> float | None:
    """Seconds of a DT, or of a TM with the date beside it, so that midnight is passed."""
    time = seconds(written)
    if time is None or time >= DAY_S:
        return time
    day = header.text(keyword) or header.text("SeriesDate") or header.text("StudyDate")
    whole = seconds(day + "000000") if len(day) == 8 else None
    return time if whole is None else whole + time


def seconds(written: str) -> float | None:
    """Seconds after midnight of a DICOM TM or DT value; a DT's date counts, so that midnight is passed."""
    text = re.sub(r"[+-]\d{4}$", "", written.strip())
    day = 0.0
    digits = text.split(".")[0]
    if len(digits) >= 12 and digits[:8].isdigit():
        try:
            day = datetime.strptime(digits[:8], "%Y%m%d").toordinal() * DAY_S
        except ValueError:
            return None
        text = text[8:]
    found = re.fullmatch(r"(\d{2}):?(\d{2})?:?(\d{2}(?:\.\d+)?)?", text)
    if not found:
        return None
    hours, minutes, rest = (float(g or 0) for g in found.groups())
    return day + hours * 3600 + minutes * 60 + rest


def first_item(ds: pydicom.Dataset, keyword: str) -> pydicom.Dataset:
    found = ds.get(keyword)
    return found[0] if found else pydicom.Dataset()


def optional(value: object) -> float | None:
    return None if value is None or value == "" else float(str(value))
