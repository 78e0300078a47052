"""What we wrote, and what others wrote by TID 1500, is read back as the same findings."""

import json
import subprocess
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import generate_uid
from support.findings import LEFT, LUNG, NODULE, Scene, findings, lesion, scene
from support.matrix import delivered, everything, variants
from support.validators import program

from radnode_dicom_sr import DicomObject, Profile, build, read
from radnode_inference.findings import Findings

CONCEPT = hd.sr.CodedConcept
MILLIMETRE = CONCEPT("mm", "UCUM", "mm")


@pytest.fixture
def place(tmp_path: Path) -> Scene:
    return scene(tmp_path, shape=(8, 20, 24))


def only(objects: tuple[DicomObject, ...], kind: str) -> bytes:
    return next(o.body for o in objects if o.kind == kind)


def small(place: Scene) -> Findings:
    return findings(place, (lesion(place, "nodule", (1, 1, 0), 4.0),))


def test_a_report_of_ours_reads_back_as_its_findings(place: Scene) -> None:
    made = small(place)
    objects = build(made, place.study)
    document = read(only(objects, "sr"))
    (found,), (item,) = document.findings, made.items
    assert (document.kind, document.title.value if document.title else "") == ("sr", "126000")
    assert not document.verified
    assert any("not verified" in s for s in document.statements)
    assert (found.tracking_id, found.tracking_uid) == (item.tracking_id, item.tracking_uid)
    assert (found.concept, found.site, found.laterality) == (NODULE, LUNG, LEFT)
    numbers = {m.concept.value: (m.value, m.unit.value) for m in found.measurements}
    for m in item.measurements:
        assert numbers[m.concept.value] == (pytest.approx(m.value, rel=1e-5), m.unit.value)
    assert numbers["111012"] == (81.25, "%")
    (segment,) = found.segments
    assert segment.sop_uid == next(o.sop_uid for o in objects if o.kind == "seg")
    (outline,) = found.outlines
    assert outline.sop_uid in {s.sop_uid for s in place.volume.sources}
    assert len(outline.points) > 6


@pytest.mark.parametrize("seg", ["binary", "labelmap", "labelmap-rle"])
def test_a_segmentation_of_ours_reads_back_with_its_volumes(place: Scene, seg: str) -> None:
    made = small(place)
    document = read(only(build(made, place.study, profile=Profile(seg=seg)), "seg"))  # type: ignore[arg-type]
    (found,) = document.findings
    assert (found.tracking_uid, found.concept, found.laterality) == (made.items[0].tracking_uid, NODULE, LEFT)
    assert found.measurements[0].value == pytest.approx(made.items[0].measurements[0].value, rel=1e-5)


def test_earlier_measurements_and_evaluations_read_back(tmp_path: Path) -> None:
    _, objects = everything(delivered(tmp_path, variants()["CT axial"]), 0)
    reports = [read(o.body) for o in objects if o.kind == "sr"]
    earlier = next(f for d in reports for f in d.findings if f.time_point)
    assert (earlier.time_point, earlier.tracking_uid, earlier.measurements[0].value) == ("20250102", "1.2.3.5", 0.25)
    whole = next(f for d in reports for f in d.findings if f.tracking_id == "whole")
    assert whole.evaluations[0].value.meaning == "Present"
    status = read(only(objects, "status"))
    assert "A phase is missing." in status.statements[0]


def report_of(place: Scene, group: object) -> bytes:
    """A report by highdicom with one group and a person as observer."""
    sources = [h.dataset() for h in place.study.series[0].headers]
    observer = hd.sr.ObserverContext(
        observer_type=CONCEPT("121006", "DCM", "Person"),
        observer_identifying_attributes=hd.sr.PersonObserverIdentifyingAttributes(name="Doe^Jo"),
    )
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_person_context=observer),
        procedure_reported=CONCEPT("25045-6", "LN", "CT unspecified body region"),
        imaging_measurements=[group],
    )
    document = hd.sr.Comprehensive3DSR(
        evidence=sources, content=report, series_instance_uid=generate_uid(), series_number=1,
        sop_instance_uid=generate_uid(), instance_number=1, manufacturer="m", is_verified=True,
        verifying_observer_name="Doe^Jo", verifying_organization="x",
    )  # fmt: skip
    out = BytesIO()
    document.save_as(out, enforce_file_format=True)
    return out.getvalue()


def test_a_length_as_ohif_writes_it_reads_back_with_its_line(place: Scene) -> None:
    """The number carries its own line (TID 300, 320), and the identifier names the tool."""
    source = place.study.series[0].headers[0]
    image = hd.sr.SourceImageForMeasurement(source.text("SOPClassUID"), source.text("SOPInstanceUID"))
    line = hd.sr.CoordinatesForMeasurement(hd.sr.GraphicTypeValues.POLYLINE, np.array([[1.0, 2.0], [5.0, 2.0]]), image)
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid="1.2.3", identifier="Cornerstone3DTools@^0.1.0:Length"),
        finding_type=CONCEPT("52988006", "SCT", "Lesion"),
        finding_sites=[hd.sr.FindingSite(CONCEPT("39607008", "SCT", "Lung"))],
        measurements=[
            hd.sr.Measurement(CONCEPT("410668003", "SCT", "Length"), 12.5, MILLIMETRE, referenced_coordinates=[line])
        ],
    )
    document = read(report_of(place, group))
    (found,) = document.findings
    assert document.verified
    assert document.observers == ("Doe^Jo",)
    assert (found.tracking_uid, found.site) == ("1.2.3", LUNG)
    assert (found.measurements[0].value, found.measurements[0].unit.value) == (12.5, "mm")
    (outline,) = found.outlines
    assert outline.points == ((1.0, 2.0), (5.0, 2.0))
    assert outline.sop_uid == source.text("SOPInstanceUID")


