"""The protocol every model follows, and the outcome "declined". No torch here."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from radnode_inference.card_about import NOTHING, About
from radnode_inference.findings import Code, Findings, ModelIdentity
from radnode_inference.study import Study

Progress = Callable[[float, str], None]
"""Called with the part done (0..1) and a few words; it may raise to stop the run."""


class DeclinedError(Exception):
    """The input does not suit the model. An outcome, not a failure: never retried.

    gate: a short stable name (`slice-gap`, `kernel`, `missing-role:pre-contrast`); sentence: why, for a radiologist.
    reasons: what each series was taken for, as in `Findings.reasons`.
    """

    def __init__(self, gate: str, sentence: str, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(f"{gate}: {sentence}")
        self.gate = gate
        self.sentence = sentence
        self.reasons = reasons

    def __reduce__(self) -> tuple[type["DeclinedError"], tuple[str, str, tuple[str, ...]]]:
        return DeclinedError, (self.gate, self.sentence, self.reasons)


class Availability(StrEnum):
    READY = "ready"
    NOT_INSTALLED = "not installed: weights missing"
    OFF = "off: no version of its weights is in use"
    DEMONSTRATION = "demonstration weights: generated studies only"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a registry knows of a model without loading it.

    factory: "module:callable" taking `device` ("cpu" or "cuda") and `weights` (folder of site weights) and returning a `Model`; imported only to run.
    inputs: what the model needs, in words for people. findings: the concepts it can report.
    takes_weights: False for training-free methods. weights: the folder of the version in use, None without one.
    engines_key: what comparisons of engines hold for (`WeightsFile.engines_key`), "" without weights.
    about: what the card of the weights says besides.
    region: words for what a model of a site's own task reads, as its card's gate has them: it is asked for such studies where no rule names it.
    """

    identity: ModelIdentity
    title: str
    modality: str
    inputs: tuple[str, ...]
    findings: tuple[Code, ...]
    availability: Availability
    factory: str
    weights: Path | None = None
    takes_weights: bool = False
    engines_key: str = ""
    about: About = NOTHING
    region: tuple[str, ...] = ()

    def unavailable_because(self, *, generated: bool) -> str | None:
        """Why this model may not run on a study (`generated`: marked by the node's own generator), or None."""
        if self.availability is Availability.NOT_INSTALLED:
            return "not installed: weights missing"
        if self.availability is Availability.OFF:
            return str(Availability.OFF)
        if self.availability is Availability.DEMONSTRATION and not generated:
            return "not installed: only demonstration weights are present, and they run on generated studies only"
        return None


class Model(Protocol):
    """A loaded model. Loading is slow, reading is not: keep the object warm."""

    @property
    def identity(self) -> ModelIdentity: ...

    def read(self, study: Study, progress: Progress) -> Findings:
        """Find what there is in `study`. Raises DeclinedError when the study does not suit the model."""
        ...
