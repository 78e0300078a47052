"""ct-lung on one real chest CT, whole and turned, cut, thickened and spoiled in every way that sites deliver."""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from support.ct_variants import averaged, volume_of
from support.series import Stack

from radnode_inference import registry
from radnode_inference.findings import Finding, Findings, Kind
from radnode_inference.generator.chest import phantom
from radnode_inference.generator.fields import Orientation
from radnode_inference.load import load
from radnode_inference.measure import centroid
from radnode_inference.model import DeclinedError
from radnode_inference.models.chest_ct.lung import ChestLungs
from radnode_inference.models.chest_ct.lung_density import Density
from radnode_inference.models.chest_ct.lung_gates import Gates, gates
from radnode_inference.models.chest_ct.lung_segment import Segmented, segment
from radnode_inference.study import Study
from radnode_inference.volume import Volume

FACTORS = (4, 2, 2)


def silent(done: float, words: str) -> None:
    assert 0.0 <= done <= 1.0 and words


@pytest.fixture(scope="session")
def whole(real_ct: Path) -> Volume:
    series = Study.from_folder(real_ct).series[0]
    return load(series.headers, series.series_uid)


@pytest.fixture(scope="session")
def small(whole: Volume) -> Volume:
    """The real CT averaged to about 4 × 1.6 × 1.6 mm."""
    return averaged(whole, FACTORS)


@pytest.fixture(scope="session")
def small_found(small: Volume) -> Segmented:
    return segment(small, silent)


@pytest.fixture(scope="session")
def findings(real_ct: Path) -> Findings:
    """The model as the node runs it, by the registry."""
    model = registry.load(registry.card("ct-lung", Path("/nonexistent")), "cpu", Path("/nonexistent"))
    began = time.process_time()
    found = model.read(Study.from_folder(real_ct), silent)
    assert time.process_time() - began < 15  # processor seconds: a busy machine does not fail the test
    return found


def value(findings: Findings, tracking_id: str, concept: str) -> float:
    item = next(i for i in findings.items if i.tracking_id == tracking_id)
    return next(m.value for m in item.measurements if concept in (m.concept.value, m.concept.meaning))


def millilitres(found: Segmented, volume: Volume) -> tuple[float, float, float]:
    """Right lung, left lung, airways."""
    r = found.refined
    right, left, airways = (float(np.count_nonzero(m)) * volume.voxel_mm3 / 1000 for m in (r.right, r.left, r.airways))
    return right, left, airways


def test_volumes_and_densities_of_the_real_ct_are_those_of_the_reference(findings: Findings) -> None:
    assert value(findings, "right-lung", "Volume") == pytest.approx(947, rel=0.1)
    assert value(findings, "left-lung", "Volume") == pytest.approx(1938, rel=0.1)
    assert value(findings, "airways", "Volume") == pytest.approx(31, rel=0.1)
    assert value(findings, "both-lungs", "LAA-950") == pytest.approx(2.24, abs=0.3)
    assert value(findings, "both-lungs", "PERC15") == pytest.approx(-899, abs=3)


def test_the_reader_is_told_the_series_and_that_kernel_d_is_sharp(findings: Findings) -> None:
    assert findings.statements[0].startswith("Read: series 30026: 275 slices of 1 mm")
    assert any(s.startswith("Gate kernel: sharp kernel D") for s in findings.statements)
    assert findings.partial_because is None


def test_a_sharp_kernel_never_makes_emphysema_and_anatomy_never_raises_priority(findings: Findings) -> None:
    assert {i.kind for i in findings.items} == {Kind.ANATOMY, Kind.EXAMINATION}
    assert all(i.probability is None for i in findings.items)


def test_masks_do_not_overlap_and_the_right_lung_is_on_the_patients_right(findings: Findings) -> None:
    masks = {i.tracking_id: i.mask for i in findings.items if i.mask is not None}
    assert set(masks) == {"right-lung", "left-lung", "airways"}
    assert not any((one & other).any() for one, other in combinations(masks.values(), 2))
    x = {n: centroid(m, findings.volume)[0] for n, m in masks.items()}
    assert x["right-lung"] < x["airways"] < x["left-lung"]


# The same patient, delivered otherwise


def test_a_coarser_reconstruction_gives_the_same_lungs(small: Volume, small_found: Segmented) -> None:
    right, left, airways = millilitres(small_found, small)
    assert (right, left) == pytest.approx((947, 1938), rel=0.1)
    assert airways == pytest.approx(31, rel=0.25)
    assert small_found.cut == ()


