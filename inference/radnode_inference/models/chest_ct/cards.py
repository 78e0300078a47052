"""The cards of the chest_ct models. No torch here."""

from pathlib import Path

from radnode_inference.model import ModelCard


def cards(weights: Path) -> tuple[ModelCard, ...]:
    """Every model of the family, with what is installed for it in the folder `weights`."""
    return ()
