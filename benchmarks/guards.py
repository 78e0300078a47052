"""How well the out-of-distribution check of the demonstration cards tells strange inputs from good ones.

`python benchmarks/guards.py chest|breast [--studies 20]`: generated studies of seeds that neither the weights nor the
reference saw, and the same studies spoiled. AUROC of the score, and how many were declined at its limit.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from radnode_inference.guards import Guards
from radnode_inference.guards_familiar import Image
from radnode_inference.training.guards import IMAGES, images_of
from radnode_inference.training.metrics import auroc

CARDS = {"chest": "chest_ct", "breast": "breast_mri"}
FIRST_SEED = 8100
BLOCK = 8


def shuffled(image: Image) -> Image:
    return np.random.default_rng(1).permutation(image.ravel()).reshape(image.shape)


def blocks_shuffled(image: Image) -> Image:
    """Cubes of eight voxels put elsewhere."""
    out, count = image.copy(), [n // BLOCK for n in image.shape[-3:]]
    places = [(..., *(slice(i * BLOCK, (i + 1) * BLOCK) for i in at)) for at in np.ndindex(*count)]
    for here, there in zip(places, np.random.default_rng(2).permutation(len(places)), strict=True):
        out[here] = image[places[there]]
    return out


SPOILED: Mapping[str, Callable[[Image], Image]] = {
    "voxels shuffled": shuffled,
    "blocks of 8 shuffled": blocks_shuffled,
    "inverted": lambda i: i.max() + i.min() - i,
    "noise of the same mean and spread": lambda i: np.random.default_rng(3).normal(i.mean(), i.std(), i.shape),
    "twice as bright": lambda i: 2 * i,
    "lowest third only": lambda i: i[..., : i.shape[-1] // 3],
    "front to back": lambda i: i[..., ::-1, :],
    "two axes swapped": lambda i: i.swapaxes(-1, -2),
    "upside down": lambda i: i[..., ::-1],
    "left and right swapped": lambda i: i[..., ::-1, :, :],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", choices=sorted(CARDS))
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--phantoms", type=Path, help="folder that keeps the prepared phantoms")
    given = parser.parse_args()
    package = Path(__file__).resolve().parent.parent / "inference/radnode_inference/models"
    card = json.loads((package / CARDS[given.family] / "demo.json").read_text(encoding="utf-8"))
    references = Guards.from_card(card).references
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.phantoms or Path(temporary)
        seeds = range(FIRST_SEED, FIRST_SEED + given.studies)
        good = images_of(given.family, seeds, folder)
        other = images_of(next(f for f in IMAGES if f != given.family), seeds[:6], folder)
    for name, images in good.items():
        own = [references[name].score(i) for i in images]
        print(
            f"{name}: {len(own)} good inputs, score {min(own):.2f} to {max(own):.2f}, {np.mean(np.array(own) > 1):.0%} declined"
        )
        strange = {title: [change(i) for i in images] for title, change in SPOILED.items()}
        strange["the other organ"] = [shaped(i, images[0]) for group in other.values() for i in group]
        for title, spoiled in strange.items():
            found = np.array([references[name].score(i) for i in spoiled])
            truth = np.r_[np.zeros(len(own)), np.ones(len(found))]
            print(f"  {title:34s} AUROC {auroc(truth, np.r_[own, found]):.3f}  declined {np.mean(found > 1):.0%}")


def shaped(image: Image, like: Image) -> Image:
    """An image of another model with as many channels as this one wants."""
    one = image.mean(axis=0) if image.ndim == 4 else image
    return one if like.ndim == 3 else np.repeat(one[None], len(like), axis=0)


if __name__ == "__main__":
    main()
