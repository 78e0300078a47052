import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from support.series import AXIAL, CORONAL, CT, OBLIQUE, PRONE, SAGITTAL, Stack, headers, reencode

from radnode_inference.frames import Frame, frames_of
from radnode_inference.header import Header
from radnode_inference.load import load, load_frames
from radnode_inference.model import DeclinedError
from radnode_inference.pixels import fill
from radnode_inference.volume import Volume

ORIENTATIONS = {"axial": AXIAL, "prone": PRONE, "sagittal": SAGITTAL, "coronal": CORONAL, "oblique": OBLIQUE}


def assert_every_voxel_lies_right(volume: Volume, stack: Stack, intercept: float = -1024) -> None:
    """Each loaded value is looked up in the written stack: its affine position must be the one it was written with."""
    table = stack.lps().reshape(-1, 3)
    index = np.stack(np.indices(volume.shape), axis=-1).reshape(-1, 3)
    found = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    wanted = table[(volume.voxels.reshape(-1) - intercept).astype(int)]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)], ids=["up", "down", "mixed"])
def test_every_voxel_lies_where_it_was_written_in_any_orientation_and_file_order(
    tmp_path: Path, orientation: tuple[float, ...], order: tuple[int, ...]
) -> None:
    stack = Stack(orientation=orientation)
    volume = load(stack.write(tmp_path, order=order), stack.series_uid)
    assert_every_voxel_lies_right(volume, stack)
    assert volume.spacing == pytest.approx(stack.spacing)
    assert np.linalg.det(volume.affine[:3, :3]) < 0
    assert volume.frame_of_reference_uid == stack.frame_of_reference_uid


def test_a_feet_first_series_whose_positions_fall_with_instance_number_is_turned_along_the_normal(
    tmp_path: Path,
) -> None:
    stack = Stack()

    def feet_first(i: int, ds: Dataset) -> None:
        ds.PatientPosition, ds.InstanceNumber = "FFS", 5 - i

    volume = load(stack.write(tmp_path, feet_first, order=(4, 3, 2, 1, 0)), stack.series_uid)
    assert_every_voxel_lies_right(volume, stack)


def test_sources_name_the_image_of_each_slice(tmp_path: Path) -> None:
    stack = Stack()
    written = stack.write(tmp_path, order=(3, 1, 0, 2, 4))
    volume = load(written, stack.series_uid)
    by_uid = {h.text("SOPInstanceUID"): float(h.numbers("ImagePositionPatient")[2]) for h in written}
    assert [by_uid[s.sop_uid] for s in volume.sources] == pytest.approx([volume.to_lps((i, 0, 0))[2] for i in range(5)])
    assert {(s.sop_class_uid, s.frame) for s in volume.sources} == {(CT, None)}


def test_the_same_object_twice_counts_once(tmp_path: Path) -> None:
    stack = Stack()
    written = stack.write(tmp_path)
    assert load([*written, written[2]], stack.series_uid).shape == (5, 6, 7)


def test_a_frame_of_reference_per_image_is_taken_as_a_fault_of_deidentification(tmp_path: Path) -> None:
    stack = Stack()

    def own(i: int, ds: Dataset) -> None:
        ds.FrameOfReferenceUID = f"1.2.3.{i + 1}"

    assert load(stack.write(tmp_path, own), stack.series_uid).shape == (5, 6, 7)


# Values


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32], ids=lambda d: np.dtype(d).name
)
def test_integers_of_every_size_and_sign_are_read(tmp_path: Path, dtype: type) -> None:
    info = np.iinfo(dtype)
    stored = np.linspace(max(info.min, -(2**23)), min(info.max, 2**23), 3 * 4 * 6).astype(dtype).reshape(3, 4, 6)
    stack = Stack(stored=stored)
    volume = load(stack.write(tmp_path, as_mr), stack.series_uid)
    np.testing.assert_array_equal(volume.voxels, stored.astype(np.float32) * 2 + 0.5)


def as_mr(i: int, ds: Dataset) -> None:
    ds.Modality, ds.RescaleSlope, ds.RescaleIntercept = "MR", 2, 0.5


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    stack = Stack()

    def own(i: int, ds: Dataset) -> None:
        ds.Modality, ds.RescaleSlope, ds.RescaleIntercept = "PT", 0.5 + i, 0

    volume = load(stack.write(tmp_path, own), stack.series_uid)
    np.testing.assert_allclose(volume.voxels, stack.stored * (0.5 + np.arange(5))[:, None, None])


