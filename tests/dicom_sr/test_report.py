"""What a viewer and a reader get from the structured reports, and what they must never get."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from support.findings import BREAST, LEFT, LESION, MODEL, Scene, findings, lesion, scene

from radnode_dicom_sr import DicomObject, Previous, build
from radnode_inference.findings import Code, Evaluation, Finding, Findings, Kind, tracking_uid

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def reports(objects: tuple[DicomObject, ...]) -> list[Dataset]:
    return [pydicom.dcmread(BytesIO(o.body)) for o in objects if o.kind == "sr"]


def walk(ds: Dataset) -> Iterator[Dataset]:
    for item in ds.get("ContentSequence", ()):
        yield item
        yield from walk(item)


def name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue) if "ConceptNameCodeSequence" in item else ""


def groups(report: Dataset) -> list[Dataset]:
    return [i for i in walk(report) if name(i) == "125007"]


def tracked(group: Dataset) -> str:
    return next(str(i.UID) for i in group.ContentSequence if name(i) == "112040")


def texts(report: Dataset) -> str:
    return "\n".join(str(i.TextValue) for i in walk(report) if i.ValueType == "TEXT")


def numbers(group: Dataset) -> dict[str, tuple[float, str]]:
    return {
        name(i): (
            float(i.MeasuredValueSequence[0].NumericValue),
            str(i.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue),
        )
        for i in group.ContentSequence
        if i.ValueType == "NUM"
    }


@pytest.fixture
def place(tmp_path: Path) -> Scene:
    return scene(tmp_path)


def examination(place: Scene, **more: object) -> Finding:
    made = Finding(
        tracking_id="whole",
        tracking_uid=tracking_uid(place.study.study_uid, MODEL, "whole"),
        kind=Kind.EXAMINATION,
        concept=Code(value="86049000", scheme="SCT", meaning="Malignant neoplasm, primary"),
        site=BREAST,
        laterality=LEFT,
        probability=0.25,
        evaluations=(
            Evaluation(
                concept=Code(value="111031", scheme="DCM", meaning="Image View"),
                value=Code(value="52101004", scheme="SCT", meaning="Present"),
            ),
        ),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def test_each_located_finding_is_a_pair_of_groups_with_one_tracking_uid(place: Scene) -> None:
    made = findings(place)
    objects = build(made, place.study)
    (report,) = reports(objects)
    assert name(report) == "126000"
    seg = next(o for o in objects if o.kind == "seg")
    for number, finding in enumerate(made.items, start=1):
        planar, volumetric = (g for g in groups(report) if tracked(g) == finding.tracking_uid)
        assert sum(i.ValueType == "SCOORD" for i in planar.ContentSequence) == 1
        (segment,) = (i for i in volumetric.ContentSequence if i.ValueType == "IMAGE")
        reference = segment.ReferencedSOPSequence[0]
        assert (reference.ReferencedSOPInstanceUID, reference.ReferencedSegmentNumber) == (seg.sop_uid, number)
        assert numbers(planar)["103339001"] == (finding.measurements[1].value, "mm")
        assert numbers(volumetric)["118565006"] == (pytest.approx(finding.measurements[0].value, rel=1e-5), "ml")
    assert numbers(groups(report)[0])["111012"] == (81.25, "%")


def test_the_outline_encloses_the_finding_on_its_largest_slice(place: Scene) -> None:
    made = findings(place)
    (report,) = reports(build(made, place.study))
    for finding in made.items:
        assert finding.mask is not None
        group = next(g for g in groups(report) if tracked(g) == finding.tracking_uid)
        region = next(i for i in group.ContentSequence if i.ValueType == "SCOORD")
        index = int(finding.mask.sum(axis=(1, 2)).argmax())
        image = region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        assert image == place.volume.sources[index].sop_uid
        points = np.asarray(region.GraphicData, float).reshape(-1, 2)
        assert (points[0] == points[-1]).all()
        x, y = points[:-1].T
        area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
        assert area == pytest.approx(finding.mask[index].sum(), rel=0.1)
        rows, columns = np.nonzero(finding.mask[index])
        middle = ((points.max(axis=0) + points.min(axis=0)) / 2).tolist()
        box = [(columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2]
        assert middle == pytest.approx(box, abs=0.01)


def test_where_pixels_are_oblong_the_outline_stands_in_space(tmp_path: Path) -> None:
    """OHIF would draw one on the image elsewhere; in space it is the same outline."""
    place = scene(tmp_path, orientation="oblique", spacing=(2.5, 0.8, 1.1))
    made = findings(place)
    (report,) = reports(build(made, place.study))
    for finding in made.items:
        assert finding.mask is not None
        group = next(g for g in groups(report) if tracked(g) == finding.tracking_uid)
        (region,) = (i for i in group.ContentSequence if i.ValueType in ("SCOORD", "SCOORD3D"))
        assert (region.ValueType, region.GraphicType) == ("SCOORD3D", "POLYLINE")
        index = int(finding.mask.sum(axis=(1, 2)).argmax())
        points = np.asarray(region.GraphicData, float).reshape(-1, 3)
        assert (points[0] == points[-1]).all()
        at = np.linalg.inv(place.volume.affine) @ np.c_[points, np.ones(len(points))].T
        assert at[0] == pytest.approx(np.full(len(points), index), abs=1e-3)
        rows, columns = np.nonzero(finding.mask[index])
        assert at[1].min() == pytest.approx(rows.min() - 0.5, abs=0.01)
        assert at[2].max() == pytest.approx(columns.max() + 0.5, abs=0.01)


@pytest.mark.parametrize("radius", [0.5, 1.0, 3.0])
def test_nothing_can_be_turned_into_an_editable_measurement_that_drops_the_numbers(place: Scene, radius: float) -> None:
    """OHIF hydrates Cornerstone tracking identifiers, closed polylines of four or five points, and NUMs with coordinates."""
    (report,) = reports(build(findings(place, (lesion(place, "tiny", (0.4, 0.4, 1.25), radius),)), place.study))
    for item in walk(report):
        if item.ValueType == "NUM":
            assert not any(i.ValueType == "SCOORD" for i in walk(item))
        if item.ValueType == "SCOORD":
            assert item.GraphicType == "POLYLINE"
            assert len(item.GraphicData) // 2 > 6
        if name(item) == "112039":
            assert "Cornerstone" not in item.TextValue


def test_findings_without_a_place_never_share_a_document_with_outlines(place: Scene) -> None:
    whole = examination(place)
    made = findings(place, (lesion(place, "a", (0, 0, 0), 5), whole))
    located, whole_report = reports(build(made, place.study))
    assert {tracked(g) for g in groups(located)} == {made.items[0].tracking_uid}
    assert {tracked(g) for g in groups(whole_report)} == {whole.tracking_uid}
    assert located.SeriesInstanceUID != whole_report.SeriesInstanceUID
    assert all(any(i.ValueType in ("SCOORD", "IMAGE") for i in g.ContentSequence) for g in groups(located))
    assert numbers(groups(whole_report)[0]) == {"111047": (25.0, "%")}


def test_nothing_found_is_said_in_words(place: Scene) -> None:
    objects = build(findings(place, ()), place.study)
    assert [o.kind for o in objects] == ["sr"]
    (report,) = reports(objects)
    assert "reported no finding" in texts(report)
    assert groups(report) == []


def test_an_organ_alone_is_not_called_nothing_found(place: Scene) -> None:
    organ = lesion(place, "lung", (0, 0, 0), 9, kind=Kind.ANATOMY, probability=None)
    objects = build(findings(place, (organ,)), place.study)
    assert "no finding" not in "".join(texts(r) for r in reports(objects))


def test_every_report_says_that_it_is_ai_and_by_which_weights(place: Scene) -> None:
    made = findings(place, statements=("Slices are 2.5 mm thick.",))
    for report in reports(build(made, place.study)):
        assert "not verified by a radiologist" in texts(report)
        assert MODEL.weights_sha256 in texts(report)
        assert "Slices are 2.5 mm thick." in texts(report)
        assert report.SeriesDescription.startswith("AI ")
        assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
        assert report.CompletionFlag == "COMPLETE"
        assert report.ContentQualification == "RESEARCH"
        (observer,) = (i for i in report.ContentSequence if name(i) == "121012")
        assert report.ContributingEquipmentSequence[0].DeviceUID == observer.UID


def test_a_report_lists_every_image_that_was_read_and_how_a_number_was_made(place: Scene) -> None:
    """TID 1600 (image library) and the method of TID 1419, in the report with places and in the one without."""
    by_voxels = Code(value="126030", scheme="DCM", meaning="Sum of segmented voxel volumes")
    item = lesion(place, "a", (0, 0, 0), 6)
    volume = replace(item.measurements[0], method=by_voxels)
    items = (
        replace(item, measurements=(volume, *item.measurements[1:])),
        replace(item, tracking_id="b", mask=None, measurements=(volume,)),
    )
    made = findings(place, (items[0], replace(items[1], tracking_uid="2.25.7", kind=Kind.EXAMINATION)))
    found = reports(build(made, place.study))
    assert len(found) == 2
    for report in found:
        (library,) = (i for i in report.ContentSequence if name(i) == "111028")
        listed = [
            str(i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for i in walk(library) if i.ValueType == "IMAGE"
        ]
        assert sorted(listed) == sorted(s.sop_uid for s in place.volume.sources)
        (number,) = (i for g in groups(report) for i in g.ContentSequence if name(i) == "118565006")
        (method,) = (i for i in number.ContentSequence if i.ValueType == "CODE")
        assert (name(method), method.ConceptCodeSequence[0].CodeValue) == ("370129005", by_voxels.value)


def test_other_weights_are_another_device(place: Scene) -> None:
    devices = set()
    for sha in ("ab" * 32, "cd" * 32):
        made = findings(place, model=replace(MODEL, weights_sha256=sha))
        devices |= {str(r.ContributingEquipmentSequence[0].DeviceUID) for r in reports(build(made, place.study))}
    assert len(devices) == 2


def test_a_part_that_was_read_is_not_called_complete(place: Scene) -> None:
    made = findings(place, partial_because="The phases after the third are missing.")
    (report,) = reports(build(made, place.study))
    assert report.CompletionFlag == "PARTIAL"
    assert "PARTIAL: The phases after the third are missing." in texts(report)


def test_demonstration_weights_are_named_in_every_object(place: Scene) -> None:
    made = findings(place, model=replace(MODEL, demonstration=True))
    objects = build(made, place.study)
    for o in objects:
        assert "DEMONSTRATION" in pydicom.dcmread(BytesIO(o.body)).SeriesDescription
    assert all("NOT FOR CLINICAL USE" in texts(r) for r in reports(objects))


def test_equal_content_is_the_same_object_to_the_byte(place: Scene) -> None:
    first, second = (build(findings(place), place.study, now=NOW) for _ in range(2))
    assert first == second
    assert len({o.sop_uid for o in first}) == len(first)


def test_changed_content_is_a_new_instance_in_the_same_series_and_names_its_predecessor(place: Scene) -> None:
    old = build(findings(place), place.study)
    previous = tuple(
        Previous(kind=o.kind, sop_class_uid=o.sop_class_uid, sop_uid=o.sop_uid, series_uid=o.series_uid) for o in old
    )
    changed: Findings = findings(place, (lesion(place, "nodule-1", (5, 3, 2), 5.0),))
    new = build(changed, place.study, previous=previous)
    assert {o.series_uid for o in new} <= {o.series_uid for o in old}
    assert not {o.sop_uid for o in new} & {o.sop_uid for o in old}
    (report,) = reports(new)
    reference = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == next(o.sop_uid for o in old if o.kind == "sr")


def test_an_equal_result_does_not_supersede_itself(place: Scene) -> None:
    old = build(findings(place), place.study)
    previous = tuple(
        Previous(kind=o.kind, sop_class_uid=o.sop_class_uid, sop_uid=o.sop_uid, series_uid=o.series_uid) for o in old
    )
    assert all(
        "PredecessorDocumentsSequence" not in r for r in reports(build(findings(place), place.study, previous=previous))
    )


def test_a_side_without_a_site_is_still_told(place: Scene) -> None:
    whole = examination(place, site=None, concept=LESION)
    (report,) = reports(build(findings(place, (whole,)), place.study))
    (side,) = (i for i in walk(report) if name(i) == "272741003")
    assert side.ConceptCodeSequence[0].CodeValue == LEFT.value


def test_an_enhanced_image_is_named_with_its_frame(tmp_path: Path) -> None:
    place = scene(tmp_path, enhanced=True, modality="MR")
    made = findings(place, (lesion(place, "a", (5, 3, 2), 6),))
    (report,) = reports(build(made, place.study))
    region = next(i for i in walk(report) if i.ValueType == "SCOORD")
    assert made.items[0].mask is not None
    index = int(made.items[0].mask.sum(axis=(1, 2)).argmax())
    reference = region.ContentSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedFrameNumber == place.volume.sources[index].frame
