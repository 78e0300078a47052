"""What the card of weights says besides its intended use, for people who look: figures, limitations, gates. No torch here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GATES = {
    "modality": "modality", "region": "region", "slice_mm": "slices (mm)", "pixel_mm": "pixels (mm)",
    "coverage_mm": "coverage (mm) at least", "kernel": "kernel", "contrast": "contrast agent", "age_years": "age (years)", "sex": "sex",
}  # fmt: skip
GROUPS = "by_modalities"
"""The metrics of MOME's cards stand under it, a group for each choice of modalities."""
SHORT = 1000
"""Characters of limitations that a result carries at most; a model's page has them all."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One metric. of: the group of figures it belongs to, "" for none. low, high: its 95 % interval, n: of how many cases."""

    of: str
    name: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @property
    def told(self) -> str:
        between = "" if self.low is None or self.high is None else f"{self.low:.2f} to {self.high:.2f}"
        said = ", ".join(filter(None, (between, f"n {self.n}" if self.n else "")))
        return f"{self.value:.2f}" + (f" ({said})" if said else "")


@dataclass(frozen=True, kw_only=True)
class About:
    """gates, calibration and cohorts: in words. cohorts: on what the figures were taken, as the card says it."""

    training_data: str = ""
    licence: str = ""
    limitations: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    calibration: str = ""
    cohorts: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()


NOTHING = About()


def about(card: Mapping[str, Any]) -> About:
    """A card, whole or in part. What is not in the form of docs/adding-a-model.md is told as it is written."""
    metrics, calibration = card.get("metrics") or {}, card.get("calibration") or {}
    found = tuple(parts(metrics, "")) if isinstance(metrics, Mapping) else (("", str(metrics)),)
    return About(
        training_data=str(card.get("training_data", "")),
        licence=str(card.get("licence", "")),
        limitations=limitations(card),
        gates=tuple(f"{GATES.get(k, k)}: {bounds(v)}" for k, v in (card.get("gates") or {}).items()),
        calibration=f"temperature {calibration['temperature']:g}, chosen on {calibration.get('reference', '?')}" if calibration.get("temperature") else "",
        cohorts=tuple(": ".join(filter(None, p)) for p in found if not isinstance(p, Figure)),
        figures=tuple(p for p in found if isinstance(p, Figure)),
    )  # fmt: skip


def parts(metrics: Mapping[str, Any], of: str) -> Iterator[Figure | tuple[str, str]]:
    """The figures of a card and, as (name, words), what it says of them."""
    for key, value in metrics.items():
        name = str(key).replace("_", " ")
        if isinstance(value, Mapping) and "value" in value:
            yield Figure(of=of, name=name, **{k: value[k] for k in ("value", "low", "high", "n") if k in value})
        elif isinstance(value, Mapping):
            yield from parts(value, "" if key == GROUPS else str(key))
        elif isinstance(value, int | float):
            yield Figure(of=of, name=name, value=float(value))
        else:
            yield name, str(value)


def bounds(value: Any) -> str:
    """ "0.5 to 5", "CHEST or LUNG", "150"."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        numbers = all(isinstance(v, int | float) for v in value)
        return (" to " if numbers else " or ").join(f"{v:g}" if numbers else str(v) for v in value)
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def limitations(card: Mapping[str, Any]) -> tuple[str, ...]:
    given = card.get("limitations") or ()
    return (given,) if isinstance(given, str) else tuple(str(sentence) for sentence in given)


def in_short(sentences: Sequence[str], model: str) -> tuple[str, ...]:
    """The limitations as one statement of a result; those that would make it too long are counted."""
    kept: list[str] = []
    for sentence in sentences:
        if kept and sum(map(len, kept)) + len(sentence) > SHORT:
            break
        kept.append(sentence)
    more = len(sentences) - len(kept)
    rest = f" And {more} more: radnode models {model}." if more else ""
    return (f"Limitations by the card of the weights: {' '.join(kept)}{rest}",) if kept else ()
