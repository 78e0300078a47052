"""The models: their versions in use, what people say of them, and what has changed. The charts are plain SVG."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path as Folder
from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from radnode import monitor, proxies, scores, verdicts, versus, weights_use
from radnode.database import Database
from radnode.monitor import DAY_S, Kind, Watched
from radnode.scores import KEPT_DAYS
from radnode.settings import Settings
from radnode.settings_monitoring import Monitoring
from radnode.verdicts import Agreement
from radnode.web.charts import Chart, Series, by_month, over_time
from radnode.web.i18n import mark
from radnode.web.views import Render
from radnode_inference.engines import record
from radnode_inference.model import ModelCard

MONTHS = 12
BAR, GAP, HEIGHT = 36, 18, 120
KINDS = {
    Kind.STABILITY: mark("The scores are spread otherwise than in the reference"),
    Kind.UP: mark("The scores have risen"),
    Kind.DOWN: mark("The scores have fallen"),
    Kind.RULINGS: mark("People reject or correct more"),
}
Name = Annotated[str, Path(max_length=64)]


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
class Bars:
    """The last MONTHS months of one model in which findings were ruled on."""

    model: str
    width: int
    height: int
    bars: tuple[Bar, ...]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A version on one scanner, with its charts; None where there is nothing to draw."""

    watched: Watched
    scores: Chart
    index: Chart | None
    sums: Chart | None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What people did on one scanner ("" for all together), as charts: None where there is nothing to draw."""

    scanner: str
    months: Sequence[proxies.Month]
    agreement: Chart | None
    proxies: Chart | None
    rulings: Chart | None


def bars(found: Sequence[Agreement]) -> tuple[Bars, ...]:
    """One for each model; every bar is as high as its findings are many."""
    counted = [a for a in found if a.accepted + a.edited + a.rejected]
    models = sorted({a.model for a in counted})
    return tuple(bars_of(model, [a for a in counted if a.model == model][-MONTHS:]) for model in models)


def bars_of(model: str, months: Sequence[Agreement]) -> Bars:
    most = max(a.accepted + a.edited + a.rejected for a in months)
    made = tuple(
        Bar(x=i * (BAR + GAP) + GAP, month=a.month, counts=a, parts=parts(a, most)) for i, a in enumerate(months)
    )
    return Bars(model=model, width=max(7, len(made)) * (BAR + GAP) + GAP, height=HEIGHT, bars=made)


def parts(counts: Agreement, most: int) -> tuple[Part, ...]:
    made, y = [], float(HEIGHT)
    for kind in ("accepted", "edited", "rejected"):
        height = HEIGHT * getattr(counts, kind) / most
        y -= height
        made.append(Part(kind=kind, y=round(y, 1), height=round(height, 1)))
    return tuple(made)


def drawn(watched: Watched, settings: Monitoring) -> Drawn:
    months = [m.month for m in watched.months]
    flagged = Series(
        name=mark("with a finding"), kind="first", values=[m.with_finding / m.studies for m in watched.months]
    )  # fmt: skip
    mean = Series(name=mark("mean score"), kind="second", values=[m.mean for m in watched.months])
    index = Series(name=mark("index"), kind="first", values=[m.index for m in watched.months])
    up = Series(name=mark("up"), kind="first", values=watched.sums.up)
    down = Series(name=mark("down"), kind="second", values=watched.sums.down)
    return Drawn(
        watched=watched,
        scores=by_month(months, (flagged, mean), unit="%"),
        index=by_month(months, (index,), limit=settings.psi_limit) if any(index.values) else None,
        sums=over_time(watched.steps, (up, down), limit=settings.cusum_limit) if watched.steps else None,
    )


def judged(
    scanner: str,
    agreed: Sequence[Agreement],
    months: Sequence[proxies.Month],
    sums: Sequence[tuple[float, float]],
    settings: Monitoring,
) -> Judged:
    """sums: (when, cumulative sum of rejections and corrections). Months without a ruling or a report leave gaps."""
    ruled = [a for a in agreed if a.accepted + a.edited + a.rejected]
    shares = (
        Series(name=mark("made by the model, of what people stand by"), kind="first", values=[m.found for m in months]),
        Series(name=mark("without a finding, made urgent"), kind="second", values=[m.of_reports(m.raised) for m in months]),
        Series(name=mark("retracted or amended"), kind="third", values=[m.of_reports(m.retracted + m.amended) for m in months]),
    )  # fmt: skip
    accepted = Series(name=mark("accepted, of those ruled on"), kind="third", values=[a.share for a in ruled])
    disputed = Series(name=mark("rejected or corrected"), kind="first", values=[value for _, value in sums])
    return Judged(
        scanner=scanner,
        months=months,
        agreement=by_month([a.month for a in ruled], (accepted,), unit="%") if ruled else None,
        proxies=by_month([m.month for m in months], shares, unit="%") if months else None,
        rulings=over_time([at for at, _ in sums], (disputed,), limit=settings.ruling_limit) if sums else None,
    )


def every_judged(session: Session, model: str, agreed: Sequence[Agreement], settings: Monitoring) -> tuple[Judged, ...]:
    """All together first, then each scanner where there is more than one. agreed: by scanner."""
    lines, _ = monitor.rulings(scores.ruled(session, model), settings)
    together = [a for a in verdicts.agreement(session) if a.model == model]
    parts = proxies.of_model(session, model, by_scanner=True)
    names = sorted({m.scanner for m in parts})
    every = judged("", together, proxies.of_model(session, model), lines.get((model, ""), ()), settings)
    return every, *(
        judged(
            name,
            [a for a in agreed if a.scanner == name],
            [m for m in parts if m.scanner == name],
            lines.get((model, name), ()),
            settings,
        )
        for name in (names if len(names) > 1 else ())
    )


def values_of(session: Session, settings: Settings, model: str, now: float) -> dict[str, Any]:
    """Everything of one model that the page shows beside its card."""
    found = scores.scores(session, model, since=now - KEPT_DAYS * DAY_S)
    watching = [drawn(w, settings.monitoring) for w in monitor.watch(found, settings.monitoring, now)]
    agreed = [a for a in verdicts.agreement(session, scanners=scores.scanners(session)) if a.model == model]
    together, *apart = every_judged(session, model, agreed, settings.monitoring)
    return {
        "alarms": scores.known(session, model),
        "together": [d for d in watching if not d.watched.scanner],
        "by_scanner": [d for d in watching if d.watched.scanner],
        "bars": bars([a for a in verdicts.agreement(session) if a.model == model]),
        "agreed": agreed,
        "judged": together,
        "judged_apart": apart,
        "versus": versus.of_model(session, model),
    }


def engines_of(card: ModelCard | None, weights: Folder) -> dict[str, Any]:
    """How the card's network is computed on this machine's processor, and every comparison on record for it."""
    if card is None or not card.takes_weights:
        return {}
    return {
        "engine": record.choose(weights, card.engines_key, record.cpu()),
        "agreements": record.read(record.place(weights, card.engines_key)) if card.engines_key else (),
    }


def model_pages(made: APIRouter, render: Render, settings: Settings, database: Database) -> None:
    @made.get("/models")
    def models() -> HTMLResponse:
        with database.reading() as session:
            uses = sorted(weights_use.uses(weights_use.history(session)).items())
            apart, together = (
                verdicts.agreement(session, scanners=scores.scanners(session)),
                verdicts.agreement(session),
            )
            alarms = scores.known(session, open_only=True)
        return render(
            "models.html", "Models", "models", kinds=KINDS, alarms=alarms, cards=weights_use.live_cards(database, settings),
            uses=uses, charts=bars(together), agreed=apart,
        )  # fmt: skip

    @made.get("/models/{name}")
    def model(name: Name) -> HTMLResponse:
        cards = [c for c in weights_use.live_cards(database, settings) if c.identity.name == name]
        with database.reading() as session:
            known = cards or name in scores.models(session)
            values = values_of(session, settings, name, time.time()) if known else {}
            uses = weights_use.history(session, name)
        if not known:
            return render("missing.html", "Not here", "models", 404, what=mark("The node knows no such model."))
        return render(
            "model.html", name, "models", model_name=name, card=cards[0] if cards else None, uses=uses, kinds=KINDS,
            watching=settings.monitoring, **engines_of(cards[0] if cards else None, settings.weights_folder), **values,
        )  # fmt: skip
