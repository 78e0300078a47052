"""Our own segmentations read back, with pydicom alone: what a stranger would see."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from radnode_inference.findings import Code
from radnode_inference.volume import Affine, BoolArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """One frame. mask: bool [row, column]. affine: (0, row, column, 1) -> LPS mm. source_frame counts from 1, None for a classic image."""

    mask: BoolArray
    affine: Affine
    source_sop_uid: str
    source_frame: int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """One segment with its non-empty frames."""

    number: int
    label: str
    tracking_uid: str
    concept: Code
    planes: tuple[Plane, ...]
    voxel_mm3: float

    def points(self) -> NDArray[np.float64]:
        """float64 [voxel, 3]: the patient coordinates in LPS mm of the centre of every voxel of the segment."""
        found = []
        for plane in self.planes:
            rows, columns = np.nonzero(plane.mask)
            index = np.stack([np.zeros_like(rows), rows, columns, np.ones_like(rows)]).astype(float)
            found.append((plane.affine @ index)[:3].T)
        return np.concatenate(found)

    @property
    def volume_ml(self) -> float:
        return sum(int(p.mask.sum()) for p in self.planes) * self.voxel_mm3 / 1000


def segments(body: bytes) -> tuple[Segment, ...]:
    """The segments of a BINARY segmentation file."""
    ds = pydicom.dcmread(BytesIO(body))
    count = int(ds.NumberOfFrames) * ds.Rows * ds.Columns
    bits = np.unpackbits(np.frombuffer(ds.PixelData, np.uint8), count=count, bitorder="little")
    masks = bits.reshape(-1, ds.Rows, ds.Columns).astype(bool)
    groups = ds.PerFrameFunctionalGroupsSequence
    shared = ds.SharedFunctionalGroupsSequence[0]
    planes: dict[int, list[Plane]] = {}
    for mask, group in zip(masks, groups, strict=True):
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        planes.setdefault(number, []).append(plane(mask, group, shared))
    measures = shared.PixelMeasuresSequence[0]
    voxel = float(np.prod([float(v) for v in measures.PixelSpacing])) * float(measures.SpacingBetweenSlices)
    return tuple(
        Segment(
            number=int(s.SegmentNumber),
            label=str(s.SegmentLabel),
            tracking_uid=str(s.TrackingUID),
            concept=code(s.SegmentedPropertyTypeCodeSequence[0]),
            planes=tuple(planes.get(int(s.SegmentNumber), ())),
            voxel_mm3=voxel,
        )
        for s in ds.SegmentSequence
    )


def plane(mask: BoolArray, group: Dataset, shared: Dataset) -> Plane:
    """PS3.3 C.7.6.2.1.1: position + row spacing down the columns + column spacing along the rows."""
    orientation = [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
    down, right = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 1] = np.asarray(orientation[3:]) * down
    affine[:3, 2] = np.asarray(orientation[:3]) * right
    affine[:3, 3] = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
    source = group.DerivationImageSequence[0].SourceImageSequence[0]
    frame = source.get("ReferencedFrameNumber")
    return Plane(
        mask=mask,
        affine=affine,
        source_sop_uid=str(source.ReferencedSOPInstanceUID),
        source_frame=None if frame is None else int(frame),
    )


def code(item: Dataset) -> Code:
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
    return Code(value=str(value), scheme=str(item.CodingSchemeDesignator), meaning=str(item.CodeMeaning))
