"""`ct-voco` on generated chests, with a network that is nothing but a threshold: what is tested is all around it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from radnode_inference.class_map import Strongest, on_grid, pack
from radnode_inference.engines import record
from radnode_inference.findings import Kind
from radnode_inference.generator import chest
from radnode_inference.generator.dicom_parts import Order
from radnode_inference.generator.dicom_writer import write_chest
from radnode_inference.generator.fields import Orientation
from radnode_inference.model import DeclinedError
from radnode_inference.models.chest_ct.voco_classify import VocoClassifier
from radnode_inference.models.chest_ct.voco_enter import prepare
from radnode_inference.models.chest_ct.voco_model import VocoModel, create, loaded
from radnode_inference.models.chest_ct.voco_parts import Part, mask_of, parts, regions
from radnode_inference.models.chest_ct.voco_settings import ClassSetting, VocoSettings
from radnode_inference.preprocess import Box
from radnode_inference.study import GENERATOR_CREATOR_TAG, Series, Study
from radnode_inference.weights import WeightsError, WeightsFile, digest, read_card

SOFT_HU, WINDOW = -300.0, (-1000.0, 400.0)
LUNG = {"value": "39607008", "scheme": "SCT", "meaning": "Lung"}
SETTINGS: dict[str, Any] = {
    "input": {"spacing_mm": [4, 4, 4], "window_hu": WINDOW, "body_hu": -500, "roi": [64, 32, 32], "overlap": 0.25},
    "classes": [{"name": "background", "kind": "background"}, {"name": "tissue", "kind": "anatomy", "concept": LUNG}],
}


BARE: dict[str, Any] = {
    "model": "ct-voco", "name": "test", "version": "1", "sha256": "0" * 64, "path": Path("none"), "intended_use": "a test",
    "demonstration": False,
}  # fmt: skip


class Threshold(nn.Module):
    """Logits of background and tissue from the brightness alone."""

    def forward(self, x: Tensor) -> Tensor:
        level = (SOFT_HU - WINDOW[0]) / (WINDOW[1] - WINDOW[0])
        return torch.cat([torch.zeros_like(x), 40 * (x - level)], dim=1)


def weights(folder: Path, *, demonstration: bool = False) -> WeightsFile:
    """Random weights of the smallest network, with a card of two classes."""
    from monai.networks.nets import SwinUNETR

    state = SwinUNETR(in_channels=1, out_channels=2, feature_size=12, use_v2=True, window_size=4).state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "w.safetensors")
    return WeightsFile(
        model="ct-voco", name="test", version="1", sha256="0" * 64, path=folder / "w.safetensors",
        intended_use="a test", demonstration=demonstration, settings=SETTINGS,
    )  # fmt: skip


def model(folder: Path, *, demonstration: bool = False) -> VocoModel:
    made = VocoModel(weights(folder, demonstration=demonstration), torch.device("cpu"))
    made.network = Threshold()
    return made


def study(folder: Path, **how: Any) -> tuple[Study, chest.ChestPhantom]:
    made = chest.phantom(5, nodules=True, shape=(48, 56, 56), **how)
    write_chest(made, folder, Order(patient_name="T", patient_id="1", body_part="CHEST", **{
        k: v for k, v in how.items() if k == "patient_position"}))  # fmt: skip
    return Study.from_folder(folder), made


def unmarked(found: Study) -> Study:
    """The same study without the generator's mark."""
    series = tuple(
        Series(
            series_uid=s.series_uid,
            headers=tuple(
                replace(h, elements={k: v for k, v in h.elements.items() if k != GENERATOR_CREATOR_TAG})
                for h in s.headers
            ),
        )
        for s in found.series
    )
    return Study(study_uid=found.study_uid, series=series)


