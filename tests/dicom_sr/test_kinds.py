"""Parametric maps, contours, pages, selections, rejection notes and statuses hold what was found, where it was found."""

import math
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np
import pydicom
import pytest
from skimage.color import lab2rgb
from skimage.draw import polygon2mask
from support.findings import MODEL, Scene, findings, lesion, saliency, scene

from radnode_dicom_sr import DicomObject, Profile, actionable, build, codes, retraction, status
from radnode_dicom_sr.identity import Kind as ObjectKind
from radnode_dicom_sr.invariants import check

EVERYTHING = Profile(pdf=True, kos=True, rtstruct=True, status=True)


@pytest.fixture
def place(tmp_path: Path) -> Scene:
    return scene(tmp_path, shape=(8, 20, 24), orientation="oblique")


def opened(objects: tuple[DicomObject, ...], kind: str) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(BytesIO(o.body)) for o in objects if o.kind == kind]


@pytest.mark.parametrize("frame_cap", [None, 4])
def test_a_parametric_map_lies_on_its_images_with_its_numbers(place: Scene, frame_cap: int | None) -> None:
    map_ = saliency(place.volume.voxels)
    made = findings(place, (), maps=(map_,))
    profile = Profile(frame_cap=frame_cap)
    files = [o for o in build(made, place.study, profile=profile) if o.kind == "parametric-map"]
    assert len(files) == (1 if frame_cap is None else math.ceil(len(place.volume.sources) / frame_cap))
    slices = {s.sop_uid: i for i, s in enumerate(place.volume.sources)}
    seen = []
    for o in files:
        theirs = pydicom.dcmread(BytesIO(o.body))
        padding = theirs.FloatPixelPaddingValue
        for frame, group in zip(theirs.pixel_array, theirs.PerFrameFunctionalGroupsSequence, strict=True):
            source = group.DerivationImageSequence[0].SourceImageSequence[0]
            index = slices[source.ReferencedSOPInstanceUID]
            seen.append(index)
            there = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
            assert np.allclose(there, place.volume.to_lps((index, 0, 0)), atol=1e-5)
            truth = map_.values[index]
            assert (np.isnan(truth) == (frame == padding)).all()
            assert (frame[np.isfinite(truth)] == truth[np.isfinite(truth)]).all()
    assert seen == list(range(len(place.volume.sources)))  # in the order of the slices: OHIF counts frames


def test_a_map_without_a_number_is_no_object(place: Scene) -> None:
    nothing = replace(saliency(place.volume.voxels), values=np.full(place.volume.shape, np.nan, np.float32))
    assert opened(build(findings(place, (), maps=(nothing,)), place.study), "parametric-map") == []


def test_contours_enclose_the_voxels_and_leave_the_hole_out(place: Scene) -> None:
    item = lesion(place, "a", (0, 0, 0), 6)
    assert item.mask is not None
    mask = item.mask & ~place.ball((0, 0, 0), 3)
    made = findings(place, (replace(item, mask=mask, measurements=()),))
    (ds,) = opened(build(made, place.study, profile=Profile(rtstruct=True)), "rtstruct")
    drawn = np.zeros_like(mask)
    slices = {s.sop_uid: i for i, s in enumerate(place.volume.sources)}
    for contour in ds.ROIContourSequence[0].ContourSequence:
        index = slices[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        points = np.asarray([float(v) for v in contour.ContourData]).reshape(-1, 3)
        grid = np.linalg.solve(place.volume.affine, np.c_[points, np.ones(len(points))].T)[:3].T
        assert np.abs(grid[:, 0] - index).max() < 0.01
        drawn[index] ^= polygon2mask(mask.shape[1:], grid[:, 1:])
    assert mask.any()
    assert (drawn != mask).sum() <= 0.02 * mask.sum()


def test_the_page_says_what_the_report_says_in_any_script(place: Scene) -> None:
    made = findings(place, statements=("王小明 山田 Петров 홍길동 <b> & นาม",))
    pages = [
        opened(build(made, place.study, profile=p), "pdf")[0]
        for p in (EVERYTHING, replace(EVERYTHING, language="zh-TW"))
    ]
    for ds in pages:
        body = ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength]
        assert body.startswith(b"%PDF")
        assert body.rstrip().endswith(b"%%EOF")
        assert body.count(b"/Subtype /Image") == 3
        assert ds.BurnedInAnnotation == "YES"
    assert pages[0].SOPInstanceUID != pages[1].SOPInstanceUID
    assert b"/UniCNS-UCS2-H" in pages[1].EncapsulatedDocument  # not the simplified map that reportlab would take


