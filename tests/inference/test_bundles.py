"""MONAI bundles: installed and pinned as data, run in isolation, their answers checked."""

import json
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Orientationd, Spacingd
from support.bundles import INFERENCE, METADATA, THRESHOLD_HU, bundle
from support.studies import Sample, small_chest

from radnode_inference import registry
from radnode_inference.bundles import bundle_model, isolation, store
from radnode_inference.bundles.bundle_model import BundleAnswerError, BundleModel, decoded, share, told_seen
from radnode_inference.bundles.card import BundleError
from radnode_inference.bundles.child import checkpoint, configuration, infer, on_source, prepared, to_ras
from radnode_inference.bundles.child_nnunet import check_numbers
from radnode_inference.bundles.codes import segment, segments
from radnode_inference.bundles.exchange import BITS, LABELS
from radnode_inference.bundles.isolation import Limits, NoIsolationError
from radnode_inference.bundles.series import best
from radnode_inference.findings import Kind
from radnode_inference.model import DeclinedError
from radnode_inference.study import Study

AXIAL = np.array([[0, 0, 1, -16], [0, 1, 0, -16], [2, 0, 0, -20], [0, 0, 0, 1.0]])
"""Of (slice, row, column) to LPS mm."""
NOBODY: frozenset[str] = frozenset()


def quiet(part: float, words: str) -> None:
    """Nobody is told."""


def output(**changes: Any) -> dict[str, Any]:
    """Metadata with something else said of the network's output."""
    form: dict[str, Any] = json.loads(json.dumps(METADATA["network_data_format"]))
    form["outputs"]["pred"] |= changes
    return {"network_data_format": form}


def source(**changes: Any) -> dict[str, Any]:
    """Metadata with something else said of the network's input."""
    form: dict[str, Any] = json.loads(json.dumps(METADATA["network_data_format"]))
    form["inputs"]["image"] |= changes
    return {"network_data_format": form}


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return small_chest(tmp_path_factory.mktemp("chest"), seed=6)


def in_yaml(folder: Path, added: str = "") -> Path:
    """A bundle whose configuration is `inference.yaml`; added: more lines of it."""
    given = bundle(folder) / "configs" / "inference.json"
    told = yaml.safe_dump(json.loads(given.read_text()), sort_keys=False) + added
    given.with_suffix(".yaml").write_text(told)
    given.unlink()
    return folder


def test_yaml_that_asks_for_python_objects_makes_none(tmp_path: Path) -> None:
    mark = tmp_path / "made"
    asks = f"evil: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{str(mark)!r}]]\n"
    added = store.add(in_yaml(tmp_path / "evil", asks), tmp_path / "weights", taken=NOBODY)
    with pytest.raises(yaml.constructor.ConstructorError):
        configuration(added.files)
    assert not mark.exists()


def test_a_bundle_sees_its_segments_where_they_are_on_the_source_images(tmp_path: Path, chest: Sample) -> None:
    gates = {"slice_mm": [0.5, 9]}
    added = store.add(in_yaml(tmp_path / "tissue"), tmp_path / "weights", taken=NOBODY, gates=gates)
    assert set(added.pins) == {"configs/metadata.json", "configs/inference.yaml", "models/model.pt"}
    card = registry.card("tissue", tmp_path / "weights")
    assert (card.modality, card.findings[0].meaning, card.findings[0].scheme) == ("CT", "Widget", "99RADNODE")
    model = registry.load(card, "cpu", tmp_path / "weights")
    study = Study.from_files(chest.files)
    found = model.read(study, quiet)
    assert [f.tracking_id for f in found.items] == ["Widget"]
    truth = found.volume.voxels > THRESHOLD_HU
    mask = found.items[0].mask
    assert mask is not None
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.95
    assert found.model.weights_sha256 == store.read(tmp_path / "weights" / ".bundles" / "tissue").sha256
    assert "0.3.1" in found.statements[1]
    assert found.partial_because is None
    assert "Input gates that this site set for the bundle: slices (mm): 0.5 to 9." in found.statements


