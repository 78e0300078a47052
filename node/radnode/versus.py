"""A version in shadow against what was reported of the same studies. Reads only, and only where both have answered."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import scores
from radnode.monitor import Score
from radnode.states import JobState
from radnode.tables import ShadowRow
from radnode_fhir.read import DEAD
from radnode_inference.findings import Kind

SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One study: how many findings each made, and the highest probability of each (None: none was given)."""

    study_uid: str
    live: int
    shadow: int
    live_probability: float | None
    shadow_probability: float | None


@dataclass(frozen=True, kw_only=True)
class Versus:
    """both, only_live, only_shadow, neither: studies by who found anything. answered, declined, failed: runs in shadow.

    shift: mean of the shadow's probability less the live one's, where both give one. differ: studies that only one flags.
    """

    model: str
    version: str
    answered: int
    declined: int
    failed: int
    both: int
    only_live: int
    only_shadow: int
    neither: int
    shift: float | None
    differ: tuple[Pair, ...]

    @property
    def compared(self) -> int:
        return self.both + self.only_live + self.only_shadow + self.neither

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa (1960) of "found something"; None where chance alone agrees always, or nothing was compared."""
        n = self.compared
        if not n:
            return None
        live, shadow = (self.both + self.only_live) / n, (self.both + self.only_shadow) / n
        expected = live * shadow + (1 - live) * (1 - shadow)
        agreed = (self.both + self.neither) / n
        return None if expected >= 1 else (agreed - expected) / (1 - expected)


def of_model(session: Session, model: str) -> tuple[Versus, ...]:
    """Each version that ran in shadow, the newest run first."""
    reported = {s.study_uid: s for s in scores.scores(session, model) if s.status not in DEAD}  # the newest of a study
    by_version: dict[str, dict[str, ShadowRow]] = defaultdict(dict)
    for row in session.scalars(select(ShadowRow).where(ShadowRow.model == model).order_by(ShadowRow.id)):
        by_version.setdefault(row.version, {})[row.study_uid] = row  # the newest revision of a study
    newest = sorted(by_version.items(), key=lambda item: -max(r.id for r in item[1].values()))
    return tuple(versus(model, version, rows, reported) for version, rows in newest)


def versus(model: str, version: str, rows: Mapping[str, ShadowRow], reported: Mapping[str, Score]) -> Versus:
    states = [row.state for row in rows.values()]
    done = [row for row in rows.values() if row.state == JobState.DONE]
    pairs = [pair(row, reported[row.study_uid]) for row in done if row.study_uid in reported]
    shifts = [
        p.shadow_probability - p.live_probability
        for p in pairs
        if p.shadow_probability is not None and p.live_probability is not None
    ]
    differ = [p for p in pairs if bool(p.live) != bool(p.shadow)]
    return Versus(
        model=model,
        version=version,
        answered=len(done),
        declined=states.count(JobState.DECLINED),
        failed=states.count(JobState.FAILED),
        both=sum(1 for p in pairs if p.live and p.shadow),
        only_live=sum(1 for p in differ if p.live),
        only_shadow=sum(1 for p in differ if p.shadow),
        neither=sum(1 for p in pairs if not p.live and not p.shadow),
        shift=statistics.fmean(shifts) if shifts else None,
        differ=tuple(reversed(differ[-SHOWN:])),
    )


def pair(row: ShadowRow, live: Score) -> Pair:
    found = abnormal(row.findings)
    sure = [float(f["probability"]) for f in found if f.get("probability") is not None]
    return Pair(
        study_uid=row.study_uid,
        live=live.findings,
        shadow=len(found),
        live_probability=live.probability,
        shadow_probability=max(sure, default=None),
    )


def abnormal(findings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [f for f in findings if f.get("kind") == Kind.ABNORMALITY]
