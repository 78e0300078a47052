"""nnU-Net and TotalSegmentator folders as models: read as data, turned the right way round, and refused where nothing is certain."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bundles import nnunet_folder

from radnode_inference import registry
from radnode_inference.bundles import nnunet, store
from radnode_inference.bundles.bundle_model import CHILDREN
from radnode_inference.bundles.card import BundleError, Framework
from radnode_inference.findings import Kind

NOBODY: frozenset[str] = frozenset()


def added(tmp_path: Path, **changes: Any) -> store.Bundle:
    given = {k: changes.pop(k) for k in ("plans", "dataset") if k in changes}
    return store.add(nnunet_folder(tmp_path / "made", **given), tmp_path / "weights", taken=NOBODY, **changes)


def test_a_trained_folder_is_pinned_and_described_without_opening_its_checkpoint(tmp_path: Path) -> None:
    made = nnunet_folder(tmp_path / "made")
    (made / "fold_0" / "checkpoint_final.pth").write_bytes(b"no pickle at all")
    found = store.add(made, tmp_path / "weights", taken=NOBODY)
    assert set(found.pins) == {"plans.json", "dataset.json", "fold_0/checkpoint_final.pth"}
    d = found.described
    assert (d.name, d.modality, d.framework, d.orientation) == ("dataset900_organs", "CT", Framework.NNUNET, "RAS")
    assert [(s.name, s.kind, s.concept.value) for s in d.segments if s.kind] == [
        ("liver", Kind.ANATOMY, "10200004"), ("lung_left", Kind.ANATOMY, "39607008"),
    ]  # fmt: skip
    assert "nnU-Net model" in found.card.title
    assert store.read(found.folder).described == d


def test_a_folder_around_the_trained_one_is_looked_into(tmp_path: Path) -> None:
    nnunet_folder(tmp_path / "Dataset900_Organs" / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    found = store.add(tmp_path / "Dataset900_Organs", tmp_path / "weights", taken=NOBODY)
    assert "plans.json" in found.pins


def test_of_a_folder_as_training_left_it_only_what_runs_is_kept(tmp_path: Path) -> None:
    made = nnunet_folder(tmp_path / "made")
    for name in ("progress.png", "validation/PATIENT_007.nii.gz", "checkpoint_best.pth"):
        place = made / "fold_0" / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"x")
    (made / "dataset_fingerprint.json").write_text("{}")
    found = store.add(made, tmp_path / "weights", taken=NOBODY)
    assert set(found.pins) == {"plans.json", "dataset.json", "fold_0/checkpoint_final.pth"}
    assert not list(found.files.rglob("*validation*"))
    assert (made / "fold_0" / "validation" / "PATIENT_007.nii.gz").is_file(), "the site's own stays"


def test_of_several_trained_configurations_one_must_be_given(tmp_path: Path) -> None:
    for form in ("2d", "3d_fullres"):
        nnunet_folder(tmp_path / "Dataset900_Organs" / f"nnUNetTrainer__nnUNetPlans__{form}")
    with pytest.raises(BundleError, match=r"it holds 2 trained nnU-Nets \(nnUNetTrainer__nnUNetPlans__2d, "):
        store.add(tmp_path / "Dataset900_Organs", tmp_path / "weights", taken=NOBODY, name="organs")


def test_a_bundle_and_a_trained_folder_each_have_code_of_ours_that_runs_them() -> None:
    assert set(CHILDREN) == set(Framework)


def test_without_nnunet_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nnunet, "find_spec", lambda _: None)
    added(tmp_path)
    card = registry.card("dataset900_organs", tmp_path / "weights")
    with pytest.raises(BundleError, match=r"pip install 'radnode\[nnunet\]'"):
        registry.load(card, "cpu", tmp_path / "weights")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dataset": {"channel_names": {"0": "CT", "1": "PET"}}}, "2 images at once"),
        ({"dataset": {"channel_names": {"0": "noNorm"}}}, "give one"),
        ({"dataset": {"labels": {"background": 0, "whole": [1, 2], "core": 2}}}, "regions that overlap"),
        ({"dataset": {"labels": {"background": 0, "liver": 2}}}, "without a gap"),
        ({"dataset": {"labels": {"liver": 0, "spleen": 1}}}, "not the background"),
        ({"dataset": {"labels": {"background": 0, "liver": "one"}}}, "no numbers"),
        ({"dataset": {"labels": None}}, "lacks or misstates"),
        ({"plans": {"image_reader_writer": "SimpleITKIO"}}, "which way round"),
        ({"orientation": "RAL"}, "no orientation"),
        ({"orientation": "sideways"}, "no orientation"),
    ],
)
def test_a_folder_that_cannot_be_served_is_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(BundleError, match=why):
        added(tmp_path, **changes)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    made = nnunet_folder(tmp_path / "made")
    (made / "fold_0" / "checkpoint_final.pth").unlink()
    with pytest.raises(BundleError, match="no fold_N"):
        store.add(made, tmp_path / "weights", taken=NOBODY)


@pytest.mark.parametrize(
    ("changes", "orientation"),
    [
        ({"plans": {"image_reader_writer": "SimpleITKIO"}, "orientation": "LPS"}, "LPS"),
        ({"plans": {"image_reader_writer": "SimpleITKIO", "dataset_name": "Dataset291_TotalSegmentator_part1"}}, "RAS"),
    ],
)
def test_how_the_training_images_lay_is_said_or_known(
    tmp_path: Path, changes: dict[str, Any], orientation: str
) -> None:
    found = added(tmp_path, **changes)
    assert store.read(found.folder).described.orientation == orientation


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
def test_voxels_are_turned_as_the_training_images_lay_and_back(orientation: str) -> None:
    voxels = np.arange(24.0).reshape(2, 3, 4)
    affine = np.array(
        [[0, 0.1, -0.7, 5], [0, 0.8, 0.1, 6], [-2.0, 0, 0, 7], [0, 0, 0, 1]]
    )  # slices feetward, columns to the right
    order, signs, spacing = nnunet.turn(affine, orientation)
    image = voxels.transpose(order)[signs]
    index = np.indices(voxels.shape).reshape(3, -1)
    placed = (affine[:3, :3] @ index).reshape(3, *voxels.shape)
    for axis, letter in enumerate(reversed(orientation)):
        towards, sign = nnunet.TOWARDS[letter]
        along = sign * placed[towards].transpose(order)[signs]
        assert (np.diff(along, axis=axis) > 0).all(), letter
    assert sorted(spacing) == pytest.approx(sorted(np.linalg.norm(affine[:3, :3], axis=0)))
    assert np.array_equal(image[signs].transpose(np.argsort(order)), voxels)