def test_images_that_the_gates_do_not_admit_are_declined_before_the_bundle_runs(
    tmp_path: Path, chest: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, weights = Study.from_files(chest.files), tmp_path / "weights"
    for name, gates in (("head", {"region": ["HEAD", "BRAIN"]}), ("long", {"coverage_mm": 900}), ("open", {})):
        store.add(bundle(tmp_path / name), weights, taken=NOBODY, name=name, gates=gates)
    monkeypatch.setattr(BundleModel, "masks", lambda *_: ([], 1.0))
    monkeypatch.setattr(isolation, "probe", lambda: None)
    for name, gate in (("head", "region"), ("long", "coverage")):
        with pytest.raises(DeclinedError) as declined:
            registry.load(registry.card(name, weights), "cpu", weights).read(study, quiet)
        assert declined.value.gate == gate
    assert registry.card("head", weights).about.gates == ("region: HEAD or BRAIN",)
    found = registry.load(registry.card("open", weights), "cpu", weights).read(study, quiet)
    assert any("nothing was asked of the images" in s for s in found.statements)
    assert any("was not checked: a bundle has no reference" in s for s in found.statements)


def test_gates_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"the gates: .*regions"):
        store.add(bundle(tmp_path / "b"), tmp_path / "weights", taken=NOBODY, gates={"regions": ["HEAD"]})
    assert store.installed(tmp_path / "weights") == ()


def test_a_zip_with_one_folder_in_it_is_a_bundle_too(tmp_path: Path) -> None:
    bundle(tmp_path / "made" / "inside")
    shutil.make_archive(str(tmp_path / "tissue-ct"), "zip", tmp_path / "made")
    added = store.add(tmp_path / "tissue-ct.zip", tmp_path / "weights", taken=NOBODY)
    assert added.described.name == "tissue-ct"
    assert set(added.pins) == {"configs/metadata.json", "configs/inference.json", "models/model.pt"}
    added.verify()


def test_installing_evaluates_and_imports_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "evaluated"
    touch = f"$__import__('pathlib').Path({str(mark)!r}).touch()"
    bad = bundle(tmp_path / "evil", metadata={"task": touch}, inference={"imports": [touch], "network_def": touch})
    (bad / "scripts").mkdir()
    (bad / "scripts" / "__init__.py").write_text(f"open({str(mark)!r}, 'w')")
    store.add(bad, tmp_path / "weights", taken=NOBODY)
    assert [c.identity.name for c in store.cards(tmp_path / "weights")] == ["evil"]
    assert not mark.exists()


@pytest.mark.parametrize("change", ["configs/inference.json", "models/model.pt", "scripts/new.py"])
def test_a_bundle_with_a_changed_or_added_file_is_not_run(
    tmp_path: Path, chest: Sample, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    added = store.add(bundle(tmp_path / "tissue"), tmp_path / "weights", taken=NOBODY)
    for folder in (added.files, *added.files.iterdir()):
        folder.chmod(0o755)
    file = added.files / change
    file.parent.mkdir(exist_ok=True)
    if file.exists():
        file.chmod(0o644)
    file.write_bytes(b"changed")
    monkeypatch.setattr(isolation, "run", lambda *_, **__: pytest.fail("it was run"))
    with pytest.raises(BundleError, match="not what was added"):
        BundleModel(added).read(Study.from_files(chest.files), quiet)
    with pytest.raises(BundleError, match="not what was added"):
        registry.load(registry.card("tissue", tmp_path / "weights"), "cpu", tmp_path / "weights")


def test_without_isolation_a_bundle_is_declined_and_not_run(
    tmp_path: Path, chest: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(*_: object, **__: object) -> None:
        raise NoIsolationError("Operation not permitted (unshare)")

    monkeypatch.setattr(bundle_model.isolation, "run", impossible)
    model = BundleModel(store.add(bundle(tmp_path / "tissue"), tmp_path / "weights", taken=NOBODY))
    with pytest.raises(DeclinedError, match=r"isolation: .*unshare"):
        model.read(Study.from_files(chest.files), quiet)
    with pytest.raises(DeclinedError, match=r"isolation: .*unshare"):
        registry.load(registry.card("tissue", tmp_path / "weights"), "cpu", tmp_path / "weights")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (output(channel_def={"0": "background"}), "nothing but background"),
        (output(channel_def={"0": "background", "2": "liver"}), "without a gap"),
        (output(channel_def={"zero": "liver"}), "misstates"),
        (output(format="image"), "takes segmentations"),
        ({"network_data_format": {}}, "lacks"),
        (output(channel_def={"0": "background", "1": "cyst", "2": "cyst"}), "several classes called 'cyst'"),
        (output(channel_def={"0": "background", "1": " "}), "one of its classes has no name"),
        (source(num_channels="one"), "misstates"),
        (
            {"network_data_format": METADATA["network_data_format"] | {"inputs": {"image": []}}},
            "its input is not described",
        ),
    ],
)
def test_a_bundle_that_cannot_be_served_is_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(BundleError, match=why):
        store.add(bundle(tmp_path / "tissue", metadata=changes), tmp_path / "weights", taken=NOBODY)
    assert store.installed(tmp_path / "weights") == ()
    assert list((tmp_path / "weights" / ".bundles").iterdir()) == []


