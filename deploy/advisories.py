"""The locked packages held against a folder of advisories, where no service of advisories can be reached.

python deploy/advisories.py LOCKED.txt FOLDER EXPLAINED.yaml

FOLDER: a copy of the PyPA advisory database, or any folder of files in the OSV format (YAML or JSON). EXPLAINED.yaml says
why an advisory that applies to a locked version does not reach radnode. Exit codes are those of audit.py: 0 clean or
explained, 1 weaknesses, 3 not audited, also where a file cannot be read or the newest entry is older than `FRESH`:
advisories say nothing about what became known after them.
Source: the OSV schema, "Evaluation" (https://ossf.github.io/osv-schema/#evaluation).
"""

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

CLEAN, WEAK, NOT_AUDITED = 0, 1, 3
FRESH = timedelta(days=30)
ORDER = ("fixed", "introduced", "last_affected")  # of events at the same version


@dataclass(frozen=True, kw_only=True)
class Advisory:
    """One file. affected: OSV's entries by normalised names of PyPI's packages."""

    id: str
    aliases: tuple[str, ...]
    newest: date
    withdrawn: bool
    affected: tuple[tuple[str, dict[str, Any]], ...]


@dataclass(frozen=True, kw_only=True)
class Found:
    """An advisory that applies to a locked version. which: the versions that it names, for people."""

    package: str
    version: str
    advisory: Advisory
    which: str

    def names(self) -> set[str]:
        return {self.advisory.id, *self.advisory.aliases}


def locked(text: str) -> dict[str, str]:
    """Versions by normalised names. Raises ValueError where a line pins nothing."""
    found: dict[str, str] = {}
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        name, pinned, version = line.partition("==")
        if not pinned:
            raise ValueError(f"{line} is not pinned")
        found[canonicalize_name(name.strip())] = str(Version(version.strip()))
    return found


def load(file: Path) -> Any:
    """As strings: as numbers, versions such as 1.10 would lose their end."""
    text = file.read_text("utf-8")
    return json.loads(text) if file.suffix == ".json" else yaml.load(text, Loader=yaml.CBaseLoader)  # noqa: S506  makes strings, lists and mappings only


def advisory(said: dict[str, Any]) -> Advisory:
    """Raises KeyError, TypeError, ValueError or AttributeError where it is none."""
    affected = [a for a in said["affected"] if a["package"]["ecosystem"].partition(":")[0] == "PyPI"]
    dates = [said["modified"], *filter(None, [said.get("published")])]
    return Advisory(
        id=str(said["id"]),
        aliases=tuple(said.get("aliases") or ()),
        newest=max(date.fromisoformat(d[:10]) for d in dates),
        withdrawn=bool(said.get("withdrawn")),
        affected=tuple((canonicalize_name(a["package"]["name"]), a) for a in affected),
    )


def read(folder: Path) -> tuple[list[Advisory], list[str]]:
    """All advisories, and a sentence for each file that could not be read as one."""
    root = folder / "vulns" if (folder / "vulns").is_dir() else folder
    found, broken = [], []
    for file in sorted(f for f in root.rglob("*") if f.suffix in (".yaml", ".yml", ".json")):
        try:
            found.append(advisory(load(file)))
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as e:
            broken.append(f"{file.relative_to(root)} cannot be read as an advisory ({type(e).__name__})")
    return found, broken


def bound(text: str) -> Version:
    """Of an event. Raises InvalidVersion or TypeError. "2.6.0-cu124" and "2.7.1-NA" stand in real files and mean the release."""
    build = re.fullmatch(r"(\d+(?:\.\d+)*)-[A-Za-z]\w*", text)
    return Version("0.dev0" if text == "0" else build[1] if build else text)


def within(events: list[dict[str, str]], version: Version) -> bool:
    """Whether one range holds the version. Raises ValueError, TypeError or AttributeError where nobody knows the events."""
    flat = [(bound(v), ORDER.index(k), k) for event in events for k, v in event.items()]
    if not any(kind == "introduced" for *_, kind in flat):
        raise ValueError("it begins nowhere")
    hit = False
    for at, _, kind in sorted(flat):
        if kind == "introduced" and version >= at:
            hit = True
        elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
            hit = False
    return hit


