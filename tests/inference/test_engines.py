"""Faster engines: used only after they agreed with torch in single precision."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from radnode_inference.engines import openvino_cpu, record
from radnode_inference.engines.check import Likeness, agreement, check, windows_of
from radnode_inference.engines.choose import choose
from radnode_inference.engines.record import Agreement
from radnode_inference.weights import WeightsFile

CPU = torch.device("cpu")
SHA = "ab" * 32


def network(classes: int = 3) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, classes, 1)).eval()


def windows() -> Tensor:
    return torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(2))


def agreed(engine: str, **changes: object) -> Agreement:
    good = Agreement(
        engine=engine, version=record.version(engine), hardware=record.cpu(), windows=2, dice=0.999, classes=1,
        delta_p=0.001, seconds=0.1, reference_s=1.0,
    )  # fmt: skip
    return replace(good, **changes)


def test_every_engine_is_compared_and_the_comparison_is_kept(tmp_path: Path) -> None:
    found = check(network(), windows(), weights=tmp_path, key=SHA, device=CPU, tell=lambda _: None)
    assert {a.engine for a in found} == {"torch-bf16", "openvino-fp32", "openvino-bf16"}
    assert [a.failed for a in found] == ["", "", ""]
    assert record.read(record.place(tmp_path, SHA)) == found
    single = next(a for a in found if a.engine == "openvino-fp32")
    assert single.dice > 0.999
    assert single.delta_p < 1e-5


def test_openvino_computes_the_network_and_calls_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    net, given = network(), windows()
    openvino_cpu.convert(net, given[:1], tmp_path)
    with torch.inference_mode():
        assert (openvino_cpu.opened(tmp_path, "fp32", 1)(given) - net(given)).abs().max() < 1e-5


def test_an_instance_norm_goes_into_openvino_whole(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv3d(1, 4, 3), nn.InstanceNorm3d(4), nn.InstanceNorm3d(4, affine=True)).eval()
    given = 100 + 5 * torch.rand(2, 1, 12, 12, 12)
    openvino_cpu.convert(net, given[:1], tmp_path)
    written = (tmp_path / "network.xml").read_text()
    assert written.count('type="MVN"') == 1
    with torch.inference_mode():
        assert (openvino_cpu.opened(tmp_path, "fp32", 1)(given) - net(given)).abs().max() < 1e-4


def test_without_a_comparison_single_precision_is_used(tmp_path: Path) -> None:
    net = network()
    chosen = choose(net, weights=tmp_path, key=SHA, device=CPU)
    assert (chosen.engine, chosen.statements) == ("torch-fp32", ())
    assert chosen.predict is net
    assert "compared" in chosen.reason


def test_the_fastest_engine_that_agreed_is_used_and_the_result_says_so(tmp_path: Path) -> None:
    net, given = network(), windows()
    folder = record.place(tmp_path, SHA)
    converted = openvino_cpu.convert(net, given[:1], folder)
    record.write(folder, (agreed("torch-bf16", seconds=0.5), agreed("openvino-fp32", converted_sha256=converted)))
    chosen = choose(net, weights=tmp_path, key=SHA, device=CPU)
    assert chosen.engine == "openvino-fp32"
    assert "openvino-fp32" in chosen.statements[0]
    with torch.inference_mode():
        assert (chosen.predict(given) - net(given)).abs().max() < 1e-5


def test_an_engine_that_fails_on_the_way_gives_way_to_torch_and_the_result_says_so(tmp_path: Path) -> None:
    net, given = network(), windows()
    folder = record.place(tmp_path, SHA)
    converted = openvino_cpu.convert(net, given[:1], folder)
    record.write(folder, (agreed("openvino-fp32", converted_sha256=converted),))
    chosen = choose(net, weights=tmp_path, key=SHA, device=CPU)
    with torch.inference_mode():
        assert chosen.predict(given).shape == (2, 3, 16, 16, 16)
        assert "Computed with openvino-fp32" in chosen.statements[0]
        larger = torch.rand(1, 1, 24, 24, 24)
        assert torch.equal(chosen.predict(larger), net(larger)), "the converted network takes windows of 16 only"
    (said,) = chosen.statements
    assert said.startswith("The engine openvino-fp32 failed (")
    assert said.endswith("computed with torch-fp32 in its place.")


def test_a_comparison_holds_for_the_weights_as_one_card_feeds_them(tmp_path: Path) -> None:
    def key(digest: str = SHA, **card: object) -> str:
        given = {"input": {"roi": [64, 64, 32], "spacing_mm": [2.5, 2.5, 2.5]}, "limitations": ["none"]} | card
        return WeightsFile(
            model="ct-voco", name="w", version="1", sha256=digest, path=tmp_path, intended_use="a test",
            demonstration=False, settings=given,
        ).engines_key  # fmt: skip

    others = [
        key(input={"roi": [96, 96, 96], "spacing_mm": [2.5, 2.5, 2.5]}),
        key(input={"roi": [64, 64, 32], "spacing_mm": [1.5, 1.5, 1.5]}),
        key(network={"heads": 12}),
        key(calibration={"temperature": 0.5, "reference": "some"}),
        key("cd" * 32),
    ]
    assert len({key(), *others}) == 6
    assert key(limitations=["other words"]) == key()
    record.write(record.place(tmp_path, key()), (agreed("torch-bf16"),))
    assert record.choose(tmp_path, key(), record.cpu()).engine == "torch-bf16"
    assert {record.choose(tmp_path, k, record.cpu()).engine for k in others} == {"torch-fp32"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dice": 0.98}, "Dice 0.9800"),
        ({"delta_p": 0.02}, "0.0200"),
        ({"dice": 1.0, "classes": 0}, "nothing to compare"),
        ({"seconds": 0.99}, "not faster"),
        ({"failed": "no such operation"}, "no such operation"),
        ({"version": "torch 1.0"}, "another version (torch 1.0)"),
        ({"hardware": "another processor"}, "no faster engine was compared"),
    ],
)
def test_an_engine_that_did_not_agree_here_is_not_used(tmp_path: Path, changes: dict[str, object], why: str) -> None:
    record.write(record.place(tmp_path, SHA), (agreed("torch-bf16", **changes),))
    choice = record.choose(tmp_path, SHA, record.cpu())
    assert choice.engine == "torch-fp32"
    assert why in choice.reason


def test_other_weights_have_no_share_in_an_agreement(tmp_path: Path) -> None:
    record.write(record.place(tmp_path, SHA), (agreed("torch-bf16"),))
    assert record.choose(tmp_path, SHA, record.cpu()).engine == "torch-bf16"
    assert record.choose(tmp_path, "cd" * 32, record.cpu()).engine == "torch-fp32"


def test_a_converted_network_that_was_changed_is_not_used(tmp_path: Path) -> None:
    folder = record.place(tmp_path, SHA)
    converted = openvino_cpu.convert(network(), windows()[:1], folder)
    record.write(folder, (agreed("openvino-fp32", converted_sha256=converted),))
    with (folder / "network.bin").open("r+b") as f:
        f.write(b"\xff")
    chosen = choose(network(), weights=tmp_path, key=SHA, device=CPU)
    assert chosen.engine == "torch-fp32"
    assert "not the one that was compared" in chosen.reason


def test_without_openvino_the_comparison_says_that_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_cpu, "installed", lambda: False)
    found = check(network(), windows(), weights=tmp_path, key=SHA, device=CPU, tell=lambda _: None)
    assert ["not installed" in a.refused_because for a in found] == [False, True, True]


def test_records_of_another_machine_stay_and_broken_ones_are_measured_again(tmp_path: Path) -> None:
    folder = record.place(tmp_path, SHA)
    record.write(folder, (agreed("torch-bf16", hardware="elsewhere"),))
    record.write(folder, (agreed("torch-bf16"),))
    assert {a.hardware for a in record.read(folder)} == {"elsewhere", record.cpu()}
    (folder / record.RECORDS).write_text(json.dumps([{"engine": "?"}]))
    assert record.read(folder) == ()


def test_a_class_that_one_engine_misses_lowers_the_agreement() -> None:
    reference = torch.zeros(1, 2, 10, 10, 10)
    reference[:, 1, :5] = 4.0
    worse = reference.clone()
    worse[:, 1, 4] = 0.0
    assert agreement(reference, reference) == Likeness(dice=1.0, classes=1, delta_p=0.0)
    found = agreement(reference, worse)
    assert found.dice == pytest.approx(2 * 400 / 900)
    assert found.delta_p == pytest.approx((torch.tensor(4.0).sigmoid() - 0.5).item() / 5, abs=1e-4)


@pytest.mark.parametrize(
    ("sees", "background", "classes"),
    [
        ({0: 1000}, (0,), 0),
        ({0: 950, 1: 50}, (0,), 0),
        ({0: 500, 1: 500}, (0,), 1),
        ({0: 500, 1: 500}, (0, 1), 0),
        ({1: 300, 2: 300}, (0,), 2),
    ],
    ids=["background only", "a few voxels of a class", "one class", "two classes, neither reported", "two classes"],
)
def test_background_is_nothing_that_engines_could_agree_on(
    sees: dict[int, int], background: tuple[int, ...], classes: int
) -> None:
    drawn = torch.zeros(1000, dtype=torch.long)
    drawn[: sum(sees.values())] = torch.cat([torch.full((n,), c) for c, n in sees.items()])
    reference = 9 * nn.functional.one_hot(drawn, 3).T.reshape(1, 3, 10, 10, 10).float()
    assert agreement(reference, reference, background) == Likeness(dice=1.0, classes=classes, delta_p=0.0)
    missed = torch.zeros_like(reference)
    missed[:, 0] = 9
    assert agreement(reference, missed, background).classes == 0


def test_windows_without_anything_in_them_are_recorded_and_no_engine_is_used(tmp_path: Path) -> None:
    class Background(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x + 9, x], dim=1)

    found = check(Background().eval(), windows(), weights=tmp_path, key=SHA, device=CPU, tell=lambda _: None)
    assert {a.refused_because[:18] for a in found} == {"nothing to compare"}
    assert record.read(record.place(tmp_path, SHA)) == found
    quick = tuple(replace(a, seconds=0.1, reference_s=1.0) for a in found)
    record.write(record.place(tmp_path, SHA), quick)
    assert record.choose(tmp_path, SHA, record.cpu()).engine == "torch-fp32"


def test_the_check_windows_are_those_with_the_most_in_them() -> None:
    volume = torch.zeros(1, 32, 16, 16)
    volume[0, 20:26, 4:10, 4:10] = 1
    cut = windows_of(volume, (16, 16, 16), 2)
    assert cut.shape == (2, 1, 16, 16, 16)
    assert cut[0].var() > 0
