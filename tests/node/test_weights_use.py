"""Which version is live, in shadow or off: the history, the command, and what the worker makes of it."""

import threading
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors import SafetensorError
from sqlalchemy import select
from sqlalchemy.orm import Session
from support.chests import arrive
from support.core import Node
from support.weights import bring

from radnode import shadow, weights_use
from radnode.cli import cli
from radnode.commands.weights import card_of, free_number
from radnode.database import Database
from radnode.engine import Engine
from radnode.settings import Condition, Destination, Rule, Settings, load
from radnode.states import JobState
from radnode.tables import JobRow, ShadowRow
from radnode.weights_use import Use, UseError
from radnode.work import Worker
from radnode.worklist import Reader
from radnode_inference import weights_store
from radnode_inference.model import Availability

VOCO = "ct-voco"
NEVER = threading.Event()


def stand(settings: Settings, *versions: str) -> None:
    """Folders of versions, as far as the setting looks at them."""
    for version in versions:
        folder = settings.weights_folder / VOCO / version
        folder.mkdir(parents=True)
        (folder / "card.json").write_text("{}")


def now(node: Node) -> dict[tuple[str, str], Use]:
    with node.database.reading() as session:
        return weights_use.uses(weights_use.history(session))


def test_one_version_is_live_and_the_history_tells_who_changed_what(node: Node) -> None:
    stand(node.settings, "1", "2")
    for version, use, who in (("1", Use.LIVE, "anna"), ("2", Use.SHADOW, "anna"), ("2", Use.LIVE, "berta")):
        weights_use.put(node.database, node.settings, VOCO, version, use, who)
    assert now(node) == {(VOCO, "1"): Use.OFF, (VOCO, "2"): Use.LIVE}
    with node.database.reading() as session:
        told = [(c.version, c.before, c.use, c.who) for c in weights_use.history(session, VOCO)]
        assert weights_use.in_use(weights_use.history(session)) == {VOCO: "2"}
    assert told == [
        ("1", "", "live", "anna"), ("2", "", "shadow", "anna"), ("1", "live", "off", "berta"), ("2", "shadow", "live", "berta"),
    ]  # fmt: skip


def test_the_same_setting_twice_is_one_line_of_history(node: Node) -> None:
    stand(node.settings, "1")
    for _ in range(2):
        weights_use.put(node.database, node.settings, VOCO, "1", Use.LIVE, "anna")
    with node.database.reading() as session:
        assert len(weights_use.history(session)) == 1


def test_of_two_people_who_decide_at_once_one_has_the_last_word(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    stand(node.settings, "1", "2")
    both, read = threading.Barrier(2), weights_use.history

    def slowly(session: Session, model: str = "") -> tuple[weights_use.Change, ...]:
        found = read(session, model)
        with suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.5)  # where the other may read as well, it has by then
        return found

    monkeypatch.setattr(weights_use, "history", slowly)
    each = [
        threading.Thread(target=weights_use.put, args=(node.database, node.settings, VOCO, v, Use.LIVE, "anna"))
        for v in ("1", "2")
    ]
    for one in each:
        one.start()
    for one in each:
        one.join()
    monkeypatch.undo()
    assert sorted(now(node).values()) == [Use.LIVE, Use.OFF]


def test_rollback_makes_the_version_live_that_was_so_before(node: Node) -> None:
    stand(node.settings, "1", "2")
    with pytest.raises(UseError, match="no other version of ct-voco that is still installed was ever live"):
        weights_use.rollback(node.database, node.settings, VOCO, "anna")
    for version in ("1", "2"):
        weights_use.put(node.database, node.settings, VOCO, version, Use.LIVE, "anna")
    assert weights_use.rollback(node.database, node.settings, VOCO, "anna") == "1"
    assert now(node) == {(VOCO, "1"): Use.LIVE, (VOCO, "2"): Use.OFF}


def test_a_version_that_is_not_there_cannot_be_used(node: Node) -> None:
    with pytest.raises(UseError, match="there is no version 7 of ct-voco"):
        weights_use.put(node.database, node.settings, VOCO, "7", Use.LIVE, "anna")


def test_a_model_whose_versions_are_all_off_is_off_and_one_whose_versions_are_gone_is_as_before(node: Node) -> None:
    stand(node.settings, "1")
    weights_use.put(node.database, node.settings, VOCO, "1", Use.OFF, "anna")
    assert voco(node) is Availability.OFF
    (node.settings.weights_folder / VOCO / "1" / "card.json").unlink()
    weights_use.put(node.database, node.settings, VOCO, "1", Use.REMOVED, "anna")
    assert voco(node) is Availability.DEMONSTRATION


def voco(node: Node) -> Availability:
    cards = weights_use.live_cards(node.database, node.settings)
    return next(c.availability for c in cards if c.identity.name == VOCO)


