"""A study as models see it: series of image headers, files not yet decoded."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from radnode_inference.header import Header, NotDicomError

GENERATOR_CREATOR = "RADNODE GENERATOR"
"""Private creator (0099,0010) that the node's own generator writes; its value (0099,1001) is the generator's version."""
GENERATOR_CREATOR_TAG, GENERATOR_VERSION_TAG = 0x00990010, 0x00991001


SUBJECT = (
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "AccessionNumber", "StudyID", "StudyDate", "StudyTime", "StudyDescription", "ReferringPhysicianName",
)  # fmt: skip
"""Whose images they are, and of which examination. PS3.3 C.7.1.1, C.7.2.1."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One series: at least one header, all with the same Series Instance UID."""

    series_uid: str
    headers: tuple[Header, ...]

    @property
    def modality(self) -> str:
        return self.headers[0].text("Modality")

    @property
    def description(self) -> str:
        return self.headers[0].text("SeriesDescription")


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study: its series in the order of their Series Number, then UID. priors: earlier ones of the patient, newest first.

    regions: segmentations and structure sets that were kept apart from the images; no model reads them as images.
    """

    study_uid: str
    series: tuple[Series, ...]
    priors: tuple["Study", ...] = ()
    regions: tuple[Series, ...] = ()

    @cached_property
    def generated(self) -> bool:
        """Whether every image was made and marked by the node's own generator."""
        return all(is_generated(h) for s in self.series for h in s.headers)

    def subject(self, series_uid: str) -> str:
        """A digest of what the images of a series say of the patient and the study, however it is encoded: results copy it,
        so a corrected name makes another result."""
        headers = (h for s in self.series if s.series_uid == series_uid for h in s.headers)
        said = sorted({repr([h.text(keyword) for keyword in SUBJECT]) for h in headers})
        return hashlib.sha256(repr(said).encode()).hexdigest()

    @property
    def patients(self) -> frozenset[str]:
        """The Patient IDs that the images name."""
        return frozenset(h.text("PatientID") for s in self.series for h in s.headers) - {""}

    @classmethod
    def from_files(cls, files: Iterable[Path]) -> "Study":
        """Group the files by series. Raises ValueError when there are none, or of several studies.

        Files that are not DICOM are passed over: a folder often holds a DICOMDIR, a README or thumbnails.
        """
        by_series: dict[str, list[Header]] = {}
        studies: set[str] = set()
        for path in sorted(files):
            try:
                header = Header.read(path)
            except NotDicomError:
                continue
            if not header.text("SOPInstanceUID") or not header.text("StudyInstanceUID"):
                continue
            studies.add(header.text("StudyInstanceUID"))
            by_series.setdefault(header.text("SeriesInstanceUID"), []).append(header)
        if not by_series:
            raise ValueError("there is no DICOM image here")
        if len(studies) > 1:
            raise ValueError(f"these files are of {len(studies)} studies; one at a time, please")
        series = [Series(series_uid=uid, headers=tuple(headers)) for uid, headers in by_series.items()]
        series.sort(key=lambda s: (s.headers[0].number("SeriesNumber") or 0, s.series_uid))
        return cls(study_uid=studies.pop(), series=tuple(series))

    @classmethod
    def from_folder(cls, folder: Path) -> "Study":
        """Every DICOM file below `folder`."""
        return cls.from_files(p for p in folder.rglob("*") if p.is_file())


def is_generated(header: Header) -> bool:
    creator = header.elements.get(GENERATOR_CREATOR_TAG)
    return (
        creator is not None
        and creator[1].strip(b"\0 ") == GENERATOR_CREATOR.encode()
        and GENERATOR_VERSION_TAG in header.elements
    )
