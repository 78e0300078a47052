"""The roles of a breast MR's images, in every layout of the generator, and each refusal."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

from radnode_inference.generator import breast
from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.dicom_writer import write_breast
from radnode_inference.generator.fields import Orientation
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.roles import Roles, roles_of
from radnode_inference.models.breast_mri.roles_facts import seconds
from radnode_inference.study import Study

Edit = Callable[[pydicom.Dataset], None]


@pytest.fixture(scope="module")
def made() -> breast.BreastPhantom:
    return breast.phantom(3, lesion=True, shape=(11, 24, 24), phases=6)


def study(
    made: breast.BreastPhantom,
    folder: Path,
    *,
    layout: Layout = Layout.SERIES,
    states_injection: bool = True,
    before_contrast: bool = True,
    edit: Edit | None = None,
) -> Study:
    order = Order(patient_name="DEMO^ROLES", patient_id="R", layout=layout, states_injection=states_injection)
    files = write_breast(made, folder, order, before_contrast=before_contrast)
    for path in files if edit else ():
        ds = pydicom.dcmread(path)
        edit(ds)  # type: ignore[misc]
        ds.save_as(path)
    return Study.from_files(files)


def times(roles: Roles) -> list[float]:
    return [p.after_injection_s for p in (roles.pre, *roles.posts)]


@pytest.mark.parametrize("layout", list(Layout))
def test_every_role_is_found_with_its_time_after_injection(
    layout: Layout, made: breast.BreastPhantom, tmp_path: Path
) -> None:
    roles = roles_of(study(made, tmp_path, layout=layout))
    assert np.allclose(times(roles), made.times_s, atol=0.5)
    assert roles.assumptions == ()
    assert roles.t2 is not None and roles.adc is not None
    assert list(roles.dwi) == sorted(float(b) for b in made.dwi)
    volumes = [p.images.volume() for p in (roles.pre, *roles.posts)]
    for volume, phase in zip(volumes, made.dce, strict=True):
        assert abs(float(volume.voxels.mean()) - float(phase.mean())) < 0.5
    assert abs(float(roles.t2.volume().voxels.mean()) - float(made.t2.voxels.mean())) < 0.5
    assert roles.fat_suppressed is True


def test_the_roles_do_not_come_from_descriptions(made: breast.BreastPhantom, tmp_path: Path) -> None:
    def wipe(ds: pydicom.Dataset) -> None:
        ds.SeriesDescription = ds.ProtocolName = "SERIES"

    roles = roles_of(study(made, tmp_path, edit=wipe))
    assert np.allclose(times(roles), made.times_s, atol=0.5)
    assert roles.t2 is not None and roles.adc is not None and len(roles.dwi) == 2


@pytest.mark.parametrize("layout", list(Layout))
def test_without_an_injection_time_the_first_phase_after_contrast_stands_for_it_and_that_is_said(
    layout: Layout, made: breast.BreastPhantom, tmp_path: Path
) -> None:
    roles = roles_of(study(made, tmp_path, layout=layout, states_injection=False))
    lasts = float(np.diff(made.times_s[1:]).min())
    assert np.allclose(times(roles)[1:], made.times_s[1:] - made.times_s[1] + lasts / 2, atol=0.5)
    assert any("ContrastBolusStartTime" in a for a in roles.assumptions)


def test_a_study_whose_phases_all_name_the_agent_uses_the_first_and_says_so(
    made: breast.BreastPhantom, tmp_path: Path
) -> None:
    def name_agent(ds: pydicom.Dataset) -> None:
        if "TemporalPositionIdentifier" in ds:
            ds.ContrastBolusAgent = "Gadobutrol"

    roles = roles_of(study(made, tmp_path, states_injection=False, edit=name_agent))
    assert len(roles.posts) == 5
    assert any("ContrastBolusAgent" in a for a in roles.assumptions)


def test_a_subtraction_is_not_taken_for_a_phase(made: breast.BreastPhantom, tmp_path: Path) -> None:
    def subtract(ds: pydicom.Dataset) -> None:
        if ds.SeriesNumber == 8:
            ds.ImageType = ["DERIVED", "PRIMARY", "M", "SUB"]

    roles = roles_of(study(made, tmp_path, edit=subtract))
    assert len(roles.posts) == 4
    assert len(roles.subtractions) == 1


def test_the_phases_of_one_series_are_told_apart_by_time_when_nothing_numbers_them(
    made: breast.BreastPhantom, tmp_path: Path
) -> None:
    def unnumber(ds: pydicom.Dataset) -> None:
        if "TemporalPositionIdentifier" in ds:
            del ds.TemporalPositionIdentifier

    roles = roles_of(study(made, tmp_path, layout=Layout.TEMPORAL, edit=unnumber))
    assert np.allclose(times(roles), made.times_s, atol=0.5)


@pytest.mark.parametrize("layout", list(Layout))
def test_a_study_without_a_phase_before_contrast_is_declined(
    layout: Layout, made: breast.BreastPhantom, tmp_path: Path
) -> None:
    with pytest.raises(DeclinedError) as declined:
        roles_of(study(made, tmp_path, layout=layout, before_contrast=False))
    assert declined.value.gate == "missing-role:pre-contrast"


def test_phases_without_any_time_are_declined_with_the_attributes_name(
    made: breast.BreastPhantom, tmp_path: Path
) -> None:
    def untime(ds: pydicom.Dataset) -> None:
        for keyword in ("AcquisitionTime", "ContentTime", "AcquisitionDateTime"):
            if keyword in ds:
                delattr(ds, keyword)

    with pytest.raises(DeclinedError, match="AcquisitionTime") as declined:
        roles_of(study(made, tmp_path, edit=untime))
    assert declined.value.gate == "timing"


def test_phases_that_nothing_tells_apart_are_declined(made: breast.BreastPhantom, tmp_path: Path) -> None:
    def merge(ds: pydicom.Dataset) -> None:
        if "TemporalPositionIdentifier" in ds:
            del ds.TemporalPositionIdentifier
            ds.AcquisitionTime = ds.ContentTime = "101500"

    with pytest.raises(DeclinedError, match="TemporalPositionIdentifier") as declined:
        roles_of(study(made, tmp_path, layout=Layout.TEMPORAL, edit=merge))
    assert declined.value.gate == "timing"


def test_a_study_with_one_time_point_is_no_dynamic_study(made: breast.BreastPhantom, tmp_path: Path) -> None:
    whole = study(made, tmp_path)
    few = Study(study_uid=whole.study_uid, series=whole.series[:5])
    with pytest.raises(DeclinedError) as declined:
        roles_of(few)
    assert declined.value.gate == "missing-role:dynamic"


def late_agent(ds: pydicom.Dataset) -> None:
    if ds.SeriesNumber == 6:
        ds.ContrastBolusAgent = "Gadobutrol"
    elif ds.SeriesNumber == 7:
        del ds.ContrastBolusAgent


def early_injection(ds: pydicom.Dataset) -> None:
    if "ContrastBolusStartTime" in ds:
        ds.ContrastBolusStartTime = "090000"


def late_injection(ds: pydicom.Dataset) -> None:
    if "ContrastBolusStartTime" in ds:
        ds.ContrastBolusStartTime = "100000"


def two_injections(ds: pydicom.Dataset) -> None:
    if ds.SeriesNumber == 9:
        ds.ContrastBolusStartTime = "093400"


def swapped_positions(ds: pydicom.Dataset) -> None:
    if ds.SeriesNumber in (8, 9):
        ds.TemporalPositionIdentifier = str(17 - ds.SeriesNumber - 5)


def swapped_content(ds: pydicom.Dataset) -> None:
    if ds.SeriesNumber == 8:
        ds.ContentTime = "235900"


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (late_agent, "ContrastBolusAgent"),
        (early_injection, "ContrastBolusStartTime"),
        (late_injection, "ContrastBolusStartTime"),
        (two_injections, "ContrastBolusStartTime differs"),
        (swapped_positions, "TemporalPositionIdentifier and AcquisitionTime order the phases differently"),
        (swapped_content, "ContentTime and AcquisitionTime order the phases differently"),
    ],
)
def test_times_that_contradict_each_other_are_declined_with_the_attributes_names(
    edit: Edit, named: str, made: breast.BreastPhantom, tmp_path: Path
) -> None:
    with pytest.raises(DeclinedError, match=re.escape(named)) as declined:
        roles_of(study(made, tmp_path, edit=edit))
    assert declined.value.gate == "timing"


def test_an_examination_around_midnight_keeps_its_times(made: breast.BreastPhantom, tmp_path: Path) -> None:
    order = Order(patient_name="DEMO^ROLES", patient_id="R", began=datetime(2026, 3, 2, 23, 56, 30))
    roles = roles_of(Study.from_files(write_breast(made, tmp_path, order)))
    assert np.allclose(times(roles), made.times_s, atol=0.5)


def test_a_phase_that_is_missing_is_said(made: breast.BreastPhantom, tmp_path: Path) -> None:
    whole = study(made, tmp_path)
    fewer = Study(study_uid=whole.study_uid, series=tuple(s for n, s in enumerate(whole.series) if n != 7))
    assert "NumberOfTemporalPositions says 6 phases, and 5 are there." in roles_of(fewer).assumptions


def test_phases_that_philips_scaled_differently_are_brought_to_one_scale(
    made: breast.BreastPhantom, tmp_path: Path
) -> None:
    def scale(ds: pydicom.Dataset) -> None:
        if ds.get("TemporalPositionIdentifier") == 3:
            block = ds.private_block(0x2005, "Philips MR Imaging DD 001")
            block[0x0E].value = float(block[0x0E].value) / 2
            ds.RescaleSlope = float(ds.RescaleSlope) / 2

    plain = roles_of(study(made, tmp_path / "plain", layout=Layout.PHILIPS))
    assert plain.assumptions == ()
    scaled = roles_of(study(made, tmp_path / "scaled", layout=Layout.PHILIPS, edit=scale))
    assert "scale slope" in " ".join(scaled.assumptions)
    rise = [
        scaled.posts[n].images.volume().voxels.mean() / plain.posts[n].images.volume().voxels.mean() for n in (0, 1)
    ]
    assert rise[1] / rise[0] == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize(("laterality", "side"), [("L", "L"), ("R", "R"), ("", "B")])
def test_the_side_comes_from_laterality_or_from_where_the_images_lie(
    laterality: str, side: str, made: breast.BreastPhantom, tmp_path: Path
) -> None:
    def tell(ds: pydicom.Dataset) -> None:
        ds.Laterality = laterality
        ds.PixelSpacing = [float(v) / 2 for v in ds.PixelSpacing]  # so wide may the images of one breast be
        ds.ImagePositionPatient[0] = float(ds.ImagePositionPatient[0]) / 2

    roles = roles_of(study(made, tmp_path, edit=tell))
    assert roles.side == side
    assert any(("Laterality" if laterality else "where the images lie") in r for r in roles.reasons.values())


def test_sagittal_slices_show_both_breasts_in_whatever_order_the_files_come(tmp_path: Path) -> None:
    made = breast.phantom(
        3, shape=(12, 16, 16), phases=4, orientation=Orientation.SAGITTAL, patient_position="HFS", other_sequences=False
    )
    whole = study(made, tmp_path)
    middle_first = tuple(
        replace(s, headers=tuple(sorted(s.headers, key=lambda h: abs(h.numbers("ImagePositionPatient")[0]))))
        for s in whole.series
    )
    for series in middle_first:
        assert abs(series.headers[0].numbers("ImagePositionPatient")[0]) < 40
    assert roles_of(replace(whole, series=middle_first)).side == "B"


@pytest.mark.parametrize(
    ("written", "wanted"),
    [("101530", 36930.0), ("101530.5", 36930.5), ("1015", 36900.0), ("", None), ("noon", None)],
)
def test_times_are_read_as_seconds(written: str, wanted: float | None) -> None:
    assert seconds(written) == wanted


def test_a_date_time_counts_past_midnight() -> None:
    before, after = seconds("20260302235950.000"), seconds("20260303000010")
    assert before is not None and after is not None
    assert after - before == pytest.approx(20)
