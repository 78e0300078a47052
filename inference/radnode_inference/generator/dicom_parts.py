"""Attributes that every generated image shares: who, when, made by what, and the generator's mark."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from radnode_inference.findings import uid_from
from radnode_inference.generator import VERSION
from radnode_inference.generator.fields import Grid
from radnode_inference.study import GENERATOR_CREATOR

IMPLEMENTATION_CLASS_UID = UID(uid_from(("radnode generator", VERSION)))
Stored = NDArray[np.uint16]


class Layout(StrEnum):
    """How a scanner hands over a dynamic series: a series per phase, all phases in one, or enhanced multi-frame.

    The first three carry standard attributes only; the others what each maker writes (vendors.py, chest_vendors.py).
    """

    SERIES = "series"
    TEMPORAL = "temporal"
    ENHANCED = "enhanced"
    SIEMENS = "siemens"
    GE = "ge"
    PHILIPS = "philips"
    PHILIPS_ENHANCED = "philips-enhanced"


class Compression(StrEnum):
    NATIVE = "native"
    RLE = "rle"
    JPEG_LS = "jpeg-ls"


@dataclass(frozen=True, kw_only=True)
class Order:
    """Whose study it is and how it is written.

    identity: makes the UIDs together with the pixels' seed and the layout; equal orders give equal files.
    states_injection: whether the images say when contrast was given. quirks: names of what is odd about them (quirks.py).
    """

    patient_name: str
    patient_id: str
    accession_number: str = ""
    study_description: str = ""
    patient_sex: str = "F"
    body_part: str = "BREAST"
    identity: str = ""
    patient_position: str = "HFS"
    layout: Layout = Layout.SERIES
    compression: Compression = Compression.NATIVE
    began: datetime = datetime(2026, 3, 2, 9, 30)
    quality_control: bool = False
    states_injection: bool = True
    quirks: tuple[str, ...] = ()

    def uid(self, *parts: str) -> str:
        """A UID for a part of this study, the same at every writing."""
        how = (self.layout, self.compression, self.patient_position, self.patient_id, self.identity, *self.quirks)
        return uid_from(("generated", VERSION, *how, *parts))


@dataclass(frozen=True, kw_only=True)
class Private:
    """One private element (PS3.5 section 7.8.1). tag: with the block that `creator` reserves, as 0x0019100C."""

    tag: int
    creator: str
    vr: str
    value: Any

    def write(self, ds: Dataset) -> None:
        ds.add_new(self.tag & 0xFFFF0000 | self.tag >> 8 & 0xFF, "LO", self.creator)
        ds.add_new(self.tag, self.vr, self.value)


def date(when: datetime) -> str:
    return when.strftime("%Y%m%d")


def time(when: datetime) -> str:
    return when.strftime("%H%M%S.%f")


def after(order: Order, seconds: float) -> datetime:
    return order.began + timedelta(seconds=float(seconds))


def common(order: Order, modality: str) -> Dataset:
    """Patient, study, equipment and the mark: the same in every image of the study."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID = order.patient_name, order.patient_id
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19690412", order.patient_sex, "056Y"
    ds.StudyInstanceUID = order.uid("study")
    ds.StudyDate, ds.StudyTime = date(order.began), time(order.began)
    ds.AccessionNumber, ds.StudyID = order.accession_number, "1"
    ds.ReferringPhysicianName, ds.StudyDescription = "", order.study_description
    ds.Modality, ds.BodyPartExamined = modality, order.body_part
    ds.PatientPosition = order.patient_position
    ds.Manufacturer, ds.ManufacturerModelName = "radnode generator", "Study generator"  # "radnode" alone marks results
    ds.DeviceSerialNumber, ds.SoftwareVersions = "1", VERSION
    ds.InstitutionName = "Radnode demonstration"
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = order.uid("frame of reference"), ""
    if order.quality_control:
        ds.QualityControlSubject = "YES"
    block = ds.private_block(0x0099, GENERATOR_CREATOR, create=True)
    block.add_new(0x01, "LO", VERSION)
    return ds


def numbers(values: NDArray[np.float64]) -> list[str]:
    """Decimal strings of at most 16 characters, as DS demands."""
    return [f"{float(v):.8f}"[:16] for v in np.asarray(values) + 0.0]


def plane(ds: Dataset, grid: Grid) -> None:
    """The orientation and spacing of all slices of a grid (PS3.3 C.7.6.2)."""
    column, row = grid.affine[:3, 2] / grid.spacing[2], grid.affine[:3, 1] / grid.spacing[1]
    ds.ImageOrientationPatient = numbers(np.concatenate([column, row]))
    ds.PixelSpacing = numbers(np.array(grid.spacing[1:]))


def corner(grid: Grid, index: int) -> NDArray[np.float64]:
    """The centre of the first voxel of a slice, LPS mm."""
    place: NDArray[np.float64] = grid.affine[:3, 3] + index * grid.affine[:3, 0]
    return place


def pixel_format(ds: Dataset, shape: tuple[int, int], bits: int, *, signed: bool = False) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, bits, bits - 1, int(signed)


def save(ds: Dataset, pixels: Stored, sop_class: str, path: Path, compression: Compression) -> Path:
    """Write one object as a DICOM file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = f"RADNODE_GEN_{VERSION}"
    assert ds.SOPClassUID == sop_class
    file = FileDataset(str(path), ds, preamble=b"\0" * 128, file_meta=meta)
    file.PixelData = pixels.astype("<u2").tobytes()
    file["PixelData"].VR = "OW"
    if compression is Compression.RLE:
        file.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    elif compression is Compression.JPEG_LS:
        file.compress(JPEGLSLossless, generate_instance_uid=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)
    return path
