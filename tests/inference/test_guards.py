"""The guards of a weights card: input gates, likeness to the reference, calibration; and ct-voco behind them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.ct_variants import volume_of, written
from support.studies import small_chest

from radnode_inference import guards_familiar, guards_fit
from radnode_inference.class_map import Strongest, pack
from radnode_inference.guards import NO_REFERENCE, NOT_CALIBRATED, Guards
from radnode_inference.guards_familiar import Image, Reference
from radnode_inference.guards_gates import age_of
from radnode_inference.model import DeclinedError
from radnode_inference.models.chest_ct.cards import PACKAGED, VOCO
from radnode_inference.models.chest_ct.voco_model import VocoModel, create
from radnode_inference.preprocess import Box
from radnode_inference.study import Study
from radnode_inference.training import guards as training
from radnode_inference.volume import Volume
from radnode_inference.weights import WeightsError, WeightsFile, verified

CHEST: dict[str, Any] = {
    "modality": "CT", "region": ["CHEST", "THORAX"], "slice_mm": [0.5, 5], "pixel_mm": [0.4, 1.2], "coverage_mm": 100,
    "kernel": "soft", "age_years": [18, 100], "sex": "F",
}  # fmt: skip
FITTING: dict[str, Any] = {"PatientAge": "061Y", "PatientSex": "F"}


def study_of(folder: Path, **attributes: object) -> tuple[Study, Volume]:
    """Forty slices of 3 mm, with the given attributes."""
    affine = np.array([[0, 0, 0.8, 0], [0, 0.8, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]])
    study = written(folder, volume_of(np.zeros((40, 8, 8)), affine), **FITTING | attributes)
    return study, Volume(
        voxels=np.zeros((40, 8, 8), np.float32),
        affine=affine,
        frame_of_reference_uid="1",
        series_uid=study.series[0].series_uid,
        sources=volume_of(np.zeros((40, 8, 8)), affine).sources,
    )


def test_an_input_that_meets_every_gate_is_admitted_and_every_gate_is_named(tmp_path: Path) -> None:
    (sentence,) = Guards.from_card({"gates": CHEST}).admit(*study_of(tmp_path))
    assert sentence == (
        "Input gates of the weights passed: modality (CT), region (chest), slices (3 mm), pixels (0.8 mm), "
        "coverage (120 mm), kernel (B31f), age (61 years), sex (F)."
    )


@pytest.mark.parametrize(
    ("gate", "attributes", "card"),
    [
        ("modality", {"Modality": "MR"}, {}),
        ("region", {"BodyPartExamined": "ABDOMEN"}, {}),
        ("slice-spacing", {"SliceThickness": 6}, {}),
        ("pixel-spacing", {}, {"pixel_mm": [0.9, 1.2]}),
        ("coverage", {}, {"coverage_mm": 200}),
        ("kernel", {"ConvolutionKernel": "B70f"}, {}),
        ("kernel", {}, {"kernel": ["STANDARD", "SOFT"]}),
        ("age", {"PatientAge": "009Y"}, {}),
        ("age", {"PatientAge": "011M"}, {"age_years": [1, 100]}),
        ("sex", {"PatientSex": "M"}, {}),
        ("contrast", {"ContrastBolusAgent": "Iomeron 400"}, {"contrast": "none"}),
        ("contrast", {"ContrastBolusAgent": "NONE"}, {"contrast": "given"}),
        ("contrast", {}, {"contrast": "given"}),
    ],
)
def test_an_input_beyond_a_gate_is_declined_by_its_name(
    gate: str, attributes: dict[str, object], card: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(DeclinedError) as declined:
        Guards.from_card({"gates": CHEST | card}).admit(*study_of(tmp_path, **attributes))
    assert declined.value.gate == gate


@pytest.mark.parametrize(("wanted", "agent"), [("given", "Iomeron 400"), ("none", ""), ("none", "NONE")])
def test_a_contrast_agent_that_is_as_wanted_is_named(wanted: str, agent: str, tmp_path: Path) -> None:
    guards = Guards.from_card({"gates": {"contrast": wanted}})
    (sentence,) = guards.admit(*study_of(tmp_path, ContrastBolusAgent=agent))
    assert f"contrast ({agent if wanted == 'given' else 'none stated'})" in sentence


def test_what_the_header_does_not_say_is_a_doubt_and_no_refusal(tmp_path: Path) -> None:
    unsaid = {"PatientAge": "", "PatientSex": "", "ConvolutionKernel": "", "BodyPartExamined": ""}
    *doubts, passed = Guards.from_card({"gates": CHEST}).admit(*study_of(tmp_path, **unsaid))
    assert [d.split(":")[0] for d in doubts] == ["Gate region", "Gate kernel", "Gate age", "Gate sex"]
    assert "slices (3 mm)" in passed


def test_the_age_is_computed_where_only_the_dates_are_stated(tmp_path: Path) -> None:
    study, _ = study_of(tmp_path, PatientAge="", PatientBirthDate="19600101", StudyDate="20260101")
    assert age_of(study.series[0].headers[0]) == pytest.approx(66, abs=0.01)


@pytest.mark.parametrize(
    "card",
    [
        {"gates": {"modalty": "CT"}},
        {"gates": {"slice_mm": 5}},
        {"calibration": {"temperature": 0, "reference": "none"}},
        {"calibration": {"temperature": 2}},
        {"calibration": {"temperature": float("inf"), "reference": "none"}},
        {"out_of_distribution": {"images": {}}},
        {"out_of_distribution": {"reference": "x", "images": {"ct": {"limit": 1, "mean": [1], "spread": [0]}}}},
    ],
)
def test_a_card_whose_guards_are_not_in_their_form_is_refused(card: dict[str, Any]) -> None:
    weights = WeightsFile(
        model="m", name="w", version="1", sha256="", path=Path("w"), intended_use="", demonstration=False, settings=card
    )
    with pytest.raises(WeightsError, match="the guards in the card of w"):
        Guards.from_weights(weights)


def test_a_card_without_guards_says_that_nothing_was_checked() -> None:
    guards = Guards.from_card({})
    assert guards.familiar({"ct": np.zeros((4, 4, 4))}) == (NO_REFERENCE,)
    assert guards.calibration == (NOT_CALIBRATED,) and guards.temperature == 1.0


# Likeness


def anatomy(seed: int) -> Image:
    """A body with two dark halves, a little different each time."""
    rng = np.random.default_rng(seed)
    x, y, z = np.mgrid[-1:1:32j, -1:1:24j, -1:1:20j].astype(np.float32)
    body = (x**2 + y**2 < rng.uniform(0.8, 0.9)).astype(np.float32)
    lungs = (abs(abs(x) - 0.45) < 0.25) & (y**2 + z**2 < rng.uniform(0.4, 0.55))
    image = body * (0.75 - 0.6 * lungs) + 0.1 * (y > 0.5) * body + rng.normal(0, 0.02, x.shape)
    return np.asarray(image, np.float32)


@pytest.fixture(scope="module")
def guards() -> Guards:
    section = training.section({"ct": [anatomy(s) for s in range(20)]}, "twenty bodies")
    return Guards.from_card({"out_of_distribution": section})


def test_an_input_like_the_reference_is_told_with_its_score(guards: Guards) -> None:
    for seed in range(100, 110):
        (sentence,) = guards.familiar({"ct": anatomy(seed)})
        assert sentence.startswith("Likeness of the input to the reference of the weights: ct 0.")
        assert sentence.endswith("(0 alike, limit 1; twenty bodies).")


def shuffled(image: Image) -> Image:
    return np.random.default_rng(1).permutation(image.ravel()).reshape(image.shape)


STRANGE: dict[str, Callable[[Image], Image]] = {
    "shuffled": shuffled,
    "inverted": lambda i: i.max() + i.min() - i,
    "noise": lambda i: np.random.default_rng(2).random(i.shape, np.float32),
    "empty": np.zeros_like,
    "another part": lambda i: i[:, :, :5],
    "other axes": lambda i: i.swapaxes(0, 1),
    "not a number": lambda i: np.full_like(i, np.nan),
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE)
def test_an_input_unlike_the_reference_is_declined(guards: Guards, change: Callable[[Image], Image]) -> None:
    with pytest.raises(DeclinedError, match="unlike those the weights were made for") as declined:
        guards.familiar({"ct": change(anatomy(200))})
    assert declined.value.gate == "out-of-distribution"


def test_too_few_images_make_no_reference() -> None:
    with pytest.raises(ValueError, match="too few"):
        Reference.of([anatomy(0)])


# The model behind its guards


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study.from_folder(small_chest(tmp_path_factory.mktemp("chest"), seed=5).files[0].parent)


def test_ct_voco_states_gates_score_and_calibration_of_a_generated_chest(
    chest: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = create("cpu", tmp_path)

    def nothing(prepared: torch.Tensor, box: Box, done: object) -> Strongest:  # minutes saved
        return Strongest.of(pack(torch.full((3, *prepared.shape), 1 / 3)), 3, box)

    monkeypatch.setattr(model, "infer", nothing)
    statements = model.read(chest, lambda part, words: None).statements
    for begin in (
        "Input gates of the weights passed: modality (CT)",
        "Likeness of the input",
        "Probabilities calibrated",
    ):
        assert any(s.startswith(begin) for s in statements), statements


def test_ct_voco_declines_an_inverted_chest(chest: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from radnode_inference import load

    model = create("cpu", tmp_path)
    loaded = load.load
    monkeypatch.setattr(load, "load", lambda headers, uid: inverted(loaded(headers, uid)))
    with pytest.raises(DeclinedError) as declined:
        model.read(chest, lambda part, words: None)
    assert declined.value.gate == "out-of-distribution"


def inverted(volume: Volume) -> Volume:
    changed = volume_of(-volume.voxels - 900, volume.affine)
    return Volume(
        voxels=changed.voxels,
        affine=volume.affine,
        frame_of_reference_uid=volume.frame_of_reference_uid,
        series_uid=volume.series_uid,
        sources=volume.sources,
    )


def test_a_site_makes_a_reference_of_its_own_studies_and_reads_which_were_left_out(
    chest: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards_familiar, "FEWEST", 2)  # so that the test is quick
    model = create("cpu", tmp_path)
    other, _ = study_of(tmp_path / "other", Modality="MR")
    made, left_out = guards_fit.section(model, [chest] * 2 + [other], "twice one chest")
    assert len(left_out) == 1 and left_out[0].startswith(other.study_uid)
    mean = made["images"]["ct"]["mean"]
    np.testing.assert_allclose(guards_fit.shown(model, chest)["ct"], mean, atol=1e-3)
    assert type(model.guards) is Guards  # the model asks its own guards again


def test_the_temperature_of_the_card_softens_the_probabilities(chest: Study, tmp_path: Path) -> None:
    weights = verified(VOCO, tmp_path, PACKAGED)
    settings = dict(weights.settings) | {"calibration": {"temperature": 4.0, "reference": "a test"}}
    warm = VocoModel(WeightsFile(**vars(weights) | {"settings": settings}), torch.device("cpu"))
    plain = VocoModel(weights, torch.device("cpu"))
    window = torch.rand(64, 64, 32, generator=torch.Generator().manual_seed(1))
    box = Box(size=(64, 64, 32), affine=np.eye(4))
    p, q = (m.infer(window, box, lambda part: None).shares[0].mean() for m in (plain, warm))
    assert 1 / 3 < float(q) < float(p) - 0.05
