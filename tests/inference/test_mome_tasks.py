"""MOME's other heads, ensembles of folds and test-time augmentations, with random weights on a generated examination."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import state_dicts

from radnode_inference import card_schema, registry
from radnode_inference.engines import record
from radnode_inference.findings import Findings, Kind
from radnode_inference.generator import breast
from radnode_inference.generator.dicom_parts import Order
from radnode_inference.generator.dicom_writer import write_breast
from radnode_inference.guards import Guards
from radnode_inference.models.breast_mri import cards
from radnode_inference.models.breast_mri.cards import MOME, MOME_RESPONSE, MOME_SUBTYPE
from radnode_inference.models.breast_mri.mome_augment import FLIPS, PLAIN, Augmentation, place
from radnode_inference.models.breast_mri.mome_ensemble import loaded
from radnode_inference.models.breast_mri.mome_input import InputSettings
from radnode_inference.models.breast_mri.mome_model import MomeModel
from radnode_inference.models.breast_mri.mome_settings import MomeSettings
from radnode_inference.study import Study
from radnode_inference.weights import WeightsError, WeightsFile, digest, read_card, read_settings, verify_all

CPU = torch.device("cpu")
SIZE, TOKENS = [64, 32, 32], 4 * 2 * 2
INPUT = {
    "dce": SIZE,
    "dwi": SIZE,
    "t2": SIZE,
    "spacing_mm": 6.0,
    "times_s": [70, 150, 230, 310, 390, 450],
    "clip": [-0.5, 3],
}
BREAST = {"value": "76752008", "scheme": "SCT", "meaning": "Breast"}
NEGATIVE = {"name": "other", "kind": "negative"}


def concept(value: str) -> dict[str, str]:
    return {"value": value, "scheme": "SCT", "meaning": f"Concept {value}"}


MALIGNANT = [NEGATIVE, {"name": "malignancy", "kind": "abnormality", "concept": concept("254837009"), "site": BREAST}]
COMPLETE = [NEGATIVE, {"name": "complete response", "kind": "examination", "concept": concept("1")}]
SUBTYPES = [{"name": name, "kind": "examination", "concept": concept(str(n))} for n, name in enumerate("abcd", 5)]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    made = breast.phantom(3, lesion=True, shape=(20, 48, 48))
    write_breast(made, folder, Order(patient_name="T", patient_id="1", patient_position="HFP"))
    return Study.from_folder(folder)


def written(folder: Path, model: str, classes: list[Any], seeds: tuple[int, ...] = (1,), **card: Any) -> WeightsFile:
    """Random weights, one file per seed, and their card."""
    made = []
    for seed in seeds:
        state = state_dicts.mome(
            width=32, feedforward=48, adapter=8, positions=(TOKENS + 2, TOKENS, TOKENS), soft=(None, (4, 1)),
            classes=len(classes), seed=seed,
        )  # fmt: skip
        save_file(state, folder / f"fold-{seed}.safetensors")
        made.append({"file": f"fold-{seed}.safetensors", "sha256": digest(folder / f"fold-{seed}.safetensors")})
    given = {
        "model": model, "name": "random", "version": "1", "intended_use": "test", "input": INPUT, "classes": classes,
        "network": {"heads": 2}, "threshold": 0.0, "missing_allowed": ["dwi", "t2"], **made[0],
        **({"folds": made[1:]} if made[1:] else {}), **card,
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(given))
    return read_card(model, folder / "card.json")


def result(weights: WeightsFile, study: Study) -> Findings:
    return MomeModel(weights, CPU).read(study, lambda part, words: None)


def numbers(findings: Findings) -> dict[str, float]:
    (item,) = findings.items
    return {m.concept.value: m.value / 100 for m in item.measurements}


@pytest.mark.parametrize(
    ("fed", "reason"),
    [
        ({"times_s": [70, 150, 230]}, "it reads 6 subtractions, its card gives it 3"),
        ({"t2": [64, 32, 48]}, "input.t2 of 64 x 32 x 48 makes 24 tokens, it has 16 positions"),
    ],
)
def test_a_card_that_feeds_a_network_what_it_cannot_read_is_refused_when_it_is_loaded(
    tmp_path: Path, fed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(WeightsError, match=reason):
        MomeModel(written(tmp_path, MOME, MALIGNANT, task="malignancy", input=INPUT | fed), CPU)


def test_a_subtype_is_told_with_every_probability_and_raises_no_alarm(tmp_path: Path, study: Study) -> None:
    found = result(written(tmp_path, MOME_SUBTYPE, SUBTYPES, task="subtype"), study)
    (item,) = found.items
    told = numbers(found)
    chances = [told[f"P-CLASS-{n}"] for n in range(4)]
    assert item.kind is Kind.EXAMINATION and item.probability is None
    assert sum(chances) == pytest.approx(1)
    (answer,) = item.evaluations
    assert answer.concept.value == "PRED-SUBTYPE"
    assert answer.value.value == str(5 + int(np.argmax(chances)))
    assert any("cancer that is proven" in s for s in found.statements)


def test_a_predicted_response_is_a_statement_and_below_the_threshold_no_code(tmp_path: Path, study: Study) -> None:
    weights = written(tmp_path, MOME_RESPONSE, COMPLETE, task="response", saliency_steps=0)
    above = result(weights, study)
    below = result(replace(weights, settings={**weights.settings, "threshold": 1.0}), study)
    assert [e.concept.value for e in above.items[0].evaluations] == ["PRED-RESPONSE"]
    assert not below.items[0].evaluations
    for found in (above, below):
        assert found.items[0].kind is Kind.EXAMINATION
        assert 0 < numbers(found)["PROBABILITY"] < 1


def test_a_malignancy_carries_its_code_and_probability(tmp_path: Path, study: Study) -> None:
    found = result(written(tmp_path, MOME, MALIGNANT, task="malignancy", saliency_steps=0), study)
    (item,) = found.items
    assert (item.kind, item.concept.value) == (Kind.ABNORMALITY, "254837009")
    assert item.probability is not None
    assert found.maps == ()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"task": "grading"}, "'grading' is not a valid Task"),
        ({"task": "subtype"}, "which mr-breast-mome does not report"),
        ({"augmentations": ["flip6"]}, "there is no augmentation 'flip6'"),
        ({"augmentations": ["pad1"]}, "has no room around it"),
        ({"classes": [NEGATIVE, NEGATIVE | {"name": "b"}]}, "0 classes are not called negative"),
    ],
)
def test_a_card_that_asks_for_what_there_is_not_is_refused(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    weights = written(tmp_path, MOME, MALIGNANT, task="malignancy")
    with pytest.raises(WeightsError, match=reason):
        MomeModel(replace(weights, settings={**weights.settings, **changed}), CPU)


def test_five_folds_give_their_mean_and_their_spread(tmp_path: Path, study: Study) -> None:
    seeds = (1, 2, 3, 4, 5)
    card: dict[str, Any] = {"task": "malignancy", "saliency_steps": 0}
    together = result(written(tmp_path, MOME, MALIGNANT, seeds, **card), study)
    alone = []
    for seed in seeds:
        (tmp_path / str(seed)).mkdir()
        alone.append(
            result(written(tmp_path / str(seed), MOME, MALIGNANT, (seed,), **card), study).items[0].probability
        )
    chances = np.array(alone, float)
    assert together.items[0].probability == pytest.approx(chances.mean(), abs=1e-6)
    assert numbers(together)["PROBABILITY-SD"] == pytest.approx(chances.std(ddof=1), abs=1e-6)
    assert any("The mean of 5 networks" in s for s in together.statements)
    assert "PROBABILITY-SD" not in numbers(result(written(tmp_path, MOME, MALIGNANT, **card), study))


def test_an_ensemble_has_a_comparison_of_its_own_and_registry_and_model_look_at_the_same(
    tmp_path: Path, study: Study
) -> None:
    (tmp_path / "other").mkdir()
    both = MomeModel(written(tmp_path, MOME, MALIGNANT, (1, 2), task="malignancy"), CPU)
    first_too = MomeModel(written(tmp_path / "other", MOME, MALIGNANT, (1, 3), task="malignancy"), CPU)
    assert both.weights.sha256 == first_too.weights.sha256, "they have the first fold in common"
    half, *_ = both.check_engines(study, tmp_path, lambda engine: None)
    quick = replace(half, delta_p=0.001, seconds=1.0, reference_s=2.0)
    record.write(record.place(tmp_path, both.weights.engines_key), (quick,))
    for model in (both, first_too):
        model.choose_engine(tmp_path)
    assert (both.engine.engine, first_too.engine.engine) == ("torch-bf16", "torch-fp32")
    key = registry.card(MOME, tmp_path).engines_key
    assert record.choose(tmp_path, key, record.cpu()) == both.engine


def test_contributions_of_an_ensemble_with_augmentations_add_up(tmp_path: Path, study: Study) -> None:
    weights = written(tmp_path, MOME, MALIGNANT, (1, 2), task="malignancy", augmentations=["none", "flip0", "flip5"])
    model = MomeModel(weights, CPU)
    found = model.read(study, lambda part, words: None)
    with torch.inference_mode():
        nothing = np.mean([n(None, None, None)[0].softmax(dim=0)[1].item() for n in model.ensemble.networks])
    full = found.items[0].probability
    assert full is not None
    assert sum(numbers(found)[f"SHAPLEY-{m}"] for m in ("DCE", "DWI", "T2")) == pytest.approx(full - nothing, abs=1e-4)
    assert any("each over 3 views" in s for s in found.statements)
    assert [m.name for m in found.maps] == ["Saliency"]


def test_the_identity_changes_with_any_fold_and_a_changed_fold_is_refused(tmp_path: Path) -> None:
    both = written(tmp_path, MOME, MALIGNANT, (1, 2), task="malignancy")
    first = written(tmp_path, MOME, MALIGNANT, (1,), task="malignancy")
    assert both.identity("1").weights_sha256 != first.identity("1").weights_sha256 == first.sha256
    (tmp_path / "fold-2.safetensors").write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"fold-2\.safetensors has SHA-256"):
        verify_all(both)


def test_what_the_folds_have_in_common_is_in_memory_once(tmp_path: Path) -> None:
    weights = written(tmp_path, MOME, MALIGNANT, (1, 2), task="malignancy")
    first, second = (tmp_path / f"fold-{seed}.safetensors" for seed in (1, 2))
    state = load_file(first)
    save_file({k: v + 1 if k.startswith("head.") else v for k, v in state.items()}, second)
    one, other = loaded(weights, MomeSettings.from_weights(weights), CPU).networks
    shared = {n for n, p in one.named_parameters() if p.data_ptr() == other.get_parameter(n).data_ptr()}
    assert set(dict(one.named_parameters())) - shared == {"head.weight", "head.bias"}


def test_the_published_augmentations_have_their_names() -> None:
    assert Augmentation.named("none") == PLAIN == Augmentation.named("pad0")
    assert Augmentation.named("pad3flip1") == Augmentation(pad=3, flips=(1,))
    assert len(set(FLIPS)) == 6
    volume = torch.arange(24.0).view(1, 2, 3, 4)
    assert torch.equal(Augmentation.named("flip4").flipped(volume), volume.flip(1).flip(3))
    room = (5, 7, 9)
    assert place(room, 0) == (2, 3, 4)
    assert {place(room, pad) for pad in range(1, 9)} == set(itertools.product((0, 5), (0, 7), (0, 9)))
    assert place(room, 2) == (0, 0, 9) and place(room, 5) == (5, 0, 0)


@pytest.mark.parametrize("task", ["malignancy", "subtype", "response"])
def test_a_template_needs_only_a_checkpoint_of_published_size(tmp_path: Path, task: str) -> None:
    given = read_settings(Path(cards.__file__).with_name("mome_templates") / f"{task}.toml")
    checked = card_schema.check(given, task)
    some = written(tmp_path, checked.model, given["classes"], task=task)
    settings = MomeSettings.from_weights(replace(some, settings=given))
    assert settings.task == task in cards.MOME_TASKS[checked.model]
    assert settings.saliency_steps is None, "left to the network's size and the device"
    assert settings.input == InputSettings(dce=(384, 256, 128), dwi=(256, 128, 32), t2=(384, 256, 48), phases=6)
    assert {c.concept is None for c in settings.classes[1:]} == {False}
    assert Guards.from_card(given).gates.modality == "MR"