def quiet(part: float, words: str) -> None:
    assert 0 <= part <= 1


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"patient_position": "FFS"},
        {"orientation": Orientation.OBLIQUE},
        {"orientation": Orientation.SAGITTAL},
    ],
    ids=["axial", "feet-first", "oblique", "sagittal"],
)
def test_a_class_comes_back_to_the_source_images_where_it_is(tmp_path: Path, how: dict[str, Any]) -> None:
    found, _ = study(tmp_path / "dicom", **how)
    findings = model(tmp_path).read(found, quiet)
    truth = findings.volume.voxels > SOFT_HU
    (item,) = findings.items
    assert item.mask is not None
    overlap = 2 * (item.mask & truth).sum() / (item.mask.sum() + truth.sum())
    assert overlap > 0.93
    assert item.kind is Kind.ANATOMY
    assert item.probability is None
    assert item.measurements[0].value == pytest.approx(item.mask.sum() * findings.volume.voxel_mm3 / 1000)
    assert findings.used_series_uids == (findings.volume.series_uid,)


def test_the_same_study_gives_the_same_findings_twice(tmp_path: Path) -> None:
    found, _ = study(tmp_path / "dicom")
    reader = model(tmp_path)
    assert reader.read(found, quiet).digest() == reader.read(found, quiet).digest()


def test_demonstration_weights_refuse_a_study_that_the_generator_did_not_mark(tmp_path: Path) -> None:
    found, _ = study(tmp_path / "dicom")
    reader = model(tmp_path, demonstration=True)
    assert "DEMONSTRATION ONLY" in reader.read(found, quiet).statements[0]
    assert reader.identity.demonstration
    with pytest.raises(DeclinedError) as declined:
        reader.read(unmarked(found), quiet)
    assert declined.value.gate == "demonstration-weights"


def test_a_run_that_is_stopped_stops(tmp_path: Path) -> None:
    found, _ = study(tmp_path / "dicom")

    def stop(part: float, words: str) -> None:
        if words == "network":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        model(tmp_path).read(found, stop)


def test_weights_with_other_classes_than_their_card_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="has 2 classes, its card 3"):
        loaded(weights(tmp_path), 3)


def test_a_card_without_an_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="KeyError 'input'"):
        VocoSettings.from_weights(replace(weights(tmp_path), settings={"classes": []}))


NODULE = {"value": "27925004", "scheme": "SCT", "meaning": "Nodule"}


def classifying(folder: Path, outputs: int, classes: list[dict[str, Any]], **given: Any) -> WeightsFile:
    """Random weights of a network that classifies, with a card."""
    from monai.networks.nets import SwinUNETR

    torch.manual_seed(4)
    state = SwinUNETR(1, 2, feature_size=12).state_dict() | {
        f"head.{k}": 20 * v for k, v in nn.Linear(12, outputs).state_dict().items()
    }
    state = {k: v.contiguous() for k, v in state.items() if not k.startswith("out.")}
    (folder / "site").mkdir()
    save_file(state, folder / "site" / "w.safetensors")
    card = {"name": "c", "version": "1", "file": "w.safetensors", "sha256": digest(folder / "site" / "w.safetensors"),
            "intended_use": "a test", "classes": classes, "input": SETTINGS["input"] | {"size": [64, 64, 64]} | given}  # fmt: skip
    (folder / "site" / "card.json").write_text(json.dumps(card))
    return read_card("ct-voco", folder / "site" / "card.json")


def test_weights_that_classify_say_a_probability_of_the_examination(tmp_path: Path) -> None:
    negative = {"name": "normal", "kind": "negative"}
    nodule = {"name": "nodule", "kind": "abnormality", "concept": NODULE, "site": LUNG}
    card = classifying(tmp_path, 2, [negative, nodule], repeat_depth=2)
    found, _ = study(tmp_path / "dicom")
    reader = create("cpu", tmp_path / "site")
    findings = reader.read(found, quiet)
    (item,) = findings.items
    prepared, _ = prepare(findings.volume, reader.settings, torch.device("cpu"))
    twice = torch.cat(
        [torch.nn.functional.interpolate(prepared[None, None], (64, 64, 64), mode="trilinear")] * 2, dim=-1
    )
    with torch.inference_mode():
        wanted = float(reader.network(twice).softmax(dim=1)[0, 1])
    assert twice.shape == (1, 1, 64, 64, 128)
    assert item.probability == pytest.approx(wanted, abs=1e-6)
    assert (item.kind, item.mask, item.concept.meaning) == (Kind.ABNORMALITY, None, "Nodule")
    assert f"Probabilities of the examination: normal {1 - wanted:.2f}, nodule {wanted:.2f}." in findings.statements
    assert reader.identity.weights_sha256 == card.sha256


