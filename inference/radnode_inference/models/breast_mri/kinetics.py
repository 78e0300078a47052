"""The model `mr-breast-kinetics`: enhancement, curve types and outlines of a dynamic breast MR, without training."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from radnode_inference import measure
from radnode_inference.findings import (
    Code,
    Evaluation,
    Finding,
    Findings,
    Kind,
    Measurement,
    ModelIdentity,
    tracking_uid,
)
from radnode_inference.model import DeclinedError, Progress
from radnode_inference.models.breast_mri import kinetics_codes as codes
from radnode_inference.models.breast_mri.cards import KINETICS_IDENTITY
from radnode_inference.models.breast_mri.kinetics_lesions import EARLY_S, LATE_S, Kinetics, around, kinetics, lesions
from radnode_inference.models.breast_mri.kinetics_region import Region, breast_region
from radnode_inference.models.breast_mri.roles import Phase, Roles, roles_of
from radnode_inference.study import Study
from radnode_inference.volume import BoolArray, FloatArray, Volume

TIME_TOLERANCE_S = 90.0
LEAST_ENHANCEMENT_PERCENT = 60.0
MOST_LESIONS = 20


def create(device: str, weights: Path) -> "KineticsModel":
    """The model; it needs neither a device nor weights."""
    return KineticsModel()


@dataclass(frozen=True, kw_only=True, eq=False)
class Examination:
    """The dynamic series read. phases: voxels before contrast first, then each phase after it, cut to `box`."""

    pre: Volume
    phases: tuple[FloatArray, ...]
    times_s: tuple[float, ...]
    early: int
    late: int
    region: Region
    box: tuple[slice, ...]
    adc: Volume | None


class KineticsModel:
    """See model.Model."""

    @property
    def identity(self) -> ModelIdentity:
        return KINETICS_IDENTITY

    def read(self, study: Study, progress: Progress) -> Findings:
        """Focal enhancement as abnormalities with outlines, and the enhancing volume of the examination.

        Raises DeclinedError `missing-role:...`, `timing`, `coverage`, `no-enhancement`, `grids-differ` and those of `load`.
        """
        roles = roles_of(study)
        found = examine(roles, progress)
        progress(0.7, "measuring enhancement")
        phases, region = found.phases, found.region.mask[found.box]
        maps = kinetics(phases[0], phases[found.early], phases[found.late], region)
        check_enhancement(found, maps)
        masks = lesions(maps, region, found.pre.spacing)
        progress(0.9, "describing")
        items = [self.lesion(study, found, mask, n) for n, mask in enumerate(masks[:MOST_LESIONS], 1)]
        return Findings(
            study_uid=study.study_uid,
            model=self.identity,
            volume=found.pre,
            items=(*items, self.summary(study, found, maps)),
            statements=statements(roles, found, maps, len(masks)),
            used_series_uids=used(roles, found),
        )

    def lesion(self, study: Study, found: Examination, mask: BoolArray, number: int) -> Finding:
        """One focus with its measurements. The curve is that of its mean signal."""
        whole = np.zeros(found.pre.shape, bool)
        whole[found.box] = mask
        signal = np.array([phase[mask].mean() for phase in found.phases])
        percent = 100 * (signal[1:] - signal[0]) / max(signal[0], 1e-6)
        ratio = enhancement_ratio(signal, found.early, found.late)
        tracking_id = f"Enhancing lesion {number}"
        values = [
            measure.volume_measurement(whole, found.pre),
            *measure.diameter_measurements(measure.diameters(whole, found.pre)),
            Measurement(concept=codes.EARLY_ENHANCEMENT, value=float(percent[found.early - 1]), unit=measure.PERCENT),
            Measurement(concept=codes.PEAK_ENHANCEMENT, value=float(percent.max()), unit=measure.PERCENT),
            Measurement(concept=codes.SER, value=ratio, unit=codes.RATIO),
        ]
        adc = None if found.adc is None else median_adc(whole, found.pre, found.adc)
        if adc is not None:
            values.append(Measurement(concept=codes.ADC, value=adc, unit=codes.MM2_PER_S))
        return Finding(
            tracking_id=tracking_id,
            tracking_uid=tracking_uid(study.study_uid, self.identity, tracking_id),
            kind=Kind.ABNORMALITY,
            concept=codes.ENHANCING_LESION,
            site=codes.BREAST,
            laterality=measure.laterality(whole, found.pre, found.region.midline_x),
            measurements=tuple(values),
            evaluations=(Evaluation(concept=codes.CURVE, value=curve_type(ratio)),),
            mask=whole,
        )

    def summary(self, study: Study, found: Examination, maps: Kinetics) -> Finding:
        """Enhancing volume in the found region, by signal enhancement ratio, and the background's enhancement."""
        ml = found.pre.voxel_mm3 / 1000
        ratios = maps.ratio[maps.enhancing]
        volumes = [
            Measurement(concept=concept, value=float(((ratios > low) & (ratios <= high)).sum()) * ml, unit=measure.ML)
            for low, high, concept in codes.SER_BINS
        ]
        tracking_id = "Enhancement of both breasts"
        return Finding(
            tracking_id=tracking_id,
            tracking_uid=tracking_uid(study.study_uid, self.identity, tracking_id),
            kind=Kind.EXAMINATION,
            concept=codes.BREAST,
            laterality=measure.BILATERAL,
            measurements=(
                Measurement(concept=codes.ENHANCING_VOLUME, value=float(maps.enhancing.sum()) * ml, unit=measure.ML),
                *volumes,
                Measurement(concept=codes.BACKGROUND, value=maps.background, unit=measure.PERCENT),
            ),
        )


