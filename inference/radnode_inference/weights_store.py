"""The site's weights are put in. A file is stored only after its network has accepted it.

What is stored is never changed: safetensors and the card in a read-only folder, named by the version.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from radnode_inference import card_schema, registry
from radnode_inference.model import ModelCard
from radnode_inference.state_dict import StateDictError, named, read_tensors
from radnode_inference.weights import WeightsError, WeightsFile, digest, read_card, read_settings
from radnode_inference.weights_tasks import NETWORKS, model_of, network_of, task_of

CONTAINERS = ("state_dict", "network_weights", "net", "student", "model")
"""Where checkpoints keep the state dictionary (PyTorch's habit, nnU-Net, VoCo's self-training, BEiT-3)."""
FILE = "weights.safetensors"
READ_ONLY_FILE, READ_ONLY_FOLDER = 0o444, 0o555


def add(files: Sequence[Path], model: str, card: Path, site: Path, *, sha256: str = "") -> WeightsFile:
    """Check, convert and store the weights in `files` for `model`, described by `card`; what was stored.

    model: the network, or the task of it that the card names. files: one, or the folds of an ensemble; they are mapped, not
    read into memory. sha256: what the first must have; "": as the card says, if it does.
    Raises WeightsError or StateDictError that says why nothing was stored, KeyError for an unknown model.
    """
    there = {c.identity.name: c for c in registry.cards(site)}
    registered = there.get(model) or registry.card(network_of(model), site)
    if not registered.takes_weights:
        raise WeightsError(f"{model} takes no weights")
    given = {"model": model} | read_settings(card)
    checked = card_schema.check(given, card.name)
    model = meant(model, checked, card.name)
    if model in there and not there[model].takes_weights:
        raise WeightsError(f"there is a model {model} already, which takes no weights: give the task another name")
    given |= {"model": model} | ({"task": task_of(model)} if task_of(model) else {})
    into = site / model / checked.version
    if into.exists():
        raise WeightsError(f"the version {checked.version} of {model} is there already; a stored version never changes")
    wanted = [(sha256 or checked.sha256).lower(), *(str(f["sha256"]).lower() for f in given.get("folds", ()))]
    if len(wanted) > len(files):
        raise WeightsError(f"{card.name} describes {len(wanted)} files, and {len(files)} were given")
    sources = [(f, pinned(f, w)) for f, w in zip(files, [*wanted, *[""] * len(files)], strict=False)]
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=into.parent) as folder:
        making = Path(folder) / checked.version
        convert(sources, given, making)
        accepted(registered, making)
        keep(making, into)
    return read_card(model, into / "card.json")


def meant(model: str, card: card_schema.Card, where: str) -> str:
    """The model that a card given for `model` is for: a task of the network where it names one. Raises WeightsError."""
    network = network_of(model)
    own = model if network not in NETWORKS else model_of(network, card.task or task_of(card.model))
    if network_of(own) != network:
        raise WeightsError(f"{where}: the task {card.task!r} is no name of small letters, digits and '-', at most 32")
    if card.model not in (network, own):
        raise WeightsError(f"{where} is for the model {card.model}, not {model if own == network else own}")
    if model not in (network, own):
        raise WeightsError(f"{where} is for the model {own}, not {model}: its task makes the name")
    return own


def pinned(file: Path, wanted: str) -> str:
    """The SHA-256 of a file. Raises WeightsError when it is not the wanted one, or there is no file."""
    if not file.is_file():
        raise WeightsError(f"there is no file {file}")
    found = digest(file)
    if wanted and found != wanted:
        raise WeightsError(f"{file.name} has SHA-256 {found}, not {wanted}: not stored")
    return found


def convert(sources: Sequence[tuple[Path, str]], given: Mapping[str, Any], into: Path) -> None:
    """The folder `into` with the tensors of each file as safetensors and the card that describes them."""
    into.mkdir()
    made = []
    for number, (file, sha256) in enumerate(sources, 1):
        name = FILE if number == 1 else f"fold-{number}.safetensors"
        try:
            save_file(tensors(file), into / name)
        except SafetensorError as e:  # a full disk, too
            raise WeightsError(f"{file.name} cannot be stored: {e}") from e
        source = {"file": file.name, "sha256": sha256}
        made.append({"file": name, "sha256": digest(into / name), "source": source})
    described = {**given, **made[0]} | ({"folds": made[1:]} if made[1:] else {})
    (into / "card.json").write_text(json.dumps(described, indent=2, ensure_ascii=False, default=str), encoding="utf-8")


def tensors(file: Path) -> dict[str, Tensor]:
    """The state dictionary in a checkpoint, its keys as they are.

    Raises StateDictError that names what is no tensor of plain numbers, or has numbers that are none.
    """
    inner: Any = read_tensors(file)
    for container in CONTAINERS:
        if isinstance(inner.get(container), Mapping):
            inner = inner[container]
            break
    found = {str(k): v for k, v in inner.items() if isinstance(v, Tensor)}
    faults = [
        *named("not tensors:", [str(k) for k, v in inner.items() if not isinstance(v, Tensor)]),
        *named("no plain numbers under", [k for k, v in found.items() if not plain(v)]),
        *named("not finite:", [k for k, v in found.items() if plain(v) and not finite(v)]),
    ]
    if faults or not inner:
        raise StateDictError(f"{file.name}: {'; '.join(faults) or 'no tensors'}")
    return unshared({k: v.contiguous() for k, v in found.items()})


def unshared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, each with memory of its own: safetensors writes no tied ones (MOME's `.A`, `.B`, `.C` may be one tensor)."""
    seen: set[int] = set()
    found = {}
    for key, tensor in state.items():
        place = tensor.untyped_storage().data_ptr()
        found[key] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return found


def plain(tensor: Tensor) -> bool:
    """Whether every number of it is in the file: not sparse, quantized or complex, not left out, and not one number that is told to be millions."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def finite(tensor: Tensor) -> bool:
    """Without a copy: a number that is none is among the extremes."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return bool(torch.isfinite(torch.stack(tensor.aminmax())).all())


def accepted(model: ModelCard, folder: Path) -> None:
    """Load the model with these weights as a worker would. Raises what it raises: the network has the last word."""
    registry.load(replace(model, weights=folder), "cpu", folder)


def keep(making: Path, into: Path) -> None:
    """Durable, read-only, and only then under its name."""
    for path in making.iterdir():
        path.chmod(READ_ONLY_FILE)
        flush(path)
    flush(making)
    making.rename(into)
    into.chmod(READ_ONLY_FOLDER)
    flush(into.parent)


def flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
