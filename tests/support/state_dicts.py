"""State dictionaries for tests: the published key listings on the meta device, and random ones of small networks."""

from ast import literal_eval
from pathlib import Path

import torch
from torch import Tensor

LISTINGS = Path(__file__).parents[1] / "inference" / "data"


def published(name: str) -> dict[str, Tensor]:
    """The keys and shapes of a published checkpoint (`mome` or `voco_B`), without values."""
    state = {}
    for line in (LISTINGS / f"{name}_state_dict_keys.tsv").read_text().splitlines():
        key, shape = line.split("\t")
        dtype = torch.int64 if key.endswith("relative_position_index") else torch.float32
        state[key] = torch.empty(literal_eval(shape), dtype=dtype, device="meta")
    return state


def mome(
    *, width: int, feedforward: int, adapter: int, stem: tuple[int, int] = (4, 6), positions: tuple[int, int, int],
    soft: tuple[tuple[int, int] | None, ...], classes: int = 2, channels: tuple[int, int, int] = (6, 1, 1), seed: int = 0,
) -> dict[str, Tensor]:  # fmt: skip
    """A random MOME state dictionary, its keys written down from the published listing."""
    draw = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def add(key: str, *shape: int, scale: float | None = None, around: float = 0.0) -> None:
        fan = shape[1] if len(shape) > 1 else 1
        state[key] = around + torch.randn(shape, generator=draw) * (fan**-0.5 if scale is None else scale)

    def linear(key: str, out: int, into: int) -> None:
        add(f"{key}.weight", out, into)
        add(f"{key}.bias", out, scale=0.2)

    def norm(key: str, size: int) -> None:
        add(f"{key}.weight", size, scale=0.2, around=1.0)
        add(f"{key}.bias", size, scale=0.2)

    add("beit3.dce_embed.cls_token", 1, 1, width)
    for name, into in zip(("dce", "dwi", "t2"), channels, strict=True):
        for number, (before, after) in zip((0, 3, 6), ((into, stem[0]), stem, (stem[1], width)), strict=True):
            add(f"beit3.{name}_embed.stem.{number}.weight", after, before, 3, 3, 3)
    for way, rows in zip("ABC", positions, strict=True):
        add(f"beit3.encoder.embed_positions.{way}.weight", rows, width, scale=0.5)
    for n, mixture in enumerate(soft):
        layer = f"beit3.encoder.layers.{n}"
        for way in "ABC":
            for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
                linear(f"{layer}.self_attn.{part}.{way}", width, width)
            norm(f"{layer}.self_attn.inner_attn_ln.{way}", width)
            norm(f"{layer}.self_attn_layer_norm.{way}", width)
            norm(f"{layer}.final_layer_norm.{way}", width)
            linear(f"{layer}.ffn.{way}.fc1", feedforward, width)
            linear(f"{layer}.ffn.{way}.fc2", width, feedforward)
            norm(f"{layer}.ffn.{way}.ffn_layernorm", feedforward)
        for suffix in ("",) if mixture else (".A", ".B", ".C"):
            norm(f"{layer}.MLP_Adapter{suffix}.norm", width)
            linear(f"{layer}.MLP_Adapter{suffix}.D_fc1", adapter, width)
            linear(f"{layer}.MLP_Adapter{suffix}.D_fc2", width, adapter)
        if mixture:
            experts, slots = mixture
            add(f"{layer}.MLP_Adapter.moe.phi", adapter, experts, slots, scale=1.0)
            add(f"{layer}.MLP_Adapter.moe.experts.weight", experts, adapter, adapter)
            add(f"{layer}.MLP_Adapter.moe.experts.bias", experts, adapter, scale=0.2)
    norm("fc_norm", width)
    linear("head", classes, width)
    return state
