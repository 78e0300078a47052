"""What the node asks of an isolated bundle: numbers about the grid, and nothing of the patient. No torch."""

import json

from radnode_inference.bundles.card import Described
from radnode_inference.volume import Volume


def request(described: Described, volume: Volume, threads: int) -> bytes:
    """JSON: shape [slice, row, column], affine (LPS mm), classes, softmax, orientation, threads."""
    return json.dumps(
        {
            "shape": volume.shape,
            "affine": volume.affine.tolist(),
            "classes": len(described.segments),
            "softmax": described.softmax,
            "orientation": described.orientation,
            "threads": threads,
        }
    ).encode()
