"""Key images: one Secondary Capture per abnormality, for viewers that show neither SEG nor SR (PS3.3 A.8.1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from radnode_dicom_sr import codes
from radnode_dicom_sr.contour import areas
from radnode_dicom_sr.dataset import DEMONSTRATION, NOT_VERIFIED, Context, described, file_bytes
from radnode_dicom_sr.elements import dataset
from radnode_dicom_sr.identity import KEY_IMAGES, DicomObject
from radnode_dicom_sr.multiframe import compression
from radnode_dicom_sr.picture import Outlined, Picture
from radnode_dicom_sr.segmentation import located
from radnode_dicom_sr.source import clip
from radnode_inference.findings import Finding, Kind

SOP_CLASS_UID = str(SecondaryCaptureImageStorage)
AT_MOST = 10
LUNG_WINDOW, SOFT_TISSUE_WINDOW = (-600.0, 1500.0), (40.0, 400.0)
LUNG_CODES = frozenset({"39607008", "3341006", "44029006", "89187006", "44567001", "27925004", "26727000", "427359005"})
"""SCT lung, right and left lung, airways, trachea, nodules: seen in the lung window."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KeyPicture:
    """One drawn picture. pixels: uint8 [row, column, RGB]; index: of the slice; words: its first caption line."""

    pixels: NDArray[np.uint8]
    index: int
    words: str


def key_pictures(context: Context) -> tuple[KeyPicture, ...]:
    """The abnormalities with a place, most probable and then largest first, and one overview of all organs."""
    found = located(context.findings.items)
    colours = {f.tracking_uid: codes.colour(f, i) for i, f in enumerate(found)}
    abnormal = sorted((f for f in found if f.kind is Kind.ABNORMALITY), key=importance)
    shown, left_out = abnormal[:AT_MOST], len(abnormal) - len(abnormal[:AT_MOST])
    pictures = []
    for number, finding in enumerate(shown, start=1):
        rest = [f"{left_out} smaller or less probable findings have no picture."] if left_out and number == 1 else []
        words = [f"{number} of {len(abnormal)}: {sentence(finding)}", *rest]
        pictures.append(key_picture(context, [finding], colours, words))
    organs = [f for f in found if f.kind is Kind.ANATOMY]
    if organs:
        words = ["Outlined: " + ", ".join(codes.place(f) for f in organs)]
        pictures.append(key_picture(context, organs, colours, words))
    return tuple(pictures)


def key_images(context: Context, pictures: Sequence[KeyPicture]) -> tuple[DicomObject, ...]:
    return tuple(captured(context, picture, number) for number, picture in enumerate(pictures, start=1))


def importance(finding: Finding) -> tuple[float, int]:
    size = int(np.count_nonzero(finding.mask)) if finding.mask is not None else 0
    return -(finding.probability or 0.0), -size


def sentence(finding: Finding) -> str:
    """A finding in words and numbers: "Lesion, left breast, probability of cancer 87 %, long axis 14.2 mm"."""
    parts = [codes.label(finding)]
    if finding.probability is not None:
        parts.append(f"{codes.in_text(codes.probability_concept(finding))} {100 * finding.probability:.0f} %")
    parts += [
        f"{codes.in_text(m.concept)} {m.value:.4g} {codes.unit(m.unit)}".strip() for m in finding.measurements[:3]
    ]
    return ", ".join(parts)


def key_picture(
    context: Context, findings: Sequence[Finding], colours: dict[str, tuple[int, int, int]], words: Sequence[str]
) -> KeyPicture:
    """One picture of the slice on which `findings` together are largest."""
    masks = [f.mask for f in findings if f.mask is not None]
    index = int(np.sum([areas(m) for m in masks], axis=0).argmax())
    source, model = context.source, context.model
    picture = Picture(
        pixels=context.findings.volume.voxels[index],
        spacing=source.spacing[1:],
        window=window(context, findings[0], index),
        shapes=[
            Outlined(mask=f.mask[index], colour=colours[f.tracking_uid])
            for f in findings
            if f.mask is not None and f.mask[index].any()
        ],
        caption=[*words, f"{NOT_VERIFIED}. {model.name} {model.version}, slice {index + 1} of {len(source.slices)}"],
        banner=DEMONSTRATION if model.demonstration else "",
        directions=directions(source.orientation),
    )
    return KeyPicture(pixels=picture.draw(), index=index, words=words[0])


