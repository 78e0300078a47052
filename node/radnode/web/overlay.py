"""Images of a study for its page: a thumbnail of each series, and the slice that shows a finding best, its outline apart.

An outline comes from the segmentation that the node sent, never from the burned-in key image: so it can be switched off.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import pixel_array
from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode.tables import InstanceRow, ResultRow

THUMBNAIL = 160
MAX_PIXELS = 64_000_000
LUNG_WINDOW = (-600.0, 1500.0)
SOFT_TISSUE_WINDOW = (40.0, 400.0)


class NoPictureError(Exception):
    """There is nothing to show; the sentence says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """Where a finding is seen best. mask: bool [row, column] on that slice. frame counts from 1, None: a classic image."""

    sop_uid: str
    frame: int | None
    mask: NDArray[np.bool_]
    lung: bool


Find = Callable[[tuple[str, ...], str], Shown]


def finder(size: int = 64) -> Find:
    """Looks a finding up in segmentation files by its tracking UID and remembers the last `size` answers."""
    return lru_cache(size)(best_plane)


def best_plane(files: tuple[str, ...], tracking_uid: str) -> Shown:
    """The plane with the most voxels. Raises NoPictureError when no file has it, or the plane names no image."""
    from radnode_dicom_sr.key_images import LUNG_CODES
    from radnode_dicom_sr.read_segmentation import segments

    found = [
        (plane, segment)
        for file in files
        for segment in segments(Path(file).read_bytes())
        if segment.tracking_uid == tracking_uid
        for plane in segment.planes
        if plane.source_sop_uid
    ]
    if not found:
        raise NoPictureError("No segmentation of the node shows this finding.")
    plane, segment = max(found, key=lambda f: int(f[0].mask.sum()))
    codes = {segment.concept.value, segment.site.value if segment.site else ""}
    return Shown(sop_uid=plane.source_sop_uid, frame=plane.source_frame, mask=plane.mask, lung=bool(codes & LUNG_CODES))


def segmentations(session: Session, data: Path, study_uid: str) -> tuple[str, ...]:
    """The files of the segmentations that are current."""
    query = select(ResultRow.file).where(ResultRow.study_uid == study_uid, ResultRow.kind == "seg", ResultRow.current)
    return tuple(str(data / file) for file in session.scalars(query.order_by(ResultRow.uid)))


def image_file(session: Session, data: Path, study_uid: str, sop_uid: str) -> Path:
    """Raises NoPictureError when the node does not hold this image."""
    query = select(InstanceRow.file).where(
        InstanceRow.study_uid == study_uid, InstanceRow.sop_uid == sop_uid, InstanceRow.current
    )
    return held(data, session.scalars(query).first())


def middle_file(session: Session, data: Path, study_uid: str, series_uid: str) -> Path:
    """The object in the middle of a series, in the order of arrival."""
    query = select(InstanceRow.file).where(
        InstanceRow.study_uid == study_uid, InstanceRow.series_uid == series_uid, InstanceRow.current
    )
    files = session.scalars(query.order_by(InstanceRow.id)).all()
    return held(data, files[len(files) // 2] if files else None)


def held(data: Path, file: str | None) -> Path:
    if file is None or not (data / file).is_file():
        raise NoPictureError("The node does not hold this image any more.")
    return data / file


def slice_png(file: Path, shown: Shown) -> bytes:
    """The whole slice, 8 bits of grey: CT in the lung or soft tissue window, others over their own range."""
    values, modality = plane_of(file, shown.frame)
    if values.shape != shown.mask.shape:
        raise NoPictureError("The segmentation lies on another grid than this image.")
    return as_png(windowed(values, (LUNG_WINDOW if shown.lung else SOFT_TISSUE_WINDOW) if modality == "CT" else None))


def outline_svg(shown: Shown) -> str:
    """Every border of the mask as one SVG path, in pixels of the slice; the centre of the first is at (0.5, 0.5)."""
    from radnode_dicom_sr.contour import outlines

    rows, columns = shown.mask.shape
    path = " ".join(
        "M" + " L".join(f"{x + 0.5:.1f},{y + 0.5:.1f}" for y, x in border) + " Z" for border in outlines(shown.mask)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns} {rows}" width="{columns}" height="{rows}">'
        f'<path d="{path}" fill="none" stroke="#000" stroke-width="{columns / 160:.2f}"/>'
        f'<path d="{path}" fill="none" stroke="#ffd400" stroke-width="{columns / 320:.2f}"/></svg>'
    )


def thumbnail_png(file: Path) -> bytes:
    """The middle frame, THUMBNAIL pixels at its longer side."""
    values, modality = plane_of(file, None)
    grey = windowed(values, SOFT_TISSUE_WINDOW if modality == "CT" else None)
    if grey.min() == grey.max():  # all of it outside the window
        grey = windowed(values, None)
    made = Image.fromarray(grey)
    made.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    made.save(buffer, "PNG")
    return buffer.getvalue()


def plane_of(file: Path, frame: int | None) -> tuple[NDArray[np.float64], str]:
    """The values of one frame [row, column] (rescaled; the middle frame where none is named) and the modality."""
    ds = pydicom.dcmread(file)
    frames = int(ds.get("NumberOfFrames", 1) or 1)
    if "Rows" not in ds or int(ds.Rows) * int(ds.Columns) > MAX_PIXELS:
        raise NoPictureError("This object holds no image that can be shown.")
    index = frames // 2 if frame is None else frame - 1
    pixels = pixel_array(ds, index=index) if frames > 1 else ds.pixel_array
    if pixels.ndim == 3:
        pixels = pixels[..., :3].mean(axis=-1)
    values = np.asarray(apply_modality_lut(pixels, ds), dtype=np.float64)
    inverted = str(ds.get("PhotometricInterpretation", "")) == "MONOCHROME1"
    return (-values if inverted else values), str(ds.get("Modality", ""))


def windowed(values: NDArray[np.float64], window: Sequence[float] | None) -> NDArray[np.uint8]:
    """window: centre and width; None: from the 1st to the 99.7th percentile."""
    low, high = (
        (window[0] - window[1] / 2, window[0] + window[1] / 2)
        if window is not None
        else (float(v) for v in np.percentile(values, (1.0, 99.7)))
    )
    grey = np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255
    return grey.round().astype(np.uint8)


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
