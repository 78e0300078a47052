"""The generator: the same seed gives the same patient, truth agrees with the images, and the files are marked and valid."""

import itertools
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from radnode_inference.findings import uid_from
from radnode_inference.generator import breast, chest
from radnode_inference.generator.dicom_parts import Compression, Layout, Order
from radnode_inference.generator.dicom_writer import write_breast, write_chest
from radnode_inference.generator.fields import FLIPS, Orientation
from radnode_inference.generator.studies import MISSING_SLICES, demo_studies
from radnode_inference.generator.tofts import enhancement_ratio
from radnode_inference.load import load
from radnode_inference.match import best_ct, is_sharp
from radnode_inference.models.breast_mri.roles import roles_of
from radnode_inference.study import Study

SMALL = (30, 72, 72)
QA_WORDS = {"PHANTOM", "QA", "QC"}


def order(**changes: object) -> Order:
    given = {"patient_name": "DEMO^TEST", "patient_id": "DEMO-T", "study_description": "MR breast", **changes}
    return Order(**given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def with_lesion() -> breast.BreastPhantom:
    return breast.phantom(3, lesion=True, shape=(40, 96, 96))


def test_the_same_seed_gives_the_same_patient_and_another_seed_another() -> None:
    first, again, other = (breast.phantom(s, shape=SMALL, phases=6) for s in (5, 5, 6))
    assert np.array_equal(first.dce, again.dce)
    assert not np.array_equal(first.dce, other.dce)
    assert np.array_equal(chest.phantom(5, shape=SMALL).hu, chest.phantom(5, shape=SMALL).hu)


@pytest.mark.parametrize("seed", range(4))
def test_normal_studies_have_no_lesion_and_asked_for_lesions_are_there(seed: int) -> None:
    assert not breast.phantom(seed, lesion=False, shape=SMALL, other_sequences=False).lesions
    assert breast.phantom(seed, lesion=True, shape=SMALL, other_sequences=False).lesions
    assert not chest.phantom(seed, nodules=False, shape=SMALL).nodules
    assert chest.phantom(seed, nodules=True, shape=(60, 96, 96)).nodules


@pytest.mark.parametrize("seed", range(3))
def test_a_lesion_enhances_as_its_curve_says_and_restricts_diffusion(seed: int) -> None:
    made = breast.phantom(seed, lesion=True, shape=(48, 128, 128))
    for truth in made.lesions:
        inner = ndimage.binary_erosion(truth.mask)
        curve = made.dce[:, inner if inner.sum() > 5 else truth.mask].mean(axis=1)
        ratio = enhancement_ratio(curve.astype(float), made.times_s)
        low, high = {"persistent": (0, 0.9), "plateau": (0.9, 1.1), "washout": (1.1, 3)}[truth.curve]
        assert low < ratio < high
        assert truth.lesion.adc_mm2_s < 1.5e-3 < 1.85e-3  # below that of gland
        assert (truth.lesion.centre[0] > 0) == (truth.laterality == "L")
        assert (truth.mask & made.breast).sum() > 0.9 * truth.mask.sum()


@pytest.mark.parametrize("orientation", list(Orientation))
def test_the_patient_stays_in_place_whatever_way_the_slices_lie(orientation: Orientation) -> None:
    made = breast.phantom(3, lesion=True, shape=(64, 64, 64), orientation=orientation, other_sequences=False)
    truth = made.lesions[0]
    index = np.argwhere(truth.mask).mean(axis=0)
    place = made.grid.affine[:3, :3] @ index + made.grid.affine[:3, 3]
    assert np.linalg.norm(place - truth.lesion.centre) < 4.0


def test_nodules_lie_in_the_lung_of_their_side_and_the_right_lung_is_at_negative_x() -> None:
    made = chest.phantom(7, nodules=True, shape=(96, 128, 128))
    x = made.grid.points()[0]
    assert x[made.lung_right].mean() < -30 < 30 < x[made.lung_left].mean()
    for truth in made.nodules:
        lung = made.lung_left if truth.laterality == "L" else made.lung_right
        assert (truth.mask & lung).sum() > 0.95 * truth.mask.sum()
    both = made.lung_right | made.lung_left
    assert -900 < np.median(made.hu[both]) < -780
    assert made.hu[made.airways].mean() < -850
    assert 1500 < both.sum() * made.grid.voxel_ml < 6500


PLAIN = (Layout.SERIES, Layout.TEMPORAL, Layout.ENHANCED)
MAKERS = tuple(v for v in Layout if v not in PLAIN)


@pytest.mark.parametrize(
    ("layout", "compression"),
    [*((v, c) for v in PLAIN for c in Compression), *((v, Compression.NATIVE) for v in MAKERS)],
)
def test_written_breast_images_are_marked_and_pass_dciodvfy(
    layout: Layout, compression: Compression, tmp_path: Path
) -> None:
    made = breast.phantom(3, lesion=True, shape=(10, 48, 48))
    files = write_breast(made, tmp_path, order(layout=layout, compression=compression))
    study = Study.from_files(files)
    phases = len(made.times_s)
    counts = {Layout.SERIES: 4 + phases, Layout.SIEMENS: 2 + 3 * phases, Layout.GE: 4 + phases, Layout.PHILIPS: 5}
    assert study.generated
    assert len(study.series) == counts.get(layout, 4)
    for series in study.series:
        known = (
            "TriggerTime" if layout is Layout.GE else "-"
        )  # GE writes it without gating, which PS3.3 C.8.3.1 forbids
        assert [e for e in errors_of(series.headers[0].path) if known not in e] == []


@pytest.mark.parametrize("layout", MAKERS)
def test_each_maker_writes_its_own_private_elements(layout: Layout, tmp_path: Path) -> None:
    made = breast.phantom(3, lesion=True, shape=(8, 24, 24))
    files = write_breast(made, tmp_path, order(layout=layout))
    creators = {Layout.SIEMENS: "SIEMENS MR HEADER", Layout.GE: "GEMS_PARM_01"}
    wanted = creators.get(layout, "Philips Imaging DD 001")
    assert any(wanted.encode() in p.read_bytes() for p in files)


@pytest.mark.parametrize("layout", [Layout.SIEMENS, Layout.GE, Layout.PHILIPS])
def test_a_makers_chest_ct_has_a_soft_and_a_sharp_kernel_and_the_right_densities(
    layout: Layout, tmp_path: Path
) -> None:
    made = chest.phantom(2, shape=(40, 48, 48))
    files = write_chest(made, tmp_path, order(layout=layout, body_part="CHEST"))
    study = Study.from_files(files)
    assert len(study.series) == 3
    assert all(errors_of(s.headers[0].path) == [] for s in study.series)
    soft, hard = study.series[1:]
    assert best_ct(study).series.series_uid == soft.series_uid
    assert is_sharp(soft.headers[0].text("ConvolutionKernel")) is False
    assert is_sharp(hard.headers[0].text("ConvolutionKernel")) is True
    volume = load(soft.headers, soft.series_uid)
    to_made = np.linalg.inv(made.grid.affine) @ volume.affine
    index = np.argwhere(volume.voxels > -1024).T
    there = np.rint(to_made[:3, :3] @ index + to_made[:3, 3:]).astype(int)
    assert np.abs(volume.voxels[tuple(index)] - np.rint(made.hu)[tuple(there)]).max() <= 1e-3


def test_a_written_ct_passes_dciodvfy_and_holds_the_same_densities(tmp_path: Path) -> None:
    made = chest.phantom(2, shape=(12, 64, 64))
    files = write_chest(made, tmp_path, order(body_part="CHEST"))
    assert errors_of(files[0]) == []
    study = Study.from_files(files)
    volume = load(study.series[0].headers, study.series[0].series_uid)
    assert np.abs(volume.voxels - np.rint(made.hu)).max() <= 1e-3
    assert np.allclose(np.abs(np.linalg.det(volume.affine)), np.abs(np.linalg.det(made.grid.affine)), rtol=1e-5)


@pytest.mark.parametrize("position", list(FLIPS))
def test_the_volume_read_back_lies_where_the_generator_drew_it(position: str, tmp_path: Path) -> None:
    made = chest.phantom(2, shape=(12, 40, 40), patient_position=position)
    study = Study.from_files(write_chest(made, tmp_path, order(body_part="CHEST", patient_position=position)))
    volume = load(study.series[0].headers, study.series[0].series_uid)
    to_made = np.linalg.inv(made.grid.affine) @ volume.affine
    index = np.argwhere(np.ones(volume.shape, bool)).T
    there = np.rint(to_made[:3, :3] @ index + to_made[:3, 3:]).astype(int)
    assert np.abs(volume.voxels.ravel() - np.rint(made.hu)[tuple(there)]).max() <= 1e-3


def test_equal_orders_give_equal_files(tmp_path: Path) -> None:
    made = breast.phantom(3, shape=(6, 24, 24))
    one = write_breast(made, tmp_path / "a", order())
    two = write_breast(made, tmp_path / "b", order())
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]


