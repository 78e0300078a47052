from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from support.series import CORONAL, ENHANCED_CT, Stack, items

from radnode_inference.bundles.series import best as bundle_series
from radnode_inference.header import Header
from radnode_inference.match import best_ct, contrast_of, is_sharp, kernel_of, refuse_ct, thickness_of
from radnode_inference.model import DeclinedError
from radnode_inference.study import Series, Study

STUDY_UID = "1.2.3.4"


def add(
    folder: Path, number: int, slices: int = 12, orientation: tuple[float, ...] | None = None, **attributes: object
) -> None:
    """One more series in the study."""
    stack = Stack(stored=np.zeros((slices, 4, 4), np.uint16), spacing=(2.0, 1.0, 1.0))
    if orientation is not None:
        stack = Stack(stored=stack.stored, spacing=stack.spacing, orientation=orientation)

    def edit(i: int, ds: Dataset) -> None:
        ds.StudyInstanceUID, ds.SeriesNumber = STUDY_UID, number
        ds.SliceThickness, ds.ConvolutionKernel = 2.0, "B31f"
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)

    stack.write(folder / str(number), edit)


REFUSALS: dict[str, tuple[dict[str, object], str]] = {
    "MR": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "Modality": "MR"}, "not CT images (MR)"),
    "secondary capture": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "not CT images (CT)"),
    "localizer": ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
    "MIP": ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "a projection"),
    "AI": ({"SeriesDescription": "AI result"}, "made by an AI"),
    "iodine map": ({"RescaleType": "MGML"}, "MGML, not Hounsfield"),
    "thick": ({"SliceThickness": 12}, "12 mm are too thick"),
    "few": ({"slices": 4}, "only 4 slices"),
}


