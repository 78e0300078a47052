"""A bundle's own code at work: its transforms, network and inferer around the voxels that the node gives. Runs in isolation only.

    python -m radnode_inference.bundles.child REQUEST VOLUME MASK ANSWER

The four are descriptors of memory that the node made (`exchange`). Whatever happens here is believed by nobody: the node checks the answer.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from radnode_inference.bundles.answer import Answer, answered
from radnode_inference.bundles.card import CONFIGS, WEIGHTS
from radnode_inference.bundles.exchange import BITS, LABELS, MOST_BITS

LOADERS, CHANNEL_FIRST, SAVERS = ("LoadImage", "AddChannel"), ("EnsureChannelFirst",), ("SaveImage", "DataStats")
CHECKPOINT_LOADER = ("CheckpointLoader",)
REFERENCE, MOST_REFERENCES = re.compile(r"\$?\s*@([\w:#]+)\s*"), 8
"""A value that is another one's, as MONAI's configurations write it."""
CONTAINERS = ("state_dict", "model", "network", "net")
LOOKED_AT = 48
"""Places along each axis at which is asked whether a result covers the images."""
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
REVERSED = np.eye(4)[[2, 1, 0, 3]]
"""(slice, row, column) to MONAI's (column, row, slice)."""


def infer(bundle: Path, asked: Mapping[str, Any], voxels: NDArray[np.float32]) -> Answer:
    """The bundle's result on the grid of `voxels`. Raises ValueError for one that is no numbers, or lies beside the images."""
    torch.set_num_threads(asked["threads"])
    sys.path.insert(0, str(bundle))
    parser = configuration(bundle)
    network = loaded(parser, bundle)
    key, image = prepared(parser, voxels, np.asarray(asked["affine"]))
    with torch.inference_mode():
        out = parser.get_parsed_content("inferer")(inputs=image.as_tensor()[None], network=network)
    out = (out[0] if isinstance(out, (tuple, list)) else out)[0]
    pred = MetaTensor(numbers(torch.as_tensor(out).float()), meta=dict(image.meta))
    finished = "postprocessing" in parser
    if finished:
        pred = parser.get_parsed_content("postprocessing")({key: image, "pred": pred})["pred"]
    placed = on_source(numbers(pred), voxels.shape, np.asarray(asked["affine"]))
    encoding, mask = encoded(placed, classes=asked["classes"], softmax=asked["softmax"], finished=finished)
    return Answer(encoding=encoding, mask=mask, seen=seen(pred, voxels.shape, np.asarray(asked["affine"])))


def numbers(result: Tensor) -> Tensor:
    """The same. Raises ValueError where a value is none: the strongest class of such a place is the background by accident."""
    if not bool((result < torch.inf).all()):
        raise ValueError("its result has values that are no numbers")
    return result


def configuration(bundle: Path) -> ConfigParser:
    """The bundle's configuration without what reads and writes files: the node does that."""
    parser = ConfigParser()
    parser.read_meta(str(bundle / "configs" / "metadata.json"))
    parser.read_config(str(next(bundle / c for c in CONFIGS if (bundle / c).is_file())))
    for place, value in (("bundle_root", str(bundle)), ("device", "$torch.device('cpu')"), ("output_dir", "/tmp")):  # noqa: S108
        parser[place] = value
    if "postprocessing" in parser:
        drop(parser, "postprocessing", SAVERS)
    form = parser.get("network_def")
    if isinstance(form, Mapping) and str(form.get("_target_", "")).endswith("SwinUNETR"):
        parser["network_def"] = {k: v for k, v in form.items() if k != "img_size"}  # MONAI 1.6 takes it no more
    return parser


def drop(parser: ConfigParser, part: str, names: tuple[str, ...]) -> None:
    """Take the transforms of these names out of a Compose."""
    parser[f"{part}::transforms"] = [s for s in steps_of(parser, part) if not is_one_of(s, names)]


def steps_of(parser: ConfigParser, part: str) -> list[Any]:
    """The transforms of a Compose, as configured; from then on in their place where they stood elsewhere (`$@transforms`)."""
    steps, seen = parser.get(f"{part}::transforms"), 0
    while isinstance(steps, str) and (found := REFERENCE.fullmatch(steps)) and seen < MOST_REFERENCES:
        steps, seen = parser.get(found[1].replace("#", "::")), seen + 1
    if not isinstance(steps, list):
        raise TypeError(f"{part} is no list of transforms")
    parser[f"{part}::transforms"] = steps
    return steps


def is_one_of(step: Any, names: tuple[str, ...]) -> bool:
    """Whether a configured transform is one of MONAI's, in its plain or its dictionary form."""
    target = str(step.get("_target_", "")).rpartition(".")[2] if isinstance(step, Mapping) else ""
    return any(target in (n, f"{n}d", f"{n}D", f"{n}Dict") for n in names)


def loaded(parser: ConfigParser, bundle: Path) -> nn.Module:
    """The bundle's network with its weights, in eval mode."""
    network: nn.Module = parser.get_parsed_content("network_def")
    file = checkpoint(parser, bundle)
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        state: Any = load_file(file)
    else:
        state = torch.load(file, map_location="cpu", weights_only=True)
    state = next((state[c] for c in CONTAINERS if isinstance(state.get(c), Mapping)), state)
    network.load_state_dict(state)
    return network.eval()


