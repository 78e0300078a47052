"""The segmentation (PS3.3 A.51): every located finding as one BINARY segment on the grid of the source series."""

import struct
from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage
from skimage.color import rgb2lab

from radnode_dicom_sr import codes
from radnode_dicom_sr.dataset import NOT_VERIFIED, Context, described, file_bytes, weights_sentence
from radnode_dicom_sr.elements import instance, raw_sequence
from radnode_dicom_sr.frames import Frames, functional_groups, packed
from radnode_dicom_sr.identity import SEG, DicomObject
from radnode_dicom_sr.source import Source, clip, decimal
from radnode_inference.findings import Code, Finding, Kind, ModelIdentity, uid_from
from radnode_inference.volume import BoolArray

SOP_CLASS_UID = str(SegmentationStorage)


def located(items: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings that have a place; the position in this tuple + 1 is the segment number."""
    return tuple(f for f in items if f.mask is not None)


def segmentation(context: Context) -> DicomObject:
    """The segmentation of every finding with a mask (there must be one). Raises ValueError for a mask of another shape."""
    findings = located(context.findings.items)
    masks = [f.mask for f in findings if f.mask is not None]
    shape = (len(context.source.slices), context.source.rows, context.source.columns)
    for finding, mask in zip(findings, masks, strict=True):
        if mask.shape != shape:
            raise ValueError(f"the mask of {finding.tracking_id!r} is {mask.shape}, its volume {shape}")
    frames = Frames.of(masks)
    ds = described(
        context,
        sop_class_uid=SOP_CLASS_UID,
        role=SEG,
        instance="seg",
        number=1,
        modality="SEG",
        description="segmentation",
    )
    image(ds, context, len(frames))
    dimensions(ds)
    ds.SegmentSequence = [segment(f, n, context.model) for n, f in enumerate(findings, start=1)]
    ds.SharedFunctionalGroupsSequence = [shared_groups(context.source)]
    ds.ReferencedSeriesSequence = [referenced_series(context.source, frames.slices)]
    return DicomObject(
        kind="seg",
        sop_class_uid=SOP_CLASS_UID,
        sop_uid=str(ds.SOPInstanceUID),
        series_uid=str(ds.SeriesInstanceUID),
        body=b"".join([file_bytes(ds), *after(frames, masks, context.source)]),
    )


def after(frames: Frames, masks: Sequence[BoolArray], source: Source) -> list[bytes | memoryview]:
    """The two elements that come after all others (tags ascend, PS3.5 section 7.1), each a head and a value."""
    groups, pixels = functional_groups(frames, source), packed(frames, masks)
    return [head(0x52009230, b"SQ", len(groups)), groups, head(0x7FE00010, b"OB", pixels.nbytes), pixels.data]


def head(tag: int, vr: bytes, length: int) -> bytes:
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, length)


def image(ds: Dataset, context: Context, frames: int) -> None:
    """Frame of reference, image pixel and segmentation image modules (PS3.3 C.7.4.1, C.8.20.2)."""
    source = context.source
    ds.FrameOfReferenceUID = source.frame_of_reference_uid or uid_from(("frame of reference", source.series_uid))
    ds.PositionReferenceIndicator = ""
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns, ds.NumberOfFrames = source.rows, source.columns, frames
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = ds.PixelRepresentation = 0
    ds.LossyImageCompression = "00"
    ds.SegmentationType = "BINARY"
    ds.ContentLabel = "AI_RESULT"
    ds.ContentDescription = NOT_VERIFIED
    ds.ContentCreatorName = ""
    compression(ds, source)


def compression(ds: Dataset, source: Source) -> None:
    """Once lossy, always lossy (PS3.3 C.7.6.1.1.5), told only when the source tells by how much and how."""
    first = source.headers[source.slices[0].sop_uid]
    ratios, methods = first.texts("LossyImageCompressionRatio"), first.texts("LossyImageCompressionMethod")
    if source.lossy and ratios and methods:
        ds.LossyImageCompression = "01"
        ds.LossyImageCompressionRatio, ds.LossyImageCompressionMethod = list(ratios), list(methods)


def dimensions(ds: Dataset) -> None:
    """Frames are indexed by segment, then by position (PS3.3 C.7.6.17)."""
    organization = uid_from(("dimensions", str(ds.SOPInstanceUID)))
    ds.DimensionOrganizationSequence = [dataset(DimensionOrganizationUID=organization)]
    ds.DimensionIndexSequence = [
        dataset(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=0x0062000B,
            FunctionalGroupPointer=0x0062000A,
            DimensionDescriptionLabel="Segment Number",
        ),
        dataset(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=0x00200032,
            FunctionalGroupPointer=0x00209113,
            DimensionDescriptionLabel="Image Position Patient",
        ),
    ]


def segment(finding: Finding, number: int, model: ModelIdentity) -> Dataset:
    """One item of Segment Sequence (PS3.3 C.8.20.4)."""
    ds = dataset(
        SegmentNumber=number,
        SegmentLabel=codes.label(finding),
        SegmentAlgorithmType="AUTOMATIC",
        SegmentAlgorithmName=clip(f"{model.name} {model.version}", 64),
        SegmentationAlgorithmIdentificationSequence=[algorithm(model)],
        SegmentedPropertyCategoryCodeSequence=[codes.item(codes.category(finding))],
        SegmentedPropertyTypeCodeSequence=[codes.item(finding.concept)],
        TrackingID=clip(finding.tracking_id, 64),
        TrackingUID=finding.tracking_uid,
        RecommendedDisplayCIELabValue=cielab(codes.colour(finding, number - 1)),
    )
    if finding.kind is Kind.ANATOMY:
        if finding.laterality:
            ds.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
                codes.item(finding.laterality)
            ]
    elif finding.site:
        ds.AnatomicRegionSequence = [region(finding.site, finding.laterality)]
    return ds


def region(site: Code, laterality: Code | None) -> Dataset:
    ds = codes.item(site)
    if laterality:
        ds.AnatomicRegionModifierSequence = [codes.item(laterality)]
    return ds


def algorithm(model: ModelIdentity) -> Dataset:
    return dataset(
        AlgorithmFamilyCodeSequence=[codes.item(codes.family(model))],
        AlgorithmName=clip(model.name, 64),
        AlgorithmVersion=clip(model.version, 64),
        AlgorithmParameters=weights_sentence(model),
        AlgorithmSource="radnode",
    )


def shared_groups(source: Source) -> Dataset:
    """Pixel measures and plane orientation, the same for every frame. Segment identification is per frame, for dwv."""
    return dataset(
        PlaneOrientationSequence=[dataset(ImageOrientationPatient=[decimal(v) for v in source.orientation])],
        PixelMeasuresSequence=[
            dataset(
                PixelSpacing=[decimal(v) for v in source.spacing[1:]],
                SliceThickness=decimal(source.slice_thickness),
                SpacingBetweenSlices=decimal(source.spacing[0]),
            )
        ],
    )


def referenced_series(source: Source, used: Sequence[int]) -> Dataset:
    """Every image that a frame derives from, once (PS3.3 C.12.2)."""
    images = dict.fromkeys((source.slices[i].sop_class_uid, source.slices[i].sop_uid) for i in used)
    ds = dataset(SeriesInstanceUID=source.series_uid)
    ds[0x0008114A] = raw_sequence(0x0008114A, *(instance(*image) for image in images))
    return ds


def cielab(rgb: tuple[int, int, int]) -> list[int]:
    """An sRGB colour as the three 16-bit numbers of PS3.3 C.10.7.1.1."""
    lightness, a, b = (float(v) for v in rgb2lab([[[c / 255 for c in rgb]]])[0, 0])
    return [round(lightness * 65535 / 100), round((a + 128) * 65535 / 255), round((b + 128) * 65535 / 255)]


def dataset(**elements: Any) -> Dataset:
    """A data set from keywords and values."""
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds
