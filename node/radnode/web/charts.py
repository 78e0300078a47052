"""Numbers over time as the geometry of a plain SVG: lines, limits, marks. Pure; the templates draw it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

WIDTH, HEIGHT = 640, 150
LABELS = 6
"""Names on the x axis at most, so that they do not overlap."""
ROOM = 1.1
"""The highest value stands so much below the upper edge."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """kind: its class in the style sheet. points: of a polyline. marks: (x, y, "2026-11: 30 %")."""

    name: str
    kind: str
    points: str
    marks: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A place on an axis, or a limit across the chart."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """width and height of the drawing area. below: marks of the x axis. beside: of the y axis. limits: lines across."""

    width: int
    height: int
    lines: tuple[Line, ...]
    below: tuple[Mark, ...]
    beside: tuple[Mark, ...]
    limits: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True)
class Series:
    """Values by place; None where there is none."""

    name: str
    kind: str
    values: Sequence[float | None]


def by_month(months: Sequence[str], series: Sequence[Series], *, limit: float | None = None, unit: str = "") -> Chart:
    """A line for each series, one place for each month. unit: "%" shows shares as per cent."""
    step = WIDTH / max(1, len(months))
    places = [step * (i + 0.5) for i in range(len(months))]
    every = max(1, -(-len(months) // LABELS))
    below = tuple(Mark(at=round(x, 1), label=m) for x, m in list(zip(places, months, strict=True))[::every])
    return chart(places, months, series, below, limit, unit)


def over_time(at: Sequence[float], series: Sequence[Series], *, limit: float | None = None) -> Chart:
    """A line for each series over times in UTC epoch seconds."""
    first, last = (min(at), max(at)) if at else (0.0, 1.0)
    span = (last - first) or 1.0
    places = [WIDTH * (t - first) / span for t in at]
    ticks = [first + span * part for part in (0, 0.2, 0.4, 0.6, 0.8, 1)] if at else []
    below = tuple(Mark(at=round(WIDTH * (t - first) / span, 1), label=day(t)) for t in ticks)
    return chart(places, [day(t) for t in at], series, below, limit, "")


def day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def chart(
    places: Sequence[float],
    names: Sequence[str],
    series: Sequence[Series],
    below: tuple[Mark, ...],
    limit: float | None,
    unit: str,
) -> Chart:
    values = [v for s in series for v in s.values if v is not None]
    top = max([*values, limit or 0.0, 1e-9]) * ROOM
    return Chart(
        width=WIDTH,
        height=HEIGHT,
        lines=tuple(line(s, places, names, top, unit) for s in series),
        below=below,
        beside=tuple(Mark(at=height(v, top), label=said(v, unit)) for v in (0.0, top / ROOM / 2, top / ROOM)),
        limits=() if limit is None else (Mark(at=height(limit, top), label=said(limit, unit)),),
    )


def height(value: float, top: float) -> float:
    return round(HEIGHT * (1 - value / top), 1)


def said(value: float, unit: str) -> str:
    return f"{100 * value:.0f} %" if unit == "%" else f"{value:.2g}"


def line(series: Series, places: Sequence[float], names: Sequence[str], top: float, unit: str) -> Line:
    there = [
        (round(x, 1), height(v, top), f"{name}: {said(v, unit)}")
        for x, v, name in zip(places, series.values, names, strict=True)
        if v is not None
    ]
    return Line(
        name=series.name,
        kind=series.kind,
        points=" ".join(f"{x},{y}" for x, y, _ in there),
        marks=tuple(there) if len(there) <= 60 else (),
    )
