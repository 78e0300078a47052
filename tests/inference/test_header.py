import io
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian
from support.series import Stack, reencode

from radnode_inference.header import Header, NotDicomError, inflated_dataset

FILES = [
    "CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm",
    "JPEG2000.dcm", "image_dfl.dcm", "rtdose.dcm", "nested_priv_SQ.dcm", "UN_sequence.dcm", "liver_1frame.dcm",
    "examples_overlay.dcm", "test-SR.dcm",
]  # fmt: skip
KEYWORDS = ("SOPInstanceUID", "StudyInstanceUID", "Modality", "PatientID", "SeriesDescription", "Manufacturer")


@pytest.mark.parametrize("name", FILES)
def test_text_equals_what_pydicom_reads(name: str) -> None:
    path = Path(get_testdata_file(name))
    header, ds = Header.read(path), pydicom.dcmread(path)
    for keyword in KEYWORDS:
        assert header.text(keyword) == str(ds.get(keyword) or ""), keyword
    assert header.transfer_syntax_uid == ds.file_meta.TransferSyntaxUID
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        assert header.unsigned(keyword) == ds.get(keyword)


@pytest.mark.parametrize("name", FILES)
def test_every_top_level_element_before_the_pixels_is_found(name: str) -> None:
    path = Path(get_testdata_file(name))
    wanted = {int(e.tag) for e in pydicom.dcmread(path, stop_before_pixels=True)}
    found = set(Header.read(path).elements)
    assert wanted <= found
    assert all(number & 0xFFFF == 0 for number in found - wanted)  # group lengths, which pydicom may drop


def test_pixels_are_where_the_header_says(tmp_path: Path) -> None:
    stack = Stack()
    for i, header in enumerate(stack.write(tmp_path)):
        assert header.path is not None and header.pixel_offset is not None and header.pixel_length is not None
        file = header.path.read_bytes()
        assert file[header.pixel_offset : header.pixel_offset + header.pixel_length] == stack.stored[i].tobytes()


def test_offsets_of_a_deflated_file_refer_to_the_inflated_data_set(tmp_path: Path) -> None:
    stack = Stack()
    stack.write(tmp_path)
    reencode(tmp_path, lambda ds: setattr(ds.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian))
    path = tmp_path / "0003.dcm"
    header = Header.read(path)
    assert header.inflated and header.pixel_offset is not None and header.pixel_length is not None
    data = inflated_dataset(path)
    assert data[header.pixel_offset : header.pixel_offset + header.pixel_length] == stack.stored[3].tobytes()


def test_encapsulated_pixels_have_an_offset_but_no_length() -> None:
    header = Header.read(Path(get_testdata_file("MR_small_RLE.dcm")))
    assert header.pixel_offset is not None and header.pixel_length is None


def test_an_object_without_pixels_has_no_offset() -> None:
    assert Header.read(Path(get_testdata_file("test-SR.dcm"))).pixel_offset is None


@pytest.mark.parametrize(
    ("character_set", "name"),
    [("ISO_IR 100", "Müller^Jörg"), ("ISO_IR 192", "Nguyễn^Ánh"), ("ISO_IR 144", "Иванов^Иван"), ("", "Plain^Name")],
)
def test_names_are_decoded_in_their_character_set(tmp_path: Path, character_set: str, name: str) -> None:
    def edit(i: int, ds: pydicom.Dataset) -> None:
        ds.SpecificCharacterSet, ds.PatientName = character_set, name

    assert Stack().write(tmp_path, edit)[0].text("PatientName") == name


def test_an_unknown_character_set_is_read_as_well_as_possible(tmp_path: Path) -> None:
    def edit(i: int, ds: pydicom.Dataset) -> None:
        ds.SpecificCharacterSet, ds.PatientName, ds.StudyDescription = "ISO_IR 100", "Müller^Jörg", "Thorax"

    Stack().write(tmp_path, edit)
    path = tmp_path / "0000.dcm"
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"ISO_IR XYZ"))
    assert Header.read(path).text("PatientName") == "Müller^Jörg"
    assert Header.read(path).text("StudyDescription") == "Thorax"


def test_absent_empty_and_unreadable_numbers_are_none(tmp_path: Path) -> None:
    def edit(i: int, ds: pydicom.Dataset) -> None:
        ds.SliceThickness = None
        del ds.RescaleSlope

    header = Stack().write(tmp_path, edit)[0]
    assert header.number("SliceThickness") is None and header.number("RescaleSlope") is None
    assert header.numbers("PatientName") == ()
    assert header.number("RescaleIntercept") == -1024


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (b"", "empty"),
        (b"not DICOM at all", "DICM"),
        (b"\0" * 128 + b"DICM", "file meta"),
        (b"\0" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\x10", "file meta"),
    ],
    ids=["empty", "text", "no meta", "meta cut"],
)
def test_what_is_not_dicom_is_refused(tmp_path: Path, file: bytes, words: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(file)
    with pytest.raises(NotDicomError, match=words):
        Header.read(path)


def test_no_cut_of_a_file_makes_the_walk_fail_in_another_way(tmp_path: Path) -> None:
    stack = Stack()
    whole = stack.image(0)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, whole, enforce_file_format=True)
    file = buffer.getvalue()
    refused = 0
    for end in range(len(file)):
        try:
            Header.parse(file[:end])
        except NotDicomError:
            refused += 1
    assert refused > 300


def test_what_lies_in_a_value_of_unknown_vr_is_implicit_wherever_that_lies() -> None:
    """A private sequence inside a functional group, as archives write it that make explicit of implicit."""
    private, item, end_of_item, end = (bytes.fromhex(t) for t in ("05200f14", "feff00e0", "feff0de0", "feffdde0"))
    unknown = private + b"UN\0\0" + b"\xff" * 4 + item + b"\xff" * 4
    unknown += bytes.fromhex("05201000") + b"\4\0\0\0ACME" + bytes.fromhex("05200214") + b"\12\0\0\0ABCDEFGHIJ"
    unknown += end_of_item + bytes(4) + end + bytes(4)
    known = bytes.fromhex("05201200") + b"LO\4\0ACME"
    group = bytes.fromhex("00522992") + b"SQ\0\0" + b"\xff" * 4 + item + b"\xff" * 4 + unknown + known
    group += end_of_item + bytes(4) + end + bytes(4)
    whole = group + bytes.fromhex("e07f1000") + b"OW\0\0" + b"\4\0\0\0" + bytes(4)
    header = Header.parse_dataset(whole, 0, "1.2.840.10008.1.2.1")
    assert (header.pixel_offset, header.pixel_length) == (len(whole) - 4, 4)
    assert len(header.elements[0x52009229][1]) == len(group) - 12


def test_text_holds_no_nul_and_a_number_is_finite() -> None:
    said = {
        0x00100010: (b"PN", b"DOE\0^JANE \0"),
        0x00080005: (b"CS", b"ISO_IR 100"),
        0x00080090: (b"PN", b"M\xfcl\0ler\0"),
    }
    numbers = {0x00280008: (b"IS", b"inf "), 0x00180050: (b"DS", b"nan "), 0x00280030: (b"DS", b"0.5\\1e400 ")}
    header = Header(
        path=None,
        transfer_syntax_uid="",
        elements=said | numbers,
        pixel_offset=None,
        pixel_length=None,
        big_endian=False,
    )
    assert (header.text("PatientName"), header.text("ReferringPhysicianName")) == ("DOE^JANE", "Müller")
    assert header.number("NumberOfFrames") is None and header.number("SliceThickness") is None
    assert header.numbers("PixelSpacing") == ()
