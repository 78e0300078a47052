"""Networks on the CPU by OpenVINO: converted from torch once, read from the file afterwards.

OpenVINO's own converter reports its use to its makers over the network, so the frontend below it is called directly.
"""

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

NAME = "network.xml"
HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenvinoError(RuntimeError):
    """OpenVINO is not installed, or cannot compute this network; the sentence says which."""


def installed() -> bool:
    return find_spec("openvino") is not None


def convert(network: nn.Module, window: Tensor, folder: Path) -> str:
    """Write the network, for one window (1, channels, *roi) at a time, into `folder`; returns the SHA-256 of what was written.

    Raises OpenvinoError.
    """
    if not installed():
        raise OpenvinoError("the package openvino is not installed (pip install radnode[openvino])")
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    try:
        with warnings.catch_warnings(), torch.no_grad(), attention_whole(network):
            warnings.simplefilter("ignore")
            logging.getLogger().addFilter(quiet)
            decoder = TorchFXPythonDecoder.from_exported_program(norms_whole(torch.export.export(network, (window,))))
            frontend = FrontEndManager().load_by_framework("pytorch")
            model = frontend.convert(frontend.load(decoder))
            model.reshape(list(window.shape))
    except (
        Exception
    ) as e:  # torch.export and OpenVINO raise many types; each means that this network cannot be converted
        raise OpenvinoError(
            f"the network cannot be converted: {type(e).__name__}: {str(e).splitlines()[0][:200]}"
        ) from e
    finally:
        logging.getLogger().removeFilter(quiet)
    folder.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, folder / NAME, compress_to_fp16=False)
    return digest(folder)


@contextmanager
def attention_whole(network: nn.Module) -> Iterator[None]:
    """MONAI's attention as one operation while it is converted, which OpenVINO computes at once; afterwards as before."""
    parts = [module for module in network.modules() if getattr(module, "use_flash_attention", None) is False]
    for part in parts:
        vars(part)["use_flash_attention"] = True
    try:
        yield
    finally:
        for part in parts:
            vars(part)["use_flash_attention"] = False


def norms_whole(exported: ExportedProgram) -> ExportedProgram:
    """The program with each instance norm as a layer norm over the places, which is the same without weights.

    OpenVINO's frontend takes an instance norm apart into means, in bfloat16 each rounded; a layer norm it computes in one go, in single
    precision inside.
    """
    aten = torch.ops.aten
    for node in exported.graph.nodes:
        if node.op == "call_function" and node.target is aten.instance_norm.default:
            x, weight, bias, _, _, of_its_input, _, eps, *_ = node.args
            if weight is None and bias is None and of_its_input:
                node.target = aten.layer_norm.default
                node.args = (x, list(x.meta["val"].shape[2:]), None, None, eps)
    return exported


def quiet(record: logging.LogRecord) -> bool:
    """The decoder logs a traceback for each operation that this torch does not have; none of them is a fault."""
    return "not found in decomp table" not in str(record.msg)


def digest(folder: Path) -> str:
    """SHA-256 over both files of the converted network. Raises OpenvinoError when one is missing."""
    h = hashlib.sha256()
    try:
        for file in (folder / NAME, (folder / NAME).with_suffix(".bin")):
            with file.open("rb") as f:
                h.update(hashlib.file_digest(f, "sha256").digest())
    except OSError as e:
        raise OpenvinoError(f"the converted network cannot be read: {e}") from e
    return h.hexdigest()


def opened(folder: Path, precision: str, threads: int) -> Callable[[Tensor], Tensor]:
    """The converted network as a function (windows, channels, *roi) -> (windows, classes, *roi). precision: "fp32", "bf16"."""
    if not installed():
        raise OpenvinoError("the package openvino is not installed")
    import openvino

    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(str(folder / NAME), "CPU", settings)

    def predict(windows: Tensor) -> Tensor:
        return torch.cat([torch.from_numpy(compiled(w[None].contiguous().numpy())[0].copy()) for w in windows])

    return predict