@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_the_stored_ones_are_dropped_and_the_sign_is_that_of_the_highest_stored_bit(
    tmp_path: Path, signed: bool
) -> None:
    values = np.arange(-2048, 2032, 40, dtype=np.int16)[:96].reshape(2, 6, 8)
    wanted = values if signed else values & 0x0FFF
    dirty = ((values & 0x0FFF) | 0x5000).astype(np.uint16)
    stack = Stack(stored=dirty)

    def twelve(i: int, ds: Dataset) -> None:
        as_mr(i, ds)
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.RescaleSlope, ds.RescaleIntercept = 12, 11, signed, 1, 0

    np.testing.assert_array_equal(load(stack.write(tmp_path, twelve), stack.series_uid).voxels, wanted)


def test_ct_padding_is_raised_to_air_and_mr_values_are_left_alone(tmp_path: Path) -> None:
    stored = np.full((2, 3, 4), -3000, np.int16)
    stack = Stack(stored=stored)
    assert load(stack.write(tmp_path / "ct"), stack.series_uid).voxels.max() == -1024
    mr = stack.write(tmp_path / "mr", lambda i, ds: setattr(ds, "Modality", "MR"))
    assert load(mr, stack.series_uid).voxels.max() == -4024


# Encodings


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_native_transfer_syntaxes_are_read(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    stack = Stack()

    def change(ds: Dataset) -> None:
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        ds.file_meta.TransferSyntaxUID = syntax

    stack.write(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        ds = pydicom.dcmread(path)
        change(ds)
        little = syntax != ExplicitVRBigEndian
        pydicom.dcmwrite(
            path, ds, enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little,
            force_encoding=False,
        )  # fmt: skip
    assert_every_voxel_lies_right(load(headers(tmp_path), stack.series_uid), stack)


LOSSLESS_TOOLS = {
    "rle": ["/usr/bin/dcmcrle"],
    "jpeg-lossless": ["/usr/bin/dcmcjpeg", "+e1"],
    "jpeg-lossless-14": ["/usr/bin/dcmcjpeg", "+el"],
    "jpeg-ls": ["/usr/bin/dcmcjpls", "+el"],
}


def ct_like(shape: tuple[int, int, int], signed: bool) -> np.ndarray:
    rng = np.random.default_rng(7)
    smooth = np.cumsum(rng.normal(0, 30, shape), axis=2)
    return (
        np.clip(smooth, -2048, 2047).astype(np.int16) if signed else np.clip(smooth + 2048, 0, 4095).astype(np.uint16)
    )


def twelve_bit(i: int, ds: Dataset) -> None:
    ds.BitsStored, ds.HighBit = 12, 11
    ds.Modality, ds.RescaleIntercept = "MR", 0


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("tool", LOSSLESS_TOOLS.values(), ids=LOSSLESS_TOOLS)
def test_lossless_files_of_dcmtk_are_bit_identical(tmp_path: Path, tool: list[str], signed: bool) -> None:
    stack = Stack(stored=ct_like((3, 40, 50), signed))
    stack.write(tmp_path / "native", twelve_bit)
    (tmp_path / "packed").mkdir()
    for path in (tmp_path / "native").iterdir():
        subprocess.run([*tool, path, tmp_path / "packed" / path.name], check=True, capture_output=True)
    volume = load(headers(tmp_path / "packed"), stack.series_uid)
    np.testing.assert_array_equal(volume.voxels, stack.stored)


def jpeg2k(plane: np.ndarray) -> bytes:
    return imagecodecs.jpeg2k_encode(plane, level=0, reversible=True, codecformat="J2K")


def htj2k(plane: np.ndarray) -> bytes:
    return imagecodecs.htj2k_encode(plane, level=0, reversible=True)


def deflate(plane: np.ndarray) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(plane.tobytes()) + packer.flush()


OTHER_ENCODERS: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "jpeg-2000": ("1.2.840.10008.1.2.4.90", jpeg2k),
    "htj2k": ("1.2.840.10008.1.2.4.201", htj2k),
    "deflated-frames": ("1.2.840.10008.1.2.8.1", deflate),
    "jpeg-xl": ("1.2.840.10008.1.2.4.110", lambda p: imagecodecs.jpegxl_encode(p, lossless=True)),
}


@pytest.mark.parametrize(("syntax", "encode"), OTHER_ENCODERS.values(), ids=OTHER_ENCODERS)
def test_other_lossless_codecs_are_bit_identical(
    tmp_path: Path, syntax: str, encode: Callable[[np.ndarray], bytes]
) -> None:
    stack = Stack(stored=ct_like((3, 40, 50), signed=False))
    stack.write(tmp_path, twelve_bit)
    compress(tmp_path, syntax, encode)
    np.testing.assert_array_equal(load(headers(tmp_path), stack.series_uid).voxels, stack.stored)


def compress(folder: Path, syntax: str, encode: Callable[[np.ndarray], bytes]) -> None:
    def change(ds: Dataset) -> None:
        frames = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
        ds.PixelData = encapsulate([encode(np.ascontiguousarray(f)) for f in frames])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = syntax

    uid = UID(syntax)
    known = uid.is_transfer_syntax
    change_to, syntax = syntax, syntax if known else "1.2.840.10008.1.2.4.201"
    reencode(folder, change)
    for path in folder.iterdir() if not known else ():  # pydicom does not write syntaxes it does not know
        old, new = syntax.encode() + b"\0", change_to.encode().ljust(len(syntax) + 1, b"\0")
        file = path.read_bytes()
        assert file.count(old) == 1
        path.write_bytes(file.replace(old, new))


@pytest.mark.parametrize(
    "name",
    [
        "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_expb.dcm",
        "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPEGLSNearLossless_08.dcm",
        "JPEGLSNearLossless_16.dcm", "JPEG2000.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "CT_small.dcm",
        "rtdose.dcm", "rtdose_rle.dcm", "rtdose_1frame.dcm", "image_dfl.dcm",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_pixels_of_pydicom_s_files_equal_pydicom_s_own_decoding(name: str) -> None:
    path = get_testdata_file(name)
    ds = pydicom.dcmread(path)
    header = Header.read(Path(path))
    wanted = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
    out = np.empty(wanted.shape, np.float32)
    fill([bare(header, n + 1) for n in range(len(wanted))], out)
    np.testing.assert_array_equal(out, np.maximum(wanted, -1024) if ds.get("Modality") == "CT" else wanted)


def bare(header: Header, number: int) -> Frame:
    zero = np.zeros(3)
    return Frame(header=header, number=number, position=zero, along_row=zero, along_column=zero, pixel_spacing=(1, 1))


def test_jpeg_extended_agrees_with_dcmtk(tmp_path: Path) -> None:
    stack = Stack(stored=ct_like((2, 40, 48), signed=False))
    stack.write(tmp_path / "native", twelve_bit)
    (tmp_path / "packed").mkdir()
    (tmp_path / "unpacked").mkdir()
    for path in (tmp_path / "native").iterdir():
        packed = tmp_path / "packed" / path.name
        subprocess.run(["/usr/bin/dcmcjpeg", "+ee", path, packed], check=True, capture_output=True)
        unpacked = tmp_path / "unpacked" / path.name
        subprocess.run(["/usr/bin/dcmdjpeg", packed, unpacked], check=True, capture_output=True)
    ours = load(headers(tmp_path / "packed"), stack.series_uid)
    theirs = load(headers(tmp_path / "unpacked"), stack.series_uid)
    assert abs(ours.voxels - theirs.voxels).max() <= 1


# Multi-frame


def test_an_enhanced_image_is_placed_by_its_functional_groups(tmp_path: Path) -> None:
    stack = Stack(orientation=OBLIQUE)
    volume = load(stack.write_enhanced(tmp_path / "e.dcm"), stack.series_uid)
    slopes = (2 + np.arange(5))[:, None, None]
    np.testing.assert_allclose(volume.voxels, stack.stored * slopes - 5)
    wanted = stack.lps()
    np.testing.assert_allclose(volume.to_lps((4, 5, 6)), wanted[4, 5, 6], atol=1e-4)
    np.testing.assert_allclose(volume.to_lps((0, 0, 0)), wanted[0, 0, 0], atol=1e-4)
    assert [s.frame for s in volume.sources] == [1, 2, 3, 4, 5]


def test_one_phase_of_a_dynamic_enhanced_image_can_be_loaded_by_itself(tmp_path: Path) -> None:
    stack = Stack()
    found = frames_of(stack.write_enhanced(tmp_path / "e.dcm", times=3))
    assert [f.temporal_position for f in found] == [1] * 5 + [2] * 5 + [3] * 5
    assert found[5].acquired == "20260101120010"
    volume = load_frames([f for f in found if f.temporal_position == 2], stack.series_uid)
    slopes = (2 + np.arange(5))[:, None, None]
    np.testing.assert_allclose(volume.voxels, (stack.stored + 1000) * slopes - 5)
    assert [s.frame for s in volume.sources] == [6, 7, 8, 9, 10]


def test_compressed_frames_of_one_file_are_each_decoded(tmp_path: Path) -> None:
    stack = Stack()
    stack.write_enhanced(tmp_path / "e.dcm")
    compress(tmp_path, "1.2.840.10008.1.2.4.90", jpeg2k)
    volume = load(headers(tmp_path), stack.series_uid)
    np.testing.assert_allclose(volume.voxels, stack.stored * (2 + np.arange(5))[:, None, None] - 5)


# Gates: each refusal once


def without(*gone: int) -> Callable[[Path, Stack], list[Header]]:
    return lambda folder, stack: stack.write(folder, order=[i for i in range(len(stack.stored)) if i not in gone])


def edited(edit: Callable[[int, Dataset], None]) -> Callable[[Path, Stack], list[Header]]:
    return lambda folder, stack: stack.write(folder, edit)


def change_at(*indexes: int, **attributes: object) -> Callable[[Path, Stack], list[Header]]:
    def edit(i: int, ds: Dataset) -> None:
        for keyword, value in attributes.items() if i in indexes else ():
            setattr(ds, keyword, value)

    return edited(edit)


def shifted(i: int, ds: Dataset) -> None:
    ds.ImagePositionPatient = [-20, 31 + 0.6 * i, -400 + 2.5 * i]


def uneven(i: int, ds: Dataset) -> None:
    ds.ImagePositionPatient = [-20, 31, -400 + 2.5 * i + (1.1 if i > 2 else 0)]


def same_place(i: int, ds: Dataset) -> None:
    ds.ImagePositionPatient = [-20, 31, -400 + 2.5 * (i // 2)]


def truncated(folder: Path, stack: Stack) -> list[Header]:
    stack.write(folder)
    path = folder / "0002.dcm"
    path.write_bytes(path.read_bytes()[:-20])
    return headers(folder)


def broken_codestream(folder: Path, stack: Stack) -> list[Header]:
    stack.write(folder)
    compress(folder, "1.2.840.10008.1.2.4.90", lambda plane: jpeg2k(plane)[:40])
    return headers(folder)


def unknown_syntax(folder: Path, stack: Stack) -> list[Header]:
    stack.write(folder)
    compress(folder, "1.2.840.10008.1.2.4.102", lambda plane: plane.tobytes())
    return headers(folder)


def rewritten(old: bytes, new: bytes, **attributes: object) -> Callable[[Path, Stack], list[Header]]:
    """A value in one file as bytes: what pydicom would not write."""

    def write(folder: Path, stack: Stack) -> list[Header]:
        change_at(2, **attributes)(folder, stack)
        path = folder / "0002.dcm"
        whole = path.read_bytes()
        assert old in whole and len(old) == len(new)
        path.write_bytes(whole.replace(old, new))
        return headers(folder)

    return write


def enhanced_with_a_comma(folder: Path, stack: Stack) -> list[Header]:
    (header,) = stack.write_enhanced(folder / "e.dcm")
    assert header.path is not None
    header.path.write_bytes(header.path.read_bytes().replace(b"0.7\\0.9", b"0,7\\0.9"))
    return headers(folder)


def two_stacks(folder: Path, stack: Stack) -> list[Header]:
    def part(ds: Dataset) -> None:
        for group in ds.PerFrameFunctionalGroupsSequence[3:]:
            group.FrameContentSequence[0].StackID = "2"
            x, y, z = (float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient)
            group.PlanePositionSequence[0].ImagePositionPatient = [x, y, z + 55]

    return stack.write_enhanced(folder / "e.dcm", edit=part)


GATES: dict[str, tuple[str, str, Callable[[Path, Stack], list[Header]]]] = {
    "zero slices": ("no-images", "holds no image", lambda folder, stack: []),
    "no pixels at all": ("no-images", "holds no image", edited(lambda i, ds: delattr(ds, "PixelData"))),
    "pixels missing in one": (
        "pixel-data", "1 of 5", edited(lambda i, ds: delattr(ds, "PixelData") if i == 2 else None),
    ),
    "one slice": ("single-slice", "single plane", without(1, 2, 3, 4)),
    "a missing slice": ("slice-gap", "1 slice(s) are missing, at -395.0 mm", without(2)),
    "two missing slices": ("slice-gap", "2 slice(s) are missing, at -397.5, -395.0 mm", without(1, 2)),
    "two images at one place": ("duplicate-position", "share positions", edited(same_place)),
    "another orientation": (
        "mixed-orientation", "1 of 5", change_at(3, ImageOrientationPatient=list(SAGITTAL)),
    ),
    "tilted gantry": ("gantry-tilt", "tilt 13.5°", edited(shifted)),
    "another size": ("inconsistent-size", "6×7, 6×9", change_at(1, Columns=9)),
    "uneven steps": ("inconsistent-spacing", "between 2.50 and 3.60 mm", edited(uneven)),
    "another pixel spacing": ("inconsistent-spacing", "pixel spacing", change_at(1, PixelSpacing=[0.8, 0.9])),
    "no position": ("no-position", "position", change_at(0, ImagePositionPatient=None)),
    "no orientation": ("no-position", "orientation", change_at(4, ImageOrientationPatient=None)),
    "directions of no length": (
        "impossible-orientation", "0\\0\\0\\0\\0\\0", change_at(0, ImageOrientationPatient=[0] * 6),
    ),
    "rows along the columns": (
        "impossible-orientation", "cannot lie", change_at(2, ImageOrientationPatient=[1, 0, 0, -1, 0, 0]),
    ),
    "directions that are no unit vectors": (
        "impossible-orientation", "cannot lie", change_at(2, ImageOrientationPatient=[1, 0, 0, 0, 2, 0]),
    ),
    "pixels of negative size": ("impossible-spacing", "-0.8 and 0.9", change_at(1, PixelSpacing=[-0.8, 0.9])),
    "pixels of no size": ("impossible-spacing", "0.8 and 0", change_at(1, PixelSpacing=[0.8, 0])),
    "two frames of reference": (
        "mixed-frame-of-reference", "2 frames", change_at(0, 1, FrameOfReferenceUID="1.2.3"),
    ),
    "truncated pixels": ("pixel-data", "end too early", truncated),
    "broken codestream": ("pixel-data", "cannot be decoded", broken_codestream),
    "unknown transfer syntax": ("pixel-data", "1.2.840.10008.1.2.4.102", unknown_syntax),
    "colour": ("pixel-data", "RGB", change_at(0, 1, 2, 3, 4, PhotometricInterpretation="RGB")),
    "an intercept with a comma": (
        "pixel-data", "RescaleIntercept of an image is no number ('-24,0')",
        rewritten(b"-24.0 ", b"-24,0 ", RescaleIntercept="-24.0"),
    ),
    "a slope of nought": ("pixel-data", "a rescale of 0 and -1024", change_at(1, RescaleSlope=0)),
    "a spacing with a comma in an enhanced image": ("no-position", "cannot be read", enhanced_with_a_comma),
    "two stacks in one enhanced image": ("several-stacks", "2 stacks that are no single volume: 22 slice(s)", two_stacks),
    "time points in one enhanced image": (
        "duplicate-position", "time points", lambda folder, stack: stack.write_enhanced(folder / "e.dcm", times=2),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("gate", "words", "write"), GATES.values(), ids=GATES)
def test_what_is_not_one_regular_stack_is_declined_with_its_name(
    tmp_path: Path, gate: str, words: str, write: Callable[[Path, Stack], list[Header]]
) -> None:
    stack = Stack()
    with pytest.raises(DeclinedError) as declined:
        load(write(tmp_path, stack), stack.series_uid)
    assert declined.value.gate == gate
    assert words in declined.value.sentence


def test_a_vanished_file_is_a_failure_not_a_decline(tmp_path: Path) -> None:
    stack = Stack()
    written = stack.write(tmp_path)
    (tmp_path / "0001.dcm").unlink()
    with pytest.raises(FileNotFoundError):
        load(written, stack.series_uid)
