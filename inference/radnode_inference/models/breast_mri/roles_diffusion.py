"""Which diffusion images stand for each b value: one series, averaged over the directions."""

from collections.abc import Sequence
from dataclasses import dataclass

from radnode_inference.frames import Frame
from radnode_inference.match import name
from radnode_inference.models.breast_mri.roles_images import ImageSet, whole
from radnode_inference.models.breast_mri.roles_series import Seen
from radnode_inference.models.breast_mri.roles_words import TRACE


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighted:
    """images: b value in s/mm2 -> images, ascending. unused: why b values that are there, or all, are not among them."""

    images: dict[float, ImageSet]
    unused: str


def diffusion(candidates: Sequence[Seen], reasons: dict[str, str]) -> Weighted:
    """The images of each b value, from one series each; why a series is left out is added to its reason.

    A value that several series show is taken from where no place repeats, then from the trace-weighted one, then from
    the series with most b values and most slices. One whose places repeat in every series (directions not averaged) is
    left out.
    """
    shown = [(one, b_values(one)) for one in candidates]
    shown.sort(key=lambda pair: rank(*pair))
    images: dict[float, ImageSet] = {}
    for b in sorted({b for _, values in shown for b in values}):
        of = ((one.series.series_uid, values.get(b, ())) for one, values in shown)
        chosen = next(((uid, frames) for uid, frames in of if frames and whole(frames)), None)
        if chosen:
            images[b] = ImageSet(series_uid=chosen[0], frames=chosen[1])
    used = {found.series_uid for found in images.values()}
    taken = " and ".join(dict.fromkeys(name(one.series) for one, _ in shown if one.series.series_uid in used))
    for one, values in shown:
        if (uid := one.series.series_uid) not in used:
            reasons[uid] += f"; not used, {left_out(values, taken)}"
    return Weighted(images=images, unused=unused([values for _, values in shown], images))


def b_values(one: Seen) -> dict[float, tuple[Frame, ...]]:
    """b value -> its frames."""
    found: dict[float, tuple[Frame, ...]] = {}
    for frame, facts in zip(one.frames, one.facts, strict=True):
        if facts.b_value is not None:
            found[facts.b_value] = (*found.get(facts.b_value, ()), frame)
    return found


def rank(one: Seen, values: dict[float, tuple[Frame, ...]]) -> tuple[object, ...]:
    """Smaller is better. Only the images of each b value by themselves say whether they can be used."""
    trace = TRACE in one.technique.words or TRACE in one.technique.said
    return not trace, -len(values), -len(one.frames), one.series.headers[0].number("SeriesNumber") or 0.0


def left_out(values: dict[float, tuple[Frame, ...]], taken: str) -> str:
    """Why a diffusion series is not used at all. taken: the series that are."""
    if not values:
        return "its b values are not known"
    if not all(whole(frames) for frames in values.values()):
        return "its places repeat (directions not averaged)"
    return f"the same b values are taken from {taken}"


def unused(shown: Sequence[dict[float, tuple[Frame, ...]]], images: dict[float, ImageSet]) -> str:
    """In words, why diffusion images that are there have no b value among `images`; "" where all have."""
    repeated = sorted({b for values in shown for b in values} - set(images))
    if repeated:
        listed = " and ".join(f"{b:g}" for b in repeated)
        return f"places repeat at b {listed} s/mm2, directions not averaged"
    return "no b value is stated" if shown and not images else ""