def test_several_channels_at_once_are_refused(tmp_path: Path) -> None:
    form: dict[str, Any] = json.loads(json.dumps(METADATA["network_data_format"]))
    form["inputs"]["image"]["num_channels"] = 4
    with pytest.raises(BundleError, match="4 channels"):
        store.add(bundle(tmp_path / "b", metadata={"network_data_format": form}), tmp_path / "weights", taken=NOBODY)


def test_a_zip_that_climbs_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("../../escaped.txt", "x")
    with pytest.raises(BundleError, match="outside the bundle"):
        store.add(tmp_path / "b.zip", tmp_path / "weights", taken=NOBODY)
    assert not list(tmp_path.rglob("escaped.txt"))


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_zip_that_is_damaged_inside_is_refused(tmp_path: Path, packing: int) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w", packing) as archive:
        archive.writestr("configs/metadata.json", json.dumps(METADATA))
        start = archive.infolist()[0].header_offset + 30 + len("configs/metadata.json")
    whole = bytearray((tmp_path / "b.zip").read_bytes())
    whole[start + 20 : start + 60] = b"\xff" * 40
    (tmp_path / "b.zip").write_bytes(whole)
    with pytest.raises(BundleError, match=r"b\.zip cannot be unpacked"):
        store.add(tmp_path / "b.zip", tmp_path / "weights", taken=NOBODY)


def test_a_link_in_a_bundle_is_refused(tmp_path: Path) -> None:
    made = bundle(tmp_path / "tissue")
    (made / "models" / "other.pt").symlink_to("/etc/passwd")
    with pytest.raises(BundleError, match="a link"):
        store.add(made, tmp_path / "weights", taken=NOBODY)


def test_a_name_is_given_once(tmp_path: Path) -> None:
    made = bundle(tmp_path / "tissue")
    with pytest.raises(BundleError, match="already"):
        store.add(made, tmp_path / "weights", taken=frozenset(("tissue",)))
    store.add(made, tmp_path / "weights", taken=NOBODY)
    with pytest.raises(BundleError, match="already"):
        store.add(made, tmp_path / "weights", taken=NOBODY)
    store.add(made, tmp_path / "weights", taken=NOBODY, name="again")
    store.remove("tissue", tmp_path / "weights")
    assert [b.described.name for b in store.installed(tmp_path / "weights")] == ["again"]


def test_a_bundle_of_another_modality_finds_no_series(tmp_path: Path, chest: Sample) -> None:
    model = BundleModel(store.add(bundle(tmp_path / "t"), tmp_path / "weights", taken=NOBODY, modality="MR"))
    with pytest.raises(DeclinedError, match="no-suitable-series"):
        model.read(Study.from_files(chest.files), quiet)
    worded = BundleModel(store.add(bundle(tmp_path / "w"), tmp_path / "weights", taken=NOBODY, series_word="venous"))
    with pytest.raises(DeclinedError, match="venous"):
        worded.read(Study.from_files(chest.files), quiet)


def test_of_several_mr_series_none_is_guessed(tmp_path: Path, chest: Sample) -> None:
    study = Study.from_files(chest.files)
    header = study.series[0].headers[0]
    modality = replace(header, elements={**header.elements, 0x00080060: (b"CS", b"MR")})
    series = tuple(replace(study.series[0], series_uid=u, headers=(modality,) * 12) for u in ("1", "2"))
    model = BundleModel(store.add(bundle(tmp_path / "t"), tmp_path / "weights", taken=NOBODY, modality="MR"))
    with pytest.raises(DeclinedError, match="ambiguous-series"):
        model.read(replace(study, series=series), quiet)


