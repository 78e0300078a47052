import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from support.core import Node, dataset, encoded
from support.models import card
from support.objects import image
from support.store import arrival_of

from radnode import complete, pipeline, routing
from radnode.facts import image_excluded, only_inputs, study_facts
from radnode.route import Route, StudyFacts, decide, meets
from radnode.settings import Condition, Rule
from radnode.store import Store
from radnode.tables import RouteRow
from radnode_inference.model import Availability
from radnode_inference.study import GENERATOR_CREATOR, GENERATOR_CREATOR_TAG, GENERATOR_VERSION_TAG, Study

CARDS = tuple(card(name, "quick") for name in ("ct-lung", "ct-voco", "mr-breast-kinetics", "mr-breast-mome"))
KNEE = {"BodyPartExamined": "KNEE", "StudyDescription": "", "SeriesDescription": ""}


def study(folder: Path, *images: dict[str, Any], generated: bool = False) -> Study:
    """A study of these images; each a series of its own unless they name one."""
    files = []
    for number, elements in enumerate(images):
        ds = dataset("1.2.3", f"1.2.3.{number}.1", **{"SeriesInstanceUID": f"1.2.3.{number}"} | elements)
        if generated:
            ds.add_new(GENERATOR_CREATOR_TAG, "LO", GENERATOR_CREATOR)
            ds.add_new(GENERATOR_VERSION_TAG, "LO", "1")
        file = folder / f"{number}.dcm"
        file.write_bytes(encoded(ds))
        files.append(file)
    return Study.from_files(files)


def facts(
    folder: Path,
    *images: dict[str, Any],
    count: int = 1,
    rules: Any = None,
    generated: bool = False,
    called: tuple[str, ...] = ("RADNODE",),
) -> StudyFacts:
    read = study(folder, *images, generated=generated)
    counts = {s.series_uid: count for s in read.series}
    return study_facts(read, rules=rules, calling_ae="CT1", called_aes=called, images=counts)


def by_model(routes: tuple[Route, ...]) -> dict[str, Route]:
    assert len({r.model for r in routes}) == len(routes)
    return {r.model: r for r in routes}


def chosen(routes: tuple[Route, ...]) -> set[str]:
    return {r.model for r in routes if r.chosen}


CT = {"ct-lung", "ct-voco"}
MR = {"mr-breast-kinetics", "mr-breast-mome"}
SENT: list[tuple[str, dict[str, Any], int, set[str]]] = [
    ("chest by body part", {"StudyDescription": ""}, 1, CT),
    ("chest by study description", {"BodyPartExamined": "", "StudyDescription": "CT Thorax nativ"}, 1, CT),
    ("chest by series description", KNEE | {"SeriesDescription": "lung 1.0 B60"}, 1, CT),
    ("chest by protocol name", KNEE | {"ProtocolName": "TORAX"}, 1, CT),
    ("unlabelled large axial CT", {"BodyPartExamined": "", "StudyDescription": ""}, 200, CT),
    ("unlabelled small CT", {"BodyPartExamined": "", "StudyDescription": ""}, 20, set()),
    ("a head named only in words", {"BodyPartExamined": "", "StudyDescription": "CT Head"}, 200, set()),
    (
        "unlabelled coronal CT",
        {"BodyPartExamined": "", "StudyDescription": "", "ImageOrientationPatient": [1, 0, 0, 0, 0, -1]},
        200,
        set(),
    ),
    ("knee", KNEE, 500, set()),
    ("breast MR", {"Modality": "MR", "BodyPartExamined": "BREAST"}, 1, MR),
    ("breast MR by description", {"Modality": "MR", "BodyPartExamined": "", "StudyDescription": "MRT Mamma"}, 1, MR),
    ("breast MR in Spanish", {"Modality": "MR", "BodyPartExamined": "", "StudyDescription": "RM de mamas"}, 1, MR),
    ("breast MR in French", {"Modality": "MR", "BodyPartExamined": "", "StudyDescription": "IRM des seins"}, 1, MR),
    ("chest MR", {"Modality": "MR"}, 1, set()),
    ("breast CT", {"BodyPartExamined": "BREAST", "StudyDescription": ""}, 1, set()),
    ("chest radiograph", {"Modality": "DX"}, 1, set()),
]


