"""Class maps to the source grid: every class interpolated and the strongest taken, beside `class_map.on_grid`.

    python benchmarks/class_map.py [--slices 300] [--rows 512] [--classes 14]

MONAI's own way (SpatialResample of the probabilities, then the strongest) is measured in the same run.

Smooth random organs on a grid of 1.5 mm, source slices of 1 mm with pixels of 0.7 mm. Prints seconds, peak memory added, and
the share of voxels that differ.
"""

import argparse
import resource
import time

import numpy as np
import torch
from torch import Tensor

from radnode_inference.class_map import Strongest, on_grid, pack
from radnode_inference.preprocess import Box, ras_box, sample


def organs(classes: int, box: Box) -> Tensor:
    """Probabilities as a network gives them: sure inside, unsure within some voxels of a border; mostly background."""
    draw = torch.Generator().manual_seed(1)
    coarse = torch.randn((1, classes, 6, 6, 6), generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, size=box.size, mode="trilinear")[0]
    smooth[0] += 2.0
    return smooth.mul_(12).softmax(dim=0)


def every_class(probabilities: Tensor, box: Box, shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """The strongest class of all, each interpolated over the whole volume."""
    grid = Box(size=shape, affine=affine)
    best = torch.full(shape, -1.0)
    label = torch.zeros(shape, dtype=torch.uint8)
    for n, one in enumerate(probabilities):
        value = sample(one, box.affine, grid, outside=1.0 if n == 0 else 0.0)
        stronger = value > best
        label[stronger], best[stronger] = n, value[stronger]
    return label.numpy()


def monai_way(probabilities: Tensor, box: Box, shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """As a bundle's `Invertd` does it before its argmax: every class brought to the source grid at once."""
    from monai.data import MetaTensor
    from monai.transforms import SpatialResample

    image = MetaTensor(probabilities, affine=torch.as_tensor(box.affine))
    resample = SpatialResample(mode="bilinear", padding_mode="border")
    there = resample(image, dst_affine=torch.as_tensor(affine), spatial_size=shape)
    return there.argmax(dim=0).to(torch.uint8).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--classes", type=int, default=14)
    asked = parser.parse_args()
    shape = (asked.slices, asked.rows, asked.rows)
    affine = np.array([[0, 0, 0.7, -180], [0, 0.7, 0, -180], [1.0, 0, 0, 0], [0, 0, 0, 1]])
    box = ras_box(shape, affine, (1.5, 1.5, 1.5))
    probabilities = organs(asked.classes, box)
    began, processor = time.perf_counter(), time.process_time()
    packed = pack(probabilities)
    found = on_grid(Strongest.of(packed, asked.classes, box), shape, affine)
    print(f"on_grid      {time.perf_counter() - began:6.2f} s, {time.process_time() - processor:6.2f} s of processor")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, processor = time.perf_counter(), time.process_time()
    wanted = every_class(probabilities, box, shape, affine)
    print(f"every class  {time.perf_counter() - began:6.2f} s, {time.process_time() - processor:6.2f} s of processor")
    began, processor = time.perf_counter(), time.process_time()
    theirs = monai_way(probabilities, box, shape, affine)
    print(f"MONAI        {time.perf_counter() - began:6.2f} s, {time.process_time() - processor:6.2f} s of processor")
    print(f"             {(theirs != wanted).mean():.2e} of its voxels differ from every class (it knows no outside)")
    print(f"differ       {(found != wanted).mean():.2e} of {found.size} voxels; {np.unique(found).size} classes seen")
    print(f"memory       {before / 1024:.0f} MiB at the highest until after on_grid")


if __name__ == "__main__":
    main()
