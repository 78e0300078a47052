"""The models: their versions in use, and how often people agreed with them. The charts are plain SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from radnode import verdicts, weights_use
from radnode.database import Database
from radnode.settings import Settings
from radnode.verdicts import Agreement
from radnode.web.views import Render

MONTHS = 12
BAR, GAP, HEIGHT = 36, 18, 120


@dataclass(frozen=True, kw_only=True)
class Part:
    """A coloured part of a bar, in units of the chart."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One month, its parts from the bottom up."""

    x: int
    month: str
    counts: Agreement
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """The last MONTHS months of one model in which findings were ruled on."""

    model: str
    width: int
    height: int
    bars: tuple[Bar, ...]


def charts(found: Sequence[Agreement]) -> tuple[Chart, ...]:
    """One for each model; every bar is as high as its findings are many."""
    models = sorted({a.model for a in found})
    return tuple(chart(model, [a for a in found if a.model == model][-MONTHS:]) for model in models)


def chart(model: str, months: Sequence[Agreement]) -> Chart:
    most = max(a.accepted + a.edited + a.rejected for a in months)
    bars = tuple(
        Bar(x=i * (BAR + GAP) + GAP, month=a.month, counts=a, parts=parts(a, most)) for i, a in enumerate(months)
    )
    return Chart(model=model, width=max(7, len(bars)) * (BAR + GAP) + GAP, height=HEIGHT, bars=bars)


def parts(counts: Agreement, most: int) -> tuple[Part, ...]:
    made, y = [], float(HEIGHT)
    for kind in ("accepted", "edited", "rejected"):
        height = HEIGHT * getattr(counts, kind) / most
        y -= height
        made.append(Part(kind=kind, y=round(y, 1), height=round(height, 1)))
    return tuple(made)


def model_pages(made: APIRouter, render: Render, settings: Settings, database: Database) -> None:
    @made.get("/models")
    def models() -> HTMLResponse:
        with database.reading() as session:
            uses = sorted(weights_use.uses(weights_use.history(session)).items())
            by_sender, all_senders = verdicts.agreement(session, by_sender=True), verdicts.agreement(session)
        return render(
            "models.html", "Models", "models",
            cards=weights_use.live_cards(database, settings), uses=uses, charts=charts(all_senders), by_sender=by_sender,
        )  # fmt: skip
