"""What a bundle says of itself, read as data: nothing of it is imported, evaluated or unpickled here. No torch."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from radnode_inference.bundles.codes import Segment, segments

METADATA, CONFIGS, WEIGHTS = (
    "configs/metadata.json",
    ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml"),
    ("models/model.pt", "models/model.safetensors"),
)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
MODALITIES = {"CT": "CT", "MR": "MR", "MRI": "MR", "PT": "PT", "PET": "PT"}
LARGEST_JSON = 4 << 20
MOST_CLASSES = 255


class BundleError(ValueError):
    """A bundle that cannot be used; the sentence says why."""


class Framework(StrEnum):
    """Whose code runs a model of the site's own."""

    MONAI = "MONAI bundle"
    NNUNET = "nnU-Net model"


@dataclass(frozen=True, kw_only=True)
class Described:
    """A bundle by its own words. modality: as in DICOM. authors and licence: as given, or "". segments: background included.

    framework: whose code runs it. orientation: how its images lie, as "RAS"; "" where its own transforms see to it.
    """

    name: str
    version: str
    task: str
    authors: str
    intended_use: str
    modality: str
    segments: tuple[Segment, ...]
    softmax: bool
    framework: Framework = Framework.MONAI
    orientation: str = ""


def describe(folder: Path, *, name: str, modality: str = "") -> Described:
    """The bundle in `folder`. name: what the node calls it. modality: instead of its own. Raises BundleError that says what the node cannot serve."""
    missing = [
        wanted[0] for wanted in ((METADATA,), CONFIGS, WEIGHTS) if not any((folder / w).is_file() for w in wanted)
    ]
    if missing:
        raise BundleError(f"this is no MONAI bundle that can be served: {', '.join(missing)} missing")
    metadata = read_json(folder / METADATA)
    try:
        data = metadata["network_data_format"]
        source, out = only(data["inputs"], "input"), only(data["outputs"], "output")
        found = segments(out["channel_def"])
        version = str(metadata["version"])
        refuse_what_cannot_be_served(source, out, found)
    except BundleError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise BundleError(f"{METADATA} lacks or misstates {e}") from e
    return Described(
        name=named(name),
        version=line(version, 32),
        task=line(metadata.get("task") or metadata.get("description") or "no task stated", 200),
        authors=line(metadata.get("authors") or "", 120),
        intended_use=line(metadata.get("intended_use") or "", 200),
        modality=modality_of(modality or str(source.get("modality", ""))),
        segments=found,
        softmax=found[0].kind is None,
    )


def refuse_what_cannot_be_served(source: Mapping[str, Any], out: Mapping[str, Any], found: tuple[Segment, ...]) -> None:
    if int(source.get("num_channels") or 1) != 1:
        raise BundleError(f"it reads {source['num_channels']} channels at once; the node gives a bundle one series")
    if str(out.get("format", "segmentation")).lower() not in ("segmentation", "labels", "classes"):
        raise BundleError(f"its output is {out['format']!r}; the node takes segmentations")
    if not any(s.kind for s in found):
        raise BundleError("its channel_def names nothing but background")
    if len(found) > MOST_CLASSES:
        raise BundleError(f"it has {len(found)} classes; {MOST_CLASSES} at most")
    if [s.channel for s in found] != list(range(len(found))):
        raise BundleError("its channel_def does not number the channels from 0 without a gap")
    refuse_names(found)


def refuse_names(found: tuple[Segment, ...]) -> None:
    """Raises BundleError for a class that could not be told from another: what is found is followed by its name."""
    names = [" ".join(s.name.split()) for s in found]
    if odd := next((n for n in names if n and names.count(n) > 1), ""):
        raise BundleError(f"it has several classes called {odd!r}")
    if "" in names:
        raise BundleError("one of its classes has no name")


def only(given: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """The one entry of a table. Raises BundleError when there are several."""
    if len(given) != 1:
        raise BundleError(f"it has {len(given)} {what}s ({', '.join(given)}); the node serves bundles with one")
    found: Mapping[str, Any] = next(iter(given.values()))
    if not isinstance(found, Mapping):
        raise BundleError(f"its {what} is not described")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Raises BundleError."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise BundleError(f"{path.name} is larger than {LARGEST_JSON >> 20} MiB")
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise BundleError(f"{path.name} cannot be read: {e}") from e
    if not isinstance(given, dict):
        raise BundleError(f"{path.name} is no table")
    return given


def named(name: str) -> str:
    """Raises BundleError when it cannot be the name of a model."""
    if not NAME.fullmatch(name):
        raise BundleError(f"{name!r} cannot be the name of a model: letters, digits, '.', '_' and '-', at most 63")
    return name


def slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text.strip().lower()).strip("-._")[:63]


def line(text: object, longest: int) -> str:
    """A stranger's words as one printable line."""
    return "".join(c if c.isprintable() else " " for c in " ".join(str(text).split()))[:longest]


def modality_of(given: str) -> str:
    """Raises BundleError when the modality is none that the node can choose a series by."""
    if given.upper() not in MODALITIES:
        raise BundleError(f"its modality {given!r} is none of {', '.join(sorted(set(MODALITIES.values())))}: give one")
    return MODALITIES[given.upper()]
