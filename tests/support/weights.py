"""Random weights of the smallest VoCo network with their card, as a site would bring them."""

import json
from pathlib import Path
from typing import Any

import torch

LUNG = {"value": "39607008", "scheme": "SCT", "meaning": "Lung"}
CARD: dict[str, Any] = {
    "name": "mine", "version": "1", "intended_use": "a test", "training_data": "none: random", "licence": "Apache-2.0",
    "input": {"spacing_mm": [6, 6, 6], "window_hu": [-1000, 400], "body_hu": -500, "roi": [64, 32, 32], "overlap": 0.0},
    "classes": [{"name": "background", "kind": "background"}, {"name": "lungs", "kind": "anatomy", "concept": LUNG}],
}  # fmt: skip


def bring(folder: Path, *, seed: int = 3, **changed: Any) -> tuple[Path, Path]:
    """A checkpoint of two classes and its card in `folder`; every class fires somewhere."""
    from monai.networks.nets import SwinUNETR

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    state = SwinUNETR(1, 2, feature_size=12, use_v2=True, window_size=4).state_dict()
    state["out.conv.conv.bias"] = torch.zeros(2)
    file, card = folder / f"finetuned-{seed}.pt", folder / f"card-{seed}.json"
    torch.save({"state_dict": state}, file)
    card.write_text(json.dumps(CARD | changed))
    return file, card
