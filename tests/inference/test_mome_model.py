"""`mr-breast-mome`: what the network is shown, what each modality adds, and what a study's result says."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radnode_inference.engines import record
from radnode_inference.findings import Findings, Kind
from radnode_inference.generator import breast
from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.dicom_writer import write_breast
from radnode_inference.generator.fields import Orientation
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri import mome_examination
from radnode_inference.models.breast_mri.cards import MOME, MOME_PACKAGED
from radnode_inference.models.breast_mri.mome_ensemble import Ensemble, Volumes
from radnode_inference.models.breast_mri.mome_examination import examination
from radnode_inference.models.breast_mri.mome_input import (
    InputSettings,
    Placed,
    box,
    breast_corner,
    channels,
    inputs,
    inserted,
)
from radnode_inference.models.breast_mri.mome_model import MomeModel, create
from radnode_inference.models.breast_mri.mome_result import missing_sentences
from radnode_inference.models.breast_mri.mome_settings import MomeSettings
from radnode_inference.models.breast_mri.mome_shapley import shapley
from radnode_inference.models.breast_mri.roles import sorted_by_role
from radnode_inference.preprocess import sample
from radnode_inference.study import GENERATOR_CREATOR_TAG, Series, Study
from radnode_inference.weights import WeightsError, read_card

SHAPE = (40, 96, 96)
PUBLISHED: dict[str, Any] = {"dce": [384, 256, 128], "dwi": [256, 128, 32], "t2": [384, 256, 48]}


def quiet(part: float, words: str) -> None:
    assert 0 <= part <= 1


@cache
def model() -> MomeModel:
    return create("cpu", Path("there-is-no-such-folder"))


@pytest.fixture(scope="module")
def with_lesion(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study(tmp_path_factory.mktemp("lesion"), 3)


@pytest.fixture(scope="module")
def result(with_lesion: Study) -> Findings:
    return model().read(with_lesion, quiet)


@cache
def lesion() -> breast.BreastPhantom:
    return breast.phantom(3, lesion=True, shape=SHAPE)


def study(folder: Path, seed: int = 3, *, lesion: bool = True) -> Study:
    made = breast.phantom(seed, lesion=lesion, shape=SHAPE)
    write_breast(made, folder, Order(patient_name="T", patient_id="1", patient_position="HFP"))
    return Study.from_folder(folder)


def shown(findings: Findings, code: str) -> float:
    """The measurement with this code, as a part of 1."""
    (value,) = [m.value for i in findings.items for m in i.measurements if m.concept.value == code]
    return value / 100


def probability(findings: Findings) -> float:
    found = findings.items[0].probability
    return shown(findings, "PROBABILITY") if found is None else found


def without(found: Study, *words: str) -> Study:
    kept = tuple(s for s in found.series if not any(w in s.description.upper() for w in words))
    assert len(kept) < len(found.series)
    return Study(study_uid=found.study_uid, series=kept)


def test_a_lesion_is_a_finding_and_none_is_a_statement(tmp_path: Path, result: Findings) -> None:
    normal = model().read(study(tmp_path, 2, lesion=False), quiet)
    assert [i.kind for i in result.items] == [Kind.ABNORMALITY]
    assert [i.kind for i in normal.items] == [Kind.EXAMINATION]
    assert probability(result) > model().settings.threshold > probability(normal)
    for findings in (result, normal):
        assert findings.items[0].mask is None
        assert "DEMONSTRATION ONLY" in findings.statements[0]
        assert any("reporting threshold" in s for s in findings.statements)
        assert findings.model.demonstration
        assert findings.partial_because is None
        assert len(findings.used_series_uids) == len(set(findings.used_series_uids)) > 6


def test_the_contributions_add_up_to_the_difference_from_seeing_nothing(result: Findings) -> None:
    with torch.inference_mode():
        logits = model().ensemble.networks[0](None, None, None)[0].double() / model().guards.temperature
    positive = model().settings.positive
    assert positive is not None
    nothing = float(logits.softmax(dim=0)[positive])
    total = sum(shown(result, f"SHAPLEY-{m}") for m in ("DCE", "DWI", "T2"))
    assert total == pytest.approx(probability(result) - nothing, abs=1e-6)


def test_an_examination_without_diffusion_and_t2_is_read_and_says_so(with_lesion: Study) -> None:
    findings = model().read(without(with_lesion, "DWI", "DIFF", "ADC", "T2", "EP2D"), quiet)
    assert "Read without DWI and T2: the study has no such images." in findings.statements
    assert probability(findings) > model().settings.threshold
    assert [m.concept.value for m in findings.items[0].measurements] == ["SHAPLEY-DCE"]


@pytest.mark.parametrize("layout", [Layout.SIEMENS, Layout.GE, Layout.PHILIPS, Layout.PHILIPS_ENHANCED])
def test_an_examination_without_a_dynamic_series_is_read_from_the_rest(layout: Layout, tmp_path: Path) -> None:
    write_breast(lesion(), tmp_path, Order(patient_name="T", patient_id="1", patient_position="HFP", layout=layout))
    whole = Study.from_folder(tmp_path)
    gone = {one.series.series_uid for one in sorted_by_role(whole)[0]["dynamic"]}
    quick = create("cpu", Path("there-is-no-such-folder"))
    quick.settings = replace(quick.settings, saliency_steps=2)
    findings = quick.read(replace(whole, series=tuple(s for s in whole.series if s.series_uid not in gone)), quiet)
    assert "Read without DCE: there is no dynamic T1-weighted gradient echo series." in findings.statements
    assert probability(findings) > model().settings.threshold
    assert [m.concept.value for m in findings.items[0].measurements] == ["SHAPLEY-DWI", "SHAPLEY-T2"]
    assert findings.volume.shape == lesion().t2.voxels.shape == findings.maps[0].values.shape
    assert abs(float(findings.volume.voxels.mean()) - float(lesion().t2.voxels.mean())) < 1.0


def test_what_is_left_is_not_read_where_the_card_says_it_is_of_no_use(with_lesion: Study) -> None:
    t2_only = without(with_lesion, "DWI", "DIFF", "ADC", "EP2D", "DYN")
    with pytest.raises(DeclinedError, match=r"of no use with T2 only \(AUROC 0\.56 by their card\)") as declined:
        model().read(t2_only, quiet)
    assert declined.value.gate == "modalities"
    assert "there is no dynamic T1-weighted" in declined.value.sentence


@pytest.mark.parametrize("pad", [0, 3])
def test_without_a_dynamic_series_the_published_grids_hold_the_rest(pad: int) -> None:
    made, settings = lesion(), InputSettings.from_card(PUBLISHED)
    t2 = Placed(voxels=made.t2.voxels, affine=made.t2.grid.affine)
    got = inputs(settings, pre=None, posts=(), times_s=(), dwi=None, t2=t2, pad=pad)
    assert set(got.boxes) == set(got.volumes()) == {"t2"}
    assert got.t2 is not None and got.t2.shape == (1, *PUBLISHED["t2"])


@pytest.mark.parametrize("moved_mm", [0.0, 7.0])
def test_a_patient_who_moved_is_moved_back_before_the_phases_are_subtracted_and_that_is_said(
    moved_mm: float, tmp_path: Path
) -> None:
    still, made = (breast.phantom(1006, lesion=True, shape=(32, 96, 96), phases=4, other_sequences=False, motion_mm=v)
                   for v in (0.0, moved_mm))  # fmt: skip
    order = Order(patient_name="T", patient_id="1", patient_position="HFP", layout=Layout.ENHANCED)
    write_breast(made, tmp_path, order)
    found = examination(Study.from_folder(tmp_path), quiet)
    said = [s for s in found.statements if s.startswith("The patient moved: the phase at ")]
    moved = np.flatnonzero(np.linalg.norm(made.shifts_mm[1:], axis=1))
    assert len(said) == len(moved)
    assert bool(said) is bool(moved_mm)
    assert all(s.endswith(" mm away from the one before contrast and was moved back.") for s in said)
    for number, post in enumerate(found.posts):
        off, raw = (np.abs(v - still.dce[number + 1]).mean() for v in (post.voxels, np.rint(made.dce[number + 1])))
        assert off < 0.6 * raw if number in moved else off == pytest.approx(raw, rel=0.05)


def test_a_patient_who_moved_too_far_is_declined(tmp_path: Path) -> None:
    made = breast.phantom(1006, shape=(32, 96, 96), phases=4, other_sequences=False, motion_mm=16.0)
    write_breast(made, tmp_path, Order(patient_name="T", patient_id="1", layout=Layout.ENHANCED))
    with pytest.raises(DeclinedError, match="mm away from the one before contrast") as declined:
        examination(Study.from_folder(tmp_path), quiet)
    assert declined.value.gate == "motion"


def test_where_the_breasts_are_not_found_the_result_says_that_motion_was_not_checked(tmp_path: Path) -> None:
    made = breast.phantom(1006, shape=(24, 64, 64), phases=4, other_sequences=False)
    made.dce[..., 24:] = 0
    write_breast(made, tmp_path, Order(patient_name="T", patient_id="1", layout=Layout.ENHANCED))
    (said,) = examination(Study.from_folder(tmp_path), quiet).statements
    assert said.startswith("Whether the patient moved between the phases was not checked: ")


def test_weights_that_need_every_modality_decline_an_examination_without_one(with_lesion: Study) -> None:
    strict = MomeModel(model().weights, torch.device("cpu"))
    strict.settings = replace(strict.settings, missing_allowed=frozenset())
    with pytest.raises(DeclinedError) as declined:
        strict.read(without(with_lesion, "T2"), quiet)
    assert declined.value.gate == "missing-role:t2"
    assert any("dwi, diffusion-weighted by its b values" in r for r in declined.value.reasons)


def test_the_result_says_what_each_series_was_taken_for(result: Findings, with_lesion: Study) -> None:
    assert len(result.reasons) == len(with_lesion.series)
    taken = " ".join(result.reasons)
    assert all(role in taken for role in (": dynamic, ", ": dwi, ", ": t2, ", ": adc, "))


def test_images_that_are_there_but_cannot_be_used_are_missing_for_that_reason(with_lesion: Study) -> None:
    gap = tuple(
        replace(s, headers=(*s.headers[:5], *s.headers[6:])) if "T2" in s.description.upper() else s
        for s in with_lesion.series
    )
    found = examination(Study(study_uid=with_lesion.study_uid, series=gap), quiet)
    assert found.present == ("dce", "dwi")
    assert missing_sentences(found.missing)[0].startswith("Read without T2: its images cannot be used (1 slice(s)")


def test_diffusion_with_low_b_values_only_is_missing_for_that_reason(
    with_lesion: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mome_examination, "LOWEST_B", 5000.0)
    found = examination(with_lesion, quiet)
    assert found.missing == {"dwi": "no diffusion image has a b value of 5000 s/mm2 or more"}


def test_bfloat16_is_compared_on_every_combination_and_used_only_where_it_agreed(
    with_lesion: Study, tmp_path: Path
) -> None:
    made = create("cpu", Path("there-is-no-such-folder"))
    half, *others = made.check_engines(with_lesion, tmp_path, lambda _: None)
    assert (half.engine, half.windows, half.dice, half.failed) == ("torch-bf16", 7, None, "")
    assert 0 < half.delta_p < 0.05
    assert {(o.engine, "graph changes" in o.refused_because) for o in others} == {
        ("openvino-fp32", True), ("openvino-bf16", True),
    }  # fmt: skip
    place = record.place(tmp_path, made.weights.engines_key)
    for quick, used in (
        (replace(half, delta_p=0.001, seconds=1.0, reference_s=2.0), True),
        (replace(half, delta_p=0.02), False),
    ):
        record.write(place, (quick, *others))
        made.choose_engine(tmp_path)
        assert (made.engine.engine == "torch-bf16") is made.ensemble.half is used
        assert any("Computed with torch-bf16: Δp" in s for s in made.engine.statements) is used


def test_the_choice_of_the_engine_is_part_of_the_result(with_lesion: Study, result: Findings) -> None:
    made = create("cpu", Path("there-is-no-such-folder"))
    made.engine = record.Choice(engine="torch-bf16", reason="torch-bf16: it agreed")
    made.ensemble = replace(made.ensemble, half=True)
    found = made.read(with_lesion, quiet)
    assert "Computed with torch-bf16: it agreed." in found.statements
    assert probability(found) == pytest.approx(probability(result), abs=0.05)
    assert probability(found) != probability(result), "computed in another precision"


def test_bfloat16_that_fails_on_the_way_gives_way_to_single_precision(
    with_lesion: Study, result: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = create("cpu", Path("there-is-no-such-folder"))
    made.engine = record.Choice(engine="torch-bf16", reason="torch-bf16: it agreed")
    made.ensemble = replace(made.ensemble, half=True)
    plainly = type(made.ensemble).probabilities

    def failing(ensemble: Ensemble, volumes: Volumes) -> torch.Tensor:
        if ensemble.half and len(volumes) < 3:
            raise RuntimeError("no such kernel\nand a page of insides")
        return plainly(ensemble, volumes)

    monkeypatch.setattr(Ensemble, "probabilities", failing)
    found = made.read(with_lesion, quiet)
    assert found.statements[-1] == (
        "The engine torch-bf16 failed (no such kernel); computed with torch-fp32 in its place."
    )
    assert probability(found) == probability(result)


def test_demonstration_weights_refuse_a_study_that_the_generator_did_not_mark(with_lesion: Study) -> None:
    unmarked = tuple(
        Series(
            series_uid=s.series_uid,
            headers=tuple(
                replace(h, elements={k: v for k, v in h.elements.items() if k != GENERATOR_CREATOR_TAG})
                for h in s.headers
            ),
        )
        for s in with_lesion.series
    )
    with pytest.raises(DeclinedError) as declined:
        model().read(Study(study_uid=with_lesion.study_uid, series=unmarked), quiet)
    assert declined.value.gate == "demonstration-weights"


def test_shapley_values_are_those_of_a_game_that_is_known() -> None:
    glove = {frozenset("lr"): 1.0, frozenset("ls"): 1.0, frozenset("lrs"): 1.0}
    values = shapley("lrs", lambda c: glove.get(c, 0.0))
    assert values == pytest.approx({"l": 2 / 3, "r": 1 / 6, "s": 1 / 6})


def test_subtractions_are_interpolated_in_time_and_held_at_the_ends() -> None:
    settings = InputSettings.from_card(PUBLISHED | {"times_s": [50, 150, 300, 900], "spacing_mm": 3.0})
    pre = np.ones((2, 2, 2), np.float32)
    posts = [pre + 10, pre + 20, pre + 60]
    got = channels(settings, pre, posts, np.array([100.0, 200.0, 400.0]))
    assert [float(c[0, 0, 0]) for c in got] == pytest.approx([10, 15, 40, 60])


def test_published_input_needs_six_phases_after_contrast() -> None:
    settings = InputSettings.from_card(PUBLISHED)
    with pytest.raises(ValueError, match="5 phases after contrast, 6 are needed"):
        channels(settings, np.zeros((2, 2, 2), np.float32), [np.zeros((2, 2, 2), np.float32)] * 5, np.arange(5.0))


def test_a_volume_is_laid_in_the_middle_with_axes_left_back_head() -> None:
    voxels = np.zeros((3, 5, 4), np.float32)
    voxels[2, 0, 3] = 1  # highest slice, first row, last column
    affine = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    got, box = inserted(Placed(voxels=voxels, affine=affine), (8, 9, 5))
    assert (box.affine @ [2 + 3, 2 + 0, 1 + 2, 1] == affine @ [2, 0, 3, 1]).all()
    assert got.shape == (8, 9, 5)
    assert torch.nonzero(got).tolist() == [[2 + 3, 2 + 0, 1 + 2]]


def test_a_volume_that_is_too_large_is_made_smaller_by_one_factor() -> None:
    got, _ = inserted(
        Placed(voxels=np.ones((8, 20, 10), np.float32), affine=np.diag([1.0, 1, 1, 1])[[2, 1, 0, 3]]), (10, 10, 10)
    )
    places = torch.nonzero(got)
    assert (places.amax(dim=0) - places.amin(dim=0) + 1).tolist() == [5, 10, 4]


@pytest.mark.parametrize("how", [{}, {"patient_position": "FFP"}, {"orientation": Orientation.SAGITTAL}])
def test_the_grid_holds_the_lesion_however_the_slices_lie(how: dict[str, Any]) -> None:
    made = breast.phantom(4, lesion=True, shape=SHAPE, **how)
    settings = InputSettings.from_card(model().weights.settings["input"])
    pre = Placed(voxels=made.dce[0], affine=made.grid.affine)
    spacing = settings.spacing_mm or 0.0
    where = box(breast_corner(pre, settings.dce, spacing), settings.dce, spacing)
    inside = sample(made.lesion_mask.astype(np.float32), made.grid.affine, where).sum().item() * spacing**3
    assert inside / 1000 == pytest.approx(sum(i.volume_ml for i in made.lesions), rel=0.15)


def test_inputs_do_not_depend_on_the_scale_of_the_scanner() -> None:
    made = breast.phantom(4, lesion=True, shape=SHAPE)
    settings = InputSettings.from_card(model().weights.settings["input"])

    def shown_at(factor: float) -> torch.Tensor:
        got = inputs(
            settings,
            pre=Placed(voxels=made.dce[0] * np.float32(factor), affine=made.grid.affine),
            posts=[p * np.float32(factor) for p in made.dce[1:]],
            times_s=made.times_s[1:].tolist(),
            dwi=None,
            t2=None,
        )
        assert got.dce is not None
        return got.dce

    assert torch.allclose(shown_at(1.0), shown_at(7.0), atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"input": {}}, "KeyError 'dce'"),
        ({"classes": [{"name": "a", "kind": "negative"}, {"name": "b", "kind": "negative"}]}, "0 classes"),
        ({"classes": [{"name": "a", "kind": "abnormality"}]}, "1 class; a head with one output"),
        ({"threshold": None}, "TypeError"),
        ({"missing_allowed": ["DWI"]}, "'DWI' is none of dce, dwi and t2"),
        ({"input": PUBLISHED | {"dwi": [256, 0, 32]}}, "a grid of 256 x 0 x 32"),
        ({"input": PUBLISHED | {"phases": 0}}, "phases and times_s: one at least"),
        ({"input": PUBLISHED | {"times_s": []}}, "phases and times_s: one at least"),
        ({"input": PUBLISHED | {"times_s": [60, float("nan")]}}, "are not all numbers"),
        ({"input": PUBLISHED | {"spacing_mm": -3.0}}, "spacing_mm -3; it must be above 0"),
        ({"input": PUBLISHED | {"clip": [1, -1]}}, "the first must be the lower one"),
    ],
)
def test_a_card_that_lacks_what_the_model_needs_is_refused(changed: dict[str, Any], reason: str) -> None:
    weights = read_card(MOME, MOME_PACKAGED)
    with pytest.raises(WeightsError, match=reason):
        MomeSettings.from_weights(replace(weights, settings={**weights.settings, **changed}))
