import itertools
from dataclasses import replace

import pytest

from radnode import triage
from radnode.settings import Ageing, TriageRule
from radnode.triage import (
    DEFAULT_POLICY,
    OVERDUE_S,
    Context,
    Level,
    Priority,
    Report,
    is_turn_of_late,
    order,
    prioritise,
)
from radnode_fhir.read import Abnormality, Reported
from radnode_inference.findings import Code

HOUR = 3600.0
NODULE = Code(value="27925004", scheme="SCT", meaning="Nodule")
EMBOLISM = Code(value="59282003", scheme="SCT", meaning="Pulmonary embolism")
EMPHYSEMA = Code(value="87433001", scheme="SCT", meaning="Emphysema")


def finding(
    concept: Code = NODULE, probability: float | None = 0.9, volume_ml: float | None = None, critical: bool = False
) -> Abnormality:
    return Abnormality(
        concept=concept,
        probability=probability,
        volume_ml=volume_ml,
        long_axis_mm=None,
        laterality="left",
        site="Lung",
        tracking_uid="2.25.1",
        critical=critical,
    )


def report(*found: Abnormality, status: str = "preliminary", demonstration: bool = False, model: str = "m") -> Report:
    said = Reported(
        status=status,
        issued="",
        conclusion="",
        model=model,
        study_uid="1.2",
        accession_number="",
        patient_id="",
        abnormalities=found,
    )
    return Report(model=model, status=status, said=said, demonstration=demonstration)


@pytest.mark.parametrize(
    ("found", "level"),
    [
        ((), Level.ROUTINE),
        ((finding(probability=0.9),), Level.HIGH),
        ((finding(probability=0.5),), Level.HIGH),
        ((finding(probability=0.49),), Level.ROUTINE),
        ((finding(probability=None),), Level.HIGH),
        ((finding(EMBOLISM, 0.5),), Level.STAT),
        ((finding(EMBOLISM, 0.3),), Level.ROUTINE),
        ((finding(EMPHYSEMA, 0.99),), Level.ROUTINE),
        ((finding(EMPHYSEMA, 0.99), finding(probability=0.6)), Level.HIGH),
        ((finding(probability=0.9), finding(EMBOLISM, 0.6)), Level.STAT),
        ((finding(EMPHYSEMA, 0.1, critical=True),), Level.STAT),
    ],
)
def test_the_default_policy_gives_each_study_its_level(found: tuple[Abnormality, ...], level: Level) -> None:
    assert prioritise([report(*found)]).level is level


def test_the_reason_names_finding_place_probability_volume_model_and_how_many_more() -> None:
    said = prioritise([report(finding(probability=0.93, volume_ml=1.23), finding(probability=0.6), model="ct-voco")])
    assert said.reason == "Nodule, left lung, 93 %, 1.2 ml, and 1 more [ct-voco]"


def test_without_a_report_a_study_keeps_its_normal_place() -> None:
    said = prioritise([])
    assert (said.level, said.reason) == (Level.ROUTINE, "No AI report: normal place")


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled"])
def test_a_retracted_report_raises_nothing(status: str) -> None:
    said = prioritise([report(finding(EMBOLISM), status=status)])
    assert said.level is Level.ROUTINE
    assert "retracted" in said.reason


def test_a_retracted_report_does_not_hide_another() -> None:
    said = prioritise([report(finding(EMBOLISM), status="entered-in-error"), report(finding(), model="n")])
    assert said.level is Level.HIGH
    assert "[n]" in said.reason


def test_only_demonstration_results_are_marked_so() -> None:
    alone = prioritise([report(finding(), demonstration=True)])
    assert alone.demonstration
    assert "demonstration" in alone.reason
    clear = prioritise([report(demonstration=True)])
    assert clear.demonstration
    assert "demonstration" in clear.reason
    assert not prioritise([report(finding(), demonstration=True), report(model="n")]).demonstration


