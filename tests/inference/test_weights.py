"""Weights are found, checked against their card, and refused with the reason."""

import json
import pickle
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from safetensors.torch import save_file

from radnode_inference import registry
from radnode_inference.model import Availability
from radnode_inference.state_dict import StateDictError, read_tensors
from radnode_inference.weights import OFF, WeightsError, digest, find, remove, verify, versions

CONCEPT = {"value": "52988006", "scheme": "SCT", "meaning": "Lesion"}


def install(folder: Path, place: str = "ct-voco", **changed: Any) -> Path:
    """Weights and a card in the site's folder, as `radnode weights add` stores them; the card's path."""
    into = folder / place / str(changed.pop("under", "3"))
    into.mkdir(parents=True)
    save_file({"a": torch.arange(3.0)}, into / "mine.safetensors")
    card = {
        "name": "mine", "version": "3", "file": "mine.safetensors", "sha256": digest(into / "mine.safetensors"),
        "intended_use": "a test", "classes": [{"name": "none", "kind": "background"}, {"name": "l", "kind": "abnormality", "concept": CONCEPT}],
    }  # fmt: skip
    (into / "card.json").write_text(json.dumps(card | changed))
    return into / "card.json"


def test_site_weights_are_found_before_the_packaged_ones(tmp_path: Path) -> None:
    packaged = install(tmp_path / "package", name="packaged", demonstration=True)
    install(tmp_path / "site")
    found = find("ct-voco", tmp_path / "site", packaged)
    assert found is not None
    verify(found)
    identity = found.identity("1.0.0")
    assert (identity.weights_name, identity.weights_version, identity.demonstration) == ("mine", "3", False)
    assert identity.weights_sha256 == digest(found.path)
    assert found.statements == ()


def test_without_site_weights_the_packaged_ones_are_found_and_say_what_they_are(tmp_path: Path) -> None:
    packaged = install(tmp_path / "package", demonstration=True)
    found = find("ct-voco", tmp_path / "empty", packaged)
    assert found is not None
    assert found.demonstration
    assert "DEMONSTRATION ONLY" in found.statements[0]


def test_the_limitations_of_the_card_are_said_with_every_result(tmp_path: Path) -> None:
    def said(*limitations: str, **changed: Any) -> tuple[str, ...]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        found = find("ct-voco", folder, install(folder, limitations=list(limitations), **changed))
        assert found is not None
        return found.statements

    assert said("Not useful with T2 only.", "Compare the order.") == (
        "Limitations by the card of the weights: Not useful with T2 only. Compare the order.",
    )
    assert len(said("Adults only.", demonstration=True)) == 2
    (long,) = said(*(f"{n} {'x' * 396}." for n in range(5)))
    assert long.endswith(" And 3 more: radnode models ct-voco.") and len(long) < 1100


def test_what_a_card_says_of_itself_is_kept_for_the_registry(tmp_path: Path) -> None:
    install(tmp_path, metrics={"auroc": 0.9, "dice": {"value": 0.8, "low": 0.7, "high": 0.9}, "cohort": "30 of ours", "by_site": {"b": {"n": 3, "value": 1}}},
            gates={"kernel": ["B30f", "FC12"], "age_years": [18, 90], "modality": "CT"}, licence="MIT", training_data="ours")  # fmt: skip
    about = registry.card("ct-voco", tmp_path).about
    assert (about.licence, about.training_data, about.limitations) == ("MIT", "ours", ())
    assert about.gates == ("kernel: B30f or FC12", "age (years): 18 to 90", "modality: CT")
    assert about.cohorts == ("cohort: 30 of ours",)
    assert [(f.of, f.name, f.told) for f in about.figures] == [
        ("", "auroc", "0.90"), ("", "dice", "0.80 (0.70 to 0.90)"), ("by_site", "b", "1.00 (n 3)"),
    ]  # fmt: skip


def test_without_any_weights_nothing_is_found(tmp_path: Path) -> None:
    assert find("ct-voco", tmp_path, tmp_path / "none.json") is None