def window(context: Context, finding: Finding, index: int) -> tuple[float, float]:
    """Centre and width: lung or soft tissue on CT, the slice's own range otherwise."""
    if context.source.modality == "CT":
        shown = {finding.concept.value, finding.site.value if finding.site else ""}
        return LUNG_WINDOW if shown & LUNG_CODES else SOFT_TISSUE_WINDOW
    low, high = (float(v) for v in np.percentile(context.findings.volume.voxels[index], (1.0, 99.7)))
    return (low + high) / 2, max(high - low, 1e-3)


def directions(orientation: Sequence[float]) -> tuple[str, str, str, str]:
    """What lies at the left, right, top and bottom edge of the image."""
    right, bottom = (letter(np.asarray(orientation[i : i + 3])) for i in (0, 3))
    left, top = (letter(-np.asarray(orientation[i : i + 3])) for i in (0, 3))
    return left, right, top, bottom


def letter(axis: NDArray[np.float64]) -> str:
    """The letter of the patient direction nearest to an LPS vector (PS3.3 C.7.6.1.1.1)."""
    main = int(np.abs(axis).argmax())
    return ("LR", "PA", "HF")[main][0 if axis[main] > 0 else 1]


def captured(context: Context, picture: KeyPicture, number: int) -> DicomObject:
    """The picture as a Secondary Capture that names the image it was drawn on."""
    source = context.source
    ds = described(
        context,
        sop_class_uid=SOP_CLASS_UID,
        role=KEY_IMAGES,
        instance=f"key-image-{number}",
        number=number,
        modality="OT",
        description="key images",
    )
    _, right, _, bottom = directions(source.orientation)
    ds.PatientOrientation = [right, bottom]
    ds.ImageComments = ds.DerivationDescription = clip(picture.words, 1024)
    origin = source.slices[picture.index]
    reference = dataset(ReferencedSOPClassUID=origin.sop_class_uid, ReferencedSOPInstanceUID=origin.sop_uid)
    if origin.frame is not None:
        reference.ReferencedFrameNumber = origin.frame
    reference.PurposeOfReferenceCodeSequence = [codes.item(codes.SOURCE_IMAGE)]
    ds.SourceImageSequence = [reference]
    capture(ds, picture.pixels)
    compression(ds, source)
    return DicomObject(
        kind="key-image",
        sop_class_uid=SOP_CLASS_UID,
        sop_uid=str(ds.SOPInstanceUID),
        series_uid=str(ds.SeriesInstanceUID),
        body=file_bytes(ds),
    )


def capture(ds: Dataset, pixels: NDArray[np.uint8]) -> None:
    """The modules of a Secondary Capture, its pixels uint8 [row, column, RGB]."""
    ds.ConversionType = "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.DateOfSecondaryCapture, ds.TimeOfSecondaryCapture = ds.ContentDate, ds.ContentTime
    if ds.get("BodyPartExamined") not in codes.UNPAIRED:
        ds.Laterality = ""  # a paired or unknown part: unknown for the series, and told for each finding
    if "PatientOrientation" not in ds:
        ds.PatientOrientation = ""
    rgb(ds, pixels)


def rgb(ds: Dataset, pixels: NDArray[np.uint8]) -> None:
    """The image pixel module for uint8 [row, column, RGB]."""
    ds.Rows, ds.Columns, ds.SamplesPerPixel = *pixels.shape[:2], 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    data = pixels.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB"
