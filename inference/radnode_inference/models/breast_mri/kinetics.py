"""The model `mr-breast-kinetics`: enhancement, curve types and outlines of a dynamic breast MR, without training."""

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
    ParameterMap,
    tracking_uid,
)
from radnode_inference.model import DeclinedError, Progress
from radnode_inference.models.breast_mri import kinetics_codes as codes
from radnode_inference.models.breast_mri.cards import KINETICS_IDENTITY
from radnode_inference.models.breast_mri.kinetics_examination import Examination, examine
from radnode_inference.models.breast_mri.kinetics_lesions import Kinetics, kinetics, lesions
from radnode_inference.models.breast_mri.kinetics_words import MOST_LESIONS, statements
from radnode_inference.models.breast_mri.roles import Roles, roles_of
from radnode_inference.study import Study
from radnode_inference.volume import BoolArray, FloatArray, Volume

LEAST_ENHANCEMENT_PERCENT = 60.0
FEWEST_INSIDE = 3


def create(device: str, weights: Path) -> "KineticsModel":
    """The model; it needs neither a device nor weights."""
    return KineticsModel()


class KineticsModel:
    """See model.Model."""

    @property
    def identity(self) -> ModelIdentity:
        return KINETICS_IDENTITY

    def read(self, study: Study, progress: Progress) -> Findings:
        """Focal enhancement as abnormalities with outlines, and the enhancing volume of the examination.

        Where the study holds a segmentation or structure set that fits, what enhances in its regions instead of foci.
        Raises DeclinedError `missing-role:...`, `timing`, `coverage`, `scaling`, `motion`, `no-enhancement`,
        `grids-differ` and
        those of `load`.
        """
        roles = roles_of(study)
        try:
            found = examine(study, roles, progress)
        except DeclinedError as e:
            raise DeclinedError(e.gate, e.sentence, tuple(roles.reasons.values())) from e
        progress(0.7, "measuring enhancement")
        phases = found.phases[0], found.phases[found.early], found.phases[found.late]
        maps = kinetics(*phases, found.measured)
        background = maps if not found.drawn else kinetics(*phases, beside(found))
        check_enhancement(found, background)
        if found.drawn:
            named = [(f"Enhancing tissue in {d.label}", maps.enhancing & d.mask[found.box]) for d in found.drawn]
        else:
            masks = lesions(maps, found.measured, found.pre.spacing)
            named = [(f"Enhancing lesion {n}", mask) for n, mask in enumerate(masks, 1)]
        progress(0.9, "describing")
        items = [self.lesion(study, found, tracking_id, m) for tracking_id, m in named[:MOST_LESIONS] if m.any()]
        return Findings(
            study_uid=study.study_uid,
            model=self.identity,
            volume=found.carrier,
            items=(*items, self.summary(study, found, maps, background)),
            statements=(*statements(roles, found, maps, background, named), *uncovered(found, items)),
            used_series_uids=used(roles, found),
            maps=parameter_maps(found, maps),
            reasons=tuple(roles.reasons.values()),
        )

    def lesion(self, study: Study, found: Examination, tracking_id: str, mask: BoolArray) -> Finding:
        """One focus with its measurements. The curve is that of the mean signal of its inside."""
        whole = found.whole(mask)
        within = inside(mask)
        signal = np.array([phase[within].mean() for phase in found.phases])
        percent = 100 * (signal[1:] - signal[0]) / max(signal[0], 1e-6)
        ratio = enhancement_ratio(signal, found.early, found.late)
        values = [
            measure.volume_measurement(whole, found.pre),
            *measure.diameter_measurements(measure.diameters(whole, found.pre)),
            Measurement(concept=codes.EARLY_ENHANCEMENT, value=float(percent[found.early - 1]), unit=measure.PERCENT),
            Measurement(concept=codes.PEAK_ENHANCEMENT, value=float(percent.max()), unit=measure.PERCENT),
            Measurement(concept=codes.SER, value=ratio, unit=codes.RATIO),
        ]
        adc = None if found.adc.volume is None else median_adc(whole, found.pre, found.adc.volume)
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

    def summary(self, study: Study, found: Examination, maps: Kinetics, background: Kinetics) -> Finding:
        """Enhancing volume in the region, by signal enhancement ratio, and the background's enhancement."""
        ml = found.pre.voxel_mm3 / 1000
        ratios = maps.ratio[maps.enhancing]
        volumes = [
            Measurement(concept=concept, value=float(((ratios > low) & (ratios <= high)).sum()) * ml, unit=measure.ML)
            for low, high, concept in codes.SER_BINS
        ]
        tracking_id, side = "Enhancement of both breasts", measure.BILATERAL
        if found.drawn:  # named after them: what was measured elsewhere in another study is not the same thing
            tracking_id = f"Enhancement in {', '.join(d.label for d in found.drawn)}"
            sides = {measure.laterality(d.mask, found.pre, found.region.midline_x) for d in found.drawn}
            side = sides.pop() if len(sides) == 1 else measure.BILATERAL
        return Finding(
            tracking_id=tracking_id,
            tracking_uid=tracking_uid(study.study_uid, self.identity, tracking_id),
            kind=Kind.EXAMINATION,
            concept=codes.BREAST,
            laterality=side,
            measurements=(
                Measurement(concept=codes.ENHANCING_VOLUME, value=float(maps.enhancing.sum()) * ml, unit=measure.ML),
                *volumes,
                Measurement(concept=codes.BACKGROUND, value=background.background, unit=measure.PERCENT),
            ),
        )


