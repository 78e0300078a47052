"""Breast MR studies with more series than one of each role, or with none of one: taken once, named, or said to be missing."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from radnode_inference.generator import breast
from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.dicom_writer import write_breast
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.mome_examination import NONE_THERE, Examination, examination
from radnode_inference.models.breast_mri.roles import roles_of, sorted_by_role
from radnode_inference.study import Study

Edit = Callable[[pydicom.Dataset], None]
CLASSIC = [Layout.SERIES, Layout.TEMPORAL, Layout.SIEMENS, Layout.GE, Layout.PHILIPS]


@pytest.fixture(scope="module")
def made() -> breast.BreastPhantom:
    return breast.phantom(3, lesion=True, shape=(11, 16, 16), phases=4)


@pytest.fixture(scope="module")
def written(made: breast.BreastPhantom, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Layout], Path]:
    """The folder of the study in a layout, written once."""
    folders: dict[Layout, Path] = {}

    def folder(layout: Layout) -> Path:
        if layout not in folders:
            folders[layout] = tmp_path_factory.mktemp(layout)
            order = Order(patient_name="DEMO^ADDED", patient_id="A", layout=layout)
            write_breast(made, folders[layout], order)
        return folders[layout]

    return folder


def quiet(part: float, words: str) -> None:
    assert 0 <= part <= 1


def read(folder: Path) -> Examination:
    return examination(Study.from_folder(folder), quiet)


def of_role(folder: Path, role: str) -> list[Path]:
    """The files of a role's series."""
    study = Study.from_folder(folder)
    uids = {one.series.series_uid for one in sorted_by_role(study)[0][role]}
    return [h.path for s in study.series for h in s.headers if s.series_uid in uids and h.path]


def copied(folder: Path, to: Path, role: str, edit: Edit) -> Path:
    """The study with each series of a role there twice, the second one changed."""
    shutil.copytree(folder, to)
    for path in of_role(to, role):
        ds = pydicom.dcmread(path)
        ds.SeriesInstanceUID += ".9"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID + ".9"
        ds.SeriesNumber = int(ds.SeriesNumber) + 500
        edit(ds)
        ds.save_as(path.with_name(path.name + "x"))
    return to


def changed(folder: Path, to: Path, role: str, edit: Edit) -> Path:
    """The study with the images of a role changed."""
    shutil.copytree(folder, to)
    for path in of_role(to, role):
        ds = pydicom.dcmread(path)
        edit(ds)
        ds.save_as(path)
    return to


def trace(ds: pydicom.Dataset) -> None:
    ds.SeriesDescription = "ep2d_diff_TRACEW"
    ds.ImageType = ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"]


def not_trace(ds: pydicom.Dataset) -> None:
    ds.SeriesDescription = ds.ProtocolName = "diffusion"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]


@pytest.mark.parametrize("layout", CLASSIC)
def test_of_two_diffusion_series_the_trace_is_read_and_the_other_named(
    layout: Layout, made: breast.BreastPhantom, written: Callable[[Layout], Path], tmp_path: Path
) -> None:
    plain = changed(written(layout), tmp_path / "plain", "dwi", not_trace)
    folder = copied(plain, tmp_path / "twice", "dwi", trace)
    roles = roles_of(Study.from_folder(folder))
    assert list(roles.dwi) == sorted(float(b) for b in made.dwi)
    assert all(images.series_uid.endswith(".9") for images in roles.dwi.values())
    others = [r for u, r in roles.reasons.items() if ": dwi" in r and not u.endswith(".9")]
    assert others
    assert all("; not used, the same b values are taken from series" in r for r in others)
    assert read(folder).missing == {}


def test_directions_that_are_not_averaged_are_left_out_for_the_trace_or_for_that_reason(
    made: breast.BreastPhantom, written: Callable[[Layout], Path], tmp_path: Path
) -> None:
    def direction(ds: pydicom.Dataset) -> None:
        ds.SeriesInstanceUID = ds.SeriesInstanceUID.removesuffix(".9")
        ds.SeriesNumber = int(ds.SeriesNumber) - 500

    plain = written(Layout.SIEMENS)
    directions = copied(plain, tmp_path / "directions", "dwi", direction)
    found = read(directions)
    listed = " and ".join(f"{b}" for b in sorted(made.dwi))
    assert found.missing == {
        "dwi": f"its images cannot be used (places repeat at b {listed} s/mm2, directions not averaged)"
    }
    assert any("; not used, its places repeat (directions not averaged)" in r for r in found.reasons)
    with_trace = copied(plain, tmp_path / "trace", "dwi", trace)
    for path in with_trace.rglob("*x"):
        shutil.copy(path, directions / f"{path.name}-trace")
    both = roles_of(Study.from_folder(directions))
    assert len(both.dwi) == 2
    assert all(images.series_uid.endswith(".9") for images in both.dwi.values())


