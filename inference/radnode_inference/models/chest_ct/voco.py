"""VoCo's networks (Wu et al., CVPR 2024; TPAMI 2026): MONAI's SwinUNETR, its encoder alone, and with a head that classifies.

The published checkpoints are VoComni_{B,L,H} (whole, 21 classes) and VoCo_{B,L,H}_SSL_head (encoder only); widths 48, 96, 192.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from radnode_inference.state_dict import StateDict, StateDictError, assign, shape_of, unwrap

CONTAINERS = ("state_dict", "network_weights", "net", "student")
PREFIXES = ("module.", "backbone.")
ENCODER_PARTS = ("swinViT", "encoder1", "encoder2", "encoder3", "encoder4", "encoder10")
FIRST = "swinViT.patch_embed.proj.weight"
HEAD = "head.weight"
SECOND_VERSION = "swinViT.layers1c."
INDEX = "swinViT.layers1.0.blocks.0.attn.relative_position_index"


class Encoder(nn.Module):
    """The encoder of an encoder-only checkpoint."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        for part in ENCODER_PARTS:
            self.add_module(part, whole.get_submodule(part))

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features (batch, 16 · feature size): the mean of the deepest map after `encoder10`."""
        deepest: Tensor = self.get_submodule("encoder10")(self.hidden(x)[-1])
        return deepest.mean(dim=(2, 3, 4))

    def hidden(self, x: Tensor) -> list[Tensor]:
        """The five maps of the Swin transformer, strides 2 to 32. x: (batch, channels, x, y, z), sides multiples of 32."""
        maps: list[Tensor] = self.get_submodule("swinViT")(x, True)
        return maps


class Classifier(nn.Module):
    """A SwinUNETR whose last map is averaged and classified, as VoCo does it for LUNA16 (`head`, one linear layer)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes). x: (batch, channels, x, y, z), the whole input, sides multiples of 32."""
        deepest: Tensor = self.body(x)
        logits: Tensor = self.body.get_submodule("head")(deepest.mean(dim=(2, 3, 4)))
        return logits


def from_state_dict(state_dict: Mapping[str, Any]) -> nn.Module:
    """The network of a checkpoint, in eval mode: a SwinUNETR, an `Encoder` without a decoder, a `Classifier` with a head.

    state_dict: bare or under `state_dict`, `network_weights`, `net` or `student`; `module.` and `backbone.` before the keys or
    not; `swin_vit` or `swinViT`. Feature size, attention window, channels, classes and the version of the blocks are read from
    the keys and shapes; tensors are not copied.
    Raises StateDictError that names the keys which are missing, unknown or misshapen.
    """
    state = renamed(unwrap(state_dict, CONTAINERS, PREFIXES))
    width, channels = shape_of(state, FIRST, 5)[:2]
    whole, headed = any(key.startswith(("decoder", "out.")) for key in state), HEAD in state
    second = any(key.startswith(SECOND_VERSION) for key in state)
    with torch.device("meta"), LinspaceOnCpu():
        classes = classes_of(state) if whole and not headed else 1
        network = swin_unetr(channels, classes, width, window_of(state), second=second)
        if headed:
            network.add_module("out", nn.Identity())
            network.add_module("head", nn.Linear(width, shape_of(state, HEAD, 2)[0]))
    if headed:
        return Classifier(assign(network, state)).eval()
    return assign(network if whole else Encoder(network), state)


def renamed(state: StateDict) -> dict[str, Tensor]:
    """`swin_vit` as MONAI calls it now. Raises StateDictError when the checkpoint has a tensor under both names."""
    made: dict[str, Tensor] = {}
    for key, value in state.items():
        name = f"swinViT.{key.removeprefix('swin_vit.')}" if key.startswith("swin_vit.") else key
        if name in made:
            raise StateDictError(f"two keys of the checkpoint mean {name!r}")
        made[name] = value
    return made


class LinspaceOnCpu(TorchFunctionMode):
    """MONAI's constructor reads numbers out of a linspace, which the meta device cannot give."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.linspace:
            return func(*args, **{**(kwargs or {}), "device": "cpu"})
        return func(*args, **(kwargs or {}))


def channels_of(network: nn.Module) -> int:
    """How many images the network is shown at once."""
    body = network.body if isinstance(network, Classifier) else network
    return body.get_parameter(FIRST).shape[1]


def classes_of(state: StateDict) -> int:
    return shape_of(state, "out.conv.conv.weight", 5)[0]


def window_of(state: StateDict) -> int:
    """The side of the attention window: its cube is the side of the position index (7 in every published file)."""
    places: float = shape_of(state, INDEX, 2)[0]
    return round(math.pow(places, 1 / 3))


def swin_unetr(
    channels: int, classes: int, feature_size: int, window_size: int = 7, *, second: bool = True
) -> nn.Module:
    """MONAI's SwinUNETR as VoCo builds it. second: with the blocks of version 2, as all published files but LUNA16's. Raises StateDictError when the feature size cannot be one of its sizes."""
    from monai.networks.nets import SwinUNETR  # type: ignore[import-not-found,unused-ignore]

    if feature_size % 12:
        raise StateDictError(f"{FIRST}: feature size {feature_size} is not a multiple of 12")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        network: nn.Module = SwinUNETR(
            in_channels=channels,
            out_channels=classes,
            feature_size=feature_size,
            window_size=window_size,
            use_v2=second,
        )
    return network
