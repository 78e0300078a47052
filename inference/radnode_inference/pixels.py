"""Stored pixels of frames into a float32 array: native ones read straight from the file, compressed ones by imagecodecs.

Both release the interpreter lock, so frames are read and decoded on all cores at once. Values after the rescale of
PS3.3 C.11.1; real-world value maps are not applied; MONOCHROME1 says how to display, so its values stay as they are.
"""

import os
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array

from radnode_inference.frames import Frame
from radnode_inference.header import DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE, Header, inflated_dataset
from radnode_inference.model import DeclinedError
from radnode_inference.volume import FloatArray

Stored = NDArray[Any]
NATIVE = frozenset((IMPLICIT_LITTLE, "1.2.840.10008.1.2.1", EXPLICIT_BIG, DEFLATED))
DAMAGED = (ValueError, RuntimeError, EOFError, IndexError, struct.error, zlib.error)
"""What decoders raise for a damaged image (imagecodecs' errors are ValueError and RuntimeError); never OSError."""
AIR_HU = -1024.0
"""CT values below are padding outside the reconstructed circle, not tissue; they are raised to air."""


def rle(encoded: bytes, dtype: np.dtype[Any]) -> Stored:
    return np.frombuffer(imagecodecs.dicomrle_decode(encoded, dtype.str), dtype)


def plain(decoder: Callable[[bytes], Stored]) -> Callable[[bytes, np.dtype[Any]], Stored]:
    return lambda encoded, dtype: decoder(encoded)


def inflate(encoded: bytes, dtype: np.dtype[Any]) -> Stored:
    return np.frombuffer(zlib.decompress(encoded, -zlib.MAX_WBITS), dtype)


