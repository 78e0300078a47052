"""Generated patients as DICOM files, in the layouts that scanners use. Every image carries the generator's mark."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from radnode_inference.generator.breast import BreastPhantom, Image
from radnode_inference.generator.chest import ChestPhantom
from radnode_inference.generator.dicom_enhanced import write_enhanced
from radnode_inference.generator.dicom_parts import (
    Layout,
    Order,
    Stored,
    after,
    common,
    corner,
    date,
    numbers,
    pixel_format,
    plane,
    save,
    time,
)
from radnode_inference.generator.fields import Grid
from radnode_inference.volume import FloatArray

CT_IMAGE, MR_IMAGE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
INJECTION_S = 180.0
"""Contrast is given this long after the study began."""
AGENT = "Gadobutrol"


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """Slices of one time point and kind. begins_s: start of its acquisition after the study began."""

    pixels: Stored
    grid: Grid
    begins_s: float
    bits: int = 16
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Written:
    """One series to write: its number, description and stacks (several: time points or b values)."""

    number: int
    description: str
    stacks: tuple[Stack, ...]


def write_breast(
    phantom: BreastPhantom, folder: Path, order: Order, *, before_contrast: bool = True
) -> tuple[Path, ...]:
    """The files of a breast MR, below `folder`, one folder for each series; the phase before contrast can be missing."""
    series = breast_series(phantom, order, first_phase=0 if before_contrast else 1)
    if order.layout is Layout.ENHANCED:
        return tuple(write_enhanced(s.number, s.description, s.stacks, folder, order) for s in series)
    return tuple(path for s in series for path in write_classic(s, folder, order, MR_IMAGE))


def write_chest(phantom: ChestPhantom, folder: Path, order: Order, *, leave_out: range = range(0)) -> tuple[Path, ...]:
    """The files of a chest CT; the slices with an index in `leave_out` are missing."""
    attributes = {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "KVP": "120",
        "XRayTubeCurrent": 180,
        "ConvolutionKernel": "STANDARD",
        "SliceThickness": f"{phantom.grid.spacing[0]:.6f}",
        "RescaleIntercept": "-1024",
        "RescaleSlope": "1",
        "RescaleType": "HU",
        "WindowCenter": "-500",
        "WindowWidth": "1500",
    }
    pixels = np.clip(np.rint(phantom.hu) + 1024, 0, 4095).astype(np.uint16)
    stack = Stack(pixels=pixels, grid=phantom.grid, begins_s=20, bits=12, attributes=attributes)
    series = Written(number=2, description="Chest 2.5 mm soft", stacks=(stack,))
    return write_classic(series, folder, order, CT_IMAGE, leave_out=leave_out)


def breast_series(phantom: BreastPhantom, order: Order, *, first_phase: int = 0) -> tuple[Written, ...]:
    """T2, diffusion, ADC and the dynamic series, in the order of a usual protocol."""
    t2 = Written(number=2, description="T2 TSE FS TRA", stacks=(stack_of(phantom.t2, 5, T2_ATTRIBUTES),))
    diffusion = [
        stack_of(image, 60, {**DWI_ATTRIBUTES, "DiffusionBValue": float(b)}) for b, image in sorted(phantom.dwi.items())
    ]
    adc = Written(number=5, description="ADC", stacks=(stack_of(phantom.adc, 60, ADC_ATTRIBUTES),))
    dynamic = [dynamic_stack(phantom, order, i) for i in range(first_phase, len(phantom.times_s))]
    if order.layout is Layout.SERIES:
        weighted = [
            Written(number=3 + i, description=f"DWI b{b}", stacks=(stack,))
            for i, (b, stack) in enumerate(zip(sorted(phantom.dwi), diffusion, strict=True))
        ]
        phases = [
            Written(number=6 + i, description=f"T1 FS DYN POST {i}" if i else "T1 FS DYN PRE", stacks=(stack,))
            for i, stack in enumerate(dynamic, first_phase)
        ]
    else:
        weighted = [Written(number=3, description="DWI", stacks=tuple(diffusion))]
        phases = [Written(number=6, description="T1 FS DYNAMIC", stacks=tuple(dynamic))]
    return (t2, *weighted, adc, *phases) if phantom.other_sequences else tuple(phases)


T2_ATTRIBUTES = {
    "ImageType": ["ORIGINAL", "PRIMARY", "M"], "ScanningSequence": "SE", "SequenceVariant": "SK", "ScanOptions": "FS",
    "MRAcquisitionType": "2D", "RepetitionTime": "4200", "EchoTime": "92", "EchoTrainLength": "17", "FlipAngle": "120",
}  # fmt: skip
DWI_ATTRIBUTES = {
    "ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION"], "ScanningSequence": "EP", "SequenceVariant": "SK",
    "ScanOptions": "FS", "MRAcquisitionType": "2D", "RepetitionTime": "7400", "EchoTime": "68", "EchoTrainLength": "61",
    "FlipAngle": "90",
}  # fmt: skip
ADC_ATTRIBUTES = {**DWI_ATTRIBUTES, "ImageType": ["DERIVED", "PRIMARY", "ADC"]}
DYNAMIC_ATTRIBUTES = {
    "ImageType": ["ORIGINAL", "PRIMARY", "M"], "ScanningSequence": "GR", "SequenceVariant": "SP", "ScanOptions": "FS",
    "MRAcquisitionType": "3D", "RepetitionTime": "4.5", "EchoTime": "1.7", "EchoTrainLength": "1", "FlipAngle": "12",
}  # fmt: skip


def stack_of(image: Image, begins_s: float, attributes: dict[str, Any]) -> Stack:
    thickness = {
        "SliceThickness": f"{image.grid.spacing[0]:.6f}",
        "SpacingBetweenSlices": f"{image.grid.spacing[0]:.6f}",
    }
    pixels = stored(image.voxels)
    return Stack(pixels=pixels, grid=image.grid, begins_s=begins_s, attributes={**attributes, **thickness})


def stored(values: FloatArray) -> Stored:
    return np.clip(np.rint(values), 0, 65535).astype(np.uint16)


def dynamic_stack(phantom: BreastPhantom, order: Order, index: int) -> Stack:
    """One phase, with the times that the standard has for them; contrast is named only where it was given."""
    times = phantom.times_s
    lasts = float(np.diff(times[1:]).min()) if len(times) > 2 else 60.0
    attributes: dict[str, Any] = {
        **DYNAMIC_ATTRIBUTES,
        "TemporalPositionIdentifier": str(index + 1),
        "NumberOfTemporalPositions": str(len(times)),
        "TemporalResolution": f"{lasts * 1000:.1f}",
    }
    if times[index] > 0:
        attributes["ContrastBolusAgent"] = AGENT
        attributes["ContrastBolusRoute"] = "INTRAVENOUS"
        if order.states_injection:
            attributes["ContrastBolusStartTime"] = time(after(order, INJECTION_S))
    image = Image(voxels=phantom.dce[index], grid=phantom.grid)
    return stack_of(image, INJECTION_S + float(times[index]) - lasts / 2, attributes)


def write_classic(
    series: Written, folder: Path, order: Order, sop_class: str, *, leave_out: range = range(0)
) -> tuple[Path, ...]:
    """One single-frame object for each slice of each stack (PS3.3 A.3, A.4)."""
    written = []
    for number, stack in enumerate(series.stacks):
        ds = common(order, "CT" if sop_class == CT_IMAGE else "MR")
        ds.SOPClassUID, ds.SeriesInstanceUID = sop_class, order.uid("series", str(series.number))
        ds.SeriesNumber, ds.SeriesDescription, ds.ProtocolName = series.number, series.description, series.description
        if order.body_part == "BREAST":
            ds.Laterality = ""  # both: the attribute has no word for it
        for keyword, value in stack.attributes.items():
            setattr(ds, keyword, value)
        when = after(order, stack.begins_s)
        ds.SeriesDate, ds.SeriesTime = date(when), time(after(order, series.stacks[0].begins_s))
        ds.AcquisitionDate, ds.ContentDate = date(when), date(when)
        ds.AcquisitionTime, ds.ContentTime = time(when), time(when)
        ds.AcquisitionNumber = number + 1
        plane(ds, stack.grid)
        pixel_format(ds, (stack.pixels.shape[1], stack.pixels.shape[2]), stack.bits)
        for index, pixels in enumerate(stack.pixels):
            if index in leave_out:
                continue
            ds.InstanceNumber = number * len(stack.pixels) + index + 1
            ds.SOPInstanceUID = order.uid("image", str(series.number), str(ds.InstanceNumber))
            ds.ImagePositionPatient = numbers(corner(stack.grid, index))
            path = folder / f"{series.number:02d}" / f"{ds.InstanceNumber:05d}.dcm"
            written.append(save(ds.copy(), pixels, sop_class, path, order.compression))
    return tuple(written)
