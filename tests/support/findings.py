"""Small series of images on disk, and findings on them, for the tests of the writers. Geometry by the formulas of PS3.3 C.7.6.2.1.1."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

from radnode_inference.findings import (
    Code,
    Finding,
    Findings,
    Kind,
    Measurement,
    ModelIdentity,
    ParameterMap,
    tracking_uid,
    uid_from,
)
from radnode_inference.study import Study
from radnode_inference.volume import SourceFrame, Volume

MM = Code(value="mm", scheme="UCUM", meaning="mm")
ML = Code(value="ml", scheme="UCUM", meaning="ml")
LESION = Code(value="52988006", scheme="SCT", meaning="Lesion")
NODULE = Code(value="27925004", scheme="SCT", meaning="Nodule")
LUNG = Code(value="39607008", scheme="SCT", meaning="Lung")
BREAST = Code(value="76752008", scheme="SCT", meaning="Breast")
LEFT = Code(value="7771000", scheme="SCT", meaning="Left")
RIGHT = Code(value="24028007", scheme="SCT", meaning="Right")
VOLUME = Code(value="118565006", scheme="SCT", meaning="Volume")
LONG_AXIS = Code(value="103339001", scheme="SCT", meaning="Long axis")
SHORT_AXIS = Code(value="103340004", scheme="SCT", meaning="Short axis")

ORIENTATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...], float]] = {
    "axial": ((1, 0, 0), (0, 1, 0), 1),
    "feet-first": ((-1, 0, 0), (0, 1, 0), 1),
    "sagittal": ((0, 1, 0), (0, 0, -1), 1),
    "coronal": ((1, 0, 0), (0, 0, -1), -1),
    "oblique": ((0.936, 0.352, 0), (-0.176, 0.468, -0.866), -1),
}
"""Row direction, column direction (made exactly perpendicular below), and which way along the normal slices are numbered."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A study on disk with the volume of its one series. folder: where its files lie."""

    folder: Path
    study: Study
    volume: Volume

    def lps(self) -> NDArray[np.float64]:
        """float64 [slice, row, column, 3]: the patient coordinates of every voxel centre."""
        index = np.stack(np.meshgrid(*(np.arange(n) for n in self.volume.shape), indexing="ij"), axis=-1)
        return index @ self.volume.affine[:3, :3].T + self.volume.affine[:3, 3]

    def ball(self, centre: tuple[float, float, float], radius: float) -> NDArray[np.bool_]:
        """The voxels within `radius` mm of `centre`, which is given from the middle of the volume in LPS mm."""
        middle = np.asarray(self.volume.to_lps(tuple((n - 1) / 2 for n in self.volume.shape)))  # type: ignore[arg-type]
        return np.linalg.norm(self.lps() - (middle + centre), axis=-1) <= radius


def affine_of(orientation: str, spacing: tuple[float, float, float], origin: tuple[float, ...]) -> NDArray[np.float64]:
    """(slice, row, column, 1) -> LPS mm."""
    row, column, sign = ORIENTATIONS[orientation]
    x = np.asarray(row, float) / np.linalg.norm(row)
    y = np.asarray(column, float) - np.dot(column, x) * x
    y /= np.linalg.norm(y)
    affine = np.eye(4)
    affine[:3, 0] = sign * spacing[0] * np.cross(x, y)
    affine[:3, 1] = spacing[1] * y
    affine[:3, 2] = spacing[2] * x
    affine[:3, 3] = origin
    return affine


def scene(
    folder: Path,
    *,
    orientation: str = "axial",
    modality: str = "CT",
    shape: tuple[int, int, int] = (12, 40, 48),
    spacing: tuple[float, float, float] = (2.5, 0.8, 0.8),
    enhanced: bool = False,
    change: Callable[[Dataset], None] | None = None,
    seed: int = 1,
) -> Scene:
    """Write a series (instance numbers in another order than positions) and return it. change: applied to every header."""
    rng = np.random.default_rng(seed)
    affine = affine_of(orientation, spacing, (-20.125, 13.5, -101.25))
    voxels = rng.normal(0, 60, shape).astype(np.int16)
    uid = {
        name: uid_from((name, orientation, modality, str(enhanced), str(seed))) for name in ("study", "series", "for")
    }
    order = rng.permutation(shape[0])
    folder.mkdir(parents=True, exist_ok=True)
    if enhanced:
        sources = enhanced_file(folder, uid, affine, voxels, order, change, modality)
    else:
        sources = []
        for i in range(shape[0]):
            ds = image_header(uid, modality, int(order[i]) + 1)
            ds.ImagePositionPatient = [f"{v:.6f}" for v in affine[:3, 3] + i * affine[:3, 0]]
            geometry(ds, affine, spacing)
            pixels(ds, voxels[i], modality)
            save(folder / f"{order[i]:04}.dcm", ds, change)
            sources.append(SourceFrame(sop_class_uid=ds.SOPClassUID, sop_uid=ds.SOPInstanceUID))
    volume = Volume(
        voxels=voxels.astype(np.float32),
        affine=affine,
        frame_of_reference_uid=uid["for"],
        series_uid=uid["series"],
        sources=tuple(sources),
    )
    return Scene(folder=folder, study=Study.from_folder(folder), volume=volume)


