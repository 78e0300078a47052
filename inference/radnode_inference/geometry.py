"""Whether frames form one regular stack, in which order, and where it lies. Every doubt is a named gate.

Tolerances (each keeps a voxel nearer to its own place than to its neighbour's):
orientation: direction cosines equal within 0.001 (0.25 mm over a 256 mm image; scanners round to 5-6 decimals);
pixel spacing: equal within 0.1 %; position within the plane: half a pixel over the whole stack;
distance between slices: within a quarter of the usual one, and never half a slice off the regular grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from radnode_inference.frames import Frame, Vector
from radnode_inference.model import DeclinedError
from radnode_inference.volume import Affine

COSINE_TOLERANCE = 1e-3
PIXEL_SPACING_TOLERANCE = 1e-3
IN_PLANE_TOLERANCE = 0.5
STEP_TOLERANCE = 0.25
SAME_PLACE_MM = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """Frames in order of their position along the slice normal (row direction × column direction), and their affine.

    The affine maps (slice, row, column) to LPS mm. Its slice axis always points along the normal, so (column, row,
    slice) is right-handed and the determinant of (slice, row, column) is negative, whatever order the files came in.
    """

    frames: tuple[Frame, ...]
    affine: Affine


def stack(frames: Sequence[Frame]) -> Stack:
    """The frames as one regular stack.

    Raises DeclinedError `mixed-frame-of-reference`, `inconsistent-size`, `inconsistent-spacing`, `mixed-orientation`,
    `single-slice`, `duplicate-position`, `slice-gap` or `gantry-tilt`; `several-stacks` where an enhanced image calls its
    frames so and they are not one.
    """
    try:
        return regular(frames)
    except DeclinedError as e:
        count = len({f.stack_id for f in frames})
        if count < 2:
            raise
        raise DeclinedError(
            "several-stacks", f"the image holds {count} stacks that are no single volume: {e.sentence}"
        ) from e


def regular(frames: Sequence[Frame]) -> Stack:
    first = frames[0]
    check_same(frames)
    if len(frames) < 2:
        raise DeclinedError("single-slice", "the series is a single plane, not a volume")
    ordered = sorted(
        frames, key=lambda f: (float(f.position @ first.normal), f.header.text("SOPInstanceUID"), f.number)
    )
    along = np.array([f.position @ first.normal for f in ordered])
    check_steps(along)
    check_in_plane(ordered)
    step = (along[-1] - along[0]) / (len(along) - 1)
    check_drift(along, step)
    affine = np.eye(4)
    affine[:3, 0] = first.normal * step
    affine[:3, 1] = first.along_column * first.pixel_spacing[0]
    affine[:3, 2] = first.along_row * first.pixel_spacing[1]
    affine[:3, 3] = ordered[0].position
    return Stack(frames=tuple(ordered), affine=affine)


def check_same(frames: Sequence[Frame]) -> None:
    """All frames share frame of reference, size, pixel spacing and orientation."""
    first = frames[0]
    references = {f.header.text("FrameOfReferenceUID") for f in frames}
    files = {id(f.header) for f in frames}
    if 1 < len(references) < len(files):  # one for each image is a known fault of de-identification: no information
        raise DeclinedError("mixed-frame-of-reference", f"the images lie in {len(references)} frames of reference")
    sizes = sorted({f.shape for f in frames})
    if len(sizes) > 1 or 0 in sizes[0]:
        raise DeclinedError("inconsistent-size", "image sizes are " + ", ".join(f"{r}×{c}" for r, c in sizes))
    spacings = np.array([f.pixel_spacing for f in frames])
    if (abs(spacings / spacings[0] - 1) > PIXEL_SPACING_TOLERANCE).any():
        low, high = spacings.min(), spacings.max()
        raise DeclinedError("inconsistent-spacing", f"the pixel spacing varies between {low:g} and {high:g} mm")
    cosines = np.array([np.concatenate((f.along_row, f.along_column)) for f in frames])
    if (abs(cosines - np.concatenate((first.along_row, first.along_column))) > COSINE_TOLERANCE).any():
        other = int((abs(cosines - cosines[0]).max(axis=1) > COSINE_TOLERANCE).sum())
        raise DeclinedError("mixed-orientation", f"{other} of {len(frames)} images are oriented differently")


def check_steps(along: Vector) -> None:
    """Neighbours are one slice apart: none at the same place, none missing. `along`: sorted mm along the normal."""
    steps = np.diff(along)
    same = steps < SAME_PLACE_MM
    if same.any():
        where = float(along[1:][same][0])
        raise DeclinedError(
            "duplicate-position",
            f"{int(same.sum()) + 1} or more images share positions (first at {where:.1f} mm along the slice normal):"
            " several time points, echoes or reconstructions in one series",
        )
    usual = float(np.percentile(steps, 25, method="lower"))  # missing slices only ever widen steps
    missing = []
    for at, step in zip(along, steps, strict=False):
        slices = round(step / usual)
        if slices >= 2 and abs(step / usual - slices) <= STEP_TOLERANCE:
            missing += [f"{at + usual * n:.1f}" for n in range(1, slices)]
        elif abs(step / usual - 1) > STEP_TOLERANCE:
            between = f"between {steps.min():.2f} and {steps.max():.2f} mm"
            raise DeclinedError("inconsistent-spacing", f"the distance between slices varies {between}")
    if missing:
        named = ", ".join(missing[:5]) + (" and more" if len(missing) > 5 else "")
        raise DeclinedError(
            "slice-gap",
            f"{len(missing)} slice(s) are missing, at {named} mm along the slice normal (step {usual:.2f} mm)",
        )


def check_in_plane(ordered: Sequence[Frame]) -> None:
    """The slices lie exactly above each other: no tilted gantry, no shifted reconstruction."""
    first = ordered[0]
    moved = np.array([f.position - first.position for f in ordered])
    shifts = np.stack((moved @ first.along_column, moved @ first.along_row), axis=1)
    pixels = abs(shifts) / np.array(first.pixel_spacing)
    if pixels.max() > IN_PLANE_TOLERANCE:
        shift, height = shifts[-1], float(moved[-1] @ first.normal)
        tilt = np.degrees(np.arctan2(float(np.hypot(*shift)), height))
        raise DeclinedError(
            "gantry-tilt",
            f"the slices are shifted against each other by up to {abs(shifts).max():.1f} mm (tilt {tilt:.1f}°)",
        )


def check_drift(along: Vector, step: float) -> None:
    """No slice is half a step or more off the regular grid."""
    off = abs(along - (along[0] + step * np.arange(len(along)))).max()
    if off > step / 2:
        raise DeclinedError(
            "inconsistent-spacing", f"slices lie up to {off:.2f} mm off a regular grid of {step:.2f} mm"
        )