def test_the_selection_names_the_slices_and_their_key_images(place: Scene) -> None:
    objects = build(findings(place), place.study, profile=Profile(kos=True))
    (ds,) = opened(objects, "kos")
    named = {
        str(i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for i in ds.ContentSequence if i.ValueType == "IMAGE"
    }
    assert {o.sop_uid for o in objects if o.kind == "key-image"} < named
    assert named & {s.sop_uid for s in place.volume.sources}
    assert ds.ConceptNameCodeSequence[0].CodeValue == "113000"


@pytest.mark.parametrize(("unsafe", "title"), [(False, "113001"), (True, "113037")])
def test_a_retraction_rejects_every_object_of_the_result(place: Scene, unsafe: bool, title: str) -> None:
    objects = build(findings(place), place.study, profile=EVERYTHING)
    note = retraction(objects, MODEL, "The wrong series was read.", unsafe=unsafe)
    ds = pydicom.dcmread(BytesIO(note.body))
    assert ds.ConceptNameCodeSequence[0].CodeValue == title
    named = {
        str(r.ReferencedSOPInstanceUID)
        for s in ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for r in s.ReferencedSOPSequence
    }
    assert named == {o.sop_uid for o in objects}
    assert (str(ds.PatientName), ds.PatientID, ds.AccessionNumber) == ("Doe^Jane", "PID-7", "A123")
    assert note.sop_uid == retraction(objects, MODEL, "The wrong series was read.", unsafe=unsafe).sop_uid
    assert note.sop_uid != retraction(objects, MODEL, "Another reason.", unsafe=unsafe).sop_uid


def test_nothing_cannot_be_retracted() -> None:
    with pytest.raises(ValueError, match="nothing to retract"):
        retraction((), MODEL, "x")


def test_a_status_says_why_and_only_where_it_is_asked_for(place: Scene) -> None:
    assert status(place.study, MODEL, "declined", "Slices are 10 mm thick.") == ()
    report, page = (
        pydicom.dcmread(BytesIO(o.body))
        for o in status(place.study, MODEL, "declined", "Slices are 10 mm thick.", profile=EVERYTHING)
    )
    text = report.ContentSequence[-1].ContentSequence[0].TextValue
    assert text == "The AI did not read this study: it declined. Slices are 10 mm thick."
    assert report.SeriesDescription.startswith("AI ")
    assert "10 mm" in page.ImageComments
    assert len(np.unique(page.pixel_array)) > 2
    assert page.SeriesInstanceUID != report.SeriesInstanceUID


def test_a_partial_result_brings_its_status_along(place: Scene) -> None:
    whole, part = (
        build(findings(place, partial_because=why), place.study, profile=EVERYTHING)
        for why in (None, "A phase is missing.")
    )
    assert opened(whole, "status") == []
    assert len(opened(part, "status")) == 2


def test_a_report_speaks_the_language_of_its_destination(place: Scene) -> None:
    english, chinese = (build(findings(place), place.study, profile=Profile(language=w)) for w in ("en", "zh-TW"))  # type: ignore[arg-type]
    ours = {o.sop_uid for o in english if o.kind == "sr"}
    (ds,) = opened(chinese, "sr")
    assert ds.SOPInstanceUID not in ours
    assert ds.ContentSequence[0].ConceptCodeSequence[0].CodeValue == "zh-TW"
    assert "未經放射科醫師確認" in str(ds)
    assert {o.sop_uid for o in english if o.kind != "sr"} == {o.sop_uid for o in chinese if o.kind != "sr"}


def test_the_category_of_an_actionable_finding_is_told_once(place: Scene) -> None:
    made = findings(place)
    uid = made.items[0].tracking_uid
    once = actionable(made, {uid: 2})
    assert actionable(once, {uid: 1}).items[0].evaluations == once.items[0].evaluations
    (ds,) = opened(build(once, place.study), "sr")
    assert str(ds).count("ACR Category 2 Actionable Finding") == 1


def test_a_cap_that_nothing_exceeds_makes_no_other_object(place: Scene) -> None:
    made = findings(place)
    plain, capped = (build(made, place.study, profile=Profile(frame_cap=c)) for c in (None, 400))
    assert [o.sop_uid for o in plain] == [o.sop_uid for o in capped]


def test_a_cap_splits_by_frames_and_the_report_refers_only_to_what_is_whole(place: Scene) -> None:
    made = findings(place)
    objects = build(made, place.study, profile=Profile(frame_cap=6))
    segs = opened(objects, "seg")
    assert len(segs) > 1
    assert all(int(ds.NumberOfFrames) <= 6 for ds in segs)
    assert check(objects, made, place.study) == ()


def test_a_series_number_of_the_study_is_not_taken_again(tmp_path: Path) -> None:
    plain = scene(tmp_path / "a", shape=(4, 12, 12))
    (number,) = {d.SeriesNumber for d in opened(build(findings(plain), plain.study), "seg")}

    def taken(ds: pydicom.Dataset) -> None:
        ds.SeriesNumber = number

    place = scene(tmp_path / "b", shape=(4, 12, 12), change=taken)
    numbers = {int(pydicom.dcmread(BytesIO(o.body)).SeriesNumber) for o in build(findings(place), place.study)}
    assert int(number) not in numbers


def test_every_object_of_every_kind_bears_the_marks_of_ai(place: Scene) -> None:
    made = findings(place, maps=(saliency(place.volume.voxels),), partial_because="A phase is missing.")
    objects = build(made, place.study, profile=EVERYTHING)
    objects += (retraction(objects, MODEL, "The wrong series was read."),)
    assert {o.kind for o in objects} == set(get_args(ObjectKind))
    devices = set()
    for o in objects:
        ds = pydicom.dcmread(BytesIO(o.body))
        assert (ds.ContentQualification, ds.SeriesDescription[:3]) == ("RESEARCH", "AI "), o.kind
        (device,) = ds.ContributingEquipmentSequence
        assert MODEL.weights_sha256 in device.SoftwareVersions, o.kind
        devices.add(str(device.DeviceUID))
    assert len(devices) == 1


def test_segments_have_the_colours_of_their_findings(place: Scene) -> None:
    """Decoded by the formula of PS3.3 C.10.7.1.1, and by skimage from CIELab to sRGB."""
    made = findings(place)
    (seg,) = opened(build(made, place.study), "seg")
    for number, (finding, segment) in enumerate(zip(made.items, seg.SegmentSequence, strict=True)):
        lightness, a, b = segment.RecommendedDisplayCIELabValue
        lab = lightness * 100 / 65535, a * 255 / 65535 - 128, b * 255 / 65535 - 128
        assert np.allclose(lab2rgb([[lab]])[0, 0] * 255, codes.colour(finding, number), atol=1)
