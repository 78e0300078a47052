"""Findings to DICOM: structured reports, segmentations and what else a destination takes; and reports read back."""

from radnode_dicom_sr.actionable import actionable
from radnode_dicom_sr.identity import DicomObject, Previous
from radnode_dicom_sr.objects import build, printable
from radnode_dicom_sr.pdf import printed
from radnode_dicom_sr.profiles import DEFAULT, Profile
from radnode_dicom_sr.read import read
from radnode_dicom_sr.read_back import Document, Outline, ReadFinding, SegmentReference
from radnode_dicom_sr.selection import retraction
from radnode_dicom_sr.status import status

__all__ = [
    "DEFAULT",
    "DicomObject",
    "Document",
    "Outline",
    "Previous",
    "Profile",
    "ReadFinding",
    "SegmentReference",
    "actionable",
    "build",
    "printable",
    "printed",
    "read",
    "retraction",
    "status",
]