@pytest.mark.parametrize(("elements", "count", "models"), [c[1:] for c in SENT], ids=[c[0] for c in SENT])
def test_studies_go_to_the_models_of_their_kind(
    tmp_path: Path, elements: dict[str, Any], count: int, models: set[str]
) -> None:
    routes = decide(facts(tmp_path, elements, count=count), CARDS)
    assert chosen(routes) == models
    assert {c.identity.name for c in CARDS} <= set(by_model(routes))
    assert all(r.reason for r in routes)
    assert ("" in by_model(routes)) == (not models)


EXCLUDED: list[tuple[str, dict[str, Any], str]] = [
    ("localizer", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
    ("secondary capture", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
    ("multi-frame secondary capture", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, "secondary capture"),
    ("report", {"Modality": "SR"}, "no image"),
    ("segmentation", {"Modality": "SEG"}, "no image"),
    ("made by radnode", {"Manufacturer": "radnode"}, "made it itself"),
    (
        "derived for research",
        {"ImageType": ["DERIVED", "SECONDARY"], "ContentQualification": "RESEARCH"},
        "not for clinical use",
    ),
    ("marked as quality control", {"QualityControlSubject": "YES"}, "its own header"),
    ("patient called phantom", {"PatientName": "PHANTOM^CT"}, "word PHANTOM"),
    ("patient ID with QA", {"PatientID": "QA_2026"}, "word QA"),
    ("description with QC", {"StudyDescription": "weekly qc"}, "word QC"),
    ("series of an ACR phantom", {"SeriesDescription": "ACR axial"}, "word ACR"),
]


@pytest.mark.parametrize(("elements", "why"), [c[1:] for c in EXCLUDED], ids=[c[0] for c in EXCLUDED])
def test_what_no_model_may_read_goes_nowhere_and_the_reason_says_why(
    tmp_path: Path, elements: dict[str, Any], why: str
) -> None:
    routes = decide(facts(tmp_path, elements, count=300), CARDS)
    assert chosen(routes) == set()
    assert len(routes) == 1 + len(CARDS)
    assert all(why in r.reason for r in routes)


@pytest.mark.parametrize(
    "elements",
    [
        {"PatientName": "QAISAR^ACRE"},
        {"PatientID": "12QC34"},
        {"StudyDescription": "CT chest, acromion"},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MPR"]},
        {"ContentQualification": "RESEARCH"},
        {"ContentQualification": "RESEARCH", "ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]},
        {"QualityControlSubject": "NO"},
    ],
    ids=str,
)
def test_a_patient_is_not_taken_for_a_phantom_nor_an_image_for_a_derived_one(
    tmp_path: Path, elements: dict[str, Any]
) -> None:
    assert chosen(decide(facts(tmp_path, elements), CARDS)) == CT


def test_a_generated_study_is_not_a_phantom_because_it_was_generated(tmp_path: Path) -> None:
    made = facts(tmp_path, {}, generated=True)
    assert made.generated
    assert chosen(decide(made, CARDS)) == CT


def test_a_generated_study_named_as_phantom_is_one(tmp_path: Path) -> None:
    assert chosen(decide(facts(tmp_path, {"StudyDescription": "CT phantom"}, generated=True), CARDS)) == set()


def test_what_the_rules_saw_is_said_once_and_only_what_differs_of_each_series(tmp_path: Path) -> None:
    elements = {"Modality": "CT", "BodyPartExamined": "KNEE", "StudyDescription": "CT KNEE"}
    one, other = elements | {"SeriesDescription": "bone"}, elements | {"SeriesDescription": "soft"}
    reason = by_model(decide(facts(tmp_path, one, other), CARDS))[""].reason
    assert reason.count("BodyPartExamined KNEE") == reason.count("StudyDescription CT KNEE") == 1
    assert reason.endswith("; in its series: SeriesDescription bone | SeriesDescription soft.")
    (tmp_path / "alone").mkdir()
    alone = by_model(decide(facts(tmp_path / "alone", one), CARDS))[""].reason
    assert "SeriesDescription bone" in alone and "in its series" not in alone


def test_a_name_never_stands_in_a_reason(tmp_path: Path) -> None:
    routes = decide(facts(tmp_path, {"PatientName": "MUSTER PHANTOM^X", "PatientID": "77"}), CARDS)
    assert all("MUSTER" not in r.reason and "77" not in r.reason for r in routes)


def test_one_localizer_does_not_keep_the_other_series_from_a_model(tmp_path: Path) -> None:
    localizer = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "BodyPartExamined": "CHEST"}
    routes = decide(facts(tmp_path, localizer, {}), CARDS)
    assert chosen(routes) == CT


def test_an_excluded_series_cannot_make_a_rule_match(tmp_path: Path) -> None:
    localizer = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "StudyDescription": ""}
    routes = decide(facts(tmp_path, localizer, KNEE), CARDS)
    assert chosen(routes) == set()
    assert "KNEE" in by_model(routes)[""].reason


def test_a_model_without_weights_is_not_chosen_and_says_so(tmp_path: Path) -> None:
    cards = (card("ct-lung", "quick"), card("ct-voco", "quick", Availability.NOT_INSTALLED))
    routes = by_model(decide(facts(tmp_path, {}), cards))
    assert routes["ct-lung"].chosen
    assert not routes["ct-voco"].chosen
    assert routes["ct-voco"].reason.startswith("not installed: weights missing (rule chest-ct")


@pytest.mark.parametrize("generated", [False, True])
def test_demonstration_weights_run_on_generated_studies_only(tmp_path: Path, generated: bool) -> None:
    cards = (card("ct-voco", "quick", Availability.DEMONSTRATION),)
    routes = decide(facts(tmp_path, {}, generated=generated), cards)
    assert by_model(routes)["ct-voco"].chosen is generated


def test_half_a_generated_study_is_not_a_generated_study(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    made, real = study(tmp_path / "a", {}, generated=True), study(tmp_path / "b", {})
    both = Study(study_uid="1.2.3", series=made.series + real.series)
    assert not study_facts(both, rules=None, images={}).generated


def test_a_site_has_its_own_rules_and_exclusions_still_hold(tmp_path: Path) -> None:
    rules = (
        Rule(
            name="emergency",
            models=("ct-lung",),
            urgency=10,
            when=(Condition(attribute="CallingAE", values=("ct1",)),),
        ),
        Rule(name="all-ct", models=("ct-lung",), when=(Condition(attribute="Modality", values=("CT",)),)),
        Rule(
            name="no-children",
            when=(Condition(attribute="PatientAge", test="starts-with", values=("00",)),),
        ),
    )
    routes = by_model(decide(facts(tmp_path, KNEE, rules=rules), CARDS, rules))
    assert (routes["ct-lung"].chosen, routes["ct-lung"].urgency) == (True, 10)
    assert "no rule names this model" in routes["ct-voco"].reason
    child = decide(facts(tmp_path, {"PatientAge": "004Y"}, rules=rules), CARDS, rules)
    assert chosen(child) == set() and "no-children" in child[0].reason
    phantom = decide(facts(tmp_path, {"QualityControlSubject": "YES"}, rules=rules), CARDS, rules)
    assert chosen(phantom) == set()


def test_a_rule_may_name_a_model_that_is_not_there(tmp_path: Path) -> None:
    rules = (Rule(name="r", models=("nowhere",), when=(Condition(attribute="Modality", values=("CT",)),)),)
    routes = by_model(decide(facts(tmp_path, {}, rules=rules), (), rules))
    assert not routes["nowhere"].chosen and "there is no model of this name here" in routes["nowhere"].reason


def test_a_study_without_one_readable_image_goes_nowhere() -> None:
    empty = StudyFacts(study_uid="1.2.3", calling_ae="", called_aes=(), generated=False, series=())
    assert [r.chosen for r in decide(empty, CARDS)] == [False] * 5


MEETS = [
    ("equals", "Chest ", "CHEST", True),
    ("equals", "CHESTS", "CHEST", False),
    ("contains", "UpperChestPelvis", "chest", True),
    ("starts-with", "CT chest", "ct", True),
    ("starts-with", "a CT", "ct", False),
    ("word", "ACR_phantom", "PHANTOM", True),
    ("word", "phantom-2", "PHANTOM", True),
    ("word", "phantomas", "PHANTOM", False),
    ("word", "QA1", "QA", False),
    ("word", "", "QA", False),
    ("at-least", "60", "60", True),
    ("at-least", "59.9", "60", False),
    ("at-least", "many", "60", False),
]


@pytest.mark.parametrize(("test", "value", "wanted", "met"), MEETS)
def test_each_test_of_a_condition(test: str, value: str, wanted: str, met: bool) -> None:
    assert meets(test, value, wanted) is met


def test_a_model_never_sees_an_excluded_image_also_within_a_series(tmp_path: Path) -> None:
    same = {"SeriesInstanceUID": "1.2.3.1"}
    localizer = same | {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    capture = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}
    inputs = only_inputs(study(tmp_path, same, localizer, same, capture))
    assert [len(s.headers) for s in inputs.series] == [2]
    assert not any(image_excluded(h) for s in inputs.series for h in s.headers)


def test_drawn_regions_reach_the_models_apart_from_the_images(tmp_path: Path) -> None:
    drawn = {"SeriesInstanceUID": "1.2.3.9", "Modality": "SEG", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}
    inputs = only_inputs(study(tmp_path, {"SeriesInstanceUID": "1.2.3.1"}, drawn))
    assert [s.series_uid for s in inputs.series] == ["1.2.3.1"]
    assert [s.series_uid for s in inputs.regions] == ["1.2.3.9"]


def test_a_study_that_came_to_two_titles_follows_the_rules_of_both(node: Node) -> None:
    titled = {
        title: Rule(name=title, models=(model,), when=(Condition(attribute="CalledAE", values=(title,)),))
        for title, model in (("RADNODE", "ct-lung"), ("AI_TEST", "ct-voco"))
    }
    rules = tuple(titled.values())
    ds = image(Modality="CT", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    store = Store(node.settings, node.database)

    def sent(called: str) -> int:
        """How many objects are counted into the study after it came."""
        store.put(replace(arrival_of(ds), called_ae=called), [encoded(ds)])
        return complete.settle(node.database, node.settings, since=0.0, now=time.time())

    def models() -> set[str]:
        settings = node.settings.model_copy(update={"rules": rules})
        return chosen(decide(routing.look(node.database, settings, ds.StudyInstanceUID), CARDS, rules))

    assert sent("RADNODE") == 1 and models() == {"ct-lung"}
    complete.complete(node.database, now=1e11)
    assert sent("AI_TEST") == 1 and models() == {"ct-lung", "ct-voco"}, "the same bytes, to another title"
    assert node.study(ds.StudyInstanceUID).instances == 1
    assert sent("AI_TEST") == sent("RADNODE") == 0, "known at both: nothing new"
    store.close()


def routed(node: Node) -> dict[str, str]:
    """What became of two studies, the first of which has something about it."""
    return {uid: str(node.study(uid).state) for uid in ("1.2.4", "1.2.5")}


def two_complete_studies(node: Node, **elements: Any) -> None:
    node.arrive(100.0, study_uid="1.2.4", **elements)
    node.arrive(101.0, study_uid="1.2.5")
    complete.settle(node.database, node.settings, since=100.0, now=101.0)
    assert complete.complete(node.database, now=200.0) == ("1.2.4", "1.2.5")


def test_a_study_that_cannot_be_looked_at_says_why_and_holds_up_no_other(node: Node) -> None:
    two_complete_studies(node, NumberOfFrames=2, ImageOrientationPatient=None)
    for file in (node.settings.data / "objects").glob("1.2.4*"):
        ds = pydicom.dcmread(file)
        ds.add_new("SharedFunctionalGroupsSequence", "LT", "no sequence")
        ds.save_as(file)
    assert pipeline.route(node.database, node.settings, CARDS) == 2
    assert routed(node)["1.2.4"] == "read"
    (why,) = [e.sentence for e in node.story("1.2.4").events if e.action == "not-routed"]
    assert why.startswith("The stored objects of this study cannot be looked at (AttributeError: ")


def test_a_study_whose_routes_cannot_be_kept_holds_up_no_other_and_is_tried_again(node: Node) -> None:
    two_complete_studies(node)
    forbidden = "CREATE UNIQUE INDEX only_once ON routes (study_uid, model)"
    with node.database.transaction() as session:
        session.execute(text(forbidden))
        session.add(RouteRow(study_uid="1.2.4", revision=0, model="ct-lung", chosen=False, urgency=0, reason=""))
    assert pipeline.route(node.database, node.settings, CARDS) == 1
    assert routed(node)["1.2.4"] == "complete" and routed(node)["1.2.5"] != "complete"
    with pytest.raises(IntegrityError):  # alone it fails aloud, for the clock to tell
        pipeline.route(node.database, node.settings, CARDS)
    with node.database.transaction() as session:
        session.execute(text("DROP INDEX only_once"))
    assert pipeline.route(node.database, node.settings, CARDS) == 1
