"""MOME against a naive reference: every token on its own, attention with a dense mask, plain arithmetic."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import mome_plain, state_dicts
from torch import Tensor

from radnode_inference.models.breast_mri import mome
from radnode_inference.state_dict import StateDictError, parameter_count

State = dict[str, Tensor]


def norm(x: Tensor, state: State, key: str) -> Tensor:
    deviation = x - x.mean()
    return deviation / torch.sqrt((deviation**2).mean() + 1e-5) * state[f"{key}.weight"] + state[f"{key}.bias"]


def linear(x: Tensor, state: State, key: str) -> Tensor:
    return state[f"{key}.weight"] @ x + state[f"{key}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def embedded(volume: Tensor, state: State, name: str) -> list[Tensor]:
    x = volume[None]
    for number in (0, 3, 6):
        x = F.conv3d(x, state[f"beit3.{name}_embed.stem.{number}.weight"], stride=2, padding=1)
        mean, variance = x.mean(dim=(2, 3, 4), keepdim=True), x.var(dim=(2, 3, 4), keepdim=True, unbiased=False)
        x = ((x - mean) / torch.sqrt(variance + 1e-5)).clamp(min=0)
    x = F.max_pool3d(x, 3, 2, 1)[0]
    sides = x.shape[1:]
    return [x[:, i, j, k] for i in range(sides[0]) for j in range(sides[1]) for k in range(sides[2])]


def tokens_of(volumes: dict[str, Tensor | None], state: State) -> tuple[list[Tensor], list[str]]:
    tokens, ways = [], []
    for way, (name, volume) in zip("ABC", volumes.items(), strict=True):
        table = state[f"beit3.encoder.embed_positions.{way}.weight"]
        found = [] if volume is None else embedded(volume, state, name)
        if way == "A":
            found = [state["beit3.dce_embed.cls_token"][0, 0], *found]
        for n, token in enumerate(found):
            tokens.append(token + table[n + 1 if way == "A" else n])
            ways.append(way)
    return tokens, ways


def attention(xs: list[Tensor], ways: list[str], state: State, layer: str, heads: int, blocks: bool) -> list[Tensor]:
    part = {p: torch.stack([linear(x, state, f"{layer}.{p}.{w}") for x, w in zip(xs, ways, strict=True)]) for p in
            ("q_proj", "k_proj", "v_proj")}  # fmt: skip
    hidden = torch.tensor([[blocks and a != b for b in ways] for a in ways])
    size = xs[0].numel() // heads
    rows = []
    for h in range(heads):
        q, k, v = (part[p][:, h * size : (h + 1) * size] for p in ("q_proj", "k_proj", "v_proj"))
        scores = (q @ k.T / math.sqrt(size)).masked_fill(hidden, -math.inf)
        rows.append(scores.softmax(dim=1) @ v)
    attended = torch.cat(rows, dim=1)
    return [linear(norm(a, state, f"{layer}.inner_attn_ln.{w}"), state, f"{layer}.out_proj.{w}") for a, w in
            zip(attended, ways, strict=True)]  # fmt: skip


def mixture(xs: list[Tensor], state: State, key: str) -> list[Tensor]:
    phi, weight, bias = state[f"{key}.phi"], state[f"{key}.experts.weight"], state[f"{key}.experts.bias"]
    experts, slots = phi.shape[1:]
    logits = torch.tensor([[float(x @ phi[:, e, s]) for e in range(experts) for s in range(slots)] for x in xs])
    into, out = logits.softmax(dim=0), logits.softmax(dim=1)
    answers = []
    for n in range(experts * slots):
        mean = sum((into[t, n] * x for t, x in enumerate(xs)), torch.zeros_like(xs[0]))
        answers.append(mean @ weight[n // slots] + bias[n // slots])
    return [sum((out[t, n] * a for n, a in enumerate(answers)), torch.zeros_like(xs[0])) for t in range(len(xs))]


def adapted(xs: list[Tensor], ways: list[str], state: State, layer: str, soft: bool) -> list[Tensor]:
    keys = [f"{layer}.MLP_Adapter" + ("" if soft else f".{w}") for w in ways]
    hidden = [gelu(linear(x, state, f"{k}.D_fc1")) for x, k in zip(xs, keys, strict=True)]
    if soft:
        hidden = mixture(hidden, state, f"{layer}.MLP_Adapter.moe")
    return [norm(linear(h, state, f"{k}.D_fc2"), state, f"{k}.norm") for h, k in zip(hidden, keys, strict=True)]


def naive(volumes: dict[str, Tensor | None], state: State, heads: int) -> Tensor:
    """Logits (classes) of one examination."""
    xs, ways = tokens_of(volumes, state)
    depth = 1 + max(int(key.split(".")[3]) for key in state if ".layers." in key)
    for n in range(depth):
        layer = f"beit3.encoder.layers.{n}"
        soft = f"{layer}.MLP_Adapter.moe.phi" in state
        normed = [norm(x, state, f"{layer}.self_attn_layer_norm.{w}") for x, w in zip(xs, ways, strict=True)]
        attended = attention(normed, ways, state, f"{layer}.self_attn", heads, blocks=not soft)
        xs = [x + a for x, a in zip(xs, attended, strict=True)]
        normed = [norm(x, state, f"{layer}.final_layer_norm.{w}") for x, w in zip(xs, ways, strict=True)]
        beside = adapted(normed, ways, state, layer, soft)
        for i, way in enumerate(ways):
            ffn = f"{layer}.ffn.{way}"
            inner = norm(gelu(linear(normed[i], state, f"{ffn}.fc1")), state, f"{ffn}.ffn_layernorm")
            xs[i] = xs[i] + linear(inner, state, f"{ffn}.fc2") + beside[i]
    return linear(norm(xs[0], state, "fc_norm"), state, "head")


SIZES = {"dce": (6, 48, 32, 16), "dwi": (1, 32, 32, 16), "t2": (1, 48, 32, 16)}
POSITIONS = (3 * 2 * 1 + 2, 2 * 2 * 1, 3 * 2 * 1)
SMALL = state_dicts.mome(width=64, feedforward=80, adapter=12, positions=POSITIONS, soft=(None, None, (5, 1)))
OTHER = state_dicts.mome(
    width=48,
    feedforward=64,
    adapter=16,
    stem=(3, 5),
    positions=POSITIONS,
    soft=(None, (3, 2), (3, 2)),
    classes=4,
    seed=3,
)
DEEP = state_dicts.mome(
    width=32,
    feedforward=40,
    adapter=8,
    stem=(2, 3),
    positions=POSITIONS,
    soft=(None, None, None, (4, 1), (4, 1)),
    seed=7,
)


def volumes(seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.randn(size, generator=draw) for name, size in SIZES.items()}


@pytest.mark.parametrize(("state", "heads"), [(SMALL, 1), (SMALL, 4), (OTHER, 3), (DEEP, 2)])
def test_the_logits_are_those_of_a_naive_reference(state: State, heads: int) -> None:
    net = mome.from_state_dict(state, heads=heads)
    batch = [volumes(1), volumes(2)]
    with torch.inference_mode():
        logits = net(*(torch.stack([v[name] for v in batch]) for name in SIZES))
    expected = torch.stack([naive(dict(v), state, heads) for v in batch])
    assert logits.shape == expected.shape
    assert (logits - expected).abs().max() < 1e-5
    ways = dict(zip(mome.WAYS, (torch.stack([v[name] for v in batch]) for name in SIZES), strict=True))
    assert (mome_plain.logits(state, ways, heads) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("missing", [("dce",), ("dwi",), ("t2",), ("dce", "t2"), ("dce", "dwi", "t2")])
def test_a_missing_modality_is_read_as_its_tokens_left_out(missing: tuple[str, ...]) -> None:
    net = mome.from_state_dict(SMALL, heads=2)
    given = {name: None if name in missing else x for name, x in volumes(3).items()}
    with torch.inference_mode():
        logits = net(*(None if x is None else x[None] for x in given.values()))
    assert (logits[0] - naive(given, SMALL, 2)).abs().max() < 1e-5


def test_the_published_keys_are_accepted_and_make_the_published_size() -> None:
    state = state_dicts.published("mome")
    net = mome.from_state_dict(state)
    assert len(state) == 926
    assert parameter_count(net) == 290_751_362
    assert (net.shape.heads, net.shape.classes, net.shape.channels) == (12, 2, (6, 1, 1))
    assert net.shape.soft == (None,) * 9 + ((128, 1),) * 3
    assert set(net.state_dict()) == set(state)


def test_a_training_checkpoint_is_unwrapped_and_its_tensors_are_not_copied() -> None:
    wrapped = {"epoch": 3, "optimizer": {}, "state_dict": {f"module.{k}": v for k, v in SMALL.items()}}
    net = mome.from_state_dict(wrapped)
    assert net.get_parameter("head.weight").data_ptr() == SMALL["head.weight"].data_ptr()
    assert not net.training


def test_unknown_missing_and_misshapen_keys_are_named() -> None:
    state = dict(SMALL)
    del state["beit3.encoder.layers.1.ffn.B.fc2.bias"]
    state["beit3.encoder.layer_norm.A.weight"] = torch.zeros(64)
    state["head.bias"] = torch.zeros(5)
    with pytest.raises(StateDictError) as refused:
        mome.from_state_dict(state)
    for name in ("missing keys: beit3.encoder.layers.1.ffn.B.fc2.bias", "unknown keys: beit3.encoder.layer_norm.A.weight",
                 "misshapen keys: head.bias (5,) for (2,)"):  # fmt: skip
        assert name in str(refused.value)


def test_a_key_that_leads_to_no_tensor_is_named() -> None:
    for key, said in (
        ("head.bias", "no tensor under keys: head.bias"),
        ("fc_norm.weight", r"no tensor under the key fc_norm\.weight"),
    ):
        with pytest.raises(StateDictError, match=said):
            mome.from_state_dict(SMALL | {key: [1.0, 2.0]})


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"fc_norm.weight": torch.tensor(1.0)}, r"misshapen key fc_norm\.weight \(\): it has 1 axes"),
        ({"beit3.dwi_embed.stem.0.weight": torch.zeros(4)}, r"misshapen key beit3\.dwi_embed\.stem\.0\.weight \(4,\)"),
        ({"beit3.encoder.layers.2.MLP_Adapter.moe.phi": torch.zeros(3)}, r"misshapen key .*layers\.2\.MLP_Adapter\.moe\.phi"),
        ({"beit3.encoder.layers.2.MLP_Adapter.moe.phi": "x"}, r"no tensor under the key .*moe\.phi"),
        ({"beit3.encoder.layers.99999.x": torch.zeros(1)}, r"missing keys: all of beit3\.encoder\.layers\.3, of 100000 layers"),
        ({"beit3.encoder.layers.99999999.x": torch.zeros(1)}, r"unknown keys: beit3\.encoder\.layers\.99999999\.x"),
        ({"head.weight": torch.zeros(2, 64, dtype=torch.complex64)}, r"of another type: keys: head\.weight complex64 for float32"),
        ({7: torch.zeros(1)}, "a key of the checkpoint is no name: 7"),
    ],
)  # fmt: skip
def test_an_odd_key_is_named_and_never_builds_a_network_of_its_size(odd: dict[Any, Any], said: str) -> None:
    with pytest.raises(StateDictError, match=said):
        mome.from_state_dict(SMALL | odd)


def test_something_else_altogether_is_refused_with_the_first_key_it_lacks() -> None:
    with pytest.raises(StateDictError, match=r"missing key fc_norm\.weight"):
        mome.from_state_dict({"conv.weight": torch.zeros(1)})


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(StateDictError, match="name the heads"):
        mome.from_state_dict(SMALL, heads=3)


def test_an_input_with_more_tokens_than_positions_is_refused() -> None:
    net = mome.from_state_dict(SMALL)
    with pytest.raises(ValueError, match="too large"):
        net(None, torch.zeros(1, 1, 64, 64, 16), None)
