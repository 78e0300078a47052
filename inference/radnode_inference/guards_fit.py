"""A reference for the likeness check from a site's own studies: what a model's network is shown of each."""

from collections.abc import Iterable, Mapping
from typing import Any

from radnode_inference.guards import Guards
from radnode_inference.guards_familiar import Features, Image, Reference, features
from radnode_inference.model import DeclinedError, Model
from radnode_inference.study import Study


class ShownError(Exception):
    """Not a failure: the images are there, and the network need not run."""

    def __init__(self, images: Mapping[str, Image]) -> None:
        super().__init__()
        self.images = images


class Recorder(Guards):
    """Guards that let the gates stand and end the reading with what the network would have been shown."""

    def familiar(self, images: Mapping[str, Image]) -> tuple[str, ...]:
        raise ShownError(images)


def shown(model: Model, study: Study) -> dict[str, Features]:
    """The features of what the network is shown, by image. Raises DeclinedError as the model does; TypeError for one without guards."""
    guards = getattr(model, "guards", None)
    if not isinstance(guards, Guards):
        raise TypeError(f"{model.identity.name} has no guards: it takes no weights")
    model.guards = Recorder(**vars(guards))  # type: ignore[attr-defined]
    try:
        model.read(study, lambda part, words: None)
    except ShownError as e:
        return {name: features(image) for name, image in e.images.items()}
    finally:
        model.guards = guards  # type: ignore[attr-defined]
    raise TypeError(f"{model.identity.name} does not ask its guards")


def section(model: Model, studies: Iterable[Study], reference: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A card's `out_of_distribution`, and which studies were left out, with the reason.

    reference: in words, which studies these are. Raises ValueError when too few are left.
    """
    found: dict[str, list[Features]] = {}
    left_out = []
    for study in studies:
        try:
            for name, one in shown(model, study).items():
                found.setdefault(name, []).append(one)
        except DeclinedError as e:
            left_out.append(f"{study.study_uid}: {e}")
    if not found:
        raise ValueError("the model reads none of these studies" + (f" ({left_out[0]})" if left_out else ""))
    return {
        "reference": reference,
        "images": {name: Reference.of_features(each).card() for name, each in found.items()},
    }, tuple(left_out)
