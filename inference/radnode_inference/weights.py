"""Which weights there are for a model, and whether they are what their card says. No torch here.

`radnode weights add` puts a site's weights into `<weights folder>/<model name>/<version>/`: one weights file and its `card.json`.
Without such a folder the demonstration weights of the package are found, if the model has any.
"""

import hashlib
import json
import re
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from radnode_inference import card_about
from radnode_inference.findings import Code, ModelIdentity
from radnode_inference.model import Availability, DeclinedError, ModelCard
from radnode_inference.study import Study
from radnode_inference.weights_tasks import network_of, region_of

CARD_NAMES = ("card.json", "card.toml")
SUFFIXES = (".safetensors", ".pt", ".pth")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
NEEDED = ("name", "version", "file", "sha256", "intended_use", "classes")
FED = ("input", "network", "calibration")
CHUNK = 1 << 22
OFF = ""
"""In place of a version: the site has weights for the model, and none of them is in use."""


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
            weights_sha256=self.digest_of_all,
            intended_use=self.intended_use,
            demonstration=self.demonstration,
        )

    @property
    def digest_of_all(self) -> str:
        """The SHA-256 that stands for the weights: the file's own; of an ensemble that of all its files' in order."""
        others = [str(fold["sha256"]).lower() for fold in self.settings.get("folds", ())]
        return hashlib.sha256(" ".join([self.sha256, *others]).encode()).hexdigest() if others else self.sha256

    @property
    def engines_key(self) -> str:
        """What a comparison of engines holds for: these files as this card feeds, builds and calibrates them. Another card of them has its own."""
        fed = json.dumps({k: self.settings.get(k) for k in FED}, sort_keys=True, default=str)
        return hashlib.sha256(f"{self.digest_of_all} {fed}".encode()).hexdigest()

    @property
    def statements(self) -> tuple[str, ...]:
        """What every result made with these weights must say."""
        demonstration = (
            f"DEMONSTRATION ONLY: the weights {self.name} {self.version} were trained on generated phantoms. "
            "This result means nothing clinically.",
        )
        limits = card_about.in_short(card_about.limitations(self.settings), self.model)
        return (*(demonstration if self.demonstration else ()), *limits)

    def admit(self, study: Study) -> None:
        """Raises DeclinedError `demonstration-weights` unless these weights may read `study`.

        The second lock behind the router's: it also holds for `radnode run`.
        """
        if self.demonstration and not study.generated:
            raise DeclinedError(
                "demonstration-weights", "only demonstration weights are installed; they read generated studies only"
            )


def find(model: str, site: Path, packaged: Path | None, version: str | None = None) -> WeightsFile | None:
    """The weights of a model: the site's, else those of the card `packaged`, else None. The bytes are not read (`verify`).

    site: the folder of the site's weights, or the folder of one version. version: the one in use; None: the only one there is.
    Raises WeightsError when there is a card that cannot be used: a broken site card is no reason to fall back.
    """
    if version == OFF:
        return None
    own = card_in(site)
    if own is not None:
        return read_card(model, own)
    if version is not None:
        own = card_in(site / model / version)
        if own is None:
            raise WeightsError(f"the version {version} of {model} is in use, and its card is not in {site}")
        return read_card(model, own)
    there = versions(model, site)
    if len(there) > 1:
        raise WeightsError(f"{model} has the versions {', '.join(there)}, and none is in use (radnode weights use)")
    if there:
        return find(model, site, None, there[0])
    if (site / model).is_dir() and any(
        p.suffix in SUFFIXES and not p.relative_to(site / model).parts[0].startswith(".")  # one that is being added
        for p in (site / model).rglob("*")
    ):
        raise WeightsError(
            f"{site / model} has weights but no version with a card: install them by radnode weights add"
        )
    return read_card(model, packaged) if packaged is not None and packaged.is_file() else None


def versions(model: str, site: Path) -> tuple[str, ...]:
    """The installed versions of a model's weights, in the order of their numbers."""
    folder = site / model
    there = [p.name for p in folder.iterdir() if VERSION.fullmatch(p.name) and card_in(p)] if folder.is_dir() else []
    return tuple(
        sorted(there, key=lambda v: [(p.isdigit(), int(p) if p.isdigit() else 0, p) for p in re.split(r"(\d+)", v)])
    )


