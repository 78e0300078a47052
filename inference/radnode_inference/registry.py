"""Which models there are. The single source of truth; imports no torch and no model code.

A new model is one card in its family's `cards.py`, and one family is one line here.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import cast

from radnode_inference.bundles import store as bundles
from radnode_inference.engines.record import Tunable
from radnode_inference.model import Model, ModelCard
from radnode_inference.models.breast_mri import cards as breast_mri
from radnode_inference.models.chest_ct import cards as chest_ct
from radnode_inference.weights import WeightsError

NOTHING_SET: Mapping[str, str] = MappingProxyType({})


def cards(weights: Path, in_use: Mapping[str, str] = NOTHING_SET) -> tuple[ModelCard, ...]:
    """Every model, with what is installed for it in the folder `weights` (which need not exist).

    in_use: model -> the version of its weights, `weights.OFF` for none; a model that is not in it takes the only version there is.
    """
    return (*chest_ct.cards(weights, in_use), *breast_mri.cards(weights, in_use), *bundles.cards(weights))


def card(name: str, weights: Path, in_use: Mapping[str, str] = NOTHING_SET) -> ModelCard:
    """The card of one model. Raises KeyError with the names there are."""
    found = {c.identity.name: c for c in cards(weights, in_use)}
    if name not in found:
        raise KeyError(f"there is no model {name!r}; there are {', '.join(sorted(found))}")
    return found[name]


def load(card: ModelCard, device: str, weights: Path) -> Model:
    """The model itself, with the weights that its card names, on `device` ("cpu" or "cuda").

    Raises WeightsError when they are gone in the meantime, or are not what their card says.
    """
    if card.weights is not None and not card.weights.is_dir():
        raise WeightsError(f"the weights of {card.identity.name} in {card.weights} are gone")
    module, _, factory = card.factory.partition(":")
    made = cast(Model, getattr(import_module(module), factory)(device=device, weights=card.weights or weights))
    if isinstance(made, Tunable):
        made.choose_engine(weights)
    return made
