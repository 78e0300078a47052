"""The model `ct-voco`: a VoCo SwinUNETR over a chest CT, its classes as coded findings on the source images."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from radnode_inference import device as devices
from radnode_inference.class_map import Strongest, on_grid, pack
from radnode_inference.engines.check import check, windows_of
from radnode_inference.engines.choose import Chosen, choose
from radnode_inference.engines.record import Agreement
from radnode_inference.findings import Finding, Findings, Kind, ModelIdentity, tracking_uid
from radnode_inference.guards import Guards
from radnode_inference.measure import diameter_measurements, diameters, laterality, volume_measurement
from radnode_inference.model import Progress
from radnode_inference.models.chest_ct import voco
from radnode_inference.models.chest_ct.cards import PACKAGED, VOCO, VOCO_VERSION
from radnode_inference.models.chest_ct.voco_classify import VocoClassifier
from radnode_inference.models.chest_ct.voco_enter import enter
from radnode_inference.models.chest_ct.voco_parts import Part, mask_of, parts, regions
from radnode_inference.models.chest_ct.voco_settings import ClassSetting, VocoSettings
from radnode_inference.preprocess import Box
from radnode_inference.state_dict import read_tensors
from radnode_inference.study import Study
from radnode_inference.volume import BoolArray, Volume
from radnode_inference.weights import WeightsError, WeightsFile, card_in, read_settings, verified
from radnode_inference.weights_tasks import network_of
from radnode_inference.window import slide

CHECK_WINDOWS = 4
DIAMETERS_BELOW_MM3 = 3e5
"""Parts larger than 300 mL are organs: two diameters say nothing of them."""


def create(device: str, weights: Path) -> "VocoModel | VocoClassifier":
    """The model with the weights found in the folder `weights`, under the name that their card says, else with the demonstration weights.

    Raises WeightsError when there are none or they are not what their card says.
    """
    own = card_in(weights)
    name = str(read_settings(own).get("model", VOCO)) if own else VOCO
    found, on = verified(name if network_of(name) == VOCO else VOCO, weights, PACKAGED), devices.resolve(device)
    return VocoClassifier(found, on) if VocoSettings.from_weights(found).whole else VocoModel(found, on)


class VocoModel:
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
        """See engines.record.Tunable. Raises DeclinedError as `read` does."""
        entered = enter(study, self.weights, self.settings, self.guards, self.device, lambda part, words: None)
        return check(
            self.network, windows_of(entered.prepared[None], self.settings.roi, CHECK_WINDOWS),
            weights=weights, key=self.weights.engines_key, device=self.device, tell=tell,
            background=[n for n, c in enumerate(self.settings.classes) if c.kind is None],
            temperature=self.guards.temperature,
        )  # fmt: skip

    def read(self, study: Study, progress: Progress) -> Findings:
        """Every class of the card that the network sees. Raises DeclinedError as `match`, `load` and `guards` do."""
        entered = enter(study, self.weights, self.settings, self.guards, self.device, progress)
        volume = entered.volume
        found = self.infer(entered.prepared, entered.box, lambda part: progress(0.1 + 0.75 * part, "network"))
        progress(0.85, "measuring")
        return Findings(
            study_uid=study.study_uid,
            model=self.identity,
            volume=volume,
            items=self.findings(study, volume, found),
            statements=(*entered.statements, *(self.engine.statements if self.engine else ())),
            used_series_uids=(volume.series_uid,),
        )

    def infer(self, prepared: Tensor, box: Box, done: Callable[[float], None]) -> Strongest:
        """The strongest classes of the network's input [i, j, k], whose places are `box`."""
        predict = self.engine.predict if self.engine else self.network

        def finish(logits: Tensor) -> Tensor:
            return pack((logits / self.guards.temperature).softmax(dim=0)).cpu()

        roi, overlap = self.settings.roi, self.settings.overlap
        with torch.inference_mode(), devices.threads():
            packed = slide(prepared[None], roi, predict, overlap=overlap, done=done, finish=finish)
            return Strongest.of(packed, len(self.settings.classes), box)

    def findings(self, study: Study, volume: Volume, found: Strongest) -> tuple[Finding, ...]:
        made: list[Finding | None] = []
        box, classes, around = found.box, on_grid(found, volume.shape, volume.affine), regions(found)
        middle = float(box.affine[0, 3] + box.affine[0, 0] * (box.size[0] - 1) / 2)
        for channel, setting in enumerate(self.settings.classes):
            if setting.kind is None:
                continue
            for number, part in enumerate(parts(found, channel, setting, around[channel]), 1):
                mask = mask_of(part, channel, classes, volume.affine)
                made.append(self.finding(study, volume, setting, part, mask, number, middle))
        return tuple(finding for finding in made if finding is not None)

    def finding(
        self,
        study: Study,
        volume: Volume,
        setting: ClassSetting,
        part: Part,
        mask: BoolArray,
        number: int,
        middle: float,
    ) -> Finding | None:
        """None when the part falls between the source's slices. mask: of the part, on the volume."""
        if not mask.any() or setting.concept is None or setting.kind is None:
            return None
        tracking_id = f"{setting.name} {number}" if setting.separate else setting.name
        abnormal = setting.kind is Kind.ABNORMALITY
        small = part.mm3 < DIAMETERS_BELOW_MM3 and abnormal
        return Finding(
            tracking_id=tracking_id,
            tracking_uid=tracking_uid(study.study_uid, self.identity, tracking_id),
            kind=setting.kind,
            concept=setting.concept,
            site=setting.site,
            laterality=setting.laterality or (laterality(mask, volume, middle) if abnormal else None),
            probability=part.probability if abnormal else None,
            measurements=(
                volume_measurement(mask, volume),
                *(diameter_measurements(diameters(mask, volume)) if small else ()),
            ),
            mask=mask,
            colour=setting.colour,
        )


def loaded(weights: WeightsFile, classes: int) -> nn.Module:
    """The segmentation network of the weights. Raises WeightsError when it is none, or has other classes than the card."""
    network = voco.from_state_dict(read_tensors(weights.path)).float()
    if isinstance(network, voco.Encoder):
        raise WeightsError(f"{weights.name} is an encoder without a decoder: it cannot segment")
    if isinstance(network, voco.Classifier):
        raise WeightsError(f"{weights.name} classifies: its card needs input.size in place of input.roi")
    there = network.get_parameter("out.conv.conv.bias").shape[0]
    if there != classes:
        raise WeightsError(f"{weights.name} has {there} classes, its card {classes}")
    if (channels := voco.channels_of(network)) != 1:
        raise WeightsError(f"{weights.name} reads {channels} images at once; {VOCO} shows it one")
    return network
