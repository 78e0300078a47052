"""`radnode engines`: the comparison of engines, from the command line to the result."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from support.studies import small_breast, small_chest
from support.weights import bring
from torch import Tensor, nn

from radnode.cli import cli
from radnode_inference import registry
from radnode_inference.engines import record
from radnode_inference.engines.check import Timed
from radnode_inference.engines.choose import Predict
from radnode_inference.engines.record import Agreement, Tunable
from radnode_inference.study import Study


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RADNODE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RADNODE_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def timed_as(*seconds: float) -> Callable[[Predict, Tensor], Timed]:
    """What the engines give, as if torch-fp32, torch-bf16, openvino-fp32 and openvino-bf16 had taken so long."""
    given = iter(seconds)

    def timed(predict: Predict, windows: Tensor) -> Timed:
        return Timed(outputs=torch.cat([predict(one[None]).float() for one in windows]), seconds=next(given))

    return timed


def test_an_engine_that_agreed_computes_the_next_study_and_its_result_says_so(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a network of two layers in place of the demonstration weights' own, which takes minutes to convert on a busy machine."""
    torch.manual_seed(1)
    small = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 3, 1)).eval()
    monkeypatch.setattr("radnode_inference.models.chest_ct.voco_model.loaded", lambda *_: small)
    monkeypatch.setattr("radnode_inference.engines.check.timed", timed_as(4.0, 3.0, 1.0, 2.0))
    before = CliRunner().invoke(cli, ["engines", "list"], catch_exceptions=False)
    assert "ct-voco: torch-fp32 (no faster engine was compared" in before.output
    sample = small_chest(tmp_path / "study", seed=6)
    command = ["engines", "check", "ct-voco", str(tmp_path / "study"), "--device", "cpu"]
    checked = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert checked.exit_code == 0, checked.output
    for engine in ("torch-bf16", "openvino-fp32", "openvino-bf16"):
        assert f"{engine}: Dice" in checked.output
    assert "ct-voco is computed with openvino-fp32 on " in checked.output
    assert "ct-voco: openvino-fp32 (" in CliRunner().invoke(cli, ["engines", "list"]).output
    model = registry.load(registry.card("ct-voco", weights), "cpu", weights)
    assert isinstance(model, Tunable)
    found = model.read(Study.from_files(sample.files), lambda part, words: None)
    assert [s[:29] for s in found.statements if s.startswith("Computed")] == ["Computed with openvino-fp32: "]
    assert found.volume.voxels.size


def test_a_model_by_name_tells_the_whole_card_and_how_engines_compared(weights: Path) -> None:
    key = registry.card("mr-breast-mome", weights).engines_key
    compared = Agreement(
        engine="torch-bf16", version=record.version("torch-bf16"), hardware="a machine", windows=7, dice=None, classes=None,
        delta_p=0.02, seconds=1.0, reference_s=2.0,
    )  # fmt: skip
    record.write(record.place(weights, key), (compared,))
    told = CliRunner().invoke(cli, ["models", "mr-breast-mome"]).output
    for line in (
        "  training     500 generated breast examinations",
        "  licence      Apache-2.0",
        "  gates        modality: MR; region: BREAST or MAMMA; slices (mm): 0.5 to 6; coverage (mm) at least: 80\n",
        "  limitation   Not useful with T2 only: AUROC 0.56",
        "  figures      held out: 60 generated examinations",
        "               dce+dwi+t2 auroc        0.96 (0.91 to 1.00, n 60)\n",
        "  compared     torch-bf16: Δp 0.0200 against torch-fp32 on 7 check inputs, 2.0 times as fast; not used: probabilities differ",
    ):
        assert line in told, line
    assert "limitation" not in CliRunner().invoke(cli, ["models"]).output


def test_weights_of_a_site_are_compared_on_a_study_of_the_site(weights: Path, tmp_path: Path) -> None:
    file, card = bring(tmp_path / "mine")
    add = ["weights", "add", str(file), "--model", "ct-voco", "--card", str(card)]
    assert CliRunner().invoke(cli, add).exit_code == 0
    refused = CliRunner().invoke(cli, ["engines", "check", "ct-voco"])
    assert refused.exit_code == 1
    assert "give the FOLDER of a study that shows what ct-voco's weights are for" in refused.output
    assert not (weights / ".engines").exists()


def test_a_study_that_the_model_does_not_read_is_no_check_study(weights: Path, tmp_path: Path) -> None:
    small_breast(tmp_path / "study", seed=3, shape=(12, 24, 24), phases=3)
    refused = CliRunner().invoke(cli, ["engines", "check", "ct-voco", str(tmp_path / "study")])
    assert refused.exit_code == 1
    assert "nothing was compared, ct-voco does not read this study (no-suitable-series)" in refused.output


def test_a_model_without_a_network_has_no_engines(weights: Path) -> None:
    refused = CliRunner().invoke(cli, ["engines", "check", "ct-lung"])
    assert refused.exit_code == 1
    assert "no network" in refused.output