def test_a_toml_card_is_read(tmp_path: Path) -> None:
    card = install(tmp_path)
    given = json.loads(card.read_text())
    card.unlink()
    lines = [f'{k} = "{given[k]}"' for k in ("name", "version", "file", "sha256", "intended_use")]
    card.with_suffix(".toml").write_text(
        "\n".join(lines) + '\n[[classes]]\nname = "l"\nkind = "abnormality"\n'
        'concept = {value = "52988006", scheme = "SCT", meaning = "Lesion"}\n'
    )
    found = find("ct-voco", tmp_path, None)
    assert found is not None
    assert found.name == "mine"


def test_weights_that_were_changed_are_refused(tmp_path: Path) -> None:
    card = install(tmp_path)
    path = card.with_name("mine.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    found = find("ct-voco", tmp_path, None)
    assert found is not None
    with pytest.raises(WeightsError, match=r"mine\.safetensors has SHA-256 [0-9a-f]{64}, its card says [0-9a-f]{64}"):
        verify(found)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"sha256": ""}, "lacks sha256"),
        ({"classes": []}, "lacks classes"),
        ({"classes": [{"name": "l", "kind": "abnormality"}]}, "the class 'l' has no code"),
        ({"classes": [{"name": "l", "kind": "abnormality", "concept": {"value": "1"}}]}, "a code needs value"),
        ({"file": "../mine.safetensors"}, "plain name"),
        ({"file": "mine.pkl"}, "plain name"),
        ({"file": "other.safetensors"}, "is not there"),
        ({"model": "mr-breast-mome"}, "is for the model mr-breast-mome"),
    ],
)
def test_a_card_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    install(tmp_path, **changed)
    with pytest.raises(WeightsError, match=reason):
        find("ct-voco", tmp_path, None)


def test_weights_without_a_card_are_refused(tmp_path: Path) -> None:
    install(tmp_path).unlink()
    with pytest.raises(WeightsError, match="no version with a card"):
        find("ct-voco", tmp_path, None)


def test_a_card_that_is_no_json_is_refused(tmp_path: Path) -> None:
    install(tmp_path).write_text("{")
    with pytest.raises(WeightsError, match="cannot be read"):
        find("ct-voco", tmp_path, None)


def test_of_two_versions_the_one_in_use_is_found_and_without_a_setting_none(tmp_path: Path) -> None:
    for version in ("3", "10"):
        install(tmp_path, under=version, version=version)
    assert versions("ct-voco", tmp_path) == ("3", "10")
    for version in ("3", "10"):
        found = find("ct-voco", tmp_path, None, version)
        assert found is not None
        assert found.version == version
    with pytest.raises(WeightsError, match="has the versions 3, 10, and none is in use"):
        find("ct-voco", tmp_path, None)
    with pytest.raises(WeightsError, match="the version 4 of ct-voco is in use, and its card is not in"):
        find("ct-voco", tmp_path, None, "4")


def test_a_model_that_is_turned_off_has_no_weights_not_even_the_packaged_ones(tmp_path: Path) -> None:
    install(tmp_path)
    card = registry.card("ct-voco", tmp_path, {"ct-voco": OFF})
    assert card.availability is Availability.OFF
    assert card.unavailable_because(generated=True) == "off: no version of its weights is in use"


def test_weights_that_went_away_after_their_card_was_read_are_not_replaced_by_others(tmp_path: Path) -> None:
    install(tmp_path)
    card = registry.card("ct-voco", tmp_path)
    remove("ct-voco", "3", tmp_path)
    with pytest.raises(WeightsError, match="are gone"):
        registry.load(card, "cpu", tmp_path)


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran-the-pickle"),)


