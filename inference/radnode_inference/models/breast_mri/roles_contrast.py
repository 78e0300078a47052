"""Which phases were acquired after contrast, by the agent's name, by the time of the injection, or by neither."""

from collections.abc import Sequence

from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.roles_facts import DAY_S
from radnode_inference.models.breast_mri.roles_points import APART_S, TimePoint, middle_s

LONGEST_EARLY_S = 300.0
"""The agent is typed at most so long before it is given: what is further apart contradicts."""


def agent_tells(ordered: Sequence[TimePoint]) -> bool:
    """Whether the agent is named in some phases and not in others."""
    return {True, False} <= {p.contrast for p in ordered}


def injected(ordered: Sequence[TimePoint], middle_s: float) -> float | None:
    """When contrast was given, on the clock of the phases (middle_s: one in the middle). Raises DeclinedError `timing` where the images disagree."""
    said = [p.injected_s for p in ordered if p.injected_s is not None]
    if not said:
        return None
    if max(said) - min(said) >= APART_S:
        raise DeclinedError("timing", "ContrastBolusStartTime differs between the phases")
    if said[0] >= DAY_S:
        return said[0]
    day = middle_s // DAY_S * DAY_S
    return min((day + said[0] + d for d in (-DAY_S, 0.0, DAY_S)), key=lambda t: abs(t - middle_s))


def split(ordered: Sequence[TimePoint], injection: float | None) -> tuple[tuple[TimePoint, ...], tuple[str, ...]]:
    """The phases before contrast, and what had to be assumed. Raises DeclinedError `timing` for contradictions."""
    plain = [i for i, p in enumerate(ordered) if p.contrast is False]
    given = [i for i, p in enumerate(ordered) if p.contrast]
    if plain and given:
        if max(plain) > min(given):
            raise DeclinedError("timing", "ContrastBolusAgent is named in a phase before one without it")
        if injection is not None:
            return split_by_both(ordered, max(plain), injection)
        several = max(plain) > 0  # a name that was typed late would make an enhanced phase one of them
        said = (
            f"The first {max(plain) + 1} phases are taken for those before contrast, because ContrastBolusAgent is named in"
            " the later ones only; when it was given is not stated.",
        )
        return tuple(ordered[: max(plain) + 1]), said if several else ()
    if injection is not None:
        return tuple(p for p in ordered if middle_s(p) < injection), ()
    return tuple(ordered[:1]), (
        "The headers do not state which phases were acquired after contrast (ContrastBolusAgent);"
        " the first in time is taken for the one before it.",
    )


def split_by_both(
    ordered: Sequence[TimePoint], last_plain: int, injection: float
) -> tuple[tuple[TimePoint, ...], tuple[str, ...]]:
    """As `split`, where the agent's name and the time of the injection are there: the time decides, the name must not be
    missing in a phase after it."""
    first = ordered[last_plain + 1]
    if not ordered[last_plain].begins_s - APART_S <= injection <= first.begins_s + LONGEST_EARLY_S:
        raise DeclinedError(
            "timing", "ContrastBolusStartTime does not lie between the phases without and with ContrastBolusAgent"
        )
    before = tuple(p for p in ordered if middle_s(p) < injection)
    early = len(before) - last_plain - 1
    if early <= 0:
        return tuple(ordered[: last_plain + 1]), ()
    said = f"ContrastBolusAgent is named in {early} phase(s) before ContrastBolusStartTime; the time is taken as true."
    return before, (said,)
