"""The frames of a segmentation as bytes: their functional groups, their pixels."""

import struct
from collections.abc import Iterator, Sequence

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from radnode_dicom_sr import codes
from radnode_dicom_sr.elements import element, item, sequence
from radnode_dicom_sr.multiframe import derivation, position
from radnode_dicom_sr.parts import Frames, Part
from radnode_dicom_sr.source import Source
from radnode_inference.volume import BoolArray


def functional_groups(frames: Frames, source: Source) -> bytes:
    """The value of Per-Frame Functional Groups Sequence (5200,9230), items and all (PS3.3 C.7.6.16, C.8.20.3).

    Each frame says exactly from which image (and frame) it derives, and which segment it shows; viewers that find
    neither draw it on another slice, or nowhere. A frame of a label map (segment 0) shows them all.
    """
    used = sorted(set(frames.slices))
    derivations = {i: derivation(source.slices[i], codes.SEGMENTATION) for i in used}
    positions = {i: position(source.slices[i]) for i in used}
    order = {index: rank for rank, index in enumerate(used, start=1)}
    identifications = {n: segment_identification(n) for n in set(frames.segments)}
    items = []
    for number, index in zip(frames.segments, frames.slices, strict=True):
        content = frame_content(*(n for n in (number, order[index]) if n))
        items.append(item(derivations[index] + content + positions[index] + identifications[number]))
    return b"".join(items)


def frame_content(*indices: int) -> bytes:
    """Frame Content Sequence (0020,9111) with the dimension index values."""
    return sequence(0x00209111, element(0x00209157, "UL", struct.pack(f"<{len(indices)}L", *indices)))


def segment_identification(number: int) -> bytes:
    """Segment Identification Sequence (0062,000A), in each frame and never shared: dwv looks nowhere else."""
    return sequence(0x0062000A, element(0x0062000B, "US", struct.pack("<H", number))) if number else b""


def packed(part: Part, masks: Sequence[BoolArray]) -> NDArray[np.uint8]:
    """Pixel Data of 1 bit a pixel: one stream of bits over all frames, lowest bit first (PS3.5 section 8.1.1), even in length."""
    _, rows, columns = masks[0].shape
    size, count = rows * columns, len(part.frames)
    bits = (size * count + 7) // 8
    stream = np.zeros(bits + bits % 2, np.uint8)
    frames = zip(part.frames.segments, part.frames.slices, strict=True)
    planes = (masks[part.masks[number - 1]][index] for number, index in frames)
    if size % 8:
        stream[:bits] = np.packbits(np.concatenate([plane.ravel() for plane in planes]), bitorder="little")
        return stream
    for place, plane in zip(stream[:bits].reshape(count, size // 8), planes, strict=True):
        place[:] = np.packbits(plane, bitorder="little")
    return stream


def labelled(part: Part, masks: Sequence[BoolArray]) -> Iterator[NDArray[np.uint8 | np.uint16]]:
    """Each frame of a label map [row, column]: 0 for the background, else the number of the segment (PS3.3 A.51)."""
    kind = label_type(part)
    for index in part.frames.slices:
        plane = np.zeros(masks[0].shape[1:], kind)
        for number, mask in enumerate(part.masks, start=1):
            plane[masks[mask][index]] = number
        yield plane


def label_type(part: Part) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if len(part.masks) < 256 else np.uint16


def run_length(plane: NDArray[np.uint8 | np.uint16]) -> bytes:
    """One frame in RLE Lossless (PS3.5 annex G): a segment for each byte of a pixel, the highest first, row by row."""
    octets = plane.astype(plane.dtype.newbyteorder(">")).view(np.uint8).reshape(*plane.shape, -1)
    coded = [imagecodecs.packbits_encode(np.ascontiguousarray(octets[..., n])) for n in range(octets.shape[-1])]
    even = [c + b"\0" * (len(c) % 2) for c in coded]
    starts = [64 + sum(map(len, even[:n])) for n in range(len(even))]
    return struct.pack("<16L", len(even), *starts, *[0] * (15 - len(even))) + b"".join(even)


def encapsulated(planes: Iterator[NDArray[np.uint8 | np.uint16]]) -> bytes:
    """The value of Pixel Data with one fragment a frame, after an empty offset table (PS3.5 annex A.4)."""
    return b"".join([item(b""), *(item(run_length(p)) for p in planes), struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)])
