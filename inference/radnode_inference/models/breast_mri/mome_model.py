"""The model `mr-breast-mome`: one probability for a multiparametric breast MR, and what each modality adds to it."""

from pathlib import Path

import torch

from radnode_inference import device as devices
from radnode_inference.findings import Code, Finding, Findings, Kind, Measurement, ModelIdentity, tracking_uid
from radnode_inference.measure import BILATERAL, PERCENT
from radnode_inference.model import DeclinedError, Progress
from radnode_inference.models.breast_mri import mome
from radnode_inference.models.breast_mri.cards import MOME, MOME_PACKAGED, MOME_VERSION
from radnode_inference.models.breast_mri.mome_examination import MODALITIES, Examination, examination
from radnode_inference.models.breast_mri.mome_input import Inputs, inputs
from radnode_inference.models.breast_mri.mome_settings import MomeSettings
from radnode_inference.models.breast_mri.mome_shapley import shapley
from radnode_inference.state_dict import read_tensors
from radnode_inference.study import Study
from radnode_inference.weights import WeightsError, WeightsFile, verified

TITLES = {"dce": "DCE", "dwi": "DWI", "t2": "T2"}
BREAST = Code(value="76752008", scheme="SCT", meaning="Breast")


def create(device: str, weights: Path) -> "MomeModel":
    """The model with the weights found in the folder `weights`, else with the demonstration weights.

    Raises WeightsError when there are none or they are not what their card says.
    """
    return MomeModel(verified(MOME, weights, MOME_PACKAGED), devices.resolve(device))


class MomeModel:
    """See model.Model."""

    def __init__(self, weights: WeightsFile, device: torch.device) -> None:
        self.weights, self.device = weights, device
        self.settings = MomeSettings.from_weights(weights)
        self.network = loaded(weights, self.settings).to(device)

    @property
    def identity(self) -> ModelIdentity:
        return self.weights.identity(MOME_VERSION)

    def read(self, study: Study, progress: Progress) -> Findings:
        """The examination's probability as a finding without a place, or as a statement when it is below the threshold.

        Raises DeclinedError `demonstration-weights`, `missing-role:...` and those of reading the series.
        """
        self.weights.admit(study)
        progress(0.0, "choosing the series")
        found = examination(study, progress)
        self.check(found)
        progress(0.5, "preparing")
        prepared = self.prepared(found)
        coalitions: dict[frozenset[str], float] = {}

        def worth(given: frozenset[str]) -> float:
            coalitions[given] = self.probability(prepared, given)
            progress(0.6 + 0.4 * len(coalitions) / 2 ** len(found.present), "network")
            return coalitions[given]

        shares = shapley(found.present, worth)
        probability = coalitions[frozenset(found.present)]
        return Findings(
            study_uid=study.study_uid,
            model=self.identity,
            volume=found.pre,
            items=(self.finding(study, probability, shares),),
            statements=(
                *self.weights.statements,
                *found.statements,
                *missing_sentence(found),
                self.told(probability, shares, coalitions),
            ),
            used_series_uids=found.used_series_uids,
        )

    def check(self, found: Examination) -> None:
        """Raises DeclinedError when a modality is missing that the card does not allow to be."""
        for modality in MODALITIES:
            if modality not in found.present and modality not in self.settings.missing_allowed:
                raise DeclinedError(
                    f"missing-role:{modality}", f"there are no {TITLES[modality]} images, and the weights need them"
                )

    def prepared(self, found: Examination) -> Inputs:
        try:
            return inputs(
                self.settings.input,
                pre=found.pre_placed,
                posts=[p.voxels for p in found.posts],
                times_s=found.times_s,
                dwi=found.dwi,
                t2=found.t2,
            )
        except ValueError as e:
            raise DeclinedError("input", f"the images cannot be put on the network's grid: {e}") from e

    def probability(self, prepared: Inputs, given: frozenset[str]) -> float:
        """Of the positive class, seeing only the modalities in `given`."""
        volumes = [getattr(prepared, m) if m in given else None for m in MODALITIES]
        with torch.inference_mode(), devices.threads(), devices.precision(self.device):
            logits = self.network(*(None if v is None else v[None].to(self.device) for v in volumes))
        p = (logits[0].double() / self.settings.temperature).softmax(dim=0)
        return float(p[self.settings.positive])

    def finding(self, study: Study, probability: float, shares: dict[str, float]) -> Finding:
        above = probability > self.settings.threshold
        tracking_id = f"{self.settings.name}, whole examination"
        return Finding(
            tracking_id=tracking_id,
            tracking_uid=tracking_uid(study.study_uid, self.identity, tracking_id),
            kind=Kind.ABNORMALITY if above else Kind.EXAMINATION,
            concept=self.settings.concept if above else self.settings.site or BREAST,
            site=self.settings.site if above else None,
            laterality=BILATERAL if not above else None,
            probability=probability if above else None,
            measurements=(
                *((measured("PROBABILITY", f"Probability of {self.settings.name}", probability),) if not above else ()),
                *(
                    measured(f"SHAPLEY-{TITLES[m]}", f"Contribution of {TITLES[m]} to the probability", v)
                    for m, v in shares.items()
                ),
            ),
        )

    def told(self, probability: float, shares: dict[str, float], coalitions: dict[frozenset[str], float]) -> str:
        """The result in one sentence."""
        s = self.settings
        relation = "above" if probability > s.threshold else "not above"
        parts = ", ".join(f"{TITLES[m]} {100 * v:+.1f}" for m, v in shares.items())
        return (
            f"Probability of {s.name} {100 * probability:.1f} %, {relation} the reporting threshold of {100 * s.threshold:.1f} %. "
            f"Contributions in percentage points (Shapley values over all coalitions, from {100 * coalitions[frozenset()]:.1f} % "
            f"without any image): {parts}."
        )


def measured(value: str, meaning: str, part: float) -> Measurement:
    return Measurement(concept=Code(value=value, scheme="99RADNODE", meaning=meaning), value=100 * part, unit=PERCENT)


def missing_sentence(found: Examination) -> tuple[str, ...]:
    missing = [TITLES[m] for m in MODALITIES if m not in found.present]
    return (f"Read without {' and '.join(missing)}: the study has no such images.",) if missing else ()


def loaded(weights: WeightsFile, settings: MomeSettings) -> mome.Mome:
    """The network of the weights. Raises StateDictError, or WeightsError when it has other classes than the card."""
    network = mome.from_state_dict(read_tensors(weights.path), heads=settings.heads).float()
    if network.shape.classes != settings.classes:
        raise WeightsError(f"{weights.name} has {network.shape.classes} classes, its card {settings.classes}")
    return network
