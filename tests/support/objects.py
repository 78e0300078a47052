"""Small DICOM objects for tests, and what is needed to send them damaged."""

from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from radnode_inference.header import walk

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"


def image(*, size: int = 16, seed: int = 0, **attributes: object) -> Dataset:
    """A CT image of noise; attributes are set last, None deletes."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CT_IMAGE_STORAGE, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientName, ds.PatientID, ds.Modality, ds.InstanceNumber = "Test^Object", "TEST", "CT", 1
    ds.Rows = ds.Columns = size
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.PixelData = np.random.default_rng(seed).integers(-1000, 2000, (size, size), dtype=np.int16).tobytes()
    for keyword, value in attributes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def write(folder: Path, *objects: Dataset) -> list[Path]:
    """Files of these objects, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number}.dcm" for number in range(len(objects))]
    for ds, file in zip(objects, files, strict=True):
        ds.save_as(file, enforce_file_format=True)
    return files


def encoded(ds: Dataset) -> bytes:
    """The data set alone, as it travels in a C-STORE."""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return dataset_of(buffer.getvalue())


def dataset_of(file: bytes | Path) -> bytes:
    """The bytes of a file after its file meta information."""
    data = file.read_bytes() if isinstance(file, Path) else file
    return data[walk(data, 132, big=False, implicit=False, stop_after_group=2)[1] :]


def read(file: Path) -> Dataset:
    return dcmread(file)
