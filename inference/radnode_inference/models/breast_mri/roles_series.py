"""What one MR series says of itself: its technique, its side, and the facts of its frames."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pydicom

from radnode_inference.frames import Frame, frames_of, macro
from radnode_inference.header import Header
from radnode_inference.models.breast_mri.roles_facts import (
    Facts,
    classic_facts,
    first_item,
    nested_facts,
    optional,
    private,
)
from radnode_inference.models.breast_mri.roles_words import is_projection, telling, word_set
from radnode_inference.study import Series

GE_SEQUENCE = 0x00199C
SEQUENCES = (
    ("EP", r"EP[_I]|EPI\b|EP2D|SSH"),
    ("SE", r"TSE|FSE|TIR|HASTE|SPACE|FRFSE|(?<!G)(?<!GR)SE2D"),
    ("GR", r"FL[23]D|FFE|FGRE|SPGR|VIBRANT|LAVA|DISCO|THRIVE|VIBE|FLASH|TWIST"),
)
"""Sequence names of the makers as regular expressions, with the ScanningSequence that they stand for."""
STATED_KINDS = frozenset(("SE", "IR", "GR", "EP"))
"""What Scanning Sequence says of the weighting; GE's RM (research mode) says nothing."""
FAR_MM = 40.0
"""Images that reach this far beyond the middle of the patient on both sides show both breasts."""
TOO_WIDE_MM = 100.0
"""Images that reach so far on both sides show both breasts whatever side is typed: those of one are up to 220 mm wide and
lie around it."""
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SIDES = {"L": "left breast", "R": "right breast", "B": "both breasts", "": "side unknown"}


