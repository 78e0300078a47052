"""MOME: a mixture of modality experts over multiparametric breast MRI (Luo et al., arXiv 2408.12606).

Written from the published architecture, module names as in the published checkpoints, so that those load as they are:
a BEiT-3 encoder with sub-LN whose every part exists three times, A for DCE and the CLS token, B for DWI, C for T2.
First layers attend within a modality and have one adapter per modality; last layers attend over everything and share a
soft mixture of experts (Puigcerver et al., arXiv 2308.00951).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from radnode_inference.state_dict import StateDict, StateDictError, assign, shape_of, unwrap

DCE, DWI, T2 = WAYS = ("A", "B", "C")
EMBEDDINGS = {DCE: "dce_embed", DWI: "dwi_embed", T2: "t2_embed"}
HEAD_WIDTH = 64
CLS_POSITION = 1
"""The DCE position table has one row more than tokens: its row 0 is unused, row 1 is the CLS token's."""
STRIDE = 16
"""Voxels from token to token along each axis: three convolutions and a pooling, each of stride 2."""
CONTAINERS, PREFIXES = ("state_dict", "model"), ("module.",)

Tokens = dict[str, Tensor]
"""Way -> (batch, tokens, width). A is always there, for the CLS token; B and C only where the modality is."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a network. `soft` has one entry per layer: None for a sparse one, else (experts, slots)."""

    width: int
    heads: int
    feedforward: int
    adapter: int
    stem: tuple[int, int]
    channels: tuple[int, int, int]
    positions: tuple[int, int, int]
    soft: tuple[tuple[int, int] | None, ...]
    classes: int

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise StateDictError(f"width {self.width} does not divide into {self.heads} heads; name the heads")


def from_state_dict(state_dict: Mapping[str, Any], *, heads: int | None = None) -> "Mome":
    """The network of a checkpoint, in eval mode; the checkpoint's tensors become its weights without a copy.

    state_dict: bare, or under `state_dict` or `model`, `module.` before the keys or not. Every size is read from the shapes but
    the number of heads, which no shape shows: `heads`, by default one per 64 of width as published.
    Raises StateDictError that names the keys which are missing, unknown or misshapen.
    """
    state = unwrap(state_dict, CONTAINERS, PREFIXES)
    with torch.device("meta"):
        network = Mome(shape_from(state, heads))
    return assign(network, state)


