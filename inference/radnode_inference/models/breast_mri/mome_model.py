"""The models `mr-breast-mome…`: probabilities for a multiparametric breast MR, what each modality adds, and where it was seen."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from radnode_inference import device as devices
from radnode_inference.engines import record
from radnode_inference.engines.choose import hardware
from radnode_inference.engines.record import Agreement, Choice
from radnode_inference.findings import Findings, ModelIdentity, ParameterMap
from radnode_inference.guards import Guards
from radnode_inference.model import DeclinedError, Progress
from radnode_inference.models.breast_mri import mome_engines, mome_saliency
from radnode_inference.models.breast_mri.cards import (
    MOME,
    MOME_PACKAGED,
    MOME_RESPONSE,
    MOME_SUBTYPE,
    MOME_TASKS,
    MOME_VERSION,
)
from radnode_inference.models.breast_mri.mome_ensemble import loaded
from radnode_inference.models.breast_mri.mome_examination import Examination, examination
from radnode_inference.models.breast_mri.mome_input import Inputs, inputs
from radnode_inference.models.breast_mri.mome_result import TITLES, Answer, finding, missing_sentences, told
from radnode_inference.models.breast_mri.mome_settings import MomeSettings
from radnode_inference.models.breast_mri.mome_shapley import shapley
from radnode_inference.study import Study
from radnode_inference.weights import WeightsError, WeightsFile, verified


def create(device: str, weights: Path, *, name: str = MOME) -> "MomeModel":
    """The model with the weights found in the folder `weights`, else (`mr-breast-mome` only) with the demonstration weights.

    Raises WeightsError when there are none or they are not what their card says.
    """
    return MomeModel(verified(name, weights, MOME_PACKAGED if name == MOME else None), devices.resolve(device))


create_subtype = partial(create, name=MOME_SUBTYPE)
create_response = partial(create, name=MOME_RESPONSE)


class MomeModel:
    """See model.Model."""

    def __init__(self, weights: WeightsFile, device: torch.device) -> None:
        self.weights, self.settings = weights, MomeSettings.from_weights(weights)
        self.guards = Guards.from_weights(weights)
        if self.settings.task not in MOME_TASKS[weights.model]:
            raise WeightsError(
                f"{weights.name} was trained to tell {self.settings.task}, which {weights.model} does not report"
            )
        self.ensemble = loaded(weights, self.settings, device, self.guards.temperature)
        self.engine = Choice(engine=record.REFERENCE, reason="nothing else was asked for")

    @property
    def identity(self) -> ModelIdentity:
        return self.weights.identity(MOME_VERSION)

    def choose_engine(self, weights: Path) -> None:
        """See engines.record.Tunable."""
        self.engine = record.choose(weights, self.weights.engines_key, hardware(self.ensemble.device))
        self.ensemble = replace(self.ensemble, half=self.engine.engine == mome_engines.HALF)

    def check_engines(self, study: Study, weights: Path, tell: Callable[[str], None]) -> tuple[Agreement, ...]:
        """See engines.record.Tunable. Raises DeclinedError as `read` does."""
        found = self.examination(study, lambda part, words: None)
        volumes = {m: v[None] for m, v in self.prepared(found, 0).volumes().items()}
        return mome_engines.check(self.ensemble, volumes, weights=weights, key=self.weights.engines_key, tell=tell)

    def read(self, study: Study, progress: Progress) -> Findings:
        """The examination's probability as a finding without a place, or as a statement when it is below the threshold.

        Raises DeclinedError `demonstration-weights`, `missing-role:...` and those of reading the series.
        """
        self.weights.admit(study)
        progress(0.0, "choosing the series")
        found = self.examination(study, progress)
        self.check(found)
        progress(0.5, "preparing")
        admitted = self.guards.admit(study, found.pre or found.carrier)
        prepared = {pad: self.prepared(found, pad) for pad in {a.pad for a in self.settings.augmentations} | {0}}
        shown = self.guards.familiar({m: v.numpy() for m, v in prepared[0].volumes().items()})
        answer = self.answered(found.present, prepared, progress)
        progress(0.8, "saliency")
        maps, explained = self.saliency(found, prepared[0], answer)
        return Findings(
            study_uid=study.study_uid,
            model=self.identity,
            volume=found.carrier,
            items=(finding(self.settings, answer, study.study_uid, self.identity),),
            statements=(
                *self.weights.statements,
                *found.statements,
                *missing_sentences(found.missing),
                *admitted,
                *shown,
                *self.guards.calibration,
                *told(self.settings, answer),
                *explained,
                *self.engine.statements,
            ),
            used_series_uids=found.used_series_uids,
            maps=maps,
            reasons=found.reasons,
        )

    def examination(self, study: Study, progress: Progress) -> Examination:
        """The images; weights that take no times are shown phases of which only the order is known, too."""
        return examination(study, progress, order_is_enough=self.settings.input.times_s is None)

    def check(self, found: Examination) -> None:
        """Raises DeclinedError when a modality is missing that the card does not allow to be, or what is left is of no use."""
        for modality, why in found.missing.items():
            if modality not in self.settings.missing_allowed:
                sentence = f"the weights need {TITLES[modality]} images: {why}"
                raise DeclinedError(f"missing-role:{modality}", sentence, found.reasons)
        auroc = self.settings.useless.get(frozenset(found.present))
        if auroc is not None and found.missing:
            left = " and ".join(TITLES[m] for m in found.present)
            why = " ".join(missing_sentences(found.missing))
            sentence = f"the weights are of no use with {left} only (AUROC {auroc:.2f} by their card). {why}"
            raise DeclinedError("modalities", sentence.removesuffix("."), found.reasons)

    def prepared(self, found: Examination, pad: int) -> Inputs:
        try:
            return inputs(
                self.settings.input,
                pre=found.pre_placed,
                posts=[p.voxels for p in found.posts],
                times_s=found.times_s,
                dwi=found.dwi,
                t2=found.t2,
                pad=pad,
            )
        except ValueError as e:
            raise DeclinedError("input", f"the images cannot be put on the network's grid: {e}") from e

    def answered(self, present: tuple[str, ...], prepared: dict[int, Inputs], progress: Progress) -> Answer:
        """As `answer`; when bfloat16 fails on the way, from the beginning in single precision, and so from then on."""
        try:
            return self.answer(present, prepared, progress)
        except RuntimeError as e:
            if not self.ensemble.half:
                raise
            self.engine = replace(self.engine, failed=record.why(e))
            self.ensemble = replace(self.ensemble, half=False)
            return self.answer(present, prepared, progress)

    def answer(self, present: tuple[str, ...], prepared: dict[int, Inputs], progress: Progress) -> Answer:
        """Every coalition of the modalities through every network and view; the Shapley values are exact."""
        coalitions: dict[frozenset[str], np.ndarray] = {}

        def folds(given: frozenset[str]) -> np.ndarray:
            coalitions[given] = self.probabilities(prepared, given)
            progress(0.5 + 0.3 * len(coalitions) / 2 ** len(present), "network")
            return coalitions[given]

        full = folds(frozenset(present))
        by_class = full.mean(axis=0)
        chosen = int(by_class.argmax()) if self.settings.positive is None else self.settings.positive
        shares = shapley(
            present,
            lambda given: float((coalitions[given] if given in coalitions else folds(given)).mean(axis=0)[chosen]),
        )
        return Answer(
            by_class=tuple(by_class.tolist()),
            folds=tuple(full[:, chosen].tolist()),
            deviation=float(full[:, chosen].std(ddof=1)) if len(full) > 1 else None,
            chosen=chosen,
            shares=shares,
            nothing=float(coalitions[frozenset()].mean(axis=0)[chosen]),
        )

    def probabilities(self, prepared: dict[int, Inputs], given: frozenset[str]) -> np.ndarray:
        """(folds, classes), the mean over the card's views, seeing only the modalities in `given`."""
        views = []
        for view in self.settings.augmentations if given else self.settings.augmentations[:1]:
            volumes = {m: v for m, v in prepared[view.pad].volumes().items() if m in given}
            views.append(self.ensemble.probabilities({m: view.flipped(v)[None] for m, v in volumes.items()}))
        return torch.stack(views).mean(dim=0).numpy()

    def saliency(
        self, found: Examination, prepared: Inputs, answer: Answer
    ) -> tuple[tuple[ParameterMap, ...], tuple[str, ...]]:
        """The map on the carrying images' grid and the sentence that says how exact it is; nothing when it is turned off."""
        steps = mome_saliency.steps_of(self.settings.saliency_steps, self.ensemble)
        if not steps:
            return (), ()
        volumes = {m: v[None] for m, v in prepared.volumes().items()}
        target = mome_saliency.log_odds(answer.chosen)
        made = mome_saliency.attribution(self.ensemble, volumes, target, steps)
        sentence = (
            f"Saliency map: integrated gradients of the log-odds of {self.settings.classes[answer.chosen].name} in {steps} steps "
            f"from empty volumes, completeness error {100 * made.error:.1f} %. It shows what moved the network, not where a lesion ends."
        )
        return (mome_saliency.carried(made, prepared.boxes, found.carrier),), (sentence,)
