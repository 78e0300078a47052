"""MOME as published in plain PyTorch, from a state dictionary: what `benchmarks/inference.py` compares its engines with.

Written beside the product's network and without it: every way's tokens by their own weights, one after the other, attention
as matrix products and a softmax (arXiv 2408.12606; soft mixture of experts: arXiv 2308.00951).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
NAMES = {"A": "dce_embed", "B": "dwi_embed", "C": "t2_embed"}


def logits(state: State, volumes: dict[str, Tensor], heads: int) -> Tensor:
    """(batch, classes). volumes: way -> (batch, channels, x, y, z), all three ways."""
    tokens = {way: embedded(state, way, volume) for way, volume in volumes.items()}
    depth = 1 + max(int(key.split(".")[3]) for key in state if key.startswith("beit3.encoder.layers."))
    for n in range(depth):
        tokens = layer(state, f"beit3.encoder.layers.{n}", tokens, heads)
    return linear(state, "head", norm(state, "fc_norm", tokens["A"][:, 0]))


def embedded(state: State, way: str, x: Tensor) -> Tensor:
    for n in (0, 3, 6):
        x = F.conv3d(x, state[f"beit3.{NAMES[way]}.stem.{n}.weight"], stride=2, padding=1)
        x = F.relu(F.instance_norm(x))
    x = F.max_pool3d(x, 3, 2, 1).flatten(2).transpose(1, 2)
    table = state[f"beit3.encoder.embed_positions.{way}.weight"]
    if way != "A":
        return x + table[: x.shape[1]]
    x = torch.cat([state["beit3.dce_embed.cls_token"].expand(len(x), -1, -1), x], dim=1)
    return x + table[1 : 1 + x.shape[1]]


def layer(state: State, at: str, tokens: dict[str, Tensor], heads: int) -> dict[str, Tensor]:
    soft = f"{at}.MLP_Adapter.moe.phi" in state
    normed = {w: norm(state, f"{at}.self_attn_layer_norm.{w}", x) for w, x in tokens.items()}
    q, k, v = (
        {w: linear(state, f"{at}.self_attn.{p}_proj.{w}", x) for w, x in normed.items()} for p in ("q", "k", "v")
    )
    if soft:
        whole = attended(*(torch.cat(list(part.values()), dim=1) for part in (q, k, v)), heads)
        seen = dict(zip(tokens, whole.split([x.shape[1] for x in tokens.values()], dim=1), strict=True))
    else:
        seen = {w: attended(q[w], k[w], v[w], heads) for w in tokens}
    for w in tokens:
        inner = norm(state, f"{at}.self_attn.inner_attn_ln.{w}", seen[w])
        tokens[w] = tokens[w] + linear(state, f"{at}.self_attn.out_proj.{w}", inner)
    normed = {w: norm(state, f"{at}.final_layer_norm.{w}", x) for w, x in tokens.items()}
    if soft:
        whole = adapter(state, f"{at}.MLP_Adapter", torch.cat(list(normed.values()), dim=1))
        adapted = dict(zip(tokens, whole.split([x.shape[1] for x in tokens.values()], dim=1), strict=True))
    else:
        adapted = {w: adapter(state, f"{at}.MLP_Adapter.{w}", x) for w, x in normed.items()}
    return {w: x + fed(state, f"{at}.ffn.{w}", normed[w]) + adapted[w] for w, x in tokens.items()}


def attended(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
    return (scores.softmax(dim=3) @ v).transpose(1, 2).flatten(2)


def fed(state: State, at: str, x: Tensor) -> Tensor:
    return linear(state, f"{at}.fc2", norm(state, f"{at}.ffn_layernorm", F.gelu(linear(state, f"{at}.fc1", x))))


def adapter(state: State, at: str, x: Tensor) -> Tensor:
    hidden = F.gelu(linear(state, f"{at}.D_fc1", x))
    if f"{at}.moe.phi" in state:
        phi, weight = state[f"{at}.moe.phi"], state[f"{at}.moe.experts.weight"]
        scores = torch.einsum("btc,ces->btes", hidden, phi)
        slots = torch.einsum("btes,btc->besc", scores.softmax(dim=1), hidden)
        slots = torch.einsum("besc,ecd->besd", slots, weight) + state[f"{at}.moe.experts.bias"][None, :, None]
        hidden = torch.einsum("btes,besc->btc", scores.flatten(2).softmax(dim=2).view_as(scores), slots)
    return norm(state, f"{at}.norm", linear(state, f"{at}.D_fc2", hidden))


def norm(state: State, at: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{at}.weight"], state[f"{at}.bias"])


def linear(state: State, at: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{at}.weight"], state[f"{at}.bias"])