def image_header(uid: dict[str, str], modality: str, number: int) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = str(CTImageStorage if modality == "CT" else MRImageStorage)
    ds.SOPInstanceUID = uid_from((uid["series"], str(number)))
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "20260301", "081500", "A123"
    ds.Modality = modality
    ds.Manufacturer = "Maker"
    ds.ReferringPhysicianName = "Müller^Jörg"
    ds.StudyDescription = "Untersuchung"
    ds.PatientName, ds.PatientID, ds.IssuerOfPatientID = "Doe^Jane", "PID-7", "HOSPITAL"
    ds.PatientBirthDate, ds.PatientSex = "19601231", "F"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid["study"], uid["series"]
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "1", 3, number
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = uid["for"], ""
    return ds


def geometry(ds: Dataset, affine: NDArray[np.float64], spacing: tuple[float, float, float]) -> None:
    ds.ImageOrientationPatient = [f"{v:.10f}" for v in (*affine[:3, 2] / spacing[2], *affine[:3, 1] / spacing[1])]
    ds.PixelSpacing = list(spacing[1:])
    ds.SliceThickness = spacing[0]


def pixels(ds: Dataset, values: NDArray[np.int16], modality: str) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = values.shape[-2:]
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 1
    if modality == "CT":
        ds.RescaleIntercept, ds.RescaleSlope = 0, 1
    ds.PixelData = values.astype("<i2").tobytes()
    ds["PixelData"].VR = "OW"


def save(path: Path, ds: Dataset, change: Callable[[Dataset], None] | None) -> None:
    if change:
        change(ds)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(path, enforce_file_format=True)


def enhanced_file(
    folder: Path,
    uid: dict[str, str],
    affine: NDArray[np.float64],
    voxels: NDArray[np.int16],
    order: NDArray[np.intp],
    change: Callable[[Dataset], None] | None,
    modality: str,
) -> list[SourceFrame]:
    """One Enhanced CT or MR file whose frames are in `order`; the sources in slice order."""
    ds = image_header(uid, modality, 1)
    ds.SOPClassUID = str(EnhancedCTImageStorage if modality == "CT" else EnhancedMRImageStorage)
    spacing = tuple(float(v) for v in np.linalg.norm(affine[:3, :3], axis=0))
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    geometry(measures, affine, spacing)  # type: ignore[arg-type]
    plane.ImageOrientationPatient = measures.ImageOrientationPatient
    del measures.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    ds.SharedFunctionalGroupsSequence = [shared]
    slices = np.argsort(order)  # slice at each frame
    groups = []
    for i in slices:
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = [f"{v:.6f}" for v in affine[:3, 3] + i * affine[:3, 0]]
        group.PlanePositionSequence = [position]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    ds.NumberOfFrames = len(groups)
    pixels(ds, voxels[slices], "MR")  # no rescale at the top of an enhanced image
    save(folder / "enhanced.dcm", ds, change)
    return [
        SourceFrame(sop_class_uid=ds.SOPClassUID, sop_uid=ds.SOPInstanceUID, frame=int(order[i]) + 1)
        for i in range(len(order))
    ]


MODEL = ModelIdentity(
    name="ct-test",
    version="1.2.0",
    weights_name="test-weights",
    weights_version="7",
    weights_sha256="ab" * 32,
    intended_use="testing of the writers",
)


def lesion(scene: Scene, name: str, centre: tuple[float, float, float], radius: float, **more: object) -> Finding:
    """A ball-shaped abnormality with a volume that is exactly that of its mask."""
    mask = scene.ball(centre, radius)
    finding = Finding(
        tracking_id=name,
        tracking_uid=tracking_uid(scene.study.study_uid, MODEL, name),
        kind=Kind.ABNORMALITY,
        concept=NODULE,
        site=LUNG,
        laterality=LEFT,
        probability=0.8125,
        measurements=(
            Measurement(concept=VOLUME, value=float(mask.sum()) * scene.volume.voxel_mm3 / 1000, unit=ML),
            Measurement(concept=LONG_AXIS, value=2 * radius, unit=MM),
            Measurement(concept=SHORT_AXIS, value=1.9 * radius, unit=MM),
        ),
        mask=mask,
    )
    return replace(finding, **more)  # type: ignore[arg-type]


def findings(scene: Scene, items: tuple[Finding, ...] | None = None, **more: object) -> Findings:
    """Two overlapping lesions and an organ, or `items`."""
    if items is None:
        organ = lesion(scene, "lung-left", (0, 0, 0), 14, kind=Kind.ANATOMY, concept=LUNG, site=None, probability=None)
        items = (
            lesion(scene, "nodule-1", (5, 3, 2), 6.0),
            lesion(scene, "nodule-2", (-6, -2, -5), 4.0, laterality=RIGHT, probability=0.4),
            organ,
        )
    made = Findings(study_uid=scene.study.study_uid, model=MODEL, volume=scene.volume, items=items)
    return replace(made, **more)  # type: ignore[arg-type]


def saliency(voxels: NDArray[np.float32]) -> ParameterMap:
    """A parameter map with the voxels for numbers, none on the first two slices and in a corner of the others."""
    values = voxels.astype(np.float32)
    values[:2] = values[:, :4, :4] = np.nan
    return ParameterMap(
        name="saliency",
        quantity=Code(value="130404", scheme="DCM", meaning="Saliency"),
        unit=Code(value="1", scheme="UCUM", meaning="no units"),
        values=values,
    )
