"""The bundles of a site: copied in, pinned file by file, and never changed. No torch, and nothing of a bundle is run here."""

import hashlib
import json
import lzma
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from radnode_inference import card_about, guards_gates
from radnode_inference.bundles import card, nnunet
from radnode_inference.bundles.card import METADATA, BundleError, Described, line, read_json, slug
from radnode_inference.bundles.codes import told_apart
from radnode_inference.findings import ModelIdentity
from radnode_inference.guards_gates import Gates
from radnode_inference.model import Availability, ModelCard
from radnode_inference.weights import digest

FOLDER, FILES, PINS = ".bundles", "files", "bundle.json"
MOST_FILES, MOST_BYTES = 5000, 16 << 30
FACTORY = "radnode_inference.bundles.bundle_model:create"
FORMAT = "1.0.0"
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """An installed bundle. pins: path in it -> SHA-256. sha256: over all pins, its identity in every result."""

    folder: Path
    described: Described
    pins: Mapping[str, str]
    sha256: str
    series_word: str
    gates: Gates

    @property
    def files(self) -> Path:
        return self.folder / FILES

    @property
    def identity(self) -> ModelIdentity:
        d = self.described
        use = d.intended_use or f"{d.task}. Its authors state no intended use"
        by = f" (authors: {d.authors})" if d.authors else ""
        return ModelIdentity(
            name=d.name,
            version=FORMAT,
            weights_name=f"{d.framework} {d.name}",
            weights_version=d.version,
            weights_sha256=self.sha256,
            intended_use=f"{use}{by}. A model that this site installed and answers for.",
        )

    @property
    def card(self) -> ModelCard:
        d = self.described
        word = f" with {self.series_word!r} in its description" if self.series_word else ""
        return ModelCard(
            identity=self.identity,
            title=f"{d.framework}: {d.task}",
            modality=d.modality,
            inputs=(f"one {d.modality} series of at least 10 slices{word}",),
            findings=tuple(s.concept for s in d.segments if s.kind),
            availability=Availability.READY,
            factory=FACTORY,
            weights=self.folder,
            about=card_about.about({"gates": self.gates.model_dump(exclude_defaults=True)}),
        )

    def verify(self) -> None:
        """Raises BundleError unless every file is byte for byte the one that was added, and there is no other."""
        there = pins(self.files)
        changed = sorted(k for k in {*there, *self.pins} if there.get(k) != self.pins.get(k))
        if changed:
            raise BundleError(f"{self.described.name}: {', '.join(changed[:5])} is not what was added: not run")


def add(
    source: Path, weights: Path, *, taken: frozenset[str], name: str = "", modality: str = "", series_word: str = "",
    orientation: str = "", gates: Mapping[str, Any] = NOTHING, kinds: Mapping[str, str] = NOTHING,
) -> Bundle:  # fmt: skip
    """Install the bundle or nnU-Net folder in the folder or zip file `source`. taken: names of other models. Raises BundleError.

    orientation: how an nnU-Net's training images lay, where its files do not say so. gates: as a weights card has them. kinds: class ->
    "abnormality" or "anatomy", where its name does not tell which.
    """
    asked = gates_of(gates)
    (weights / FOLDER).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=weights / FOLDER, prefix=".new-") as unfinished:
        folder = Path(unfinished) / "bundle"
        (unzip if source.is_file() else copy)(source, folder / FILES)
        top_level(folder / FILES)
        if nnunet.is_folder(folder / FILES):
            nnunet.lean(folder / FILES)
        called = name or default_name(source, folder / FILES)
        described = describe(folder / FILES, name=called, modality=modality, orientation=orientation, kinds=kinds)
        there = weights / FOLDER / described.name
        if described.name in taken or there.exists():
            raise BundleError(f"there is a model {described.name!r} already: remove it, or give this one another name")
        settings = {"name": described.name, "modality": described.modality, "series_word": series_word}
        settings["orientation"] = described.orientation
        asked_of = {"gates": asked.model_dump(exclude_defaults=True), "kinds": dict(kinds)}
        (folder / PINS).write_text(
            json.dumps({**settings, **asked_of, "files": pins(folder / FILES)}, indent=1), encoding="utf-8"
        )
        folder.rename(there)
    lock(there)
    return read(there)


def describe(files: Path, *, name: str, modality: str, orientation: str, kinds: Mapping[str, str]) -> Described:
    """What a bundle or an nnU-Net folder says of itself, with the kinds that the site gave its classes. Raises BundleError."""
    if nnunet.is_folder(files):
        found = nnunet.describe(files, name=name, modality=modality, orientation=orientation)
    elif several := sorted(p.name for p in files.glob("*") if nnunet.is_folder(p)):
        raise BundleError(f"it holds {len(several)} trained nnU-Nets ({', '.join(several)}): give the folder of one")
    else:
        found = card.describe(files, name=name, modality=modality)
    try:
        return replace(found, segments=told_apart(found.segments, kinds))
    except ValueError as e:
        raise BundleError(str(e)) from e


