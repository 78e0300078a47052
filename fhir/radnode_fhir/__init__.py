"""Findings to FHIR R4: DiagnosticReport, Observation, ImagingStudy and Device as one transaction Bundle."""
