"""The kinetics model on generated studies: lesions found where they are, normal studies left alone, refusals named."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pydicom.sr._concepts_dict
import pytest
from scipy import ndimage

from radnode_inference import registry
from radnode_inference.findings import Code, Finding, Findings, Kind
from radnode_inference.generator import breast
from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.dicom_writer import write_breast
from radnode_inference.generator.fields import Orientation
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri import kinetics_codes as codes
from radnode_inference.models.breast_mri.kinetics import KineticsModel, curve_type
from radnode_inference.models.breast_mri.kinetics_examination import chosen
from radnode_inference.models.breast_mri.kinetics_lesions import kinetics, lesions, neighbours
from radnode_inference.models.breast_mri.roles import Phase, roles_of
from radnode_inference.models.breast_mri.roles_images import ImageSet
from radnode_inference.study import Study

SMALL = (40, 112, 112)
VOLUME = Code(value="118565006", scheme="SCT", meaning="Volume")
CURVES = {"persistent": codes.PERSISTENT, "plateau": codes.PLATEAU, "washout": codes.WASHOUT}


@pytest.fixture(scope="module")
def small() -> breast.BreastPhantom:
    return breast.phantom(1006, lesion=True, shape=SMALL, phases=4, other_sequences=False)


def write(made: breast.BreastPhantom, folder: Path, layout: Layout = Layout.SERIES, position: str = "HFP") -> Study:
    order = Order(patient_name="DEMO^KINETICS", patient_id=f"K{made.seed}", layout=layout, patient_position=position)
    return Study.from_files(write_breast(made, folder, order))


def read(study: Study) -> Findings:
    return KineticsModel().read(study, lambda part, words: None)


def foci(found: Findings) -> list[Finding]:
    return [f for f in found.items if f.kind is Kind.ABNORMALITY]


def dice(made: breast.BreastPhantom, found: Findings) -> float:
    """All findings against all lesions, in patient coordinates."""
    to_volume = np.linalg.inv(found.volume.affine) @ made.grid.affine
    index = np.rint(to_volume[:3, :3] @ np.argwhere(made.lesion_mask).T + to_volume[:3, 3:]).astype(int)
    truth = np.zeros(found.volume.shape, bool)
    truth[tuple(index)] = True
    mask = np.any([f.mask for f in foci(found)], axis=0)
    return 2 * float((mask & truth).sum()) / float(mask.sum() + truth.sum())


def value(finding: Finding, concept: Code) -> float:
    return next(m.value for m in finding.measurements if m.concept == concept)


@pytest.mark.parametrize(
    ("layout", "orientation", "position", "shape"),
    [
        (Layout.SERIES, Orientation.AXIAL, "HFP", (60, 128, 128)),
        (Layout.TEMPORAL, Orientation.SAGITTAL, "HFS", (120, 60, 128)),
        (Layout.ENHANCED, Orientation.OBLIQUE, "HFP", (60, 128, 128)),
        (Layout.ENHANCED, Orientation.AXIAL, "FFP", (60, 128, 128)),
        (Layout.ENHANCED, Orientation.CORONAL, "HFS", (120, 60, 128)),
    ],
)
def test_a_lesion_is_outlined_measured_and_named(
    layout: Layout, orientation: Orientation, position: str, shape: tuple[int, int, int], tmp_path: Path
) -> None:
    made = breast.phantom(1006, lesion=True, shape=shape, orientation=orientation, patient_position=position)
    found = read(write(made, tmp_path, layout, position))
    assert len(foci(found)) == len(made.lesions) == 1
    finding, truth = foci(found)[0], made.lesions[0]
    assert dice(made, found) > 0.85
    assert finding.evaluations[0].value == CURVES[truth.curve]
    assert finding.laterality is not None and finding.laterality.meaning[0] == truth.laterality
    assert value(finding, VOLUME) == pytest.approx(truth.volume_ml, rel=0.15)
    assert value(finding, codes.ADC) == pytest.approx(truth.lesion.adc_mm2_s, rel=0.25)
    assert finding.probability is None
    assert "functional tumour volume" in " ".join(found.statements)


def edited(folder: Path, edit: Callable[[pydicom.Dataset], None]) -> Study:
    """The study again after a change to its diffusion images and ADC map."""
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        ds = pydicom.dcmread(path)
        if ds.get("ScanningSequence") == "EP":
            edit(ds)
            ds.save_as(path)
    return Study.from_folder(folder)


def no_map(ds: pydicom.Dataset) -> None:
    if "ADC" in ds.ImageType:
        ds.Modality = "OT"


def elsewhere(ds: pydicom.Dataset) -> None:
    ds.FrameOfReferenceUID = "1.2.3"


def map_elsewhere(ds: pydicom.Dataset) -> None:
    if "ADC" in ds.ImageType:
        elsewhere(ds)


def without_low_b(ds: pydicom.Dataset) -> None:
    no_map(ds)
    if ds.get("DiffusionBValue", 1000.0) < 500:
        ds.Modality = "OT"


LACKS = "No apparent diffusion coefficient is given: "


@pytest.mark.parametrize(
    ("edit", "given", "said"),
    [
        (None, True, "inside its outline of the ADC map."),
        (no_map, True, "computed here from the images at b {low} and {high} s/mm2: the study has no ADC map that is one"),
        (map_elsewhere, True, "s/mm2: the ADC map lies in another frame of reference than the dynamic series."),
        (elsewhere, False, LACKS + "the ADC map lies in another frame of reference than the dynamic series, and the diff"),
        (without_low_b, False, LACKS + "the study has no ADC map that is one volume, and there are no diffusion images"),
    ],
)  # fmt: skip
def test_the_adc_is_from_the_map_or_computed_from_the_diffusion_images_or_its_lack_is_said(
    edit: Callable[[pydicom.Dataset], None] | None, given: bool, said: str, tmp_path: Path
) -> None:
    made = breast.phantom(1006, lesion=True, shape=(32, 96, 96), phases=4)
    study = write(made, tmp_path)
    found = read(edited(tmp_path, edit) if edit else study)
    (finding,) = foci(found)
    assert any(m.concept == codes.ADC for m in finding.measurements) is given
    if given:
        assert value(finding, codes.ADC) == pytest.approx(made.lesions[0].lesion.adc_mm2_s, rel=0.25)
    sentence = said.format(low=min(made.dwi), high=max(made.dwi))
    assert any(sentence in s for s in found.statements), found.statements
    of_diffusion = {s.series_uid for s in study.series if s.description.startswith("DWI")}
    assert (of_diffusion <= set(found.used_series_uids)) is ("computed here" in said or edit is map_elsewhere)


def test_a_lesion_that_the_adc_does_not_cover_is_named(tmp_path: Path) -> None:
    made = breast.phantom(1006, lesion=True, shape=(32, 96, 96), phases=4)
    made.adc.voxels[:] = 0
    found = read(write(made, tmp_path))
    assert "No ADC for Enhancing lesion 1: not covered by the values, or their unit cannot be told." in found.statements


@pytest.mark.parametrize(
    "layout", [Layout.SERIES, Layout.TEMPORAL, Layout.SIEMENS, Layout.GE, Layout.PHILIPS, Layout.PHILIPS_ENHANCED]
)
def test_in_every_layout_the_lesion_is_the_same(layout: Layout, small: breast.BreastPhantom, tmp_path: Path) -> None:
    study = write(small, tmp_path, layout)
    found = read(study)
    (finding,), truth = foci(found), small.lesions[0]
    assert found.volume.sources == roles_of(study).posts[0].images.volume().sources, "the first phase after contrast"
    assert dice(small, found) >= 0.85
    assert value(finding, VOLUME) == pytest.approx(truth.volume_ml, rel=0.1)
    assert finding.evaluations[0].value == CURVES[truth.curve]
    assert any("before contrast" in r for r in found.reasons)


def test_a_patient_who_moved_is_moved_back_and_that_is_said(tmp_path: Path) -> None:
    still, moving = (
        breast.phantom(1006, lesion=True, shape=SMALL, phases=4, other_sequences=False, motion_mm=v) for v in (0.0, 7.0)
    )
    found = read(write(moving, tmp_path, Layout.ENHANCED))
    said = [s for s in found.statements if s.startswith("The patient moved")]
    assert len(said) == int((np.linalg.norm(moving.shifts_mm, axis=1) > 0).sum())
    assert all(6.0 < float(re.findall(r"([\d.]+) mm away", s)[0]) < 8.0 for s in said)
    assert dice(still, found) > 0.85
    assert not any("moved" in s for s in read(write(still, tmp_path / "still", Layout.ENHANCED)).statements)


@pytest.mark.parametrize(("seed", "first_moved"), [(1006, False), (1009, True)])
def test_a_phase_that_was_moved_back_does_not_carry_the_outlines(seed: int, first_moved: bool, tmp_path: Path) -> None:
    made = breast.phantom(seed, lesion=True, shape=(32, 96, 96), phases=4, other_sequences=False, motion_mm=7.0)
    assert bool(made.shifts_mm[1].any()) is first_moved
    study = write(made, tmp_path, Layout.ENHANCED)
    found, roles = read(study), roles_of(study)
    carrying = roles.pre if first_moved else roles.posts[0]
    assert found.volume.sources == carrying.images.volume().sources
    assert any("lie on the images before contrast" in s for s in found.statements) is first_moved


def test_a_patient_who_moved_too_far_is_declined(tmp_path: Path) -> None:
    made = breast.phantom(1006, lesion=True, shape=SMALL, phases=4, other_sequences=False, motion_mm=16.0)
    with pytest.raises(DeclinedError, match="mm away from the one before contrast") as declined:
        read(write(made, tmp_path, Layout.ENHANCED))
    assert declined.value.gate == "motion"
    assert len(declined.value.reasons) == 1


def test_one_breast_that_moved_alone_is_said_to_be_unreliable(tmp_path: Path) -> None:
    made = breast.phantom(1000, lesion=True, shape=SMALL, phases=4, other_sequences=False)
    left = made.grid.points()[0] > 0
    for phase in made.dce[2:]:
        phase[left] = ndimage.shift(phase, (0, 7 / made.grid.spacing[1], 0), order=1, mode="nearest")[left]
    found = read(write(made, tmp_path, Layout.ENHANCED))
    assert any(s.startswith("Unreliable (motion)") for s in found.statements)


def test_the_maps_hold_the_ratio_where_tissue_enhances_and_the_peak_in_the_breasts(
    small: breast.BreastPhantom, tmp_path: Path
) -> None:
    found = read(write(small, tmp_path, Layout.ENHANCED))
    ratio, peak = found.maps
    (lesion,) = foci(found)
    assert lesion.mask is not None
    assert ratio.values.shape == peak.values.shape == found.volume.shape
    assert (ratio.quantity, peak.quantity) == (codes.SER, codes.PEAK_ENHANCEMENT)
    inside = ratio.values[lesion.mask]
    assert float(np.nanmedian(inside)) == pytest.approx(value(lesion, codes.SER), rel=0.15)
    assert float(np.nanmedian(peak.values[lesion.mask])) == pytest.approx(
        value(lesion, codes.PEAK_ENHANCEMENT), rel=0.25
    )
    assert np.isnan(ratio.values).mean() > 0.9
    assert np.isfinite(peak.values).sum() > np.isfinite(ratio.values).sum()


def test_a_series_of_one_breast_is_declined(small: breast.BreastPhantom, tmp_path: Path) -> None:
    files = [h.path for s in write(small, tmp_path, Layout.GE).series for h in s.headers if h.path]
    for path in files:
        ds = pydicom.dcmread(path)
        ds.Laterality = "L"
        ds.PixelSpacing = [float(v) / 2 for v in ds.PixelSpacing]  # wider ones show both, whatever is typed
        ds.ImagePositionPatient[0] = float(ds.ImagePositionPatient[0]) / 2
        ds.save_as(path)
    with pytest.raises(DeclinedError, match="left breast only") as declined:
        read(Study.from_files(files))
    assert declined.value.gate == "coverage"


@pytest.mark.parametrize("seed", [1000, 1003, 1010])
def test_a_normal_study_gives_no_abnormality_but_the_volume_that_enhances(seed: int, tmp_path: Path) -> None:
    made = breast.phantom(seed, lesion=False, shape=(48, 128, 128), other_sequences=False)
    found = read(write(made, tmp_path, Layout.ENHANCED))
    assert foci(found) == []
    summary = found.items[0]
    assert summary.kind is Kind.EXAMINATION
    assert value(summary, codes.ENHANCING_VOLUME) >= 0


def test_reading_twice_gives_the_same_digest(tmp_path: Path) -> None:
    study = write(breast.phantom(1006, lesion=True, shape=(40, 96, 96), other_sequences=False), tmp_path)
    assert read(study).digest() == read(study).digest()


def test_a_series_that_never_brightens_is_declined(tmp_path: Path) -> None:
    made = breast.phantom(4, lesion=False, shape=(24, 72, 72), phases=6, other_sequences=False)
    made.dce[:] = made.dce[:1]
    with pytest.raises(DeclinedError) as declined:
        read(write(made, tmp_path))
    assert declined.value.gate == "no-enhancement"


def test_phases_on_different_grids_are_declined(tmp_path: Path) -> None:
    made = breast.phantom(4, shape=(24, 72, 72), phases=6, other_sequences=False)
    study = write(made, tmp_path)
    for header in study.series[3].headers:
        assert header.path is not None
        ds = pydicom.dcmread(header.path)
        ds.ImagePositionPatient = [float(v) + d for v, d in zip(ds.ImagePositionPatient, (0.4, 0, 0), strict=True)]
        ds.save_as(header.path)
    with pytest.raises(DeclinedError) as declined:
        read(Study.from_files(h.path for s in study.series for h in s.headers if h.path))
    assert declined.value.gate == "grids-differ"


def test_half_a_chest_is_declined(tmp_path: Path) -> None:
    made = breast.phantom(4, shape=(24, 72, 72), phases=6, other_sequences=False)
    study = write(made, tmp_path)
    for series in study.series:
        for header in series.headers:
            assert header.path is not None
            ds = pydicom.dcmread(header.path)
            pixels = ds.pixel_array[:, :36].copy()
            ds.Columns, ds.PixelData = 36, pixels.tobytes()
            ds.save_as(header.path)
    with pytest.raises(DeclinedError) as declined:
        read(Study.from_files(h.path for s in study.series for h in s.headers if h.path))
    assert declined.value.gate == "coverage"


@pytest.mark.parametrize(("times", "wanted"), [((70, 150, 230, 450), (2, 4)), ((100, 300, 460), (1, 3))])
def test_the_early_and_the_late_phase_are_those_nearest_150_and_450_seconds(
    times: tuple[float, ...], wanted: tuple[int, int]
) -> None:
    assert chosen(posts(times)) == wanted


@pytest.mark.parametrize("states_injection", [True, False])
def test_the_two_phases_are_counted_from_the_first_one_with_contrast_however_early_it_was_given(
    states_injection: bool, tmp_path: Path
) -> None:
    made = breast.phantom(1006, shape=(11, 16, 16), phases=9, other_sequences=False)
    made.times_s[1:] = 45 + 30 + 60 * np.arange(8)  # each lasts 60 s, the first begins 45 s after the injection
    order = Order(patient_name="K", patient_id="K", layout=Layout.ENHANCED, states_injection=states_injection)
    roles = roles_of(Study.from_files(write_breast(made, tmp_path, order)))
    assert [p.after_first_s for p in roles.posts] == pytest.approx([30 + 60 * n for n in range(8)], abs=0.5)
    assert roles.posts[0].after_injection_s == pytest.approx(75 if states_injection else 30, abs=0.5)
    assert chosen(roles.posts) == (3, 8)


def test_results_counted_so_have_another_version_than_those_counted_from_the_injection() -> None:
    assert KineticsModel().identity.version == registry.card("mr-breast-kinetics", Path("none")).identity.version
    assert KineticsModel().identity.version > "1.0.0"


@pytest.mark.parametrize("times", [(400, 450, 500), (100, 120, 140)])
def test_phases_too_far_from_those_times_are_declined(times: tuple[float, ...]) -> None:
    with pytest.raises(DeclinedError) as declined:
        chosen(posts(times))
    assert declined.value.gate == "timing"


def posts(times: tuple[float, ...]) -> tuple[Phase, ...]:
    return tuple(
        Phase(images=ImageSet(series_uid="1", frames=()), after_injection_s=t + 45, after_first_s=t) for t in times
    )


@pytest.mark.parametrize(
    ("ratio", "wanted"),
    [(0.89, codes.PERSISTENT), (0.9, codes.PLATEAU), (1.1, codes.PLATEAU), (1.11, codes.WASHOUT)],
)
def test_curve_types_change_at_the_published_ratios(ratio: float, wanted: Code) -> None:
    assert curve_type(ratio) == wanted


def test_a_voxel_enhances_only_with_four_neighbours_enough_rise_and_enough_signal_before() -> None:
    pre = np.full((9, 9, 9), 100, np.float32)
    early, late = pre * 1.2, pre * 1.3
    early[2:5, 2:5, 2:5], late[2:5, 2:5, 2:5] = 180, 170
    early[7, 7, 7] = late[7, 7, 7] = 300  # alone
    pre[3, 3, 3], early[3, 3, 3] = 20, 60  # as dark as fat before contrast
    found = kinetics(pre, early, late, np.ones(pre.shape, bool))
    assert not found.enhancing[7, 7, 7]
    assert not found.enhancing[3, 3, 3]
    assert found.enhancing.sum() == 26
    assert found.background == pytest.approx(20, abs=1)


def test_neighbours_are_counted_without_the_voxel_itself() -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 1, 1] = mask[2, 2, 2] = True
    assert neighbours(mask)[1, 1, 1] == 1


def test_a_thin_tube_is_a_vessel_and_a_ball_is_a_focus() -> None:
    z, y, x = np.mgrid[:40, :60, :60].astype(np.float32)
    pre = np.full(x.shape, 100, np.float32)
    ball = np.sqrt((z - 20) ** 2 + (y - 20) ** 2 + (x - 20) ** 2) < 6
    tube = np.hypot(z - 20, y - 45) < 1.5
    early = np.where(ball | tube, 250, 105).astype(np.float32)
    found = kinetics(pre, early, early, np.ones(x.shape, bool))
    masks = lesions(found, np.ones(x.shape, bool), (1.0, 1.0, 1.0))
    assert len(masks) == 1
    assert (masks[0] & ball).sum() > 0.9 * ball.sum()
    assert not (masks[0] & tube).any()


@pytest.mark.parametrize("code", [v for v in vars(codes).values() if isinstance(v, Code)])
def test_every_standard_code_has_the_meaning_of_the_dicom_tables(code: Code) -> None:
    tables = pydicom.sr._concepts_dict.concepts
    if code.scheme in ("99RADNODE", "UCUM"):
        return
    known = {entry[code.value][0] for entry in tables[code.scheme].values() if code.value in entry}
    assert code.meaning in known
