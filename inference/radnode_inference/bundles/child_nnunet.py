"""A trained nnU-Net v2 folder at work, by nnU-Net's own predictor. Runs in isolation only: its checkpoints are pickles.

    python -m radnode_inference.bundles.child_nnunet REQUEST VOLUME MASK ANSWER

As `child`: nobody believes what comes from here.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from radnode_inference.bundles.answer import Answer, answered
from radnode_inference.bundles.exchange import LABELS
from radnode_inference.bundles.nnunet import folds, turn


def infer(bundle: Path, asked: Mapping[str, Any], voxels: NDArray[np.float32]) -> Answer:
    """The labels on the grid of `voxels`; the mean of all folds. Raises ValueError for weights that are no numbers."""
    threads = asked["threads"]
    torch.set_num_threads(threads)
    os.environ |= {
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": str(threads),
    }  # else it asks a shell which machine this is
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    found = folds(bundle)
    predictor.initialize_from_trained_model_folder(str(bundle), tuple(found), next(iter(found.values())))
    check_numbers(predictor.list_of_parameters)
    if predictor.configuration_manager.previous_stage_name is not None:
        raise ValueError("it is the second stage of a cascade, which needs the first one's result")
    order, signs, spacing = turn(np.asarray(asked["affine"]), asked["orientation"])
    image = np.array(voxels.transpose(order)[signs], order="C")  # a copy: nnU-Net normalises in place
    labels = np.asarray(predictor.predict_single_npy_array(image[None], {"spacing": spacing}))
    return Answer(encoding=LABELS, mask=labels[signs].transpose(np.argsort(order)).astype(np.uint16) + 1)


def check_numbers(folds_weights: Iterable[Mapping[str, torch.Tensor]]) -> None:
    """Raises ValueError where a weight is none: every label would be the background."""
    for number, weights in enumerate(folds_weights):
        if odd := next((k for k, v in weights.items() if not torch.isfinite(v).all()), None):
            raise ValueError(f"the weights of its network {number + 1} have values that are no numbers ({odd})")


if __name__ == "__main__":
    answered(infer, *map(int, sys.argv[1:5]))
