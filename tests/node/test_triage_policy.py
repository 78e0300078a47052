import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from support.results import add_study, bundle, prepare

from radnode import events, orders, priorities
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.orders import Order
from radnode.settings import Ageing, ClassRule, Settings, TriageRule
from radnode.tables import ReportRow
from radnode.triage import DEFAULT_POLICY, RANK, Context, Level, Priority, Report, order, overdue_after, prioritise
from radnode.worklist import Reader
from radnode_fhir.read import Abnormality, Reported
from radnode_inference.findings import Code
from radnode_inference.models.chest_ct import voco_templates

NODULE, EMBOLISM = ("27925004", "Nodule"), ("59282003", "Pulmonary embolism")


def said(
    model: str = "m", concept: tuple[str, str] = NODULE, probability: float = 0.9, axis: float | None = None
) -> Report:
    found = Abnormality(
        concept=Code(value=concept[0], scheme="SCT", meaning=concept[1]), probability=probability, volume_ml=None,
        long_axis_mm=axis, laterality="", site="", tracking_uid="", critical=False,
    )  # fmt: skip
    reported = Reported(
        status="preliminary", issued="", conclusion="", model=model, study_uid="", accession_number="", patient_id="",
        abnormalities=(found,),
    )  # fmt: skip
    return Report(model=model, status="preliminary", said=reported, demonstration=False)


@pytest.mark.parametrize("template", ["BHSD", "FUMPE"])
def test_what_weights_by_a_template_find_of_bleedings_and_emboli_is_critical(template: str) -> None:
    for entry in voco_templates.template(template)["classes"][1:]:
        found = entry["concept"]["value"], entry["concept"]["meaning"]
        assert prioritise([said(concept=found)], DEFAULT_POLICY).level is Level.STAT, entry["name"]


