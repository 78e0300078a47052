"""What changed in a model's scores, and in what people say of its findings: charts and alarms. Pure over rows that were read.

A version of a model is compared with its own first studies. That finds a change, of the model, of a scanner or of the
patients; it does not say which, and a model that was wrong from its first day gives no alarm.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from scipy.special import betaincinv

from radnode import drift
from radnode.drift import Sums
from radnode.settings_monitoring import Monitoring
from radnode.verdicts import UNKNOWN
from radnode_fhir.read import DEAD

STEPS = 5  # classes of the probability, beside "no finding" and "a finding without a probability"
CLASSES = STEPS + 2
DAY_S = 86400.0


class Kind(StrEnum):
    """What an alarm is about."""

    STABILITY = "stability"  # the population-stability index of the scores
    UP = "score-up"  # the cumulative sum of the scores
    DOWN = "score-down"
    RULINGS = "rulings"  # people reject or correct more


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a version of a model said of one study. at: UTC epoch seconds. probability: the highest one, None for none."""

    study_uid: str
    model: str
    version: str
    scanner: str
    at: float
    status: str
    findings: int
    probability: float | None

    @property
    def value(self) -> float:
        """0 without a finding, 1 for a finding without a probability, else the highest probability."""
        return (1.0 if self.probability is None else self.probability) if self.findings else 0.0

    @property
    def place(self) -> int:
        """The class of the score in a histogram of CLASSES."""
        if not self.findings:
            return 0
        if self.probability is None:
            return CLASSES - 1
        return 1 + min(STEPS - 1, int(self.probability * STEPS))


@dataclass(frozen=True, kw_only=True)
class Ruled:
    """One ruling that holds. disputed: rejected or corrected. scanner: of the study, "" where nobody asks."""

    model: str
    at: float
    disputed: bool
    scanner: str = ""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """value and limit: of the index or of the sum. since: when it began, UTC epoch seconds. scanner: "" for all together."""

    kind: Kind
    model: str
    version: str
    scanner: str
    value: float
    limit: float
    since: float


