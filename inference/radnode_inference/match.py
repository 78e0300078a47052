"""Which series of a study plays a model's input role, and why each of the others does not."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from radnode_inference.header import Header, nested_texts
from radnode_inference.model import DeclinedError
from radnode_inference.study import Series, Study

CT_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image",
}
LOCALIZER_WORDS = frozenset(("LOCALIZER", "SCOUT", "TOPOGRAM"))
PROJECTION_WORDS = frozenset(("MIP", "MINIP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "VRT", "3D", "SCREEN SAVE"))
SAID_PROJECTION = re.compile(r"(?<![A-Z])(MIPS?|MINIP|MAXIP|VRT)(?![A-Z])")
"""What workstations call slabs and renderings of which Image Type says nothing."""
NO_SLICES = frozenset(("LOCALIZER", "SCOUT", "TOPOGRAM", "SCREEN SAVE", "DOSE_INFO", "DOSE INFO"))
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
REFORMAT_WORDS = frozenset(("MPR", "REFORMATTED", "RESAMPLED", "CSA RESAMPLED", "AVERAGE"))
CHEST = r"CHEST|THORAX|LUNG|LUNGE|POUMON|TORAX"
OTHER_PARTS = r"HEAD|SKULL|BRAIN|NECK|ABDOMEN|PELVIS|SPINE|KNEE|LEG|ARM\b"
FEWEST_SLICES = 10
THICKEST_MM = 10.0
PARTIAL_MM = 150.0
"""A series that covers less than this does not show the lungs whole, whatever else speaks for it."""
GIVEN = "given"
NO_AGENT = frozenset(("", "NO", "NONE", "NATIVE", "UNENHANCED"))


@dataclass(frozen=True, kw_only=True)
class Refusal:
    series: Series
    reason: str


@dataclass(frozen=True, kw_only=True)
class Match:
    """The series for a role: the best first in `candidates`; `reason` says why it is the best; `refused` the others."""

    candidates: tuple[Series, ...]
    reason: str
    refused: tuple[Refusal, ...]

    @property
    def series(self) -> Series:
        return self.candidates[0]


def choose(
    study: Study,
    refuse: Callable[[Series], str | None],
    rank: Callable[[Series], tuple[Any, ...]],
    describe: Callable[[Series], str],
) -> Match:
    """The series that `refuse` has nothing against, smallest `rank` first.

    Raises DeclinedError `no-suitable-series`, naming each series with its refusal.
    """
    refused = tuple(Refusal(series=s, reason=r) for s in study.series if (r := refuse(s)) is not None)
    unsuitable = {r.series.series_uid for r in refused}
    candidates = sorted((s for s in study.series if s.series_uid not in unsuitable), key=rank)
    if not candidates:
        named = "; ".join(f"{name(r.series)}: {r.reason}" for r in refused)
        raise DeclinedError("no-suitable-series", f"no series suits the model ({named})")
    return Match(candidates=tuple(candidates), reason=describe(candidates[0]), refused=refused)


def name(series: Series) -> str:
    """A series in a few words for people: its number and description."""
    number = series.headers[0].text("SeriesNumber")
    return f"series {number or series.series_uid} {series.description!r}".replace(" ''", "")


def best_ct(study: Study, region: Sequence[str] = (), contrast: str | None = None) -> Match:
    """The CT series that shows the chest best: original before reformatted, longest coverage, soft kernel, thin slices.

    region: words for the parts that are wanted in place of the chest, as a card's gate has them. contrast: "given" or "none", as
    a card's gate has it: only such series. Pictures of the screen and localizers that stand in a series of slices are left out
    of it.
    """
    slices = replace(study, series=tuple(map(slices_of, study.series)))
    counts = {s.series_uid: len(s.headers) for s in study.series}

    def describe(series: Series) -> str:
        left = counts[series.series_uid] - len(series.headers)
        return describe_ct(series) + (f"; {left} pictures or localizers in it were left out" if left else "")

    return choose(slices, partial(refuse_ct, contrast=contrast), partial(rank_ct, region=region), describe)


def slices_of(series: Series) -> Series:
    """The series without what its Image Type or class calls no slice; whole where nothing else is in it."""
    kept = tuple(h for h in series.headers if not is_no_slice(h))
    return replace(series, headers=kept) if kept and len(kept) < len(series.headers) else series


def is_no_slice(header: Header) -> bool:
    return bool(image_words(header) & NO_SLICES) or header.text("SOPClassUID").startswith(SECONDARY_CAPTURE)


def refuse_ct(series: Series, contrast: str | None = None) -> str | None:
    """Why a series is not a stack of CT slices with Hounsfield units, or not one with or without contrast; or None."""
    header = series.headers[0]
    kind = header.text("SOPClassUID")
    words = image_words(header)
    if kind not in CT_CLASSES:
        return f"not CT images ({series.modality or 'no modality'})"
    if words & LOCALIZER_WORDS:
        return "a localizer"
    if words & PROJECTION_WORDS:
        return "a projection or a screenshot, not slices"
    if SAID_PROJECTION.search(series.description.upper()):
        return "a projection by its description, not slices"
    if series.description.upper().startswith("AI "):
        return "made by an AI"
    units = " ".join(header.stated("RescaleType")).upper()
    if units not in ("", "HU", "HU_MOD", "US"):
        return f"its values are {units}, not Hounsfield units"
    thickness = thickness_of(header)
    if thickness is not None and thickness > THICKEST_MM:
        return f"slices of {thickness:g} mm are too thick"
    count = slice_count(series)
    if count < FEWEST_SLICES:
        return f"only {count} slices"
    if contrast is not None and bool(contrast_of(header)) != (contrast == GIVEN):
        return (
            "no contrast agent is stated"
            if contrast == GIVEN
            else f"made with the contrast agent {contrast_of(header)}"
        )
    return None


def rank_ct(series: Series, region: Sequence[str] = ()) -> tuple[Any, ...]:
    """Smaller is better. region: as for `best_ct`."""
    header = series.headers[0]
    words = image_words(header)
    return (
        "DERIVED" in words and bool(words & REFORMAT_WORDS),
        body_part_rank(header, region),
        extent_mm(series) < PARTIAL_MM,
        says_expiration(header),
        -round(extent_mm(series) / 50),
        not is_axial(header),
        is_sharp(kernel_of(header)) is not False,
        thickness_of(header) or 99.0,
        series.series_uid,
    )


def describe_ct(series: Series) -> str:
    header = series.headers[0]
    kernel = kernel_of(header) or "unknown"
    thickness = thickness_of(header)
    slices = f"{slice_count(series)} slices" + (f" of {thickness:g} mm" if thickness else "")
    return f"{name(series)}: {slices} over {extent_mm(series):.0f} mm, kernel {kernel}"


def kernel_of(header: Header) -> str:
    """The values of Convolution Kernel, the name first, with backslashes between them; "" where it is not stated."""
    return "\\".join(header.stated("ConvolutionKernel"))


def thickness_of(header: Header) -> float | None:
    """Slice Thickness in mm."""
    try:
        return float(next(iter(header.stated("SliceThickness")), ""))
    except ValueError:
        return None


def contrast_of(header: Header) -> str:
    """The contrast agent that was given; "" where none was, or none is stated (PS3.3 C.7.6.4, C.7.6.4b)."""
    agent = " ".join(header.stated("ContrastBolusAgent")) or ", ".join(
        a for g in header.groups[-1:] if "ContrastBolusAgentNumber" in g for a in nested_texts(g, "CodeMeaning")
    )
    given = header.stated("ContrastBolusAgentAdministered")
    return "" if agent.upper() in NO_AGENT or given == ("NO",) else agent


def says_expiration(header: Header) -> bool:
    """Whether the series is named an expiration, and no inspiration."""
    text = header.text("SeriesDescription").upper()
    named = re.search(r"(?<![A-Z])EXS?P(?![A-Z])|EXS?PIR", text)
    return bool(named) and not re.search(r"(?<![A-Z])INSP(?![A-Z])|INSPIR", text)


def image_words(header: Header) -> frozenset[str]:
    return frozenset(w.upper() for w in header.texts("ImageType"))


def slice_count(series: Series) -> int:
    return sum(int(h.number("NumberOfFrames") or 1) for h in series.headers)


def extent_mm(series: Series) -> float:
    """How far apart the outermost single-frame slices lie; for multi-frame images frames × slice distance."""
    places = np.array([p for h in series.headers if len(p := h.numbers("ImagePositionPatient")) == 3])
    if len(places) > 1:
        return float(np.linalg.norm(places.max(axis=0) - places.min(axis=0)))
    header = series.headers[0]
    step = header.number("SpacingBetweenSlices") or header.number("SliceThickness") or 1.0
    return slice_count(series) * step


def is_axial(header: Header) -> bool:
    orientation = header.numbers("ImageOrientationPatient")
    if len(orientation) != 6:
        return True
    return bool(abs(np.cross(orientation[:3], orientation[3:])[2]) > 0.9)


def body_part_rank(header: Header, region: Sequence[str] = ()) -> int:
    """0 the chest, or what `region` names; 1 unsaid; 2 something else. By what stands in every series anew, not by the study's description."""
    words = f"{header.text('BodyPartExamined')} {header.text('SeriesDescription')}".upper()
    if re.search("|".join(re.escape(w.upper()) for w in region) or CHEST, words):
        return 0
    return 2 if re.search(f"{CHEST}|{OTHER_PARTS}", words) else 1


def is_sharp(kernel: str) -> bool | None:
    """Whether a reconstruction kernel enhances edges (and noise); None when its name is not known.

    Names as the makers use them: Siemens B31f, Br40d, I70f (number = sharpness, 50 and above sharp); GE STANDARD, SOFT
    against LUNG, BONE, EDGE; Philips A, B against C, D, L, YC; Canon FC01-FC19 against FC30 and above.
    """
    word = kernel.upper().split("\\")[0].strip()
    if found := re.fullmatch(r"(?:B|H|I|BR|BF|BL|BV|HR|HF|QR|SA|SB|SP|T|U)(\d{2})[A-Z]*(?:\\.*|\s.*)?", word):
        return int(found[1]) >= 50
    if found := re.fullmatch(r"FC(\d{2}).*", word):
        return int(found[1]) >= 30
    if re.match(r"STANDARD|SOFT|SMOOTH|DETAIL|A$|B$|EA$|EB$", word):
        return word.startswith("DETAIL")
    if re.match(r"LUNG|BONE|EDGE|CHST|SHARP|ULTRA|HIGH|C$|D$|E$|EC$|L$|Y[A-D]$", word):
        return True
    return None
