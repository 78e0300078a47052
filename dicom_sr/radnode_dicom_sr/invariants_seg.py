"""What a segmentation shows, frame by frame, against the masks it was made from."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from radnode_dicom_sr.identity import DicomObject
from radnode_dicom_sr.raw import Raw, item_bytes
from radnode_inference.findings import Findings
from radnode_inference.header import Header, walk

ROWS, COLUMNS, FRAMES, BITS = 0x00280010, 0x00280011, 0x00280008, 0x00280100
SEGMENTS, SHARED, PER_FRAME = 0x00620002, 0x52009229, 0x52009230
DERIVATION, POSITION, IDENTIFICATION = 0x00089124, 0x00209113, 0x0062000A
TOLERANCE_MM = 0.1


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame of one segment. frame counts from 1 in a multi-frame source. voxels: how many it shows."""

    sop_uid: str
    frame: int | None
    position: tuple[float, ...]
    voxels: int


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One segment of one object."""

    tracking_uid: str
    frames: tuple[Frame, ...]
    voxel_mm3: float

    @property
    def millilitres(self) -> float:
        return sum(f.voxels for f in self.frames) * self.voxel_mm3 / 1000

    def misplaced(self, findings: Findings) -> Iterator[str]:
        """Frames that lie elsewhere than the image they name, or show another number of voxels than the finding has there."""
        places = {(s.sop_uid, s.frame): i for i, s in enumerate(findings.volume.sources)}
        finding = next((f for f in findings.items if f.tracking_uid == self.tracking_uid), None)
        if finding is None or finding.mask is None:
            return
        for f in self.frames:
            index = places.get((f.sop_uid, f.frame))
            if index is None:
                yield f"{finding.tracking_id}: a frame names an image that is not a slice of the volume"
                continue
            there = findings.volume.to_lps((index, 0, 0))
            if len(f.position) != 3 or max(abs(a - b) for a, b in zip(f.position, there, strict=True)) > TOLERANCE_MM:
                yield f"{finding.tracking_id}: the frame of slice {index + 1} lies elsewhere than its image"
            elif f.voxels != int(np.count_nonzero(finding.mask[index])):
                yield f"{finding.tracking_id}: the frame of slice {index + 1} does not show the finding's voxels"


def shown(o: DicomObject, raw: Raw, header: Header) -> tuple[Shown, ...]:
    """Every segment of a BINARY or LABELMAP object of ours. Raises ValueError or LookupError when it is damaged."""
    uids = {n: s.text(0x00620021) for s in raw.items(SEGMENTS) if (n := int(s.numbers(0x00620004, "H")[0]))}
    measures = raw.items(SHARED)[0].items(0x00289110)[0]
    area = np.prod([float(v) for v in measures.text(0x00280030).split("\\")])
    voxel = float(area) * float(measures.text(0x00180088))
    frames: dict[int, list[Frame]] = {n: [] for n in uids}
    places = list(placed(raw.raw(PER_FRAME)))
    if len(places) != int(raw.text(FRAMES)):
        raise ValueError("the number of frames is not that of their descriptions")
    for number, (sop_uid, frame, position), voxels in counted(o, raw, header, places, tuple(uids)):
        frames[number].append(Frame(sop_uid=sop_uid, frame=frame, position=position, voxels=voxels))
    return tuple(Shown(tracking_uid=uid, frames=tuple(frames[n]), voxel_mm3=voxel) for n, uid in uids.items())


Place = tuple[str, int | None, tuple[float, ...]]


def placed(groups: bytes) -> Iterator[tuple[int, Place]]:
    """(segment number or 0, where) of each frame; equal bytes are looked at once."""
    source, position, number = cache(source_of), cache(position_of), cache(number_of)
    for item in item_bytes(groups):
        elements = walk(item, 0, big=False, implicit=False)[0]
        sop_uid, frame = source(elements[DERIVATION][1])
        segment = number(elements[IDENTIFICATION][1]) if IDENTIFICATION in elements else 0
        yield segment, (sop_uid, frame, position(elements[POSITION][1]))


def first(value: bytes) -> Raw:
    return Raw(elements=walk(next(item_bytes(value)), 0, big=False, implicit=False)[0])


def source_of(value: bytes) -> tuple[str, int | None]:
    image = first(value).items(0x00082112)[0]
    frame = image.text(0x00081160)
    return image.text(0x00081155), int(frame) if frame else None


def position_of(value: bytes) -> tuple[float, ...]:
    return tuple(float(v) for v in first(value).text(0x00200032).split("\\"))


def number_of(value: bytes) -> int:
    return int(first(value).numbers(0x0062000B, "H")[0])


def counted(
    o: DicomObject, raw: Raw, header: Header, places: list[tuple[int, Place]], numbers: tuple[int, ...]
) -> Iterator[tuple[int, Place, int]]:
    """(segment number, place, voxels) of every segment on every frame."""
    rows, columns = (int(raw.numbers(t, "H")[0]) for t in (ROWS, COLUMNS))
    if raw.numbers(BITS, "H")[0] == 1:
        for (number, where), voxels in zip(
            places, bit_counts(o.body, header, len(places), rows * columns), strict=True
        ):
            yield number, where, int(voxels)
        return
    kind = np.dtype("<u1" if raw.numbers(BITS, "H")[0] == 8 else "<u2")
    for (_, where), plane in zip(places, planes(o.body, header, len(places), rows * columns, kind), strict=True):
        for number in numbers:
            voxels = int(np.count_nonzero(plane == number))
            if voxels:
                yield number, where, voxels


def bit_counts(body: bytes, header: Header, frames: int, size: int) -> NDArray[np.integer]:
    """How many bits of each frame are set (frames follow each other without padding, PS3.5 section 8.1.1)."""
    if header.pixel_offset is None or (header.pixel_length or 0) < (frames * size + 7) // 8:
        raise ValueError("there are fewer pixels than frames")
    if size % 8:
        packed = np.frombuffer(body, np.uint8, (frames * size + 7) // 8, header.pixel_offset)
        bits = np.unpackbits(packed, count=frames * size, bitorder="little").reshape(frames, size)
        return np.array([int(np.count_nonzero(frame)) for frame in bits])
    packed = np.frombuffer(body, np.uint8, frames * size // 8, header.pixel_offset).reshape(frames, size // 8)
    words = packed.view(np.uint64) if size % 64 == 0 and header.pixel_offset % 8 == 0 else packed
    return np.array([int(np.bitwise_count(frame).sum(dtype=np.int64)) for frame in words])


def planes(
    body: bytes, header: Header, frames: int, size: int, kind: np.dtype[np.uint8]
) -> Iterator[NDArray[np.uint8]]:
    """Each frame of a label map, flat."""
    assert header.pixel_offset is not None
    if header.pixel_length is not None:
        yield from np.frombuffer(body, kind, frames * size, header.pixel_offset).reshape(frames, size)
        return
    fragments = list(item_bytes(body[header.pixel_offset : -8]))[1:]
    for fragment in fragments:
        head = np.frombuffer(fragment, "<u4", 16)
        ends = [*(int(v) for v in head[2 : 1 + head[0]]), len(fragment)]
        octets = [
            np.frombuffer(imagecodecs.packbits_decode(fragment[int(a) : b]), np.uint8)[:size]
            for a, b in zip(head[1 : 1 + head[0]], ends, strict=True)
        ]
        yield np.stack(octets[::-1], axis=-1).view(kind).ravel()