@dataclass(frozen=True, kw_only=True)
class Month:
    """One month (UTC). index: None where it has too few studies, or all of them are the reference. mean: of the scores."""

    month: str
    studies: int
    with_finding: int
    mean: float
    index: float | None


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A version of a model, on one scanner ("" for all). steps: when each step of `sums` ended.

    reference: how many studies it is compared with; 0: too few so far. borrowed: they are those of all scanners.
    """

    model: str
    version: str
    scanner: str
    studies: int
    reference: int
    borrowed: bool
    months: tuple[Month, ...]
    steps: tuple[float, ...]
    sums: Sums
    alarms: tuple[Alarm, ...]


def watch(scores: Sequence[Score], settings: Monitoring, now: float) -> tuple[Watched, ...]:
    """Each version of each model, together and by scanner, the newest version first. Retracted reports are left out."""
    by_version: dict[tuple[str, str], list[Score]] = defaultdict(list)
    for score in sorted(scores, key=lambda s: s.at):
        if score.status not in DEAD:
            by_version[score.model, score.version].append(score)
    made: list[Watched] = []
    for (_, _), every in sorted(by_version.items(), key=lambda item: (item[0][0], -item[1][-1].at)):
        reference = every[: settings.reference_studies] if len(every) >= settings.reference_studies else []
        made.append(watched(every, reference, settings, now, scanner=""))
        by_scanner: dict[str, list[Score]] = defaultdict(list)
        for score in every:
            by_scanner[score.scanner or UNKNOWN].append(score)
        if len(by_scanner) > 1:
            made += [on_scanner(name, found, reference, settings, now) for name, found in sorted(by_scanner.items())]
    return tuple(made)


def on_scanner(
    scanner: str, found: Sequence[Score], of_all: Sequence[Score], settings: Monitoring, now: float
) -> Watched:
    """Compared with its own first studies; while it has too few, with the reference of all scanners."""
    own = len(found) >= settings.reference_studies + settings.min_studies
    reference = found[: settings.reference_studies] if own else of_all
    return watched(found, reference, settings, now, scanner=scanner, borrowed=not own and bool(of_all))


def watched(
    every: Sequence[Score],
    reference: Sequence[Score],
    settings: Monitoring,
    now: float,
    *,
    scanner: str,
    borrowed: bool = False,
) -> Watched:
    """One group. Studies of the reference are compared with nothing."""
    known = {s.study_uid for s in reference}
    later = [s for s in every if s.study_uid not in known] if reference else []
    steps, sums = score_sums(later, reference, settings)
    first = every[0]
    return Watched(
        model=first.model,
        version=first.version,
        scanner=scanner,
        studies=len(every),
        reference=len(reference),
        borrowed=borrowed,
        months=months(every, later, reference, settings),
        steps=steps,
        sums=sums,
        alarms=(
            *stability_alarm(later, reference, settings, now, first.model, first.version, scanner),
            *sum_alarms(steps, sums, settings, first.model, first.version, scanner),
        ),
    )


def histogram(scores: Sequence[Score]) -> list[int]:
    counts = [0] * CLASSES
    for score in scores:
        counts[score.place] += 1
    return counts


def month_of(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m")


def months(
    every: Sequence[Score], later: Sequence[Score], reference: Sequence[Score], settings: Monitoring
) -> tuple[Month, ...]:
    """The oldest first."""
    counted, compared = by_month(every), by_month(later)
    base = histogram(reference)
    made = []
    for month, found in sorted(counted.items()):
        new = compared.get(month, [])
        judged = bool(reference) and len(new) >= settings.min_studies
        made.append(
            Month(
                month=month,
                studies=len(found),
                with_finding=sum(1 for s in found if s.findings),
                mean=statistics.fmean(s.value for s in found),
                index=drift.stability_index(base, histogram(new)) if judged else None,
            )
        )
    return tuple(made)


def by_month(scores: Sequence[Score]) -> Mapping[str, list[Score]]:
    found: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        found[month_of(score.at)].append(score)
    return found


def stability_alarm(
    later: Sequence[Score], reference: Sequence[Score], settings: Monitoring, now: float, *about: str
) -> tuple[Alarm, ...]:
    """The index of the newest studies, where it is above its limit and more than chance explains."""
    newest = [s for s in later if s.at >= now - settings.window_days * DAY_S]
    if not reference or len(newest) < settings.min_studies:
        return ()
    base, current = histogram(reference), histogram(newest)
    index = drift.stability_index(base, current)
    classes = drift.used_classes(base, current)
    limit = max(settings.psi_limit, drift.index_by_chance(classes, len(reference), len(newest), settings.chance))
    return (alarm(Kind.STABILITY, index, limit, newest[0].at, *about),) if index > limit else ()


def score_sums(
    later: Sequence[Score], reference: Sequence[Score], settings: Monitoring
) -> tuple[tuple[float, ...], Sums]:
    """The cumulative sums of the mean scores of batches, and when each batch ended.

    The reference knows the mean only so well: what that alone explains is added to the slack.
    """
    size = settings.cusum_batch
    batches = [later[i : i + size] for i in range(0, len(later) - size + 1, size)]
    if not reference or not batches:
        return (), Sums(up=(), down=())
    values = [s.value for s in reference]
    spread = max(statistics.pstdev(values), smallest_spread(len(values))) / math.sqrt(size)
    slack = settings.cusum_slack + math.sqrt(size / len(values))
    means = [statistics.fmean(s.value for s in batch) for batch in batches]
    cap = 2 * settings.cusum_limit
    sums = drift.cumulative_sums(means, statistics.fmean(values), spread, slack, cap)
    return tuple(batch[-1].at for batch in batches), sums


def smallest_spread(studies: int) -> float:
    """The standard deviation where all studies of a reference score alike: as if one in so many would differ."""
    share = 1 / (studies + 2)
    return math.sqrt(share * (1 - share))


def sum_alarms(steps: Sequence[float], sums: Sums, settings: Monitoring, *about: str) -> tuple[Alarm, ...]:
    found = []
    for kind, values in ((Kind.UP, sums.up), (Kind.DOWN, sums.down)):
        at = drift.began(values, settings.cusum_limit)
        if at is not None:
            found.append(alarm(kind, values[-1], settings.cusum_limit, steps[at], *about))
    return tuple(found)


def rulings(
    found: Sequence[Ruled], settings: Monitoring
) -> tuple[Mapping[tuple[str, str], tuple[tuple[float, float], ...]], tuple[Alarm, ...]]:
    """(Model, scanner) -> (when, cumulative sum) after each ruling past the reference; and the alarms.

    scanner: "" for all together. Each is compared with its own first rulings; a single scanner is not told apart.
    """
    groups: dict[tuple[str, str], list[Ruled]] = defaultdict(list)
    for ruling in sorted(found, key=lambda r: r.at):
        groups[ruling.model, ""].append(ruling)
        if ruling.scanner:
            groups[ruling.model, ruling.scanner].append(ruling)
    lines: dict[tuple[str, str], tuple[tuple[float, float], ...]] = {}
    alarms: list[Alarm] = []
    for (model, scanner), every in sorted(groups.items()):
        if scanner and len(every) == len(groups[model, ""]):
            continue
        first, later = every[: settings.reference_rulings], every[settings.reference_rulings :]
        if not later:
            continue
        share = share_at_most(sum(r.disputed for r in first), len(first))
        sums = drift.likelihood_sums(
            [r.disputed for r in later], share, settings.ruling_odds, 2 * settings.ruling_limit
        )
        lines[model, scanner] = tuple(zip((r.at for r in later), sums, strict=True))
        at = drift.began(sums, settings.ruling_limit)
        if at is not None:
            alarms.append(alarm(Kind.RULINGS, sums[-1], settings.ruling_limit, later[at].at, model, "", scanner))
    return lines, tuple(alarms)


def share_at_most(happened: int, of: int) -> float:
    """What the reference does not exclude: nine in ten true shares lie below (posterior after Jeffreys' prior).

    Against the share itself, every tenth reference of 100 would be so low by chance that later rulings looked like a change.
    """
    return float(betaincinv(happened + 0.5, of - happened + 0.5, 0.9))


def alarm(kind: Kind, value: float, limit: float, since: float, model: str, version: str, scanner: str) -> Alarm:
    return Alarm(kind=kind, model=model, version=version, scanner=scanner, value=value, limit=limit, since=since)
