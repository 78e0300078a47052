"""A generated breast MR: dynamic series, T2, diffusion and ADC of one anatomy, with its truth."""

import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from radnode_inference.generator.breast_anatomy import EXTENT, Anatomy, Lesion, Parts, anatomy
from radnode_inference.generator.fields import Field, Grid, Orientation, Shape, grid, rician
from radnode_inference.generator.tofts import signal
from radnode_inference.volume import BoolArray, FloatArray

T2_LEVEL = {
    "fat": 0.16, "gland": 0.42, "muscle": 0.18, "skin": 0.3, "blood": 0.12, "lung": 0.03, "lesion": 0.55, "cyst": 1.0,
}  # fmt: skip
ADC_MM2_S = {
    "fat": 0.25e-3, "gland": 1.85e-3, "muscle": 1.5e-3, "skin": 1.2e-3, "blood": 2.5e-3, "lung": 1e-3, "cyst": 2.6e-3,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Image:
    """Voxels float32 [slice, row, column] on their own grid; arbitrary units, ADC in 1e-6 mm2/s."""

    voxels: FloatArray
    grid: Grid


@dataclass(frozen=True, kw_only=True, eq=False)
class LesionTruth:
    """One lesion. mask: on the dynamic grid; curve: persistent, plateau or washout; laterality: R or L."""

    lesion: Lesion
    mask: BoolArray
    volume_ml: float

    @property
    def curve(self) -> str:
        return self.lesion.curve

    @property
    def laterality(self) -> str:
        return "L" if self.lesion.centre[0] > 0 else "R"


@dataclass(frozen=True, kw_only=True, eq=False)
class BreastPhantom:
    """dce: float32 [phase, slice, row, column] on `grid`, phase 0 before contrast.

    other_sequences: whether T2, diffusion and ADC are images or only 2x2x2 voxels that stand for them.
    shifts_mm: [phase, 3] how far the patient lies from where she lay before contrast, along slice, row, column.
    times_s: centre of each phase's acquisition after the injection (phase 0: negative). Masks lie on `grid`.
    dwi: b value in s/mm2 -> image. `breast` is all that lies before the chest wall, `gland` fibroglandular tissue.
    """

    seed: int
    grid: Grid
    dce: FloatArray
    times_s: NDArray[np.float64]
    dwi: dict[int, Image]
    adc: Image
    t2: Image
    breast: BoolArray
    gland: BoolArray
    lesions: tuple[LesionTruth, ...]
    shifts_mm: NDArray[np.float64]
    other_sequences: bool = True

    @property
    def lesion_mask(self) -> BoolArray:
        """All lesions together, on `grid`."""
        mask = np.zeros(self.grid.shape, bool)
        for lesion in self.lesions:
            mask |= lesion.mask
        return mask


def phantom(
    seed: int,
    *,
    lesion: bool | None = None,
    shape: Shape = (60, 160, 160),
    phases: int | None = None,
    orientation: Orientation = Orientation.AXIAL,
    patient_position: str = "HFP",
    other_sequences: bool = True,
    motion_mm: float = 0.0,
    square_pixels: bool = False,
) -> BreastPhantom:
    """The breast MR of `seed`; `lesion` None lets the seed decide. The field of view is kept whatever the shape,
    but for square_pixels, as scanners make them: it grows until rows and columns are as wide as each other.

    patient_position turns the images as fields.FLIPS says. other_sequences=False leaves T2 and DWI at 2x2x2 voxels.
    motion_mm: how far the patient moves, all at once, between two phases after contrast; the masks stay where she lay.
    """
    rng = np.random.default_rng((seed, 1))
    has_lesion = bool(rng.random() < 0.5) if lesion is None else lesion
    patient = anatomy(rng, lesion=has_lesion)
    scale = float(rng.uniform(0.96, 1.04))
    extent = (EXTENT[0] * scale, EXTENT[1] * scale, EXTENT[2] * float(rng.uniform(0.95, 1.05)))
    if orientation is Orientation.OBLIQUE:
        extent = (extent[0] * 1.05, extent[1] * 1.05, extent[2] * 1.1)
    where = grid(shape, extent, (0.0, 45.0, 0.0), orientation, patient_position, square_pixels=square_pixels)
    parts = patient.parts(where)
    times = phase_times(rng, phases or int(rng.integers(6, 8)))
    level = float(rng.uniform(250, 900))
    bias = Bias(rng)
    shifts = displacements(seed, motion_mm, len(times))
    dce = dynamic(rng, patient, parts, times, where, shifts) * (level * bias(where))
    sigma = level * float(rng.uniform(0.08, 0.22))
    coarse = (max(shape[0] * 3 // 4, 2), max(shape[1] * 5 // 8, 2), max(shape[2] * 5 // 8, 2))
    small: Shape = (2, 2, 2)
    t2_grid = where.resized((max(shape[0] * 4 // 5, 2), shape[1], shape[2]) if other_sequences else small)
    dwi_grid = where.resized(coarse if other_sequences else small)
    dwi, adc = diffusion(rng, patient, dwi_grid)
    return BreastPhantom(
        seed=seed,
        grid=where,
        dce=np.stack([rician(rng, moved(rng, phase, i), sigma) for i, phase in enumerate(dce)]),
        times_s=times,
        dwi=dwi,
        adc=adc,
        t2=t2_image(rng, patient, t2_grid, bias),
        breast=parts.breast >= 0.5,
        gland=(parts.share["gland"] >= 0.5) & (parts.breast >= 0.5),
        lesions=truths(patient, parts, where),
        shifts_mm=shifts,
        other_sequences=other_sequences,
    )


def truths(patient: Anatomy, parts: Parts, where: Grid) -> tuple[LesionTruth, ...]:
    masks = [share >= 0.5 for share in parts.lesions]
    return tuple(
        LesionTruth(lesion=lesion, mask=mask, volume_ml=float(mask.sum()) * where.voxel_ml)
        for lesion, mask in zip(patient.lesions, masks, strict=True)
        if mask.any()
    )


def phase_times(rng: np.random.Generator, phases: int) -> NDArray[np.float64]:
    """Centres of the phases in s after injection: one before it, the last beyond 400 s."""
    first, step = float(rng.uniform(55, 80)), float(rng.uniform(75, 95))
    if phases < 5:  # so few that the first must be the early one
        first += 50
    step = max(step, (430 - first) / max(phases - 2, 1))
    return np.concatenate([[-float(rng.uniform(40, 90))], first + step * np.arange(phases - 1)])


def dynamic(
    rng: np.random.Generator,
    patient: Anatomy,
    parts: Parts,
    times: NDArray[np.float64],
    where: Grid,
    shifts: NDArray[np.float64],
) -> FloatArray:
    """The signal of every phase without noise, [phase, slice, row, column]; `shifts` as in `BreastPhantom.shifts_mm`.

    What lies elsewhere is imaged anew: interpolating the phases would blur them, as a patient who moves between two phases is not.
    """
    again = copy.deepcopy(rng)
    phases = imaged(rng, patient, parts, times, where)
    for shift in np.unique(shifts[shifts.any(axis=1)], axis=0):
        here = (shifts == shift).all(axis=1)
        seen = where.moved(-shift)
        phases[here] = imaged(copy.deepcopy(again), patient, patient.parts(seen), times, seen)[here]
    return phases


def imaged(
    rng: np.random.Generator, patient: Anatomy, parts: Parts, times: NDArray[np.float64], where: Grid
) -> FloatArray:
    """Every phase of a patient who lies still, [phase, slice, row, column]."""
    base = {name: signal(tissue, times) for name, tissue in patient.tissues.items()}
    background = signal(patient.background, times) - base["gland"]
    enhancing = parts.share["gland"] * parts.breast
    gland = enhancing > 0
    x, y, z = where.points()
    enhancing[gland] *= np.clip(1 + 0.35 * Field(rng, 18.0)(x[gland], y[gland], z[gland]), 0.2, 2.0)
    phases = np.zeros((len(times), *where.shape), np.float32)
    for i in range(len(times)):
        for name, share in parts.share.items():
            phases[i] += np.float32(base[name][i]) * share
        phases[i] += np.float32(background[i]) * enhancing
        for lesion, share in zip(patient.lesions, parts.lesions, strict=True):
            inner = rim(share, lesion)
            level = signal(lesion.tissue, times)
            own = np.float32(level[0]) + np.float32(level[i] - level[0]) * inner
            phases[i] += share * (own - phases[i])
    return phases


def rim(share: FloatArray, lesion: Lesion) -> FloatArray:
    """How strongly each place of a lesion takes up contrast: 1, or less in the middle of one with a rim."""
    if lesion.core >= 1:
        return np.ones_like(share)
    depth = ndimage.uniform_filter((share > 0.5).astype(np.float32), 5)
    weaker: FloatArray = 1 - (1 - np.float32(lesion.core)) * depth**3
    return weaker


def moved(rng: np.random.Generator, phase: FloatArray, index: int) -> FloatArray:
    """The phase after a small shift of the patient (none before contrast, mostly none at all)."""
    amount = rng.normal(0, 0.12, 3)
    if index == 0 or rng.random() < 0.6:
        return phase
    shifted: FloatArray = ndimage.shift(phase, amount, order=1, mode="nearest")
    return shifted


def displacements(seed: int, motion_mm: float, phases: int) -> NDArray[np.float64]:
    """[phase, 3] mm: none until a random phase after contrast, then one shift of that length in a random direction."""
    rng = np.random.default_rng((seed, 3))
    direction = rng.normal(0, 1, 3)
    shifts = np.zeros((phases, 3))
    shifts[int(rng.integers(1, phases)) :] = motion_mm * direction / np.linalg.norm(direction)
    return shifts


class Bias:
    """The coil's uneven sensitivity: a smooth factor about 1."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.linear, self.square = rng.normal(0, 0.06, 3), rng.normal(0, 0.05, 3)

    def __call__(self, where: Grid) -> FloatArray:
        total = np.ones(where.shape, np.float32)
        for p, linear, square in zip(where.points(), self.linear, self.square, strict=True):
            q = p / np.float32(150)
            total += np.float32(linear) * q + np.float32(square) * q * q
        return np.clip(total, 0.5, 1.6)


def t2_image(rng: np.random.Generator, patient: Anatomy, where: Grid, bias: Bias) -> Image:
    parts = patient.parts(where)
    level = float(rng.uniform(400, 1200))
    total = mixed(T2_LEVEL, parts)
    for lesion, share in zip(patient.lesions, parts.lesions, strict=True):
        total += share * (np.float32(lesion.t2) - total)
    return Image(voxels=rician(rng, total * bias(where) * level, level * 0.02), grid=where)


def diffusion(rng: np.random.Generator, patient: Anatomy, where: Grid) -> tuple[dict[int, Image], Image]:
    """The images of a low and a high b value, and the ADC map computed from their noisy signals, 1e-6 mm2/s."""
    parts = patient.parts(where)
    start = mixed({name: value**0.8 for name, value in T2_LEVEL.items()} | {"fat": 0.05, "skin": 0.1}, parts)
    adc = mixed(ADC_MM2_S, parts) + np.float32(1e-3) * (1 - sum(parts.share.values()))
    for lesion, share in zip(patient.lesions, parts.lesions, strict=True):
        adc += share * (np.float32(lesion.adc_mm2_s) - adc)
        start += share * (np.float32(0.75) - start)
    low, high = int(rng.choice([0, 50])), int(rng.choice([800, 1000]))
    level = float(rng.uniform(300, 900))
    images = {b: rician(rng, level * start * np.exp(-np.float32(b) * adc), level * 0.012) for b in (low, high)}
    ratio = np.log(np.maximum(images[low], 1e-3) / np.maximum(images[high], 1e-3)) / np.float32(high - low)
    values = np.where(images[low] > level * 0.06, np.clip(ratio * 1e6, 0, 4000), 0).astype(np.float32)
    return {b: Image(voxels=v, grid=where) for b, v in images.items()}, Image(voxels=values, grid=where)


def mixed(values: dict[str, float], parts: Parts) -> FloatArray:
    """The value of each voxel from the shares of its tissues."""
    total = np.zeros(parts.breast.shape, np.float32)
    for name, share in parts.share.items():
        total += np.float32(values[name]) * share
    return total
