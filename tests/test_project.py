"""Rules of the project that no tool checks by itself (docs/decisions.md says why each stands)."""

import os
import re
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from radnode import settings
from radnode.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
SOURCE_ROOTS = ("node", "inference", "dicom_sr", "fhir")
MODULES = sorted(p for root in SOURCE_ROOTS for p in (ROOT / root).rglob("*.py"))
MODULE_LINES = 350


def tracked(*patterns: str) -> list[Path]:
    """The files under version control that match."""
    found = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.fail(f"git cannot list the files: {found.stderr}")
    return [ROOT / name for name in found.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_there_are_modules_to_judge() -> None:
    assert len(MODULES) > 40


def test_no_module_is_longer_than_350_lines() -> None:
    lines = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in MODULES}
    assert {name: count for name, count in lines.items() if count > MODULE_LINES} == {}


def test_the_source_roots_hold_one_package_each_and_are_none_themselves() -> None:
    """`fhir.resources` brings a package `fhir`; a package of ours with that name would hide it."""
    for root in SOURCE_ROOTS:
        assert not (ROOT / root / "__init__.py").exists(), root
        packages = [p.name for p in (ROOT / root).iterdir() if p.is_dir() and list(p.glob("*.py"))]
        assert len(packages) == 1 and packages[0].startswith("radnode"), (root, packages)


def test_every_folder_of_modules_is_a_package() -> None:
    bare = {p.parent for p in MODULES if not (p.parent / "__init__.py").exists()}
    assert {str(p.relative_to(ROOT)) for p in bare if p.name != "versions"} == set()


def test_tests_are_not_a_package() -> None:
    assert [str(p) for p in (ROOT / "tests").rglob("__init__.py")] == []


def test_no_module_is_named_after_the_standard_library() -> None:
    assert [str(p.relative_to(ROOT)) for p in MODULES if p.stem in sys.stdlib_module_names] == []


def test_no_file_names_a_path_of_a_developers_machine_or_a_registry_host() -> None:
    forbidden = re.compile(
        r"(?:^|[^A-Za-z0-9_.])/(?:wor[k]|far[m]|roo[t]|hom[e]/[a-z])/"
        r"|pypi\.or[g]/simple|registry\.npmj[s]|files\.pythonhoste[d]|deb\.debia[n]\.org|download\.pytorc[h]\.org",
        re.MULTILINE,
    )
    guilty = {}
    for file in tracked("*"):
        try:
            found = forbidden.search(file.read_text())
        except UnicodeDecodeError:
            continue
        if found:
            guilty[str(file.relative_to(ROOT))] = found.group()
    assert guilty == {}


def test_every_dependency_is_locked() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert listed
    wanted = {normal(n) for n in re.findall(r'^\s*"([A-Za-z0-9_.-]+)', listed.group(1), re.MULTILINE)}
    locked = {normal(line.split("==")[0]) for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert wanted - locked == {"torch"}  # the Makefile pins and installs it first, for the CPU


def test_the_lock_pins_every_package_to_one_version() -> None:
    lines = (ROOT / "requirements.lock").read_text().split()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.+!]*", line)] == []
    assert len({normal(line.split("==")[0]) for line in lines}) == len(lines)


def test_every_locked_package_is_one_for_the_oldest_python_that_we_name() -> None:
    """Debian 12 has 3.11.2, and our own Python may be a later one."""
    text = (ROOT / "pyproject.toml").read_text()
    oldest = re.search(r'^requires-python = ">=([0-9.]+)"', text, re.MULTILINE)
    assert oldest
    wants = {
        line: metadata(line.split("==")[0])["Requires-Python"] or ""
        for line in (ROOT / "requirements.lock").read_text().split()
    }
    assert {line: want for line, want in wants.items() if oldest.group(1) not in SpecifierSet(want)} == {}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_example_settings_are_valid_and_name_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    example = ROOT / "deploy" / "radnode.toml"
    for name in [n for n in os.environ if n.startswith("RADNODE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RADNODE_CONFIG", str(example))
    assert Settings() == Settings.model_validate(Settings.model_construct().model_dump())
    written = re.findall(r"^(?:# )?(?:\[+|(?:  )*\{ )?(\w+)(?:\]+$| = )|, (\w+) = ", example.read_text(), re.MULTILINE)
    missing = sorted(set(every_key(Settings)) - {a or b for a, b in written})
    assert missing == []


def every_key(model: type) -> list[str]:
    """Every key of the settings as the file writes it: plain ones by name, sections as `receive` and their keys."""
    keys: list[str] = []
    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        keys.append(name)
        inner = getattr(field.annotation, "model_fields", None)
        if inner is not None:
            keys.extend(inner)
    for listed in (
        settings.Peer,
        settings.Destination,
        settings.Rule,
        settings.Condition,
        settings.TriageRule,
        settings.RetentionRule,
    ):
        keys.extend(listed.model_fields)
    return keys