ROWS = st.lists(
    st.tuples(
        st.sampled_from(list(Level)),
        st.one_of(st.none(), st.floats(0, 1)),
        st.integers(-2, 5),
        st.floats(0, 60 * 3600),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(rows=ROWS, now=st.floats(0, 60 * 3600), routine_min=st.floats(1, 3000), high_min=st.floats(1, 3000))
def test_before_an_overdue_routine_study_stand_only_stat_and_what_is_overdue_for_longer(
    rows: list[tuple[Level, float | None, int, float, bool]], now: float, routine_min: float, high_min: float
) -> None:
    limits = overdue_after(Ageing(routine_min=routine_min, high_min=high_min))
    given_rows = [
        (n, Priority(level=level, reason="", probability=p, hierarchy=h, abnormal=a), at)
        for n, (level, p, h, at, a) in enumerate(rows)
    ]
    places = order(given_rows, now, limits)
    assert sorted(place.key for place in places) == list(range(len(rows)))

    def overdue(n: int) -> float:
        return now - rows[n][3] - limits[rows[n][0]]

    for position, place in enumerate(places):
        if rows[place.key][0] is Level.ROUTINE and overdue(place.key) > 0:
            assert place.priority.reason.startswith("Waited ")
            for before in places[:position]:
                assert rows[before.key][0] is Level.STAT or overdue(before.key) >= overdue(place.key)


def test_a_row_is_overdue_before_its_limit_is_over() -> None:
    limits = overdue_after(Ageing(routine_min=100, due_at=0.5))
    assert limits[Level.ROUTINE] == 50 * 60


def test_the_same_finding_is_more_urgent_in_an_emergency_patient() -> None:
    policy = (
        TriageRule(name="now", classes=("emergency",), min_probability=0.5, level="STAT"),
        TriageRule(name="soon", min_probability=0.5, level="HIGH"),
    )
    levels = {c: prioritise([said()], policy, Context(patient_class=c)).level for c in ("emergency", "outpatient", "")}
    assert levels == {"emergency": Level.STAT, "outpatient": Level.HIGH, "": Level.HIGH}


def test_a_rule_may_ask_for_a_length_a_model_and_a_second_opinion() -> None:
    long = (TriageRule(name="long", min_long_axis_mm=10, level="STAT"),)
    assert [prioritise([said(axis=a)], long).level for a in (None, 9.9, 10.0)] == [
        Level.ROUTINE, Level.ROUTINE, Level.STAT
    ]  # fmt: skip
    one = (TriageRule(name="one", models=("a",), level="STAT"),)
    assert [prioritise([said(m)], one).level for m in ("a", "b")] == [Level.STAT, Level.ROUTINE]
    two = (TriageRule(name="two", agreeing=2, min_probability=0.5, level="STAT"), TriageRule(name="any", level="HIGH"))
    assert prioritise([said("a")], two).level is Level.HIGH
    assert prioritise([said("a"), said("b", EMBOLISM)], two).level is Level.HIGH
    assert prioritise([said("a"), said("b", probability=0.4)], two).level is Level.HIGH
    assert prioritise([said("a"), said("b")], two).level is Level.STAT


def test_of_two_findings_of_one_level_the_one_that_stands_first_in_the_table_goes_first() -> None:
    policy = (
        TriageRule(name="embolism", codes=(EMBOLISM[0],), level="STAT"),
        TriageRule(name="nodule", codes=(NODULE[0],), level="STAT"),
    )
    first, second = prioritise([said(concept=EMBOLISM, probability=0.5)], policy), prioritise([said()], policy)
    assert [p.key for p in order([("nodule", second, 0.0), ("embolism", first, 60.0)], 100.0)] == ["embolism", "nodule"]
    assert (first.rule, second.rule) == ("embolism", "nodule")


def test_an_order_and_a_person_raise_a_study_that_no_ai_reported_and_say_so() -> None:
    ordered = prioritise([], DEFAULT_POLICY, Context(ordered=Level.STAT))
    assert (ordered.level, ordered.reason) == (Level.STAT, "Ordered as STAT. No AI report: normal place")
    emergency = prioritise([], DEFAULT_POLICY, Context(patient_class="emergency", class_from=" (order)"))
    assert (emergency.level, emergency.rule) == (Level.HIGH, "emergency-patient")
    assert emergency.reason.startswith("Emergency patient (order). ")
    person = prioritise([], DEFAULT_POLICY, Context(set_level=Level.HIGH, comment="the ward called"))
    assert person.level is Level.HIGH
    assert "the ward called" in person.reason


@settings(max_examples=100, deadline=None)
@given(
    ordered=st.sampled_from([None, *Level]),
    person=st.sampled_from([None, *Level]),
    probability=st.one_of(st.none(), st.floats(0, 1)),
    patient_class=st.sampled_from(["", "emergency", "inpatient", "outpatient"]),
)
def test_nothing_lowers_what_another_raised(
    ordered: Level | None, person: Level | None, probability: float | None, patient_class: str
) -> None:
    context = Context(patient_class=patient_class, ordered=ordered, set_level=person)
    reports = [] if probability is None else [said(probability=probability)]
    level = RANK[prioritise(reports, DEFAULT_POLICY, context).level]
    assert level <= RANK[prioritise(reports, DEFAULT_POLICY, Context()).level]
    for floor in (ordered, person):
        assert floor is None or level <= RANK[floor]


def test_a_rule_without_a_finding_names_its_classes() -> None:
    with pytest.raises(ValueError, match="names the classes"):
        TriageRule(name="all", finding=False, level="STAT")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[Database, Reader]]:
    made = Settings(data=tmp_path / "data", patient_classes=(ClassRule(patient_class="inpatient", words=("ward",)),))
    database = prepare(made)
    for n in (1, 2, 3):
        add_study(
            database, f"1.{n}", accession_number=f"A{n}", patient_id=f"P{n}", first_instance_at=1000.0,
            last_instance_at=1000.0 + n, study_description="CT Ward round" if n == 3 else "CT chest",
        )  # fmt: skip
    yield database, Reader.of(made, database)
    database.close()


def levels(reader: Reader) -> dict[str, tuple[Level, str]]:
    return {e.study.study_uid: (e.level, e.patient_class) for e in reader.worklist(1100.0).entries}


def report(database: Database, study_uid: str, probability: float | None, status: str = "preliminary") -> None:
    """What a model said of the study; None: no finding."""
    made = bundle(study_uid, "ct-lung", "said", status)
    if probability is not None:
        finding = {
            "resourceType": "Observation", "status": "preliminary", "interpretation": [{"coding": [{"code": "POS"}]}],
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": EMBOLISM[0], "display": EMBOLISM[1]}]},
            "component": [
                {"code": {"coding": [{"code": "111047"}]}, "valueQuantity": {"value": 100 * probability, "code": "%"}}
            ],
        }  # fmt: skip
        made["entry"].append({"fullUrl": "urn:uuid:1", "resource": finding})
    with database.transaction() as session:
        row = session.scalars(select(ReportRow).where(ReportRow.study_uid == study_uid)).one_or_none()
        if row is None:
            row = ReportRow(id=f"r{study_uid}", study_uid=study_uid, model="ct-lung", issued_at=1.0, updated_at=0.0)
            session.add(row)
        row.status, row.bundle, row.updated_at = status, made, row.updated_at + 1


def test_an_order_is_found_by_accession_number_and_only_for_its_own_patient(node: tuple[Database, Reader]) -> None:
    database, reader = node
    with database.transaction() as session:
        made = Order(order_number="1", accession_number="A1", patient_id="P1", patient_class="emergency")
        orders.keep(session, made, 1.0)
        other = Order(order_number="2", accession_number="A2", patient_id="SOMEBODY", level=Level.STAT)
        orders.keep(session, other, 1.0)
    assert levels(reader) == {
        "1.1": (Level.HIGH, "emergency"), "1.2": (Level.ROUTINE, ""), "1.3": (Level.ROUTINE, "inpatient")
    }  # fmt: skip
    with database.transaction() as session:
        orders.keep(session, dataclasses.replace(made, cancelled=True), 2.0)
    assert levels(reader)["1.1"] == (Level.ROUTINE, "")


def test_an_older_message_does_not_undo_a_newer_one(node: tuple[Database, Reader]) -> None:
    database, _ = node
    with database.transaction() as session:
        newer = Order(order_number="1", accession_number="A1", level=Level.STAT, said_at="20261122101500")
        assert orders.keep(session, newer, 1.0)
        assert not orders.keep(session, dataclasses.replace(newer, level=None, said_at="20261122101459"), 2.0)
        assert orders.of_accessions(session, ["A1"])["A1"][0].level is Level.STAT


def test_an_amended_report_and_a_retracted_one_take_the_study_back_to_its_place(node: tuple[Database, Reader]) -> None:
    database, reader = node
    report(database, "1.1", 0.9)
    assert levels(reader)["1.1"][0] is Level.STAT
    report(database, "1.1", None, "amended")
    assert levels(reader)["1.1"][0] is Level.ROUTINE
    report(database, "1.1", 0.9, "amended")
    assert levels(reader)["1.1"][0] is Level.STAT
    report(database, "1.1", 0.9, "entered-in-error")
    assert levels(reader)["1.1"][0] is Level.ROUTINE


def test_what_a_person_set_is_kept_is_raised_only_and_can_be_taken_back(node: tuple[Database, Reader]) -> None:
    database, reader = node

    def set_it(level: Level) -> None:
        stands = reader.without_person("1.1")
        assert stands is not None
        priorities.set_level(database, "1.1", level, "called", 5.0, stands=stands)

    set_it(Level.HIGH)
    assert levels(reader)["1.1"][0] is Level.HIGH
    report(database, "1.1", 0.9)
    assert levels(reader)["1.1"][0] is Level.STAT
    report(database, "1.1", 0.9, "entered-in-error")
    assert levels(reader)["1.1"][0] is Level.HIGH
    report(database, "1.1", 0.9, "amended")
    with pytest.raises(RefusedError, match="stands at STAT"):
        set_it(Level.HIGH)
    priorities.undo(database, "1.1", 6.0)
    report(database, "1.1", None, "amended")
    assert levels(reader)["1.1"][0] is Level.ROUTINE
    with pytest.raises(RefusedError, match="nobody set"):
        priorities.undo(database, "1.1", 7.0)
    with database.reading() as session:
        assert [p.level for p in priorities.history(session, "1.1")] == [Level.HIGH, None]
        assert [e.sentence for e in events.of_study(session, "1.1")] == [
            "A person set the priority to HIGH (called).", "A person took back the priority HIGH."
        ]  # fmt: skip
