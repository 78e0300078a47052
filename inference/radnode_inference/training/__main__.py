"""`python -m radnode_inference.training breast|chest`: makes the demonstration weights and their card anew.

Everything is drawn from fixed seeds, so the same torch on the same processor gives the same weights. The breast network takes
about twenty minutes of one core with its phantoms, the chest network about twenty-five; `--phantoms` keeps those for the next time.
"""

import argparse
import logging
import tempfile
from importlib import import_module
from pathlib import Path

import torch

LOG = logging.getLogger("radnode_inference.training")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m radnode_inference.training", description=__doc__)
    parser.add_argument("model", choices=("breast", "chest"))
    parser.add_argument("--out", type=Path, required=True, help="folder for demo.safetensors and demo.json")
    parser.add_argument("--phantoms", type=Path, help="folder that keeps the prepared phantoms (default: thrown away)")
    parser.add_argument("--steps", type=int, help="optimiser steps (default: as the card says)")
    parser.add_argument(
        "--measure", action="store_true", help="only measure the weights in --out and write their card anew"
    )
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    module = import_module(f"radnode_inference.training.{given.model}")
    with tempfile.TemporaryDirectory() as temporary:
        phantoms = given.phantoms or Path(temporary)
        phantoms.mkdir(parents=True, exist_ok=True)
        steps = given.steps or module.STEPS
        if given.measure:
            module.measure(given.out, phantoms, LOG.info, steps)
        else:
            module.make(given.out, phantoms, steps, LOG.info)


if __name__ == "__main__":
    main()
