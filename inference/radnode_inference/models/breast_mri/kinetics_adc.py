"""The apparent diffusion coefficient: the scanner's map, else computed from the diffusion images, else why there is none."""

from dataclasses import dataclass

import numpy as np

from radnode_inference.model import DeclinedError
from radnode_inference.models.breast_mri.roles import Roles
from radnode_inference.volume import FloatArray, Volume

LOW_B, HIGH_B, BEST_B = 100.0, 500.0, 800.0
"""s/mm2: the lower image at most, the upper at least; of several upper ones the nearest to 800 (EUSOBI, Eur Radiol 2020)."""
DARKEST = 0.03
"""Part of the bright tissue of the lower image below which there is no signal to compute from."""
HIGHEST = 4000.0
MEDIAN = "The apparent diffusion coefficient of a lesion is the median inside its outline of"


@dataclass(frozen=True, kw_only=True, eq=False)
class Adc:
    """volume: None where there is none; computed ones are in 1e-6 mm2/s, 0 where there is no signal.

    said: where it is from, or why there is none. series_uids: of the images that it is from.
    """

    volume: Volume | None
    said: str
    series_uids: tuple[str, ...] = ()


def adc_of(roles: Roles, pre: Volume) -> Adc:
    """The ADC in the frame of reference of the dynamic series."""
    found, no_map = ready(roles, pre)
    if found is not None:
        return Adc(volume=found, said=f"{MEDIAN} the ADC map.", series_uids=(found.series_uid,))
    try:
        return computed(roles, pre, no_map)
    except DeclinedError as e:
        return Adc(volume=None, said=f"No apparent diffusion coefficient is given: {no_map}, and {e.sentence}.")


def ready(roles: Roles, pre: Volume) -> tuple[Volume | None, str]:
    """The map that the study holds, else why it is not used."""
    if roles.adc is None:
        return None, "the study has no ADC map that is one volume"
    try:
        found = roles.adc.volume()
    except DeclinedError as e:
        return None, f"the ADC map cannot be read ({e.sentence})"
    if found.frame_of_reference_uid != pre.frame_of_reference_uid:
        return None, "the ADC map lies in another frame of reference than the dynamic series"
    return found, ""


def computed(roles: Roles, pre: Volume, no_map: str) -> Adc:
    """-ln(Sb/S0)/b of two diffusion images. Raises DeclinedError with the reason why it cannot be."""
    lows, highs = [b for b in roles.dwi if b <= LOW_B], [b for b in roles.dwi if b >= HIGH_B]
    if not lows or not highs:
        wanted = (
            f"there are no diffusion images at b {LOW_B:g} or less and at {HIGH_B:g} s/mm2 or more to compute it from"
        )
        raise DeclinedError("adc", f"{wanted} ({roles.dwi_unused})" if roles.dwi_unused else wanted)
    low, high = min(lows), min(highs, key=lambda b: abs(b - BEST_B))
    try:
        faint, strong = roles.dwi[high].volume(), roles.dwi[low].volume()
    except DeclinedError as e:
        raise DeclinedError("adc", f"the diffusion images cannot be read ({e.sentence})") from e
    if faint.frame_of_reference_uid != pre.frame_of_reference_uid:
        raise DeclinedError("adc", "the diffusion images lie in another frame of reference than the dynamic series")
    if faint.shape != strong.shape or not np.allclose(faint.affine, strong.affine, atol=0.1):
        raise DeclinedError("adc", f"the diffusion images at b {low:g} and {high:g} s/mm2 do not lie on the same grid")
    volume = Volume(
        voxels=coefficient(strong.voxels, faint.voxels, high - low),
        affine=faint.affine,
        frame_of_reference_uid=faint.frame_of_reference_uid,
        series_uid=faint.series_uid,
        sources=faint.sources,
    )
    said = f"{MEDIAN} an ADC map computed here from the images at b {low:g} and {high:g} s/mm2: {no_map}."
    return Adc(volume=volume, said=said, series_uids=tuple(dict.fromkeys([strong.series_uid, faint.series_uid])))


def coefficient(strong: FloatArray, faint: FloatArray, difference: float) -> FloatArray:
    """1e-6 mm2/s from the signals at the lower and the upper b value, `difference` s/mm2 apart; 0 where one has no signal."""
    there = (strong > DARKEST * np.percentile(strong, 99)) & (faint > 0)
    ratio = np.log(np.where(there, strong, 1.0) / np.where(there, faint, 1.0)) / difference
    values: FloatArray = np.where(there, np.clip(1e6 * ratio, 0.0, HIGHEST), 0.0).astype(np.float32)
    return values
