"""MONAI bundles made by tests: one that does its work, and the same with something added that it must not do."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

THRESHOLD_HU = -300.0
METADATA: dict[str, Any] = {
    "version": "0.3.1",
    "monai_version": "1.6.1",
    "pytorch_version": "2.13.0",
    "numpy_version": "2.4.6",
    "task": "Tissue on CT",
    "description": "Everything denser than lung",
    "authors": "A test",
    "copyright": "none",
    "network_data_format": {
        "inputs": {"image": {"type": "image", "format": "hounsfield", "modality": "CT", "num_channels": 1}},
        "outputs": {
            "pred": {
                "type": "image", "format": "segmentation", "num_channels": 2,
                "channel_def": {"0": "background", "1": "Widget"},
            }
        },
    },
}  # fmt: skip
INFERENCE: dict[str, Any] = {
    "imports": ["$import glob"],
    "bundle_root": ".",
    "output_dir": "$@bundle_root + '/eval'",
    "dataset_dir": "/data",
    "datalist": "$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1},
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [3.0, 3.0, 3.0], "mode": "bilinear"},
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": -1000,
                "a_max": 400,
                "b_min": 0,
                "b_max": 1,
                "clip": True,
            },
        ],
    },
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [48, 48, 48], "sw_batch_size": 2, "overlap": 0.25},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
        ],
    },
}


def bundle(
    folder: Path, *, metadata: Mapping[str, Any] | None = None, inference: Mapping[str, Any] | None = None,
    scripts: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """A bundle in `folder` whose network sees what is denser than THRESHOLD_HU; the keys given replace the good ones."""
    for name, content in (
        ("metadata", METADATA | dict(metadata or {})),
        ("inference", INFERENCE | dict(inference or {})),
    ):
        (folder / "configs").mkdir(parents=True, exist_ok=True)
        (folder / "configs" / f"{name}.json").write_text(json.dumps(content))
    for name, text in (scripts or {}).items():
        (folder / "scripts").mkdir(exist_ok=True)
        (folder / "scripts" / name).write_text(text)
    level = (THRESHOLD_HU + 1000) / 1400
    weight = torch.tensor([0.0, 40.0]).reshape(2, 1, 1, 1, 1)
    (folder / "models").mkdir(exist_ok=True)
    torch.save({"weight": weight, "bias": torch.tensor([0.0, -40.0 * level])}, folder / "models" / "model.pt")
    return folder


def evil(folder: Path, body: str, **changes: Any) -> Path:
    """A bundle whose own code runs `body` (a function body that returns what it got hold of, or raises) before its network works.

    What it brought away stands in the answer: a failed run names it, so a test can see that there was nothing.
    """
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    script = f"def steal():\n{lines}\n\ndef loot():\n    raise RuntimeError('LOOT ' + repr(steal()))\n"
    inference = {"inferer": "$__import__('scripts.evil', fromlist=['loot']).loot()", **changes}
    return bundle(folder, inference=inference, scripts={"__init__.py": "", "evil.py": script})


def segresnet(folder: Path) -> Path:
    """A bundle with a small SegResNet of random weights: nobody knows what it sees, but it sees something."""
    from monai.networks.nets import SegResNet

    torch.manual_seed(3)
    form = {
        "spatial_dims": 3,
        "init_filters": 8,
        "in_channels": 1,
        "out_channels": 3,
        "blocks_down": [1, 1],
        "blocks_up": [1],
    }
    classes = {"0": "background", "1": "Liver", "2": "Liver tumor"}
    data = json.loads(json.dumps(METADATA["network_data_format"]))
    data["outputs"]["pred"]["channel_def"] = classes
    bundle(folder, metadata={"network_data_format": data}, inference={"network_def": {"_target_": "SegResNet", **form}})
    torch.save({"state_dict": SegResNet(**form).state_dict()}, folder / "models" / "model.pt")
    return folder
