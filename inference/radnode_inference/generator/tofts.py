"""Contrast agent in tissue and in the signal: how a voxel's brightness follows the injection."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DOSE_MMOL_PER_KG = 0.1
PLASMA = ((3.99, 0.144), (4.78, 0.0111))
"""(kg/L, 1/min): population plasma curve, Weinmann 1984 as used by Tofts and Kermode 1991."""
RELAXIVITY = 4.3  # L/(mmol s), gadolinium chelates at 1.5 to 3 T
EARLY_S, LATE_S = 150.0, 450.0

Curve = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Tissue:
    """T1 in s without contrast, exchange `ktrans` and `kep` in 1/min, plasma part `vp`, proton signal `m0`."""

    t1_s: float
    m0: float
    ktrans: float = 0.0
    kep: float = 1.0
    vp: float = 0.0


def concentration(tissue: Tissue, times_s: Curve) -> Curve:
    """Contrast agent in mmol/L at `times_s` after injection (extended Tofts model); 0 before it."""
    t = np.maximum(times_s, 0) / 60
    total = np.zeros_like(t)
    for amplitude, rate in PLASMA:
        difference = rate - tissue.kep or 1e-9
        exchanged = tissue.ktrans * (np.exp(-tissue.kep * t) - np.exp(-rate * t)) / difference
        total += DOSE_MMOL_PER_KG * amplitude * (exchanged + tissue.vp * np.exp(-rate * t))
    return np.where(times_s > 0, total, 0.0)


def signal(tissue: Tissue, times_s: Curve, *, repetition_s: float = 0.0045, flip_degrees: float = 12.0) -> Curve:
    """Signal of a spoiled gradient echo at `times_s` after injection, in hundredths of the proton signal."""
    rate = 1 / tissue.t1_s + RELAXIVITY * concentration(tissue, times_s)
    e1 = np.exp(-repetition_s * rate)
    flip = np.radians(flip_degrees)
    level: Curve = 100 * tissue.m0 * np.sin(flip) * (1 - e1) / (1 - np.cos(flip) * e1)
    return level


def early_late(times_s: Curve) -> tuple[int, int]:
    """The phases nearest 150 s and 450 s after injection (I-SPY, Hylton, Radiology 2012;263:663)."""
    post = np.where(times_s > 0, times_s, np.inf)
    return int(np.argmin(np.abs(post - EARLY_S))), int(np.argmin(np.abs(post - LATE_S)))


def enhancement_ratio(level: Curve, times_s: Curve) -> float:
    """Signal enhancement ratio: the early rise over the late one."""
    early, late = early_late(times_s)
    return float((level[early] - level[0]) / (level[late] - level[0]))
