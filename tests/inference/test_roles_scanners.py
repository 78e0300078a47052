"""Breast MR studies as scanners really leave them: images made twice, series that confuse, times of single slices, odd b values."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from radnode_inference.generator import breast
from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.dicom_writer import write_breast
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.roles import Roles, roles_of
from radnode_inference.study import Study

Edit = Callable[[pydicom.Dataset], None]
Wanted = Callable[[pydicom.Dataset], bool]


@pytest.fixture(scope="module")
def made() -> breast.BreastPhantom:
    return breast.phantom(3, lesion=True, shape=(11, 12, 12), phases=5)


@pytest.fixture
def written(made: breast.BreastPhantom, tmp_path: Path) -> Callable[[Layout], Path]:
    def write(layout: Layout) -> Path:
        write_breast(made, tmp_path, Order(patient_name="DEMO^SCANNER", patient_id="S", layout=layout))
        return tmp_path

    return write


def change(folder: Path, wanted: Wanted, edit: Edit) -> None:
    for path in folder.rglob("*.dcm"):
        ds = pydicom.dcmread(path)
        if wanted(ds):
            edit(ds)
            ds.save_as(path)


def add(folder: Path, wanted: Wanted, edit: Edit, series_uid: str = "") -> None:
    """More series: those that are wanted once more, changed; all in one where `series_uid` is given."""
    uids: dict[str, str] = {}
    (folder / "more").mkdir(exist_ok=True)
    for path in [p for p in folder.rglob("*.dcm") if p.parent.name != "more"]:
        ds = pydicom.dcmread(path)
        if wanted(ds):
            ds.SeriesInstanceUID = series_uid or uids.setdefault(ds.SeriesInstanceUID, generate_uid())
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            ds.SeriesNumber = int(ds.SeriesNumber) + 100
            edit(ds)
            ds.save_as(folder / "more" / f"{ds.SOPInstanceUID}.dcm")


def is_phase(ds: pydicom.Dataset) -> bool:
    return "fl3d" in ds.get("SequenceName", "") and ds.ImageType[0] == "ORIGINAL"


def is_dynamic(ds: pydicom.Dataset) -> bool:
    return "TemporalPositionIdentifier" in ds


def drop(ds: pydicom.Dataset, *keywords: str) -> None:
    for keyword in keywords:
        if keyword in ds:
            delattr(ds, keyword)


def right(roles: Roles, made: breast.BreastPhantom) -> bool:
    return bool(np.allclose(roles.times_s, made.times_s[1:], atol=1.5)) and roles.pre.after_injection_s < 0


def later(ds: pydicom.Dataset) -> None:
    """Reconstructed some seconds later, of the same acquisition."""
    ds.ContentTime = f"{(datetime.strptime(ds.ContentTime, '%H%M%S.%f') + timedelta(seconds=5)):%H%M%S.%f}"


@pytest.mark.parametrize("layout", [Layout.GE, Layout.PHILIPS, Layout.PHILIPS_ENHANCED])
def test_a_b_value_of_nought_in_every_image_makes_no_diffusion(
    layout: Layout, made: breast.BreastPhantom, written: Callable[[Layout], Path]
) -> None:
    roles = roles_of(Study.from_folder(written(layout)))
    assert right(roles, made) and roles.t2 is not None
    assert list(roles.dwi) == sorted(float(b) for b in made.dwi)


def test_an_adc_map_that_keeps_the_b_value_of_its_source_is_no_diffusion_image(
    made: breast.BreastPhantom, written: Callable[[Layout], Path]
) -> None:
    def keep(ds: pydicom.Dataset) -> None:
        ds.add_new(0x00430010, "LO", "GEMS_PARM_01")
        ds.add_new(0x00431039, "IS", ["1000001000", "8", "0", "0"])

    folder = written(Layout.GE)
    change(folder, lambda ds: "Apparent" in ds.SeriesDescription, keep)
    roles = roles_of(Study.from_folder(folder))
    assert roles.adc is not None
    assert roles.adc.series_uid not in {images.series_uid for images in roles.dwi.values()}


def test_phases_kept_with_and_without_distortion_correction_count_once(
    made: breast.BreastPhantom, written: Callable[[Layout], Path]
) -> None:
    def uncorrected(ds: pydicom.Dataset) -> None:
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        later(ds)

    folder = written(Layout.SIEMENS)
    add(folder, is_phase, uncorrected)
    roles = roles_of(Study.from_folder(folder))
    assert right(roles, made)
    assert sum("not used, unlike the dynamic series" in r for r in roles.reasons.values()) == 5


def test_phases_stored_twice_without_a_word_that_tells_them_apart_are_declined(
    written: Callable[[Layout], Path],
) -> None:
    def filtered(ds: pydicom.Dataset) -> None:
        later(ds)
        ds.PixelData = (ds.pixel_array // 2 * 2).tobytes()

    folder = written(Layout.SIEMENS)
    add(folder, is_phase, filtered)
    with pytest.raises(DeclinedError, match="each AcquisitionTime is that of 2 phases") as declined:
        roles_of(Study.from_folder(folder))
    assert declined.value.gate == "timing"


def test_a_series_of_several_flip_angles_takes_nothing_from_the_dynamic_one(
    made: breast.BreastPhantom, written: Callable[[Layout], Path]
) -> None:
    def mapping(ds: pydicom.Dataset) -> None:
        ds.FlipAngle = 2 + 8 * int(ds.TemporalPositionIdentifier)
        ds.AcquisitionTime = ds.ContentTime = "080000"
        drop(ds, "TemporalPositionIdentifier", "NumberOfTemporalPositions", "TemporalResolution", "ContrastBolusAgent")

    folder = written(Layout.TEMPORAL)
    add(folder, lambda ds: int(ds.get("TemporalPositionIdentifier", 9)) <= 2, mapping)
    roles = roles_of(Study.from_folder(folder))
    assert right(roles, made)
    assert any("places repeat within a series" in r for r in roles.reasons.values())


def test_where_the_largest_series_cannot_be_told_apart_no_smaller_one_stands_for_it(
    written: Callable[[Layout], Path],
) -> None:
    def other(ds: pydicom.Dataset) -> None:
        ds.FlipAngle = 30

    folder = written(Layout.TEMPORAL)
    add(folder, lambda ds: int(ds.get("TemporalPositionIdentifier", 9)) <= 3, other)

    def forget(ds: pydicom.Dataset) -> None:
        drop(ds, "TemporalPositionIdentifier")
        ds.AcquisitionTime = ds.ContentTime = "080000"

    change(folder, lambda ds: is_dynamic(ds) and ds.FlipAngle != 30, forget)
    with pytest.raises(DeclinedError, match="places repeat within a series"):
        roles_of(Study.from_folder(folder))


def test_an_ultrafast_series_of_the_first_pass_gives_way_to_the_one_with_an_early_and_a_late_phase(
    made: breast.BreastPhantom, written: Callable[[Layout], Path]
) -> None:
    folder = written(Layout.TEMPORAL)
    for half in range(2):

        def ultrafast(ds: pydicom.Dataset, half: int = half) -> None:
            number = 2 * int(ds.TemporalPositionIdentifier) - half
            ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = number, 10
            ds.RepetitionTime, ds.SeriesDescription, ds.TemporalResolution = "2.8", "TWIST", "4000"
            ds.AcquisitionTime = ds.ContentTime = f"0945{4 * number:02d}"

        add(folder, is_dynamic, ultrafast, series_uid="1.2.3.4.5")
    assert right(roles_of(Study.from_folder(folder)), made)


def test_phases_whose_slices_have_times_of_their_own_are_told_apart_by_their_turn(
    made: breast.BreastPhantom, written: Callable[[Layout], Path]
) -> None:
    def of_slice(ds: pydicom.Dataset) -> None:
        drop(ds, "TemporalPositionIdentifier")
        part = abs(round(10 * float(ds.ImagePositionPatient[2]))) % 1000
        ds.AcquisitionTime = ds.AcquisitionTime[:6] + f".{part:03d}"

    folder = written(Layout.TEMPORAL)
    change(folder, is_dynamic, of_slice)
    assert right(roles_of(Study.from_folder(folder)), made)


def test_philips_phases_on_different_scales_are_declined_where_the_scale_slope_is_gone(
    made: breast.BreastPhantom, written: Callable[[Layout], Path]
) -> None:
    def strip(ds: pydicom.Dataset) -> None:
        begin = ds[0x200510A0].value
        ds.remove_private_tags()
        ds.AcquisitionTime = (
            f"{(datetime.strptime(ds.AcquisitionTime, '%H%M%S.%f') + timedelta(seconds=begin)):%H%M%S.%f}"
        )
        ds.RescaleSlope = "1.3" if ds.TemporalPositionIdentifier == 1 else "2.6"

    folder = written(Layout.PHILIPS)
    change(folder, is_dynamic, strip)
    with pytest.raises(DeclinedError) as declined:
        roles_of(Study.from_folder(folder))
    assert declined.value.gate == "scaling"


def test_a_phase_before_contrast_in_a_series_of_its_own_needs_no_trigger_time(
    made: breast.BreastPhantom, written: Callable[[Layout], Path]
) -> None:
    def mask(ds: pydicom.Dataset) -> None:
        first = int(ds.TemporalPositionIdentifier) == 1
        ds.NumberOfTemporalPositions = 1 if first else 4
        if first:
            ds.SeriesInstanceUID, ds.SeriesNumber = "1.2.3.4.6", 5
            drop(ds, "TriggerTime", "TemporalPositionIdentifier")

    folder = written(Layout.GE)
    change(folder, is_dynamic, mask)
    roles = roles_of(Study.from_folder(folder))
    assert right(roles, made)
    assert not any("NumberOfTemporalPositions" in a for a in roles.assumptions)


@pytest.mark.parametrize(("move_mm", "side"), [(220.0, "L"), (-220.0, "R")])
def test_images_that_lie_wholly_on_one_side_show_that_breast(
    move_mm: float, side: str, made: breast.BreastPhantom, written: Callable[[Layout], Path]
) -> None:
    def aside(ds: pydicom.Dataset) -> None:
        ds.ImagePositionPatient[0] = float(ds.ImagePositionPatient[0]) + move_mm

    folder = written(Layout.TEMPORAL)
    change(folder, is_dynamic, aside)
    assert roles_of(Study.from_folder(folder)).side == side


def test_several_phases_before_contrast_by_the_name_of_the_agent_alone_are_said(
    written: Callable[[Layout], Path],
) -> None:
    def late(ds: pydicom.Dataset) -> None:
        drop(ds, "ContrastBolusStartTime")
        if int(ds.TemporalPositionIdentifier) == 2:
            drop(ds, "ContrastBolusAgent")

    folder = written(Layout.TEMPORAL)
    change(folder, is_dynamic, late)
    roles = roles_of(Study.from_folder(folder))
    assert len(roles.posts) == 3
    assert any(a.startswith("The first 2 phases are taken for those before contrast") for a in roles.assumptions)
