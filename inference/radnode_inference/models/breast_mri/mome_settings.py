"""What the card of MOME weights says."""

from dataclasses import dataclass

from radnode_inference.findings import Code
from radnode_inference.models.breast_mri.mome_input import InputSettings
from radnode_inference.weights import WeightsError, WeightsFile, code


@dataclass(frozen=True, kw_only=True)
class MomeSettings:
    """positive: the class whose probability is reported, with its concept and site.

    heads: of the network, None: one per 64 of width. missing_allowed: modalities an examination may be without.
    temperature: what the logits are divided by. threshold: a finding is reported above it.
    """

    input: InputSettings
    positive: int
    name: str
    concept: Code
    site: Code | None
    heads: int | None
    missing_allowed: frozenset[str]
    temperature: float
    threshold: float
    classes: int

    @classmethod
    def from_weights(cls, weights: WeightsFile) -> "MomeSettings":
        """Raises WeightsError when the card lacks something or says it in a wrong form."""
        card = weights.settings
        try:
            positive = [n for n, c in enumerate(card["classes"]) if c["kind"] == "abnormality"]
            if len(positive) != 1:
                raise ValueError(f"{len(positive)} classes are called an abnormality; one must be")
            chosen, heads = card["classes"][positive[0]], card.get("network", {}).get("heads")
            return cls(
                input=InputSettings.from_card(card["input"]),
                positive=positive[0],
                name=str(chosen["name"]),
                concept=code(chosen["concept"]),
                site=code(chosen["site"]) if "site" in chosen else None,
                heads=None if heads is None else int(heads),
                missing_allowed=frozenset(str(m) for m in card.get("missing_allowed", ())),
                temperature=float(card.get("temperature", 1.0)),
                threshold=float(card["threshold"]),
                classes=len(card["classes"]),
            )
        except (KeyError, IndexError, TypeError, ValueError) as e:
            raise WeightsError(f"the card of {weights.name}: {type(e).__name__} {e}") from e