def examine(roles: Roles, progress: Progress) -> Examination:
    """The phases read, cut to the breasts. Raises DeclinedError `grids-differ`, `timing`, `coverage`."""
    pre = roles.pre.images.volume()
    early, late = chosen(roles.posts)
    total = pre.voxels.copy()
    after: list[FloatArray] = []
    for n, phase in enumerate(roles.posts):
        progress(0.05 + 0.5 * n / len(roles.posts), f"reading phase {n + 1} of {len(roles.posts)}")
        volume = phase.images.volume()
        if volume.shape != pre.shape or not np.allclose(volume.affine, pre.affine, atol=0.05):
            raise DeclinedError("grids-differ", "the dynamic phases do not lie on the same grid")
        total += volume.voxels
        after.append(volume.voxels)
    total /= len(after) + 1
    progress(0.6, "finding the breasts")
    mean = Volume(
        voxels=total,
        affine=pre.affine,
        frame_of_reference_uid=pre.frame_of_reference_uid,
        series_uid=pre.series_uid,
        sources=pre.sources,
    )
    region = breast_region(mean)
    box = around(region.mask, 0.0, pre.spacing)
    return Examination(
        pre=pre,
        phases=tuple(v[box] for v in (pre.voxels, *after)),
        times_s=(roles.pre.after_injection_s, *(p.after_injection_s for p in roles.posts)),
        early=early,
        late=late,
        region=region,
        box=box,
        adc=adc_volume(roles, pre),
    )


def chosen(posts: tuple[Phase, ...]) -> tuple[int, int]:
    """The phases (counted from 1) nearest 150 s and 450 s. Raises DeclinedError `timing` where they are too far off."""
    times = np.array([p.after_injection_s for p in posts])
    early, late = int(np.argmin(np.abs(times - EARLY_S))), int(np.argmin(np.abs(times - LATE_S)))
    listed = ", ".join(f"{t:.0f}" for t in times)
    if early == late or times[late] - times[early] < TIME_TOLERANCE_S:
        raise DeclinedError("timing", f"the phases after contrast (at {listed} s) have no early and late one")
    if abs(times[early] - EARLY_S) > TIME_TOLERANCE_S:
        raise DeclinedError("timing", f"no phase lies near {EARLY_S:.0f} s after contrast; there are {listed} s")
    return early + 1, late + 1