def test_the_first_rule_that_holds_decides() -> None:
    policy = (
        TriageRule(name="small", codes=(NODULE.value,), level="ROUTINE"),
        TriageRule(name="any", level="STAT"),
    )
    assert prioritise([report(finding())], policy).level is Level.ROUTINE
    assert prioritise([report(finding(EMBOLISM))], policy).level is Level.STAT


def test_a_rule_by_volume_needs_a_volume() -> None:
    policy = (TriageRule(name="large", min_volume_ml=1.0, level="STAT"),)
    volumes = {None: Level.ROUTINE, 0.5: Level.ROUTINE, 1.0: Level.STAT}
    for volume, level in volumes.items():
        assert prioritise([report(finding(volume_ml=volume))], policy).level is level


def test_an_unreadable_bundle_is_no_report() -> None:
    assert triage.read({"resourceType": "Bundle", "entry": []}, "m", "preliminary") is None
    assert triage.read({"entry": [{"resource": {"resourceType": "DiagnosticReport", "result": 7}}]}, "m", "x") is None


def place(level: Level, probability: float | None = None) -> Priority:
    return Priority(level=level, reason="because", probability=probability, abnormal=level is not Level.ROUTINE)


def names(rows: list[tuple[str, Priority, float]], now: float) -> list[str]:
    return [p.key for p in order(rows, now)]


def test_levels_then_probability_then_arrival() -> None:
    rows = [
        ("routine", place(Level.ROUTINE), 0.0),
        ("high-late", place(Level.HIGH, 0.71), 60.0),
        ("high-early", place(Level.HIGH, 0.79), 30.0),
        ("high-likely", place(Level.HIGH, 0.95), 90.0),
        ("high-unsaid", place(Level.HIGH), 10.0),
        ("stat", place(Level.STAT, 0.6), 100.0),
    ]
    expected = ["stat", "high-likely", "high-early", "high-late", "high-unsaid", "routine"]
    for shuffled in itertools.permutations(rows):
        assert names(list(shuffled), 200.0) == expected


def test_a_routine_study_that_waits_too_long_is_raised_and_says_why() -> None:
    now = 25 * HOUR
    old, new = ("old", place(Level.ROUTINE), 0.0), ("new", place(Level.HIGH, 0.99), now - 60)
    (first, second) = order([new, old], now)
    assert (first.key, second.key) == ("old", "new")
    assert first.priority.level is Level.HIGH
    assert first.priority.reason == "Waited 25 h. because"


def test_nothing_starves_under_a_stream_of_likely_findings() -> None:
    """One study is read every ten minutes, and a HIGH one arrives every ten minutes: the routine one is read in the end."""
    waiting = [("routine", place(Level.ROUTINE), 0.0), ("spare", place(Level.HIGH, 0.9), 0.0)]
    for n in range(1, 1000):
        now = n * 600.0
        waiting.append((f"high-{n}", place(Level.HIGH, 0.99), now))
        read = order(waiting, now)[0].key
        waiting = [w for w in waiting if w[0] != read]
        if read == "routine":
            assert now <= OVERDUE_S[Level.ROUTINE] + 2 * OVERDUE_S[Level.HIGH]
            return
    pytest.fail("the routine study was never read")


def test_stat_stands_above_everything_that_is_overdue() -> None:
    rows = [("old", place(Level.ROUTINE), 0.0), ("stat", place(Level.STAT, 0.6), 99.9 * HOUR)]
    assert names(rows, 100 * HOUR) == ["stat", "old"]


