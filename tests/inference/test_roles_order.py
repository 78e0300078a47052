"""Breast MR phases whose times are missing: read in the order of their temporal positions where nothing speaks against it."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pydicom.datadict import tag_for_keyword
from support.stripped import PRIVATE, without

from radnode_inference.generator import breast
from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.dicom_writer import write_breast
from radnode_inference.header import Header
from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.kinetics_motion import Motion, said_of_motion
from radnode_inference.models.breast_mri.mome_examination import Examination, examination
from radnode_inference.models.breast_mri.mome_model import MomeModel, create
from radnode_inference.models.breast_mri.roles import roles_of
from radnode_inference.study import Study

CLOCK = ("AcquisitionTime", "AcquisitionDateTime", "FrameAcquisitionDateTime")
TIMES = (*CLOCK, "ContentTime")
AGENT = ("ContrastBolusAgent", "ContrastBolusUsageSequence")
NUMBERED = (Layout.SERIES, Layout.TEMPORAL, Layout.PHILIPS, Layout.ENHANCED, Layout.PHILIPS_ENHANCED)
Edit = Callable[[int, dict[str, str | None]], None]


@pytest.fixture(scope="module")
def made() -> breast.BreastPhantom:
    return breast.phantom(3, lesion=True, shape=(11, 16, 16), phases=4, other_sequences=False)


@pytest.fixture(scope="module")
def studies(made: breast.BreastPhantom, tmp_path_factory: pytest.TempPathFactory) -> dict[Layout, Study]:
    written = {}
    for layout in Layout:
        order = Order(patient_name="DEMO^ORDER", patient_id="O", layout=layout)
        written[layout] = Study.from_files(write_breast(made, tmp_path_factory.mktemp(layout), order))
    return written


@pytest.fixture(scope="module")
def timed(studies: dict[Layout, Study]) -> Callable[[Layout], Examination]:
    """The examination of a layout with all its times, read once."""
    return cache(lambda layout: examination(studies[layout], quiet))


def quiet(part: float, words: str) -> None:
    assert 0 <= part <= 1


def in_order(study: Study) -> Examination:
    return examination(study, quiet, order_is_enough=True)


def refusal(study: Study) -> str:
    """Why there is no dynamic series; there is nothing else in these studies."""
    with pytest.raises(DeclinedError, match="its phases cannot be put in time") as declined:
        in_order(study)
    assert declined.value.gate == "missing-role:dynamic"
    return declined.value.sentence


def same_phases(found: Examination, timed: Examination) -> bool:
    assert found.pre is not None and timed.pre is not None
    return len(found.posts) == len(timed.posts) and all(
        np.array_equal(one.voxels, other.voxels)
        for one, other in zip((found.pre, *found.posts), (timed.pre, *timed.posts), strict=True)
    )


@pytest.mark.parametrize(
    ("layout", "removed", "assumed"),
    [(v, TIMES, 1) for v in NUMBERED]
    + [(v, (*TIMES, *AGENT), 2) for v in (Layout.SERIES, Layout.ENHANCED)]
    + [(Layout.PHILIPS, (*TIMES, PRIVATE), 1), (Layout.TEMPORAL, (*TIMES, "NumberOfTemporalPositions"), 1)]
    + [(v, CLOCK, 1) for v in (Layout.PHILIPS, Layout.PHILIPS_ENHANCED)]
    + [(Layout.GE, (*TIMES, *AGENT), 2)],
    ids=lambda v: "-".join(v) if isinstance(v, tuple) else str(v),
)
def test_phases_without_times_are_read_by_their_positions_and_the_kinetics_name_what_is_missing(
    layout: Layout,
    removed: tuple[str, ...],
    assumed: int,
    studies: dict[Layout, Study],
    timed: Callable[[Layout], Examination],
    tmp_path: Path,
) -> None:
    study = without(studies[layout], layout, removed, tmp_path)
    with pytest.raises(DeclinedError, match="AcquisitionTime") as declined:
        roles_of(study)
    assert declined.value.gate == "timing"
    found = in_order(study)
    assert found.times_s == ()
    assert found.present == ("dce",)
    assert same_phases(found, timed(layout))
    said = [s for s in found.statements if "motion" not in s and "moved" not in s]
    assert said[0].startswith(
        "The phases are ordered by their temporal positions (TemporalPositionIdentifier), because"
    )
    assert "AcquisitionTime" in said[0]
    assert len(said) == assumed
    assert sum("1 (before contrast)" in r and r.endswith(" by TemporalPositionIdentifier") for r in found.reasons) == 1


def test_numbers_of_series_and_acquisitions_do_not_order_the_phases(
    studies: dict[Layout, Study], timed: Callable[[Layout], Examination], tmp_path: Path
) -> None:
    study = without(studies[Layout.SERIES], Layout.SERIES, TIMES, tmp_path)

    def reversed_(position: int, values: dict[str, str | None]) -> None:
        values["SeriesNumber"] = values["AcquisitionNumber"] = str(100 - position)

    assert same_phases(in_order(edited(study, reversed_)), timed(Layout.SERIES))


@pytest.mark.parametrize("removed", [("TemporalPositionIdentifier",), ()], ids=["siemens", "ge"])
def test_phases_without_times_and_without_what_else_is_needed_are_missing_for_that_reason(
    removed: tuple[str, ...], studies: dict[Layout, Study], tmp_path: Path
) -> None:
    layout = Layout.SIEMENS if removed else Layout.GE
    words = "it is missing in" if removed else "ContrastBolusAgent is named in every phase"
    said = refusal(without(studies[layout], layout, (*TIMES, *removed), tmp_path))
    assert words in said
    assert "AcquisitionTime (or ContentTime, TriggerTime) is missing" in said


def edited(study: Study, edit: Edit) -> Study:
    """The study with values of the dynamic images set (None: removed); the edit is given the position that they had."""
    series = []
    for one in study.series:
        headers = tuple(set_values(h, edit) if h.text("TemporalPositionIdentifier") else h for h in one.headers)
        series.append(replace(one, headers=headers))
    return replace(study, series=tuple(series))


def set_values(header: Header, edit: Edit) -> Header:
    values: dict[str, str | None] = {}
    edit(int(header.number("TemporalPositionIdentifier") or 0), values)
    elements = dict(header.elements)
    for keyword, value in values.items():
        number = int(tag_for_keyword(keyword) or 0)
        elements.pop(number, None)
        if value is not None:
            elements[number] = (b"LO", value.encode())
    return replace(header, elements=elements)


def twice(position: int, values: dict[str, str | None]) -> None:
    values["TemporalPositionIdentifier"] = str(2 if position == 3 else position)


def from_zero(position: int, values: dict[str, str | None]) -> None:
    values["TemporalPositionIdentifier"] = str(position - 1)


def one_lacks(position: int, values: dict[str, str | None]) -> None:
    if position == 3:
        values["TemporalPositionIdentifier"] = None


def more_said(position: int, values: dict[str, str | None]) -> None:
    values["NumberOfTemporalPositions"] = "99"


def swapped(position: int, values: dict[str, str | None]) -> None:
    if position in (2, 3):
        values["AcquisitionTime"] = f"10{40 - position}00"


def two_alike(position: int, values: dict[str, str | None]) -> None:
    if position < 4:
        values["AcquisitionTime"] = f"10{30 + min(position, 2)}00"


def swapped_content(position: int, values: dict[str, str | None]) -> None:
    if position in (2, 3):
        values["ContentTime"] = f"10{40 - position}00"


def swapped_trigger(position: int, values: dict[str, str | None]) -> None:
    values["TriggerTime"] = str(100000 - 10000 * position)


def late_agent(position: int, values: dict[str, str | None]) -> None:
    values["ContrastBolusAgent"] = None if position == 3 else "Gadobutrol"
    if position == 1:
        values["ContrastBolusAgent"] = None


def everywhere(position: int, values: dict[str, str | None]) -> None:
    values["ContrastBolusAgent"] = "Gadobutrol"


def two_injections(position: int, values: dict[str, str | None]) -> None:
    values["ContrastBolusStartTime"] = "103000" if position == 2 else "104000"


def injected_later(position: int, values: dict[str, str | None]) -> None:
    values["ContrastBolusAgent"], values["ContrastBolusStartTime"] = None, "103500"
    if position < 4:
        values["AcquisitionTime"] = f"10{30 + position}00"


def injected_before(position: int, values: dict[str, str | None]) -> None:
    values["ContrastBolusStartTime"] = "102500"
    values["AcquisitionTime"] = "103000"


AGAINST = (
    (Layout.SERIES, twice, "it says 1, 2, 2, 4"),
    (Layout.TEMPORAL, twice, "places repeat within a series"),
    (Layout.SERIES, from_zero, "it says 0, 1, 2, 3"),
    (Layout.SERIES, one_lacks, "it is missing in, or not the same for, the images of a phase"),
    (Layout.TEMPORAL, more_said, "NumberOfTemporalPositions says 99 phases"),
    (Layout.SERIES, swapped, "AcquisitionTime does not rise with it"),
    (Layout.TEMPORAL, swapped, "AcquisitionTime does not rise with it"),
    (Layout.SERIES, two_alike, "AcquisitionTime does not rise with it"),
    (Layout.TEMPORAL, swapped_content, "ContentTime does not rise with it"),
    (Layout.TEMPORAL, swapped_trigger, "TriggerTime does not rise with it"),
    (Layout.SERIES, late_agent, "ContrastBolusAgent is named in a phase before one without it"),
    (Layout.TEMPORAL, everywhere, "ContrastBolusAgent is named in every phase"),
    (Layout.SERIES, two_injections, "ContrastBolusStartTime differs between the phases"),
    (Layout.TEMPORAL, injected_later, "ContrastBolusStartTime and AcquisitionTime put contrast between other phases"),
    (Layout.TEMPORAL, injected_before, "ContrastBolusStartTime and AcquisitionTime put contrast between other phases"),
)


@pytest.mark.parametrize(("layout", "edit", "words"), AGAINST, ids=lambda v: getattr(v, "__name__", str(v)[:12]))
def test_positions_that_anything_speaks_against_order_nothing(
    layout: Layout, edit: Edit, words: str, studies: dict[Layout, Study], tmp_path: Path
) -> None:
    assert words in refusal(edited(without(studies[layout], layout, TIMES, tmp_path), edit))


def some_times(position: int, values: dict[str, str | None]) -> None:
    if position in (2, 4):
        values["AcquisitionTime"] = f"10{30 + position}00"


def one_time(position: int, values: dict[str, str | None]) -> None:
    values["AcquisitionTime"] = values["ContentTime"] = "102000"


@pytest.mark.parametrize("edit", [some_times, one_time])
@pytest.mark.parametrize("layout", [Layout.SERIES, Layout.TEMPORAL])
def test_clocks_that_are_partly_there_and_agree_or_are_those_of_the_series_do_not_hinder(
    layout: Layout,
    edit: Edit,
    studies: dict[Layout, Study],
    timed: Callable[[Layout], Examination],
    tmp_path: Path,
) -> None:
    removed = (*TIMES, "ContrastBolusStartTime")
    found = in_order(edited(without(studies[layout], layout, removed, tmp_path), edit))
    assert found.times_s == ()
    assert same_phases(found, timed(layout))


def test_times_that_contradict_the_positions_are_not_missing_times(studies: dict[Layout, Study]) -> None:
    def backwards(position: int, values: dict[str, str | None]) -> None:
        values["AcquisitionTime"] = values["ContentTime"] = f"10{40 - position}00"

    said = refusal(edited(studies[Layout.TEMPORAL], backwards))
    assert "TemporalPositionIdentifier and AcquisitionTime order the phases differently" in said


def test_phases_that_have_times_are_read_by_them_where_the_order_would_be_enough(
    studies: dict[Layout, Study], timed: Callable[[Layout], Examination]
) -> None:
    found, plain = in_order(studies[Layout.TEMPORAL]), timed(Layout.TEMPORAL)
    assert found.times_s == plain.times_s != ()
    assert found.statements == plain.statements


def test_a_phase_that_was_moved_back_is_named_by_its_number_where_its_time_is_not_known() -> None:
    motion = Motion(shifts_mm=(np.zeros(3), np.array([0.0, 3.0, 4.0])), uneven_mm=0.0)
    assert said_of_motion(motion, (), "x") == (
        "The patient moved: phase 2 after contrast lay 5.0 mm away from the one before contrast and was moved back.",
    )
    assert "the phase at 150 s lay 5.0 mm" in said_of_motion(motion, (70.0, 150.0), "x")[0]


def test_weights_without_times_read_what_those_with_times_do_not(tmp_path: Path) -> None:
    write_breast(
        breast.phantom(3, lesion=True, shape=(28, 64, 64), phases=7),
        tmp_path,
        Order(patient_name="T", patient_id="1", patient_position="HFP", layout=Layout.ENHANCED),
    )
    study = without(Study.from_folder(tmp_path), Layout.ENHANCED, TIMES, tmp_path)
    timed = create("cpu", Path("there-is-no-such-folder"))
    timed.settings = replace(timed.settings, saliency_steps=0, missing_allowed=frozenset())
    with pytest.raises(DeclinedError, match="its phases cannot be put in time") as declined:
        timed.read(study, quiet)
    assert declined.value.gate == "missing-role:dce"
    untimed = MomeModel(timed.weights, timed.ensemble.device)
    untimed.settings = replace(timed.settings, input=replace(timed.settings.input, times_s=None))
    findings = untimed.read(study, quiet)
    assert any(s.startswith("The phases are ordered by their temporal positions") for s in findings.statements)
    assert {m.concept.value for m in findings.items[0].measurements} >= {"SHAPLEY-DCE", "SHAPLEY-DWI", "SHAPLEY-T2"}
    assert any(r.endswith("by TemporalPositionIdentifier") for r in findings.reasons)
