"""Time, memory and completeness error of MOME's saliency map at published size, with few gradients.

    OMP_NUM_THREADS=1 python benchmarks/saliency.py [STEPS ...]

Processor seconds of one examination on the CPU. The weights are random: the time is that of trained ones, the error is
not (its order of magnitude is that of a network of this depth).
"""

import resource
import sys
import time
from pathlib import Path

import torch

from radnode_inference.models.breast_mri import mome, mome_saliency
from radnode_inference.models.breast_mri.mome_ensemble import Ensemble

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support import state_dicts

SIZES = {"dce": (1, 6, 384, 256, 128), "dwi": (1, 1, 256, 128, 32), "t2": (1, 1, 384, 256, 48)}


def main(steps: list[int]) -> None:
    torch.manual_seed(1)
    network = mome.Mome(mome.shape_from(state_dicts.published("mome"))).eval().requires_grad_(requires_grad=False)
    for values in network.parameters():
        if not values.abs().max() > 0:  # positions, which training fills
            torch.nn.init.normal_(values, std=0.02)
    ensemble = Ensemble(networks=(network,), device=torch.device("cpu"), temperature=1.0)
    volumes = {name: torch.rand(size) for name, size in SIZES.items()}
    for count in steps:
        began = time.process_time()
        found = mome_saliency.attribution(ensemble, volumes, mome_saliency.log_odds(1), count)
        seconds = time.process_time() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{count} gradients: {seconds:.0f} s, completeness error {100 * found.error:.1f} %, peak {peak:.1f} GiB")


main([int(a) for a in sys.argv[1:]] or [1])