def test_in_its_turn_one_overdue_study_stands_before_what_only_an_ai_made_stat_and_says_so() -> None:
    rows = [
        ("old", place(Level.ROUTINE), 100 * HOUR - 25 * HOUR),
        ("older", place(Level.HIGH), 100 * HOUR - 15 * HOUR),
        ("stat", place(Level.STAT, 0.99), 99.9 * HOUR),
        ("stat-late", place(Level.STAT, 0.6), 100 * HOUR - 0.6 * HOUR),
        ("ordered", prioritise((), context=Context(ordered=Level.STAT)), 99.9 * HOUR),
        ("set", prioritise((), context=Context(set_level=Level.STAT)), 99.95 * HOUR),
        ("high", place(Level.HIGH), 99.0 * HOUR),
    ]
    plain = names(rows, 100 * HOUR)
    assert plain[-3:] == ["older", "old", "high"]
    given = [name for name in plain if name in ("ordered", "set")]
    for shuffled in itertools.islice(itertools.permutations(rows), 0, None, 97):
        made = order(list(shuffled), 100 * HOUR, late_first=True)
        assert [p.key for p in made] == [*given, "older", "stat-late", "stat", "old", "high"]
    assert made[2].priority.reason == "Its turn before the STAT of an AI. Waited 15 h. because"
    assert made[2].priority.level is Level.HIGH


def test_without_anything_overdue_or_without_a_flag_a_turn_changes_nothing() -> None:
    rows = [("new", place(Level.ROUTINE), 99.9 * HOUR), ("stat", place(Level.STAT, 0.9), 99.9 * HOUR)]
    assert order(rows, 100 * HOUR, late_first=True) == order(rows, 100 * HOUR)
    rows = [("old", place(Level.ROUTINE), 0.0), ("high", place(Level.HIGH, 0.9), 99.9 * HOUR)]
    assert order(rows, 100 * HOUR, late_first=True) == order(rows, 100 * HOUR)


@pytest.mark.parametrize(
    ("one_in", "waits", "turn"),
    [
        (4, (60.0, 60.0, 60.0), True),
        (4, (60.0, 60.0, 60.0, 20 * HOUR), True),
        (4, (60.0, 20 * HOUR, 60.0), False),
        (4, (60.0, 60.0), False),
        (2, (60.0,), True),
        (0, (60.0, 60.0, 60.0), False),
        (1, (60.0, 60.0, 60.0), False),
        (4, (), False),
    ],
)
def test_one_reading_in_so_many_is_of_what_is_overdue(one_in: int, waits: tuple[float, ...], turn: bool) -> None:
    assert is_turn_of_late(Ageing(late_one_in=one_in), waits, OVERDUE_S) is turn


def test_a_flood_of_stat_flags_delays_a_plain_study_until_its_turn_and_no_further() -> None:
    """One reader, and a new STAT flag for each study that is read: without turns the plain one is never read."""
    waiting = [("plain", place(Level.ROUTINE), 0.0), ("spare", place(Level.STAT, 0.9), 0.0)]
    waits: list[float] = []
    for n in range(1, 1000):
        now = n * 600.0
        waiting.append((f"stat-{n}", place(Level.STAT, 0.99), now))
        read = order(waiting, now, late_first=is_turn_of_late(Ageing(), waits, OVERDUE_S))[0].key
        waits = [now - at for key, _, at in waiting if key == read] + waits[:5]
        waiting = [w for w in waiting if w[0] != read]
        if read == "plain":
            assert 18 * HOUR <= now <= 18 * HOUR + 4 * 600
            return
    pytest.fail("the plain study was never read")


def test_a_report_that_a_person_confirmed_is_not_only_an_ai_s() -> None:
    def final(who: str) -> Report:
        made = report(finding(EMBOLISM), status="final")
        return replace(made, said=replace(made.said, confirmed_by=who))

    assert prioritise([final("Ada Rossi")]).given is Level.STAT
    assert prioritise([final("")]).given is Level.ROUTINE, "an AI that calls its own report final"
    assert prioritise([report(finding(EMBOLISM))]).given is Level.ROUTINE
    patient = Context(patient_class="emergency")
    assert prioritise([report(finding(EMBOLISM))], context=patient).given is Level.HIGH


def test_order_keeps_every_row_once() -> None:
    rows = [(str(n), place(list(Level)[n % 3], n / 100), float(n % 7)) for n in range(99)]
    assert sorted(names(rows, 1e6), key=int) == [str(n) for n in range(99)]


def test_the_default_policy_ends_with_a_rule_for_everything() -> None:
    assert not DEFAULT_POLICY[-1].codes
    assert DEFAULT_POLICY[-1].min_probability == 0