@pytest.mark.parametrize(
    ("name", "value", "kind", "side"),
    [
        ("Left_Kidney", "64033007", Kind.ANATOMY, "Left"),
        ("spleen", "78961009", Kind.ANATOMY, None),
        ("postcava", "64131007", Kind.ANATOMY, None),
        ("tumour", "108369006", Kind.ABNORMALITY, None),
        ("Whole tumor (GD)", "WHOLE_TUMOR_GD", Kind.ABNORMALITY, None),
        ("a structure without a code", "A_STRUCTU_823EA2", Kind.ANATOMY, None),
        ("pulmonary_embolism", "59282003", Kind.ABNORMALITY, None),
        ("Pneumothorax", "36118008", Kind.ABNORMALITY, None),
        ("subdural_hemorrhage_left", "1386000", Kind.ABNORMALITY, "Left"),
        ("aortic dissection", "AORTIC_DI_8FCAF2", Kind.ABNORMALITY, None),
        ("masseter_right", "MASSETER", Kind.ANATOMY, "Right"),
        ("肝", "CLASS_55A628", Kind.ANATOMY, None),
        ("腎腫瘤", "CLASS_221212", Kind.ABNORMALITY, None),
    ],
)
def test_common_names_get_their_codes_and_others_a_code_of_our_own(
    name: str, value: str, kind: Kind, side: str | None
) -> None:
    made = segment(3, name)
    assert (made.concept.value, made.kind, made.laterality and made.laterality.meaning) == (value, kind, side)
    assert made.concept.scheme == ("SCT" if value.isdigit() else "99RADNODE")


def test_two_names_never_share_a_code_and_keep_their_letters() -> None:
    made = [
        segment(1, n).concept for n in ("brachiocephalic_trunk", "brachiocephalic_vein_left", "Ösophagus", "肝", "脾")
    ]
    assert len({c.value for c in made}) == 5 and all(len(c.value) <= 16 for c in made)
    assert [c.meaning for c in made] == ["Brachiocephalic trunk", "Brachiocephalic vein", "Ösophagus", "肝", "脾"]


def test_the_site_says_of_a_class_that_it_is_abnormal_or_anatomy(tmp_path: Path) -> None:
    one = bundle(tmp_path / "b", metadata=output(channel_def={"0": "background", "1": "Widget", "2": "stone"}))
    kinds = {"Widget": "abnormality", "stone": "anatomy"}
    added = store.add(one, tmp_path / "weights", taken=NOBODY, kinds=kinds)
    for found in (added, store.read(added.folder)):
        assert {s.name: s.kind for s in found.described.segments if s.kind} == kinds
    with pytest.raises(BundleError, match="it has no class 'Gadget'; it has Widget, stone"):
        store.add(one, tmp_path / "other", taken=NOBODY, kinds={"Gadget": "anatomy"})


@pytest.mark.parametrize("inverted", [True, False])
@pytest.mark.parametrize("pixdim", [(1.0, 1.0, 2.0), (0.5, 0.5, 1.0)])
def test_a_result_lies_where_its_affine_says_also_when_its_shape_is_that_of_the_images(
    inverted: bool, pixdim: tuple[float, float, float]
) -> None:
    affine = AXIAL
    truth = np.zeros((20, 32, 32), np.float32)
    truth[3:6, 4:8, 20:28] = 1  # on the patient's left, in front
    image = MetaTensor(torch.from_numpy(truth.transpose(2, 1, 0).copy())[None], affine=torch.as_tensor(to_ras(affine)))
    turned = Compose([Orientationd("image", "RAS", labels=None), Spacingd("image", pixdim, mode="nearest")])
    made = turned({"image": image})["image"]
    pred = MetaTensor(made.as_tensor().clone(), meta=dict(made.meta))
    if inverted:
        pred = Invertd("pred", turned, orig_keys="image", nearest_interp=True)({"image": made, "pred": pred})["pred"]
    found = on_source(pred, truth.shape, affine)[0] > 0.5
    assert 2 * (found & (truth > 0)).sum() / (found.sum() + truth.sum()) > 0.7
    assert np.argwhere(found)[:, 2].min() > 16, "the other side of the patient"


