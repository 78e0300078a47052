"""State dictionaries: read from a file without running code, unwrapped, and put into a network without a second copy."""

import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

StateDict = Mapping[str, Tensor]
Network = TypeVar("Network", bound=nn.Module)
NAMED_AT_MOST = 12


class StateDictError(ValueError):
    """The weights do not belong to this network: the sentence names the keys that are unknown, missing or misshapen."""


def read_tensors(path: Path) -> dict[str, Any]:
    """What a weights file holds, memory-mapped: `.safetensors`, else a torch file read with weights_only=True.

    Files of torch before 1.6 are no zip archives and cannot be mapped, nor can those that somebody packed anew: they are read.

    Raises StateDictError for anything that is not plain tensors: a pickle that asks for code is refused, not run.
    """
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except SafetensorError as e:
            raise StateDictError(f"{path.name} is not a safetensors file: {e}") from e
    try:
        with warnings.catch_warnings(action="ignore"):  # of a pickle protocol that torch does not write
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_plain_zip(path))
    except Exception as e:  # torch raises many types here; each means that the file is not plain tensors
        raise StateDictError(f"{path.name} cannot be read as plain tensors: {type(e).__name__}{asked_for(e)}") from e
    if not isinstance(loaded, dict):
        raise StateDictError(f"{path.name} holds a {type(loaded).__name__}, not a state dictionary")
    return loaded


def is_plain_zip(path: Path) -> bool:
    """Whether nothing in it is compressed, as torch writes it: mapped, compressed bytes would be taken for numbers."""
    if not is_zipfile(path):
        return False
    try:
        with ZipFile(path) as archive:
            return all(entry.compress_type == ZIP_STORED for entry in archive.infolist())
    except BadZipFile:
        return False


def asked_for(error: Exception) -> str:
    """What a pickle would have had run or made that is no tensor, in words; else that torch did not write the file."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f", it asks for {found[1]}" if found else ", it is no file that torch wrote"


def unwrap(loaded: Mapping[str, Any], containers: Iterable[str], prefixes: Iterable[str]) -> dict[str, Tensor]:
    """The bare state dictionary inside a checkpoint: the first of `containers` it has, `prefixes` taken off the keys.

    A prefix is removed only where every key carries it or, once removed, no other key has that name.
    """
    inner: Any = loaded
    for container in containers:
        if isinstance(inner.get(container), Mapping):
            inner = inner[container]
            break
    state: dict[str, Tensor] = {}
    for key, value in inner.items():
        if not isinstance(key, str):
            raise StateDictError(f"a key of the checkpoint is no name: {key!r}")
        name = bare(key, tuple(prefixes))
        if name in state:
            raise StateDictError(f"two keys of the checkpoint mean {name!r}")
        state[name] = value
    return state


def bare(key: str, prefixes: tuple[str, ...]) -> str:
    """The key without any of the prefixes, however they are stacked."""
    while True:
        prefix = next((p for p in prefixes if key.startswith(p)), None)
        if prefix is None:
            return key
        key = key.removeprefix(prefix)


def shape_of(state: StateDict, key: str, axes: int) -> tuple[int, ...]:
    """The shape of one tensor of so many axes. Raises StateDictError when the key is missing, or leads to something else."""
    if key not in state:
        raise StateDictError(f"missing key {key}")
    if not isinstance(state[key], Tensor):
        raise StateDictError(f"no tensor under the key {key}")
    if state[key].ndim != axes:
        raise StateDictError(f"misshapen key {key} {tuple(state[key].shape)}: it has {axes} axes")
    return tuple(state[key].shape)


def assign(network: Network, state: StateDict) -> Network:
    """`network` (built on the meta device) with the tensors of `state` as its own: nothing is copied. In eval mode.

    Raises StateDictError that names unknown, missing and misshapen keys, and those of other numbers (complex, whole for broken).
    """
    wanted = network.state_dict()
    faults = [
        *named("missing", [k for k in wanted if k not in state]),
        *named("unknown", [k for k in state if k not in wanted]),
        *named("no tensor under", [k for k in wanted if not isinstance(state.get(k, wanted[k]), Tensor)]),
        *named(
            "misshapen",
            [f"{k} {tuple(state[k].shape)} for {tuple(wanted[k].shape)}"
             for k in wanted if isinstance(state.get(k), Tensor) and state[k].shape != wanted[k].shape],
        ),
        *named(
            "of another type:",
            [f"{k} {told_type(state[k])} for {told_type(wanted[k])}"
             for k in wanted if isinstance(state.get(k), Tensor) and kind_of(state[k]) != kind_of(wanted[k])],
        ),
    ]  # fmt: skip
    if faults:
        raise StateDictError("; ".join(faults))
    network.load_state_dict(dict(state), strict=True, assign=True)
    return network.eval()


def kind_of(tensor: Tensor) -> str:
    """Whole, broken or complex numbers: of one kind, a tensor of any precision can stand in for another."""
    return "complex" if tensor.is_complex() else "broken" if tensor.is_floating_point() else "whole"


def told_type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def named(fault: str, keys: list[str]) -> list[str]:
    """["missing keys: a, b, and 3 more"], or [] when there are none."""
    if not keys:
        return []
    more = f", and {len(keys) - NAMED_AT_MOST} more" if len(keys) > NAMED_AT_MOST else ""
    return [f"{fault} keys: {', '.join(keys[:NAMED_AT_MOST])}{more}"]


def parameter_count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