def shape_from(state: StateDict, heads: int | None = None) -> Shape:
    """The sizes that a state dictionary tells. Raises StateDictError."""
    width = shape_of(state, "fc_norm.weight", 1)[0]
    first = "beit3.encoder.layers.0."
    adapter = first + (
        "MLP_Adapter.D_fc1.weight" if f"{first}MLP_Adapter.moe.phi" in state else "MLP_Adapter.A.D_fc1.weight"
    )
    stems = {way: shape_of(state, f"beit3.{name}.stem.0.weight", 5) for way, name in EMBEDDINGS.items()}
    tables = [shape_of(state, f"beit3.encoder.embed_positions.{way}.weight", 2)[0] for way in WAYS]
    return Shape(
        width=width,
        heads=max(1, width // HEAD_WIDTH) if heads is None else heads,
        feedforward=shape_of(state, f"{first}ffn.A.fc1.weight", 2)[0],
        adapter=shape_of(state, adapter, 2)[0],
        stem=(stems[DCE][0], shape_of(state, "beit3.dce_embed.stem.3.weight", 5)[0]),
        channels=(stems[DCE][1], stems[DWI][1], stems[T2][1]),
        positions=(tables[0], tables[1], tables[2]),
        soft=tuple(soft_experts(state, n) for n in range(depth_of(state))),
        classes=shape_of(state, "head.weight", 2)[0],
    )


def depth_of(state: StateDict) -> int:
    """How many layers there are. Raises StateDictError when one before the last has no key at all."""
    found = (re.match(r"beit3\.encoder\.layers\.(\d{1,6})\.", key) for key in state)
    layers = {int(m[1]) for m in found if m}
    gap = next((n for n in range(len(layers)) if n not in layers), None)
    if gap is not None:
        raise StateDictError(f"missing keys: all of beit3.encoder.layers.{gap}, of {max(layers) + 1} layers")
    return len(layers)


def soft_experts(state: StateDict, layer: int) -> tuple[int, int] | None:
    """(experts, slots) of a layer with a shared soft mixture, None for one with an adapter per modality."""
    phi = f"beit3.encoder.layers.{layer}.MLP_Adapter.moe.phi"
    if phi not in state:
        return None
    _, experts, slots = shape_of(state, phi, 3)
    return experts, slots


class Multiway(nn.Module):
    """The same module three times; each way's tokens go through their own."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        for way in WAYS:
            self.add_module(way, make())

    def forward(self, tokens: Tokens) -> Tokens:
        return {way: self.get_submodule(way)(x) for way, x in tokens.items()}


def joined(tokens: Tokens) -> Tensor:
    return torch.cat([tokens[way] for way in WAYS if way in tokens], dim=-2)


def split_like(x: Tensor, tokens: Tokens) -> Tokens:
    ways = [way for way in WAYS if way in tokens]
    return dict(zip(ways, torch.split(x, [tokens[way].shape[1] for way in ways], dim=-2), strict=True))


class Stem(nn.Module):
    """(batch, channels, x, y, z) -> (batch, tokens, width): three strided convolutions and a pooling, stride 16."""

    def __init__(self, channels: int, stem: tuple[int, int], width: int, *, cls: bool) -> None:
        super().__init__()
        sizes = (channels, *stem, width)
        parts: list[nn.Module] = []
        for before, after in pairwise(sizes):
            parts += [nn.Conv3d(before, after, 3, 2, 1, bias=False), nn.InstanceNorm3d(after), nn.ReLU(inplace=True)]
        self.stem = nn.Sequential(*parts, nn.MaxPool3d(3, 2, 1))
        if cls:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """What the convolutions find, (batch, width, x, y, z) at stride 8."""
        found: Tensor = self.stem[:-1](x)
        return found

    def tokens(self, features: Tensor) -> Tensor:
        pooled: Tensor = self.stem[-1](features)
        return pooled.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention with sub-LN; `within`: each modality sees only itself."""

    def __init__(self, shape: Shape, *, within: bool) -> None:
        super().__init__()
        self.heads, self.within = shape.heads, within
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (
            Multiway(lambda: nn.Linear(shape.width, shape.width)) for _ in range(4)
        )
        self.inner_attn_ln = Multiway(lambda: nn.LayerNorm(shape.width))

    def forward(self, tokens: Tokens) -> Tokens:
        q, k, v = self.q_proj(tokens), self.k_proj(tokens), self.v_proj(tokens)
        if self.within:
            attended = {way: self.attend(q[way], k[way], v[way]) for way in tokens}
        else:
            attended = split_like(self.attend(joined(q), joined(k), joined(v)), tokens)
        out: Tokens = self.out_proj(self.inner_attn_ln(attended))
        return out

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.view(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.fc1 = nn.Linear(shape.width, shape.feedforward)
        self.fc2 = nn.Linear(shape.feedforward, shape.width)
        self.ffn_layernorm = nn.LayerNorm(shape.feedforward)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.ffn_layernorm(F.gelu(self.fc1(x))))
        return out


class Adapter(nn.Module):
    """The bottleneck beside the feed-forward part; in soft layers with the mixture of experts inside."""

    def __init__(self, shape: Shape, soft: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.width)
        self.D_fc1 = nn.Linear(shape.width, shape.adapter)
        self.D_fc2 = nn.Linear(shape.adapter, shape.width)
        if soft is not None:
            self.moe = SoftMixture(shape.adapter, *soft)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(self.D_fc1(x))
        if hasattr(self, "moe"):
            hidden = self.moe(hidden)
        out: Tensor = self.norm(self.D_fc2(hidden))
        return out


class Experts(nn.Module):
    """weight[expert, in, out] and bias[expert, out]."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, width, width))
        self.bias = nn.Parameter(torch.empty(experts, width))


class SoftMixture(nn.Module):
    """Soft mixture of experts: every slot is a mean of all tokens, every token a mean of all slots (arXiv 2308.00951, eq. 1-3)."""

    def __init__(self, width: int, experts: int, slots: int) -> None:
        super().__init__()
        self.phi = nn.Parameter(torch.empty(width, experts, slots))
        self.experts = Experts(width, experts)

    def forward(self, x: Tensor) -> Tensor:
        logits = x @ self.phi.flatten(1)  # (batch, tokens, experts · slots)
        into = logits.softmax(dim=1).transpose(1, 2) @ x
        slots = into.view(x.shape[0], *self.phi.shape[1:], -1)
        slots = torch.einsum("benc,ecd->bend", slots, self.experts.weight) + self.experts.bias[:, None]
        return logits.softmax(dim=2) @ slots.flatten(1, 2)


class Layer(nn.Module):
    """Pre-LN encoder layer; sparse (`soft` None) or soft modality experts."""

    def __init__(self, shape: Shape, soft: tuple[int, int] | None) -> None:
        super().__init__()
        self.self_attn = Attention(shape, within=soft is None)
        self.self_attn_layer_norm = Multiway(lambda: nn.LayerNorm(shape.width))
        self.ffn = Multiway(lambda: FeedForward(shape))
        self.final_layer_norm = Multiway(lambda: nn.LayerNorm(shape.width))
        self.MLP_Adapter = Multiway(lambda: Adapter(shape)) if soft is None else Adapter(shape, soft)

    def forward(self, tokens: Tokens) -> Tokens:
        attended = self.self_attn(self.self_attn_layer_norm(tokens))
        tokens = {way: x + attended[way] for way, x in tokens.items()}
        normed = self.final_layer_norm(tokens)
        fed = self.ffn(normed)
        if isinstance(self.MLP_Adapter, Multiway):
            adapted = self.MLP_Adapter(normed)
        else:
            adapted = split_like(self.MLP_Adapter(joined(normed)), normed)
        return {way: x + fed[way] + adapted[way] for way, x in tokens.items()}


class Positions(nn.Module):
    """The learned position tables, named as in the checkpoints."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        for way, rows in zip(WAYS, shape.positions, strict=True):
            self.add_module(way, nn.Embedding(rows, shape.width))

    def rows(self, way: str, start: int, count: int) -> Tensor:
        table = self.get_submodule(way).weight
        assert isinstance(table, Tensor)
        if start + count > table.shape[0]:
            raise ValueError(
                f"{count} tokens of way {way} for {table.shape[0] - start} positions: the input is too large"
            )
        return table[start : start + count]


class Encoder(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_positions = Positions(shape)
        self.layers = nn.ModuleList(Layer(shape, soft) for soft in shape.soft)


class Beit3(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        for (way, name), channels in zip(EMBEDDINGS.items(), shape.channels, strict=True):
            self.add_module(name, Stem(channels, shape.stem, shape.width, cls=way == DCE))
        self.encoder = Encoder(shape)

    def forward(self, features: dict[str, Tensor]) -> Tokens:
        """The tokens after the last layer; there is no final layer norm."""
        tokens = self.embedded(features)
        for layer in self.encoder.layers:
            tokens = layer(tokens)
        return tokens

    def stem(self, way: str) -> Stem:
        found = self.get_submodule(EMBEDDINGS[way])
        assert isinstance(found, Stem)
        return found

    def embedded(self, features: dict[str, Tensor]) -> Tokens:
        positions, cls = self.encoder.embed_positions, self.get_parameter("dce_embed.cls_token")
        batch = next((x.shape[0] for x in features.values()), 1)
        tokens = {DCE: (cls + positions.rows(DCE, CLS_POSITION, 1)).expand(batch, -1, -1)}
        for way, found in features.items():
            x = self.stem(way).tokens(found)
            x = x + positions.rows(way, CLS_POSITION + 1 if way == DCE else 0, x.shape[1])
            tokens[way] = torch.cat([tokens[way], x], dim=1) if way == DCE else x
        return tokens


class Mome(nn.Module):
    """The classifier: logits from the normed CLS token."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.beit3 = Beit3(shape)
        self.fc_norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.classes)

    def forward(self, dce: Tensor | None, dwi: Tensor | None, t2: Tensor | None) -> Tensor:
        """Logits (batch, classes).

        dce, dwi, t2: (batch, channels, width, height, depth) float; None: the examination has no such images, and the
        network reads the rest (their tokens are left out). All three None: what it says of nothing, batch 1.
        """
        given = zip(WAYS, (dce, dwi, t2), strict=True)
        return self.read({way: self.beit3.stem(way).features(x) for way, x in given if x is not None})

    def read(self, features: dict[str, Tensor]) -> Tensor:
        """Logits from what the stems found, way -> (batch, width, x, y, z)."""
        out: Tensor = self.head(self.fc_norm(self.beit3(features)[DCE][:, 0]))
        return out