def test_a_region_in_space_by_highdicom_reads_back(place: Scene) -> None:
    ring = np.array([[0, 0, 1], [4, 0, 1], [4, 4, 1], [0, 4, 1], [0, 0, 1]], float)
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid="1.2.9", identifier="ring"),
        referenced_region=hd.sr.ImageRegion3D(hd.sr.GraphicTypeValues3D.POLYGON, ring, "1.2.3.4"),
        measurements=[hd.sr.Measurement(CONCEPT("42798000", "SCT", "Area"), 16.0, CONCEPT("mm2", "UCUM", "mm2"))],
    )
    (found,) = read(report_of(place, group)).findings
    assert found.outlines[0].points[1] == (4.0, 0.0, 1.0)
    assert found.measurements[0].value == 16.0


def test_a_report_by_dcmqi_reads_back(tmp_path: Path) -> None:
    """tid1500writer, on our own images and segmentation."""
    place = scene(tmp_path / "source", shape=(8, 20, 24))
    made = small(place)
    seg = next(o for o in build(made, place.study) if o.kind == "seg")
    (tmp_path / "seg.dcm").write_bytes(seg.body)
    first = min((tmp_path / "source").glob("*.dcm"))
    description = {
        "SeriesDescription": "Measurements", "SeriesNumber": "1001", "InstanceNumber": "1",
        "compositeContext": ["seg.dcm"], "imageLibrary": [first.name],
        "observerContext": {"ObserverType": "PERSON", "PersonObserverName": "Reader1"},
        "VerificationFlag": "VERIFIED", "CompletionFlag": "COMPLETE", "activitySession": "1", "timePoint": "1",
        "Measurements": [{
            "MeasurementGroup": {}, "TrackingIdentifier": "Measurements group 1", "ReferencedSegment": 1,
            "SourceSeriesForImageSegmentation": place.volume.series_uid, "segmentationSOPInstanceUID": seg.sop_uid,
            "Finding": {"CodeValue": "27925004", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Nodule"},
            "FindingSite": {"CodeValue": "39607008", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Lung"},
            "measurementItems": [{
                "value": "37.25",
                "quantity": {"CodeValue": "118565006", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Volume"},
                "units": {"CodeValue": "ml", "CodingSchemeDesignator": "UCUM", "CodeMeaning": "ml"},
            }],
        }],
    }  # fmt: skip
    (tmp_path / "meta.json").write_text(json.dumps(description))
    done = subprocess.run(
        [program("tid1500writer"), "--inputMetadata", str(tmp_path / "meta.json"), "--inputImageLibraryDirectory",
         str(tmp_path / "source"), "--inputCompositeContextDirectory", str(tmp_path), "--outputDICOM",
         str(tmp_path / "theirs.dcm")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (tmp_path / "theirs.dcm").exists(), done.stdout + done.stderr
    document = read((tmp_path / "theirs.dcm").read_bytes())
    (found,) = document.findings
    assert document.observers == ("Reader1",)
    assert (found.concept, found.site) == (NODULE, LUNG)
    assert found.measurements[0].value == 37.25
    assert found.segments[0].sop_uid == seg.sop_uid


def test_what_is_neither_is_refused_in_a_sentence(place: Scene) -> None:
    first = place.study.series[0].headers[0].path
    assert first is not None
    whole = only(build(small(place), place.study), "sr")
    for body in (first.read_bytes(), b"nothing", b"", whole[:2000]):
        with pytest.raises(ValueError, match="this"):
            read(body)


@pytest.mark.parametrize("seg", ["binary", "labelmap"])
@pytest.mark.parametrize(
    "transfer_syntax_uid",
    ["1.2.3", "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.203", "1.2.840.10008.1.2.4.90"],
    ids=["unknown", "no decoder anywhere", "no decoder installed", "broken codestream"],
)
def test_pixels_that_cannot_be_decoded_are_said_so_in_a_line(place: Scene, seg: str, transfer_syntax_uid: str) -> None:
    made = build(findings(place), place.study, profile=Profile(seg=seg))  # type: ignore[arg-type]
    ds = pydicom.dcmread(BytesIO(next(o.body for o in made if o.kind == "seg")))
    ds.file_meta.TransferSyntaxUID = transfer_syntax_uid
    ds.PixelData = encapsulate([b"\x00\x01" * 20] * int(ds.NumberOfFrames))
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    out = BytesIO()
    ds.save_as(out, implicit_vr=False, little_endian=True)
    with pytest.raises(ValueError, match="cannot be decoded here") as e:
        read(out.getvalue())
    assert "\n" not in str(e.value)


def test_an_edited_copy_shows_the_edit(place: Scene) -> None:
    ds = pydicom.dcmread(BytesIO(only(build(small(place), place.study), "sr")))
    groups = next(i for i in ds.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010")
    number = next(i for i in groups.ContentSequence[0].ContentSequence if i.ValueType == "NUM")
    number.MeasuredValueSequence[0].NumericValue = "99"
    ds.VerificationFlag = "VERIFIED"
    out = BytesIO()
    ds.save_as(out)
    document = read(out.getvalue())
    assert document.verified
    assert 99.0 in [m.value for m in document.findings[0].measurements]
