"""The frames of a series: where each one lies and how its stored values become modality units. No pixels are read here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pydicom
from numpy.typing import NDArray

from radnode_inference.header import Header
from radnode_inference.model import DeclinedError
from radnode_inference.volume import SourceFrame

Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One image plane.

    number: counts from 1 inside its file. position: LPS mm of the centre of the first voxel (PS3.3 C.7.6.2.1.1).
    along_row, along_column: unit vectors in which the column index and the row index increase.
    pixel_spacing: mm between rows, mm between columns. slope, intercept: stored value -> modality unit.
    temporal_position: the time point inside a dynamic series, None where the file does not say.
    acquired: Frame Acquisition DateTime or Acquisition DateTime or Acquisition Time as written; "" where absent.
    stack_id: of a frame of an enhanced image (PS3.3 C.7.6.16.2.2.4); "" for others.
    """

    header: Header
    number: int
    position: Vector
    along_row: Vector
    along_column: Vector
    pixel_spacing: tuple[float, float]
    slope: float = 1.0
    intercept: float = 0.0
    temporal_position: int | None = None
    acquired: str = ""
    stack_id: str = ""

    @property
    def normal(self) -> Vector:
        return np.cross(self.along_row, self.along_column)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.header.unsigned("Rows") or 0, self.header.unsigned("Columns") or 0

    @property
    def source(self) -> SourceFrame:
        return SourceFrame(
            sop_class_uid=self.header.text("SOPClassUID"),
            sop_uid=self.header.text("SOPInstanceUID"),
            frame=self.number if "NumberOfFrames" in frame_words(self.header) else None,
        )


def frames_of(headers: Sequence[Header]) -> tuple[Frame, ...]:
    """Every frame of the images, in the order of the files; an object that is there twice counts once.

    Raises DeclinedError `no-images`, `pixel-data` (an object without pixels), `no-position`, `impossible-orientation` or `impossible-spacing`.
    """
    images = {h.text("SOPInstanceUID") or str(i): h for i, h in reversed(list(enumerate(headers)))}
    unique = list(reversed(images.values()))
    if not any(h.pixel_offset is not None for h in unique):
        raise DeclinedError("no-images", "the series holds no image")
    without = sum(h.pixel_offset is None for h in unique)
    if without:
        raise DeclinedError("pixel-data", f"{without} of {len(unique)} objects of the series hold no pixels")
    return tuple(f for h in unique for f in (enhanced(h) if frame_words(h) else [single(h)]))


def frame_words(header: Header) -> tuple[str, ...]:
    """("NumberOfFrames",) for a multi-frame image; () for a classic one, also where it says "1 frame" without groups."""
    many = (header.number("NumberOfFrames") or 1) > 1
    return ("NumberOfFrames",) if many or header.raw("PerFrameFunctionalGroupsSequence") else ()


def single(header: Header) -> Frame:
    """The frame of a single-frame image (PS3.3 C.7.6.2, C.11.1)."""
    if header.raw("ModalityLUTSequence"):
        raise DeclinedError("pixel-data", "the images carry a modality look-up table, which is not supported")
    temporal = header.number("TemporalPositionIdentifier")
    return placed(
        header,
        number=1,
        position=header.numbers("ImagePositionPatient"),
        orientation=header.numbers("ImageOrientationPatient"),
        spacing=header.numbers("PixelSpacing"),
        slope=stated(header, "RescaleSlope"),
        intercept=stated(header, "RescaleIntercept"),
        temporal_position=None if temporal is None else int(temporal),
        acquired=header.text("AcquisitionDateTime") or header.text("AcquisitionTime"),
    )


def stated(header: Header, keyword: str) -> float | None:
    """A number that is there or not; what is there and no number is not taken for 0 or 1. Raises DeclinedError `pixel-data`."""
    found = header.number(keyword)
    if found is None and (text := header.text(keyword)):
        raise DeclinedError("pixel-data", f"the {keyword} of an image is no number ({text!r})")
    return found


