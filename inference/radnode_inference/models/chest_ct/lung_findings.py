"""Lungs and airways as findings with codes and measurements."""

from radnode_inference.findings import Code, Finding, Kind, Measurement, ModelIdentity, tracking_uid
from radnode_inference.measure import BILATERAL, GRAM, HU, LEFT, ML, PERCENT, RIGHT, VOLUME, volume_ml
from radnode_inference.models.chest_ct.lung_codes import (
    AIRWAYS,
    EMPHYSEMA,
    LAA_910,
    LAA_950,
    LUNG,
    MASS,
    MEAN_DENSITY,
    PERC15,
)
from radnode_inference.models.chest_ct.lung_density import Density
from radnode_inference.volume import BoolArray, Volume


class Writer:
    """Makes the findings of one result; holds what they share."""

    def __init__(self, study_uid: str, identity: ModelIdentity, volume: Volume) -> None:
        self.study_uid, self.identity, self.volume = study_uid, identity, volume

    def finding(
        self,
        tracking_id: str,
        kind: Kind,
        concept: Code,
        measurements: tuple[Measurement, ...],
        *,
        laterality: Code | None = None,
        site: Code | None = None,
        mask: BoolArray | None = None,
    ) -> Finding:
        return Finding(
            tracking_id=tracking_id,
            tracking_uid=tracking_uid(self.study_uid, self.identity, tracking_id),
            kind=kind,
            concept=concept,
            site=site,
            laterality=laterality,
            measurements=measurements,
            mask=mask,
        )

    def lung(self, side: Code, mask: BoolArray, numbers: Density, *, density_stands: bool) -> Finding:
        """One lung with its volume, mass and densities."""
        measured = sizes(volume_ml(mask, self.volume), numbers, density_stands=density_stands)
        name = f"{side.meaning.lower()}-lung"
        return self.finding(name, Kind.ANATOMY, LUNG, measured, laterality=side, mask=mask)

    def airways(self, mask: BoolArray) -> Finding:
        measured = (volume_of(volume_ml(mask, self.volume)),)
        return self.finding("airways", Kind.ANATOMY, AIRWAYS, measured, mask=mask)

    def both(self, millilitres: float, numbers: Density, *, density_stands: bool) -> Finding:
        """Both lungs together: no mask, since those of the two lungs say where."""
        measured = sizes(millilitres, numbers, density_stands=density_stands)
        return self.finding("both-lungs", Kind.EXAMINATION, LUNG, measured, laterality=BILATERAL)

    def emphysema(self, numbers: Density, mask: BoolArray) -> Finding:
        """The voxels below -950 HU, where their share reaches the published cut-off."""
        measured = (Measurement(concept=LAA_950, value=numbers.laa_950, unit=PERCENT),)
        return self.finding(
            "emphysema", Kind.ABNORMALITY, EMPHYSEMA, measured, laterality=BILATERAL, site=LUNG, mask=mask
        )


SIDES = {1: RIGHT, 2: LEFT}


def volume_of(millilitres: float) -> Measurement:
    return Measurement(concept=VOLUME, value=millilitres, unit=ML)


def sizes(millilitres: float, numbers: Density, *, density_stands: bool) -> tuple[Measurement, ...]:
    """Volume, mass and the densities that may be given."""
    mass = Measurement(concept=MASS, value=mass_g(millilitres, numbers), unit=GRAM)
    return (volume_of(millilitres), mass, *densities(numbers, density_stands=density_stands))


def mass_g(millilitres: float, numbers: Density) -> float:
    """Grams of tissue and blood in a lung: -1000 HU weighs nothing, 0 HU 1 g/mL (Coxson et al., AJRCCM 1999;159:851)."""
    return millilitres * (numbers.mean + 1000) / 1000


def densities(numbers: Density, *, density_stands: bool) -> tuple[Measurement, ...]:
    mean = Measurement(concept=MEAN_DENSITY, value=numbers.mean, unit=HU)
    if not density_stands:
        return (mean,)
    return (
        mean,
        Measurement(concept=LAA_950, value=numbers.laa_950, unit=PERCENT),
        Measurement(concept=LAA_910, value=numbers.laa_910, unit=PERCENT),
        Measurement(concept=PERC15, value=numbers.perc15, unit=HU),
    )
