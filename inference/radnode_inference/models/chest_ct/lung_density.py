"""What the histogram of a lung says: low-attenuation areas, 15th percentile, mean density."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radnode_inference.models.chest_ct.lung_refine import LOWEST_HU

Histogram = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Density:
    """laa_950, laa_910: percent of the lung's voxels below -950 and -910 HU. perc15, mean: HU."""

    laa_950: float
    laa_910: float
    perc15: float
    mean: float


def density(histogram: Histogram) -> Density:
    """The density of a lung from its counts per HU. Raises ValueError when there are none."""
    total = int(histogram.sum())
    if total == 0:
        raise ValueError("no lung voxels")
    values = np.arange(len(histogram)) + LOWEST_HU
    below = np.cumsum(histogram)
    return Density(
        laa_950=100 * float(histogram[values < -950].sum()) / total,
        laa_910=100 * float(histogram[values < -910].sum()) / total,
        perc15=float(values[int(np.searchsorted(below, 0.15 * total))]),
        mean=float(histogram @ values) / total,
    )