def test_engines_of_weights_that_classify_are_compared_by_their_probabilities(tmp_path: Path) -> None:
    """With a network of three layers in place of the card's own, which takes long to convert."""
    negative = {"name": "normal", "kind": "negative"}
    nodule = {"name": "nodule", "kind": "abnormality", "concept": NODULE, "site": LUNG}
    reader = VocoClassifier(classifying(tmp_path, 2, [negative, nodule]), torch.device("cpu"))
    torch.manual_seed(5)
    reader.network = nn.Sequential(nn.AvgPool3d(64), nn.Flatten(), nn.Linear(1, 2)).eval()
    found, _ = study(tmp_path / "dicom")
    agreements = reader.check_engines(found, tmp_path, lambda engine: None)
    single = next(a for a in agreements if a.engine == "openvino-fp32")
    assert (single.windows, single.dice, single.classes, single.failed) == (4, None, None, "")
    assert single.delta_p < 1e-5
    before = reader.read(found, quiet)
    record.write(record.place(tmp_path, reader.weights.engines_key), (replace(single, seconds=0.1, reference_s=1.0),))
    reader.choose_engine(tmp_path)
    after = reader.read(found, quiet)
    assert after.statements[:-1] == before.statements
    assert after.statements[-1].startswith(
        "Computed with openvino-fp32: Δp 0.0000 against torch-fp32 on 4 check inputs"
    )
    assert after.items[0].probability == pytest.approx(before.items[0].probability, abs=1e-5)


def test_one_output_is_a_probability_of_its_own_and_stays_silent_below_its_threshold(tmp_path: Path) -> None:
    nodule = {"name": "nodule", "kind": "abnormality", "concept": NODULE, "threshold": 1.0}
    reader = VocoClassifier(classifying(tmp_path, 1, [nodule]), torch.device("cpu"))
    (probability,) = reader.infer(torch.rand(40, 50, 60))
    assert 0 < probability < 1
    assert reader.findings(Study(study_uid="1", series=()), (probability,)) == ()
    with pytest.raises(ValueError, match="values that are no numbers"):
        reader.infer(torch.full((40, 50, 60), torch.nan))


def test_a_card_for_the_other_kind_of_network_is_refused(tmp_path: Path) -> None:
    card = classifying(tmp_path, 1, [{"name": "nodule", "kind": "abnormality", "concept": NODULE}])
    with pytest.raises(WeightsError, match=r"c classifies: its card needs input\.size"):
        loaded(card, 1)
    with pytest.raises(WeightsError, match="test does not classify"):
        VocoClassifier(weights(tmp_path), torch.device("cpu"))


@pytest.mark.parametrize("roi", [[96, 96, 40], [32, 32, 32], [0, 64, 64]])
def test_a_window_that_the_network_cannot_halve_five_times_is_refused(tmp_path: Path, roi: list[int]) -> None:
    wrong = dict(SETTINGS) | {"input": SETTINGS["input"] | {"roi": roi}}
    with pytest.raises(WeightsError, match="its sides must be multiples of 32"):
        VocoSettings.from_weights(replace(weights(tmp_path), settings=wrong))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"window_hu": [400, 400]}, "window_hu from 400 to 400"),
        ({"window_hu": [400, -1000]}, "window_hu from 400 to -1000"),
        ({"window_hu": [float("nan"), 400]}, "window_hu from nan"),
        ({"spacing_mm": [-4, 4, 4]}, "spacing_mm"),
        ({"spacing_mm": [4, 0, 4]}, "spacing_mm"),
        ({"overlap": 1.0}, "overlap 1;"),
        ({"overlap": -1}, "overlap -1"),
        ({"body_hu": float("nan")}, "body_hu nan"),
    ],
)
def test_a_card_by_which_the_network_would_see_nothing_is_refused(
    tmp_path: Path, wrong: dict[str, Any], why: str
) -> None:
    card = dict(SETTINGS) | {"input": SETTINGS["input"] | wrong}
    with pytest.raises(WeightsError, match=why):
        VocoSettings.from_weights(WeightsFile(**BARE, settings=card))


