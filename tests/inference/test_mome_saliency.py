"""Integrated gradients: they add up, they point at the lesion, and the map lies where the images lie."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from support import state_dicts
from torch import Tensor

from radnode_inference.generator import breast
from radnode_inference.models.breast_mri import mome, mome_saliency
from radnode_inference.models.breast_mri.mome_ensemble import Ensemble
from radnode_inference.models.breast_mri.mome_input import Inputs, InputSettings, Placed, inputs
from radnode_inference.models.breast_mri.mome_model import MomeModel, create
from radnode_inference.volume import SourceFrame, Volume

CPU = torch.device("cpu")


@cache
def model() -> MomeModel:
    return create("cpu", Path("there-is-no-such-folder"))


@cache
def lesion() -> tuple[breast.BreastPhantom, Inputs]:
    made = breast.phantom(4, lesion=True, shape=(40, 96, 96))
    settings = InputSettings.from_card(model().weights.settings["input"])
    high = made.dwi[max(made.dwi)]
    return made, inputs(
        settings,
        pre=Placed(voxels=made.dce[0], affine=made.grid.affine),
        posts=list(made.dce[1:]),
        times_s=made.times_s[1:].tolist(),
        dwi=Placed(voxels=high.voxels, affine=high.grid.affine),
        t2=Placed(voxels=made.t2.voxels, affine=made.t2.grid.affine),
    )


@cache
def attribution() -> mome_saliency.Attribution:
    volumes = {m: v[None] for m, v in lesion()[1].volumes().items()}
    return mome_saliency.attribution(model().ensemble, volumes, mome_saliency.log_odds(1), mome_saliency.STEPS)


def difference(ensemble: Ensemble, volumes: dict[str, Tensor], target: mome_saliency.Target) -> float:
    """Independent of the path: the log-odds of the volumes less those of empty ones."""
    empty = {m: torch.zeros_like(v) for m, v in volumes.items()}
    with torch.no_grad():
        return float(
            target(ensemble.logits(ensemble.networks[0], volumes))
            - target(ensemble.logits(ensemble.networks[0], empty))
        )


def test_the_attributions_add_up_to_the_difference_from_empty_volumes() -> None:
    volumes = {m: v[None] for m, v in lesion()[1].volumes().items()}
    whole = difference(model().ensemble, volumes, mome_saliency.log_odds(1))
    total = sum(float(v.double().sum()) for v in attribution().values.values())
    assert abs(total - whole) / abs(whole) < 0.05
    assert attribution().error == pytest.approx(abs(total - whole) / abs(whole), abs=1e-3)


def test_the_map_points_at_the_lesion_and_keeps_the_sum() -> None:
    made, prepared = lesion()
    volume = Volume(
        voxels=made.dce[0],
        affine=made.grid.affine,
        frame_of_reference_uid="1.2",
        series_uid="1.3",
        sources=tuple(SourceFrame(sop_class_uid="1.4", sop_uid=f"1.5.{n}") for n in range(len(made.dce[0]))),
    )
    found = mome_saliency.carried(attribution(), prepared.boxes, volume)
    assert found.values.shape == made.dce[0].shape
    positive = np.nan_to_num(np.maximum(found.values, 0))
    inside = float(positive[made.lesion_mask].mean())
    assert inside > 10 * float(positive[~made.lesion_mask].mean())
    total = float(np.nansum(found.values)) * volume.voxel_mm3 / 1000
    assert total == pytest.approx(attribution().difference, rel=0.1)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 15, 16, 21, 32, 64])
def test_no_more_gradients_are_taken_than_asked_for_and_their_error_is_told(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = mome.from_state_dict(
        state_dicts.mome(width=16, feedforward=24, adapter=4, positions=(8, 4, 6), soft=(None, (3, 1))), heads=2
    )
    taken: list[int] = []
    gradients = mome_saliency.Path.gradients

    def counted(self: mome_saliency.Path, places: Sequence[float]) -> dict[str, Tensor]:
        taken.append(len(places))
        return gradients(self, places)

    monkeypatch.setattr(mome_saliency.Path, "gradients", counted)
    monkeypatch.setattr(mome_saliency, "EXACT", 0.0)  # never exact: every gradient allowed is wanted
    volumes = {"t2": torch.randn((1, 1, 48, 32, 16), generator=torch.Generator().manual_seed(5))}
    ensemble = Ensemble(networks=(net,), device=CPU, temperature=1.0)
    found = mome_saliency.attribution(ensemble, volumes, mome_saliency.log_odds(0), steps)
    assert steps - 3 <= sum(taken) <= steps
    total = sum(float(v.double().sum()) for v in found.values.values())
    assert found.error == pytest.approx(abs(total - found.difference) / max(abs(found.difference), 1e-6), rel=1e-3)


def test_more_steps_are_more_exact() -> None:
    volumes = {m: v[None] for m, v in lesion()[1].volumes().items()}
    target = mome_saliency.log_odds(1)
    errors = [mome_saliency.attribution(model().ensemble, volumes, target, steps).error for steps in (1, 16)]
    assert attribution().error < 0.05 < errors[0]
    assert attribution().error <= errors[1] < errors[0]


def test_of_several_networks_it_is_the_mean() -> None:
    positions = (3 * 2 * 1 + 2, 2 * 2 * 1, 3 * 2 * 1)
    nets = tuple(
        mome.from_state_dict(
            state_dicts.mome(width=16, feedforward=24, adapter=4, positions=positions, soft=(None, (3, 1)), seed=seed),
            heads=2,
        )
        for seed in (1, 2)
    )
    draw = torch.Generator().manual_seed(5)
    volumes = {
        "dce": torch.randn((1, 6, 48, 32, 16), generator=draw),
        "t2": torch.randn((1, 1, 48, 32, 16), generator=draw),
    }
    target = mome_saliency.log_odds(0)

    def of(*networks: mome.Mome) -> mome_saliency.Attribution:
        return mome_saliency.attribution(Ensemble(networks=networks, device=CPU, temperature=1.0), volumes, target, 256)

    both, first, second = of(*nets), of(nets[0]), of(nets[1])
    assert set(both.values) == {"dce", "t2"}
    assert both.difference == pytest.approx((first.difference + second.difference) / 2, rel=1e-6)
    assert torch.allclose(both.values["dce"], (first.values["dce"] + second.values["dce"]) / 2, atol=1e-5)
    for alone, net in ((first, nets[0]), (second, nets[1])):
        assert alone.difference == pytest.approx(
            difference(Ensemble(networks=(net,), device=CPU, temperature=1.0), volumes, target), abs=1e-4
        )
        assert alone.error < 0.05


def test_a_large_network_gets_a_map_on_its_own_accord_on_a_gpu_only() -> None:
    with torch.device("meta"):
        large = mome.Mome(mome.shape_from(state_dicts.published("mome")))
    ensemble = Ensemble(networks=(large,), device=CPU, temperature=1.0)
    assert mome_saliency.steps_of(None, ensemble) == 0
    assert mome_saliency.steps_of(32, ensemble) == 32
    assert mome_saliency.steps_of(None, model().ensemble) == mome_saliency.STEPS
    on_gpu = Ensemble(networks=(large,), device=torch.device("cuda"), temperature=1.0)
    assert mome_saliency.steps_of(None, on_gpu) == mome_saliency.STEPS_OF_LARGE
    assert mome_saliency.steps_of(0, on_gpu) == 0
