"""What one MR series says of itself: its technique, its b values, and its time points with their times."""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pydicom

from radnode_inference.frames import Frame, frames_of
from radnode_inference.header import Header
from radnode_inference.model import DeclinedError
from radnode_inference.study import Series

NOT_SOURCES = frozenset(
    ("LOCALIZER", "SCOUT", "MIP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "MPR", "SCREEN SAVE", "POSDISP")
)
SUBTRACTED = frozenset(("SUB", "SUBTRACT", "SUBTRACTION", "SUBTRACTED"))
DAY_S = 86400.0
SIEMENS_B, GE_B, PHILIPS_B = 0x0019100C, 0x00431039, 0x20011003


@dataclass(frozen=True, kw_only=True)
class Technique:
    """The acquisition as the header states it; None or empty where it does not.

    kinds: ScanningSequence words, for enhanced images the same words from their own attributes. words: Image Type.
    """

    kinds: frozenset[str]
    words: frozenset[str]
    dimensions: str
    repetition_ms: float | None
    echo_ms: float | None
    flip: float | None
    contrast_time: str
    fat_suppressed: bool | None
    description: str


@dataclass(frozen=True, kw_only=True, eq=False)
class TimePoint:
    """The frames of one time. begins_s: seconds after midnight of the study's first day; None where nothing states it.

    lasts_s: the acquisition's length; contrast: whether the images say that contrast was given (None: they say nothing).
    """

    series: Series
    frames: tuple[Frame, ...]
    begins_s: float | None
    lasts_s: float | None
    contrast: bool | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """One series taken apart."""

    series: Series
    technique: Technique
    frames: tuple[Frame, ...]
    b_values: tuple[float | None, ...]

    @property
    def header(self) -> Header:
        return self.series.headers[0]


def see(series: Series) -> Seen:
    """A series taken apart. Raises DeclinedError where its images have no position."""
    frames = frames_of(series.headers)
    nested = {id(h): h.dataset() for h in series.headers if h.raw("PerFrameFunctionalGroupsSequence")}
    first = series.headers[0]
    technique = enhanced_technique(first, nested[id(first)]) if id(first) in nested else classic_technique(first)
    b_values = tuple(
        nested_b(nested[id(f.header)], f.number) if id(f.header) in nested else b_value(f.header) for f in frames
    )
    return Seen(series=series, technique=technique, frames=frames, b_values=b_values)


def classic_technique(header: Header) -> Technique:
    options = {w.upper() for w in header.texts("ScanOptions")}
    return Technique(
        kinds=frozenset(w.upper() for w in header.texts("ScanningSequence")),
        words=frozenset(w.upper() for w in header.texts("ImageType")),
        dimensions=header.text("MRAcquisitionType"),
        repetition_ms=header.number("RepetitionTime"),
        echo_ms=header.number("EchoTime"),
        flip=header.number("FlipAngle"),
        contrast_time=header.text("ContrastBolusStartTime"),
        fat_suppressed=bool(options & {"FS", "FATSAT", "FAT_SAT", "SFS"}) if options else None,
        description=f"{header.text('SeriesDescription')} {header.text('ProtocolName')}".upper(),
    )


def enhanced_technique(header: Header, ds: pydicom.Dataset) -> Technique:
    shared = (ds.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    timing = first_item(shared, "MRTimingAndRelatedParametersSequence")
    echo = first_item(shared, "MREchoSequence").get("EffectiveEchoTime")
    kind = {"SPIN": "SE", "GRADIENT": "GR", "BOTH": "SE"}.get(str(ds.get("EchoPulseSequence", "")), "")
    agent = first_item(ds, "ContrastBolusAgentSequence")
    start = first_item(agent, "ContrastAdministrationProfileSequence").get("ContrastBolusStartTime")
    suppression = str(ds.get("SpectrallySelectedSuppression", ""))
    words = {str(w).upper() for w in (*ds.get("ImageType", ()), ds.get("AcquisitionContrast", ""))}
    return Technique(
        kinds=frozenset(w for w in (kind, "EP" if ds.get("EchoPlanarPulseSequence") == "YES" else "") if w),
        words=frozenset(words),
        dimensions=str(ds.get("MRAcquisitionType", "")),
        repetition_ms=optional(timing.get("RepetitionTime")),
        echo_ms=optional(echo),
        flip=optional(timing.get("FlipAngle")),
        contrast_time=str(start or ""),
        fat_suppressed="FAT" in suppression if suppression else None,
        description=f"{header.text('SeriesDescription')} {header.text('ProtocolName')}".upper(),
    )


def first_item(ds: pydicom.Dataset, keyword: str) -> pydicom.Dataset:
    found = ds.get(keyword)
    return found[0] if found else pydicom.Dataset()


def optional(value: object) -> float | None:
    return None if value is None or value == "" else float(str(value))


def nested_b(ds: pydicom.Dataset, number: int) -> float | None:
    """The b value of a frame in s/mm2 (PS3.3 C.8.13.5.9)."""
    group = ds.PerFrameFunctionalGroupsSequence[number - 1]
    shared = first_item(ds, "SharedFunctionalGroupsSequence")
    diffusion = first_item(group, "MRDiffusionSequence") or first_item(shared, "MRDiffusionSequence")
    return optional(diffusion.get("DiffusionBValue"))


def b_value(header: Header) -> float | None:
    """The b value of an image in s/mm2: the standard attribute first, then those of Siemens, GE and Philips."""
    raw = header.raw("DiffusionBValue")
    if raw is not None and len(raw) == 8:
        return float(struct.unpack(">d" if header.big_endian else "<d", raw)[0])
    for number, creator in ((SIEMENS_B, b"SIEMENS"), (GE_B, b"GEMS")):
        text = private(header, number, creator).split(b"\\")[0].strip(b"\0 ")
        if re.fullmatch(rb"\d+(\.\d+)?", text):
            return float(text) % 1e6  # GE adds 1e9 where the value was computed
    raw = private(header, PHILIPS_B, b"PHILIPS")
    return float(struct.unpack("<f", raw)[0]) if len(raw) == 4 else None


def private(header: Header, number: int, creator: bytes) -> bytes:
    """A private value, if its block belongs to `creator`."""
    block = header.elements.get((number & 0xFFFF0000) | ((number >> 8) & 0xFF), (b"", b""))[1]
    return header.elements.get(number, (b"", b""))[1] if block.upper().startswith(creator) else b""


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


def time_points(seen: Seen) -> tuple[TimePoint, ...]:
    """The time points of a series, in order.

    Told apart by Temporal Position Identifier, else by acquisition time, else by trigger time; one where every place is
    there once. Raises DeclinedError `timing` when places repeat and none of these tells the images apart.
    """
    frames = seen.frames
    if len(positions(frames)) == len(frames):
        return (time_point(seen, frames),)
    for key in (temporal, acquired, triggered):
        groups: dict[float, list[Frame]] = {}
        for f in frames:
            value = key(f)
            if value is not None:
                groups.setdefault(value, []).append(f)
        whole = [g for g in groups.values() if len(positions(g)) == len(g)]
        if len(groups) > 1 and len(whole) == len(groups) and sum(map(len, whole)) == len(frames):
            return tuple(time_point(seen, tuple(groups[k])) for k in sorted(groups))
    raise DeclinedError(
        "timing",
        "places repeat within a series and TemporalPositionIdentifier, AcquisitionTime and TriggerTime do not tell"
        f" its images apart ({seen.technique.description.strip() or seen.series.series_uid})",
    )


def positions(frames: Sequence[Frame]) -> set[tuple[float, ...]]:
    return {tuple(round(float(v), 3) for v in f.position) for f in frames}


def temporal(frame: Frame) -> float | None:
    return None if frame.temporal_position is None else float(frame.temporal_position)


def acquired(frame: Frame) -> float | None:
    return seconds(frame.acquired or frame.header.text("ContentTime"))


def triggered(frame: Frame) -> float | None:
    return frame.header.number("TriggerTime")


def time_point(seen: Seen, frames: tuple[Frame, ...]) -> TimePoint:
    starts = [s for f in frames if (s := acquired(f)) is not None]
    every = {acquired(f) for f in seen.frames}
    begins = min(starts) if starts else None
    triggers = [t for f in frames if (t := triggered(f)) is not None]
    if begins is not None and len(every) == 1 and len(frames) < len(seen.frames):
        begins = begins + min(triggers) / 1000 if triggers else None  # one time for all phases is that of the first
    header = frames[0].header
    resolution = header.number("TemporalResolution")
    return TimePoint(
        series=seen.series,
        frames=frames,
        begins_s=begins,
        lasts_s=resolution / 1000 if resolution else frame_duration(frames[0]),
        contrast=contrast_given(frames[0]),
    )


def frame_duration(frame: Frame) -> float | None:
    """Seconds, from Frame Acquisition Duration (ms) of an enhanced image."""
    if not frame.header.raw("PerFrameFunctionalGroupsSequence"):
        return None
    group = frame.header.dataset().PerFrameFunctionalGroupsSequence[frame.number - 1]
    value = optional(first_item(group, "FrameContentSequence").get("FrameAcquisitionDuration"))
    return value / 1000 if value else None


def contrast_given(frame: Frame) -> bool | None:
    """What the image says: its agent, or for an enhanced image the frame's Contrast/Bolus Usage."""
    if frame.header.raw("PerFrameFunctionalGroupsSequence"):
        group = frame.header.dataset().PerFrameFunctionalGroupsSequence[frame.number - 1]
        usage = first_item(group, "ContrastBolusUsageSequence").get("ContrastBolusAgentAdministered")
        return None if usage is None else usage == "YES"
    agent = frame.header.text("ContrastBolusAgent").upper()
    return agent not in ("", "NO", "NONE", "OFF")