@pytest.mark.parametrize(
    "odd", [{"calibration": [-1, 0]}, {"calibration": [float("nan"), 0]}, {"smallest_mm3": float("inf")}]
)
def test_a_class_that_would_be_dropped_or_turned_round_is_refused(odd: dict[str, Any]) -> None:
    background, tissue = SETTINGS["classes"]
    with pytest.raises(WeightsError, match="calibration or smallest_mm3 of tissue"):
        VocoSettings.from_weights(
            WeightsFile(**BARE, settings=dict(SETTINGS) | {"classes": [background, tissue | odd]})
        )


class Nothing(nn.Module):
    """What a network answers whose numbers ran over."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.full((len(x), 2, *x.shape[2:]), torch.nan)


def test_a_network_that_answers_no_numbers_has_not_seen_a_normal_study(tmp_path: Path) -> None:
    reader = model(tmp_path)
    reader.network = Nothing()
    found, _ = study(tmp_path / "dicom")
    with pytest.raises(ValueError, match="values that are no numbers"):
        reader.read(found, quiet)


def test_a_segmentation_whose_first_class_is_not_the_background_is_refused(tmp_path: Path) -> None:
    lesion = {"name": "lesion", "kind": "abnormality", "concept": NODULE}  # among one class each has the probability 1
    for classes in ([lesion], [lesion, {"name": "background", "kind": "background"}]):
        with pytest.raises(WeightsError, match="the first class of a segmentation must be the background"):
            VocoSettings.from_weights(replace(weights(tmp_path), settings={**SETTINGS, "classes": classes}))


def setting(**changed: Any) -> ClassSetting:
    given = {"name": "n", "kind": Kind.ABNORMALITY, "concept": None, "site": None, "smallest_mm3": 10.0,
             "separate": True, "calibration": None, "threshold": 0.0}  # fmt: skip
    return ClassSetting(**(given | changed))


def two_blobs() -> Tensor:
    """Background and one class: a sure blob of 64 voxels, an unsure one of 27, and a speck of 1."""
    own = torch.full((20, 20, 20), 0.02)
    own[2:6, 2:6, 2:6], own[10:13, 10:13, 10:13], own[17, 17, 17] = 0.95, 0.6, 0.99
    return torch.stack([1 - own, own])


UNIT = Box(size=(20, 20, 20), affine=np.eye(4))


def parts_of(how: ClassSetting) -> list[Part]:
    found = Strongest.of(pack(two_blobs()), 2, UNIT)
    return parts(found, 1, how, regions(found)[1])


def test_each_connected_part_is_a_finding_and_specks_are_none() -> None:
    found = parts_of(setting())
    assert [p.mm3 for p in found] == [64.0, 27.0]
    assert [round(p.probability, 2) for p in found] == [0.95, 0.6]
    assert [int((p.pieces == 1).sum()) for p in found] == [64, 27]


def test_a_part_below_the_threshold_is_not_reported() -> None:
    assert [p.mm3 for p in parts_of(setting(threshold=0.8))] == [64.0]


def test_the_calibration_of_the_card_is_applied() -> None:
    (first, _) = parts_of(setting(calibration=(0.5, -1.0)))
    assert first.probability == pytest.approx(1 / (1 + np.exp(-(0.5 * np.log(0.95 / 0.05) - 1.0))), abs=1e-4)


def test_a_class_that_is_one_thing_keeps_its_parts_together() -> None:
    (only,) = parts_of(setting(separate=False, smallest_mm3=0.0))
    assert only.mm3 == 92.0


def test_every_part_gets_its_own_voxels_and_dropped_ones_go_to_nobody() -> None:
    found = Strongest.of(pack(two_blobs()), 2, UNIT)
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    classes = on_grid(found, (40, 40, 40), affine)
    masks = [mask_of(p, 1, classes, affine) for p in parts_of(setting())]
    assert [m[8, 8, 8] for m in masks] == [True, False]
    assert [m[22, 22, 22] for m in masks] == [False, True]
    assert not any(m[34, 34, 34] for m in masks), "the speck"
    assert not (masks[0] & masks[1]).any()
    assert (masks[0] | masks[1]).sum() + (classes[30:, 30:, 30:] == 1).sum() == (classes == 1).sum()
