"""Parametric maps (PS3.3 A.75): one number a voxel on the grid of the source series, as 32-bit floating-point pixels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ParametricMapStorage

from radnode_dicom_sr import codes
from radnode_dicom_sr.dataset import NOT_VERIFIED, Context, described, file_bytes
from radnode_dicom_sr.elements import dataset, item
from radnode_dicom_sr.frames import frame_content
from radnode_dicom_sr.identity import MAPS, DicomObject
from radnode_dicom_sr.multiframe import (
    compression,
    derivation,
    dimensions,
    head,
    place,
    position,
    referenced_series,
    shared_groups,
)
from radnode_dicom_sr.source import Source, clip, decimal
from radnode_inference.findings import ParameterMap
from radnode_inference.volume import FloatArray

SOP_CLASS_UID = str(ParametricMapStorage)
IMAGE_TYPE = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"]


def parametric_maps(context: Context) -> tuple[DicomObject, ...]:
    """Every map that has a number anywhere, split where it has more frames than the destination takes.

    A frame for each slice, in their order, also where there is no number: OHIF 3.13 lays frame n over slice n, whatever the
    frame says of its place. For the same reason none for images that hold several phases. Raises ValueError for a map of another shape than the volume.
    """
    if not context.source.whole:
        return ()
    made: list[DicomObject] = []
    shape = (len(context.source.slices), context.source.rows, context.source.columns)
    for name, map_ in enumerate(context.findings.maps, start=1):
        if map_.values.shape != shape:
            raise ValueError(f"the map {map_.name!r} is {map_.values.shape}, its volume {shape}")
        used = range(len(map_.values)) if np.isfinite(map_.values).any() else range(0)
        cap = context.profile.frame_cap or max(len(used), 1)
        for start in range(0, len(used), cap):
            made.append(parametric_map(context, map_, name, len(made) + 1, used[start : start + cap], len(used)))
    return tuple(made)


def parametric_map(
    context: Context, map_: ParameterMap, name: int, number: int, used: Sequence[int], frames: int
) -> DicomObject:
    """One object with the slices `used`, of the `frames` that the map has in all."""
    whole = len(used) == frames
    ds = described(
        context,
        sop_class_uid=SOP_CLASS_UID,
        role=MAPS,
        instance=f"map-{name}" if whole else f"map-{name}-from-{used[0] + 1}",
        number=number,
        modality="OT",
        description="parametric maps",
        form=() if whole else (f"at most {context.profile.frame_cap} frames",),
    )
    low, high, padding = limits(map_.values)
    image(ds, context.source, len(used))
    ds.ContentLabel = "AI_MAP"
    ds.ContentDescription = clip(f"{map_.name}: {NOT_VERIFIED}", 64)
    ds.FloatPixelPaddingValue = ds.FloatPixelPaddingRangeLimit = padding
    dimensions(ds, segments=False)
    shared = shared_groups(context.source)
    shared.FrameVOILUTSequence = [window(map_.values)]
    shared.PixelValueTransformationSequence = [dataset(RescaleIntercept="0", RescaleSlope="1", RescaleType="US")]
    shared.ParametricMapFrameTypeSequence = [dataset(FrameType=IMAGE_TYPE)]
    shared.RealWorldValueMappingSequence = [real_world_value(map_, low, high)]
    if anatomy := frame_anatomy(context):
        shared.FrameAnatomySequence = [anatomy]
    elif ds.get("BodyPartExamined") not in codes.UNPAIRED:
        ds.Laterality = ""  # a paired or unknown part: unknown for the series
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.ReferencedSeriesSequence = [referenced_series(context.source, used)]
    groups = b"".join(group(context.source, i, rank) for rank, i in enumerate(used, start=1))
    pixels = filled(map_.values[list(used)], padding)
    body = [file_bytes(ds), head(0x52009230, b"SQ", len(groups)), groups, head(0x7FE00008, b"OF", pixels.nbytes)]
    return DicomObject(
        kind="parametric-map",
        sop_class_uid=SOP_CLASS_UID,
        sop_uid=str(ds.SOPInstanceUID),
        series_uid=str(ds.SeriesInstanceUID),
        body=b"".join([*body, pixels.data]),
    )


def image(ds: Dataset, source: Source, frames: int) -> None:
    """Frame of reference, floating point image pixel and parametric map image modules (PS3.3 C.7.6.24, C.8.32.2)."""
    place(ds, source)
    ds.ImageType = IMAGE_TYPE
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns, ds.NumberOfFrames = source.rows, source.columns, frames
    ds.BitsAllocated = 32
    ds.BurnedInAnnotation = ds.RecognizableVisualFeatures = "NO"
    ds.LossyImageCompression = "00"
    ds.AcquisitionContextSequence = []
    ds.PixelPresentation, ds.PresentationLUTShape = "MONOCHROME", "IDENTITY"
    ds.ContentCreatorName = ""
    compression(ds, source)


def frame_anatomy(context: Context) -> Dataset | None:
    """What the frames show (PS3.3 C.7.6.16.2.8), as far as a finding names it: both sides, unless the images tell one.

    The standard does without it; dcmqi 1.5.7, with which 3D Slicer reads maps, ends in a segmentation fault where it is missing.
    """
    site = next((s for f in context.findings.items if (s := codes.site(f))), None)
    if site is None:
        return None
    header = context.source.headers[context.source.slices[0].sop_uid]
    sides = (header.text(keyword) for keyword in ("ImageLaterality", "Laterality"))
    side = next((s for s in sides if s in ("R", "L")), "U" if site.value in codes.UNPAIRED_SITES else "B")
    return dataset(FrameLaterality=side, AnatomicRegionSequence=[codes.item(site)])


def group(source: Source, index: int, rank: int) -> bytes:
    """The functional groups of one frame."""
    origin = source.slices[index]
    return item(derivation(origin, codes.CALCULATION) + frame_content(rank) + position(origin))


def limits(values: FloatArray) -> tuple[float, float, float]:
    """The smallest and the largest number, and one below both that stands for "no number here" (NaN is not portable)."""
    low, high = float(np.nanmin(finite(values))), float(np.nanmax(finite(values)))
    return low, high, float(np.float32(np.floor(low) - 1))


def finite(values: FloatArray) -> FloatArray:
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def filled(values: FloatArray, padding: float) -> NDArray[np.float32]:
    return np.where(np.isfinite(values), values, np.float32(padding)).astype("<f4")


def window(values: FloatArray) -> Dataset:
    """Shows the middle 98 % of what is not zero (PS3.3 C.7.6.16.2.10); the padding lies below it.

    Only LINEAR_EXACT may be narrower than 1 (PS3.3 C.11.2.1.3.2).
    """
    shown = values[np.isfinite(values) & (values != 0)]
    low, high = (float(v) for v in np.percentile(shown, (1, 99))) if shown.size else (0.0, 1.0)
    return dataset(
        WindowCenter=decimal((low + high) / 2),
        WindowWidth=decimal(max(high - low, 1e-6)),
        VOILUTFunction="LINEAR_EXACT",
    )


def real_world_value(map_: ParameterMap, low: float, high: float) -> Dataset:
    """The numbers are what they are (PS3.3 C.7.6.16.2.11): slope 1, with their quantity and unit."""
    quantity = dataset(
        ValueType="CODE",
        ConceptNameCodeSequence=[codes.item(codes.QUANTITY)],
        ConceptCodeSequence=[codes.item(map_.quantity)],
    )
    return dataset(
        LUTExplanation=clip(map_.name, 64),
        LUTLabel=clip(map_.name, 16),
        MeasurementUnitsCodeSequence=[codes.item(map_.unit)],
        DoubleFloatRealWorldValueFirstValueMapped=low,
        DoubleFloatRealWorldValueLastValueMapped=high,
        RealWorldValueIntercept=0.0,
        RealWorldValueSlope=1.0,
        QuantityDefinitionSequence=[quantity],
    )
