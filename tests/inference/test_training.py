"""The training of the demonstration weights: its figures of merit, and that a few steps make usable weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from radnode_inference.models.breast_mri.mome_model import MomeModel
from radnode_inference.models.chest_ct.voco_model import VocoModel
from radnode_inference.training import breast, breast_cases, chest
from radnode_inference.training.chest_card import platt
from radnode_inference.training.metrics import (
    auroc,
    best_threshold,
    dice,
    interval,
    sensitivity,
    specificity,
    temperature,
)
from radnode_inference.weights import read_card, verify

TRUTH = np.array([0.0, 0, 0, 1, 1])


def told(words: str) -> None:
    assert words


@pytest.mark.parametrize(
    ("score", "area"),
    [([1, 2, 3, 4, 5], 1.0), ([5, 4, 3, 2, 1], 0.0), ([1, 1, 1, 1, 1], 0.5), ([1, 2, 4, 3, 5], 5 / 6)],
)
def test_auroc_is_the_chance_of_the_right_order(score: list[float], area: float) -> None:
    assert auroc(TRUTH, np.array(score, float)) == pytest.approx(area)


def test_sensitivity_and_specificity_count_their_own_kind() -> None:
    called = np.array([0.0, 1, 0, 1, 0])
    assert sensitivity(TRUTH, called) == 0.5
    assert specificity(TRUTH, called) == pytest.approx(2 / 3)


def test_the_threshold_lies_in_the_gap() -> None:
    assert 3 < best_threshold(TRUTH, np.array([1.0, 2, 3, 8, 9])) < 8


def test_the_interval_holds_the_value_and_narrows_with_more_cases() -> None:
    rng = np.random.default_rng(0)

    def width(n: int) -> float:
        found = interval(lambda x: float(x.mean()), rng.random(n))
        assert found["low"] < found["value"] < found["high"]
        return float(found["high"] - found["low"])

    assert width(400) < width(25)


def test_dice_of_known_masks() -> None:
    a, b = np.array([True, True, False]), np.array([True, False, False])
    assert dice(a, b) == pytest.approx(2 / 3)
    assert dice(~a & a, ~a & a) == 1.0


def test_overconfident_logits_get_a_temperature_above_one() -> None:
    rng = np.random.default_rng(1)
    logit = rng.normal(0, 2, 4000)
    truth = (rng.random(4000) < 1 / (1 + np.exp(-logit))).astype(float)
    assert temperature(truth, 3 * logit) == pytest.approx(3, rel=0.1)
    assert temperature(truth, logit) == pytest.approx(1, rel=0.1)


def test_platt_scaling_finds_the_curve_the_labels_came_from() -> None:
    rng = np.random.default_rng(2)
    score = rng.normal(0, 3, 4000)
    truth = (rng.random(4000) < 1 / (1 + np.exp(-(0.6 * score - 1.0)))).astype(float)
    slope, offset = platt(score, truth)
    assert slope == pytest.approx(0.6, abs=0.06)
    assert offset == pytest.approx(-1.0, abs=0.15)


@pytest.fixture
def small_breast(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The breast training on few coarse phantoms and a small grid; the folder that keeps the phantoms."""
    size, tokens = [48, 16, 16], 3
    monkeypatch.setattr(
        breast_cases, "INPUT", small := {**breast_cases.INPUT, "dce": size, "dwi": size, "t2": size, "spacing_mm": 7.0}
    )
    monkeypatch.setattr(breast, "INPUT", small)
    monkeypatch.setattr(breast, "SHAPE", replace(breast.SHAPE, positions=(tokens + 2, tokens, tokens)))
    monkeypatch.setattr(breast_cases, "GRIDS", ((16, 40, 40),))
    monkeypatch.setattr(breast_cases, "FILES_GRID", (16, 40, 40))
    monkeypatch.setattr(breast, "TRAINING", range(1000, 1012))
    monkeypatch.setattr(breast, "TUNING", range(8000, 8006))
    monkeypatch.setattr(breast, "HELD_OUT", range(9000, 9003))
    return tmp_path_factory.getbasetemp() / "breast-phantoms"


