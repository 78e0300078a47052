"""A comparison as a page of its own: the table, and how the waits are spread."""

from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader

from radnode.simulation.compare import Comparison, Row

WIDTH, HEIGHT, BINS = 640, 200, 40
COLOURS = ("#8a8f98", "#2f6fde")


def page(comparison: Comparison) -> str:
    """HTML without scripts and without anything from elsewhere."""
    templates = Environment(loader=PackageLoader("radnode.web"), autoescape=True)
    return templates.get_template("simulation.html").render(c=comparison, curves=curves(comparison.histograms))


def curves(histograms: Mapping[str, Sequence[float]]) -> dict[str, object]:
    """SVG polylines of the share of studies that waited longer than so many minutes, one per way to read them."""
    longest = max((max(values) for values in histograms.values() if values), default=1.0) or 1.0
    lines = []
    for (name, values), colour in zip(histograms.items(), COLOURS, strict=False):
        ordered, points = sorted(values), []
        for step in range(BINS + 1):
            minutes = longest * step / BINS
            share = sum(1 for v in ordered if v > minutes) / max(1, len(ordered))
            points.append(f"{WIDTH * step / BINS:.1f},{HEIGHT * (1 - share):.1f}")
        lines.append({"name": name, "colour": colour, "points": " ".join(points)})
    return {"lines": lines, "longest": longest, "width": WIDTH, "height": HEIGHT}


def stored(comparison: Comparison) -> dict[str, object]:
    """As `as_json`, with the lines of every group for a page to draw."""
    spread = {"all": comparison.histograms, **comparison.by_class}
    return as_json(comparison) | {"curves": {group: curves(waits) for group, waits in spread.items()}}


def as_json(comparison: Comparison) -> dict[str, object]:
    """Every number of the table, in minutes."""
    return {
        "room": comparison.room.model_dump(),
        "trials": comparison.trials,
        "interrupts": comparison.interrupts,
        "rows": [row_json(row) for row in comparison.rows],
    }


def row_json(row: Row) -> dict[str, object]:
    def waits(of: str) -> dict[str, object]:
        return {name: getattr(getattr(row, of), name) for name in ("mean", "half_width", "median", "p95", "longest")}

    return {
        "group": row.group,
        "studies": row.without.studies,
        "without": waits("without") | {"exact": row.exact_without},
        "with": waits("with_triage") | {"exact": row.exact_with},
        "really": waits("really") if row.really else None,
    }
