"""What one MR series says of itself: its technique, its side, and the facts of its frames."""

import re
from dataclasses import dataclass

import numpy as np
import pydicom

from radnode_inference.frames import Frame, frames_of
from radnode_inference.header import Header
from radnode_inference.models.breast_mri.roles_facts import (
    Facts,
    classic_facts,
    first_item,
    nested_facts,
    optional,
    private,
)
from radnode_inference.study import Series

GE_SEQUENCE = 0x00199C
SEQUENCES = (
    ("EP", r"EP[_I]|EPI\b|EP2D|SSH"),
    ("SE", r"TSE|FSE|TIR|HASTE|SPACE|FRFSE|(?<!G)(?<!GR)SE2D"),
    ("GR", r"FL[23]D|FFE|FGRE|SPGR|VIBRANT|LAVA|DISCO|THRIVE|VIBE|FLASH|TWIST"),
)
"""Sequence names of the makers as regular expressions, with the ScanningSequence that they stand for."""
FAR_MM = 40.0
"""Images that reach this far beyond the middle of the patient on both sides show both breasts."""
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
    """One series taken apart. facts: one for each frame. side: L, R, B or "", and what says so."""

    series: Series
    technique: Technique
    frames: tuple[Frame, ...]
    facts: tuple[Facts, ...]
    side: str
    side_by: str


def see(series: Series) -> Seen:
    """A series taken apart. Raises DeclinedError where its images have no position."""
    frames = frames_of(series.headers)
    nested = {id(h): h.dataset() for h in series.headers if h.raw("PerFrameFunctionalGroupsSequence")}
    first = series.headers[0]
    whole = nested.get(id(first))
    technique = classic_technique(first) if whole is None else enhanced_technique(first, whole)
    facts = tuple(nested_facts(f, nested[id(f.header)]) if id(f.header) in nested else classic_facts(f) for f in frames)
    side, side_by = side_of(first, whole, frames, technique.said)
    return Seen(series=series, technique=technique, frames=frames, facts=facts, side=side, side_by=side_by)


def classic_technique(header: Header) -> Technique:
    options = {w.upper() for w in header.texts("ScanOptions")}
    kinds = frozenset(w.upper() for w in header.texts("ScanningSequence"))
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


def enhanced_technique(header: Header, ds: pydicom.Dataset) -> Technique:
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
        words=frozenset(str(w).upper() for w in (*ds.get("ImageType", ()), ds.get("AcquisitionContrast", ""))),
        dimensions=str(ds.get("MRAcquisitionType", "")),
        repetition_ms=optional(timing.get("RepetitionTime")),
        echo_ms=optional(first_item(shared, "MREchoSequence").get("EffectiveEchoTime")),
        flip=optional(timing.get("FlipAngle")),
        fat_suppressed="FAT" in suppression if suppression else None,
        said=said(header),
    )


def said(header: Header) -> frozenset[str]:
    return word_set(f"{header.text('SeriesDescription')} {header.text('ProtocolName')}")


def word_set(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[A-Z0-9]+", text.upper()))


def side_of(
    header: Header, whole: pydicom.Dataset | None, frames: tuple[Frame, ...], words: frozenset[str]
) -> tuple[str, str]:
    """Which breast a series shows, and what says so: Laterality, else where the images lie, else the description."""
    shared = pydicom.Dataset() if whole is None else first_item(whole, "SharedFunctionalGroupsSequence")
    frame_side = str(first_item(shared, "FrameAnatomySequence").get("FrameLaterality", ""))
    for keyword, value in (
        ("Laterality", header.text("Laterality")), ("ImageLaterality", header.text("ImageLaterality")),
        ("FrameLaterality", frame_side),
    ):  # fmt: skip
        if value in ("L", "R", "B"):
            return value, keyword
    x = reach(frames)
    left, right = x.max() > FAR_MM, x.min() < -FAR_MM
    if left or right:
        return ("B" if left and right else "L" if left else "R"), "where the images lie"
    for side, names in (("L", {"LEFT", "LT", "LI"}), ("R", {"RIGHT", "RT", "RE"})):
        if words & names:
            return side, "its description"
    return "", "nothing"


def reach(frames: tuple[Frame, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """x in LPS mm of the corners of all frames; they share the first one's orientation and size or are no volume anyway."""
    first = frames[0]
    rows, columns = first.shape
    down = first.along_column[0] * first.pixel_spacing[0] * (rows - 1)
    across = first.along_row[0] * first.pixel_spacing[1] * (columns - 1)
    starts = np.array([f.position[0] for f in frames])
    return np.concatenate([starts, starts + down, starts + across, starts + down + across])
