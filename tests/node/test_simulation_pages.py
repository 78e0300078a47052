"""Simulations asked for on the page: another process computes them, their progress is seen, a draft is compared."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from support.filled import Filled, fill
from support.pages import serving
from support.results import add_study

from radnode import readings, start
from radnode.cli import cli
from radnode.database import Database
from radnode.settings import Ageing, ClassRule, Settings, TriageRule
from radnode.simulation import compare, recorded, runs, show
from radnode.simulation.draft import parse, written
from radnode.simulation.room import Room, by_worklist
from radnode.simulation.runs import LOST_S, Asked, State
from radnode.simulation.traffic import NOTHING, Arrival, Description, Patients
from radnode.tables_monitoring import SimulationRow
from radnode.triage import DEFAULT_POLICY, Level, Priority
from radnode.web.simulation_pages import asked_of

DRAFT = '[[triage]]\nname = "all"\nlevel = "STAT"\n[ageing]\nroutine_min = 60.0\n'


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    made = fill(tmp_path_factory.mktemp("node"), triage_shadow=(TriageRule(name="in-shadow", level="STAT"),))
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def client(filled: Filled) -> Iterator[httpx.Client]:
    with serving(filled.settings) as made:
        yield made


def ended(filled: Filled, number: int, seconds: float = 250.0) -> runs.Run:
    until = time.monotonic() + seconds
    while True:
        with filled.database.reading() as session:
            run = runs.run(session, number)
        assert run is not None
        if run.state is not State.RUNNING:
            return run
        assert time.monotonic() < until, f"after {seconds} s at {run.progress:.0%}"
        time.sleep(0.05)


def test_a_described_room_is_simulated_with_a_draft_on_the_same_studies(filled: Filled, client: httpx.Client) -> None:
    form = {
        "source": "described",
        "studies": "1000",
        "trials": "25",
        "with_draft": "yes",
        "draft": DRAFT,
        "load": "0.8",
    }
    answer = client.post("/triage/simulation", data=form)
    assert answer.status_code == 200
    number = int(answer.url.path.rsplit("/", 1)[1])
    run = ended(filled, number)
    assert (run.state, run.progress, run.reason) == (State.DONE, 1.0, "")
    assert set(run.result) == {"current", "draft"}
    shown, drafted = ({row["group"]: row for row in run.result[name]["rows"]} for name in ("current", "draft"))
    for row, theory_min in ((shown["HIGH"], 9.913), (shown["ROUTINE"], 49.564)):
        assert row["with"]["mean"] == pytest.approx(theory_min, rel=0.03), (
            "Cobham's formula, by hand: 8/0.807 and 8/(0.807*0.2)"
        )
    assert "HIGH" not in drafted and "STAT" not in shown
    waited = drafted["STAT"]["with"]["mean"]
    assert shown["HIGH"]["with"]["mean"] < waited < drafted["STAT"]["without"]["mean"], "what is overdue has its turns"
    assert drafted["ROUTINE"]["without"]["mean"] == shown["ROUTINE"]["without"]["mean"], "the same studies"
    page = client.get(f"/triage/simulation/{number}").text
    assert "The draft" in page and "The price:" in page and page.count("<polyline") >= 8
    assert f'href="/triage/simulation/{number}"' in client.get("/triage/simulation").text


def test_the_form_says_who_the_patients_are_and_the_result_how_long_they_wait(
    filled: Filled, client: httpx.Client
) -> None:
    asked = asked_of({"source": "described", "emergency": "0.3", "inpatient": "", "studies": "300", "trials": "1"})
    assert asked.room.classes == (Patients(patient_class="emergency", share=0.3),)
    assert asked_of({"emergency": "0"}).room.solved, "nobody of a class: theory is shown"
    now = time.time()
    with filled.database.transaction() as session:
        row = SimulationRow(asked=asked.model_dump(mode="json"), state="running", created_at=now, beat_at=now)
        session.add(row)
        session.flush()
        number = row.id
    runs.compute(filled.database, filled.settings, number, lambda: True)
    rows = {row["group"]: row for row in ended(filled, number).result["current"]["rows"]}
    waits = rows["emergency patients"]
    assert 60 < waits["studies"] < 110 and waits["with"]["mean"] < 0.8 * waits["without"]["mean"]
    told = {"accept-language": "zh-TW"}
    assert "急診病人" in client.get(f"/triage/simulation/{number}", headers=told).text
    form = client.get("/triage/simulation", headers=told).text
    assert "急診病人比例" in form and 'name="emergency"' in form


def test_the_nodes_own_traffic_is_simulated(filled: Filled, client: httpx.Client) -> None:
    answer = client.post("/triage/simulation", data={"source": "recorded", "since_days": "2", "trials": "2"})
    run = ended(filled, int(answer.url.path.rsplit("/", 1)[1]))
    rows = {row["group"]: row for row in run.result["current"]["rows"]}
    assert (rows["HIGH"]["studies"], rows["ROUTINE"]["studies"]) == (2 * 2, 2 * 5)
    assert "diseased" not in rows, "nobody knows who was"


def test_what_cannot_be_simulated_is_refused_with_a_sentence(client: httpx.Client) -> None:
    for form, words in (
        ({"studies": "5"}, "studies"),
        ({"load": "1.5"}, "load"),
        ({"emergency": "1.5"}, "share"),
        ({"emergency": "0.7", "inpatient": "0.4"}, "together more than 1"),
        ({"per_hour": "x"}, "could not convert"),
        ({"with_draft": "yes", "draft": "[[triage]]\nname = 3"}, "rule 0"),
        ({"with_draft": "yes", "draft": "[web]\nport = 1"}, "not web"),
        ({"with_draft": "yes", "draft": "= ="}, "no TOML"),
    ):
        answer = client.post("/triage/simulation", data=form)
        assert answer.status_code == 422 and words.lower() in answer.text.lower(), (form, words)
    assert client.get("/triage/simulation/99999").status_code == 404
    assert client.post("/triage/simulation/99999/cancel").status_code == 409


def test_one_runs_at_a_time_and_can_be_cancelled_and_a_lost_one_is_failed(filled: Filled, client: httpx.Client) -> None:
    now = time.time()
    asked = Asked().model_dump(mode="json")
    with filled.database.transaction() as session:
        row = SimulationRow(asked=asked, state="running", created_at=now, beat_at=now)
        session.add(row)
        session.flush()
        number = row.id
    assert client.post("/triage/simulation", data={"studies": "100", "trials": "1"}).status_code == 409
    page = client.get(f"/triage/simulation/{number}").text
    assert "<progress" in page
    assert client.post(f"/triage/simulation/{number}/cancel").status_code == 200
    runs.compute(filled.database, filled.settings, number, lambda: True)
    assert ended(filled, number).state is State.CANCELLED, "what is not wanted any more changes nothing"
    with filled.database.transaction() as session:
        session.add(SimulationRow(asked=asked, state="running", created_at=now, beat_at=now - LOST_S - 1))
    with filled.database.transaction() as session:
        runs.forget_lost(session, now)
        assert {r.reason for r in runs.runs(session) if r.state is State.FAILED} == {"its process was lost"}


def test_the_limits_of_the_settings_count_in_a_simulation() -> None:
    """Urgent studies without end: the plain one is read when its limit, and not the default, is due."""
    urgent = Priority(level=Level.HIGH, reason="", probability=0.9, abnormal=True)
    flood = [Arrival(at_s=550.0 * i, reading_s=600, flag=urgent) for i in range(60)]
    plain = Arrival(at_s=1.0, reading_s=600)
    pick = by_worklist(Ageing(routine_min=80, due_at=0.5))
    [waited] = [r.wait_s for r in Room([flood[0], plain, *flood[1:]], 1, pick).run() if r.arrival is plain]
    assert 40 * 60 <= waited <= 40 * 60 + 2 * 600


def test_a_study_stands_by_its_order_until_the_ai_has_answered() -> None:
    before = Priority(level=Level.STAT, reason="")
    first, ordered = Arrival(at_s=0, reading_s=600), Arrival(at_s=20, reading_s=600, before=before, flagged_at_s=1e9)
    plain = Arrival(at_s=10, reading_s=600, flag=NOTHING)
    reads = [r.arrival for r in Room([first, plain, ordered], 1, by_worklist()).run()]
    assert reads == [first, ordered, plain]


def test_recorded_traffic_is_the_same_in_each_trial_but_for_the_reading_times(filled: Filled) -> None:
    came = recorded.recorded(filled.database, DEFAULT_POLICY, time.time() - 86400)
    one, two = recorded.trials(came, Description(), 2, seed=1)
    assert [a.at_s for a in one] == [a.at_s for a in two] and len(one) == 7
    assert [a.reading_s for a in one] != [a.reading_s for a in two]


def test_recorded_studies_are_counted_by_the_class_of_their_patient(filled: Filled) -> None:
    classes = (ClassRule(patient_class="emergency", words=("MR",)),)
    came = recorded.recorded(filled.database, DEFAULT_POLICY, time.time() - 86400, classes)
    named = sum(c.patient_class == "emergency" for c in came)
    traffic = recorded.trials(came, Description(), 1, seed=1)
    studies = {r.group: r.without.studies for r in compare.compare(Description(), DEFAULT_POLICY, traffic=traffic).rows}
    assert 0 < named < len(came) and studies["emergency patients"] == named
    assert studies["all"] == len(came) and "inpatients" not in studies


def test_recorded_traffic_shows_beside_the_simulation_how_long_the_studies_really_waited(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    start.prepare(settings)
    database = Database(settings.url)
    now = time.time()
    for number in range(4):
        at = now - 5400 - 60 * number
        add_study(database, f"1.{number}", state="read", first_instance_at=at - 9, last_instance_at=at)
        if number < 3:  # the last one nobody read
            readings.mark(database, f"1.{number}", 1, "Ada", at - 9 + 1200 + 600 * number)
    room = Description(reading_min=10)
    came = recorded.recorded(database, DEFAULT_POLICY, now - 86400)
    result = compare.compare(
        room, DEFAULT_POLICY, traffic=recorded.trials(came, room, 3, seed=1), really=recorded.as_it_was(came, room)
    )
    really = {row.group: row.really for row in result.rows}
    assert set(really) == {"all", "ROUTINE"}
    for waits in really.values():
        assert waits is not None
        assert (waits.studies, waits.mean, waits.longest) == (3, pytest.approx(20), pytest.approx(30))
    done = CliRunner().invoke(
        cli, ["triage", "simulate", "--from", "2000-01-01", "--trials", "2"], env={"RADNODE_DATA": str(tmp_path)}
    )
    assert done.exit_code == 0, done.output
    assert "As it was: until a study was marked as read, less the mean reading time." in done.output
    assert "20.0" in done.output and "(3)" in done.output
    page = show.page(result)
    assert "as it was" in page and "<td>3</td><td>20.0</td><td>30</td>" in page
    database.close()


def test_a_policy_as_text_is_the_policy() -> None:
    rules = (*DEFAULT_POLICY, TriageRule(name="x", codes=('a"b\\',), models=("m",), agreeing=2, level="HIGH"))
    ageing = Ageing(high_min=99)
    assert parse(written(rules, ageing), Ageing()) == (rules, ageing)


def test_a_policy_file_for_the_command_may_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from radnode.commands.triage import policy_of

    monkeypatch.setattr("radnode.settings.load", lambda: Settings(data=tmp_path, ageing=Ageing(stat_min=7)))
    file = tmp_path / "policy.toml"
    file.write_text(DRAFT)
    assert policy_of(file)[1].routine_min == 60
    assert policy_of(None)[1].stat_min == 7


@pytest.mark.parametrize("field", ["reading_min", "ai_latency_min", "per_hour", "load", "prevalence", "since_days"])
def test_what_has_no_end_is_not_simulated_and_the_page_stays(client: httpx.Client, field: str) -> None:
    source = "recorded" if field == "since_days" else "described"
    for value in ("inf", "nan", "1e300", "-1"):
        answer = client.post("/triage/simulation", data={"source": source, field: value, "studies": "100"})
        assert answer.status_code == 422 and 'role="alert"' in answer.text, value
    assert client.get("/triage/simulation").status_code == 200


def test_a_draft_that_is_nested_without_end_is_refused(client: httpx.Client) -> None:
    for path, form in (
        ("/triage/simulation", {"with_draft": "yes", "draft": "triage = " + "[" * 5000}),
        ("/rules/replay", {"draft": "rules = " + "[" * 5000}),
        ("/rules/try", {"draft": "rules = " + "{a=" * 5000, "study_uid": "1.2.3"}),
    ):
        answer = client.post(path, data=form)
        assert answer.status_code == 422 and "nested too deeply" in answer.text, path


def test_what_was_typed_in_a_draft_stays_where_another_field_is_wrong(client: httpx.Client) -> None:
    draft = '[[rules]]\nname = "mine"'
    for path, form in (("/rules/replay", {"days": "many"}), ("/rules/try", {"study_uid": " 1.2.3x "})):
        answer = client.post(path, data={"draft": draft} | form)
        assert answer.status_code == 422 and "&#34;mine&#34;" in answer.text, path
