"""Segmentations read back, ours and those of others, with pydicom alone: what a stranger would see."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from radnode_inference.findings import Code
from radnode_inference.volume import Affine, BoolArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """One frame. mask: bool [row, column]. affine: (0, row, column, 1) -> LPS mm.

    source_sop_uid: "" where the frame names no image. source_frame counts from 1, None for a classic image.
    """

    mask: BoolArray
    affine: Affine
    source_sop_uid: str
    source_frame: int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """One segment with its non-empty frames. voxel_mm3 is 0 where the file does not say how far its slices are apart."""

    number: int
    label: str
    tracking_id: str
    tracking_uid: str
    concept: Code
    category: Code | None
    site: Code | None
    laterality: Code | None
    planes: tuple[Plane, ...]
    voxel_mm3: float

    def points(self) -> NDArray[np.float64]:
        """float64 [voxel, 3]: the patient coordinates in LPS mm of the centre of every voxel of the segment."""
        found = [np.empty((0, 3))]
        for plane in self.planes:
            rows, columns = np.nonzero(plane.mask)
            index = np.stack([np.zeros_like(rows), rows, columns, np.ones_like(rows)]).astype(float)
            found.append((plane.affine @ index)[:3].T)
        return np.concatenate(found)

    @property
    def volume_ml(self) -> float:
        return sum(int(p.mask.sum()) for p in self.planes) * self.voxel_mm3 / 1000


def segments(body: bytes) -> tuple[Segment, ...]:
    """The segments of a BINARY or LABELMAP segmentation file, the background left out.

    Raises ValueError for a FRACTIONAL one, and whatever pydicom raises for a file that is not whole.
    """
    ds = pydicom.dcmread(BytesIO(body))
    planes: dict[int, list[Plane]] = {}
    for number, plane in frames(ds):
        if plane.mask.any():
            planes.setdefault(number, []).append(plane)
    voxel = voxel_mm3(ds)
    return tuple(
        segment(s, tuple(planes.get(int(s.SegmentNumber), ())), voxel) for s in ds.SegmentSequence if s.SegmentNumber
    )


def frames(ds: Dataset) -> Iterator[tuple[int, Plane]]:
    """(segment number, plane) for each segment that each frame shows."""
    if ds.SegmentationType not in ("BINARY", "LABELMAP"):
        raise ValueError(f"a {ds.SegmentationType} segmentation has no masks, but degrees")
    pixels = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
    for values, own in zip(pixels, ds.PerFrameFunctionalGroupsSequence, strict=True):
        group = {**macros(ds.SharedFunctionalGroupsSequence[0]), **macros(own)}
        if ds.SegmentationType == "BINARY":
            number = int(group["SegmentIdentificationSequence"].ReferencedSegmentNumber)
            yield number, plane(values.astype(bool), group)
        else:
            for number in np.unique(values[values > 0]):
                yield int(number), plane(values == number, group)


def macros(group: Dataset) -> dict[str, Dataset]:
    """The functional groups of one item by keyword, each its one item."""
    return {e.keyword: e.value[0] for e in group if e.VR == "SQ" and e.value}


def segment(s: Dataset, planes: tuple[Plane, ...], voxel: float) -> Segment:
    """One item of Segment Sequence; an organ's side is a modifier of its type, a lesion's one of its region."""
    kind = s.SegmentedPropertyTypeCodeSequence[0]
    region = s.get("AnatomicRegionSequence") or [Dataset()]
    modifiers = [
        *kind.get("SegmentedPropertyTypeModifierCodeSequence", ()),
        *region[0].get("AnatomicRegionModifierSequence", ()),
    ]
    category = s.get("SegmentedPropertyCategoryCodeSequence")
    return Segment(
        number=int(s.SegmentNumber),
        label=str(s.SegmentLabel),
        tracking_id=str(s.get("TrackingID", "")),
        tracking_uid=str(s.get("TrackingUID", "")),
        concept=code(kind),
        category=code(category[0]) if category else None,
        site=code(region[0]) if "CodeMeaning" in region[0] else None,
        laterality=code(modifiers[0]) if modifiers else None,
        planes=planes,
        voxel_mm3=voxel,
    )


def voxel_mm3(ds: Dataset) -> float:
    """Pixel area × distance of neighbouring slices: as stated, else the smallest distance of two frames along the normal."""
    group = {**macros(ds.SharedFunctionalGroupsSequence[0]), **macros(ds.PerFrameFunctionalGroupsSequence[0])}
    measures = group["PixelMeasuresSequence"]
    area = float(np.prod([float(v) for v in measures.PixelSpacing]))
    if measures.get("SpacingBetweenSlices"):
        return area * float(measures.SpacingBetweenSlices)
    orientation = [float(v) for v in group["PlaneOrientationSequence"].ImageOrientationPatient]
    normal = np.cross(orientation[:3], orientation[3:])
    positions = [macros(g).get("PlanePositionSequence") for g in ds.PerFrameFunctionalGroupsSequence]
    along = sorted(float(np.dot(normal, [float(v) for v in p.ImagePositionPatient])) for p in positions if p)
    steps = [b - a for a, b in pairwise(along) if b - a > 1e-3]
    return area * (min(steps) if steps else float(measures.get("SliceThickness") or 0))


def plane(mask: BoolArray, group: dict[str, Dataset]) -> Plane:
    """PS3.3 C.7.6.2.1.1: position + row spacing down the columns + column spacing along the rows."""
    orientation = [float(v) for v in group["PlaneOrientationSequence"].ImageOrientationPatient]
    down, right = (float(v) for v in group["PixelMeasuresSequence"].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 1] = np.asarray(orientation[3:]) * down
    affine[:3, 2] = np.asarray(orientation[:3]) * right
    affine[:3, 3] = [float(v) for v in group["PlanePositionSequence"].ImagePositionPatient]
    sources = group.get("DerivationImageSequence", Dataset()).get("SourceImageSequence") or [Dataset()]
    frame = sources[0].get("ReferencedFrameNumber")
    return Plane(
        mask=mask,
        affine=affine,
        source_sop_uid=str(sources[0].get("ReferencedSOPInstanceUID", "")),
        source_frame=None if frame is None else int(frame),
    )


def code(item: Dataset) -> Code:
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
    scheme = str(item.get("CodingSchemeDesignator", ""))
    return Code(value=str(value or ""), scheme=scheme, meaning=str(item.get("CodeMeaning", "")))
