"""What the demo shows and what it holds the node to: the worklist as a table, and one sentence for each promise not kept."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

LONGEST_TEXT = 240
"""Characters of an answer that the table shows; the study's page has all of it."""
LEVEL_STYLE = {"STAT": "bold red", "HIGH": "bold yellow", "ROUTINE": "green"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One study of the demo as the node's API tells it.

    name, purpose: of the generated study; purpose is lesion, normal, unsuitable or phantom.
    entry: its row of /api/worklist. story: /api/studies/UID. in_pacs: results found in the PACS, None without a PACS.
    """

    name: str
    purpose: str
    entry: Mapping[str, Any]
    story: Mapping[str, Any]
    in_pacs: Counter[str] | None

    @property
    def rank(self) -> int:
        return int(self.entry["rank"])

    @property
    def outcomes(self) -> set[str]:
        return {answer["outcome"] for answer in self.entry["answers"]}

    @property
    def why(self) -> str:
        return short("; ".join(answer["text"] for answer in self.entry["answers"]))

    @property
    def results(self) -> list[Mapping[str, Any]]:
        return [r for r in self.story["results"] if r["current"]]

    @property
    def delivered(self) -> dict[str, Counter[str]]:
        """Destination -> kind of result -> how many are there."""
        found: dict[str, Counter[str]] = {}
        for delivery in self.story["deliveries"]:
            if delivery["state"] == "delivered":
                found.setdefault(delivery["destination"], Counter())[delivery["kind"]] += 1
        return found


def table(rows: Sequence[Row]) -> Table:
    """The worklist, worst first: one line for each model's answer."""
    made = Table(title="Worklist", title_justify="left", show_lines=False, pad_edge=False)
    for heading, options in (
        ("#", {"justify": "right"}),
        ("study", {"min_width": 14}),
        ("model", {"min_width": 10}),
        ("finding", {"ratio": 1}),
        ("priority", {}),
        ("delivered", {"min_width": 16}),
    ):
        made.add_column(heading, overflow="fold", **options)
    for row in sorted(rows, key=lambda r: r.rank):
        for n, answer in enumerate(row.entry["answers"]):
            level = row.entry["level"]
            made.add_row(
                str(row.rank) if n == 0 else "",
                row.name if n == 0 else "",
                answer["model"] or "none",
                short(answer["text"]),
                f"[{LEVEL_STYLE[level]}]{level}[/]" if n == 0 else "",
                delivered_text(row, answer["model"]),
            )
    return made


def short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 2].rstrip() + " …"


def delivered_text(row: Row, model: str) -> str:
    """ "pacs: 2 sr, 1 seg; folder: ..." for the results of one model."""
    of_model = {r["uid"] for r in row.results if r["model"] == model}
    counted: dict[str, Counter[str]] = {}
    for d in row.story["deliveries"]:
        if d["result_uid"] in of_model and d["state"] == "delivered":
            counted.setdefault(d["destination"], Counter())[d["kind"]] += 1
    parts = [f"{name}: " + ", ".join(f"{n} {k}" for k, n in sorted(c.items())) for name, c in sorted(counted.items())]
    return "; ".join(parts) or "nothing"


def broken_promises(rows: Sequence[Row]) -> list[str]:
    """What the demo should show and does not, one sentence each; [] when all is well."""
    return [*order(rows), *answers(rows), *deliveries(rows)]


def order(rows: Sequence[Row]) -> list[str]:
    """Every lesion above every normal study. Normal ones were sent first, so arrival alone puts them above."""
    lesions, normal = of(rows, "lesion"), of(rows, "normal")
    if not lesions or not normal:
        return ["There is no lesion study, or no normal one, to compare."]
    return [
        f"{bad.name} (a lesion, place {bad.rank}) stands below {good.name} (normal, place {good.rank})."
        for bad in lesions
        for good in normal
        if bad.rank > good.rank
    ]


def answers(rows: Sequence[Row]) -> list[str]:
    wrong = [
        f"No model found the lesion of {r.name}: {r.why}" for r in of(rows, "lesion") if "finding" not in r.outcomes
    ]
    wrong += [f"No model read {r.name}: {r.why}" for r in of(rows, "normal") if not r.outcomes & {"clear", "finding"}]
    for purpose, outcome in (("unsuitable", "declined"), ("phantom", "not-run")):
        found = of(rows, purpose)
        wrong += [] if found else [f"There is no {purpose} study."]
        wrong += [
            f"{r.name} should be {outcome}, with the reason; the node says: {r.why}"
            for r in found
            if r.outcomes != {outcome} or len(r.why) < len("declined: ") + 10 or r.results
        ]
    return wrong


def deliveries(rows: Sequence[Row]) -> list[str]:
    wrong = []
    for row in rows:
        if row.purpose in ("lesion", "normal") and not row.results:
            wrong.append(f"{row.name} has no result.")
        left = Counter(d["state"] for d in row.story["deliveries"] if d["state"] != "delivered")
        if left:
            states = ", ".join(f"{n} {state}" for state, n in left.items())
            wrong.append(f"Not every result of {row.name} was delivered: {states}.")
        made = sum(1 for r in row.results if r["kind"] != "fhir")
        if row.in_pacs is not None and row.in_pacs.total() != made:
            wrong.append(f"The PACS holds {row.in_pacs.total()} results of {row.name}, the node made {made}.")
    return wrong


def of(rows: Sequence[Row], purpose: str) -> list[Row]:
    return [r for r in rows if r.purpose == purpose]