def test_a_few_steps_on_breast_phantoms_make_weights_that_the_model_loads(tmp_path: Path, small_breast: Path) -> None:
    small_breast.mkdir(exist_ok=True)
    breast.make(tmp_path, small_breast, 2, told)
    found = read_card("mr-breast-mome", tmp_path / "demo.json")
    verify(found)
    assert found.demonstration
    assert set(found.settings["metrics"]["by_modalities"]) > {"dce+dwi+t2", "dce", "dwi", "t2"}
    assert sum("only: AUROC" in words for words in found.settings["limitations"]) == 6
    assert MomeModel(found, torch.device("cpu")).settings.threshold == found.settings["threshold"]


def test_steps_on_breast_phantoms_reduce_the_loss(small_breast: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_breast.mkdir(exist_ok=True)
    monkeypatch.setattr(breast, "TRAINING", range(1000, 1004))
    monkeypatch.setattr(breast, "COALITIONS", {("dce", "dwi", "t2"): 1.0})
    _, losses = breast.train(small_breast, 60, told)
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])


def test_two_trainings_on_breast_phantoms_are_equal(small_breast: Path) -> None:
    small_breast.mkdir(exist_ok=True)
    net, losses = breast.train(small_breast, 6, told)
    again, same = breast.train(small_breast, 6, told)
    assert losses == same
    assert all(torch.equal(p, again.get_parameter(name)) for name, p in net.named_parameters())


def test_a_few_steps_on_chest_phantoms_make_weights_that_the_model_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chest, "PATCH", (32, 32, 64))
    monkeypatch.setattr(chest, "INPUT", {**chest.INPUT, "spacing_mm": [6, 6, 6], "overlap": 0.0})
    monkeypatch.setattr(chest, "TRAINING", range(2000, 2002))
    monkeypatch.setattr(chest, "TUNING", range(8100, 8101))
    monkeypatch.setattr(chest, "HELD_OUT", range(9100, 9101))
    chest.make(tmp_path, tmp_path, 1, told)
    found = read_card("ct-voco", tmp_path / "demo.json")
    verify(found)
    assert found.demonstration
    assert {"study_auroc", "nodule_dice", "lung_dice"} < set(found.settings["metrics"])
    assert len(VocoModel(found, torch.device("cpu")).settings.classes) == 3


def test_a_batch_shows_the_modalities_that_were_drawn_and_moves_lesions_with_them() -> None:
    sides = (32, 16, 32)
    volume = torch.zeros(sides)
    volume[20, 8, 16] = 1
    case = breast_cases.Case(
        dce=volume.expand(6, *sides), dwi=volume[None], t2=volume[None], label=1, lesion=volume > 0
    )
    for given in (("dce",), ("dwi", "t2"), ()):
        batch = breast_cases.batch_of([case, case], np.random.default_rng(0), {given: 1.0})
        assert set(batch.volumes) == {{"dce": "A", "dwi": "B", "t2": "C"}[m] for m in given}
        assert batch.labels.tolist() == [1, 1]
        assert batch.tokens.shape == (2, 2 * 1 * 2)
        for x in batch.volumes.values():
            for one, tokens in zip(x, batch.tokens, strict=True):
                ((x_at, _, z_at),) = torch.nonzero(one[0]).tolist()
                assert torch.nonzero(tokens).flatten().tolist() == [2 * (x_at // 16) + z_at // 16]


def test_what_is_moved_leaves_zeros_behind() -> None:
    volume = torch.arange(1.0, 25).view(1, 2, 3, 4)
    moved = breast_cases.moved(volume, [1, -1, 0])
    assert torch.equal(moved[:, 1:, :2], volume[:, :1, 1:])
    assert not moved[:, :1].any()
    assert not moved[:, :, 2:].any()
