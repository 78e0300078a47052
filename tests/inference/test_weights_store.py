"""`weights_store.add`: what is stored, and every reason why something is not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import SwinUNETR
from safetensors.torch import load_file
from torch import Tensor

from radnode_inference import registry, weights_store
from radnode_inference.models.chest_ct.voco_model import VocoModel
from radnode_inference.state_dict import StateDictError
from radnode_inference.weights import WeightsError, digest, remove, versions

LUNG = {"value": "39607008", "scheme": "SCT", "meaning": "Lung"}
CARD: dict[str, Any] = {
    "name": "mine", "version": "1", "intended_use": "a test", "training_data": "none: random", "licence": "Apache-2.0",
    "input": {"spacing_mm": [4, 4, 4], "window_hu": [-1000, 400], "roi": [64, 32, 32]},
    "classes": [{"name": "background", "kind": "background"}, {"name": "lung", "kind": "anatomy", "concept": LUNG}],
}  # fmt: skip


def state(classes: int = 2, feature_size: int = 12) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return dict(SwinUNETR(1, classes, feature_size=feature_size, use_v2=True, window_size=4).state_dict())


def given(folder: Path, content: Any = None, **changed: Any) -> tuple[Path, Path]:
    """A checkpoint and its card, outside of the site's folder."""
    folder.mkdir(exist_ok=True)
    file, card = folder / "finetuned.pt", folder / "card.json"
    torch.save({"state_dict": state(), "epoch": 7} if content is None else content, file)
    card.write_text(json.dumps({k: v for k, v in (CARD | changed).items() if v is not None}))
    return file, card


def add(folder: Path, content: Any = None, *, sha256: str = "", to: str = "ct-voco", **changed: Any) -> Path:
    file, card = given(folder / "given", content, **changed)
    return weights_store.add([file], to, card, folder / "site", sha256=sha256).path


@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_a_checkpoint_is_stored_as_safetensors_beside_its_card_and_read_only(tmp_path: Path, prefix: str) -> None:
    content = {f"{prefix}{k}": v for k, v in state().items()}
    path = add(tmp_path, {"net": content})
    assert path == tmp_path / "site" / "ct-voco" / "1" / "weights.safetensors"
    kept = load_file(path)
    assert all(torch.equal(kept[k], v) for k, v in content.items()) and len(kept) == len(content)
    card = json.loads(path.with_name("card.json").read_text())
    assert card["sha256"] == digest(path)
    assert card["source"] == {"file": "finetuned.pt", "sha256": digest(tmp_path / "given" / "finetuned.pt")}
    assert [p.stat().st_mode & 0o222 for p in (path, path.with_name("card.json"), path.parent)] == [0, 0, 0]
    model = registry.load(registry.card("ct-voco", tmp_path / "site"), "cpu", tmp_path / "site")
    assert isinstance(model, VocoModel)
    assert model.identity.weights_sha256 == digest(path)


def test_a_checkpoint_whose_tensors_share_memory_is_stored_with_each_of_its_own(tmp_path: Path) -> None:
    content, blocks, rows = state(), "swinViT.layers1.0.blocks.{}.{}", torch.rand(2, 12)
    tied = {blocks.format(n, "attn.qkv.bias"): torch.ones(36) for n in (0, 1)}
    content |= tied | {blocks.format(1, "attn.qkv.bias"): tied[blocks.format(0, "attn.qkv.bias")]}
    content |= {blocks.format(n, "norm1.weight"): rows[n] for n in (0, 1)}
    kept = load_file(add(tmp_path, {"state_dict": content}))
    assert all(torch.equal(kept[k], v) for k, v in content.items()) and len(kept) == len(content)


def test_a_version_that_was_removed_is_gone(tmp_path: Path) -> None:
    add(tmp_path)
    left = tmp_path / "site" / "ct-voco" / ".removed-1"  # by a removal that was cut off
    left.mkdir()
    (left / "weights.safetensors").touch()
    remove("ct-voco", "1", tmp_path / "site")
    assert versions("ct-voco", tmp_path / "site") == ()
    with pytest.raises(WeightsError, match="there is no version 1"):
        remove("ct-voco", "1", tmp_path / "site")


def test_two_versions_stand_side_by_side_and_neither_is_overwritten(tmp_path: Path) -> None:
    first = add(tmp_path)
    before = digest(first)
    add(tmp_path, version="2", name="better")
    assert versions("ct-voco", tmp_path / "site") == ("1", "2")
    with pytest.raises(WeightsError, match="the version 1 of ct-voco is there already"):
        add(tmp_path, name="other")
    assert digest(first) == before


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran-the-pickle"),)


