"""Alarms about models: raised by a change and by nothing else, on the scanner that changed."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from radnode.monitor import DAY_S, Kind, Ruled, Score, month_of, rulings, watch
from radnode.settings_monitoring import Monitoring

SETTINGS = Monitoring()
START = 1_780_000_000.0


def scores(
    count: int, *, share: float = 0.3, low: float = 0.5, seed: int = 1, scanner: str = "A", after: float = 0.0
) -> list[Score]:
    """Ten studies a day; `share` of them with a finding whose probability lies between `low` and 1."""
    chance = np.random.default_rng(seed)
    return [
        Score(
            study_uid=f"1.{seed}.{i}", model="ct-lung", version="1", scanner=scanner, at=START + (after + i / 10) * DAY_S,
            status="preliminary", findings=int(found), probability=float(p) if found else None,
        )
        for i, (found, p) in enumerate(zip(chance.random(count) < share, chance.uniform(low, 1, count), strict=True))
    ]  # fmt: skip


def kinds(found: Sequence[Score]) -> set[tuple[Kind, str]]:
    now = max(s.at for s in found)
    return {(a.kind, a.scanner) for w in watch(found, SETTINGS, now) for a in w.alarms}


def test_without_a_change_there_is_no_alarm() -> None:
    alarmed = [seed for seed in range(20) if kinds(scores(1200, seed=seed))]
    assert len(alarmed) <= 1, alarmed


def test_more_findings_are_an_alarm_of_the_index_and_of_the_sum() -> None:
    found = [*scores(600), *scores(300, share=0.6, seed=2, after=60)]
    assert kinds(found) == {(Kind.STABILITY, ""), (Kind.UP, "")}
    (watched,) = watch(found, SETTINGS, found[-1].at)
    [up] = [a for a in watched.alarms if a.kind is Kind.UP]
    assert up.since > START + 60 * DAY_S, "not before the change"
    assert up.since < START + 75 * DAY_S
    assert up.value > up.limit == SETTINGS.cusum_limit


def test_findings_that_vanish_are_an_alarm() -> None:
    found = [*scores(400), *scores(300, share=0.0, seed=2, after=40)]
    assert kinds(found) == {(Kind.STABILITY, ""), (Kind.DOWN, "")}


def test_probabilities_that_move_while_as_much_is_found_are_seen_by_the_index() -> None:
    found = [*scores(400, share=0.5), *scores(300, share=0.5, low=0.9, seed=2, after=40)]
    assert (Kind.STABILITY, "") in kinds(found)


def test_the_scanner_that_changed_is_named() -> None:
    steady = scores(700, scanner="B", seed=3)
    broken = [*scores(400, scanner="A", seed=4), *scores(300, scanner="A", share=0.75, seed=5, after=40)]
    alarms = kinds([*steady, *broken])
    assert (Kind.UP, "A") in alarms and (Kind.STABILITY, "A") in alarms
    assert not {k for k, scanner in alarms if scanner == "B"}


def test_a_new_scanner_is_compared_with_those_there_were() -> None:
    found = [*scores(300, scanner="A"), *scores(60, scanner="NEW", share=0.9, seed=2, after=28)]
    watched = {w.scanner: w for w in watch(found, SETTINGS, max(s.at for s in found))}
    assert watched["NEW"].borrowed and watched["NEW"].reference == 200
    assert (Kind.STABILITY, "NEW") in {(a.kind, a.scanner) for a in watched["NEW"].alarms}


def test_too_few_studies_are_shown_and_never_an_alarm() -> None:
    found = [*scores(100), *scores(99, share=1.0, seed=2, after=10)]
    (watched,) = watch(found, SETTINGS, found[-1].at)
    assert (watched.studies, watched.reference, watched.alarms) == (199, 0, ())
    assert sum(m.studies for m in watched.months) == 199
    assert all(m.index is None for m in watched.months)


def test_another_version_has_a_reference_of_its_own() -> None:
    later = [replace(s, version="2") for s in scores(600, share=0.9, seed=2, after=60)]
    found = [*scores(400), *later]
    assert [w.version for w in watch(found, SETTINGS, found[-1].at)] == ["2", "1"]
    assert kinds(found) == set()


def test_what_was_retracted_is_not_counted() -> None:
    gone = [replace(s, status="entered-in-error") for s in scores(300, share=1.0, seed=2, after=40)]
    assert kinds([*scores(600), *gone]) == set()


def test_a_month_of_charts_says_how_many_had_a_finding_and_how_sure_the_model_was() -> None:
    found = [replace(s, at=START) for s in scores(300)]
    (watched,) = watch(found, SETTINGS, START)
    (month,) = watched.months
    with_finding = [s.probability for s in found if s.findings]
    assert (month.month, month.studies, month.with_finding) == (month_of(START), 300, len(with_finding))
    assert month.mean == pytest.approx(sum(p or 0 for p in with_finding) / 300)


def ruled(count: int, share: float, seed: int, after: float = 0.0) -> list[Ruled]:
    said = np.random.default_rng(seed).random(count) < share
    return [Ruled(model="ct-lung", at=START + after + i, disputed=bool(d)) for i, d in enumerate(said)]


def test_people_who_reject_more_are_an_alarm_and_chance_is_rarely_one() -> None:
    steady = [rulings(ruled(500, 0.1, seed=seed), SETTINGS) for seed in range(20)]
    assert sum(len(alarms) for _, alarms in steady) <= 1
    assert len(steady[0][0]["ct-lung", ""]) == 400
    _, alarms = rulings([*ruled(500, 0.1, seed=1), *ruled(100, 0.5, seed=50, after=1000)], SETTINGS)
    (alarm,) = alarms
    assert (alarm.kind, alarm.model) == (Kind.RULINGS, "ct-lung")
    assert alarm.since >= START + 1000


def test_people_who_reject_more_on_one_scanner_are_an_alarm_of_that_scanner() -> None:
    before = [replace(r, scanner=f"CT {i % 2}") for i, r in enumerate(ruled(600, 0.1, seed=1))]
    after = [replace(r, scanner="CT 1") for r in ruled(60, 0.6, seed=3, after=1000)]
    lines, alarms = rulings([*before, *after], SETTINGS)
    assert set(lines) == {("ct-lung", ""), ("ct-lung", "CT 0"), ("ct-lung", "CT 1")}
    assert {a.scanner for a in alarms} == {"", "CT 1"}
    (alone, _) = rulings([replace(r, scanner="CT 1") for r in before], SETTINGS)
    assert set(alone) == {("ct-lung", "")}, "a single scanner is all of them"


def test_people_who_reject_less_are_none() -> None:
    assert rulings([*ruled(200, 0.4, seed=1), *ruled(300, 0.05, seed=2, after=1000)], SETTINGS)[1] == ()
