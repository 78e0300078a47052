"""What the card of MOME weights says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from radnode_inference.findings import Code
from radnode_inference.models.breast_mri.mome_augment import PLAIN, Augmentation
from radnode_inference.models.breast_mri.mome_input import InputSettings
from radnode_inference.weights import WeightsError, WeightsFile, code


class Task(StrEnum):
    """What the head was trained to tell."""

    LESION = "lesion"  # whether there is one, of whatever kind
    MALIGNANCY = "malignancy"
    SUBTYPE = "subtype"  # the molecular subtype of a known cancer
    RESPONSE = "response"  # pathological complete response of a known cancer to neoadjuvant therapy


USEFUL_AUROC = 0.8
"""On held-out examinations; modalities with which weights stay below it do not answer by themselves."""
FINDS = frozenset({Task.LESION, Task.MALIGNANCY})
"""Tasks whose result may be a finding; the others say something about a cancer that is known."""


@dataclass(frozen=True, kw_only=True)
class ClassSetting:
    """One output of the head. concept: None for a class called negative."""

    name: str
    concept: Code | None


@dataclass(frozen=True, kw_only=True)
class MomeSettings:
    """positive: the class whose probability is reported; None for subtypes, of which the likeliest is.

    heads: of the network, None: one per 64 of width. missing_allowed: modalities an examination may be without.
    threshold: a class is reported above it. augmentations: the views whose probabilities are averaged. saliency_steps: of
    the integrated gradients at most, 0: no map, None: as the network's size suggests. useless: choices of modalities
    whose AUROC by the card's `metrics.by_modalities` is below USEFUL_AUROC, with it.
    """

    task: Task
    input: InputSettings
    classes: tuple[ClassSetting, ...]
    positive: int | None
    site: Code | None
    heads: int | None
    missing_allowed: frozenset[str]
    threshold: float
    augmentations: tuple[Augmentation, ...] = (PLAIN,)
    saliency_steps: int | None = None
    useless: Mapping[frozenset[str], float] = field(default_factory=dict)

    @classmethod
    def from_weights(cls, weights: WeightsFile) -> "MomeSettings":
        """Raises WeightsError when the card lacks something or says it in a wrong form."""
        card = weights.settings
        try:
            task, heads, steps = Task(card["task"]), card.get("network", {}).get("heads"), card.get("saliency_steps")
            given = InputSettings.from_card(card["input"])
            return cls(
                task=task,
                input=given,
                classes=tuple(class_setting(c) for c in card["classes"]),
                positive=positive(card["classes"], task),
                site=next((code(c["site"]) for c in card["classes"] if "site" in c), None),
                heads=None if heads is None else int(heads),
                missing_allowed=modalities(card.get("missing_allowed", ())),
                threshold=float(card["threshold"]),
                augmentations=views(card, given),
                saliency_steps=None if steps is None else max(int(steps), 0),
                useless=useless(card.get("metrics") or {}),
            )
        except (KeyError, IndexError, TypeError, ValueError) as e:
            raise WeightsError(f"the card of {weights.name}: {type(e).__name__} {e}") from e


def class_setting(given: Mapping[str, Any]) -> ClassSetting:
    return ClassSetting(name=str(given["name"]), concept=code(given["concept"]) if "concept" in given else None)


def positive(classes: list[Mapping[str, Any]], task: Task) -> int | None:
    """The one class that is not called negative; None for subtypes. Raises ValueError when it is not one.

    A head with one output is refused: among one class each has the probability 1.
    """
    if task is Task.SUBTYPE:
        if len(classes) < 2:
            raise ValueError(f"{len(classes)} subtypes; a head tells two or more apart")
        return None
    if len(classes) == 1:
        raise ValueError("1 class; a head with one output is not read, it needs one for the negative too")
    told = [n for n, c in enumerate(classes) if c["kind"] != "negative"]
    if len(told) != 1:
        raise ValueError(f"{len(told)} classes are not called negative; one must be")
    return told[0]


def modalities(given: Iterable[Any]) -> frozenset[str]:
    """Raises ValueError for one that is none."""
    found = frozenset(str(m) for m in given)
    if odd := sorted(found - {"dce", "dwi", "t2"}):
        raise ValueError(f"{odd[0]!r} is none of dce, dwi and t2")
    return found


def useless(metrics: Mapping[str, Any]) -> dict[frozenset[str], float]:
    """Choices of modalities with which the weights are of no use -> their AUROC."""
    measured = {
        frozenset(str(name).split("+")): float(found["auroc"]["value"])
        for name, found in dict(metrics.get("by_modalities") or {}).items()
    }
    return {given: auroc for given, auroc in measured.items() if auroc < USEFUL_AUROC}


def views(card: Mapping[str, Any], given: InputSettings) -> tuple[Augmentation, ...]:
    """The test-time augmentations of the card, [none] where it names no other. Raises ValueError."""
    found = tuple(Augmentation.named(str(name)) for name in card.get("augmentations", ("none",)))
    if not found:
        raise ValueError("augmentations is empty; `none` is the plain view")
    if given.spacing_mm is not None and any(a.pad for a in found):
        raise ValueError("pads move the volume within the grid, and a grid with spacing_mm has no room around it")
    return found