def default_name(source: Path, files: Path) -> str:
    """What the bundle is called in its metadata, else its file or folder."""
    if nnunet.is_folder(files):
        return nnunet.default_name(files) or slug(source.stem)
    own = read_json(files / METADATA).get("name") if (files / METADATA).is_file() else ""
    return slug(str(own or source.stem if source.is_file() else own or source.resolve().name))


def read(folder: Path) -> Bundle:
    """An installed bundle, its files not yet verified. Raises BundleError."""
    try:
        given = json.loads((folder / PINS).read_text(encoding="utf-8"))
        pinned = {str(k): str(v) for k, v in given["files"].items()}
        name, modality, word = str(given["name"]), str(given["modality"]), str(given["series_word"])
        orientation, gates = str(given.get("orientation", "")), gates_of(given.get("gates", NOTHING))
        kinds = {str(k): str(v) for k, v in given.get("kinds", NOTHING).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise BundleError(f"{folder.name}: {PINS} cannot be read: {e}") from e
    whole = hashlib.sha256(json.dumps(sorted(pinned.items())).encode()).hexdigest()
    described = describe(folder / FILES, name=name, modality=modality, orientation=orientation, kinds=kinds)
    return Bundle(folder=folder, described=described, pins=pinned, sha256=whole, series_word=word, gates=gates)


def gates_of(given: Mapping[str, Any]) -> Gates:
    """Raises BundleError for a gate that is not known or of a wrong kind."""
    try:
        return guards_gates.from_card(given)
    except ValueError as e:
        raise BundleError(f"the gates: {' '.join(str(e).split())}") from e


def installed(weights: Path) -> tuple[Bundle, ...]:
    """Every bundle that can be read, by name; `broken` names the others."""
    return tuple(found for found in map(read_or_none, folders(weights)) if found)


def broken(weights: Path) -> tuple[str, ...]:
    """One sentence for each installed bundle that cannot be read."""
    told = []
    for folder in folders(weights):
        try:
            read(folder)
        except BundleError as e:
            told.append(str(e))
    return tuple(told)


def cards(weights: Path) -> tuple[ModelCard, ...]:
    """The registry's cards of the installed bundles."""
    return tuple(b.card for b in installed(weights))


def remove(name: str, weights: Path) -> None:
    """Raises BundleError when there is none of that name."""
    folder = next((f for f in folders(weights) if f.name == name), None)
    if folder is None:
        raise BundleError(f"there is no bundle {name!r} here")
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o700)
    shutil.rmtree(folder)


def folders(weights: Path) -> list[Path]:
    place = weights / FOLDER
    return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith(".")) if place.is_dir() else []


def read_or_none(folder: Path) -> Bundle | None:
    try:
        return read(folder)
    except BundleError:
        return None


def pins(files: Path) -> dict[str, str]:
    """Path -> SHA-256 of every file. A link or a device is pinned as what it is not, so it never passes."""
    return {
        p.relative_to(files).as_posix(): digest(p) if stat.S_ISREG(p.lstat().st_mode) else "not a file"
        for p in sorted(files.rglob("*"))
        if p.is_symlink() or not p.is_dir()
    }


def copy(source: Path, target: Path) -> None:
    """A folder, plain files only. Raises BundleError."""
    found = [p for p in source.rglob("*") if p.is_symlink() or not p.is_dir()]
    odd = [p for p in found if not stat.S_ISREG(p.lstat().st_mode)]
    if odd:
        raise BundleError(f"{odd[0].relative_to(source)} is a link or a device; a bundle has plain files only")
    bounded(len(found), sum(p.stat().st_size for p in found))
    for path in found:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def unzip(source: Path, target: Path) -> None:
    """A zip file, plain files inside `target` only. Raises BundleError."""
    try:
        with zipfile.ZipFile(source) as archive:
            entries = [e for e in archive.infolist() if not e.is_dir()]
            bounded(len(entries), sum(e.file_size for e in entries))
            for entry in entries:
                place = (target / entry.filename).resolve()
                if not place.is_relative_to(target.resolve()) or stat.S_ISLNK(entry.external_attr >> 16):
                    raise BundleError(f"{entry.filename!r} would lie outside the bundle, or is a link")
                place.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as f, place.open("xb") as out:
                    shutil.copyfileobj(f, out)  # zipfile stops at the stated size
    except (OSError, EOFError, zipfile.BadZipFile, RuntimeError, lzma.LZMAError, zlib.error) as e:
        raise BundleError(f"{source.name} cannot be unpacked: {line(e, 200)}") from e


def top_level(files: Path) -> None:
    """A zip often holds one folder with the bundle in it: that folder becomes the bundle."""
    inside = list(files.iterdir()) if files.is_dir() else []
    if len(inside) == 1 and ((inside[0] / "configs").is_dir() or nnunet.is_folder(inside[0])):
        moved = files.with_name("moved")
        inside[0].rename(moved)
        files.rmdir()
        moved.rename(files)


def bounded(count: int, size: int) -> None:
    if count > MOST_FILES or size > MOST_BYTES:
        raise BundleError(f"{count} files of {size >> 20} MiB in all: too many or too large")


def lock(folder: Path) -> None:
    """Read-only, for everyone."""
    for path in folder.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    folder.chmod(0o555)