def weights(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["weights", *arguments])


def test_the_command_from_adding_to_removing(data: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        file, card = bring(tmp_path / "given", seed=seed, version=str(seed))
        added = weights("add", str(file), "--model", VOCO, "--card", str(card), "--who", "anna")
        assert added.exit_code == 0, added.output
        assert added.output.endswith("it is live.\n" if seed == 1 else "it is off.\n")
    assert weights("use", VOCO, "2", "shadow", "--who", "berta").output == "ct-voco 2 is shadow.\n"
    listed = weights("list").output.splitlines()
    assert [line.partition(";")[0] for line in listed] == ["ct-voco 1: live", "ct-voco 2: shadow"]
    refused = weights("remove", VOCO, "2")
    assert refused.exit_code == 1
    assert "ct-voco 2 is shadow: turn it off first" in refused.output
    assert weights("use", VOCO, "2", "live").exit_code == 0
    assert weights("rollback", VOCO).output == "ct-voco 1 is live again.\n"
    assert weights("verify").exit_code == 0
    path = data / "weights" / VOCO / "1" / "weights.safetensors"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    wrong = weights("verify", VOCO, "1")
    assert wrong.exit_code == 1
    assert wrong.output.startswith("WRONG ct-voco 1: weights.safetensors has SHA-256")
    assert weights("remove", VOCO, "2", "--who", "anna").output == "ct-voco 2 is removed.\n"
    assert [line.partition(" ")[2].partition(" ")[2] for line in weights("history").output.splitlines()][:2] == [
        "ct-voco 1: new -> live, by anna", "ct-voco 2: new -> off, by anna",
    ]  # fmt: skip
    assert weights("history").output.splitlines()[-1].endswith("ct-voco 2: off -> removed, by anna")


def test_a_broken_card_is_named_in_the_list_and_hides_no_other(data: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        file, card = bring(tmp_path / "given", seed=seed, version=str(seed))
        assert weights("add", str(file), "--model", VOCO, "--card", str(card)).exit_code == 0
    broken = data / "weights" / VOCO / "1" / "card.json"
    broken.chmod(0o644)
    broken.write_text("{")
    first, second = weights("list").output.splitlines()
    assert first.startswith("ct-voco 1: live; WRONG: ") and "cannot be read" in first
    assert second.startswith("ct-voco 2: off; ")
    assert "ct-voco 1, which was live, is off now" in weights("use", VOCO, "2", "live").output


def test_the_second_checkpoint_by_a_template_has_a_number_of_its_own(data: Path, tmp_path: Path) -> None:
    file, card = bring(tmp_path / "given", version="1")
    template = tmp_path / "BTCV.toml"
    with card_of(None, "BTCV", "ours", "2", given=False) as made:
        template.write_text(made.read_text())
    assert 'name = "ours"\n' in template.read_text() and 'version = "2"\n' in template.read_text()
    assert weights("add", str(file), "--model", VOCO, "--card", str(card)).exit_code == 0
    settings = load()
    database = Database(settings.url)
    try:
        assert free_number(database, VOCO, settings) == "2"
        weights("use", VOCO, "1", "off")
        weights("remove", VOCO, "1")
        assert free_number(database, VOCO, settings) == "2", "a number is not given twice"
    finally:
        database.close()
    refused = weights("add", str(file), "--model", VOCO, "--card", str(card), "--version", "3")
    assert "--version goes with --template" in refused.output


def test_a_template_and_a_name_are_a_card(data: Path, tmp_path: Path) -> None:
    names = [line.partition(":")[0] for line in weights("templates").output.splitlines()]
    assert {"mome-malignancy", "BTCV", "Totalsegmentator", "BRATS"} <= set(names)
    for name, model in (("mome-malignancy", "mr-breast-mome"), ("BTCV", "ct-voco")):
        assert f'model = "{model}"' in weights("template", name).output
    refused = weights("template", "BRATS")
    assert (refused.exit_code, len(refused.output.splitlines())) == (1, 1)
    file, _ = bring(tmp_path / "given")
    wrong = weights("add", str(file), "--model", VOCO, "--template", "BTCV", "--name", "ours")
    assert (wrong.exit_code, wrong.output) == (1, "radnode: ours has 2 classes, its card 14\n")
    assert "give --card, or --template" in weights("add", str(file), "--model", VOCO).output


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device")]
)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object) -> None:
        raise error

    file, card = bring(tmp_path / "given")
    monkeypatch.setattr(weights_store, "save_file", full)
    refused = weights("add", str(file), "--model", VOCO, "--card", str(card))
    assert (refused.exit_code, len(refused.output.splitlines())) == (1, 1)
    assert "No space left on device" in refused.output
    assert not [p for p in (data / "weights").rglob("*") if p.is_file()]


