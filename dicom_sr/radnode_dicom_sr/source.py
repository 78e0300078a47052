"""What results inherit from the images they were made of: patient and study attributes, and where each slice lies.

Real headers have absent, empty, over-long and undecodable values. What identifies the patient and the study is kept
character for character; what only describes is made valid or left out.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.charset import decode_bytes
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from radnode_inference.header import Header
from radnode_inference.study import Study
from radnode_inference.volume import Volume

NAME_DELIMITERS = {0x5C, 0x3D, 0x5E}  # PS3.5 section 6.1.2.5.3: each returns to the first character set
TOLERANCE_MM = 0.1
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One slice of the source. position: Image Position (Patient) as decimal strings."""

    sop_class_uid: str
    sop_uid: str
    frame: int | None
    position: tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Source:
    """The series that a result lies on.

    inherited: patient and study attributes, valid, decoded. slices: in the order of the volume.
    series_numbers: of the whole study, by Series Instance UID.
    orientation: Image Orientation (Patient), row then column direction cosines. spacing: mm along (slice, row, column index).
    """

    inherited: Dataset
    study_uid: str
    series_uid: str
    modality: str
    frame_of_reference_uid: str
    slices: tuple[Slice, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, float, float]
    slice_thickness: float
    rows: int
    columns: int
    headers: dict[str, Header]
    lossy: bool
    series_numbers: dict[str, int]

    @property
    def whole(self) -> bool:
        """Whether its images hold nothing but the slices: not those of other phases as well."""
        used = {s.sop_uid for s in self.slices}
        return sum(int(self.headers[uid].number("NumberOfFrames") or 1) for uid in used) == len(self.slices)

    @classmethod
    def of(cls, study: Study, volume: Volume) -> "Source":
        """Raises ValueError when the volume does not lie on the grid of its series: a mask would be drawn elsewhere."""
        headers: dict[str, Header] = {}
        for series in study.series:
            if series.series_uid == volume.series_uid:
                for header in series.headers:
                    headers.setdefault(header.text("SOPInstanceUID"), header)
        missing = [s.sop_uid for s in volume.sources if s.sop_uid not in headers]
        if missing:
            raise ValueError(f"{len(missing)} source images are not in series {volume.series_uid}: {missing[0]} …")
        first = headers[volume.sources[0].sop_uid]
        _, rows, columns = volume.shape
        if (first.unsigned("Rows"), first.unsigned("Columns")) != (rows, columns):
            raise ValueError(f"the volume has {rows}×{columns} pixels a slice, its source images another size")
        step, down, right = (volume.affine[:3, i] for i in range(3))
        return cls(
            inherited=inherited(first),
            study_uid=study.study_uid,
            series_uid=volume.series_uid,
            modality=first.text("Modality"),
            frame_of_reference_uid=volume.frame_of_reference_uid,
            slices=slices(volume, headers),
            orientation=orientation(first, right, down),
            spacing=volume.spacing,
            slice_thickness=first.number("SliceThickness") or float(np.linalg.norm(step)),
            rows=rows,
            columns=columns,
            headers=headers,
            lossy=first.text("LossyImageCompression") == "01",
            series_numbers=series_numbers(study),
        )


def series_numbers(study: Study) -> dict[str, int]:
    """Series Instance UID -> Series Number, of the series that have one."""
    numbers = {s.series_uid: s.headers[0].number("SeriesNumber") for s in study.series}
    return {uid: int(number) for uid, number in numbers.items() if number is not None}


def slices(volume: Volume, headers: dict[str, Header]) -> tuple[Slice, ...]:
    """Where each slice lies, in its own image's words. Raises ValueError when image and volume disagree."""
    found = []
    for index, source in enumerate(volume.sources):
        computed = volume.to_lps((index, 0, 0))
        header = headers[source.sop_uid]
        words = header.texts("ImagePositionPatient") if source.frame is None else ()
        own = header.numbers("ImagePositionPatient") if source.frame is None else ()
        if len(own) == 3:
            if max(abs(a - b) for a, b in zip(own, computed, strict=True)) > TOLERANCE_MM:
                raise ValueError(f"slice {index} of the volume does not lie where its image {source.sop_uid} lies")
            position = (words[0], words[1], words[2])
        else:
            position = (decimal(computed[0]), decimal(computed[1]), decimal(computed[2]))
        found.append(
            Slice(sop_class_uid=source.sop_class_uid, sop_uid=source.sop_uid, frame=source.frame, position=position)
        )
    return tuple(found)


