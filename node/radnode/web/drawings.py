"""Numbers of a report as drawings: what each modality contributed, and a lesion's enhancement from early to late."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode.tables import ReportRow

SHARE = "SHAPLEY-"
"""Codes of radnode's own scheme that start so are contributions, in percentage points."""
EARLY, RATIO = "PE-EARLY", "SER"
RATIO_LIMIT = 3.0
"""The signal enhancement ratio is capped here: then nothing is known of the late phase."""
WIDTH, HEIGHT = 220, 90


@dataclass(frozen=True, kw_only=True)
class Share:
    """One bar, from the middle line to the right (raises the probability) or the left. points: percentage points."""

    name: str
    points: float
    x: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One finding or statement. curve: (x, y) before contrast, early and late, the y axis down; () where there is none."""

    model: str
    title: str
    shares: tuple[Share, ...]
    curve: tuple[tuple[float, float], ...]
    percents: tuple[float, ...]


def of_study(session: Session, study_uid: str) -> tuple[Drawing, ...]:
    """Everything that can be drawn of the reports that stand."""
    query = select(ReportRow.model, ReportRow.bundle).where(
        ReportRow.study_uid == study_uid, ReportRow.status.not_in(("entered-in-error", "cancelled"))
    )
    made = (drawing(m, o) for m, b in session.execute(query.order_by(ReportRow.id)) for o in observations(b))
    return tuple(d for d in made if d.shares or d.curve)


def observations(bundle: Any) -> list[Mapping[str, Any]]:
    resources = (e.get("resource", {}) for e in bundle.get("entry", ()))
    return [r for r in resources if r.get("resourceType") == "Observation"]


def drawing(model: str, observation: Mapping[str, Any]) -> Drawing:
    found: dict[str, tuple[str, float]] = {}
    for part in observation.get("component", ()):
        coding = (part.get("code", {}).get("coding") or [{}])[0]
        value = part.get("valueQuantity", {}).get("value")
        if value is not None:
            found[str(coding.get("code", ""))] = (str(coding.get("display", "")), float(value))
    codings = observation.get("valueCodeableConcept", observation.get("code", {})).get("coding") or [{}]
    percents = enhancement(found)
    return Drawing(
        model=model,
        title=str(codings[0].get("display", "")),
        shares=shares({code.removeprefix(SHARE): v for code, (_, v) in found.items() if code.startswith(SHARE)}),
        curve=points(percents),
        percents=percents,
    )


def enhancement(found: Mapping[str, tuple[str, float]]) -> tuple[float, ...]:
    """Per cent of the signal before contrast: 0, early, late; () where the report does not say so."""
    if EARLY not in found or RATIO not in found or not 0 < found[RATIO][1] < RATIO_LIMIT:
        return ()
    early = found[EARLY][1]
    return (0.0, early, early / found[RATIO][1])


def points(percents: Sequence[float]) -> tuple[tuple[float, float], ...]:
    if not percents:
        return ()
    low, high = min(percents), max(*percents, 1.0)
    return tuple(
        (round(i * WIDTH / 2, 1), round(HEIGHT * (high - p) / max(high - low, 1e-9), 1)) for i, p in enumerate(percents)
    )


def shares(found: Mapping[str, float]) -> tuple[Share, ...]:
    most = max((abs(v) for v in found.values()), default=0.0) or 1.0
    middle = WIDTH / 2
    return tuple(
        Share(
            name=name,
            points=value,
            x=round(middle if value >= 0 else middle + middle * value / most, 1),
            width=round(middle * abs(value) / most, 1),
        )
        for name, value in found.items()
    )