def remove(model: str, version: str, site: Path) -> None:
    """Take a version out. Raises WeightsError when it is not there."""
    folder = site / model / version
    if card_in(folder) is None:
        raise WeightsError(f"there is no version {version} of {model} in {site}")
    folder.chmod(0o755)  # it was stored read-only
    with tempfile.TemporaryDirectory(
        prefix=".removed-", dir=folder.parent
    ) as gone:  # at once, also where an earlier removal was cut off
        folder.rename(Path(gone) / version)


def card_in(folder: Path) -> Path | None:
    """The card in a version's folder, or None. Raises WeightsError when there are two."""
    cards = [folder / name for name in CARD_NAMES if (folder / name).is_file()]
    if len(cards) > 1:
        raise WeightsError(f"{folder} has two cards; which one holds cannot be told")
    return cards[0] if cards else None


def read_settings(card: Path) -> dict[str, Any]:
    """A card as it is written, TOML or JSON by its name. Raises WeightsError."""
    try:
        text = card.read_text(encoding="utf-8")
        given = tomllib.loads(text) if card.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as e:
        raise WeightsError(f"{card} cannot be read: {e}") from e
    if not isinstance(given, dict):
        raise WeightsError(f"{card} lacks everything")
    return given


def read_card(model: str, card: Path) -> WeightsFile:
    """The weights that a card describes. Raises WeightsError that says what is wrong with the card."""
    given = read_settings(card)
    if lacking := [key for key in NEEDED if not given.get(key)]:
        raise WeightsError(f"{card} lacks {', '.join(lacking)}")
    if (said := given.get("model", network_of(model))) != model:
        raise WeightsError(f"{card} is for the model {said}, not {model}")
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


def verify_all(weights: WeightsFile) -> None:
    """As `verify`, the folds of an ensemble (the card's `folds`: file and sha256 each) too."""
    verify(weights)
    for fold in weights.settings.get("folds", ()):
        verify(replace(weights, path=weights.path.with_name(fold["file"]), sha256=fold["sha256"]))


def verified(model: str, site: Path, packaged: Path | None) -> WeightsFile:
    """The weights that `find` finds, byte for byte as their card says. Raises WeightsError when there are none such."""
    found = find(model, site, packaged)
    if found is None:
        raise WeightsError("not installed: weights missing")
    verify_all(found)
    return found


def availability(found: WeightsFile | None) -> Availability:
    if found is None:
        return Availability.NOT_INSTALLED
    return Availability.DEMONSTRATION if found.demonstration else Availability.READY


def weights_card(
    *, name: str, version: str, title: str, modality: str, inputs: tuple[str, ...], factory: str,
    site: Path, packaged: Path | None, in_use: str | None = None,
) -> ModelCard:  # fmt: skip
    """The registry's card of a model that needs weights: what is installed, and when nothing usable is, why not.

    in_use: the version of the weights, as for `find`.
    """
    nothing = ModelIdentity(
        name=name,
        version=version,
        weights_name="",
        weights_version="",
        weights_sha256="",
        intended_use="no weights installed",
    )
    try:
        found = find(name, site, packaged, in_use)
        why = "no version of its weights is in use" if in_use == OFF else ""
    except (WeightsError, OSError) as e:
        found, why = None, f"weights refused: {e}"
    return ModelCard(
        identity=found.identity(version) if found else replace(nothing, intended_use=why or nothing.intended_use),
        title=title,
        modality=modality,
        inputs=inputs,
        findings=codes_of(found.settings, found.path) if found else (),
        availability=Availability.OFF if in_use == OFF else availability(found),
        factory=factory,
        weights=found.path.parent if found else None,
        takes_weights=True,
        engines_key=found.engines_key if found else "",
        about=card_about.about(found.settings) if found else card_about.NOTHING,
        region=region_of(found.settings) if found and network_of(name) != name else (),
    )