def test_the_demonstration_set_has_every_purpose_with_its_own_uids() -> None:
    studies = demo_studies()
    counts = {(s.modality, s.purpose) for s in studies}
    assert {("MR", "normal"), ("MR", "lesion"), ("CT", "normal"), ("CT", "lesion"), ("QA", "phantom")} <= counts
    assert {s.modality for s in studies if s.purpose == "unsuitable"} == {"MR", "CT"}
    assert len({s.study_uid for s in studies}) == len({s.name for s in studies}) == len(studies)
    for s in studies:
        words = f"{s.order.patient_name} {s.order.patient_id} {s.order.study_description}".upper().replace("^", " ")
        assert bool(set(words.replace("-", " ").split()) & QA_WORDS) == (s.purpose == "phantom")


def test_the_test_object_says_in_its_header_that_it_is_one(tmp_path: Path) -> None:
    spec = next(s for s in demo_studies() if s.purpose == "phantom")
    ds = pydicom.dcmread(spec.write(tmp_path)[0])
    assert ds.QualityControlSubject == "YES"
    assert ds.StudyInstanceUID == spec.study_uid != uid_from(("",))


def test_the_unsuitable_ct_lacks_the_slices_it_says(tmp_path: Path) -> None:
    made = chest.phantom(8, shape=(60, 32, 32))
    files = write_chest(made, tmp_path, order(body_part="CHEST"), leave_out=MISSING_SLICES)
    assert len(files) == 60 - len(MISSING_SLICES)


