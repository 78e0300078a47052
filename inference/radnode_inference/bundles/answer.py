"""What an isolated process does around its model: read the request, write labels and answer, say why where it fails."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radnode_inference.bundles.exchange import BUNDLE, mapped, put


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """encoding: see `exchange`. mask: [slice, row, column]. seen: the part of the images' voxels that the result says something of."""

    encoding: str
    mask: NDArray[np.uint16]
    seen: float = 1.0


Infer = Callable[[Path, Mapping[str, Any], NDArray[np.float32]], Answer]


def answered(infer: Infer, request: int, volume: int, mask: int, answer: int) -> None:
    """Run `infer` on what the four descriptors hold (see `exchange`)."""
    asked = json.loads(mapped(request).tobytes())
    voxels = mapped(volume).view(np.float32).reshape(asked["shape"])
    masks = mapped(mask, writable=True).view(np.uint16).reshape(asked["shape"])
    try:
        found = infer(Path(BUNDLE), asked, voxels)
        masks[:] = found.mask
        put(answer, {"encoding": found.encoding, "seen": f"{found.seen:.4f}"})
    except Exception as e:
        put(answer, {"failed": told(e)[:1000]})


def told(error: BaseException) -> str:
    """The first reason in a chain of errors: MONAI wraps each in another that says which transform it was."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"
