"""Findings to DICOM: structured reports, segmentations and key images."""
