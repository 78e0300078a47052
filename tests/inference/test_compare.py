"""Findings against those of an earlier study: the same things are matched, and what changed is said."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.ct_variants import volume_of, written

from radnode_inference.align import align
from radnode_inference.compare import Examined, compare
from radnode_inference.findings import Code, Finding, Findings, Kind, Measurement, ModelIdentity
from radnode_inference.longitudinal import NONE_HERE, read
from radnode_inference.measure import GRAM, HU, LEFT, ML, PERCENT, RIGHT, VOLUME, volume_measurement
from radnode_inference.model import DeclinedError, Progress
from radnode_inference.study import Study
from radnode_inference.volume import Volume

NODULE = Code(value="427359005", scheme="SCT", meaning="Solitary nodule of lung")
LUNG = Code(value="39607008", scheme="SCT", meaning="Lung")
LAA = Code(value="LAA-950", scheme="99RADNODE", meaning="Lung voxels below -950 HU")
MODEL = ModelIdentity(
    name="finder", version="1", weights_name="none", weights_version="", weights_sha256="", intended_use="tests"
)
SHAPE = (40, 64, 64)


def body() -> np.ndarray:
    """A chest in outline: an oval of tissue with two lungs of unequal size and a spine."""
    z, y, x = np.mgrid[-1:1:40j, -1:1:64j, -1:1:64j]
    hu = np.where((x / 0.9) ** 2 + (y / 0.7) ** 2 < 1, 40.0, -1000.0)
    for side, size in ((-0.42, 0.95), (0.42, 0.8)):
        hu[((x - side) / 0.3) ** 2 + (y / 0.5) ** 2 + (z / size) ** 2 < 1] = -850
    hu[(x**2 + (y - 0.5) ** 2 < 0.015)] = 400
    return hu


def scan(move: np.ndarray | None = None, frame: str = "now") -> Volume:
    """The body on voxels of 4 mm, in the frame of reference `frame`; `move`: how the patient lies otherwise (LPS)."""
    affine = np.array([[0, 0, 4.0, -128], [0, 4.0, 0, -128], [4.0, 0, 0, -80], [0, 0, 0, 1]])
    placed = affine if move is None else move @ affine
    return replace(volume_of(body(), placed), frame_of_reference_uid=frame)


def ball(volume: Volume, at: tuple[int, int, int], radius: float) -> np.ndarray:
    """A mask around the voxel `at`, radius in voxels."""
    index = np.indices(volume.shape)
    return np.asarray(sum((i - a) ** 2 for i, a in zip(index, at, strict=True)) <= radius**2)


def nodule(volume: Volume, number: int, at: tuple[int, int, int], radius: float, **changes: object) -> Finding:
    mask = ball(volume, at, radius)
    made = Finding(
        tracking_id=f"nodule {number}",
        tracking_uid=f"2.25.{number}{round(radius * 10)}",
        kind=Kind.ABNORMALITY,
        concept=NODULE,
        measurements=(volume_measurement(mask, volume),),
        mask=mask,
    )
    return replace(made, **changes)


def lung(millilitres: float, laa: float) -> Finding:
    numbers = (
        (VOLUME, millilitres, ML),
        (LAA, laa, PERCENT),
        (Code(value="PERC15", scheme="99RADNODE", meaning="p15"), -900.0, HU),
        (Code(value="118538004", scheme="SCT", meaning="Mass"), 400.0, GRAM),
    )
    return Finding(
        tracking_id="right-lung",
        tracking_uid="2.25.9",
        kind=Kind.ANATOMY,
        concept=LUNG,
        laterality=RIGHT,
        measurements=tuple(Measurement(concept=c, value=v, unit=u) for c, v, u in numbers),
    )


def examined(folder: Path, volume: Volume, day: str, *items: Finding, kernel: str = "B31f") -> Examined:
    study = written(folder / day, volume_of(np.zeros((3, 4, 4)), np.eye(4)), StudyDate=day, ConvolutionKernel=kernel)
    found = Findings(study_uid=study.study_uid, model=MODEL, volume=volume, items=items)
    return Examined(study=study, findings=found)


def test_a_nodule_that_grew_is_matched_by_place_and_its_doubling_time_told(tmp_path: Path) -> None:
    now, then = scan(), scan()
    later = examined(tmp_path, now, "20260101", nodule(now, 1, (20, 30, 18), 3), nodule(now, 2, (10, 34, 46), 2))
    earlier = examined(tmp_path, then, "20250101", nodule(then, 1, (10, 33, 45), 2), nodule(then, 2, (20, 31, 18), 2))
    first, second = compare(later, earlier).items
    assert first.prior is not None and second.prior is not None
    assert first.prior.tracking_uid == "2.25.220" and first.prior.study_date == "20250101"
    assert first.prior.sentence.startswith("Larger: Volume ")
    assert second.prior.sentence.startswith("No change beyond the error of measurement: ")
    volumes = [first.measurements[0].value, first.prior.measurements[0].value]
    doubling = next(m for m in first.measurements if m.concept.value == "VDT")
    assert doubling.unit.value == "d"
    assert doubling.value == pytest.approx(365 * math.log(2) / math.log(volumes[0] / volumes[1]))
    assert not [m for m in second.measurements if m.concept.value == "VDT"]


def test_a_patient_who_lies_otherwise_is_laid_over_before_places_are_compared(tmp_path: Path) -> None:
    move = np.eye(4)
    move[:3, :3] = Rotation.from_euler("z", 6, degrees=True).as_matrix()
    move[:3, 3] = (35, -20, 60)
    now, then = scan(), scan(move, frame="then")
    later = examined(tmp_path, now, "20260101", nodule(now, 1, (20, 30, 18), 2))
    earlier = examined(tmp_path, then, "20250101", nodule(then, 7, (20, 30, 18), 2), nodule(then, 8, (20, 30, 46), 2))
    found = compare(later, earlier)
    assert found.items[0].prior is not None and found.items[0].prior.tracking_uid == "2.25.720"
    assert found.statements[-1] == "nodule 8 of the study of 2025-01-01 is not found now."
    moved = align(now, then).affine @ move
    np.testing.assert_allclose(moved[:3, 3], 0, atol=3)


def test_new_and_vanished_nodules_are_said_and_never_matched_across_sides(tmp_path: Path) -> None:
    now, then = scan(), scan()
    later = examined(tmp_path, now, "20260101", nodule(now, 1, (20, 30, 30), 2, laterality=RIGHT))
    earlier = examined(tmp_path, then, "20250101", nodule(then, 1, (20, 30, 32), 2, laterality=LEFT))
    found = compare(later, earlier)
    assert found.items[0].prior is None
    assert found.statements[-2:] == (
        "nodule 1: not found in the study of 2025-01-01.", "nodule 1 of the study of 2025-01-01 is not found now.",
    )  # fmt: skip


def test_what_the_other_scan_does_not_show_is_neither_new_nor_gone(tmp_path: Path) -> None:
    """The later scan begins 48 mm higher and ends 48 mm higher than the earlier one."""
    whole = scan()
    upper, lower = (
        replace(volume_of(whole.voxels[part], whole.affine), affine=placed, frame_of_reference_uid="now")
        for part, placed in ((slice(12, 40), moved(whole.affine, 12)), (slice(0, 28), whole.affine))
    )
    later = examined(tmp_path, upper, "20260101", nodule(upper, 1, (24, 30, 18), 2), nodule(upper, 2, (9, 30, 18), 2))
    earlier = examined(tmp_path, lower, "20250101", nodule(lower, 3, (4, 30, 18), 2), nodule(lower, 4, (20, 30, 46), 2))
    assert compare(later, earlier).statements[-4:] == (
        "nodule 1: the study of 2025-01-01 does not show its place.", "nodule 2: not found in the study of 2025-01-01.",
        "nodule 3 of the study of 2025-01-01 lies outside of the present images.", "nodule 4 of the study of 2025-01-01 is not found now.",
    )  # fmt: skip
    none = replace(later, findings=replace(later.findings, items=()))
    assert compare(none, earlier).statements[-2:] == (
        "nodule 3 of the study of 2025-01-01 lies outside of the present images.", "nodule 4 of the study of 2025-01-01 is not found now.",
    )  # fmt: skip


def moved(affine: np.ndarray, slices: int) -> np.ndarray:
    """The affine of the part of a volume from a slice on."""
    part = affine.copy()
    part[:3, 3] += slices * affine[:3, 0]
    return part


def test_scans_that_cannot_be_laid_over_each_other_compare_no_single_findings(tmp_path: Path) -> None:
    now, then = scan(), replace(scan(frame="then"), voxels=np.random.default_rng(1).random(SHAPE).astype(np.float32))
    later = examined(tmp_path, now, "20260101", nodule(now, 1, (20, 30, 18), 2))
    earlier = examined(tmp_path, then, "20250101", nodule(then, 1, (20, 30, 18), 2))
    found = compare(later, earlier)
    assert found.items[0].prior is None
    assert found.statements[-1].startswith("The two scans cannot be laid over each other")


def test_an_organ_is_compared_by_name_and_densities_only_with_the_same_kernel(tmp_path: Path) -> None:
    later = examined(tmp_path, scan(), "20260101", lung(1100, 6.0))
    same = compare(later, examined(tmp_path, scan(), "20250101", lung(1000, 4.5))).items[0].prior
    assert same is not None
    assert same.sentence == (
        "Volume 1100 mL, on 2025-01-01 1000 mL (+10 %); Lung voxels below -950 HU 6 %, on 2025-01-01 4.5 % (+1.5 points); "
        "p15 -900 HU, on 2025-01-01 -900 HU (+0 HU); Mass 400 g, on 2025-01-01 400 g (+0 %)."
    )
    other = compare(later, examined(tmp_path, scan(), "20240101", lung(1000, 4.5), kernel="B70f"))
    assert other.items[0].prior is not None and [m.unit for m in other.items[0].prior.measurements] == [ML]
    assert (
        "The two scans differ in kernel (B31f now, B70f then): densities and masses are not compared."
        in other.statements
    )


def test_an_agent_that_says_none_is_no_contrast_medium(tmp_path: Path) -> None:
    now, then = (examined(tmp_path, scan(), day, lung(1000, 4.5)) for day in ("20260101", "20250101"))
    unenhanced = written(tmp_path / "none", volume_of(np.zeros((3, 4, 4)), np.eye(4)), ContrastBolusAgent="NONE")
    assert not any("differ in" in s for s in compare(now, replace(then, study=unenhanced)).statements)


def test_what_was_looked_for_in_other_regions_is_neither_new_nor_gone(tmp_path: Path) -> None:
    def whole(name: str) -> Finding:
        return replace(lung(10, 1), tracking_id=name, kind=Kind.EXAMINATION, concept=LUNG)

    volume = scan()
    drawn = replace(nodule(volume, 1, (20, 30, 18), 3), tracking_id="Enhancing tissue in GTV")
    later = examined(tmp_path, volume, "20260101", drawn, whole("Enhancement in GTV"))
    earlier = examined(
        tmp_path, volume, "20250101", nodule(volume, 1, (20, 30, 18), 2), whole("Enhancement of both breasts")
    )
    found = compare(later, earlier)
    assert all(f.prior is None for f in found.items)
    assert not any("not found" in s for s in found.statements)
    assert found.statements[-1] == (
        "Measured in different regions (Enhancement in GTV now, Enhancement of both breasts then): single findings are not compared."
    )


def test_a_partial_scan_compares_no_volumes_of_organs(tmp_path: Path) -> None:
    later = examined(tmp_path, scan(), "20260101", lung(600, 6.0))
    part = replace(later, findings=replace(later.findings, partial_because="cut"))
    assert compare(part, examined(tmp_path, scan(), "20250101", lung(1000, 4.5))).items[0].prior is None


class Lungs:
    """A model that finds one lung, as large as the series number says; series 0 it declines, series 13 breaks it."""

    identity = MODEL

    def read(self, study: Study, progress: Progress) -> Findings:
        progress(0.5, "looking")
        number = int(study.series[0].headers[0].text("SeriesNumber"))
        if number == 0:
            raise DeclinedError("no-lungs", "there are no lungs")
        if number == 13:
            raise RuntimeError("broken")
        return Findings(study_uid=study.study_uid, model=MODEL, volume=scan(), items=(lung(100.0 * number, 1.0),))


def study_of(folder: Path, day: str, number: int) -> Study:
    return written(folder / day, volume_of(np.zeros((3, 4, 4)), np.eye(4)), StudyDate=day, SeriesNumber=number)


def test_the_newest_earlier_study_that_can_be_read_is_compared_and_the_others_named(tmp_path: Path) -> None:
    priors = tuple(study_of(tmp_path, f"202{n}0101", s) for n, s in ((5, 0), (4, 13), (3, 9), (2, 8)))
    done: list[float] = []
    found = read(
        Lungs(), replace(study_of(tmp_path, "20260101", 10), priors=priors), lambda part, words: done.append(part)
    )
    (item,) = found.items
    assert item.prior is not None and item.prior.study_uid == priors[2].study_uid
    assert "(+11 %)" in item.prior.sentence
    assert any(s.startswith("Compared with the study of 2023-01-01") for s in found.statements)
    assert (
        f"The earlier study {priors[0].study_uid} is not compared (no-lungs): there are no lungs." in found.statements
    )
    assert f"The earlier study {priors[1].study_uid} is not compared: RuntimeError." in found.statements
    assert max(done) <= 1.0


def test_without_an_earlier_study_the_result_says_so(tmp_path: Path) -> None:
    found = read(Lungs(), study_of(tmp_path, "20260101", 10), lambda part, words: None)
    assert found.statements == (NONE_HERE,) and found.items[0].prior is None


def test_a_run_that_is_stopped_while_the_earlier_study_is_read_stops(tmp_path: Path) -> None:
    def stopped(part: float, words: str) -> None:
        if part > 0.6:
            raise ConnectionResetError("the worker is gone")

    study = replace(study_of(tmp_path, "20260101", 10), priors=(study_of(tmp_path, "20250101", 9),))
    with pytest.raises(ConnectionResetError):
        read(Lungs(), study, stopped)
