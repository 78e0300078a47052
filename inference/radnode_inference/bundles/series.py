"""Which series a bundle reads: of its modality, a stack of slices; never a guess between several that may differ in kind."""

from collections.abc import Sequence
from functools import partial

from radnode_inference.match import (
    FEWEST_SLICES,
    LOCALIZER_WORDS,
    PROJECTION_WORDS,
    Match,
    choose,
    describe_ct,
    image_words,
    name,
    rank_ct,
    refuse_ct,
    slice_count,
)
from radnode_inference.model import DeclinedError
from radnode_inference.study import Series, Study


def best(study: Study, modality: str, word: str, region: Sequence[str] = (), contrast: str | None = None) -> Match:
    """The series for a bundle. word: has to stand in the description, "" for any. region, contrast: of its gates, for CT.

    Raises DeclinedError `no-suitable-series`, or `ambiguous-series` when several MR or PET series suit, or CT series of several body parts
    and no region says which: which of them the bundle was trained on cannot be told from its card.
    """

    def refuse(series: Series) -> str | None:
        if word and word.upper() not in series.description.upper():
            return f"its description has no {word!r}"
        return refuse_ct(series, contrast) if modality == "CT" else refuse_stack(series, modality)

    found = choose(study, refuse, partial(rank_ct, region=region), describe_ct if modality == "CT" else describe)
    parts = {s.headers[0].text("BodyPartExamined").upper() for s in found.candidates} - {""}
    apart = len(parts) > 1 and not (word or region) if modality == "CT" else len(found.candidates) > 1
    if apart:
        named = ", ".join(name(s) for s in found.candidates)
        what = "a word, or a region among its gates" if modality == "CT" else "a word"
        raise DeclinedError(
            "ambiguous-series", f"{len(found.candidates)} series could be meant ({named}); give the bundle {what}"
        )
    return found


def refuse_stack(series: Series, modality: str) -> str | None:
    """Why a series is not a stack of images of the modality, or None."""
    words = image_words(series.headers[0])
    if series.modality != modality:
        return f"not {modality} ({series.modality or 'no modality'})"
    if words & (LOCALIZER_WORDS | PROJECTION_WORDS):
        return "a localizer or a projection"
    if slice_count(series) < FEWEST_SLICES:
        return f"only {slice_count(series)} slices"
    return None


def describe(series: Series) -> str:
    return f"{name(series)}: {slice_count(series)} slices"