def in_words(events: list[dict[str, str]]) -> str:
    """One range, for people."""
    words = {"introduced": "from", "fixed": "repaired in", "last_affected": "up to"}
    said = [f"{words[k]} {v}" for event in events for k, v in event.items()]
    return ", ".join(said if len(said) > 1 else [*said, "repaired in no version"])


def applies(affected: dict[str, Any], version: str) -> str | None:
    """Which versions an entry names, if this one is among them. What cannot be decided counts as applying."""
    own = Version(Version(version).public)  # 2.13.0+cpu is no later than 2.13.0
    ranges = [r for r in affected.get("ranges") or () if r.get("type") != "GIT"]
    listed = affected.get("versions") or ()
    if not ranges and not listed:
        return "no version is named, so any may be affected"
    try:
        for one in ranges:
            if one["type"] not in ("ECOSYSTEM", "SEMVER"):
                raise ValueError(one["type"])
            if within(one["events"], own):
                return in_words(one["events"])
        return "it is in the list of affected versions" if any(same(v, own) for v in listed) else None
    except (ValueError, KeyError, TypeError, AttributeError) as e:  # InvalidVersion is a ValueError
        return f"its versions cannot be understood ({type(e).__name__}: {e})"


def same(listed: str, version: Version) -> bool:
    """Versions from before PEP 440 are in some lists; no locked one is written like them."""
    try:
        return Version(listed) == version
    except InvalidVersion:
        return False


def search(packages: dict[str, str], advisories: Iterable[Advisory]) -> list[Found]:
    """What applies, each advisory once for a package."""
    found: dict[tuple[str, str], Found] = {}
    for one in advisories:
        for name, affected in () if one.withdrawn else one.affected:
            if name in packages and (which := applies(affected, packages[name])):
                found.setdefault((name, one.id), Found(package=name, version=packages[name], advisory=one, which=which))
    return [found[key] for key in sorted(found)]


def reason(found: Found, explained: dict[str, Any]) -> str | None:
    """Why it does not reach radnode: said of this very version, so that the next is thought about again."""
    for name in sorted(found.names() & explained.keys()):
        if explained[name]["locked"] == f"{found.package}=={found.version}":
            return str(explained[name]["why"])
    return None


def judge(
    packages: dict[str, str], advisories: list[Advisory], broken: list[str], explained: dict[str, Any], today: date
) -> tuple[int, list[str]]:
    """The exit code and the sentences."""
    found = [(f, reason(f, explained)) for f in search(packages, advisories)]
    said = [
        f"{f.package} {f.version}: {f.advisory.id}{f' ({a})' if (a := ', '.join(f.advisory.aliases)) else ''}: {f.which}; "
        f"{f'explained: {why}' if why else 'NOT EXPLAINED'}"
        for f, why in found
    ]
    idle = explained.keys() - {name for f, why in found if why for name in f.names()}
    said += [
        f"{name} is explained in vain: no advisory of that name applies to a locked version." for name in sorted(idle)
    ]
    newest = max((a.newest for a in advisories), default=None)
    known = len(packages.keys() & {name for a in advisories for name, _ in a.affected})
    open_ = sum(not why for _, why in found)
    said.append(
        f"{len(packages)} packages were held against {len(advisories)} advisories, which name {known} of them; the newest is of "
        f"{newest or 'no day'}. {len(found)} weaknesses are known, {len(found) - open_} of them explained."
    )
    doubts = [*broken, *([] if known else ["no advisory in the folder names any of the packages"])]
    if newest and today - newest > FRESH:
        doubts.append(
            f"the newest advisory is {(today - newest).days} days old, and nothing is known about what came after it"
        )
    said += [f"NOT AUDITED: {doubt}." for doubt in doubts]
    return (WEAK if open_ else NOT_AUDITED if doubts or not packages else CLEAN), said


if __name__ == "__main__":
    pinned, folder, reasons = (Path(a) for a in sys.argv[1:])
    today = datetime.now(UTC).date()
    code, sentences = judge(locked(pinned.read_text()), *read(folder), load(reasons) or {}, today)
    print("\n".join(sentences))  # noqa: T201  this is what the command is for
    sys.exit(code)