def checkpoint(parser: ConfigParser, bundle: Path) -> Path:
    """The file that the bundle's own checkpoint loader reads, else the usual one: some bundles hold weights for several networks.

    Raises FileNotFoundError when it reads one that is not in the bundle.
    """
    handlers = parser.get("handlers")
    count = len(handlers) if isinstance(handlers, list) else 0
    for place in ("checkpointloader", *(f"handlers::{n}" for n in range(count))):
        loader = parser.get(place)
        if is_one_of(loader, CHECKPOINT_LOADER) and "load_path" in loader:
            named = bundle / str(parser.get_parsed_content(f"{place}::load_path"))
            if named.is_file():
                return named
            if named.name not in {Path(w).name for w in WEIGHTS}:
                raise FileNotFoundError(f"its checkpoint loader reads {named.name}, which is not in the bundle")
    return next(bundle / w for w in reversed(WEIGHTS) if (bundle / w).is_file())


def image_key(parser: ConfigParser) -> str:
    """What the bundle's own loading transform calls the image; it may be a reference (`@image_key`)."""
    loading = [n for n, s in enumerate(steps_of(parser, "preprocessing")) if is_one_of(s, LOADERS) and "keys" in s]
    keys = parser.get_parsed_content(f"preprocessing::transforms::{loading[0]}::keys") if loading else "image"
    return str(keys if isinstance(keys, str) else keys[0])


def prepared(parser: ConfigParser, voxels: NDArray[np.float32], affine: NDArray[np.float64]) -> tuple[str, MetaTensor]:
    """(the image's key, the network's input (channel, x, y, z)) by the bundle's own transforms."""
    key = image_key(parser)
    drop(parser, "preprocessing", LOADERS)
    bare = any(is_one_of(s, CHANNEL_FIRST) for s in steps_of(parser, "preprocessing"))
    array = torch.from_numpy(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    meta = {"filename_or_obj": "image", "original_channel_dim": float("nan") if bare else 0, "space": "RAS"}
    image = MetaTensor(array if bare else array[None], affine=torch.as_tensor(to_ras(affine)), meta=meta)
    made = parser.get_parsed_content("preprocessing")({key: image})[key]
    if not isinstance(made, MetaTensor) or made.ndim != 4:
        raise TypeError("preprocessing does not give one image of (channel, x, y, z)")
    return key, made


def to_ras(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """(slice, row, column) -> LPS as (column, row, slice) -> RAS, as MONAI has it."""
    return np.asarray(LPS_RAS @ affine[:, [2, 1, 0, 3]])


def on_source(pred: Tensor, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """(channels, slice, row, column) on the source grid, by the nearest neighbour from where the result says that it lies.

    Its shape says nothing: an image that was turned to another orientation has the same one.
    """
    values = np.asarray(pred.detach().cpu(), np.float32)
    if values.ndim != 4:
        raise ValueError(f"the result has the shape {values.shape}")
    if not isinstance(pred, MetaTensor):
        raise TypeError("the result does not say where it lies: a transform dropped its affine")
    index = np.linalg.inv(np.asarray(pred.affine, float)) @ LPS_RAS @ affine
    if values.shape[1:] == tuple(reversed(shape)) and np.allclose(index, REVERSED, atol=0.01):
        return values.transpose(0, 3, 2, 1)
    return np.stack([ndimage.affine_transform(c, index, output_shape=shape, order=0) for c in values])


def seen(pred: Tensor, shape: tuple[int, ...], affine: NDArray[np.float64]) -> float:
    """The part of the source voxels that lies within a result (or a place of its grid beside it), by a coarse look.

    Raises ValueError when that is none.
    """
    index = np.linalg.inv(np.asarray(getattr(pred, "affine", None), float)) @ LPS_RAS @ affine
    at = np.stack(np.meshgrid(*(np.linspace(0, n - 1, min(n, LOOKED_AT)) for n in shape), indexing="ij"), axis=-1)
    places = at @ index[:3, :3].T + index[:3, 3]
    share = float(((places >= -1) & (places <= np.array(pred.shape[1:]))).all(axis=-1).mean())
    if not share:
        raise ValueError("its result lies beside the images")
    return share


def encoded(
    pred: NDArray[np.float32], *, classes: int, softmax: bool, finished: bool
) -> tuple[str, NDArray[np.uint16]]:
    """One number per voxel. LABELS: 0 or the class plus one (a background channel never). BITS: one bit for each class.

    softmax: channel 0 is background. finished: the bundle made labels of its scores itself.
    """
    if len(pred) == 1 and (finished or classes > 1):
        labels = np.rint(pred[0]).clip(0, 65535).astype(np.uint16)
        return LABELS, labels + (labels > 0) if softmax else labels
    if len(pred) != classes:
        raise ValueError(f"the result has {len(pred)} channels, channel_def {classes}")
    if softmax and (not finished or classes > MOST_BITS):
        labels = pred.argmax(axis=0).astype(np.uint16)
        return LABELS, labels + (labels > 0)
    if classes > MOST_BITS:
        raise ValueError(f"{classes} overlapping classes; {MOST_BITS} at most")
    bits = np.zeros(pred.shape[1:], np.uint16)
    for channel, values in enumerate(pred):
        bits |= (values > (0.5 if finished else 0.0)).astype(np.uint16) << np.uint16(channel)
    return BITS, bits


if __name__ == "__main__":
    answered(infer, *map(int, sys.argv[1:5]))