def orientation(image: Header, right: NDArray[np.float64], down: NDArray[np.float64]) -> tuple[float, ...]:
    """The direction cosines exactly as the image states them: OHIF 3.13 shows a map only over numbers equal to its own.

    Computed from the volume where the image does not state them itself (enhanced images do so per frame).
    """
    computed = tuple(float(v) for axis in (right, down) for v in axis / np.linalg.norm(axis))
    stated = image.numbers("ImageOrientationPatient")
    return stated if len(stated) == 6 and np.allclose(stated, computed, atol=1e-3) else computed


def decimal(value: float) -> str:
    """A Decimal String (PS3.5 section 6.2) of at most 16 characters, without a negative zero; exact where that is room enough."""
    text = next(t for digits in (15, 10) if len(t := f"{value:.{digits}g}") <= 16 or digits == 10)
    return "0" if float(text) == 0 else text if len(text) <= 16 else f"{value:.9e}"


def inherited(header: Header) -> Dataset:
    """Patient, study and body part attributes of one image, as UTF-8."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    for keyword, tag in IDENTIFYING.items():
        ds.add(DataElement(tag, dictionary_VR(tag), exact(header, keyword), validation_mode=IGNORE))
    for keyword, valid in DESCRIPTIVE.items():
        value = valid(header.text(keyword))
        if value or keyword in EMPTY_WHEN_UNKNOWN:
            setattr(ds, keyword, value)
    if header.text("PatientIdentityRemoved") == "YES" and header.text("DeidentificationMethod"):
        ds.PatientIdentityRemoved = "YES"
        ds.DeidentificationMethod = [clip(t, 64) for t in header.texts("DeidentificationMethod")]
    return ds


def exact(header: Header, keyword: str) -> str:
    """A value that identifies: only padding goes. A person name is decoded with its own delimiters."""
    if keyword != "PatientName":
        return header.text(keyword)
    try:
        name = decode_bytes(header.raw(keyword) or b"", header.encodings, NAME_DELIMITERS)
    except (LookupError, UnicodeError):
        name = header.text(keyword)
    return CONTROL.sub("", name.rstrip("\0 "))


def clip(text: str, length: int) -> str:
    """Text without control characters and backslashes, cut to `length` characters."""
    return CONTROL.sub("", text).replace("\\", "/")[:length].strip()


def text_of(length: int) -> Callable[[str], str]:
    return lambda text: clip(text, length)


def matching(pattern: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)
    return lambda text: text if compiled.fullmatch(text) else ""


def date(text: str) -> str:
    """A DICOM date; ACR-NEMA's dotted form is made one, anything else is unknown."""
    text = text.replace(".", "").strip()
    valid = re.fullmatch(r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", text)
    return text if valid else ""


def time(text: str) -> str:
    text = text.replace(":", "").strip()
    return text if re.fullmatch(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?", text) else ""


def person(text: str) -> str:
    """A person name that describes: each component group at most 64 characters (PS3.5 section 6.2)."""
    return "=".join(CONTROL.sub("", group)[:64] for group in text.replace("\\", " ").split("=")[:3])


def positive(text: str) -> str:
    """A decimal string above zero."""
    return text if re.fullmatch(r"\d{1,8}(\.\d{1,6})?", text) and float(text) > 0 else ""


IDENTIFYING = {"PatientName": 0x00100010, "PatientID": 0x00100020, "AccessionNumber": 0x00080050, "StudyID": 0x00200010}
DESCRIPTIVE: dict[str, Callable[[str], str]] = {
    "IssuerOfPatientID": text_of(64),
    "PatientBirthDate": date,
    "PatientSex": matching("[MFO]"),
    "PatientAge": matching(r"\d{3}[DWMY]"),
    "PatientSize": positive,
    "PatientWeight": positive,
    "StudyDate": date,
    "StudyTime": time,
    "StudyDescription": text_of(64),
    "ReferringPhysicianName": person,
    "BodyPartExamined": matching(r"[A-Z0-9 _]{1,16}"),
    "TimezoneOffsetFromUTC": matching(r"[+-]\d{4}"),
}
EMPTY_WHEN_UNKNOWN = frozenset({"PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName"})