DECODERS: dict[str, Callable[[bytes, np.dtype[Any]], Stored]] = {
    "1.2.840.10008.1.2.5": rle,
    "1.2.840.10008.1.2.4.50": plain(imagecodecs.jpeg8_decode),  # baseline
    "1.2.840.10008.1.2.4.51": plain(imagecodecs.jpeg8_decode),  # extended, 12 bit
    "1.2.840.10008.1.2.4.57": plain(imagecodecs.jpeg8_decode),  # lossless, process 14
    "1.2.840.10008.1.2.4.70": plain(imagecodecs.jpeg8_decode),  # lossless, first-order prediction
    "1.2.840.10008.1.2.4.80": plain(imagecodecs.jpegls_decode),
    "1.2.840.10008.1.2.4.81": plain(imagecodecs.jpegls_decode),
    "1.2.840.10008.1.2.4.90": plain(imagecodecs.jpeg2k_decode),
    "1.2.840.10008.1.2.4.91": plain(imagecodecs.jpeg2k_decode),
    "1.2.840.10008.1.2.4.201": plain(imagecodecs.jpeg2k_decode),  # HTJ2K: OpenJPEG 2.5 reads it
    "1.2.840.10008.1.2.4.202": plain(imagecodecs.jpeg2k_decode),
    "1.2.840.10008.1.2.4.203": plain(imagecodecs.jpeg2k_decode),
    "1.2.840.10008.1.2.4.110": plain(imagecodecs.jpegxl_decode),
    "1.2.840.10008.1.2.4.112": plain(imagecodecs.jpegxl_decode),
    "1.2.840.10008.1.2.8.1": inflate,  # deflated image frame compression
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one stored value lies in its cell (PS3.5 section 8.1.1)."""

    allocated: int
    stored: int
    high_bit: int
    signed: bool
    big_endian: bool

    @classmethod
    def of(cls, header: Header) -> "Layout":
        allocated = header.unsigned("BitsAllocated") or 0
        stored = header.unsigned("BitsStored") or allocated
        high_bit = header.unsigned("HighBit")
        photometric = header.text("PhotometricInterpretation")
        if (header.unsigned("SamplesPerPixel") or 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
            raise DeclinedError("pixel-data", f"the images are {photometric or 'of unknown colour'}, not monochrome")
        if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
            raise DeclinedError("pixel-data", f"{stored} bits stored in {allocated} allocated cannot be read")
        return cls(
            allocated=allocated,
            stored=stored,
            high_bit=stored - 1 if high_bit is None else high_bit,
            signed=header.unsigned("PixelRepresentation") == 1,
            big_endian=header.big_endian,
        )

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(f"{'>' if self.big_endian else '<'}{'i' if self.signed else 'u'}{self.allocated // 8}")

    def clean(self, cells: Stored, shape: tuple[int, int]) -> Stored:
        """Cells as numbers: unused bits (old overlays) dropped, the sign taken from the highest stored bit."""
        native = self.dtype.newbyteorder("=")
        if cells.dtype.itemsize != native.itemsize:
            cells = cells.astype(native)
        elif cells.dtype.kind != native.kind:
            cells = cells.view(native)
        if self.big_endian:
            cells = cells.astype(native)
        cells = cells.reshape(shape)
        if self.stored == self.allocated:
            return cells
        left = self.allocated - 1 - self.high_bit
        return (cells << left if left else cells) >> (self.allocated - self.stored)


def threads() -> int:
    return len(os.sched_getaffinity(0))


def fill(frames: Sequence[Frame], voxels: FloatArray) -> None:
    """Read frame i into voxels[i] (float32, rows × columns). Raises DeclinedError `pixel-data`."""
    by_file: dict[int, list[int]] = {}
    for i, frame in enumerate(frames):
        by_file.setdefault(id(frame.header), []).append(i)
    parts = []
    for indexes in by_file.values():
        pieces = min(threads(), len(indexes))
        parts += [[(frames[i], voxels[i]) for i in indexes[n::pieces]] for n in range(pieces)]
    with ThreadPoolExecutor(threads()) as pool:
        for _ in pool.map(fill_from_file, parts, chunksize=1):
            pass


def fill_from_file(wanted: Sequence[tuple[Frame, FloatArray]]) -> None:
    """Read frames of one and the same file into their slices."""
    header = wanted[0][0].header
    layout = Layout.of(header)
    if header.big_endian and layout.allocated == 8:
        read = read_by_pydicom
    else:
        read = read_native if header.transfer_syntax_uid in NATIVE else read_compressed
    try:
        read(header, layout, wanted)
    except DAMAGED as e:
        name = header.text("SOPInstanceUID")
        raise DeclinedError("pixel-data", f"the pixels of image {name} cannot be decoded ({type(e).__name__})") from e


def read_native(header: Header, layout: Layout, wanted: Sequence[tuple[Frame, FloatArray]]) -> None:
    """Uncompressed pixels: one seek and one read per frame."""
    assert header.path is not None and header.pixel_offset is not None
    rows, columns = wanted[0][0].shape
    size = rows * columns * layout.allocated // 8
    cells = np.empty(rows * columns, layout.dtype)
    deflated = inflated_dataset(header.path) if header.inflated else None
    with header.path.open("rb", buffering=0) as file:
        for frame, out in wanted:
            at = header.pixel_offset + (frame.number - 1) * size
            beyond = header.pixel_length is not None and frame.number * size > header.pixel_length
            if deflated is not None:
                piece = deflated[at : at + size]
                cells = np.frombuffer(piece.ljust(size, b"\0"), layout.dtype)
                got = len(piece)
            else:
                file.seek(at)
                got = file.readinto(cells.view(np.uint8).data) or 0
            if beyond or got < size:
                name = header.text("SOPInstanceUID")
                raise DeclinedError("pixel-data", f"the pixels of image {name} end too early ({got} of {size} bytes)")
            rescale(layout.clean(cells, frame.shape), frame, out)


def read_compressed(header: Header, layout: Layout, wanted: Sequence[tuple[Frame, FloatArray]]) -> None:
    """Encapsulated pixels (PS3.5 annex A.4), each frame decoded by itself."""
    decode = DECODERS.get(header.transfer_syntax_uid)
    if decode is None:
        uid = header.transfer_syntax_uid
        raise DeclinedError("pixel-data", f"transfer syntax {uid} cannot be decoded")
    assert header.path is not None and header.pixel_offset is not None
    by_number = {frame.number: (frame, out) for frame, out in wanted}
    offsets = header.raw("ExtendedOffsetTable"), header.raw("ExtendedOffsetTableLengths")
    with header.path.open("rb") as file:
        file.seek(header.pixel_offset)
        encoded = generate_frames(
            file if header.number("NumberOfFrames") != 1 else file.read(),
            number_of_frames=int(header.number("NumberOfFrames") or 1),
            extended_offsets=(offsets[0], offsets[1]) if offsets[0] and offsets[1] else None,
        )
        for number, piece in enumerate(encoded, 1):
            if number in by_number:
                frame, out = by_number.pop(number)
                rescale(layout.clean(decode(piece, layout.dtype), frame.shape), frame, out)
    if by_number:
        raise DeclinedError(
            "pixel-data", f"{len(by_number)} frames are missing in image {header.text('SOPInstanceUID')}"
        )


def read_by_pydicom(header: Header, layout: Layout, wanted: Sequence[tuple[Frame, FloatArray]]) -> None:
    """The retired byte-swapped 8-bit words of Explicit VR Big Endian."""
    assert header.path is not None
    for frame, out in wanted:
        cells = pixel_array(header.path, index=frame.number - 1)
        rescale(layout.clean(cells, frame.shape), frame, out)


def rescale(cells: Stored, frame: Frame, out: FloatArray) -> None:
    """Stored values to modality units, in place in `out` while it is still in the processor's cache."""
    if frame.slope == 1.0 and float(frame.intercept).is_integer():
        np.add(cells, np.float32(frame.intercept), out=out, casting="unsafe", dtype=np.float32)
    else:
        np.multiply(cells, frame.slope, out=out, casting="unsafe", dtype=np.float32)
        out += np.float32(frame.intercept)
    if frame.header.text("Modality") == "CT":
        np.maximum(out, np.float32(AIR_HU), out=out)
