"""Whether the phases show contrast where the headers put it.

A technologist types the agent too late or too early, and archives empty the attribute: a phase with contrast that is taken
for the one before it makes every curve wrong. What brightens most in the examination says when that was.
"""

from collections.abc import Sequence

import numpy as np

from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.roles import OrderedRoles, Phase, Ranked
from radnode_inference.volume import BoolArray, FloatArray, Volume

STEP_MM = 8.0
"""Coarse, so that a patient who moved some millimetres has the same tissue in a block."""
WHOLLY = 0.95
BRIGHT = 0.3
"""Part of the bright tissue before contrast that counts as tissue."""
STRONG, MUCH, LITTLE = 0.6, 0.3, 0.15
"""What rises by 60 % in the end had at most 15 % of its rise before contrast and, a minute after, most of it."""
FEWEST = 30
FALLS, RISES, MOST_FALLING = -0.12, 0.2, 0.6
"""Blood and lesions lose contrast from the first minute on: where more than half as much tissue falls as rises, it was there
before. Of 24 generated studies, a third of them with 5 mm of motion, a true first phase has at most 0.26 of it, an enhanced one
at least 0.93."""
LEAST_APART_S, LONGEST_BEFORE_S = 40.0, 1800.0


def check_arrival(roles: OrderedRoles, pre: Volume, after: Sequence[FloatArray], body: BoolArray) -> None:
    """Raises DeclinedError `timing` where the phase taken for the one before contrast holds some, or the first one after it,
    which nothing but the agent's name calls so, holds none."""
    enhanced = [coarse(voxels, pre.spacing) for voxels in after]
    peak: FloatArray = np.max(enhanced, axis=0)
    inside = coarse(body.astype(np.float32), pre.spacing) > WHOLLY
    unenhanced = coarse(pre.voxels, pre.spacing)
    if (earlier := first_before(roles)) is not None:
        first = earlier.images.volume()
        if first.shape == pre.shape and np.allclose(first.affine, pre.affine, atol=0.1):
            base = coarse(first.voxels, pre.spacing)
            if (part := share(base, unenhanced, peak, inside)) is not None and part > MUCH:
                raise DeclinedError(
                    "timing",
                    f"{stated_by(roles)} puts contrast after a phase that shows it already ({100 * part:.0f} % of the whole rise)",
                )
    if not roles.injection_stated and long_enough(roles):
        part = share(unenhanced, enhanced[0], peak, inside)
        if part is not None and part < LITTLE:
            raise DeclinedError(
                "timing",
                f"{stated_by(roles)} puts contrast before a phase that does not show it yet ({100 * part:.0f} % of the whole rise)",
            )
    if not roles.contrast_stated:
        check_falling(unenhanced, enhanced[-1], inside)


def check_falling(first: FloatArray, last: FloatArray, inside: BoolArray) -> None:
    """Raises DeclinedError `timing` where much of what should have no contrast yet becomes darker."""
    tissue = inside & (first > BRIGHT * np.percentile(first[inside], 90)) if inside.any() else inside
    change = (last[tissue] - first[tissue]) / first[tissue]
    falling, rising = int((change <= FALLS).sum()), int((change >= RISES).sum())
    if falling >= FEWEST and falling > MOST_FALLING * rising:
        raise DeclinedError(
            "timing",
            "ContrastBolusAgent does not state which phases were acquired after contrast, and the first one in time loses"
            " signal where contrast washes out: it holds contrast already",
        )


def share(base: FloatArray, phase: FloatArray, peak: FloatArray, inside: BoolArray) -> float | None:
    """The median part of its whole rise that strongly enhancing tissue has reached in a phase; None where hardly any enhances."""
    if not inside.any():
        return None
    tissue = inside & (base > BRIGHT * np.percentile(base[inside], 90))
    strong = tissue & (peak - base >= STRONG * base)
    if strong.sum() < FEWEST:
        return None
    return float(np.median((phase[strong] - base[strong]) / (peak[strong] - base[strong])))


def first_before(roles: OrderedRoles) -> Ranked | None:
    """The first phase of the examination, where it is not the one that is read as before contrast."""
    for earlier in roles.before:
        both = earlier, roles.pre
        times = [p.after_injection_s for p in both if isinstance(p, Phase)]
        if len(times) < len(both) or times[1] - times[0] <= LONGEST_BEFORE_S:
            return earlier
    return None


def long_enough(roles: OrderedRoles) -> bool:
    """Whether contrast must show in the first phase after it: one of a few seconds ends before it arrives."""
    times = roles.times_s
    return len(times) < 2 or times[1] - times[0] >= LEAST_APART_S


def stated_by(roles: OrderedRoles) -> str:
    if roles.injection_stated:
        return "ContrastBolusStartTime"
    return "ContrastBolusAgent" if roles.contrast_stated else "The order of the phases (ContrastBolusAgent is missing)"


def coarse(voxels: FloatArray, spacing: Sequence[float]) -> FloatArray:
    """The means of blocks of about STEP_MM."""
    steps = [max(1, min(round(STEP_MM / s), n)) for s, n in zip(spacing, voxels.shape, strict=True)]
    counts = [n // step for n, step in zip(voxels.shape, steps, strict=True)]
    cut = voxels[tuple(slice(0, n * step) for n, step in zip(counts, steps, strict=True))]
    shape = [v for pair in zip(counts, steps, strict=True) for v in pair]
    means: FloatArray = cut.reshape(shape).mean(axis=(1, 3, 5), dtype=np.float32)
    return means
