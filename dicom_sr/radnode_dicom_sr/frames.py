"""The frames of a segmentation: which slices have one, their functional groups, their packed bits."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radnode_dicom_sr import codes
from radnode_dicom_sr.elements import code, element, instance, sequence, text
from radnode_dicom_sr.source import Slice, Source
from radnode_inference.volume import BoolArray


@dataclass(frozen=True, kw_only=True)
class Frames:
    """segments: 1-based segment number of each frame; slices: its index into the source's slices; both in frame order."""

    segments: tuple[int, ...]
    slices: tuple[int, ...]

    @classmethod
    def of(cls, masks: Sequence[BoolArray]) -> "Frames":
        """Segment by segment, slice by slice, empty frames left out."""
        places = [
            (number, index)
            for number, mask in enumerate(masks, start=1)
            for index, plane in enumerate(mask)
            if plane.any()
        ]
        return cls(segments=tuple(n for n, _ in places), slices=tuple(i for _, i in places))

    def __len__(self) -> int:
        return len(self.segments)


def functional_groups(frames: Frames, source: Source) -> bytes:
    """The value of Per-Frame Functional Groups Sequence (5200,9230), items and all (PS3.3 C.7.6.16, C.8.20.3).

    Each frame says exactly from which image (and frame) it derives, and which segment it shows; viewers that find
    neither draw it on another slice, or nowhere.
    """
    used = sorted(set(frames.slices))
    derivations = {i: derivation(source.slices[i]) for i in used}
    positions = {i: sequence(0x00209113, text(0x00200032, "DS", *source.slices[i].position)) for i in used}
    order = {index: rank for rank, index in enumerate(used, start=1)}
    identifications = {n: segment_identification(n) for n in set(frames.segments)}
    items = []
    for number, index in zip(frames.segments, frames.slices, strict=True):
        content = sequence(0x00209111, element(0x00209157, "UL", struct.pack("<LL", number, order[index])))
        item = derivations[index] + content + positions[index] + identifications[number]
        items.append(struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item)
    return b"".join(items)


def derivation(origin: Slice) -> bytes:
    """Derivation Image Sequence (0008,9124) for a frame that was drawn on `origin`."""
    reference = instance(origin.sop_class_uid, origin.sop_uid)
    if origin.frame is not None:
        reference += text(0x00081160, "IS", str(origin.frame))
    reference += text(0x0028135A, "CS", "YES") + code(0x0040A170, codes.SOURCE_IMAGE)
    return sequence(0x00089124, sequence(0x00082112, reference) + code(0x00089215, codes.SEGMENTATION))


def segment_identification(number: int) -> bytes:
    return sequence(0x0062000A, element(0x0062000B, "US", struct.pack("<H", number)))


def packed(frames: Frames, masks: Sequence[BoolArray]) -> NDArray[np.uint8]:
    """Pixel Data of 1 bit a pixel: one stream of bits over all frames, lowest bit first (PS3.5 section 8.1.1), even in length."""
    _, rows, columns = masks[0].shape
    size, count = rows * columns, len(frames)
    bits = (size * count + 7) // 8
    stream = np.zeros(bits + bits % 2, np.uint8)
    planes = (masks[n - 1][i] for n, i in zip(frames.segments, frames.slices, strict=True))
    if size % 8:
        stream[:bits] = np.packbits(np.concatenate([plane.ravel() for plane in planes]), bitorder="little")
        return stream
    for place, plane in zip(stream[:bits].reshape(count, size // 8), planes, strict=True):
        place[:] = np.packbits(plane, bitorder="little")
    return stream
