"""Breast MR whose slices lie every way, read by a node, sources and results in one PACS."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.dcmtk import storescu
from support.node_process import TestNode, to_orthanc
from support.orthanc import Orthanc
from support.sending import PatientSender
from support.studies import Sample, small_breast

from radnode_inference.generator.dicom_parts import Layout

GEOMETRIES: dict[str, dict[str, Any]] = {
    "axial": {"seed": 31, "orientation": "axial", "patient_position": "HFP"},
    "oblique": {"seed": 36, "orientation": "oblique", "patient_position": "HFP"},
    "feet-first": {"seed": 37, "orientation": "axial", "patient_position": "FFP"},
    "sagittal": {"seed": 33, "orientation": "sagittal", "patient_position": "HFS"},
    "enhanced": {"seed": 37, "orientation": "axial", "patient_position": "HFP", "layout": Layout.ENHANCED},
    "enhanced phases": {"seed": 38, "orientation": "axial", "patient_position": "HFP", "enhanced_phases": True},
}
"""enhanced: all phases in one image; enhanced phases: an image for each."""
OTHERS: dict[str, dict[str, Any]] = {
    "oblong pixels": {"seed": 34, "orientation": "sagittal", "patient_position": "HFS", "square_pixels": False},
    "wide": {"seed": 33, "orientation": "sagittal", "patient_position": "HFS", "shape": (40, 80, 112)},
}
"""What OHIF cannot draw every outline of; more columns than rows."""


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """samples: per geometry the study with its truth. pacs: where its images and every result stand."""

    samples: dict[str, Sample]
    pacs: Orthanc


def deliver(folder: Path, pacs: Orthanc) -> Delivered:
    """Let a node read one study of each geometry."""
    usual = {"shape": (40, 96, 96), "square_pixels": True}
    samples = {name: small_breast(folder / name, **usual | given) for name, given in (GEOMETRIES | OTHERS).items()}
    with TestNode(folder, destinations=[to_orthanc(pacs)], quiet_s=1.0) as node:
        for sample in samples.values():
            PatientSender(lambda: node.receive_port).send(sample.files)
            sent = storescu(pacs.dicom_port, list(sample.files))
            assert sent.returncode == 0, sent.stderr
        for sample in samples.values():
            node.wait_until_delivered(sample.study_uid)
    return Delivered(samples=samples, pacs=pacs)