def test_a_result_without_an_affine_is_not_placed_by_guess() -> None:
    with pytest.raises(TypeError, match="does not say where it lies"):
        on_source(torch.zeros(1, 7, 6, 5), (5, 6, 7), np.eye(4))


STEPS = [{**s, "labels": None} if "Orient" in s["_target_"] else s for s in INFERENCE["preprocessing"]["transforms"]]
"""MONAI warns where nobody says which letters stand for the axes, and warnings are errors here."""
ASKED: dict[str, Any] = {"affine": AXIAL.tolist(), "classes": 2, "softmax": True, "threads": 1}
POST: dict[str, Any] = {
    "_target_": "Compose",
    "transforms": [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}],
}


def moved(change: str) -> dict[str, Any]:
    """Postprocessing that changes the affine of the labels."""
    func = f"$lambda x: (x.affine.{change}, x)[1]"
    return {**POST, "transforms": [*POST["transforms"], {"_target_": "Lambdad", "keys": "pred", "func": func}]}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, "values that are no numbers"),
        ({"postprocessing": moved("__setitem__((0, 3), 9999.0)")}, "lies beside the images"),
        ({"postprocessing": moved("__setitem__((0, 0), float('nan'))")}, "lies beside the images"),
    ],
    ids=["no numbers", "elsewhere", "nowhere"],
)
def test_a_result_that_says_nothing_of_the_images_is_no_negative_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], why: str
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    broken = bundle(tmp_path / "b", inference={"preprocessing": {"_target_": "Compose", "transforms": STEPS}} | changed)
    if not changed:
        weight = torch.full((2, 1, 1, 1, 1), torch.nan)
        torch.save({"weight": weight, "bias": torch.zeros(2)}, broken / "models" / "model.pt")
    with pytest.raises(ValueError, match=why):
        infer(broken, ASKED, np.zeros((20, 32, 32), np.float32))


def test_a_result_for_a_part_of_the_images_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    steps = [
        *STEPS[:3],
        {"_target_": "CenterSpatialCropd", "keys": "image", "roi_size": [16, 32, 20]},
    ]
    cut = {"preprocessing": {"_target_": "Compose", "transforms": steps}, "postprocessing": POST}
    found = infer(bundle(tmp_path / "cut", inference=cut), ASKED, np.zeros((20, 32, 32), np.float32))
    assert 0.5 <= found.seen <= 0.6
    assert told_seen(share(f"{found.seen:.4f}")) == (
        f"The bundle answered for {int(100 * found.seen)} % of these images only; beside that nothing was looked at."
    )
    uncut = {"preprocessing": {"_target_": "Compose", "transforms": STEPS}}
    whole = infer(bundle(tmp_path / "whole", inference=uncut), ASKED, np.zeros((20, 32, 32), np.float32))
    assert whole.seen == 1.0 and told_seen(whole.seen) is None
    for odd in ("", "nan", "2", "0.0000", "1.0001"):
        with pytest.raises(BundleAnswerError, match="did not say what part"):
            share(odd)


def test_weights_of_an_nnunet_that_are_no_numbers_are_refused() -> None:
    check_numbers([{"a": torch.ones(2), "n": torch.tensor(3)}])
    with pytest.raises(ValueError, match=r"network 2 have values that are no numbers \(b\)"):
        check_numbers([{"a": torch.ones(2)}, {"b": torch.tensor([1.0, torch.nan])}])


def test_the_weights_are_those_that_the_bundle_s_own_loader_reads(tmp_path: Path) -> None:
    loader = {"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/' + @modelname", "load_dict": {}}
    by_handler: dict[str, Any] = {"handlers": [{"_target_": "StatsHandler"}, loader]}
    for number, changed in enumerate(({"checkpointloader": loader}, by_handler)):
        lean = bundle(tmp_path / str(number), inference={"modelname": "$'model_lowres.pt'", **changed})
        with pytest.raises(FileNotFoundError, match=r"reads model_lowres\.pt, which is not in the bundle"):
            checkpoint(configuration(lean), lean)
        (lean / "models" / "model_lowres.pt").write_bytes(b"")
        assert checkpoint(configuration(lean), lean).name == "model_lowres.pt"
    usual = bundle(tmp_path / "usual")
    assert checkpoint(configuration(usual), usual) == usual / "models" / "model.pt"