def test_an_oblique_stack_is_told_right_from_left(small: Volume, small_found: Segmented) -> None:
    angle = np.radians(20)
    rotation = np.eye(4)
    rotation[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    tilted = volume_of(small.voxels, rotation @ small.affine)
    np.testing.assert_array_equal(segment(tilted, silent).refined.right, small_found.refined.right)


def test_lungs_that_touch_are_still_two(small: Volume, small_found: Segmented) -> None:
    """A bridge of lung-like tissue through the mediastinum joins them, as at a thin anterior junction line."""
    r = small_found.refined
    voxels = small.voxels.copy()
    overlap = [s for s in range(len(voxels)) if r.right[s].any() and r.left[s].any()]
    s = overlap[len(overlap) // 2]
    rows = np.nonzero(r.right[s].any(axis=1) & r.left[s].any(axis=1))[0]
    row = int(rows[len(rows) // 4])
    first, last = np.nonzero(r.right[s, row])[0].max(), np.nonzero(r.left[s, row])[0].min()
    voxels[s - 1 : s + 2, row - 2 : row + 3, first - 2 : last + 3] = -850
    joined = volume_of(voxels, small.affine)
    found = millilitres(segment(joined, silent), joined)
    assert found[:2] == pytest.approx(millilitres(small_found, small)[:2], rel=0.03)


@pytest.mark.parametrize(
    ("seed", "orientation", "position"), [(3, "oblique", "HFS"), (6, "sagittal", "FFS"), (11, "axial", "FFP")]
)
def test_generated_lungs_and_airways_lie_on_their_truth(seed: int, orientation: str, position: str) -> None:
    made = phantom(seed, orientation=Orientation(orientation), patient_position=position)
    found = segment(volume_of(made.hu, made.grid.affine), silent).refined
    assert dice(found.right, made.lung_right) > 0.97
    assert dice(found.left, made.lung_left) > 0.97
    assert dice(found.airways, made.airways) > 0.85


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


# Cut, or not a chest


def test_a_scan_that_ends_in_the_apex_is_partial(small: Volume) -> None:
    assert segment(volume_of(small.voxels[:-8], small.affine), silent).cut == ("top",)


def test_a_scan_that_ends_in_the_base_is_partial(small: Volume) -> None:
    affine = small.affine.copy()
    affine[:3, 3] += affine[:3, 0] * 8
    assert segment(volume_of(small.voxels[8:], affine), silent).cut == ("bottom",)


def test_a_field_of_view_that_cuts_a_lung_is_partial(small: Volume) -> None:
    affine = small.affine.copy()
    affine[:3, 3] += affine[:3, 2] * 60
    assert segment(volume_of(small.voxels[:, :, 60:], affine), silent).cut == ("side",)


NOT_CHESTS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "abdomen with lung bases": ("coverage", lambda v: v[:30]),
    "abdomen": ("no-lungs", lambda v: v[:8]),
    "neck": ("no-lungs", lambda v: v[-12:]),
    "air": ("no-lungs", lambda v: np.full_like(v, -1000)),
    "water": ("no-lungs", lambda v: np.zeros_like(v)),
}


@pytest.mark.parametrize(("gate", "part"), NOT_CHESTS.values(), ids=NOT_CHESTS)
def test_a_scan_without_whole_lungs_is_declined(
    small: Volume, gate: str, part: Callable[[np.ndarray], np.ndarray]
) -> None:
    with pytest.raises(DeclinedError) as declined:
        segment(volume_of(part(small.voxels), small.affine), silent)
    assert declined.value.gate == gate


# The gates of densitometry, through files


def written(folder: Path, volume: Volume, **attributes: object) -> Study:
    """A coarse copy of the CT as a series of files with the given attributes."""
    stored = np.round(volume.voxels + 1024).astype(np.uint16)
    origin = tuple(float(v) for v in volume.affine[:3, 3])
    stack = Stack(stored=stored, spacing=volume.spacing, origin=(origin[0], origin[1], origin[2]))

    def edit(i: int, ds: Dataset) -> None:
        ds.BodyPartExamined, ds.SliceThickness = "CHEST", 1.0
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)

    stack.write(folder, edit)
    return Study.from_folder(folder)


@pytest.fixture(scope="session")
def tiny(whole: Volume) -> Volume:
    """1.0 × 3.1 × 3.1 mm: thin enough along z for densitometry."""
    return averaged(whole, (1, 4, 4))


@pytest.fixture(scope="session")
def emphysema(tiny: Volume) -> Volume:
    """The lungs of `tiny` with a tenth of their slices darkened by 130 HU."""
    found = segment(tiny, silent).refined
    lungs = found.right | found.left
    middle = int(np.nonzero(lungs.any(axis=(1, 2)))[0].mean())
    voxels = tiny.voxels.copy()
    voxels[middle - 15 : middle + 15][lungs[middle - 15 : middle + 15]] -= 130
    return volume_of(np.maximum(voxels, -1024), tiny.affine)


def abnormal(findings: Findings) -> list[Finding]:
    return [i for i in findings.items if i.kind is Kind.ABNORMALITY]


def test_normal_lungs_with_a_soft_kernel_pass_every_gate_without_emphysema(tmp_path: Path, tiny: Volume) -> None:
    study = written(tmp_path, tiny, ConvolutionKernel="B31f")
    findings = ChestLungs().read(study, silent)
    read, passed = findings.statements
    assert read.startswith("Read: series 1")
    assert passed.startswith("Gates passed: thickness (1 mm), kernel (B31f), contrast (none stated), inspiration (")
    assert abnormal(findings) == []
    assert ChestLungs().read(study, silent).digest() == findings.digest()


def test_emphysema_is_reported_from_the_published_share_on_and_names_its_voxels(
    tmp_path: Path, emphysema: Volume
) -> None:
    findings = ChestLungs().read(written(tmp_path, emphysema, ConvolutionKernel="B31f"), silent)
    (finding,) = abnormal(findings)
    assert finding.concept.meaning == "Pulmonary emphysema" and finding.mask is not None
    assert value(findings, "emphysema", "LAA-950") > 5
    assert findings.volume.voxels[finding.mask].max() < -950


def test_a_sharp_kernel_is_stated_and_makes_no_emphysema(tmp_path: Path, emphysema: Volume) -> None:
    findings = ChestLungs().read(written(tmp_path, emphysema, ConvolutionKernel="LUNG"), silent)
    assert abnormal(findings) == []
    assert value(findings, "both-lungs", "LAA-950") > 5
    assert any("sharp kernel LUNG" in s for s in findings.statements)


SOFT = {"ConvolutionKernel": "B31f", "SliceThickness": 1}
NORMAL = Density(laa_950=1, laa_910=5, perc15=-900, mean=-820)
GATES: dict[str, tuple[dict[str, object], float, Density, str, bool]] = {
    "sharp": ({"ConvolutionKernel": "B70f"}, 5000, NORMAL, "sharp kernel B70f", True),
    "unknown kernel": ({"ConvolutionKernel": "XYZ"}, 5000, NORMAL, "XYZ is not a known one", True),
    "2 mm": ({"SliceThickness": 2}, 5000, NORMAL, "above 1.5 mm", True),
    "5 mm": ({"SliceThickness": 5}, 5000, NORMAL, "LAA and Perc15 are left out", False),
    "contrast": ({"ContrastBolusAgent": "Iomeron"}, 5000, NORMAL, "contrast medium", True),
    "small lungs": ({}, 2000, NORMAL, "perhaps not a full inspiration", True),
    "dense lungs": ({}, 5000, replace(NORMAL, mean=-650), "perhaps not a full inspiration", True),
}


@pytest.mark.parametrize(("attributes", "millilitres", "numbers", "words", "stands"), GATES.values(), ids=GATES)
def test_each_gate_of_densitometry_has_its_sentence(
    tmp_path: Path, attributes: dict[str, object], millilitres: float, numbers: Density, words: str, stands: bool
) -> None:
    study, volume = small_study(tmp_path, SOFT | attributes)
    passed = gates(study.series[0].headers[0], volume, millilitres, numbers)
    assert [words in s for s in passed.statements] == [True, False]
    assert passed.statements[1].startswith("Gates passed: ") and passed.statements[1].count("(") == 3
    assert (passed.density_stands, passed.trusted) == (stands, False)


def test_thin_soft_native_full_inspiration_passes_every_gate(tmp_path: Path) -> None:
    study, volume = small_study(tmp_path, SOFT)
    passed = gates(study.series[0].headers[0], volume, 5000, NORMAL)
    seen = "thickness (1 mm), kernel (B31f), contrast (none stated), inspiration (5000 mL at a mean of -820 HU)"
    assert passed == Gates(statements=(f"Gates passed: {seen}.",), density_stands=True, trusted=True)


def small_study(folder: Path, attributes: dict[str, object]) -> tuple[Study, Volume]:
    volume = volume_of(np.zeros((3, 4, 4)), np.eye(4))
    return written(folder, volume, **attributes), volume


def test_thick_slices_leave_the_low_attenuation_areas_out_of_the_result(tmp_path: Path, small: Volume) -> None:
    findings = ChestLungs().read(written(tmp_path, small, ConvolutionKernel="B31f"), silent)
    concepts = {m.concept.value for i in findings.items for m in i.measurements}
    assert "LAA-950" not in concepts and "PERC15" not in concepts and "118565006" in concepts
    assert any(s.startswith("Gate thickness: LAA and Perc15 are left out") for s in findings.statements)


def test_a_better_series_that_is_no_volume_is_passed_over_and_named(tmp_path: Path, small: Volume) -> None:
    written(tmp_path / "whole", small, SeriesNumber=2, ConvolutionKernel="LUNG", StudyInstanceUID="1.2.3")
    written(tmp_path / "gap", small, SeriesNumber=1, ConvolutionKernel="B31f", StudyInstanceUID="1.2.3")
    (tmp_path / "gap" / "0020.dcm").unlink()
    findings = ChestLungs().read(Study.from_folder(tmp_path), silent)
    assert findings.statements[0] == "Read: series 2."
    assert findings.statements[1].startswith("Not read: series 1: 1 slice(s) are missing")
