"""The guards' part of a demonstration card: what the network's inputs look like, learned from generated studies.

`python -m radnode_inference.training.guards breast|chest --card demo.json` adds it to a card that has just been made.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from radnode_inference.guards_familiar import FEWEST, Image, Reference

IMAGES: Mapping[str, Mapping[str, str]] = {"chest": {"ct": "image"}, "breast": {"dce": "dce", "dwi": "dwi", "t2": "t2"}}
"""Of each family, the inputs as its model names them: attribute of a training case."""
GATES: Mapping[str, Mapping[str, Any]] = {
    "chest": {"modality": "CT", "region": ["CHEST", "THORAX", "LUNG"], "slice_mm": [0.5, 5.0], "coverage_mm": 150.0},
    "breast": {"modality": "MR", "region": ["BREAST", "MAMMA"], "slice_mm": [0.5, 6.0], "coverage_mm": 80.0},
}
FITTED = 60


def images_of(family: str, seeds: Iterable[int], folder: Path) -> dict[str, list[Image]]:
    """The network's inputs of generated studies, by name. folder: where prepared phantoms are kept."""
    training = import_module(f"radnode_inference.training.{family}")
    found: dict[str, list[Image]] = {name: [] for name in IMAGES[family]}
    for seed in seeds:
        case = training.stored(seed, folder)
        for name, attribute in IMAGES[family].items():
            found[name].append(np.asarray(getattr(case, attribute)))
    return found


def section(images: Mapping[str, list[Image]], reference: str) -> dict[str, Any]:
    """A card's `out_of_distribution`. reference: in words, which studies these are."""
    return {"reference": reference, "images": {name: Reference.of(i).card() for name, i in images.items()}}


def guarded(card: dict[str, Any], family: str, folder: Path) -> dict[str, Any]:
    """The card with gates, reference and calibration; a `temperature` in it becomes part of the calibration.

    A training on fewer than ten studies (a trial) makes no reference, and every result will say that there is none.
    """
    training = import_module(f"radnode_inference.training.{family}")
    seeds = training.TRAINING[:FITTED]
    words = f"{len(seeds)} generated studies, seeds {seeds[0]} to {seeds[-1]}"
    made = card | {"gates": dict(GATES[family])}
    if len(seeds) >= FEWEST:
        made["out_of_distribution"] = section(images_of(family, seeds, folder), words)
    tuning = training.TUNING
    on = f"{len(tuning)} generated studies, seeds {tuning[0]} to {tuning[-1]}"
    if "temperature" in made:
        made["calibration"] = {"temperature": made.pop("temperature"), "reference": on}
    elif "calibration" not in made and any("calibration" in c for c in made["classes"]):
        made["calibration"] = {"temperature": 1.0, "reference": f"{on} (slope and offset for each class)"}
    return made


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m radnode_inference.training.guards", description=__doc__)
    parser.add_argument("family", choices=sorted(IMAGES))
    parser.add_argument("--card", type=Path, required=True, help="the card, which is written anew")
    parser.add_argument("--phantoms", type=Path, help="folder that keeps the prepared phantoms (default: thrown away)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.phantoms or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        card = guarded(json.loads(given.card.read_text(encoding="utf-8")), given.family, folder)
    given.card.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
