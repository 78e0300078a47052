"""Regions that people or other programs drew and stored in the study: SEG segments and RT Structure Set contours.

They are read onto the grid of the dynamic series. What does not fit it is not used, and that is said.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array
from scipy import ndimage

from radnode_inference.frames import macro, values
from radnode_inference.header import Header
from radnode_inference.study import Study
from radnode_inference.volume import BoolArray, Volume

SEGMENTATION, STRUCTURES = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"
OWN = "RADNODE"
LEAST_ML = 0.05
ANATOMY = frozenset(("123037004", "T-D000A", "91720002", "T-D0080", "260787004", "A-00004"))
"""Segmented property categories (SCT, SRT; PS3.16 CID 7150) that are no finding: structure, substance, object. Tissue is
what programs write for anything that nobody named, so also for tumours."""
NO_TARGET = frozenset(
    (
        "EXTERNAL", "ORGAN", "AVOIDANCE", "BOLUS", "SUPPORT", "FIXATION", "MARKER", "REGISTRATION", "ISOCENTER",
        "CONTRAST_AGENT", "CAVITY", "DOSE_REGION", "CONTROL", "DOSE_MEASUREMENT", "BRACHY_CHANNEL",
        "BRACHY_ACCESSORY", "BRACHY_SRC_APP", "BRACHY_CHNL_SHLD",
    )
)  # fmt: skip
"""RT ROI Interpreted Types (PS3.3 C.8.8.8.1) of what nobody drew as a tumour."""
BODY_NAMES = frozenset(("BODY", "EXTERNAL", "SKIN", "PATIENT"))

Named = tuple[str, BoolArray]


class UnfitError(Exception):
    """Why an object's regions cannot be carried to the dynamic series, in words that follow "was not used: "."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """One region. mask: bool on the dynamic grid; label: its name; source: the object, in words."""

    label: str
    mask: BoolArray
    source: str


def drawn_regions(study: Study, pre: Volume) -> tuple[tuple[Drawn, ...], tuple[str, ...]]:
    """The regions given in a study, on the grid of `pre`, and for each object that does not fit one sentence."""
    found: list[Drawn] = []
    remarks: list[str] = []
    for header in objects(study):
        kind = "segmentation" if header.text("SOPClassUID") == SEGMENTATION else "structure set"
        source = f"the {kind} in series {header.text('SeriesNumber') or '?'} {header.text('SeriesDescription')!r}"
        read = segments if kind == "segmentation" else structures
        try:
            ds = header.dataset()
            named, anatomy = read(ds, header, pre), anatomy_of(ds)
        except (UnfitError, ValueError, AttributeError, IndexError, KeyError) as e:
            reason = str(e) if isinstance(e, UnfitError) else f"it cannot be read ({type(e).__name__})"
            remarks.append(f"{source[0].upper()}{source[1:]} was not used: {reason}.")
            continue
        if left := [label for label, _ in named if label in anatomy]:
            remarks.append(f"In {source}, {', '.join(left)} is anatomy by its type or name: not measured.")
            named = [n for n in named if n[0] not in left]
        small = [label for label, mask in named if mask.sum() * pre.voxel_mm3 / 1000 < LEAST_ML]
        if small:
            remarks.append(f"In {source}, nothing of {', '.join(small)} lies in the dynamic series.")
        found += [Drawn(label=label, mask=mask, source=source) for label, mask in named if label not in small]
    return tuple(found), tuple(remarks)


def objects(study: Study) -> Iterator[Header]:
    """The headers of the objects with regions that radnode did not make itself."""
    for series in (*study.series, *study.regions):
        for header in series.headers:
            own = OWN in (header.text("Manufacturer").upper(), header.text("ManufacturerModelName").upper())
            if header.text("SOPClassUID") in (SEGMENTATION, STRUCTURES) and not own:
                yield header


def anatomy_of(ds: pydicom.Dataset) -> frozenset[str]:
    """The labels of the regions that show a part of the body or an object, not what somebody drew as a finding."""
    labels = {
        str(s.get("SegmentLabel", s.SegmentNumber))
        for s in ds.get("SegmentSequence", ())
        if any(str(c.get("CodeValue", "")) in ANATOMY for c in s.get("SegmentedPropertyCategoryCodeSequence", ()))
    }
    kinds = {
        int(o.ReferencedROINumber): str(o.get("RTROIInterpretedType", ""))
        for o in ds.get("RTROIObservationsSequence", ())
    }
    for roi in ds.get("StructureSetROISequence", ()):
        name = str(roi.get("ROIName", roi.ROINumber))
        if kinds.get(int(roi.ROINumber), "").upper() in NO_TARGET or name.upper() in BODY_NAMES:
            labels.add(name)
    return frozenset(labels)