def adc_volume(roles: Roles, pre: Volume) -> Volume | None:
    """The ADC map, if it can be read and lies in the same frame of reference."""
    if roles.adc is None:
        return None
    try:
        adc = roles.adc.volume()
    except DeclinedError:
        return None
    return adc if adc.frame_of_reference_uid == pre.frame_of_reference_uid else None


def median_adc(mask: BoolArray, pre: Volume, adc: Volume) -> float | None:
    """The median ADC of a mask in mm2/s; None where the map does not cover it or its unit cannot be told."""
    index = np.argwhere(mask).T
    to_adc = np.linalg.inv(adc.affine) @ pre.affine
    values = ndimage.map_coordinates(
        adc.voxels, to_adc[:3, :3] @ index + to_adc[:3, 3:], order=1, mode="constant", cval=-1.0
    )
    inside = values[values > 0]
    if len(inside) < 0.5 * len(values):
        return None
    value = float(np.median(inside))
    for low, high, factor in ((100, 5000, 1e-6), (0.1, 5, 1e-3), (1e-4, 5e-3, 1.0)):  # 1e-6, 1e-3 or 1 mm2/s
        if low <= value <= high:
            return value * factor
    return None


def enhancement_ratio(signal: FloatArray, early: int, late: int) -> float:
    """(S1-S0)/(S2-S0) of a mean curve, at most 3."""
    later = float(signal[late] - signal[0])
    return min(float(signal[early] - signal[0]) / later, 3.0) if later > 1e-6 else 3.0


def curve_type(ratio: float) -> Code:
    """Persistent below 0.9, washout above 1.1, else plateau."""
    if ratio < 0.9:
        return codes.PERSISTENT
    return codes.WASHOUT if ratio > 1.1 else codes.PLATEAU


def check_enhancement(found: Examination, maps: Kinetics) -> None:
    """Raises DeclinedError `no-enhancement` where not even vessels brighten: no contrast, or a wrong first phase."""
    body = found.region.body
    box = found.box
    pre, early = found.phases[0], found.phases[found.early]
    tissue = body[box] & (pre > 0.3 * np.percentile(pre[found.region.mask[box]], 50))
    highest = float(np.percentile(100 * (early - pre)[tissue] / pre[tissue], 99.9)) if tissue.any() else 0.0
    if max(highest, float(maps.focal_percent if maps.enhancing.any() else 0)) < LEAST_ENHANCEMENT_PERCENT:
        raise DeclinedError(
            "no-enhancement",
            f"hardly anything brightens after contrast (at most {highest:.0f} %): no contrast reached the breasts,"
            " or the phase taken for the one before contrast is not",
        )


def statements(roles: Roles, found: Examination, maps: Kinetics, count: int) -> tuple[str, ...]:
    """What a reader must know of this result."""
    times = found.times_s
    said = [
        f"Early phase at {times[found.early]:.0f} s, late phase at {times[found.late]:.0f} s after contrast"
        f" (wanted: {EARLY_S:.0f} and {LATE_S:.0f} s).",
        "The breasts were outlined automatically, without a drawn region: the volume is the enhancing volume of both"
        " breasts (vessels included), not functional tumour volume.",
        f"Background enhancement of glandular tissue: median {maps.background:.0f} %;"
        f" a focus needed {maps.focal_percent:.0f} % to stand out.",
        "Outlines and numbers only: no probability of malignancy is given. Non-mass enhancement and foci under about"
        " 8 mm can be missed.",
        *roles.assumptions,
    ]
    if found.adc is not None:
        said.append("The apparent diffusion coefficient of a lesion is the median of the ADC map inside its outline.")
    if roles.fat_suppressed is False:
        said.append("The dynamic series is not fat-suppressed: percent enhancement and outlines are less reliable.")
    if count > MOST_LESIONS:
        said.append(f"{count} foci were found; only the {MOST_LESIONS} largest are outlined.")
    return tuple(said)


def used(roles: Roles, found: Examination) -> tuple[str, ...]:
    series = [p.images.series_uid for p in (roles.pre, *roles.posts)]
    if found.adc is not None:
        series.append(found.adc.series_uid)
    return tuple(dict.fromkeys(series))
