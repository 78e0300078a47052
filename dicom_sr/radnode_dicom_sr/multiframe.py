"""What segmentations and parametric maps share: frames on the slices of the source, each naming the image it lies on."""

import struct
from collections.abc import Sequence

from pydicom.dataset import Dataset

from radnode_dicom_sr import codes
from radnode_dicom_sr.elements import code, dataset, instance, raw_sequence, sequence, text
from radnode_dicom_sr.source import Slice, Source, decimal
from radnode_inference.findings import Code, uid_from

ENCAPSULATED = 0xFFFFFFFF


def place(ds: Dataset, source: Source) -> None:
    """The frame of reference module (PS3.3 C.7.4.1): the source's own, made up where the source has none."""
    ds.FrameOfReferenceUID = source.frame_of_reference_uid or uid_from(("frame of reference", source.series_uid))
    ds.PositionReferenceIndicator = ""


def compression(ds: Dataset, source: Source) -> None:
    """Once lossy, always lossy (PS3.3 C.7.6.1.1.5), told only when the source tells by how much and how."""
    first = source.headers[source.slices[0].sop_uid]
    ratios, methods = first.texts("LossyImageCompressionRatio"), first.texts("LossyImageCompressionMethod")
    if source.lossy and ratios and methods:
        ds.LossyImageCompression = "01"
        ds.LossyImageCompressionRatio, ds.LossyImageCompressionMethod = list(ratios), list(methods)


def shared_groups(source: Source) -> Dataset:
    """Pixel measures and plane orientation, the same for every frame."""
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


def dimensions(ds: Dataset, *, segments: bool) -> None:
    """Frames are indexed by position, before that by segment where each shows one of several (PS3.3 C.7.6.17)."""
    organization = uid_from(("dimensions", str(ds.SOPInstanceUID)))
    ds.DimensionOrganizationSequence = [dataset(DimensionOrganizationUID=organization)]
    pointers = [(0x00200032, 0x00209113, "Image Position Patient")]
    if segments:
        pointers.insert(0, (0x0062000B, 0x0062000A, "Segment Number"))
    ds.DimensionIndexSequence = [
        dataset(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=pointer,
            FunctionalGroupPointer=group,
            DimensionDescriptionLabel=label,
        )
        for pointer, group, label in pointers
    ]


def derivation(origin: Slice, how: Code) -> bytes:
    """Derivation Image Sequence (0008,9124) for a frame that lies on `origin`."""
    reference = instance(origin.sop_class_uid, origin.sop_uid)
    if origin.frame is not None:
        reference += text(0x00081160, "IS", str(origin.frame))
    reference += text(0x0028135A, "CS", "YES") + code(0x0040A170, codes.SOURCE_IMAGE)
    return sequence(0x00089124, sequence(0x00082112, reference) + code(0x00089215, how))


def position(origin: Slice) -> bytes:
    """Plane Position Sequence (0020,9113), in the source's own words."""
    return sequence(0x00209113, text(0x00200032, "DS", *origin.position))


def head(tag: int, vr: bytes, length: int) -> bytes:
    """The head of an element whose value follows by itself."""
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, length)