def test_a_refusal_is_one_line_and_exit_code_1(data: Path, tmp_path: Path) -> None:
    file, card = bring(tmp_path / "given", intended_use="")
    for arguments, reason in (
        ((str(file), "--model", VOCO, "--card", str(card)), "intended_use: String should have at least 1 character"),
        ((str(file), "--model", "nothing", "--card", str(card)), "there is no model 'nothing'"),
        ((str(file), "--model", VOCO, "--card", "none.toml"), "none.toml cannot be read"),
    ):
        refused = weights("add", *arguments)
        assert refused.exit_code == 1
        assert reason in refused.output
        assert len(refused.output.splitlines()) == 1
    assert weights("list").stdout == ""


def made_by(node: Node, study_uid: str) -> str:
    """The FHIR result of a study as text: it names the digest of the weights."""
    (result,) = [r for r in node.story(study_uid).results if r.kind == "fhir" and r.current]
    return (node.settings.data / result.file).read_text()


def test_a_change_holds_from_the_next_job_on_and_a_version_in_shadow_is_recorded_but_never_reported(
    tmp_path: Path,
) -> None:
    from radnode import migrations
    from radnode.database import Database

    rule = Rule(name="ct", models=(VOCO,), when=(Condition(attribute="Modality", values=("CT",)),))
    out = Destination(name="out", kind="folder", folder=tmp_path / "out")
    settings = Settings(data=tmp_path / "data", rules=(rule,), destinations=(out,))
    settings.data.mkdir()
    migrations.upgrade(settings.url)
    node = Node(settings=settings, database=Database(settings.url))
    stored = {}
    for version in ("1", "2", "3"):
        file, card = bring(tmp_path / "given", seed=int(version), version=version)
        stored[version] = weights_store.add([file], VOCO, card, settings.weights_folder).sha256
    weights_use.put(node.database, settings, VOCO, "1", Use.LIVE, "anna")
    weights_use.put(node.database, settings, VOCO, "2", Use.SHADOW, "anna")
    with Engine(settings) as engine:
        worker = Worker(settings, node.database, engine, "w")
        first = arrive(node, settings.data / "first", 5)
        assert worker.turn(NEVER), "the job"
        reported = node.story(first)
        assert [j.state for j in reported.jobs] == [JobState.DONE], reported.jobs[0].reason
        assert stored["1"] in made_by(node, first)
        before = Reader(node.database, settings.triage).entry(first, 10.0)

        assert worker.turn(NEVER), "the run in shadow"
        assert not worker.turn(NEVER)
        story = node.story(first)
        (run,) = story.shadow
        assert (run.version, run.state, run.weights_sha256) == ("2", JobState.DONE, stored["2"])
        assert shadow.in_words(run).startswith("shadow, not reported: ct-voco 2, done: lungs, Volume ")
        assert (story.results, story.deliveries, story.jobs) == (reported.results, reported.deliveries, reported.jobs)
        assert Reader(node.database, settings.triage).entry(first, 10.0) == before
        assert not any(
            stored["2"] in p.read_text(errors="replace") for p in (settings.data / "results").rglob("*.json")
        )

        weights_use.put(node.database, settings, VOCO, "2", Use.LIVE, "anna")
        second = arrive(node, settings.data / "second", 6)
        assert worker.turn(NEVER)
        assert stored["2"] in made_by(node, second), "the warm worker noticed"
        assert not node.story(second).shadow
        assert len(engine.warm) == 2, "live and shadow lay beside each other"

        weights_use.put(node.database, settings, VOCO, "3", Use.LIVE, "anna")
        third = arrive(node, settings.data / "third", 7)
        assert worker.turn(NEVER)
        assert stored["3"] in made_by(node, third)
        assert len(engine.warm) == 1, "weights that were replaced are not kept"
    with node.database.reading() as session:
        assert len(session.scalars(select(JobRow)).all()) == 3
    node.database.close()


def test_a_run_in_shadow_whose_worker_was_lost_is_taken_up_again_and_ends_at_last(node: Node) -> None:
    node.add_study()
    with node.database.transaction() as session:
        session.add(ShadowRow(study_uid="1.2.3", revision=1, model=VOCO, version="2", state="queued", created_at=1.0))
    work = node.settings.work.model_copy(update={"lost_after_s": 10.0, "attempts": 2})
    settings = node.settings.model_copy(update={"work": work})
    assert shadow.claim(node.database, settings, "a", 100.0) is not None
    assert shadow.claim(node.database, settings, "b", 105.0) is None, "the first is alive"
    again = shadow.claim(node.database, settings, "b", 120.0)
    assert again is not None and again.attempt == 2
    assert shadow.claim(node.database, settings, "c", 140.0) is None
    with node.database.reading() as session:
        (run,) = shadow.runs(session, "1.2.3")
    assert (run.state, run.reason) == (JobState.FAILED, "its worker was lost")
