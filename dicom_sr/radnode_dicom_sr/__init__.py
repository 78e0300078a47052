"""Findings to DICOM: structured reports, segmentations and key images."""

from radnode_dicom_sr.identity import DicomObject, Previous
from radnode_dicom_sr.objects import build

__all__ = ["DicomObject", "Previous", "build"]
