"""Small generated studies with their truth, for tests that need something quick and real to send."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radnode_inference.generator import breast as breast_generator
from radnode_inference.generator import chest as chest_generator
from radnode_inference.generator.dicom_enhanced import write_enhanced
from radnode_inference.generator.dicom_parts import Layout, Order
from radnode_inference.generator.dicom_writer import write_breast, write_chest
from radnode_inference.generator.fields import Orientation
from radnode_inference.generator.stacks import breast_series


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A study on disk. truth: bool [slice, row, column] of the lesions on the grid of `affine` (index -> LPS mm)."""

    study_uid: str
    files: tuple[Path, ...]
    truth: NDArray[np.bool_]
    affine: NDArray[np.float64]


def small_breast(
    folder: Path,
    *,
    seed: int,
    lesion: bool = True,
    shape: tuple[int, int, int] = (24, 80, 80),
    phases: int = 6,
    orientation: str = "axial",
    patient_position: str = "HFP",
    layout: Layout = Layout.SERIES,
    square_pixels: bool = False,
    enhanced_phases: bool = False,
) -> Sample:
    """A dynamic breast MR that `mr-breast-kinetics` reads in a second or so; a series for each phase.

    enhanced_phases: each phase is one enhanced image, instead of single-frame ones.
    """
    phantom = breast_generator.phantom(
        seed,
        lesion=lesion,
        shape=shape,
        phases=phases,
        orientation=Orientation(orientation),
        patient_position=patient_position,
        other_sequences=False,
        square_pixels=square_pixels,
    )
    order = Order(
        patient_name=f"Generated^Breast {seed}",
        patient_id=f"BREAST-{seed}",
        accession_number=f"B{seed}",
        study_description="MR BREAST BILATERAL DYNAMIC",
        identity=f"{folder.name}-{seed}",
        patient_position=patient_position,
        layout=layout,
    )
    if enhanced_phases:
        files = tuple(write_enhanced(s, folder, order) for s in breast_series(phantom, order))
    else:
        files = write_breast(phantom, folder, order)
    return Sample(study_uid=study_of(files), files=files, truth=phantom.lesion_mask, affine=phantom.grid.affine)


def small_chest(folder: Path, *, seed: int, nodules: bool = True) -> Sample:
    """A chest CT that `ct-lung` reads in a few seconds."""
    return chest(folder, seed=seed, nodules=nodules, shape=(110, 128, 128))


def chest(folder: Path, *, seed: int, shape: tuple[int, int, int], nodules: bool = True) -> Sample:
    """A chest CT of any number of slices, rows and columns."""
    phantom = chest_generator.phantom(seed, nodules=nodules, shape=shape)
    order = Order(
        patient_name=f"Generated^Chest {seed}",
        patient_id=f"CHEST-{seed}",
        accession_number=f"C{seed}",
        study_description="CT CHEST",
        patient_sex="M",
        body_part="CHEST",
        identity=f"{folder.name}-{seed}",
    )
    files = write_chest(phantom, folder, order)
    return Sample(study_uid=study_of(files), files=files, truth=phantom.nodule_mask, affine=phantom.grid.affine)


def study_of(files: tuple[Path, ...]) -> str:
    from radnode_inference.header import Header

    return Header.read(files[0]).text("StudyInstanceUID")
