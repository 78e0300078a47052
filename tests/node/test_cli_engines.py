"""`radnode engines`: the comparison of engines, from the command line to the result."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from support.studies import small_chest
from torch import nn

from radnode.cli import cli
from radnode_inference import registry
from radnode_inference.engines.record import Tunable
from radnode_inference.study import Study


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RADNODE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RADNODE_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def test_an_engine_that_agreed_computes_the_next_study_and_its_result_says_so(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a network of two layers in place of the demonstration weights' own, which takes minutes to convert on a busy machine."""
    torch.manual_seed(1)
    small = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 3, 1)).eval()
    monkeypatch.setattr("radnode_inference.models.chest_ct.voco_model.loaded", lambda *_: small)
    before = CliRunner().invoke(cli, ["engines", "list"], catch_exceptions=False)
    assert "ct-voco: torch-fp32 (no faster engine was compared" in before.output
    sample = small_chest(tmp_path / "study", seed=6)
    command = ["engines", "check", "ct-voco", str(tmp_path / "study"), "--device", "cpu"]
    checked = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert checked.exit_code == 0, checked.output
    for engine in ("torch-bf16", "openvino-fp32", "openvino-bf16"):
        assert f"{engine}: Dice" in checked.output
    used = checked.output.rpartition("ct-voco is computed with ")[2].split()[0]
    assert used in CliRunner().invoke(cli, ["engines", "list"]).output
    model = registry.load(registry.card("ct-voco", weights), "cpu", weights)
    assert isinstance(model, Tunable)
    found = model.read(Study.from_files(sample.files), lambda part, words: None)
    assert any(f"Computed with {used}" in s for s in found.statements) == (used != "torch-fp32")
    assert found.volume.voxels.size


def test_a_model_without_a_network_has_no_engines(weights: Path) -> None:
    refused = CliRunner().invoke(cli, ["engines", "check", "ct-lung"])
    assert refused.exit_code == 1
    assert "no network" in refused.output
