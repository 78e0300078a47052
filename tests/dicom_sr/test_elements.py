"""Elements written as bytes are what pydicom would have written."""

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from radnode_dicom_sr.elements import encoded, instance, raw_sequence


def by_pydicom(ds: Dataset) -> bytes:
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, ds)
    return out.getvalue()


def test_every_kind_of_value_is_written_as_pydicom_writes_it() -> None:
    ds, nested = Dataset(), Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID = "山田^太郎=やまだ^たろう", "odd"
    ds.SOPInstanceUID, ds.ReferringPhysicianName = "1.2.3", ""
    ds.SoftwareVersions = ["1", "2.0"]
    ds.PixelSpacing, ds.SeriesNumber, ds.Rows = ["0.70312", "1.5"], 7, 512
    ds.DimensionIndexPointer = 0x00200032
    ds.DimensionIndexValues, ds.GraphicData, ds.FloatingPointValue = [1, 70000], [1.5, -2.25], 0.1
    nested.TextValue, nested.ContentDate, nested.ContentTime = "Grüße\\line", "20260301", "010203.5"
    ds.ContentSequence = [nested, Dataset()]
    ds.ReferencedSeriesSequence = []
    assert encoded(ds) == by_pydicom(ds)


def test_a_raw_sequence_reads_like_a_sequence() -> None:
    ds = Dataset()
    ds[0x00081199] = raw_sequence(0x00081199, instance("1.2.840", "1.2.3"), instance("1.2.840", "1.2.34"))
    read = pydicom.dcmread(DicomBytesIO(encoded(ds)), force=True)
    assert [i.ReferencedSOPInstanceUID for i in read.ReferencedSOPSequence] == ["1.2.3", "1.2.34"]
    assert encoded(ds) == by_pydicom(ds)


def test_a_representation_that_no_result_uses_is_refused() -> None:
    ds = Dataset()
    ds.add_new(0x00091002, "SV", [-1])
    with pytest.raises(KeyError, match="SV"):
        encoded(ds)
