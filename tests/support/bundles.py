"""MONAI bundles and nnU-Net folders made by tests: ones that do their work, and the same with something added that they must not do."""

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


NNUNET_NETWORK: dict[str, Any] = {
    "n_stages": 2, "features_per_stage": [4, 8], "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3], [3, 3, 3]], "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1],
    "n_conv_per_stage_decoder": [1], "conv_bias": True, "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
}  # fmt: skip
RESAMPLED = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
NNUNET_PLANS: dict[str, Any] = {
    "dataset_name": "Dataset900_Organs", "plans_name": "nnUNetPlans", "image_reader_writer": "NibabelIOWithReorient",
    "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 0.0, "std": 300.0, "percentile_00_5": -1000.0, "percentile_99_5": 1000.0}
    },
    "configurations": {
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
            "patch_size": [32, 32, 32], "spacing": [6.0, 6.0, 6.0], "batch_dice": False,
            "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False],
            "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_data_kwargs": RESAMPLED,
            "resampling_fn_seg": "resample_data_or_seg_to_shape",
            "resampling_fn_seg_kwargs": RESAMPLED | {"is_seg": True},
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": RESAMPLED,
            "architecture": {
                "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                "arch_kwargs": NNUNET_NETWORK, "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        }
    },
}  # fmt: skip
NNUNET_DATASET: dict[str, Any] = {
    "channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "lung_left": 2}, "numTraining": 1,
    "file_ending": ".nii.gz",
}  # fmt: skip


def nnunet_folder(
    folder: Path, *, plans: Mapping[str, Any] | None = None, dataset: Mapping[str, Any] | None = None,
    weights: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """A trained nnU-Net folder of the form that nnU-Net 2 writes; the keys given replace the good ones. weights: of its network."""
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(NNUNET_PLANS | dict(plans or {})))
    (folder / "dataset.json").write_text(json.dumps(NNUNET_DATASET | dict(dataset or {})))
    checkpoint = {
        "trainer_name": "nnUNetTrainer", "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 1, 2), "network_weights": dict(weights or {}),
    }  # fmt: skip
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    return folder
