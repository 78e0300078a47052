"""Findings to DICOM: structured reports, segmentations and key images."""

from radnode_dicom_sr.identity import DicomObject, Previous
from radnode_dicom_sr.objects import build
from radnode_dicom_sr.profile import DEFAULT, Profile

__all__ = ["DEFAULT", "DicomObject", "Previous", "Profile", "build"]
