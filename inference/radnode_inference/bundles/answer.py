"""What an isolated process does around its model: read the request, write labels and answer, say why where it fails."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radnode_inference.bundles.exchange import BUNDLE, mapped, put

Infer = Callable[[Path, Mapping[str, Any], NDArray[np.float32]], tuple[str, NDArray[np.uint16]]]


def answered(infer: Infer, request: int, volume: int, mask: int, answer: int) -> None:
    """Run `infer` on what the four descriptors hold (see `exchange`)."""
    asked = json.loads(mapped(request).tobytes())
    voxels = mapped(volume).view(np.float32).reshape(asked["shape"])
    masks = mapped(mask, writable=True).view(np.uint16).reshape(asked["shape"])
    try:
        encoding, found = infer(Path(BUNDLE), asked, voxels)
        masks[:] = found
        put(answer, {"encoding": encoding})
    except Exception as e:
        put(answer, {"failed": told(e)[:1000]})


def told(error: BaseException) -> str:
    """The first reason in a chain of errors: MONAI wraps each in another that says which transform it was."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"