def test_a_pickle_that_asks_for_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Malicious()}, tmp_path / "bad.pt")
    with pytest.raises(StateDictError, match=r"cannot be read as plain tensors: UnpicklingError, it asks for getattr"):
        read_tensors(tmp_path / "bad.pt")
    (tmp_path / "bad.pt").write_bytes(pickle.dumps(Malicious(), protocol=4))  # of which torch warns
    with pytest.raises(StateDictError, match="cannot be read as plain tensors"):
        read_tensors(tmp_path / "bad.pt")
    (tmp_path / "bad.pt").write_text("hello")
    with pytest.raises(StateDictError, match="it is no file that torch wrote"):
        read_tensors(tmp_path / "bad.pt")
    assert not (tmp_path / "ran-the-pickle").exists()


def test_a_torch_file_of_tensors_is_read(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.arange(3)}, "epoch": 3}, tmp_path / "good.pt")
    assert read_tensors(tmp_path / "good.pt")["state_dict"]["a"].tolist() == [0, 1, 2]


def test_a_checkpoint_that_was_packed_anew_is_read_and_its_packed_bytes_are_no_numbers(tmp_path: Path) -> None:
    """torch maps a compressed archive too, and takes what is packed for the numbers."""
    state = {"a": torch.arange(4096).float(), "b": torch.ones(64, dtype=torch.int64)}
    torch.save(state, tmp_path / "given.pt")
    with ZipFile(tmp_path / "given.pt") as given, ZipFile(tmp_path / "packed.pt", "w", ZIP_DEFLATED) as packed:
        for entry in given.infolist():
            packed.writestr(entry.filename, given.read(entry.filename))
    found = read_tensors(tmp_path / "packed.pt")
    assert all(torch.equal(found[k], v) for k, v in state.items())


def test_a_checkpoint_of_an_old_torch_is_read_and_a_pickle_in_its_form_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.th"
    torch.save({"state_dict": {"a": torch.arange(3.0)}}, file, _use_new_zipfile_serialization=False)
    assert read_tensors(file)["state_dict"]["a"].tolist() == [0, 1, 2]
    torch.save({"a": Path("/")}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(StateDictError, match=r"model\.th cannot be read as plain tensors: UnpicklingError"):
        read_tensors(file)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"not at all")
    with pytest.raises(StateDictError, match="not a safetensors file"):
        read_tensors(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("model", ["ct-voco", "mr-breast-mome"])
def test_the_registry_says_what_is_installed(tmp_path: Path, model: str) -> None:
    assert registry.card(model, tmp_path).availability is Availability.DEMONSTRATION
    install(tmp_path, model)
    card = registry.card(model, tmp_path)
    assert card.availability is Availability.READY
    assert card.identity.weights_name == "mine"
    assert [c.value for c in card.findings] == ["52988006"]


def test_the_registry_does_not_fall_back_from_broken_site_weights(tmp_path: Path) -> None:
    install(tmp_path, sha256="")
    card = registry.card("ct-voco", tmp_path)
    assert card.availability is Availability.NOT_INSTALLED
    assert "lacks sha256" in card.identity.intended_use


@pytest.mark.parametrize("model", ["ct-voco", "mr-breast-mome"])
def test_the_packaged_demonstration_weights_are_what_their_card_says(tmp_path: Path, model: str) -> None:
    packaged = {
        "ct-voco": registry.chest_ct.PACKAGED,
        "mr-breast-mome": registry.breast_mri.MOME_PACKAGED,
    }[model]
    found = find(model, tmp_path, packaged)
    assert found is not None
    verify(found)
    assert found.demonstration
    assert found.path.stat().st_size < 15e6
    assert "generated" in found.settings["training_data"]


def test_weights_that_are_being_added_do_not_hide_the_packaged_ones(tmp_path: Path) -> None:
    packaged = install(tmp_path / "package", demonstration=True)
    install(tmp_path / "site" / "ct-voco", place=".adding-x", under="1")
    found = find("ct-voco", tmp_path / "site", packaged)
    assert found is not None and found.demonstration


def test_a_folder_that_cannot_be_looked_into_takes_one_model_away_and_not_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    install(tmp_path)
    monkeypatch.setattr(Path, "iterdir", refused)
    found = registry.card("ct-voco", tmp_path)
    assert found.availability is Availability.NOT_INSTALLED
    assert "weights refused: [Errno 13] Permission denied" in found.identity.intended_use