NODULE = {"name": "nodule", "kind": "abnormality"}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"intended_use": None}, "card.json: intended_use: is missing"),
        ({"intended_use": ""}, "intended_use: String should have at least 1 character"),
        ({"training_data": None}, "training_data: is missing"),
        ({"licence": None}, "licence: is missing"),
        ({"version": "../1"}, "version: String should match pattern"),
        ({"classes": [*CARD["classes"], NODULE]}, "the class 'nodule' has no code"),
        ({"classes": [CARD["classes"][0]]}, "no class can be reported"),
        ({"classes": [CARD["classes"][1]] * 2}, "two classes have the same name"),
        ({"classes": [*CARD["classes"], NODULE | {"concept": {"value": "1"}}]}, "concept.scheme: is missing"),
        ({"classes": [*CARD["classes"], NODULE | {"concept": LUNG, "treshold": 1}]}, "treshold: Extra inputs"),
        ({"threshhold": 0.5}, "the key 'threshhold' is not known; 'threshold' is"),
        ({"calibration": {"temperature": 0}}, "temperature: Input should be greater than 0"),
        ({"model": "mr-breast-mome"}, "is for the model mr-breast-mome"),
        ({"classes": [*CARD["classes"], NODULE | {"concept": LUNG}]}, "has 2 classes, its card 3"),
        ({"input": {"roi": [64, 32, 32]}}, "KeyError 'spacing_mm'"),
        ({"sha256": "0" * 64}, r"finetuned\.pt has SHA-256 [0-9a-f]{64}, not 0{64}: not stored"),
    ],
)  # fmt: skip
def test_a_card_that_says_too_little_is_refused_and_nothing_is_stored(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(WeightsError, match=reason) as refused:
        add(tmp_path, **changed)
    assert "\n" not in str(refused.value)
    assert not any((tmp_path / "site").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"a": Malicious()}, "cannot be read as plain tensors"),
        ({"state_dict": {"a": 3}}, "not tensors: keys: a"),
        ({"state_dict": {}}, "no tensors"),
        ([1, 2], "holds a list, not a state dictionary"),
        ({"swinViT.patch_embed.proj.weight": torch.full((12, 1, 2, 2, 2), float("nan"))}, "not finite: keys: swinViT"),
        ({"conv.weight": torch.zeros(1)}, r"missing key swinViT\.patch_embed"),
        ({"a": torch.zeros(1).expand(1 << 20, 1 << 20)}, "no plain numbers under keys: a"),
        ({"a": torch.ones(2, 2).to_sparse(), "b": torch.ones(2).to("meta")}, "no plain numbers under keys: a, b"),
    ],
    ids=["pickle", "number", "empty", "list", "nan", "other network", "one number told to be 4 TB", "sparse and left out"],
)  # fmt: skip
def test_a_file_that_is_no_such_network_is_refused_and_nothing_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StateDictError, match=reason):
        add(tmp_path, content)
    assert not Path("ran-the-pickle").exists()
    assert versions("ct-voco", tmp_path / "site") == ()
    assert not [p for p in (tmp_path / "site").rglob("*") if p.is_file()]


def test_a_wrong_hash_on_the_command_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not 00: not stored"):
        add(tmp_path, sha256="00")


def test_a_model_without_weights_takes_none(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="ct-lung takes no weights"):
        add(tmp_path, to="ct-lung")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    _, card = given(tmp_path / "given")
    with pytest.raises(WeightsError, match="there is no file"):
        weights_store.add([tmp_path / "none.pt"], "ct-voco", card, tmp_path)


def test_fewer_files_than_the_card_has_folds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="describes 2 files, and 1 were given"):
        add(tmp_path, folds=[{"file": "b.pt", "sha256": "1"}])


@pytest.mark.parametrize("model", ["ct-voco", "mr-breast-mome"])
def test_the_packaged_cards_have_the_form_too(model: str, tmp_path: Path) -> None:
    from radnode_inference import card_schema

    packaged = {"ct-voco": registry.chest_ct.PACKAGED, "mr-breast-mome": registry.breast_mri.MOME_PACKAGED}[model]
    assert card_schema.check(json.loads(packaged.read_text()), packaged.name).model == model