@pytest.mark.parametrize(("attributes", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_an_unsuitable_series_is_refused_with_its_reason(
    tmp_path: Path, attributes: dict[str, object], reason: str
) -> None:
    add(tmp_path, 1, **attributes)  # type: ignore[arg-type]
    add(tmp_path, 2, SeriesDescription="Thorax")
    match = best_ct(Study.from_folder(tmp_path))
    assert match.series.headers[0].text("SeriesNumber") == "2"
    (refusal,) = match.refused
    assert reason in refusal.reason


def test_a_study_without_a_suitable_series_is_declined_naming_each(tmp_path: Path) -> None:
    add(tmp_path, 1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    add(tmp_path, 2, slices=3, SeriesDescription="Bolus")
    with pytest.raises(DeclinedError) as declined:
        best_ct(Study.from_folder(tmp_path))
    assert declined.value.gate == "no-suitable-series"
    assert "series 1: a localizer" in declined.value.sentence
    assert "series 2 'Bolus': only 3 slices" in declined.value.sentence


PREFERENCES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "original over reformatted": ({}, {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}),
    "chest over abdomen": ({"BodyPartExamined": "CHEST"}, {"BodyPartExamined": "ABDOMEN", "slices": 40}),
    "long over short": ({"slices": 40}, {"slices": 12, "SliceThickness": 1}),
    "axial over coronal": ({}, {"orientation": CORONAL}),
    "soft over sharp": ({}, {"ConvolutionKernel": "B70f", "SliceThickness": 1}),
    "inspiration over expiration": (
        {"SeriesDescription": "Thorax"},
        {"SeriesDescription": "Thorax EXSP 1.0", "SliceThickness": 1},
    ),
    "both in one name is neither": (
        {"SeriesDescription": "Thorax INSP/EXP", "SliceThickness": 1},
        {"SeriesDescription": "Thorax"},
    ),
    "thin over thick": ({"SliceThickness": 1}, {"SliceThickness": 5}),
}


@pytest.mark.parametrize(("better", "worse"), PREFERENCES.values(), ids=PREFERENCES)
@pytest.mark.parametrize("first", [True, False])
def test_the_better_series_comes_first_whatever_its_number(
    tmp_path: Path, better: dict[str, object], worse: dict[str, object], first: bool
) -> None:
    add(tmp_path, 1 if first else 2, **better)  # type: ignore[arg-type]
    add(tmp_path, 2 if first else 1, **worse)  # type: ignore[arg-type]
    match = best_ct(Study.from_folder(tmp_path))
    assert match.series.headers[0].text("SeriesNumber") == ("1" if first else "2")
    assert len(match.candidates) == 2
    assert f"series {1 if first else 2}" in match.reason


def test_the_region_of_the_weights_comes_before_the_chest(tmp_path: Path) -> None:
    said = {"StudyDescription": "CT CHEST ABDOMEN"}
    add(tmp_path, 1, slices=40, BodyPartExamined="CHEST", **said)
    add(tmp_path, 2, BodyPartExamined="ABDOMEN", **said)
    add(tmp_path, 3, slices=60, BodyPartExamined="HEAD", **said)
    study = Study.from_folder(tmp_path)
    for region, first in (((), "1"), (("ABDOM", "LIVER"), "2"), (("HEAD",), "3"), (("Chest",), "1")):
        assert best_ct(study, region).series.headers[0].text("SeriesNumber") == first, region


def test_of_a_native_and_an_enhanced_series_the_weights_get_theirs_or_none(tmp_path: Path) -> None:
    add(tmp_path, 1, slices=40, SeriesDescription="native")
    add(tmp_path, 2, SeriesDescription="CTPA", ContrastBolusAgent="Iomeron 400")
    study = Study.from_folder(tmp_path)
    for contrast, first in ((None, "1"), ("given", "2"), ("none", "1")):
        assert best_ct(study, (), contrast).series.headers[0].text("SeriesNumber") == first, contrast
        assert bundle_series(study, "CT", "", ("CHEST",), contrast).series.headers[0].text("SeriesNumber") == first
    alone = Study(study_uid=study.study_uid, series=study.series[:1])
    with pytest.raises(DeclinedError, match="series 1 'native': no contrast agent is stated"):
        best_ct(alone, (), "given")


@pytest.mark.parametrize(
    ("kernel", "sharp"),
    [
        ("B31f", False), ("B35s", False), ("B60f", True), ("B70f", True), ("Br40d", False), ("Br40d\\3", False),
        ("Bl57d", True), ("I30f", False), ("I70f", True), ("Qr40", False), ("STANDARD", False), ("SOFT", False),
        ("LUNG", True), ("BONE", True), ("BONEPLUS", True), ("DETAIL", True), ("A", False), ("B", False), ("C", True),
        ("D", True), ("L", True), ("YC", True), ("FC08", False), ("FC13-H", False), ("FC51", True), ("FC86", True),
        ("", None), ("XYZ", None), ("42", None),
    ],
)  # fmt: skip
def test_kernels_of_the_makers_are_told_sharp_from_soft(kernel: str, sharp: bool | None) -> None:
    assert is_sharp(kernel) is sharp


def enhanced(folder: Path, edit: Callable[[Dataset], None]) -> Header:
    stack = Stack(stored=np.zeros((12, 4, 4), np.uint16), spacing=(2.0, 1.0, 1.0))
    (header,) = stack.write_enhanced(folder / "enhanced.dcm", sop_class_uid=ENHANCED_CT, edit=edit)
    return header


def test_what_an_enhanced_ct_says_in_its_functional_groups_is_seen(tmp_path: Path) -> None:
    def edit(ds: Dataset) -> None:
        ds.ContrastBolusAgentSequence = items(ContrastBolusAgentNumber=1, CodeMeaning="Iohexol")
        groups = ds.SharedFunctionalGroupsSequence[0]
        groups.CTReconstructionSequence = items(ConvolutionKernel=["Br40d", "3"])
        groups.PixelMeasuresSequence[0].SliceThickness = 5.0

    header = enhanced(tmp_path, edit)
    assert (kernel_of(header), contrast_of(header), thickness_of(header)) == ("Br40d\\3", "Iohexol", 5.0)


def test_an_enhanced_ct_without_contrast_or_in_other_units_is_known_by_its_functional_groups(tmp_path: Path) -> None:
    def edit(ds: Dataset) -> None:
        ds.ContrastBolusAgentSequence = items(ContrastBolusAgentNumber=1, CodeMeaning="Iohexol")
        for group in ds.PerFrameFunctionalGroupsSequence:
            group.ContrastBolusUsageSequence = items(ContrastBolusAgentNumber=1, ContrastBolusAgentAdministered="NO")
            group.PixelValueTransformationSequence[0].RescaleType = "MGML"

    header = enhanced(tmp_path, edit)
    assert contrast_of(header) == "" == kernel_of(header)
    assert refuse_ct(Series(series_uid="1", headers=(header,))) == "its values are MGML, not Hounsfield units"
