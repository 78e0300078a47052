"""A mask lies in the patient where the finding lies, on the very images it was found on, whatever way they are stacked."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from support.findings import ORIENTATIONS, Scene, findings, lesion, scene

from radnode_dicom_sr import DicomObject, build
from radnode_dicom_sr.read_segmentation import Segment, segments
from radnode_inference.volume import BoolArray

WAYS = [*((o, False) for o in ORIENTATIONS), ("axial", True), ("oblique", True)]


def seg_of(objects: tuple[DicomObject, ...]) -> DicomObject:
    return next(o for o in objects if o.kind == "seg")


def dice(segment: Segment, truth: BoolArray, place: Scene) -> float:
    """Overlap in patient coordinates: every drawn point is looked up in the truth by the inverse affine of the truth."""
    points = segment.points()
    index = np.linalg.solve(place.volume.affine, np.c_[points, np.ones(len(points))].T)[:3].T
    nearest = np.rint(index).astype(int)
    assert np.abs(index - nearest).max() < 0.01
    inside = ((nearest >= 0) & (nearest < truth.shape)).all(axis=1)
    hits = truth[tuple(nearest[inside].T)].sum()
    return float(2 * hits / (len(points) + truth.sum()))


@pytest.mark.parametrize(("orientation", "enhanced"), WAYS)
def test_every_mask_is_where_its_finding_is_in_patient_coordinates(
    tmp_path: Path, orientation: str, enhanced: bool
) -> None:
    place = scene(tmp_path, orientation=orientation, enhanced=enhanced, modality="MR")
    made = findings(place)
    drawn = segments(seg_of(build(made, place.study)).body)
    assert [s.tracking_uid for s in drawn] == [f.tracking_uid for f in made.items]
    for segment, finding in zip(drawn, made.items, strict=True):
        assert finding.mask is not None
        assert dice(segment, finding.mask, place) == 1.0


def test_a_flipped_mask_would_not_pass(tmp_path: Path) -> None:
    place = scene(tmp_path)
    item = lesion(place, "off-centre", (8, 6, 7), 4)
    drawn = segments(seg_of(build(findings(place, (item,)), place.study)).body)[0]
    assert item.mask is not None
    for axis in range(3):
        assert dice(drawn, np.flip(item.mask, axis), place) < 0.2


@pytest.mark.parametrize("enhanced", [False, True])
def test_every_frame_names_the_image_it_was_drawn_on(tmp_path: Path, enhanced: bool) -> None:
    place = scene(tmp_path, enhanced=enhanced, modality="MR")
    made = findings(place)
    named = {(s.sop_uid, s.frame): i for i, s in enumerate(place.volume.sources)}
    for segment, finding in zip(segments(seg_of(build(made, place.study)).body), made.items, strict=True):
        assert finding.mask is not None
        slices = [named[p.source_sop_uid, p.source_frame] for p in segment.planes]
        assert slices == list(np.flatnonzero(finding.mask.any(axis=(1, 2))))
        for index, plane in zip(slices, segment.planes, strict=True):
            assert (plane.mask == finding.mask[index]).all()
            assert np.allclose(plane.affine[:3, 3], place.volume.to_lps((index, 0, 0)), atol=1e-5)


def test_position_is_the_image_s_own_to_the_last_digit(tmp_path: Path) -> None:
    place = scene(tmp_path)
    ds = pydicom.dcmread(BytesIO(seg_of(build(findings(place), place.study)).body))
    own = {h.text("SOPInstanceUID"): h.texts("ImagePositionPatient") for h in place.study.series[0].headers}
    for group in ds.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        written = group.PlanePositionSequence[0].ImagePositionPatient
        assert tuple(v.original_string for v in written) == own[source]


def test_highdicom_reads_the_same_segments_and_pixels(tmp_path: Path) -> None:
    place = scene(tmp_path)
    made = findings(place)
    theirs = hd.seg.segread(BytesIO(seg_of(build(made, place.study)).body))
    uids = [s.sop_uid for s in place.volume.sources]
    pixels = theirs.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True, combine_segments=False)
    for number, finding in enumerate(made.items):
        assert (pixels[..., number].astype(bool) == finding.mask).all()
    assert theirs.segmented_property_types[0].value == "27925004"


def test_it_says_the_same_as_highdicom_s_own_segmentation(tmp_path: Path) -> None:
    """The per-frame functional groups that matter, compared with the object that highdicom builds from the same masks."""
    place = scene(tmp_path)
    made = findings(place)
    ours = pydicom.dcmread(BytesIO(seg_of(build(made, place.study)).body))
    sources = [
        h.dataset()
        for u in place.volume.sources
        for h in place.study.series[0].headers
        if h.text("SOPInstanceUID") == u.sop_uid
    ]
    masks = np.stack([f.mask for f in made.items if f.mask is not None], axis=-1)
    theirs = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=masks.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[
            hd.seg.SegmentDescription(
                segment_number=n,
                segment_label=f.tracking_id,
                segmented_property_category=hd.sr.CodedConcept("49755003", "SCT", "Morphologically Abnormal Structure"),
                segmented_property_type=hd.sr.CodedConcept(f.concept.value, f.concept.scheme, f.concept.meaning),
                algorithm_type="AUTOMATIC",
                algorithm_identification=hd.AlgorithmIdentificationSequence(
                    "x", hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"), "1"
                ),
            )
            for n, f in enumerate(made.items, start=1)
        ],
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
    )  # fmt: skip

    def frames(ds: pydicom.Dataset) -> dict[tuple[int, str], tuple[tuple[float, ...], bytes]]:
        pixels = hd.seg.Segmentation.from_dataset(ds).pixel_array if "PixelData" in ds else None
        assert pixels is not None
        return {
            (
                int(g.SegmentIdentificationSequence[0].ReferencedSegmentNumber),
                str(g.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID),
            ): (tuple(map(float, g.PlanePositionSequence[0].ImagePositionPatient)), pixels[i].tobytes())
            for i, g in enumerate(ds.PerFrameFunctionalGroupsSequence)
        }

    assert frames(ours) == frames(theirs)
    groups = [d.SharedFunctionalGroupsSequence[0] for d in (ours, theirs)]
    ways = [[float(v) for v in g.PlaneOrientationSequence[0].ImageOrientationPatient] for g in groups]
    assert ways[0] == pytest.approx(ways[1], abs=1e-9)
    assert groups[0].PixelMeasuresSequence[0].PixelSpacing == groups[1].PixelMeasuresSequence[0].PixelSpacing


@pytest.mark.parametrize("shape", [(5, 7, 9), (4, 11, 13)])
def test_frames_that_do_not_fill_whole_bytes_run_on(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    place = scene(tmp_path, shape=shape, spacing=(1, 1, 1))
    made = findings(place, (lesion(place, "a", (0, 0, 0), 2.2), lesion(place, "b", (1, 1, 0), 2.0)))
    drawn = segments(seg_of(build(made, place.study)).body)
    for segment, finding in zip(drawn, made.items, strict=True):
        assert finding.mask is not None
        assert dice(segment, finding.mask, place) == 1.0


def test_each_frame_says_its_segment_itself_because_dwv_looks_nowhere_else(tmp_path: Path) -> None:
    place = scene(tmp_path)
    body = seg_of(build(findings(place, (lesion(place, "only", (0, 0, 0), 5),)), place.study)).body
    ds = pydicom.dcmread(BytesIO(body))
    assert "SegmentIdentificationSequence" not in ds.SharedFunctionalGroupsSequence[0]
    assert all("SegmentIdentificationSequence" in g for g in ds.PerFrameFunctionalGroupsSequence)
    assert ds.NumberOfFrames == len(ds.PerFrameFunctionalGroupsSequence) < place.volume.shape[0]


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    place = scene(tmp_path)
    item = lesion(place, "a", (0, 0, 0), 5)
    assert item.mask is not None
    with pytest.raises(ValueError, match="its volume"):
        build(findings(place, (replace(item, mask=item.mask[:, :-1]),)), place.study)


def test_a_volume_that_does_not_lie_where_its_images_lie_is_refused(tmp_path: Path) -> None:
    place = scene(tmp_path)
    moved = place.volume.affine.copy()
    moved[2, 3] += 1.25
    made = replace(findings(place), volume=replace(place.volume, affine=moved))
    with pytest.raises(ValueError, match="does not lie where its image"):
        build(made, place.study)


def test_a_reversed_stack_is_refused(tmp_path: Path) -> None:
    place = scene(tmp_path)
    made = replace(findings(place), volume=replace(place.volume, sources=place.volume.sources[::-1]))
    with pytest.raises(ValueError, match="does not lie where its image"):
        build(made, place.study)