def errors_of(path: Path | None) -> list[str]:
    run = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    said = (run.stderr + run.stdout).splitlines()
    assert said, "dciodvfy said nothing"
    return [line for line in said if line.startswith("Error")]


def generate(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """`python -m radnode_inference.generator ...`"""
    monkeypatch.setattr(sys, "argv", ["generator", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("radnode_inference.generator", run_name="__main__")
    assert ended.value.code == 0


def test_the_command_writes_the_truth_of_a_breast_beside_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(
        monkeypatch, tmp_path / "dicom", "--seed", 1006, "--lesion", "--shape", 20, 64, 64, "--orientation", "sagittal",
        "--layout", "siemens", "--truth", tmp_path / "truth",
    )  # fmt: skip
    study = Study.from_folder(tmp_path / "dicom")
    labels = json.loads((tmp_path / "truth" / "truth.json").read_text())
    assert (labels["kind"], labels["seed"], labels["study_uid"]) == ("breast", 1006, study.study_uid)
    (lesion,) = labels["lesions"]
    assert (lesion["curve"], lesion["laterality"]) in itertools.product(("persistent", "plateau", "washout"), "LR")
    assert len(labels["times_s"]) == len(lesion["curve_signal"]) == len(lesion["mean_signal"]) > 4
    rise = [max(s) / s[0] for s in (lesion["curve_signal"], lesion["mean_signal"], labels["gland_signal"])]
    assert rise[0] > rise[1] > rise[2] > 1.0
    with np.load(tmp_path / "truth" / "truth.npz") as masks:
        assert set(masks) == {"affine", "breast", "gland", lesion["mask"]}
        mask, affine = masks[lesion["mask"]], masks["affine"]
    assert mask.sum() * labels["voxel_ml"] == pytest.approx(lesion["volume_ml"])
    roles = roles_of(study)
    pre, early = (p.images.volume() for p in (roles.pre, roles.posts[1]))
    index = np.linalg.inv(pre.affine) @ affine @ np.vstack([np.argwhere(mask).T, np.ones(mask.sum())])
    inside = tuple(np.rint(index[:3]).astype(int))
    assert (early.voxels - pre.voxels)[inside].mean() > 5 * (early.voxels - pre.voxels).mean()


def test_the_command_writes_the_truth_of_a_chest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(
        monkeypatch, tmp_path / "dicom", "--kind", "chest", "--seed", 3, "--lesion", "--shape", 32, 64, 64,
        "--truth", tmp_path / "truth",
    )  # fmt: skip
    labels = json.loads((tmp_path / "truth" / "truth.json").read_text())
    with np.load(tmp_path / "truth" / "truth.npz") as masks:
        assert {"affine", "lung_right", "lung_left", "airways", "body"} <= set(masks)
        for nodule in labels["nodules"]:
            assert masks[nodule["mask"]].sum() * labels["voxel_ml"] == pytest.approx(nodule["volume_ml"])
        assert masks["lung_left"].sum() * labels["voxel_ml"] == pytest.approx(labels["lung_left_ml"])
    assert labels["nodules"]
    assert labels["lung_right_ml"] > 1000