def test_diffusion_without_a_b_value_is_missing_for_that_reason(
    written: Callable[[Layout], Path], tmp_path: Path
) -> None:
    def forget(ds: pydicom.Dataset) -> None:
        del ds.DiffusionBValue

    found = read(changed(written(Layout.SERIES), tmp_path / "forgotten", "dwi", forget))
    assert found.missing == {"dwi": "its images cannot be used (no b value is stated)"}
    assert sum("; not used, its b values are not known" in r for r in found.reasons) == 2


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("role", ["dynamic", "dwi", "t2"])
def test_a_role_that_is_not_there_is_missing_by_name_and_the_rest_is_read(
    role: str, layout: Layout, written: Callable[[Layout], Path]
) -> None:
    found = examination(without(Study.from_folder(written(layout)), role), quiet)
    (missing,) = found.missing.items()
    words = "there is no dynamic T1-weighted gradient echo series" if role == "dynamic" else NONE_THERE
    assert missing == ({"dynamic": "dce"}.get(role, role), words)
    assert (found.pre is None) is (role == "dynamic") is (found.posts == ())
    assert found.carrier.series_uid in found.used_series_uids
    if role == "dynamic":
        assert found.t2 is not None
        assert (found.carrier.voxels == found.t2.voxels).all()
        only = without(without(Study.from_folder(written(layout)), role), "t2")
        assert examination(only, quiet).carrier.voxels.max() > 0
        with pytest.raises(DeclinedError, match="no T2 or diffusion images can be read") as declined:
            examination(without(only, "dwi"), quiet)
        assert declined.value.gate == "missing-role:dynamic"


def without(study: Study, role: str) -> Study:
    gone = {one.series.series_uid for one in sorted_by_role(study)[0][role]}
    return replace(study, series=tuple(s for s in study.series if s.series_uid not in gone))


def test_phases_that_cannot_be_put_in_time_are_a_missing_modality_for_that_reason(
    written: Callable[[Layout], Path], tmp_path: Path
) -> None:
    def untime(ds: pydicom.Dataset) -> None:
        for keyword in ("AcquisitionTime", "ContentTime", "AcquisitionDateTime"):
            if keyword in ds:
                delattr(ds, keyword)

    found = read(changed(written(Layout.SERIES), tmp_path / "untimed", "dynamic", untime))
    assert set(found.missing) == {"dce"}
    assert found.missing["dce"].startswith("its phases cannot be put in time (AcquisitionTime (or ContentTime")


@pytest.mark.parametrize("layout", CLASSIC)
@pytest.mark.parametrize(
    ("water", "fat"),
    [
        (["DERIVED", "PRIMARY", "DIXON", "WATER"], ["DERIVED", "PRIMARY", "DIXON", "FAT"]),
        (["ORIGINAL", "PRIMARY", "W_FFE", "W", "FFE"], ["ORIGINAL", "PRIMARY", "OP", "OP", "FFE"]),
        (["DERIVED", "PRIMARY", "OTHER"], ["DERIVED", "PRIMARY", "OTHER"]),
    ],
    ids=["siemens", "philips", "ge"],
)
def test_the_water_of_a_dixon_series_is_the_dynamic_series_and_the_rest_of_it_is_not(
    layout: Layout,
    water: list[str],
    fat: list[str],
    made: breast.BreastPhantom,
    written: Callable[[Layout], Path],
    tmp_path: Path,
) -> None:
    def as_water(ds: pydicom.Dataset) -> None:
        ds.ImageType = water
        ds.SeriesDescription = "WATER: dynamic" if "OTHER" in water else "dynamic"
        if "ScanOptions" in ds:
            del ds.ScanOptions

    def as_fat(ds: pydicom.Dataset) -> None:
        ds.ImageType = fat
        ds.SeriesDescription = "FAT: dynamic" if "OTHER" in fat else "dynamic"

    of_water = changed(written(layout), tmp_path / "water", "dynamic", as_water)
    roles = roles_of(Study.from_folder(copied(of_water, tmp_path / "both", "dynamic", as_fat)))
    times = [p.after_injection_s for p in (roles.pre, *roles.posts)]
    assert times == pytest.approx(made.times_s.tolist(), abs=0.6)
    assert roles.fat_suppressed is True
    rest = [r for u, r in roles.reasons.items() if u.endswith(".9")]
    assert rest
    assert all("not used, the fat, in-phase or out-of-phase images of a Dixon acquisition by" in r for r in rest)
    assert any(": dynamic, water of a Dixon acquisition, " in r for r in roles.reasons.values())
