"""The segmentation (PS3.3 A.51, A.93): every located finding as one segment on the grid of the source series."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SegmentationStorage
from skimage.color import rgb2lab

from radnode_dicom_sr import codes
from radnode_dicom_sr.dataset import NOT_VERIFIED, Context, described, file_bytes, weights_sentence
from radnode_dicom_sr.elements import dataset
from radnode_dicom_sr.frames import encapsulated, functional_groups, label_type, labelled, packed
from radnode_dicom_sr.identity import SEG, DicomObject
from radnode_dicom_sr.multiframe import (
    ENCAPSULATED,
    compression,
    dimensions,
    head,
    place,
    referenced_series,
    shared_groups,
)
from radnode_dicom_sr.parts import Part, parts
from radnode_dicom_sr.profiles import Form, Profile
from radnode_dicom_sr.source import clip
from radnode_inference.findings import Code, Finding, Kind, ModelIdentity
from radnode_inference.volume import BoolArray

SOP_CLASS_UID = str(SegmentationStorage)
LABELMAP_SOP_CLASS_UID = "1.2.840.10008.5.1.4.1.1.66.7"


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One segmentation object. numbers: tracking UID -> segment number, of the findings that are whole in it.

    None of a label map's: validators and readers (dciodvfy, DCMTK 3.6.7) refuse a report that refers to its segments.
    form: see `Identity.sop_uid`.
    """

    object: DicomObject
    form: Form
    numbers: dict[str, int]


def located(items: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings that have a place, in order."""
    return tuple(f for f in items if f.mask is not None)


def segmentations(context: Context) -> tuple[Drawn, ...]:
    """The segmentation of every finding with a mask, in as many objects as the profile makes of it; () without any.

    Raises ValueError for a mask of another shape than the volume.
    """
    findings = located(context.findings.items)
    masks = [f.mask for f in findings if f.mask is not None]
    shape = (len(context.source.slices), context.source.rows, context.source.columns)
    for finding, mask in zip(findings, masks, strict=True):
        if mask.shape != shape:
            raise ValueError(f"the mask of {finding.tracking_id!r} is {mask.shape}, its volume {shape}")
    if not masks:
        return ()
    laid_out = parts(masks, context.profile)
    form = form_of(context.profile, laid_out)
    return tuple(segmentation(context, form, n, part, findings, masks) for n, part in enumerate(laid_out, start=1))


def form_of(profile: Profile, laid_out: Sequence[Part]) -> Form:
    """What makes these objects others than the single BINARY one; a cap that nothing exceeds does not."""
    kind = (profile.seg,) if profile.seg and profile.labelled else ()
    split = len(laid_out) > 1 and profile.frame_cap is not None
    return (*kind, *((f"at most {profile.frame_cap} frames",) if split else ()))


def segmentation(
    context: Context, form: Form, number: int, part: Part, findings: Sequence[Finding], masks: Sequence[BoolArray]
) -> Drawn:
    labels = context.profile.labelled
    ds = described(
        context,
        sop_class_uid=LABELMAP_SOP_CLASS_UID if labels else SOP_CLASS_UID,
        role=SEG,
        instance="seg" if number == 1 else f"seg-{number}",
        number=number,
        modality="SEG",
        description="segmentation",
        form=form,
    )
    image(ds, context, part)
    dimensions(ds, segments=not labels)
    shown = [findings[mask] for mask in part.masks]
    ds.SegmentSequence = [segment(f, n, context.model) for n, f in enumerate(shown, start=1)]
    if labels:
        # last: OHIF 3.13 takes the first item for the value 1, whatever its number
        ds.SegmentSequence.append(background())
    ds.SharedFunctionalGroupsSequence = [shared_groups(context.source)]
    ds.ReferencedSeriesSequence = [referenced_series(context.source, part.frames.slices)]
    made = DicomObject(
        kind="seg",
        sop_class_uid=str(ds.SOPClassUID),
        sop_uid=str(ds.SOPInstanceUID),
        series_uid=str(ds.SeriesInstanceUID),
        body=b"".join(written(ds, context, part, masks)),
    )
    numbers = enumerate([] if labels else part.masks, start=1)
    return Drawn(object=made, form=form, numbers={findings[m].tracking_uid: n for n, m in numbers if m in part.whole})


def written(ds: Dataset, context: Context, part: Part, masks: Sequence[BoolArray]) -> list[bytes | memoryview]:
    """The file in pieces: the header, and the two elements that come after all others (tags ascend, PS3.5 section 7.1)."""
    groups = functional_groups(part.frames, context.source)
    before = head(0x52009230, b"SQ", len(groups))
    if context.profile.seg == "labelmap-rle":
        pixels = encapsulated(labelled(part, masks))
        return [file_bytes(ds, RLELossless), before, groups, head(0x7FE00010, b"OB", ENCAPSULATED), pixels]
    if context.profile.labelled:
        raw = np.stack(list(labelled(part, masks)))
        vr, padding = b"OB" if raw.itemsize == 1 else b"OW", b"\0" * (raw.nbytes % 2)
        pixel_head = head(0x7FE00010, vr, raw.nbytes + len(padding))
        return [file_bytes(ds), before, groups, pixel_head, raw.data, padding]
    bits = packed(part, masks)
    return [file_bytes(ds, ExplicitVRLittleEndian), before, groups, head(0x7FE00010, b"OB", bits.nbytes), bits.data]


def image(ds: Dataset, context: Context, part: Part) -> None:
    """Frame of reference, image pixel and segmentation image modules (PS3.3 C.7.4.1, C.8.20.2)."""
    source, labels = context.source, context.profile.labelled
    place(ds, source)
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns, ds.NumberOfFrames = source.rows, source.columns, len(part.frames)
    ds.BitsAllocated = ds.BitsStored = label_type(part)().itemsize * 8 if labels else 1
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, 0
    ds.LossyImageCompression = "00"
    ds.SegmentationType = "LABELMAP" if labels else "BINARY"
    if labels:
        ds.SegmentsOverlap = "NO"
        ds.add_new(0x00280120, "US", 0)  # Pixel Padding Value
        ds.PresentationLUTShape = "IDENTITY"
    ds.ContentLabel = "AI_RESULT"
    ds.ContentDescription = NOT_VERIFIED
    ds.ContentCreatorName = ""
    compression(ds, source)


def background() -> Dataset:
    """Segment 0 of a label map: what no finding covers."""
    return dataset(
        SegmentNumber=0,
        SegmentLabel="Background",
        SegmentAlgorithmType="AUTOMATIC",
        SegmentAlgorithmName="radnode",
        SegmentedPropertyCategoryCodeSequence=[codes.item(codes.BACKGROUND)],
        SegmentedPropertyTypeCodeSequence=[codes.item(codes.BACKGROUND)],
        RecommendedDisplayCIELabValue=cielab((0, 0, 0)),
    )


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


def cielab(rgb: tuple[int, int, int]) -> list[int]:
    """An sRGB colour as the three 16-bit numbers of PS3.3 C.10.7.1.1."""
    lightness, a, b = (float(v) for v in rgb2lab([[[c / 255 for c in rgb]]])[0, 0])
    return [round(lightness * 65535 / 100), round((a + 128) * 65535 / 255), round((b + 128) * 65535 / 255)]
