"""Where the breasts are, found without a network: tissue before the chest wall, in patient coordinates.

Works on a coarse grid along x, y, z of the patient, so that it does not matter how the slices lie.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from radnode_inference.model import DeclinedError
from radnode_inference.volume import BoolArray, FloatArray, Volume

STEP_MM = 4.0
SKIN_MM = 4.5  # skin and the nipple's edge enhance by themselves and move most
MIDLINE_MM, BEHIND_MIDLINE_MM, BEHIND_SIDE_MM, SLOPE = 32.0, 3.0, 8.0, 0.38
"""Near the midline nothing behind the skin over the sternum counts (internal thoracic vessels, heart); to the sides the
chest wall falls back by about this slope."""
FRONT_PERCENTILE = 15.0
LEAST_WIDTH_MM, LEAST_VOLUME_ML = 200.0, 100.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """mask: bool on the dynamic grid. midline_x: LPS mm. body: all tissue, on the same grid."""

    mask: BoolArray
    body: BoolArray
    midline_x: float


def breast_region(mean: Volume) -> Region:
    """The breasts in a mean image of all phases.

    Raises DeclinedError `coverage` when the images do not show both breasts from the skin to the chest wall.
    """
    coarse, origin = patient_grid(mean)
    body = body_of(coarse)
    xs = np.flatnonzero(body.any(axis=(1, 2)))
    if len(xs) == 0 or len(xs) * STEP_MM < LEAST_WIDTH_MM:
        width = len(xs) * STEP_MM
        raise DeclinedError("coverage", f"the tissue shown is {width:.0f} mm wide; both breasts are needed")
    mask, middle = before_the_wall(body, int(xs[0]), int(xs[-1]))
    if float(mask.sum()) * STEP_MM**3 / 1000 < LEAST_VOLUME_ML:
        raise DeclinedError("coverage", "no breast tissue was found before the chest wall")
    return Region(
        mask=on_grid(mask, origin, mean),
        body=on_grid(body, origin, mean),
        midline_x=float(origin[0] + middle * STEP_MM),
    )


def patient_grid(volume: Volume) -> tuple[FloatArray, NDArray[np.float64]]:
    """The volume resampled to [x, y, z] every 4 mm along the patient's axes, and the first point in LPS mm."""
    shape = np.array(volume.shape)
    corners = np.array(np.meshgrid(*((0, n - 1) for n in shape), indexing="ij")).reshape(3, -1)
    placed = volume.affine[:3, :3] @ corners + volume.affine[:3, 3:]
    low, high = placed.min(axis=1), placed.max(axis=1)
    size = np.maximum(np.ceil((high - low) / STEP_MM).astype(int) + 1, 2)
    inverse = np.linalg.inv(volume.affine)
    width = np.maximum(np.round(STEP_MM / np.array(volume.spacing)).astype(int), 1)
    smooth = ndimage.uniform_filter(volume.voxels, tuple(int(w) for w in width))
    values: FloatArray = ndimage.affine_transform(
        smooth, inverse[:3, :3] * STEP_MM, inverse[:3, :3] @ low + inverse[:3, 3],
        output_shape=tuple(int(n) for n in size), order=1, mode="constant", cval=-1.0,
    )  # fmt: skip
    return values, low


def body_of(coarse: FloatArray) -> BoolArray:
    """Tissue against air: the air before the breasts gives the noise, a part of bright tissue the scale."""
    shown = coarse >= 0
    bright = float(np.percentile(coarse[shown], 90))
    front = np.array(
        [np.median(coarse[:, y][shown[:, y]]) if shown[:, y].any() else bright for y in range(coarse.shape[1])]
    )
    air = float(front[: max(len(front) // 3, 1)].min())
    found = shown & (coarse > air + 0.13 * (bright - air))
    labels, count = ndimage.label(ndimage.binary_opening(found))
    if count == 0:
        return np.zeros(coarse.shape, bool)
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    filled = np.stack([ndimage.binary_fill_holes(largest[:, :, z]) for z in range(largest.shape[2])], axis=2)
    return np.asarray(filled, bool)


def before_the_wall(body: BoolArray, left: int, right: int) -> tuple[BoolArray, float]:
    """The part of the body [x, y, z] before the chest wall and under the skin, and the midline's x index."""
    first = np.where(body.any(axis=1), np.argmax(body, axis=1), body.shape[1])  # [x, z]
    middle = midline(first, left, right)
    band = first[round(middle) - 2 : round(middle) + 3]
    shown = band[band < body.shape[1]]
    sternum = float(np.median(shown)) if len(shown) else 0.0
    away = np.abs(np.arange(body.shape[0]) - middle) * STEP_MM
    behind = np.where(away < MIDLINE_MM, BEHIND_MIDLINE_MM, BEHIND_SIDE_MM + SLOPE * (away - MIDLINE_MM))
    deepest = sternum + behind / STEP_MM
    before = np.arange(body.shape[1])[None, :] <= deepest[:, None]
    padded = np.pad(body, ((0, 0), (1, 0), (0, 0)))  # the image's edge is no skin, but before the first row lies air
    under = ndimage.distance_transform_edt(padded)[:, 1:] * STEP_MM > SKIN_MM
    return body & before[:, :, None] & under, middle


def midline(first: NDArray[np.int_], left: int, right: int) -> float:
    """The x index between the breasts: where the skin lies deepest in the middle third of the body.

    At the height of the breasts, which many slices above and below do not reach.
    """
    low, high = left + (right - left) // 3, right - (right - left) // 3
    depth = np.percentile(first[low : high + 1], FRONT_PERCENTILE, axis=1)
    smooth = ndimage.uniform_filter1d(depth.astype(float), 3)
    deepest = np.flatnonzero(smooth >= smooth.max() - 0.5)
    return float(low + deepest.mean())


def on_grid(mask: BoolArray, origin: NDArray[np.float64], volume: Volume) -> BoolArray:
    """A coarse mask on the voxels of a volume."""
    matrix = volume.affine[:3, :3] / STEP_MM
    offset = (volume.affine[:3, 3] - origin) / STEP_MM
    share = ndimage.affine_transform(
        mask.astype(np.float32), matrix, offset, output_shape=volume.shape, order=1, output=np.float32
    )
    return np.asarray(share >= 0.5, bool)
