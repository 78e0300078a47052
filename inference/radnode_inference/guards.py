"""What stands between an input and a model's answer, as the weights' card says: input gates, a check that the input looks
like the reference, and the calibration of the probabilities.

A model asks in three places: `admit` when the volume is loaded, `familiar` with what its network is shown, and
`temperature` divides the logits. Each returns sentences for the reader, and declines by the gate's name. No torch here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from radnode_inference import guards_gates
from radnode_inference.guards_familiar import Image, Reference
from radnode_inference.guards_gates import Gates
from radnode_inference.model import DeclinedError
from radnode_inference.study import Study
from radnode_inference.volume import Volume
from radnode_inference.weights import WeightsError, WeightsFile

NO_REFERENCE = (
    "Whether these images resemble those the weights were made for was not checked: their card has no reference."
)
NOT_CALIBRATED = "The probabilities are not calibrated: the card of the weights names no reference set."


@dataclass(frozen=True, kw_only=True, eq=False)
class Guards:
    """references: by the name of the network's input image; `reference`: in words, which studies those were.

    temperature: what logits are divided by; calibrated_on: in words, on which studies that was chosen, "" for none.
    """

    gates: Gates
    references: Mapping[str, Reference]
    reference: str
    temperature: float
    calibrated_on: str

    @classmethod
    def from_weights(cls, weights: WeightsFile) -> "Guards":
        """Raises WeightsError when the card's `gates`, `out_of_distribution` or `calibration` are not in their form."""
        try:
            return cls.from_card(weights.settings)
        except (KeyError, TypeError, ValueError) as e:
            said = " ".join(str(e).split())
            raise WeightsError(f"the guards in the card of {weights.name}: {type(e).__name__} {said}") from e

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> "Guards":
        known, calibration = card.get("out_of_distribution") or {}, card.get("calibration") or {}
        temperature = float(calibration.get("temperature", 1.0))
        if not 0 < temperature < math.inf:
            raise ValueError(f"a temperature of {temperature}")
        return cls(
            gates=guards_gates.from_card(card.get("gates") or {}),
            references={name: Reference.from_card(given) for name, given in (known.get("images") or {}).items()},
            reference=str(known["reference"]) if known else "",
            temperature=temperature,
            calibrated_on=str(calibration["reference"]) if calibration else "",
        )

    def admit(self, study: Study, volume: Volume) -> tuple[str, ...]:
        """What to tell the reader of the gates. volume: of a series of the study. Raises DeclinedError."""
        header = next(s for s in study.series if s.series_uid == volume.series_uid).headers[0]
        return self.gates.admit(header, volume)

    def familiar(self, images: Mapping[str, Image]) -> tuple[str, ...]:
        """The score of the input, as a sentence. images: the network's inputs by name, without those that are missing.

        Raises DeclinedError `out-of-distribution` when an image is beyond the limit of its reference.
        """
        scores = {n: self.references[n].score(i) for n, i in images.items() if n in self.references}
        if not scores:
            return (NO_REFERENCE,)
        name, worst = max(scores.items(), key=lambda pair: pair[1])
        if not worst <= 1.0:
            raise DeclinedError(
                "out-of-distribution",
                f"the {name} images are unlike those the weights were made for (score {worst:.2f}, limit 1; "
                f"reference: {self.reference})",
            )
        said = ", ".join(f"{n} {s:.2f}" for n, s in scores.items())
        return (f"Likeness of the input to the reference of the weights: {said} (0 alike, limit 1; {self.reference}).",)

    @property
    def calibration(self) -> tuple[str, ...]:
        """What to tell the reader of the probabilities."""
        if not self.calibrated_on:
            return (NOT_CALIBRATED,)
        return (f"Probabilities calibrated with a temperature of {self.temperature:.3g} on {self.calibrated_on}.",)
