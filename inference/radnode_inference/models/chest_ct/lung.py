"""`ct-lung`: lung and airway volumes and lung density on every chest CT. No training, no weights, no probabilities."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from radnode_inference.findings import Finding, Findings, ModelIdentity
from radnode_inference.load import first_loadable
from radnode_inference.match import best_ct, name
from radnode_inference.model import Progress
from radnode_inference.models.chest_ct.cards import LUNG_IDENTITY
from radnode_inference.models.chest_ct.lung_codes import EMPHYSEMA_LAA_950
from radnode_inference.models.chest_ct.lung_density import density
from radnode_inference.models.chest_ct.lung_findings import SIDES, Writer
from radnode_inference.models.chest_ct.lung_gates import Gates, coverage, gates
from radnode_inference.models.chest_ct.lung_segment import Segmented, segment
from radnode_inference.study import Series, Study
from radnode_inference.volume import Volume


class ChestLungs:
    """The model. It has nothing to load, so it is always warm."""

    identity: ModelIdentity = LUNG_IDENTITY

    def read(self, study: Study, progress: Progress) -> Findings:
        """Lungs and airways of the study's best chest CT series.

        Raises DeclinedError `no-suitable-series`, `no-lungs`, `coverage`, `orientation`, or the gate of `load` that refused the best
        series when no other one loads.
        """
        progress(0.0, "choosing the series")
        match = best_ct(study)
        series, volume, passed_over = first_loadable(match)
        progress(0.2, "images loaded")
        segmented = segment(volume, progress)
        progress(0.9, "measuring")
        items, passed = measured(study, series, volume, segmented)
        reason = f"Read: {match.reason}." if series is match.series else f"Read: {name(series)}."
        return Findings(
            study_uid=study.study_uid,
            model=self.identity,
            volume=volume,
            items=items,
            statements=(reason, *passed_over, *segmented.doubts, *passed.statements),
            partial_because=coverage(segmented.cut),
            used_series_uids=(series.series_uid,),
        )


def create(device: str, weights: Path) -> ChestLungs:
    """The model; it needs neither a device nor weights."""
    return ChestLungs()


def measured(study: Study, series: Series, volume: Volume, segmented: Segmented) -> tuple[tuple[Finding, ...], Gates]:
    """Findings of lungs and airways, with the gates that they had to pass."""
    refined = segmented.refined
    counts = sum(refined.histograms.values())
    total_ml = float(np.sum(counts)) * volume.voxel_mm3 / 1000
    together = density(np.asarray(counts))
    passed = gates(series.headers[0], volume, total_ml, together)
    writer = Writer(study.study_uid, LUNG_IDENTITY, volume)
    items: list[Finding] = []
    for side, mask in ((1, refined.right), (2, refined.left)):
        if mask.any():
            numbers = density(refined.histograms[side])
            items.append(writer.lung(SIDES[side], mask, numbers, density_stands=passed.density_stands))
    if len(items) < 2:
        sentence = "Only one lung holds air in this scan."
        passed = replace(passed, statements=(sentence, *passed.statements), trusted=False)
    if refined.airways.any():
        items.append(writer.airways(refined.airways))
    items.append(writer.both(total_ml, together, density_stands=passed.density_stands))
    if passed.trusted and not segmented.cut and together.laa_950 >= EMPHYSEMA_LAA_950:
        low = (refined.right | refined.left) & (volume.voxels < -950)
        items.append(writer.emphysema(together, low))
    return tuple(items), passed