@dataclass(frozen=True, kw_only=True)
class Technique:
    """The acquisition as the header states it; None or empty where it does not.

    kinds: ScanningSequence words, for enhanced images the same words from their own attributes, else those that the
    sequence's name stands for (by_name). words: Image Type. said: the words of the descriptions, which count last.
    """

    kinds: frozenset[str]
    by_name: bool
    words: frozenset[str]
    dimensions: str
    repetition_ms: float | None
    echo_ms: float | None
    flip: float | None
    fat_suppressed: bool | None
    said: frozenset[str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """The images of one series that are of one kind, taken apart. facts: one for each frame.

    side: L, R, B or "", and what says so; side_doubt: a sentence where something else says otherwise, or "".
    """

    series: Series
    technique: Technique
    frames: tuple[Frame, ...]
    facts: tuple[Facts, ...]
    side: str
    side_by: str
    side_doubt: str


def see(series: Series) -> tuple[Seen, ...]:
    """The images of a series by kind, as their Image Type tells them apart, most first: subtractions, the other echoes of a
    Dixon acquisition, directions and screen saves often stand in the series of their sources.

    Raises DeclinedError where images that are no pictures of a screen have no position.
    """
    headers = [h for h in series.headers if not is_picture(h)] or list(series.headers)
    nested = {id(h): h.dataset() for h in headers if h.raw("PerFrameFunctionalGroupsSequence")}
    parts: dict[frozenset[str], list[Frame]] = {}
    for frame in frames_of(headers):
        words = words_of(frame, nested.get(id(frame.header)))
        parts.setdefault(telling(words), []).append(frame)
    return tuple(seen(series, frames, nested) for frames in sorted(parts.values(), key=len, reverse=True))


def is_picture(header: Header) -> bool:
    """Whether an image lies nowhere in the patient, and says that it was never meant to."""
    if header.raw("ImagePositionPatient") or header.raw("PerFrameFunctionalGroupsSequence"):
        return False
    words = frozenset(w.upper() for w in header.texts("ImageType"))
    return is_projection(words) or header.text("SOPClassUID").startswith(SECONDARY_CAPTURE)


def words_of(frame: Frame, whole: pydicom.Dataset | None) -> frozenset[str]:
    """Image Type; of the frames of an enhanced image that says MIXED, their own Frame Type (PS3.3 C.8.16.1)."""
    words = frozenset(w.upper() for w in frame.header.texts("ImageType"))
    if whole is None or "MIXED" not in words:
        return words
    group = whole.PerFrameFunctionalGroupsSequence[frame.number - 1]
    shared = first_item(whole, "SharedFunctionalGroupsSequence")
    own = macro(group, shared, "MRImageFrameTypeSequence").get("FrameType") or words
    return frozenset(str(w).upper() for w in own)


def seen(series: Series, frames: list[Frame], nested: dict[int, pydicom.Dataset]) -> Seen:
    """The images of one kind."""
    first = frames[0].header
    whole = nested.get(id(first))
    technique = classic_technique(first) if whole is None else enhanced_technique(frames[0], whole)
    facts = [nested_facts(f, nested[id(f.header)]) if id(f.header) in nested else classic_facts(f) for f in frames]
    side, side_by, doubt = side_of(first, whole, frames, technique.said)
    return Seen(
        series=series,
        technique=technique,
        frames=tuple(frames),
        facts=tuple(facts),
        side=side,
        side_by=side_by,
        side_doubt=doubt,
    )


def classic_technique(header: Header) -> Technique:
    options = {w.upper() for w in header.texts("ScanOptions")}
    kinds = frozenset(w.upper() for w in header.texts("ScanningSequence")) & STATED_KINDS
    return Technique(
        kinds=kinds or named_kinds(header),
        by_name=not kinds,
        words=frozenset(w.upper() for w in header.texts("ImageType")),
        dimensions=header.text("MRAcquisitionType"),
        repetition_ms=header.number("RepetitionTime"),
        echo_ms=header.number("EchoTime"),
        flip=header.number("FlipAngle"),
        fat_suppressed=bool(options & {"FS", "FATSAT", "FAT_SAT", "SFS"}) if options else None,
        said=said(header),
    )


def named_kinds(header: Header) -> frozenset[str]:
    """What the sequence's name stands for: Sequence Name, or GE's Pulse Sequence Name."""
    name = (header.text("SequenceName") or private(header, GE_SEQUENCE, "GEMS").decode("latin-1")).upper()
    return frozenset(next(([kind] for kind, pattern in SEQUENCES if re.search(pattern, name)), []))


def enhanced_technique(frame: Frame, ds: pydicom.Dataset) -> Technique:
    words = {
        *words_of(frame, ds),
        *(str(ds.get(k, "")).upper() for k in ("AcquisitionContrast", "ComplexImageComponent")),
    }
    shared = first_item(ds, "SharedFunctionalGroupsSequence")
    timing = first_item(shared, "MRTimingAndRelatedParametersSequence")
    kind = {"SPIN": "SE", "GRADIENT": "GR", "BOTH": "SE"}.get(str(ds.get("EchoPulseSequence", "")), "")
    suppression = str(ds.get("SpectrallySelectedSuppression", ""))
    kinds = frozenset(w for w in (kind, "EP" if ds.get("EchoPlanarPulseSequence") == "YES" else "") if w)
    name = str(ds.get("PulseSequenceName", "")).upper()
    named = next(([k] for k, pattern in SEQUENCES if re.search(pattern, name)), [])
    return Technique(
        kinds=kinds or frozenset(named),
        by_name=not kinds,
        words=frozenset(words),
        dimensions=str(ds.get("MRAcquisitionType", "")),
        repetition_ms=optional(timing.get("RepetitionTime")),
        echo_ms=optional(first_item(shared, "MREchoSequence").get("EffectiveEchoTime")),
        flip=optional(timing.get("FlipAngle")),
        fat_suppressed="FAT" in suppression if suppression else None,
        said=said(frame.header),
    )


def said(header: Header) -> frozenset[str]:
    return word_set(f"{header.text('SeriesDescription')} {header.text('ProtocolName')}")


def side_of(
    header: Header, whole: pydicom.Dataset | None, frames: Sequence[Frame], words: frozenset[str]
) -> tuple[str, str, str]:
    """Which breast a series shows, what says so, and a sentence where an attribute contradicts.

    Laterality, unless the images are too wide for one breast; else where the images lie, else the description.
    """
    shared = pydicom.Dataset() if whole is None else first_item(whole, "SharedFunctionalGroupsSequence")
    frame_side = str(first_item(shared, "FrameAnatomySequence").get("FrameLaterality", ""))
    x = reach(frames)
    wide = float(min(x.max(), -x.min()))
    for keyword, value in (
        ("Laterality", header.text("Laterality")), ("ImageLaterality", header.text("ImageLaterality")),
        ("FrameLaterality", frame_side),
    ):  # fmt: skip
        if value in ("L", "R") and wide >= TOO_WIDE_MM:
            doubt = f"{keyword} says {SIDES[value]}, but the images reach {wide:.0f} mm to both sides: both breasts are read."
            return "B", f"where the images lie ({keyword} says {SIDES[value]})", doubt
        if value in ("L", "R", "B"):
            return value, keyword, ""
    left, right = x.max() > FAR_MM, x.min() < -FAR_MM
    if left or right:
        return ("B" if left and right else "L" if left else "R"), "where the images lie", ""
    for side, names in (("L", {"LEFT", "LT", "LI"}), ("R", {"RIGHT", "RT", "RE"})):
        if words & names:
            return side, "its description", ""
    return "", "nothing", ""


def reach(frames: Sequence[Frame]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """x in LPS mm of the corners of all frames; they share the first one's orientation and size or are no volume anyway."""
    first = frames[0]
    rows, columns = first.shape
    down = first.along_column[0] * first.pixel_spacing[0] * (rows - 1)
    across = first.along_row[0] * first.pixel_spacing[1] * (columns - 1)
    starts = np.array([f.position[0] for f in frames])
    return np.concatenate([starts, starts + down, starts + across, starts + down + across])
