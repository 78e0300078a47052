"""Each rule that no validator knows is kept by what we write, and noticed when it is broken."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from support.findings import Scene, findings, lesion, saliency, scene

from radnode_dicom_sr import DicomObject, Profile, build
from radnode_dicom_sr.invariants import check, held_reason
from radnode_inference.findings import Finding, Findings


@pytest.fixture(params=[False, True], ids=["classic", "enhanced"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Scene:
    return scene(tmp_path, enhanced=request.param, modality="MR")


def broken(o: DicomObject, change: Callable[[Dataset], None]) -> DicomObject:
    ds = pydicom.dcmread(BytesIO(o.body))
    change(ds)
    out = BytesIO()
    ds.save_as(out)
    return replace(o, body=out.getvalue())


def test_what_we_write_keeps_every_rule(place: Scene) -> None:
    made = with_map(place)
    assert check(build(made, place.study), made, place.study) == ()
    assert check(build(made, place.study, profile=EVERYTHING), made, place.study) == ()


def content(ds: Dataset) -> Iterator[Dataset]:
    """Every content item, depth first."""
    for item in ds.get("ContentSequence", ()):
        yield item
        yield from content(item)


def named(ds: Dataset, code: str) -> Dataset:
    return next(
        i for i in content(ds) if i.get("ConceptNameCodeSequence") and i.ConceptNameCodeSequence[0].CodeValue == code
    )


def other_tracking(ds: Dataset) -> None:
    ds.SegmentSequence[0].TrackingUID = "1.2.3"


def other_report_tracking(ds: Dataset) -> None:
    named(ds, "112040").UID = "1.2.3"


def other_image(ds: Dataset) -> None:
    evidence = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3.4"


def other_image_of_a_frame(ds: Dataset) -> None:
    source = ds.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    source.ReferencedSOPInstanceUID = "1.2.3.4"


def other_patient(ds: Dataset) -> None:
    ds.PatientID = "PID-8"


def other_name(ds: Dataset) -> None:
    ds.PatientName = "Doe^Jan"


def other_study(ds: Dataset) -> None:
    ds.StudyInstanceUID = "1.2.3.4"


def outline_outside(ds: Dataset) -> None:
    region = next(i for i in content(ds) if i.ValueType == "SCOORD")
    region.GraphicData = [float(v) + 60 for v in region.GraphicData]


def outline_on_another_slice(ds: Dataset) -> None:
    evidence = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    region = next(i for i in content(ds) if i.ValueType == "SCOORD").ContentSequence[0].ReferencedSOPSequence[0]
    region.ReferencedSOPInstanceUID = evidence[-1].ReferencedSOPInstanceUID
    if "ReferencedFrameNumber" in region:
        region.ReferencedFrameNumber = 1 + int(region.ReferencedFrameNumber) % 12
        region.ReferencedSOPInstanceUID = "1.2.3"


def shifted_frame(ds: Dataset) -> None:
    place = ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    place.ImagePositionPatient = [float(v) + 2.5 for v in place.ImagePositionPatient]


def frames_exchanged(ds: Dataset) -> None:
    """Each mask on the image of another: what a viewer that counts frames would draw."""
    groups = ds.PerFrameFunctionalGroupsSequence
    a, b = groups[0], groups[2]
    for keyword in ("DerivationImageSequence", "PlanePositionSequence"):
        first, second = getattr(a, keyword), getattr(b, keyword)
        setattr(a, keyword, second), setattr(b, keyword, first)


def other_pixels(ds: Dataset) -> None:
    ds.PixelData = b"\xff" * 16 + ds.PixelData[16:]


def fewer_frames(ds: Dataset) -> None:
    ds.NumberOfFrames = int(ds.NumberOfFrames) - 1


def another_number(ds: Dataset) -> None:
    item = next(i for i in content(ds) if i.ValueType == "NUM")
    item.MeasuredValueSequence[0].NumericValue = "17.5"


def in_kilograms(ds: Dataset) -> None:
    item = named(ds, "118565006").MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
    item.CodeValue, item.CodeMeaning = "kg", "kg"


def not_of_ucum(ds: Dataset) -> None:
    named(ds, "118565006").MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodingSchemeDesignator = "99X"


def other_title(ds: Dataset) -> None:
    ds.ConceptNameCodeSequence[0].CodeValue = "126099"


def other_side(ds: Dataset) -> None:
    named(ds, "272741003").ConceptCodeSequence[0].CodeValue = "24028999"


def other_category(ds: Dataset) -> None:
    ds.SegmentSequence[0].SegmentedPropertyCategoryCodeSequence[0].CodeValue = "1"


def other_purpose(ds: Dataset) -> None:
    ds.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue = "109999"


def other_object(ds: Dataset) -> None:
    ds.SOPInstanceUID = "1.2.3.4"


def one_contour_less(ds: Dataset) -> None:
    del ds.ROIContourSequence[0]


BREAKS = [
    ("seg", other_tracking, "does not track"),
    ("sr", other_report_tracking, "do not track exactly"),
    ("rtstruct", one_contour_less, "the contours are not those"),
    ("sr", other_image, "which is not there"),
    ("seg", other_image_of_a_frame, "which is not there"),
    ("seg", other_image_of_a_frame, "names an image that is not a slice"),
    ("kos", other_image, "which is not there"),
    ("sr", other_patient, "PatientID"),
    ("key-image", other_name, "PatientName"),
    ("pdf", other_study, "StudyInstanceUID"),
    ("parametric-map", other_patient, "PatientID"),
    ("key-image", other_object, "the file is another object"),
    ("sr", outline_outside, "leaves the image"),
    ("sr", outline_on_another_slice, "does not touch"),
    ("seg", shifted_frame, "lies elsewhere than its image"),
    ("seg", frames_exchanged, "does not show the finding's voxels"),
    ("seg", other_pixels, "does not show the finding's voxels"),
    ("seg", fewer_frames, "not as the standard has it"),
    ("sr", another_number, "does not state the numbers"),
    ("sr", in_kilograms, "is not measured in 'kg'"),
    ("sr", not_of_ucum, "has no unit of UCUM"),
    ("sr", other_title, "is not in CID 7021"),
    ("sr", other_side, "is not in CID 244"),
    ("seg", other_category, "is not in CID 7150"),
    ("sr", other_purpose, "is not in CID 7005"),
]
EVERYTHING = Profile(pdf=True, kos=True, rtstruct=True)


def with_map(place: Scene) -> Findings:
    return findings(place, maps=(saliency(place.volume.voxels),))


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "enhanced"])
def built(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Scene, Findings, list[DicomObject]]:
    place = scene(tmp_path_factory.mktemp("scene"), enhanced=request.param, modality="MR")
    made = with_map(place)
    return place, made, list(build(made, place.study, profile=EVERYTHING))


@pytest.mark.parametrize(("kind", "change", "said"), BREAKS)
def test_a_broken_rule_is_named(
    built: tuple[Scene, Findings, list[DicomObject]], kind: str, change: Callable[[Dataset], None], said: str
) -> None:
    place, made, objects = built
    index = next(i for i, o in enumerate(objects) if o.kind == kind)
    changed = [*objects[:index], broken(objects[index], change), *objects[index + 1 :]]
    assert any(said in sentence for sentence in check(changed, made, place.study))


@pytest.mark.parametrize("seg", [None, "labelmap", "labelmap-rle"])
@pytest.mark.parametrize("frame_cap", [None, 3])
def test_every_profile_keeps_every_rule(
    built: tuple[Scene, Findings, list[DicomObject]],
    seg: Literal["labelmap", "labelmap-rle"] | None,
    frame_cap: int | None,
) -> None:
    place, made, _ = built
    profile = Profile(seg=seg, frame_cap=frame_cap, pdf=True, kos=True, rtstruct=True, language="zh-TW")
    assert check(build(made, place.study, profile=profile), made, place.study) == ()


@pytest.mark.parametrize("seg", ["labelmap", "labelmap-rle"])
def test_a_voxel_less_in_a_label_map_is_named(
    built: tuple[Scene, Findings, list[DicomObject]], seg: Literal["labelmap", "labelmap-rle"]
) -> None:
    place, made, _ = built
    first = made.items[0]
    assert first.mask is not None
    mask = first.mask.copy()
    mask[tuple(np.argwhere(mask)[0])] = False
    other = replace(made, items=(replace(first, mask=mask), *made.items[1:]))
    objects = build(made, place.study, profile=Profile(seg=seg))
    assert any("does not show the finding's voxels" in s for s in check(objects, other, place.study))


def moved(step_mm: tuple[float, float, float]) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        region = next(i for i in content(ds) if i.ValueType == "SCOORD3D")
        region.GraphicData = (np.array(region.GraphicData, float).reshape(-1, 3) + step_mm).ravel().tolist()

    return change


def other_frame_of_reference(ds: Dataset) -> None:
    next(i for i in content(ds) if i.ValueType == "SCOORD3D").ReferencedFrameOfReferenceUID = "1.2.3.4"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (moved((0, 0, 0)), ""),
        (moved((0, 0, 1.0)), "is on no slice"),
        (moved((0, 0, 250)), "is on no slice"),
        (moved((60, 0, 0)), "leaves the image"),
        (other_frame_of_reference, "another frame of reference"),
    ],
)
def test_an_outline_in_space_lies_on_a_slice_of_its_finding(
    tmp_path: Path, change: Callable[[Dataset], None], said: str
) -> None:
    place = scene(tmp_path, spacing=(2.5, 0.8, 1.1))
    made = findings(place)
    objects = [broken(o, change) if o.kind == "sr" else o for o in build(made, place.study)]
    sentences = check(objects, made, place.study)
    assert any(said in s for s in sentences) if said else sentences == ()


def test_two_objects_with_one_uid_are_named(built: tuple[Scene, Findings, list[DicomObject]]) -> None:
    place, made, objects = built
    assert any("one SOP Instance UID" in s for s in check([*objects, objects[-1]], made, place.study))


def test_a_truncated_object_is_named(built: tuple[Scene, Findings, list[DicomObject]]) -> None:
    place, made, objects = built
    for index in range(len(objects)):
        cut = replace(objects[index], body=objects[index].body[:900])
        assert check([*objects[:index], cut, *objects[index + 1 :]], made, place.study) != ()


def test_the_first_broken_rule_becomes_the_reason_on_the_page() -> None:
    assert held_reason(()) == ""
    assert held_reason(("a is not b", "c", "d")) == "The result was withheld: a is not b (and 2 more)."


def test_a_stated_volume_that_was_not_drawn_is_named(place: Scene) -> None:
    item: Finding = lesion(place, "a", (0, 0, 0), 5)
    volume = item.measurements[0]
    made = findings(place, (replace(item, measurements=(replace(volume, value=volume.value * 1.02),)),))
    assert any("ml stated" in s for s in check(build(made, place.study), made, place.study))
