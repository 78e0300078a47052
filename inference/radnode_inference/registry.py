"""Which models there are. The single source of truth; imports no torch and no model code.

A new model is one card in its family's `cards.py`, and one family is one line here.
"""

from importlib import import_module
from pathlib import Path
from typing import cast

from radnode_inference.model import Model, ModelCard
from radnode_inference.models.breast_mri import cards as breast_mri
from radnode_inference.models.chest_ct import cards as chest_ct


def cards(weights: Path) -> tuple[ModelCard, ...]:
    """Every model, with what is installed for it in the folder `weights` (which need not exist)."""
    return (*chest_ct.cards(weights), *breast_mri.cards(weights))


def card(name: str, weights: Path) -> ModelCard:
    """The card of one model. Raises KeyError with the names there are."""
    found = {c.identity.name: c for c in cards(weights)}
    if name not in found:
        raise KeyError(f"there is no model {name!r}; there are {', '.join(sorted(found))}")
    return found[name]


def load(card: ModelCard, device: str, weights: Path) -> Model:
    """The model itself, weights and all, on `device` ("cpu" or "cuda")."""
    module, _, factory = card.factory.partition(":")
    return cast(Model, getattr(import_module(module), factory)(device=device, weights=weights))