def test_a_published_swin_unetr_with_the_size_of_its_images_is_still_built(tmp_path: Path) -> None:
    form = {"_target_": "SwinUNETR", "img_size": 96, "in_channels": 1, "out_channels": 2, "feature_size": 12}
    parser = configuration(bundle(tmp_path / "swin", inference={"network_def": form}))
    assert type(parser.get_parsed_content("network_def")).__name__ == "SwinUNETR"


def test_a_configuration_may_name_its_image_and_its_transforms_elsewhere(tmp_path: Path) -> None:
    for number, (key, steps) in enumerate((("picture", "$@before"), ("$monai.utils.CommonKeys.IMAGE", "@before"))):
        form = json.loads(json.dumps(STEPS).replace('"image"', '"@called"'))
        given = {"called": key, "before": form, "preprocessing": {"_target_": "Compose", "transforms": steps}}
        parser = configuration(bundle(tmp_path / str(number), inference=given))
        found, image = prepared(
            parser, np.full((8, 9, 10), 400, np.float32), np.diag([3.0, 3.0, 3.0, 1.0])[[2, 1, 0, 3]]
        )
        assert (found, tuple(image.shape), float(image.max())) == (key if number == 0 else "image", (1, 10, 9, 8), 1.0)
    parser = configuration(
        bundle(tmp_path / "loop", inference={"a": "@b", "b": "@a", "preprocessing": {"transforms": "@a"}})
    )
    with pytest.raises(TypeError, match="preprocessing is no list of transforms"):
        prepared(parser, np.zeros((8, 9, 10), np.float32), np.eye(4))


def test_of_ct_series_of_several_parts_the_gate_chooses_and_without_one_none_is_guessed(chest: Sample) -> None:
    study = Study.from_files(chest.files)
    series = tuple(
        replace(study.series[0], series_uid=part, headers=tuple(
            replace(h, elements={**h.elements, 0x00180015: (b"CS", part.encode()), 0x0008103E: (b"LO", b"")})
            for h in study.series[0].headers
        ))
        for part in ("CHEST", "ABDOMEN")
    )  # fmt: skip
    both = replace(study, series=series)
    assert best(both, "CT", "", ("ABDOM", "SPLEEN")).series.series_uid == "ABDOMEN"
    assert best(both, "CT", "", ("CHEST",)).series.series_uid == "CHEST"
    with pytest.raises(DeclinedError, match=r"ambiguous-series: .*or a region among its gates"):
        best(both, "CT", "")
    assert best(replace(study, series=series[:1]), "CT", "").series.series_uid == "CHEST"


def test_labels_and_bits_become_masks_and_numbers_beyond_the_classes_are_refused() -> None:
    classes = segments({"0": "background", "1": "liver", "2": "spleen"})
    values = np.array([[[0, 2, 3]]], np.uint16)
    assert [m.tolist() for _, m in decoded(LABELS, values, classes)] == [
        [[[False, True, False]]],
        [[[False, False, True]]],
    ]
    assert [m.tolist() for _, m in decoded(BITS, values, classes)] == [
        [[[False, True, True]]],
        [[[False, False, False]]],
    ]
    with pytest.raises(BundleAnswerError, match="answered 4"):
        decoded(LABELS, values + 1, classes)
    with pytest.raises(BundleAnswerError, match="answered 8"):
        decoded(BITS, np.array([[[8]]], np.uint16), classes)
    with pytest.raises(BundleAnswerError, match="did not answer"):
        decoded("pickle", values, classes)


def test_a_bundle_that_fails_says_why(tmp_path: Path, chest: Sample) -> None:
    wrong = bundle(
        tmp_path / "t", inference={"network_def": {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}}
    )
    model = BundleModel(store.add(wrong, tmp_path / "weights", taken=NOBODY), Limits(seconds=120))
    with pytest.raises(BundleAnswerError, match=r"state_dict"):
        model.read(Study.from_files(chest.files), quiet)
