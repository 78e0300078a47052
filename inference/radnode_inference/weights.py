"""Which weights there are for a model, and whether they are what their card says. No torch here.

A site puts weights into `<weights folder>/<model name>/`: one weights file and its `card.json` or `card.toml`. Without that
folder the demonstration weights of the package are found, if the model has any.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from radnode_inference.findings import Code, ModelIdentity
from radnode_inference.model import Availability, DeclinedError, ModelCard
from radnode_inference.study import Study

CARD_NAMES = ("card.json", "card.toml")
SUFFIXES = (".safetensors", ".pt", ".pth")
NEEDED = ("name", "version", "file", "sha256", "intended_use", "classes")
CHUNK = 1 << 22


class WeightsError(ValueError):
    """Weights that must not be used; the sentence says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightsFile:
    """Weights and their card. `settings`: the whole card as read (input, classes, thresholds, metrics, limitations)."""

    model: str
    name: str
    version: str
    sha256: str
    path: Path
    intended_use: str
    demonstration: bool
    settings: Mapping[str, Any]

    def identity(self, version: str) -> ModelIdentity:
        """Who made a result with these weights; `version` is that of the model's code."""
        return ModelIdentity(
            name=self.model,
            version=version,
            weights_name=self.name,
            weights_version=self.version,
            weights_sha256=self.sha256,
            intended_use=self.intended_use,
            demonstration=self.demonstration,
        )

    @property
    def statements(self) -> tuple[str, ...]:
        """What every result made with these weights must say."""
        if not self.demonstration:
            return ()
        return (
            f"DEMONSTRATION ONLY: the weights {self.name} {self.version} were trained on generated phantoms. "
            "This result means nothing clinically.",
        )

    def admit(self, study: Study) -> None:
        """Raises DeclinedError `demonstration-weights` unless these weights may read `study`.

        The second lock behind the router's: it also holds for `radnode run`.
        """
        if self.demonstration and not study.generated:
            raise DeclinedError(
                "demonstration-weights", "only demonstration weights are installed; they read generated studies only"
            )


def find(model: str, site: Path, packaged: Path | None) -> WeightsFile | None:
    """The weights of a model: the site's, else those of the card `packaged`, else None. The bytes are not read (`verify`).

    Raises WeightsError when there is a card that cannot be used: a broken site card is no reason to fall back.
    """
    cards = [site / model / name for name in CARD_NAMES if (site / model / name).is_file()]
    if len(cards) > 1:
        raise WeightsError(f"{site / model} has two cards; which one holds cannot be told")
    if cards:
        return read_card(model, cards[0])
    if (site / model).is_dir() and any(p.suffix in SUFFIXES for p in (site / model).iterdir()):
        raise WeightsError(f"{site / model} has weights but no card.json or card.toml")
    return read_card(model, packaged) if packaged is not None and packaged.is_file() else None


def read_card(model: str, card: Path) -> WeightsFile:
    """The weights that a card describes. Raises WeightsError that says what is wrong with the card."""
    try:
        text = card.read_text(encoding="utf-8")
        given = tomllib.loads(text) if card.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as e:
        raise WeightsError(f"{card} cannot be read: {e}") from e
    if not isinstance(given, dict) or (lacking := [key for key in NEEDED if not given.get(key)]):
        raise WeightsError(f"{card} lacks {', '.join(lacking) if isinstance(given, dict) else 'everything'}")
    if given.get("model", model) != model:
        raise WeightsError(f"{card} is for the model {given['model']}, not {model}")
    file = str(given["file"])
    if Path(file).name != file or Path(file).suffix not in SUFFIXES:
        raise WeightsError(f"{card}: file must be the plain name of a {', '.join(SUFFIXES)} file beside it")
    if not (card.parent / file).is_file():
        raise WeightsError(f"{card} names {file}, which is not there")
    codes_of(given, card)
    return WeightsFile(
        model=model,
        name=str(given["name"]),
        version=str(given["version"]),
        sha256=str(given["sha256"]).lower(),
        path=card.parent / file,
        intended_use=str(given["intended_use"]),
        demonstration=given.get("demonstration") is True,
        settings=given,
    )


def codes_of(card: Mapping[str, Any], where: Path) -> tuple[Code, ...]:
    """The concepts of the card's classes in order, the ones called `background` or `negative` left out.

    Raises WeightsError for a class without a code: it could not be reported.
    """
    codes = []
    for entry in card["classes"]:
        if entry.get("kind") in ("background", "negative"):
            continue
        if "concept" not in entry:
            raise WeightsError(f"{where}: the class {entry.get('name')!r} has no code")
        codes.append(code(entry["concept"]))
    return tuple(codes)


def code(given: Mapping[str, Any]) -> Code:
    """A code as cards write it: {"value", "scheme", "meaning"}. Raises WeightsError."""
    try:
        return Code(value=str(given["value"]), scheme=str(given["scheme"]), meaning=str(given["meaning"]))
    except (KeyError, TypeError) as e:
        raise WeightsError(f"a code needs value, scheme and meaning, not {given!r}") from e


def digest(path: Path) -> str:
    """Hex SHA-256 of a file."""
    h = hashlib.sha256()
    with path.open("rb") as f:
        while chunk := f.read(CHUNK):
            h.update(chunk)
    return h.hexdigest()


def verify(weights: WeightsFile) -> None:
    """Raises WeightsError unless the file is byte for byte the one that its card describes."""
    found = digest(weights.path)
    if found != weights.sha256:
        raise WeightsError(f"{weights.path.name} has SHA-256 {found}, its card says {weights.sha256}: not used")


def verified(model: str, site: Path, packaged: Path | None) -> WeightsFile:
    """The weights that `find` finds, byte for byte as their card says. Raises WeightsError when there are none such."""
    found = find(model, site, packaged)
    if found is None:
        raise WeightsError("not installed: weights missing")
    verify(found)
    return found


def availability(found: WeightsFile | None) -> Availability:
    if found is None:
        return Availability.NOT_INSTALLED
    return Availability.DEMONSTRATION if found.demonstration else Availability.READY


def weights_card(
    *, name: str, version: str, title: str, modality: str, inputs: tuple[str, ...], factory: str,
    site: Path, packaged: Path,
) -> ModelCard:  # fmt: skip
    """The registry's card of a model that needs weights: what is installed, and when nothing usable is, why not."""
    nothing = ModelIdentity(
        name=name,
        version=version,
        weights_name="",
        weights_version="",
        weights_sha256="",
        intended_use="no weights installed",
    )
    try:
        found = find(name, site, packaged)
        why = ""
    except WeightsError as e:
        found, why = None, f"weights refused: {e}"
    return ModelCard(
        identity=found.identity(version) if found else replace(nothing, intended_use=why or nothing.intended_use),
        title=title,
        modality=modality,
        inputs=inputs,
        findings=codes_of(found.settings, found.path) if found else (),
        availability=availability(found),
        factory=factory,
    )
