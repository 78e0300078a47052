"""Whether the patient moved between the phases of a dynamic series, and the phases moved back where that is a shift.

The shift between two phases is where the cross-correlation of their edges is highest. Edges, because contrast agent
changes how bright tissue is and hardly where it ends; between voxels by a parabola through the peak.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.signal.windows import tukey

from radnode_inference.model import DeclinedError
from radnode_inference.volume import BoolArray, FloatArray

STEP_MM = 2.0
LEAST_MM, MOST_MM = 1.0, 12.0
"""Smaller shifts are left alone (interpolation would blur more); larger ones change what lies in the coil: declined."""
UNEVEN_MM = 2.0
"""A breast that still lies further off than this moved by itself."""

Vector = NDArray[np.float64]
Box = tuple[slice, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Motion:
    """shifts_mm: of each phase after contrast along (slice, row, column); uneven_mm: how far a breast lies off after
    the correction, the worst of all phases. least_mm: smaller shifts are left alone."""

    shifts_mm: tuple[Vector, ...]
    uneven_mm: float
    least_mm: float = LEAST_MM

    @property
    def corrected(self) -> tuple[int, ...]:
        """The phases after contrast (from 1) that were moved back."""
        return tuple(n for n, s in enumerate(self.shifts_mm, 1) if np.linalg.norm(s) >= self.least_mm)


def check_motion(
    pre: FloatArray,
    after: Sequence[FloatArray],
    region: BoolArray,
    box: Box,
    spacing: tuple[float, float, float],
    least_mm: float = LEAST_MM,
) -> Motion:
    """How far each phase lies from the one before contrast, measured in the box around the breasts.

    Raises DeclinedError `motion` for shifts beyond MOST_MM.
    """
    fixed = edges(pre[box], spacing)
    sides = [coarse_half(part, spacing) for part in halves(region[box])]
    shifts, off = [], 0.0
    for number, phase in enumerate(after, 1):
        moving = edges(phase[box], spacing)
        shift = shift_between(fixed, moving) * STEP_MM
        length = float(np.linalg.norm(shift))
        if length > MOST_MM:
            raise DeclinedError(
                "motion", f"phase {number} after contrast lies {length:.0f} mm away from the one before contrast"
            )
        alone = [shift_between(fixed[side], moving[side]) * STEP_MM for side in sides]
        off = max(off, *(float(np.linalg.norm(a - shift)) for a in alone), 0.0)
        shifts.append(shift)
    return Motion(shifts_mm=tuple(shifts), uneven_mm=off, least_mm=least_mm)


def said_of_motion(motion: Motion, times_s: Sequence[float], wrong: str) -> tuple[str, ...]:
    """What was moved back, and what could not be. times_s: of the phases after contrast,
    () where they are not known: the phases are counted from 1, then. wrong: what can be."""
    called = [f"the phase at {t:.0f} s" for t in times_s]
    sentences = [
        f"The patient moved: {called[n - 1] if called else f'phase {n} after contrast'} lay {float(np.linalg.norm(motion.shifts_mm[n - 1])):.1f} mm"
        " away from the one before contrast and was moved back."
        for n in motion.corrected
    ]
    if motion.uneven_mm > UNEVEN_MM:
        sentences.append(
            f"Unreliable (motion): a breast still lies {motion.uneven_mm:.1f} mm away in some phase after the correction,"
            f" so that {wrong} can be wrong."
        )
    return tuple(sentences)


def edges(voxels: FloatArray, spacing: tuple[float, float, float]) -> FloatArray:
    """The strength of edges on a grid of about STEP_MM."""
    zoomed = ndimage.zoom(
        ndimage.gaussian_filter(voxels, [0.5 * STEP_MM / s for s in spacing]),
        [s / STEP_MM for s in spacing], order=1, grid_mode=True, mode="nearest",
    )  # fmt: skip
    strength: FloatArray = ndimage.gaussian_gradient_magnitude(zoomed, 1.0).astype(np.float32)
    return np.minimum(strength, np.percentile(strength, 99))


def shift_between(fixed: FloatArray, moving: FloatArray) -> Vector:
    """How far `moving` lies from `fixed`, in voxels."""
    window = np.ones(fixed.shape, np.float32)
    for axis, n in enumerate(fixed.shape):
        window *= tukey(n, 0.25).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    spectra = [fft.rfftn((image - image.mean()) * window) for image in (fixed, moving)]
    correlation = fft.irfftn(np.conj(spectra[0]) * spectra[1], fixed.shape).astype(np.float32)
    peak = np.array(np.unravel_index(int(np.argmax(correlation)), correlation.shape))
    fraction = [parabola(correlation, peak, axis) for axis in range(3)]
    size = np.array(fixed.shape)
    return np.asarray((peak + size // 2) % size - size // 2 + fraction, float)


def parabola(values: FloatArray, peak: NDArray[np.int_], axis: int) -> float:
    """Where along an axis, -0.5 to 0.5 beside the peak, the parabola through it and its neighbours is highest."""

    def at(step: int) -> float:
        place = peak.copy()
        place[axis] = (place[axis] + step) % values.shape[axis]
        return float(values[tuple(place)])

    low, middle, high = at(-1), at(0), at(1)
    bend = low - 2 * middle + high
    return float(np.clip(0.5 * (low - high) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def halves(region: BoolArray) -> list[Box]:
    """The boxes of the two breasts: the two largest parts of the region; none where they hang together."""
    labels, count = ndimage.label(region)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    largest = np.argsort(-sizes)[:2] + 1
    found = ndimage.find_objects(labels)
    alike = count > 1 and sizes[largest[1] - 1] > 0.4 * sizes[largest[0] - 1]
    return [found[label - 1] for label in largest] if alike else []


def coarse_half(box: Box, spacing: tuple[float, float, float]) -> Box:
    return tuple(
        slice(int(s.start * d / STEP_MM), int(s.stop * d / STEP_MM)) for s, d in zip(box, spacing, strict=True)
    )


def moved_back(phase: FloatArray, shift_mm: Vector, box: Box, spacing: tuple[float, float, float]) -> FloatArray:
    """The box of a phase after undoing its shift, by cubic interpolation."""
    steps = shift_mm / np.array(spacing)
    margin = np.ceil(np.abs(steps)).astype(int) + 3
    wide = tuple(slice(max(s.start - m, 0), s.stop + m) for s, m in zip(box, margin, strict=True))
    shifted = ndimage.shift(phase[wide], -steps, order=3, mode="nearest")
    inner = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(box, wide, strict=True))
    back: FloatArray = shifted[inner]
    return back
