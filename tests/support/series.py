"""Small DICOM series written by pydicom, with geometry known voxel by voxel."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from radnode_inference.header import Header

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, -0.8)
CT, ENHANCED_CT, ENHANCED_MR = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.4.1",
)
Edit = Callable[[int, Dataset], None]


class Stack:
    """Stored values [slice, row, column] (each one unique unless given) and where each one lies in LPS mm."""

    def __init__(
        self,
        shape: tuple[int, int, int] = (5, 6, 7),
        orientation: Sequence[float] = AXIAL,
        spacing: tuple[float, float, float] = (2.5, 0.7, 0.9),
        origin: tuple[float, float, float] = (-20.0, 31.0, -400.0),
        stored: NDArray[Any] | None = None,
    ) -> None:
        self.stored = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape) if stored is None else stored
        self.orientation, self.spacing = tuple(orientation), spacing
        self.along_row, self.along_column = np.array(orientation[:3]), np.array(orientation[3:])
        normal = np.cross(self.along_row, self.along_column)
        self.positions = [np.array(origin) + normal * spacing[0] * i for i in range(len(self.stored))]
        self.study_uid, self.series_uid, self.frame_of_reference_uid = (generate_uid() for _ in range(3))

    def lps(self) -> NDArray[np.float64]:
        """[slice, row, column, 3]: the centre of each voxel by PS3.3 C.7.6.2.1.1, written out."""
        _, rows, columns = self.stored.shape
        r, c = np.mgrid[:rows, :columns]
        plane = r[..., None] * self.spacing[1] * self.along_column + c[..., None] * self.spacing[2] * self.along_row
        return np.stack([position + plane for position in self.positions])

    def image(self, i: int) -> Dataset:
        """Slice i as a single-frame CT image."""
        ds = self.common(CT, self.stored[i])
        ds.InstanceNumber = i + 1
        ds.ImagePositionPatient = [f"{v:.6f}" for v in self.positions[i]]
        ds.ImageOrientationPatient = list(self.orientation)
        ds.PixelSpacing = list(self.spacing[1:])
        ds.SliceThickness = self.spacing[0]
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        return ds

    def common(self, sop_class_uid: str, stored: NDArray[Any]) -> Dataset:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = sop_class_uid, generate_uid()
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID = self.study_uid, self.series_uid
        ds.FrameOfReferenceUID = self.frame_of_reference_uid
        ds.Modality = "MR" if sop_class_uid == ENHANCED_MR else "CT"
        ds.PatientID, ds.PatientName, ds.SeriesNumber = "P1", "Test^One", 1
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns = stored.shape[-2:]
        ds.BitsAllocated = ds.BitsStored = stored.dtype.itemsize * 8
        ds.HighBit = ds.BitsStored - 1
        ds.PixelRepresentation = int(stored.dtype.kind == "i")
        raw = stored.tobytes()
        ds.PixelData = raw + b"\0" * (len(raw) % 2)
        ds["PixelData"].VR = "OB" if ds.BitsAllocated == 8 else "OW"
        return ds

    def write(self, folder: Path, edit: Edit | None = None, order: Sequence[int] | None = None) -> list[Header]:
        """The slices as files, in file-name order `order`; `edit(i, dataset)` may change slice i. Returns the headers."""
        folder.mkdir(parents=True, exist_ok=True)
        for n, i in enumerate(range(len(self.stored)) if order is None else order):
            ds = self.image(i)
            if edit is not None:
                edit(i, ds)
            ds.save_as(folder / f"{n:04}.dcm", enforce_file_format=True)
        return headers(folder)

    def write_enhanced(
        self,
        path: Path,
        times: int = 1,
        sop_class_uid: str = ENHANCED_MR,
        edit: Callable[[Dataset], None] | None = None,
    ) -> list[Header]:
        """All slices as one enhanced multi-frame image, `times` time points one after the other (value + 1000 each)."""
        frames = np.concatenate([self.stored + np.uint16(1000 * t) for t in range(times)])
        ds = self.common(sop_class_uid, frames)
        ds.NumberOfFrames = len(frames)
        shared = Dataset()
        shared.PlaneOrientationSequence = items(ImageOrientationPatient=list(self.orientation))
        shared.PixelMeasuresSequence = items(PixelSpacing=list(self.spacing[1:]), SliceThickness=self.spacing[0])
        ds.SharedFunctionalGroupsSequence = Items([shared])
        groups = []
        for t in range(times):
            for i, position in enumerate(self.positions):
                group = Dataset()
                group.PlanePositionSequence = items(ImagePositionPatient=[f"{v:.6f}" for v in position])
                group.FrameContentSequence = items(
                    TemporalPositionIndex=t + 1, StackID="1", InStackPositionNumber=i + 1,
                    FrameAcquisitionDateTime=f"202601011200{10 * t:02}",
                )  # fmt: skip
                group.PixelValueTransformationSequence = items(
                    RescaleSlope=2 + i, RescaleIntercept=-5, RescaleType="US"
                )
                groups.append(group)
        ds.PerFrameFunctionalGroupsSequence = Items(groups)
        if edit is not None:
            edit(ds)
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
        return [Header.read(path)]


def items(**attributes: Any) -> Items:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return Items([ds])


def headers(folder: Path) -> list[Header]:
    return [Header.read(p) for p in sorted(folder.iterdir())]


def reencode(folder: Path, change: Callable[[Dataset], None], **save: Any) -> None:
    """Change every file of a folder in place."""
    for path in sorted(folder.iterdir()):
        ds = pydicom.dcmread(path)
        change(ds)
        ds.save_as(path, enforce_file_format=True, **save)
