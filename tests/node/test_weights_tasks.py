"""Two tasks of one network, each a model of its own: live at once, with results, history and rules of its own."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from pydicom import dcmread
from support.chests import arrive
from support.core import Node, opened
from support.pages import serving
from support.weights import CARD, LUNG, bring

from radnode import weights_use
from radnode.cli import cli
from radnode.engine import REPORTER, Engine
from radnode.engine_child import read
from radnode.engine_messages import Answer, Spec, Task
from radnode.facts import study_facts
from radnode.retract import by_person
from radnode.route import Route, decide
from radnode.settings import Condition, Destination, Rule, Settings
from radnode.states import JobState
from radnode.studies import Story
from radnode.tables import ReportRow
from radnode.weights_use import Use
from radnode.work import Worker
from radnode_inference import registry, weights_store
from radnode_inference.model import Availability, ModelCard
from radnode_inference.study import Study
from radnode_inference.weights import WeightsError, remove

NETWORK, ONE, OTHER = "ct-voco", "ct-voco-lungs", "ct-voco-airways"
AIRWAYS = {"value": "110726009", "scheme": "SCT", "meaning": "Trachea and bronchus"}
CLASSES = {
    "lungs": CARD["classes"],
    "airways": [CARD["classes"][0], {"name": "airways", "kind": "anatomy", "concept": AIRWAYS}],
}
CHEST = {"modality": "CT", "region": ["CHEST", "LUNG"]}
NEVER = threading.Event()


class InProcess(Engine):
    """The engine without child processes: the same reading, in this one."""

    def run(self, card: ModelCard, task: Task, beat: Callable[[float], None], stop: Callable[[], bool]) -> Answer:
        weights = self._settings.weights_folder
        spec = Spec(card=card, device="cpu", weights=weights, reporter=REPORTER)
        nobody = SimpleNamespace(send=lambda _: None)
        return read(spec, registry.load(card, "cpu", weights), task, nobody)  # type: ignore[arg-type]  # it only sends


def install(node: Node, folder: Path, task: str, *, seed: int, version: str = "1") -> str:
    """Random weights of a task are live; their SHA-256."""
    file, card = bring(folder, seed=seed, version=version, task=task, classes=CLASSES[task], gates=CHEST)
    stored = weights_store.add([file], NETWORK, card, node.settings.weights_folder)
    weights_use.put(node.database, node.settings, stored.model, version, Use.LIVE, "anna")
    return stored.sha256


def live(node: Node) -> dict[str, str]:
    """Model -> the digest of the weights that are live, for each task."""
    cards = weights_use.live_cards(node.database, node.settings)
    return {c.identity.name: c.identity.weights_sha256 for c in cards if c.identity.name.startswith(f"{NETWORK}-")}


def of(story: Story, model: str, *kinds: str) -> list[Path]:
    return [Path(r.file) for r in story.results if r.current and r.model == model and r.kind in kinds]


def statuses(node: Node) -> dict[str, str]:
    with node.database.reading() as session:
        return {r.model: r.status for r in session.query(ReportRow)}


def test_two_tasks_of_one_network_read_one_study_and_neither_touches_the_other(tmp_path: Path) -> None:
    out = Destination(name="out", kind="folder", folder=tmp_path / "out")
    settings = Settings(data=tmp_path / "data", rules=(), destinations=(out,))
    with opened(settings) as node:
        lungs = install(node, tmp_path / "given", "lungs", seed=1)
        airways = install(node, tmp_path / "given", "airways", seed=2)
        assert live(node) == {ONE: lungs, OTHER: airways}, "no live version turned another off"

        study = arrive(node, settings.data / "first", 5)
        worker = Worker(settings, node.database, InProcess(settings), "w")
        assert [worker.turn(NEVER) for _ in range(3)] == [True, True, False]
        story = node.story(study)
        assert {j.model: j.state for j in story.jobs} == {ONE: JobState.DONE, OTHER: JobState.DONE}, story.jobs
        objects = {m: [dcmread(settings.data / f) for f in of(story, m, "sr", "seg")] for m in (ONE, OTHER)}
        for model, digest, concept in ((ONE, lungs, LUNG), (OTHER, airways, AIRWAYS)):
            (report,) = of(story, model, "fhir")
            body = (settings.data / report).read_text()
            assert {d.Modality for d in objects[model]} == {"SR", "SEG"}
            assert {d.ManufacturerModelName for d in objects[model]} == {model}
            assert digest in body and (lungs if digest == airways else airways) not in body
            assert [c for c in (LUNG, AIRWAYS) if json.dumps(c["value"]) in body] == [concept]
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber"):
            found = [{getattr(d, keyword) for d in objects[m]} for m in (ONE, OTHER)]
            assert not found[0] & found[1], keyword

        assert by_person(node.database, settings, study, ONE, "quality", "wrong", 1e6) == (ONE,)
        assert statuses(node) == {ONE: "entered-in-error", OTHER: "preliminary"}
        after = node.story(study)
        assert not of(after, ONE, "sr", "seg", "fhir")
        assert of(after, OTHER, "sr", "seg", "fhir") == of(story, OTHER, "sr", "seg", "fhir")

        newer = install(node, tmp_path / "given", "lungs", seed=3, version="2")
        assert live(node) == {ONE: newer, OTHER: airways}
        assert weights_use.rollback(node.database, settings, ONE, "anna") == "1"
        assert live(node) == {ONE: lungs, OTHER: airways}
        with serving(settings) as client:
            page = client.get("/models").text
            assert all(f'href="/models/{name}"' in page for name in (NETWORK, ONE, OTHER))
            assert airways in client.get(f"/models/{OTHER}").text


def weights(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["weights", *arguments])


def test_the_command_keeps_the_versions_of_each_task_apart(data: Path, tmp_path: Path) -> None:
    plain = bring(tmp_path / "given", seed=1)
    lungs = bring(tmp_path / "given", seed=2, task="lungs", gates=CHEST)
    whole = bring(tmp_path / "given", seed=3, task="whole")
    later = bring(tmp_path / "given", seed=4, model=ONE, version="2")
    said = [
        weights("add", str(file), "--model", model, "--card", str(card)).output.splitlines()
        for (file, card), model in ((plain, NETWORK), (lungs, NETWORK), (whole, NETWORK), (later, ONE))
    ]
    assert [lines[0].partition(" (")[0] for lines in said] == ["ct-voco 1", f"{ONE} 1", "ct-voco-whole 1", f"{ONE} 2"]
    assert [lines[0].rpartition("; ")[2] for lines in said] == ["it is live."] * 3 + ["it is off."]
    assert "Studies that show CHEST or LUNG go to it" in said[1][1]
    assert "It reads nothing yet" in said[2][1] and 'models = ["ct-voco-whole"]' in said[2][1]
    assert len(said[0]) == 1
    listed = [line.partition(";")[0] for line in weights("list").output.splitlines()]
    assert listed == ["ct-voco 1: live", f"{ONE} 1: live", f"{ONE} 2: off", "ct-voco-whole 1: live"]
    refused = weights("remove", ONE, "1")
    assert refused.exit_code == 1 and f"{ONE} 1 is live: turn it off first" in refused.output
    assert weights("use", ONE, "2", "live").output.splitlines()[1:] == [
        f"{ONE} 1, which was live, is off now: one version of a model is live at a time."
    ]
    assert weights("remove", ONE, "1").exit_code == 0
    assert weights("verify").output.count("ok ") == 3
    assert weights("use", ONE, "2", "off").exit_code == weights("remove", ONE, "2").exit_code == 0
    assert ONE not in CliRunner().invoke(cli, ["models"]).output, "a task without versions is no model any more"
    assert f"{ONE} 2: off -> removed" in weights("history", ONE).output


def test_a_template_takes_the_task_and_counts_its_own_versions(data: Path, tmp_path: Path) -> None:
    file, card = bring(tmp_path / "given")
    template = ("--template", "BTCV", "--name", "ours")
    for arguments, reason in (
        ((*template, "--task", "abdomen", "--model", NETWORK), "ours has 2 classes, its card 14"),  # got as far as the network
        ((*template, "--task", "No Name", "--model", NETWORK), "the task 'No Name' is no name of small letters"),
        ((*template, "--task", "abdomen", "--model", "ct-voco-chest"), "the model ct-voco-abdomen, not ct-voco-chest"),
        (("--card", str(card), "--task", "abdomen", "--model", NETWORK), "a card says its task itself"),
        (("--template", "mome-response", "--name", "o", "--task", "x", "--model", "mr-breast-mome-response"), "says its task itself"),
        (("--card", str(card), "--model", "ct-voco-Chest"), "there is no model 'ct-voco-Chest'"),
    ):  # fmt: skip
        refused = weights("add", str(file), *arguments)
        assert refused.exit_code == 1 and reason in refused.output, refused.output
    assert '# task = "abdomen"' in weights("template", "BTCV").output
    assert weights("list").stdout == ""


@pytest.mark.parametrize(
    ("model", "card", "reason"),
    [
        (NETWORK, {"task": "../x"}, "the task '../x' is no name"),
        (NETWORK, {"task": "lungs", "model": OTHER}, f"is for the model {OTHER}, not {ONE}"),
        (OTHER, {"task": "lungs"}, "is for the model ct-voco-airways, not ct-voco-lungs"),
        (ONE, {"model": NETWORK}, f"is for the model {NETWORK}, not {ONE}: its task makes the name"),
        (NETWORK, {"tasks": "lungs"}, "the key 'tasks' is not known; 'task' is"),
    ],
)
def test_a_card_for_another_model_is_refused(tmp_path: Path, model: str, card: dict[str, str], reason: str) -> None:
    file, path = bring(tmp_path / "given", **card)
    with pytest.raises(WeightsError, match=reason):
        weights_store.add([file], model, path, tmp_path / "site")
    assert not any((tmp_path / "site").rglob("*.safetensors"))


def test_a_folder_that_somebody_copied_is_no_task(tmp_path: Path) -> None:
    file, card = bring(tmp_path / "given")
    stored = weights_store.add([file], NETWORK, card, tmp_path / "site")
    copied = tmp_path / "site" / "ct-voco-backup" / "1"
    copied.mkdir(parents=True)
    for path in stored.path.parent.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    found = registry.card("ct-voco-backup", tmp_path / "site")
    assert found.availability is Availability.NOT_INSTALLED
    assert "card.json is for the model ct-voco, not ct-voco-backup" in found.identity.intended_use


def test_a_task_that_is_live_and_whose_files_are_gone_is_told_not_forgotten(tmp_path: Path) -> None:
    file, card = bring(tmp_path / "given", task="lungs")
    weights_store.add([file], NETWORK, card, tmp_path / "site")
    remove(ONE, "1", tmp_path / "site")
    assert ONE not in {c.identity.name for c in registry.cards(tmp_path / "site")}
    found = registry.card(ONE, tmp_path / "site", {ONE: "1"})
    assert "the version 1 of ct-voco-lungs is in use, and its card is not in" in found.identity.intended_use


RULE = Rule(name="mine", models=(ONE,), when=(Condition(attribute="CallingAE", values=("CT1",)),))


def by_model(place: Path, cards: tuple[ModelCard, ...], rules: tuple[Rule, ...] | None) -> dict[str, Route]:
    study = Study.from_folder(place)
    facts = study_facts(study, rules=rules, calling_ae="CT1", images={})
    return {r.model: r for r in decide(facts, cards, rules)}


def test_a_card_sends_the_studies_of_its_region_unless_a_rule_names_its_model(tmp_path: Path) -> None:
    from radnode_inference.generator import chest
    from radnode_inference.generator.dicom_parts import Order
    from radnode_inference.generator.dicom_writer import write_chest

    made = chest.phantom(5, nodules=False, shape=(12, 24, 24))
    write_chest(made, tmp_path / "chest", Order(patient_name="T", patient_id="1", body_part="CHEST"))
    places = {"chest": ["CHEST"], "abdomen": ["ABDOM"], "whole": []}
    for seed, (task, region) in enumerate(places.items()):
        file, card = bring(tmp_path / "given", seed=seed, task=task, gates={"region": region})
        weights_store.add([file], NETWORK, card, tmp_path / "site")
    cards = tuple(c for c in registry.cards(tmp_path / "site") if c.takes_weights)
    for rules in (None, (RULE.model_copy(update={"models": ("ct-lung",)}),)):
        routes = by_model(tmp_path / "chest", cards, rules)
        assert routes["ct-voco-chest"].chosen
        assert (
            "no rule names this model" in routes["ct-voco-chest"].reason and "CHEST" in routes["ct-voco-chest"].reason
        )
        assert routes["ct-voco-abdomen"].reason.startswith("rule card-of-ct-voco-abdomen did not match. Looked at")
        assert routes["ct-voco-whole"].reason.startswith("no rule names this model. Looked at")
        assert not routes["mr-breast-mome-response"].chosen, "of the package's own models only rules decide"
    named = RULE.model_copy(update={"models": ("ct-voco-abdomen", "ct-voco-chest"), "urgency": 3})
    routes = by_model(tmp_path / "chest", cards, (named,))
    assert [(routes[m].chosen, routes[m].urgency) for m in ("ct-voco-abdomen", "ct-voco-chest")] == [(True, 3)] * 2
    other = named.model_copy(update={"when": (Condition(attribute="CallingAE", values=("CT9",)),)})
    assert not by_model(tmp_path / "chest", cards, (other,))["ct-voco-chest"].chosen, (
        "the site's rule holds, not the card"
    )
    off = registry.cards(tmp_path / "site", {"ct-voco-chest": ""})
    assert "no rule names this model (off: no version" in by_model(tmp_path / "chest", off, ())["ct-voco-chest"].reason
