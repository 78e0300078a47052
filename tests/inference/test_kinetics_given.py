"""Regions drawn in the study: a SEG and an RTSTRUCT are measured instead of the whole breasts, and what does not fit is said."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from radnode_inference.findings import Findings, Kind
from radnode_inference.generator import breast
from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.dicom_writer import write_breast
from radnode_inference.generator.fields import Grid
from radnode_inference.measure import BILATERAL, LEFT, RIGHT
from radnode_inference.models.breast_mri.kinetics import KineticsModel
from radnode_inference.models.breast_mri.kinetics_given import SEGMENTATION, STRUCTURES, polygon
from radnode_inference.study import Study

SHAPE = (40, 112, 112)


@dataclass(frozen=True, kw_only=True)
class Written:
    made: breast.BreastPhantom
    folder: Path
    files: tuple[Path, ...]

    @property
    def frame_of_reference(self) -> str:
        return str(pydicom.dcmread(self.files[0], stop_before_pixels=True).FrameOfReferenceUID)

    def read(self, *more: Path) -> Findings:
        return KineticsModel().read(Study.from_files((*self.files, *more)), lambda part, words: None)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    made = breast.phantom(1006, lesion=True, shape=SHAPE, phases=4, other_sequences=False)
    folder = tmp_path_factory.mktemp("given")
    order = Order(patient_name="DEMO^GIVEN", patient_id="G", layout=Layout.ENHANCED, patient_position="HFP")
    return Written(made=made, folder=folder, files=write_breast(made, folder, order))


def ball(made: breast.BreastPhantom, grid: Grid, margin_mm: float) -> NDArray[np.bool_]:
    """A ball around the lesion on any grid."""
    lesion = made.lesions[0].lesion
    x, y, z = (p - c for p, c in zip(grid.points(), lesion.centre, strict=True))
    return np.asarray(np.sqrt(x**2 + y**2 + z**2) < max(lesion.radii) + margin_mm, bool)


def base(written: Written, sop_class: str, modality: str, frame_of_reference: str) -> Dataset:
    first = pydicom.dcmread(written.files[0], stop_before_pixels=True)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = sop_class, generate_uid(), generate_uid()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = sop_class, ds.SOPInstanceUID
    ds.StudyInstanceUID, ds.Modality, ds.SeriesNumber = first.StudyInstanceUID, modality, 900
    ds.SeriesDescription, ds.Manufacturer, ds.FrameOfReferenceUID = "Drawn", "Workstation", frame_of_reference
    return ds


def item(**attributes: object) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def save(ds: Dataset, folder: Path) -> Path:
    path = folder / f"{ds.SOPInstanceUID}.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


def write_seg(written: Written, mask: NDArray[np.bool_], grid: Grid, folder: Path, frame_of_reference: str) -> Path:
    """A BINARY segmentation with the planes that hold something, last plane first."""
    ds = base(written, SEGMENTATION, "SEG", frame_of_reference)
    planes = [i for i in range(grid.shape[0]) if mask[i].any()][::-1]
    column, row = grid.affine[:3, 2] / grid.spacing[2], grid.affine[:3, 1] / grid.spacing[1]
    ds.SegmentationType, ds.NumberOfFrames, ds.Rows, ds.Columns = "BINARY", len(planes), *grid.shape[1:]
    ds.BitsAllocated = ds.BitsStored = ds.SamplesPerPixel = 1
    ds.HighBit, ds.PixelRepresentation, ds.PhotometricInterpretation = 0, 0, "MONOCHROME2"
    ds.SegmentSequence = [item(SegmentNumber=1, SegmentLabel="Tumour")]
    ds.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[*column, *row])],
            PixelMeasuresSequence=[
                item(PixelSpacing=list(grid.spacing[1:]), SliceThickness=grid.spacing[0], SpacingBetweenSlices=grid.spacing[0])
            ],
        )
    ]  # fmt: skip
    ds.PerFrameFunctionalGroupsSequence = [
        item(
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=1)],
            PlanePositionSequence=[item(ImagePositionPatient=list(grid.affine[:3, 3] + i * grid.affine[:3, 0]))],
        )
        for i in planes
    ]
    bits = np.packbits(mask[planes].ravel(), bitorder="little").tobytes()
    ds.PixelData = bits + b"\0" * (len(bits) % 2)
    ds["PixelData"].VR = "OB"
    return save(ds, folder)


def write_structures(
    written: Written, contours: Sequence[NDArray[np.float64]], folder: Path, frame_of_reference: str
) -> Path:
    ds = base(written, STRUCTURES, "RTSTRUCT", frame_of_reference)
    ds.StructureSetROISequence = [
        item(ROINumber=1, ROIName="GTV", ReferencedFrameOfReferenceUID=frame_of_reference),
    ]
    drawn = [item(ContourGeometricType="CLOSED_PLANAR", ContourData=[f"{v:.3f}" for v in c.ravel()]) for c in contours]
    ds.ROIContourSequence = [item(ReferencedROINumber=1, ContourSequence=drawn)]
    return save(ds, folder)


def circles(made: breast.BreastPhantom, radius: float, tilt: float = 0.0) -> list[NDArray[np.float64]]:
    """Circles around the lesion, one in every slice that lies within the radius; tilt: mm out of the plane."""
    centre = np.array(made.lesions[0].lesion.centre)
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    found = []
    for index in range(made.grid.shape[0]):
        z = float((made.grid.affine @ (index, 0, 0, 1))[2])
        if abs(z - centre[2]) < radius:
            x, y = centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)
            found.append(np.stack([x, y, z + tilt * np.cos(angles)], axis=1))
    return found


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def truth_on(found: Findings, made: breast.BreastPhantom) -> NDArray[np.bool_]:
    to_volume = np.linalg.inv(found.volume.affine) @ made.grid.affine
    index = np.rint(to_volume[:3, :3] @ np.argwhere(made.lesion_mask).T + to_volume[:3, 3:]).astype(int)
    truth = np.zeros(found.volume.shape, bool)
    truth[tuple(index)] = True
    return truth


@pytest.mark.parametrize("kind", ["SEG", "RTSTRUCT"])
def test_what_enhances_in_a_drawn_region_is_measured_and_the_region_is_named(
    kind: str, written: Written, tmp_path: Path
) -> None:
    made, reference = written.made, written.frame_of_reference
    if kind == "SEG":
        fine = made.grid.resized((50, 150, 150))
        drawn = write_seg(written, ball(made, fine, 6.0), fine, tmp_path, reference)
    else:
        radius = max(made.lesions[0].lesion.radii) + 6.0
        drawn = write_structures(written, circles(made, radius), tmp_path, reference)
    found = written.read(drawn)
    (lesion,) = [f for f in found.items if f.kind is Kind.ABNORMALITY]
    assert lesion.mask is not None
    assert dice(lesion.mask, truth_on(found, made)) > 0.8
    assert lesion.tracking_id == f"Enhancing tissue in {'Tumour' if kind == 'SEG' else 'GTV'}"
    said = " ".join(found.statements)
    assert "inside the given regions only" in said and "outlined automatically" not in said


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("SEG elsewhere", "another frame of reference"),
        ("RTSTRUCT elsewhere", "another frame of reference"),
        ("RTSTRUCT tilted", "do not lie in the planes"),
        ("SEG of nothing there", "nothing of Tumour lies in the dynamic series"),
    ],
)
def test_a_region_that_does_not_fit_is_not_used_and_that_is_said(
    kind: str, reason: str, written: Written, tmp_path: Path
) -> None:
    made = written.made
    reference = generate_uid() if "elsewhere" in kind else written.frame_of_reference
    if kind.startswith("SEG"):
        grid = made.grid
        if "nothing" in kind:
            affine = grid.affine.copy()
            affine[0, 3] += 900
            grid = Grid(shape=grid.shape, affine=affine)
        drawn = write_seg(written, ball(made, made.grid, 6.0), grid, tmp_path, reference)
    else:
        drawn = write_structures(written, circles(made, 20.0, 8.0 if "tilted" in kind else 0.0), tmp_path, reference)
    found = written.read(drawn)
    said = " ".join(found.statements)
    assert reason in said and "outlined automatically" in said
    assert [f.tracking_id for f in found.items if f.kind is Kind.ABNORMALITY] == ["Enhancing lesion 1"]


@pytest.mark.parametrize("kind", ["EXTERNAL", "BODY", "SEG"])
def test_a_region_that_is_anatomy_is_no_lesion(kind: str, written: Written, tmp_path: Path) -> None:
    made, reference = written.made, written.frame_of_reference
    if kind == "SEG":
        drawn = write_seg(written, ball(made, made.grid, 30.0), made.grid, tmp_path, reference)
        ds = pydicom.dcmread(drawn)
        structure = item(CodeValue="123037004", CodingSchemeDesignator="SCT", CodeMeaning="Anatomical Structure")
        ds.SegmentSequence[0].SegmentedPropertyCategoryCodeSequence = [structure]
    else:
        drawn = write_structures(written, circles(made, 40.0), tmp_path, reference)
        ds = pydicom.dcmread(drawn)
        ds.StructureSetROISequence[0].ROIName = "BODY" if kind == "BODY" else "Outline"
        ds.RTROIObservationsSequence = [
            item(ObservationNumber=1, ReferencedROINumber=1, RTROIInterpretedType=kind if kind == "EXTERNAL" else "")
        ]
    ds.save_as(drawn)
    found = written.read(drawn)
    said = " ".join(found.statements)
    assert "is anatomy by its type or name: not measured" in said and "outlined automatically" in said
    assert [f.tracking_id for f in found.items if f.kind is Kind.ABNORMALITY] == ["Enhancing lesion 1"]


def test_the_sum_of_given_regions_is_named_after_them_and_of_their_side(written: Written, tmp_path: Path) -> None:
    whole = next(f for f in written.read().items if f.kind is Kind.EXAMINATION)
    assert (whole.tracking_id, whole.laterality) == ("Enhancement of both breasts", BILATERAL)
    made = written.made
    drawn = write_seg(written, ball(made, made.grid, 6.0), made.grid, tmp_path, written.frame_of_reference)
    given = next(f for f in written.read(drawn).items if f.kind is Kind.EXAMINATION)
    side = {"R": RIGHT, "L": LEFT}[made.lesions[0].laterality]
    assert (given.tracking_id, given.laterality) == ("Enhancement in Tumour", side)


def test_regions_that_leave_nothing_of_the_breasts_still_have_a_background(written: Written, tmp_path: Path) -> None:
    around = np.array(written.made.grid.shape) + 4
    affine = written.made.grid.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ (2, 2, 2)
    grid = Grid(shape=(int(around[0]), int(around[1]), int(around[2])), affine=affine)
    found = written.read(write_seg(written, np.ones(grid.shape, bool), grid, tmp_path, written.frame_of_reference))
    assert any(s.startswith("Background enhancement") for s in found.statements)


def test_a_segmentation_that_radnode_made_is_no_given_region(written: Written, tmp_path: Path) -> None:
    path = write_seg(written, ball(written.made, written.made.grid, 6.0), written.made.grid, tmp_path, "1.2.3")
    ds = pydicom.dcmread(path)
    ds.Manufacturer = "radnode"
    ds.save_as(path)
    assert "frame of reference" not in " ".join(written.read(path).statements)


def test_a_polygon_holds_the_pixels_whose_centres_lie_inside() -> None:
    square = np.array([(1.5, 1.5), (1.5, 4.5), (3.5, 4.5), (3.5, 1.5)])
    wanted = np.zeros((6, 7), bool)
    wanted[2:4, 2:5] = True
    assert np.array_equal(polygon(square, (6, 7)), wanted)
