"""VoCo's networks against MONAI's own SwinUNETR."""

from typing import Any

import pytest
import torch
from monai.networks.nets import SwinUNETR
from support import state_dicts
from torch import Tensor, nn

from radnode_inference.models.chest_ct import voco
from radnode_inference.state_dict import StateDictError, parameter_count


def reference(classes: int = 3, channels: int = 1, width: int = 12) -> nn.Module:
    torch.manual_seed(5)
    return SwinUNETR(in_channels=channels, out_channels=classes, feature_size=width, use_v2=True).eval()


def window(channels: int = 1) -> Tensor:
    return torch.rand((1, channels, 64, 32, 32), generator=torch.Generator().manual_seed(1))


def encoder_only(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if not k.startswith(("decoder", "out."))}


@pytest.mark.parametrize("container", [None, "state_dict", "network_weights", "net", "student"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_a_whole_checkpoint_in_any_wrapping_is_monais_network(container: str | None, prefix: str) -> None:
    net = reference()
    state = {
        f"{prefix}{k}".replace("swinViT", "swin_vit" if prefix else "swinViT"): v for k, v in net.state_dict().items()
    }
    ours = voco.from_state_dict(state if container is None else {container: state, "epoch": 1})
    assert all(torch.equal(v, ours.state_dict()[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize(("classes", "channels", "width"), [(3, 1, 12), (21, 1, 24), (2, 4, 36)])
def test_the_output_is_monais(classes: int, channels: int, width: int) -> None:
    net, x = reference(classes, channels, width), window(channels)
    with torch.inference_mode():
        assert (voco.from_state_dict(net.state_dict())(x) - net(x)).abs().max() < 1e-5


def test_an_encoder_only_checkpoint_gives_the_encoders_pooled_features() -> None:
    net, x = reference(), window()
    ours = voco.from_state_dict({"student": encoder_only(net.state_dict())})
    assert isinstance(ours, voco.Encoder)
    with torch.inference_mode():
        expected = net.encoder10(net.swinViT(x, True)[4]).mean(dim=(2, 3, 4))  # type: ignore[operator]
        assert (ours(x) - expected).abs().max() < 1e-5
    assert expected.shape == (1, 16 * 12)


@pytest.mark.parametrize(("part", "millions"), [("whole", 72.763), ("encoder", 53.164)])
def test_the_published_width_b_is_accepted_and_makes_the_published_size(part: str, millions: float) -> None:
    state = state_dicts.published("voco_B")
    net = voco.from_state_dict(state if part == "whole" else encoder_only(state))
    assert round(parameter_count(net) / 1e6, 3) == millions


@pytest.mark.parametrize(("width", "millions"), [(96, 290.393), (192, 1160.845)])
def test_widths_l_and_h_are_read_from_the_shapes(width: int, millions: float) -> None:
    with torch.device("meta"), voco.LinspaceOnCpu():
        state = SwinUNETR(in_channels=1, out_channels=21, feature_size=width, use_v2=True).state_dict()
    assert round(parameter_count(voco.from_state_dict(state)) / 1e6, 3) == millions


def test_the_tensors_of_the_checkpoint_are_not_copied() -> None:
    state = reference().state_dict()
    ours = voco.from_state_dict(state)
    assert ours.state_dict()["out.conv.conv.weight"].data_ptr() == state["out.conv.conv.weight"].data_ptr()
    assert not any(t.is_meta for t in (*ours.parameters(), *ours.buffers()))


def test_unknown_and_missing_keys_are_named() -> None:
    state = dict(reference().state_dict())
    del state["decoder3.transp_conv.conv.weight"]
    state["swinViT.layers5.weight"] = torch.zeros(1)
    with pytest.raises(StateDictError) as refused:
        voco.from_state_dict(state)
    assert "missing keys: decoder3.transp_conv.conv.weight" in str(refused.value)
    assert "unknown keys: swinViT.layers5.weight" in str(refused.value)


def classified(net: Any, head: nn.Linear, x: Tensor) -> Tensor:
    """VoCo's LUNA16 network written down from its parts: the whole U, averaged, one linear layer."""
    maps = net.swinViT(x, True)
    down = [net.encoder1(x), net.encoder2(maps[0]), net.encoder3(maps[1]), net.encoder4(maps[2]), maps[3]]
    up = net.encoder10(maps[4])
    for decoder, beside in zip(
        (net.decoder5, net.decoder4, net.decoder3, net.decoder2, net.decoder1), down[::-1], strict=True
    ):
        up = decoder(up, beside)
    return torch.nn.functional.linear(up.flatten(2).mean(dim=2), head.weight, head.bias)


@pytest.mark.parametrize("second", [False, True], ids=["first blocks", "second blocks"])
@pytest.mark.parametrize("classes", [1, 3])
def test_a_checkpoint_with_a_head_classifies(classes: int, second: bool) -> None:
    torch.manual_seed(7)
    net, head = SwinUNETR(1, 2, feature_size=12, use_v2=second).eval(), nn.Linear(12, classes)
    state = {k: v for k, v in net.state_dict().items() if not k.startswith("out.")}
    ours = voco.from_state_dict({"state_dict": state | {f"head.{k}": v for k, v in head.state_dict().items()}})
    assert isinstance(ours, voco.Classifier)
    with torch.inference_mode():
        assert (ours(window()) - classified(net, head, window())).abs().max() < 1e-5


def test_a_segmentation_with_the_first_blocks_is_monais_network() -> None:
    torch.manual_seed(7)
    net = SwinUNETR(1, 2, feature_size=24).eval()
    with torch.inference_mode():
        assert (voco.from_state_dict(net.state_dict())(window()) - net(window())).abs().max() < 1e-5


def test_two_keys_that_mean_the_same_are_refused() -> None:
    state = {
        "module.swinViT.patch_embed.proj.weight": torch.zeros(1),
        "swinViT.patch_embed.proj.weight": torch.zeros(1),
    }
    with pytest.raises(StateDictError, match="two keys"):
        voco.from_state_dict(state)


def test_a_tensor_under_the_old_and_the_new_name_is_refused() -> None:
    state = dict(reference().state_dict()) | {"swin_vit.patch_embed.proj.bias": torch.zeros(12)}
    with pytest.raises(StateDictError, match=r"two keys of the checkpoint mean 'swinViT\.patch_embed\.proj\.bias'"):
        voco.from_state_dict(state)


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({voco.FIRST: torch.zeros(12)}, r"misshapen key swinViT\.patch_embed\.proj\.weight \(12,\): it has 5 axes"),
        ({"out.conv.conv.weight": torch.tensor(3.0)}, r"misshapen key out\.conv\.conv\.weight \(\)"),
        ({voco.INDEX: torch.zeros(())}, r"misshapen key swinViT\.layers1\.0\.blocks\.0\.attn\.relative_position_index"),
        (
            {voco.INDEX: torch.zeros(343, 343)},
            "of another type: keys: swinViT.*relative_position_index float32 for int64",
        ),
    ],
)
def test_an_odd_tensor_is_named(odd: dict[str, Tensor], said: str) -> None:
    with pytest.raises(StateDictError, match=said):
        voco.from_state_dict(dict(reference().state_dict()) | odd)


def test_something_else_altogether_is_refused() -> None:
    with pytest.raises(StateDictError, match=r"missing key swinViT\.patch_embed"):
        voco.from_state_dict({"net": {"conv.weight": torch.zeros(1)}})


def test_the_attention_window_is_read_from_the_position_index() -> None:
    net = SwinUNETR(in_channels=1, out_channels=2, feature_size=12, use_v2=True, window_size=4).eval()
    ours, x = voco.from_state_dict(net.state_dict()), torch.rand(1, 1, 32, 32, 64)
    with torch.inference_mode():
        assert (ours(x) - net(x)).abs().max() < 1e-5