def segments(ds: pydicom.Dataset, header: Header, pre: Volume) -> list[Named]:
    """The segments of a Segmentation (PS3.3 A.51), nearest voxel. Raises UnfitError."""
    if str(ds.get("FrameOfReferenceUID", "")) != pre.frame_of_reference_uid:
        raise UnfitError("it lies in another frame of reference than the dynamic series")
    if ds.get("SegmentationType") not in ("BINARY", "FRACTIONAL"):
        raise UnfitError(f"its type {ds.get('SegmentationType')} is not supported")
    assert header.path is not None
    stored = pixel_array(header.path).reshape(-1, ds.Rows, ds.Columns)
    half = float(ds.get("MaximumFractionalValue", 1)) / 2 if ds.SegmentationType == "FRACTIONAL" else 0.5
    shared = ds.SharedFunctionalGroupsSequence[0]
    planes: dict[int, list[tuple[NDArray[np.float64], BoolArray]]] = {}
    axes: set[tuple[float, ...]] = set()
    for group, pixels in zip(ds.PerFrameFunctionalGroupsSequence, stored, strict=True):
        number = int(macro(group, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        position = np.array(values(macro(group, shared, "PlanePositionSequence"), "ImagePositionPatient"))
        orientation = values(macro(group, shared, "PlaneOrientationSequence"), "ImageOrientationPatient")
        measures = macro(group, shared, "PixelMeasuresSequence")
        step = next(iter(values(measures, "SpacingBetweenSlices")), None) or values(measures, "SliceThickness")[0]
        axes.add((*np.round(orientation, 4), *np.round(values(measures, "PixelSpacing"), 4), round(step, 4)))
        planes.setdefault(number, []).append((position, pixels > half))
    if len(axes) != 1:
        raise UnfitError("its frames are not parallel planes of one size")
    labels = {int(s.SegmentNumber): str(s.get("SegmentLabel", s.SegmentNumber)) for s in ds.SegmentSequence}
    return [(labels[n], on_grid(planes[n], next(iter(axes)), pre)) for n in sorted(planes)]


def on_grid(planes: Sequence[tuple[NDArray[np.float64], BoolArray]], axes: tuple[float, ...], pre: Volume) -> BoolArray:
    """Parallel planes (position LPS mm, mask) on the grid of a volume. axes: row and column direction, spacings, step."""
    row, column = np.array(axes[:3]), np.array(axes[3:6])
    normal, step = np.cross(row, column), axes[8]
    along = np.array([position @ normal for position, _ in planes])
    index = np.rint((along - along.min()) / step).astype(int)
    dense = np.zeros((int(index.max()) + 1, *planes[0][1].shape), np.uint8)
    for i, (_, mask) in zip(index, planes, strict=True):
        dense[i] |= mask
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = normal * step, column * axes[6], row * axes[7]
    affine[:3, 3] = planes[int(np.argmin(along))][0]
    to_dense = np.linalg.inv(affine) @ pre.affine
    carried = ndimage.affine_transform(
        dense, to_dense[:3, :3], to_dense[:3, 3], output_shape=pre.shape, order=0, mode="constant", cval=0
    )
    return np.asarray(carried > 0, bool)


def structures(ds: pydicom.Dataset, header: Header, pre: Volume) -> list[Named]:
    """The closed planar contours of an RT Structure Set (PS3.3 C.8.8.6), filled slice by slice. Raises UnfitError."""
    names = {int(r.ROINumber): r for r in ds.StructureSetROISequence}
    found: list[Named] = []
    elsewhere = []
    for roi in ds.ROIContourSequence:
        described = names[int(roi.ReferencedROINumber)]
        label = str(described.get("ROIName", roi.ReferencedROINumber))
        if str(described.get("ReferencedFrameOfReferenceUID", "")) != pre.frame_of_reference_uid:
            elsewhere.append(label)
            continue
        contours = [c for c in roi.get("ContourSequence", ()) if c.get("ContourGeometricType") == "CLOSED_PLANAR"]
        if contours:
            found.append((label, filled([np.array(c.ContourData, float).reshape(-1, 3) for c in contours], pre)))
    if not found:
        other = f" ({', '.join(elsewhere)})" if elsewhere else ""
        raise UnfitError(
            f"its contours{other} lie in another frame of reference" if elsewhere else "it has no closed contours"
        )
    return found


def filled(contours: Sequence[NDArray[np.float64]], pre: Volume) -> BoolArray:
    """Contours (points LPS mm) as a mask; a contour inside another is a hole. Raises UnfitError."""
    inverse = np.linalg.inv(pre.affine)
    placed = [points @ inverse[:3, :3].T + inverse[:3, 3] for points in contours]
    if any(np.ptp(p[:, 0]) > 0.5 for p in placed):
        raise UnfitError("its contours do not lie in the planes of the dynamic series")
    levels = np.array([p[:, 0].mean() for p in placed])
    between = np.diff(np.unique(np.round(levels, 2)))
    reach = max(float(between.min()) / 2, 0.5) if len(between) else 0.5
    mask = np.zeros(pre.shape, bool)
    for level, points in zip(levels, placed, strict=True):
        covered = np.arange(pre.shape[0])
        here = covered[(covered > level - reach - 1e-6) & (covered <= level + reach - 1e-6)]
        if len(here):
            mask[here] ^= polygon(points[:, 1:], pre.shape[1:])
    return mask


def polygon(points: NDArray[np.float64], shape: tuple[int, int]) -> BoolArray:
    """The pixels [row, column] whose centres lie in a polygon of (row, column) points, by the even-odd rule."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    inside = np.zeros(shape, bool)
    for (r0, c0), (r1, c1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if r0 == r1:
            continue
        crossed = (r0 > rows) != (r1 > rows)
        inside ^= crossed & (columns < (c1 - c0) * (rows - r0) / (r1 - r0) + c0)
    return inside