def beside(found: Examination) -> BoolArray:
    """The breasts without the given regions; with them where nothing else is left."""
    rest = found.breasts & ~found.measured
    return rest if rest.any() else found.breasts


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
    # in 1e-6, 1e-3 or 1 mm2/s; a map in 1e-5 would be taken for the first were less than 0.3e-3 believed of any tissue
    for low, high, factor in ((300, 5000, 1e-6), (0.3, 5, 1e-3), (3e-4, 5e-3, 1.0)):
        if low <= value <= high:
            return value * factor
    return None


def uncovered(found: Examination, items: list[Finding]) -> tuple[str, ...]:
    """Which findings have no ADC although there are values."""
    if found.adc.volume is None:
        return ()
    without = [i.tracking_id for i in items if not any(m.concept == codes.ADC for m in i.measurements)]
    listed = ", ".join(without)
    return (f"No ADC for {listed}: not covered by the values, or their unit cannot be told.",) if without else ()


def inside(mask: BoolArray) -> BoolArray:
    """A focus without its outermost voxels, which hold a part of what surrounds it; all of it where fewer than three remain."""
    inner = np.asarray(ndimage.binary_erosion(mask), bool)
    return inner if inner.sum() >= FEWEST_INSIDE else mask


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


def parameter_maps(found: Examination, maps: Kinetics) -> tuple[ParameterMap, ...]:
    """The signal enhancement ratio where tissue enhances, and the highest percent enhancement of any phase in the breasts."""
    pre = np.maximum(found.phases[0], 1e-6)
    peak = 100 * (np.max(found.phases[1:], axis=0) - found.phases[0]) / pre
    return tuple(
        ParameterMap(name=code.meaning, quantity=code, unit=unit, values=on_whole(found, values, there))
        for code, unit, values, there in (
            (codes.SER, codes.RATIO, np.minimum(maps.ratio, 3.0), maps.enhancing),
            (codes.PEAK_ENHANCEMENT, measure.PERCENT, peak, found.measured & maps.bright),
        )
    )


def on_whole(found: Examination, values: FloatArray, there: BoolArray) -> FloatArray:
    """Values in the box on the whole grid, NaN where there are none."""
    whole = np.full(found.pre.shape, np.nan, np.float32)
    whole[found.box] = np.where(there, values, np.nan)
    return whole


def used(roles: Roles, found: Examination) -> tuple[str, ...]:
    series = [p.images.series_uid for p in (roles.pre, *roles.posts)]
    return tuple(dict.fromkeys([*series, *found.adc.series_uids]))
