"""What is to be written as DICOM: series made of stacks of slices, with the attributes that tell them apart."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from pydicom import Dataset

from radnode_inference.generator.breast import BreastPhantom, Image
from radnode_inference.generator.dicom_parts import Layout, Order, Private, Stored, after, time
from radnode_inference.generator.fields import Grid
from radnode_inference.volume import FloatArray

INJECTION_S = 180.0
"""Contrast is given this long after the study began."""
AGENT = "Gadobutrol"
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

Edit = Callable[[Dataset, int], None]
"""Changes one image after all else is written; the number is that of its slice in its stack."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """Slices of one time point and kind. begins_s: start of its acquisition after the study began.

    written_s: what the images give as their acquisition time; None: begins_s. slope: stored value -> signal.
    private: elements of the maker. edits: of single-frame images.
    """

    pixels: Stored
    grid: Grid
    begins_s: float
    bits: int = 16
    signed: bool = False
    slope: float = 1.0
    written_s: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    private: tuple[Private, ...] = ()
    edits: tuple[Edit, ...] = ()

    @property
    def says_s(self) -> float:
        return self.begins_s if self.written_s is None else self.written_s

    def having(self, *private: Private, **attributes: Any) -> "Stack":
        """The same slices with more attributes; None takes one away."""
        merged = {k: v for k, v in {**self.attributes, **attributes}.items() if v is not None}
        return replace(self, attributes=merged, private=(*self.private, *private))

    def edited(self, *edits: Edit) -> "Stack":
        return replace(self, edits=(*self.edits, *edits))


@dataclass(frozen=True, kw_only=True, eq=False)
class Written:
    """One series to write: its number, description and stacks (several: time points or b values).

    by_place: all stacks of one slice before the next slice, as Philips orders the frames of an enhanced image.
    edits: of an enhanced image.
    """

    number: int
    description: str
    stacks: tuple[Stack, ...]
    by_place: bool = False
    edits: tuple[Callable[[Dataset], None], ...] = ()


def stack_of(image: Image, begins_s: float, attributes: dict[str, Any], slope: float = 1.0) -> Stack:
    thickness = {
        "SliceThickness": f"{image.grid.spacing[0]:.6f}",
        "SpacingBetweenSlices": f"{image.grid.spacing[0]:.6f}",
    }
    pixels = stored(image.voxels / np.float32(slope) if slope != 1 else image.voxels)
    return Stack(pixels=pixels, grid=image.grid, begins_s=begins_s, slope=slope, attributes={**attributes, **thickness})


def stored(values: FloatArray) -> Stored:
    return np.clip(np.rint(values), 0, 65535).astype(np.uint16)


def phase_duration(phantom: BreastPhantom) -> float:
    """Seconds that one phase takes: the shortest step between those after contrast."""
    return float(np.diff(phantom.times_s[1:]).min()) if len(phantom.times_s) > 2 else 60.0


def dynamic_stack(phantom: BreastPhantom, order: Order, index: int, slope: float = 1.0) -> Stack:
    """One phase, with the times that the standard has for them; contrast is named only where it was given."""
    times = phantom.times_s
    lasts = phase_duration(phantom)
    attributes: dict[str, Any] = {
        **DYNAMIC_ATTRIBUTES,
        "TemporalPositionIdentifier": str(index + 1),
        "NumberOfTemporalPositions": str(len(times)),
        "TemporalResolution": f"{lasts * 1000:.1f}",
    }
    if times[index] > 0:
        attributes |= contrast(order)
    image = Image(voxels=phantom.dce[index], grid=phantom.grid)
    return stack_of(image, INJECTION_S + float(times[index]) - lasts / 2, attributes, slope)


def contrast(order: Order) -> dict[str, str]:
    """The Contrast/Bolus attributes (PS3.3 C.7.6.4) of an image after the injection."""
    given = {"ContrastBolusAgent": AGENT, "ContrastBolusRoute": "INTRAVENOUS"}
    if order.states_injection:
        given["ContrastBolusStartTime"] = time(after(order, INJECTION_S))
    return given


def breast_series(phantom: BreastPhantom, order: Order, *, first_phase: int = 0) -> tuple[Written, ...]:
    """T2, diffusion, ADC and the dynamic series, in the order of a usual protocol, with standard attributes only."""
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