def enhanced(header: Header) -> Iterator[Frame]:
    """The frames of an enhanced multi-frame image by its functional groups (PS3.3 C.7.6.16)."""
    try:
        yield from grouped(header)
    except (ValueError, TypeError) as e:  # how pydicom meets a number that is none
        raise DeclinedError("no-position", f"the functional groups of an image cannot be read ({e})") from e


def grouped(header: Header) -> Iterator[Frame]:
    dataset = header.dataset()
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    count = int(header.number("NumberOfFrames") or 1)
    if len(groups) != count:
        raise DeclinedError("no-position", f"{len(groups)} of {count} frames of a multi-frame image say where they lie")
    for number, group in enumerate(groups, 1):
        transformation = macro(group, shared, "PixelValueTransformationSequence")
        content = macro(group, shared, "FrameContentSequence")
        yield placed(
            header,
            number=number,
            position=values(macro(group, shared, "PlanePositionSequence"), "ImagePositionPatient"),
            orientation=values(macro(group, shared, "PlaneOrientationSequence"), "ImageOrientationPatient"),
            spacing=values(macro(group, shared, "PixelMeasuresSequence"), "PixelSpacing"),
            slope=next(iter(values(transformation, "RescaleSlope")), None),
            intercept=next(iter(values(transformation, "RescaleIntercept")), None),
            temporal_position=content.get("TemporalPositionIndex"),
            acquired=str(content.get("FrameAcquisitionDateTime") or header.text("AcquisitionDateTime")),
            stack_id=str(content.get("StackID") or ""),
        )


def macro(group: pydicom.Dataset, shared: pydicom.Dataset, keyword: str) -> pydicom.Dataset:
    """A functional group macro of one frame: its own, else the shared one, else empty."""
    found = group.get(keyword) or shared.get(keyword)
    return found[0] if found else pydicom.Dataset()


def values(dataset: pydicom.Dataset, keyword: str) -> tuple[float, ...]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return ()
    return tuple(float(v) for v in value) if hasattr(value, "__iter__") else (float(value),)


def placed(
    header: Header,
    *,
    number: int,
    position: tuple[float, ...],
    orientation: tuple[float, ...],
    spacing: tuple[float, ...],
    slope: float | None,
    intercept: float | None,
    temporal_position: int | None,
    acquired: str,
    stack_id: str = "",
) -> Frame:
    """A frame with its attributes checked. Raises DeclinedError `no-position`, `impossible-orientation`, `impossible-spacing` or `pixel-data`."""
    for name, found, wanted in (
        ("position", position, 3),
        ("orientation", orientation, 6),
        ("pixel spacing", spacing, 2),
    ):
        if len(found) != wanted or not np.isfinite(found).all():
            raise DeclinedError("no-position", f"an image does not state its {name} in the patient")
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
    if abs(np.array(lengths) - 1).max() > 0.01 or abs(along_row @ along_column) > 0.01:
        stated = "\\".join(f"{v:g}" for v in orientation)
        raise DeclinedError("impossible-orientation", f"an image's rows and columns cannot lie as it states ({stated})")
    scale = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    if not np.isfinite(scale).all() or scale[0] == 0:
        raise DeclinedError("pixel-data", f"an image states a rescale of {scale[0]:g} and {scale[1]:g}")
    if min(spacing) <= 0:
        stated = " and ".join(f"{v:g}" for v in spacing)
        raise DeclinedError("impossible-spacing", f"an image states pixels of {stated} mm")
    return Frame(
        header=header,
        number=number,
        position=np.array(position),
        along_row=along_row / lengths[0],
        along_column=along_column / lengths[1],
        pixel_spacing=(spacing[0], spacing[1]),
        slope=scale[0],
        intercept=scale[1],
        temporal_position=temporal_position,
        acquired=acquired,
        stack_id=stack_id,
    )
