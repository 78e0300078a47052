"""`ct-voco` with weights that classify: one probability for each class of the whole examination."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from radnode_inference import device as devices
from radnode_inference.engines.check import check
from radnode_inference.engines.choose import Chosen, choose
from radnode_inference.engines.record import Agreement
from radnode_inference.findings import Finding, Findings, ModelIdentity, tracking_uid
from radnode_inference.guards import Guards
from radnode_inference.model import Progress
from radnode_inference.models.chest_ct import voco
from radnode_inference.models.chest_ct.cards import VOCO, VOCO_VERSION
from radnode_inference.models.chest_ct.voco_enter import enter
from radnode_inference.models.chest_ct.voco_settings import VocoSettings
from radnode_inference.state_dict import read_tensors
from radnode_inference.study import Study
from radnode_inference.weights import WeightsError, WeightsFile


class VocoClassifier:
    """See model.Model."""

    def __init__(self, weights: WeightsFile, device: torch.device) -> None:
        self.weights, self.device = weights, device
        self.settings, self.guards = VocoSettings.from_weights(weights), Guards.from_weights(weights)
        self.network = loaded(weights, len(self.settings.classes)).to(device)
        self.engine: Chosen | None = None

    @property
    def identity(self) -> ModelIdentity:
        return self.weights.identity(VOCO_VERSION)

    def choose_engine(self, weights: Path) -> None:
        """See engines.record.Tunable."""
        self.engine = choose(self.network, weights=weights, key=self.weights.engines_key, device=self.device)

    def check_engines(self, study: Study, weights: Path, tell: Callable[[str], None]) -> tuple[Agreement, ...]:
        """See engines.record.Tunable: on the examination and its three mirror images. Raises DeclinedError as `read` does."""
        entered = enter(study, self.weights, self.settings, self.guards, self.device, lambda part, words: None)
        shown = self.shown(entered.prepared)
        return check(
            self.network, torch.cat([shown, *(shown.flip(axis) for axis in (2, 3, 4))]), weights=weights,
            key=self.weights.engines_key, device=self.device, tell=tell, temperature=self.guards.temperature,
        )  # fmt: skip

    def read(self, study: Study, progress: Progress) -> Findings:
        """The classes at or above their threshold, without a place. Raises DeclinedError as `enter` does."""
        entered = enter(study, self.weights, self.settings, self.guards, self.device, progress)
        progress(0.2, "network")
        probabilities = self.infer(entered.prepared)
        shares = ", ".join(f"{c.name} {p:.2f}" for c, p in zip(self.settings.classes, probabilities, strict=True))
        return Findings(
            study_uid=study.study_uid,
            model=self.identity,
            volume=entered.volume,
            items=self.findings(study, probabilities),
            statements=(
                *entered.statements,
                f"Probabilities of the examination: {shares}.",
                *(self.engine.statements if self.engine else ()),
            ),
            used_series_uids=(entered.volume.series_uid,),
        )

    def infer(self, prepared: Tensor) -> tuple[float, ...]:
        """The probability of each class. prepared: [i, j, k] 0..1, the body. Raises ValueError for an answer that is no number."""
        predict = self.engine.predict if self.engine else self.network
        with torch.inference_mode(), devices.threads():
            logits = predict(self.shown(prepared))[0].double() / self.guards.temperature
        if not bool(torch.isfinite(logits).all()):
            raise ValueError("the network answered with values that are no numbers")
        probabilities = logits.sigmoid() if len(logits) == 1 else logits.softmax(dim=0)
        return tuple(float(p) for p in probabilities)

    def shown(self, prepared: Tensor) -> Tensor:
        """What the network is given: (1, 1, *size), as often behind itself as the card says."""
        scaled = F.interpolate(prepared[None, None], size=self.settings.roi, mode="trilinear")
        return torch.cat([scaled] * self.settings.repeat_depth, dim=-1)

    def findings(self, study: Study, probabilities: tuple[float, ...]) -> tuple[Finding, ...]:
        return tuple(
            Finding(
                tracking_id=setting.name,
                tracking_uid=tracking_uid(study.study_uid, self.identity, setting.name),
                kind=setting.kind,
                concept=setting.concept,
                site=setting.site,
                laterality=setting.laterality,
                probability=probability,
            )
            for setting, probability in zip(self.settings.classes, probabilities, strict=True)
            if setting.kind is not None and setting.concept is not None and probability >= setting.threshold
        )


def loaded(weights: WeightsFile, classes: int) -> voco.Classifier:
    """The classifying network of the weights. Raises WeightsError when it is none, or has other classes than the card."""
    network = voco.from_state_dict(read_tensors(weights.path)).float()
    if not isinstance(network, voco.Classifier):
        raise WeightsError(f"{weights.name} does not classify: its card needs input.roi in place of input.size")
    there = network.body.get_parameter("head.bias").shape[0]
    if there != classes:
        raise WeightsError(f"{weights.name} has {there} classes, its card {classes}")
    if (channels := voco.channels_of(network)) != 1:
        raise WeightsError(f"{weights.name} reads {channels} images at once; {VOCO} shows it one")
    return network
