"""The form of a weights card: what `radnode weights add` insists on. docs/adding-a-model.md explains each key. No torch here.

A model's own part of a card (`input`, `network`, `gates`, …) is read by that model; here only its name is known.
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from radnode_inference.weights import VERSION, WeightsError

Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
UNREPORTED = ("background", "negative")


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Coded(Part):
    """A code as PS3.3 section 8.8 bounds it: designator at most 16 characters, meaning at most 64."""

    value: Text
    scheme: Annotated[str, Field(min_length=1, max_length=16)]
    meaning: Annotated[str, Field(min_length=1, max_length=64)]


class OneClass(Part):
    """One output of the network, in its order."""

    name: Text
    kind: Literal["background", "negative", "abnormality", "anatomy", "examination"]
    concept: Coded | None = None
    site: Coded | None = None
    laterality: Literal["left", "right"] | None = None
    colour: tuple[int, int, int] | None = None  # sRGB, 0..255
    smallest_mm3: Annotated[float, Field(ge=0)] = 0.0
    separate: bool | None = None
    calibration: tuple[float, float] | None = None  # slope and offset on log-odds
    threshold: Share = 0.0

    @model_validator(mode="after")
    def is_complete(self) -> "OneClass":
        if self.kind not in UNREPORTED and self.concept is None:
            raise ValueError(f"the class {self.name!r} has no code (concept)")
        if self.colour is not None and not all(0 <= c <= 255 for c in self.colour):
            raise ValueError(f"the colour of {self.name!r} is not three numbers from 0 to 255")
        return self


class Calibration(Part):
    """What the logits are divided by, and on which studies that was chosen."""

    temperature: Annotated[float, Field(gt=0)]
    reference: Text


class Source(Part):
    """The file that the site gave, as it was before it was converted."""

    file: Text
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Card(BaseModel):
    """The whole card. Further keys belong to the model; one that looks like a misspelt known key is refused."""

    model_config = ConfigDict(frozen=True, extra="allow")
    model: Text
    task: str = ""
    name: Text
    version: Annotated[str, Field(pattern=f"^{VERSION.pattern}$")]
    intended_use: Text
    training_data: Text
    licence: Text
    classes: Annotated[tuple[OneClass, ...], Field(min_length=1)]
    input: dict[str, Any] = {}
    network: dict[str, Any] = {}
    gates: dict[str, Any] = {}
    out_of_distribution: dict[str, Any] = {}
    calibration: Calibration | None = None
    metrics: dict[str, Any] = {}
    limitations: tuple[Text, ...] = ()
    threshold: Share = 0.0
    demonstration: bool = False
    template: str = ""
    file: str = ""
    sha256: str = ""
    source: Source | None = None

    @model_validator(mode="after")
    def says_something(self) -> "Card":
        if all(c.kind in UNREPORTED for c in self.classes):
            raise ValueError("no class can be reported: every one is background or negative")
        if len({c.name for c in self.classes}) < len(self.classes):
            raise ValueError("two classes have the same name")
        for key in self.model_extra or ():
            if near := difflib.get_close_matches(key, type(self).model_fields, 1, 0.8):
                raise ValueError(f"the key {key!r} is not known; {near[0]!r} is")
        return self


def check(given: Mapping[str, Any], where: str) -> Card:
    """The card, in its form. Raises WeightsError with the first fault in one sentence."""
    try:
        return Card.model_validate(given)
    except ValidationError as e:
        first = e.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        said = "is missing" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
        raise WeightsError(f"{where}: {f'{place}: ' if place else ''}{said}") from e
