"""ct-lung on one real chest CT as other scanners and other protocols would have delivered it: right, or declined by name."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from support import ct_variants as variants

from radnode_inference.findings import Findings
from radnode_inference.load import load
from radnode_inference.model import DeclinedError
from radnode_inference.models.chest_ct.lung import ChestLungs
from radnode_inference.study import Study
from radnode_inference.volume import Volume

REFERENCE = (947.0, 1938.0)
"""mL, right and left lung of the real CT, by an independent program of the same kind."""
AXIAL = (1, 0, 0, 0, 1, 0)


@pytest.fixture(scope="module")
def whole(real_ct: Path) -> Volume:
    series = Study.from_folder(real_ct).series[0]
    return load(series.headers, series.series_uid)


@pytest.fixture(scope="module")
def third(whole: Volume) -> Volume:
    """The real CT at a third of its resolution: 3 × 2.3 × 2.3 mm."""
    return variants.averaged(whole, (3, 3, 3))


@pytest.fixture(scope="module")
def plain(third: Volume, tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return read(variants.written(tmp_path_factory.mktemp("plain"), third))


def read(study: Study) -> Findings:
    return ChestLungs().read(study, lambda part, words: None)


def value(findings: Findings, tracking_id: str, concept: str) -> float:
    item = next(i for i in findings.items if i.tracking_id == tracking_id)
    return next(m.value for m in item.measurements if concept in (m.concept.value, m.concept.meaning))


def lungs(findings: Findings) -> tuple[float, float]:
    return value(findings, "right-lung", "Volume"), value(findings, "left-lung", "Volume")


def test_at_a_third_of_the_resolution_the_numbers_are_those_of_the_reference(plain: Findings) -> None:
    assert lungs(plain) == pytest.approx(REFERENCE, rel=0.1)
    assert value(plain, "airways", "Volume") == pytest.approx(31, rel=0.3)
    assert plain.partial_because is None
    assert any(s.startswith("Gates passed: ") for s in plain.statements)


def test_the_mass_of_a_lung_follows_from_its_volume_and_density(plain: Findings) -> None:
    for lung in ("right-lung", "left-lung", "both-lungs"):
        density = value(plain, lung, "Mean Attenuation Coefficient")
        assert value(plain, lung, "Mass") == pytest.approx(value(plain, lung, "Volume") * (1 + density / 1000))
    item = next(i for i in plain.items if i.tracking_id == "both-lungs")
    assert {m.concept.value: m.unit.value for m in item.measurements} == {
        "118565006": "mL", "118538004": "g", "112181": "[hnsf'U]", "LAA-950": "%", "LAA-910": "%", "PERC15": "[hnsf'U]",
    }  # fmt: skip


# Stored or positioned otherwise, and the header says so: the same numbers


@dataclass(frozen=True, kw_only=True)
class Stored:
    """How the same patient is stored: axes and their directions, and attributes of the images."""

    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)
    attributes: dict[str, Any] = field(default_factory=dict)


SAME = {
    "rotated by 90 degrees in the plane": Stored(order=(0, 2, 1), flips=(False, True, False)),
    "rotated by 180 degrees in the plane": Stored(flips=(False, True, True)),
    "feet first, prone": Stored(flips=(True, True, True), attributes={"PatientPosition": "FFP"}),
    "coronal": Stored(order=(1, 0, 2), flips=(False, True, False)),
    "sagittal": Stored(order=(2, 0, 1), flips=(True, True, False)),
}


@pytest.mark.parametrize("way", SAME.values(), ids=SAME)
def test_other_storage_of_the_same_patient_gives_the_same_lungs(
    way: Stored, third: Volume, plain: Findings, tmp_path: Path
) -> None:
    found = read(variants.written(tmp_path, variants.turned(third, way.order, way.flips), **way.attributes))
    assert lungs(found) == pytest.approx(lungs(plain), rel=0.03)
    assert value(found, "both-lungs", "LAA-950") == pytest.approx(value(plain, "both-lungs", "LAA-950"), abs=0.1)


def test_a_tilted_stack_gives_the_same_lungs(third: Volume, tmp_path: Path) -> None:
    found = read(variants.written(tmp_path, variants.oblique(third, 20)))
    assert lungs(found) == pytest.approx(REFERENCE, rel=0.1)


def test_table_and_arms_change_nothing(third: Volume, plain: Findings, tmp_path: Path) -> None:
    found = read(variants.written(tmp_path, variants.with_table_and_arms(third)))
    assert lungs(found) == pytest.approx(lungs(plain), rel=0.03)


# Turned against the header: never the wrong side


@pytest.mark.parametrize(("quarters", "side"), [(1, "left"), (2, "front"), (3, "right")])
def test_images_turned_against_their_header_are_declined(
    quarters: int, side: str, third: Volume, tmp_path: Path
) -> None:
    rotated = variants.volume_of(np.rot90(third.voxels, quarters, (1, 2)), third.affine)
    with pytest.raises(DeclinedError, match=f"spine at the {side}") as declined:
        read(variants.written(tmp_path, rotated))
    assert declined.value.gate == "orientation"


def test_images_upside_down_against_their_header_are_declined(third: Volume, tmp_path: Path) -> None:
    with pytest.raises(DeclinedError, match="upside down") as declined:
        read(variants.written(tmp_path, variants.volume_of(third.voxels[::-1], third.affine)))
    assert declined.value.gate == "orientation"


# Less of the patient, or less resolution: said


def test_slices_of_5_mm_give_volumes_and_leave_the_low_attenuation_areas_out(whole: Volume, tmp_path: Path) -> None:
    found = read(variants.written(tmp_path, variants.averaged(whole, (5, 2, 2)), SliceThickness=5))
    assert lungs(found) == pytest.approx(REFERENCE, rel=0.1)
    assert not {"LAA-950", "LAA-910", "PERC15"} & {m.concept.value for i in found.items for m in i.measurements}
    assert any(s.startswith("Gate thickness: LAA and Perc15 are left out") for s in found.statements)


@pytest.mark.parametrize(("part", "where"), [(slice(0, -11), "the top"), (slice(11, None), "the bottom")])
def test_a_scan_without_apex_or_base_is_partial(part: slice, where: str, third: Volume, tmp_path: Path) -> None:
    found = read(variants.written(tmp_path, variants.cropped(third, part)))
    assert found.partial_because is not None
    assert found.partial_because.startswith(f"Gate coverage: the scan ends inside the lungs at {where}")


def test_a_scan_of_the_lung_bases_only_is_declined(third: Volume, tmp_path: Path) -> None:
    with pytest.raises(DeclinedError) as declined:
        read(variants.written(tmp_path, variants.cropped(third, slice(0, 40))))
    assert declined.value.gate == "coverage"


# What headers and files are like


def test_a_sharp_kernel_and_a_series_named_expiration_are_stated(third: Volume, tmp_path: Path) -> None:
    found = read(variants.written(tmp_path, third, ConvolutionKernel="B70f", SeriesDescription="Thorax EXSP 1.0"))
    assert any(s.startswith("Gate kernel: sharp kernel B70f") for s in found.statements)
    assert any(s.startswith("Gate inspiration: the series is named an expiration") for s in found.statements)


def test_gaps_in_the_numbering_are_not_gaps_in_the_patient(third: Volume, plain: Findings, tmp_path: Path) -> None:

    def numbered(i: int, ds: Dataset) -> None:
        ds.InstanceNumber = 3 * i + 100 * (i // 30)

    found = read(variants.written(tmp_path / "all", third, edit=numbered))
    assert lungs(found) == pytest.approx(lungs(plain), rel=0.03)
    with pytest.raises(DeclinedError) as declined:
        read(variants.written(tmp_path / "gap", third, skip=(40, 41)))
    assert declined.value.gate == "slice-gap"


def test_twelve_unsigned_bits_with_padding_outside_the_circle_give_the_same_lungs(
    third: Volume, plain: Findings, tmp_path: Path
) -> None:
    corners = variants.outside_circle(third)

    def twelve_bits(hu: np.ndarray) -> np.ndarray:
        stored = np.clip(np.round(hu + 1000), 1, 4095).astype(np.uint16)
        stored[:, corners] = 0
        return stored

    def declared(i: int, ds: Dataset) -> None:
        ds.BitsStored, ds.HighBit, ds.RescaleIntercept, ds.PixelPaddingValue = 12, 11, -1000, 0

    found = read(variants.written(tmp_path, third, stored=twelve_bits, edit=declared))
    assert lungs(found) == pytest.approx(lungs(plain), rel=0.03)


def test_signed_padding_far_below_air_is_air(third: Volume, plain: Findings, tmp_path: Path) -> None:
    corners = variants.outside_circle(third)

    def padded(hu: np.ndarray) -> np.ndarray:
        stored = np.round(hu).astype(np.int16)
        stored[:, corners] = -2000
        return stored

    def declared(i: int, ds: Dataset) -> None:
        ds.RescaleIntercept = 0
        ds.add_new("PixelPaddingValue", "SS", -2000)

    found = read(variants.written(tmp_path, third, stored=padded, edit=declared))
    assert lungs(found) == pytest.approx(lungs(plain), rel=0.05)


def test_a_tilted_gantry_is_declined(third: Volume, tmp_path: Path) -> None:
    def sheared(i: int, ds: Dataset) -> None:
        x, y, z = (float(v) for v in ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, y + 0.3 * i, z]

    with pytest.raises(DeclinedError) as declined:
        read(variants.written(tmp_path, third, edit=sheared))
    assert declined.value.gate == "gantry-tilt"
