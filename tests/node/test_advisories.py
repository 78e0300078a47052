"""The locked packages against a folder of advisories: what applies, what is explained, and what nobody can know."""

import importlib.util
import json
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TODAY = date(2024, 10, 20)

# As the PyPA advisory database has it (its PYSEC-2023-192, shortened), its versions with and without quotes.
FILE = """
id: PYSEC-2023-192
modified: 2023-10-10T14:28:19.389317Z
published: 2023-10-04T17:15:00Z
aliases:
- CVE-2023-43804
- GHSA-v845-jxx5-vc9f
details: A `Cookie` header is sent on after a redirect to another origin.
affected:
- package:
    ecosystem: PyPI
    name: urllib3
    purl: pkg:pypi/urllib3
  ranges:
  - type: GIT
    events:
    - introduced: "0"
    - fixed: 644124ecd0b6e417c527191f866daa05a5a2056d
    repo: https://github.com/urllib3/urllib3
  - type: ECOSYSTEM
    events:
    - introduced: 2.0.0
    - fixed: 2.0.6
    - introduced: "0"
    - fixed: 1.26.17
  versions:
  - "0.2"
  - 1.26.16
  - 1.10
"""


@pytest.fixture(scope="module")
def advisories() -> ModuleType:
    spec = importlib.util.spec_from_file_location("advisories_of_deploy", ROOT / "deploy" / "advisories.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def entry(**affected: Any) -> dict[str, Any]:
    """An advisory of the package "some.Thing" as a file would hold it."""
    package = {"ecosystem": "PyPI", "name": "some.Thing"}
    return {
        "id": "PYSEC-2024-1",
        "aliases": ["CVE-2024-1"],
        "modified": "2024-10-08T19:19:01.400873Z",
        "affected": [{"package": package} | affected],
    }


def ecosystem(*events: dict[str, str]) -> dict[str, Any]:
    return {"ranges": [{"type": "ECOSYSTEM", "events": list(events)}]}


def folder(path: Path, *said: dict[str, Any] | str) -> Path:
    """A checkout: its own files beside vulns/, and there a folder for each package."""
    (path / "vulns" / "some-thing").mkdir(parents=True)
    (path / "ci.yaml").write_text("on: push")
    for n, one in enumerate(said):
        text = one if isinstance(one, str) else yaml.safe_dump(one, sort_keys=False)
        (path / "vulns" / "some-thing" / f"PYSEC-2024-{n}.yaml").write_text(text)
    return path


def judged(
    module: ModuleType, path: Path, version: str, explained: dict[str, Any] | None = None, today: date = TODAY
) -> tuple[int, str]:
    code, said = module.judge(module.locked(f"Some_Thing=={version}"), *module.read(path), explained or {}, today)
    return code, "\n".join(said)


@pytest.mark.parametrize(
    ("affected", "version", "code"),
    [
        (ecosystem({"introduced": "0"}, {"fixed": "1.10"}), "1.9.9", 1),
        (ecosystem({"introduced": "0"}, {"fixed": "1.10"}), "1.10", 0),
        (ecosystem({"introduced": "0"}, {"fixed": "1.10"}), "1.10rc1", 1),
        (ecosystem({"introduced": "1.2"}, {"fixed": "1.10"}), "1.1", 0),
        (ecosystem({"introduced": "0"}), "99.0", 1),
        (ecosystem({"introduced": "0"}, {"last_affected": "2.13.0"}), "2.13.0", 1),
        (ecosystem({"introduced": "0"}, {"last_affected": "2.13.0"}), "2.13.0+cpu", 1),
        (ecosystem({"introduced": "0"}, {"last_affected": "2.13.0"}), "2.13.1", 0),
        (ecosystem({"introduced": "0"}, {"last_affected": "2.6.0-cu124"}), "2.13.0", 0),
        (ecosystem({"introduced": "0"}, {"last_affected": "2.7.1-NA"}), "2.7.1+cpu", 1),
        ({"versions": ["ciflow/trunk/1", "v2.6.0", "2.6.0-rc9"]}, "2.13.0", 0),
        (ecosystem({"last_affected": "2.0"}, {"introduced": "2.0"}), "2.1", 0),
        (ecosystem({"introduced": "2.0"}, {"fixed": "2.6"}, {"introduced": "0"}, {"fixed": "1.26"}), "1.30", 0),
        (ecosystem({"introduced": "2.0"}, {"fixed": "2.6"}, {"introduced": "0"}, {"fixed": "1.26"}), "2.5", 1),
        (ecosystem({"introduced": "2.0"}, {"fixed": "2.6"}, {"introduced": "0"}, {"fixed": "1.26"}), "1.25", 1),
        ({"versions": ["1.0", "1.10", "2004d"]}, "1.1", 0),
        ({"versions": ["1.0", "1.10", "2004d"]}, "1.10.0", 1),
        ({**ecosystem({"introduced": "3.0"}), "versions": ["1.0"]}, "1.0", 1),
        ({"ranges": [{"type": "GIT", "events": [{"introduced": "0"}, {"fixed": "644124e"}]}], "versions": ["1.0"]}, "2.0", 0),
        ({"ranges": [{"type": "GIT", "events": [{"introduced": "0"}, {"fixed": "644124e"}]}]}, "2.0", 1),
        (ecosystem({"introduced": "0"}, {"limit": "2.0"}), "3.0", 1),
        (ecosystem({"introduced": "2004d"}), "3.0", 1),
    ],
)  # fmt: skip
def test_a_locked_version_is_held_against_ranges_and_lists_as_osv_says(
    advisories: ModuleType, tmp_path: Path, affected: dict[str, Any], version: str, code: int
) -> None:
    got, said = judged(advisories, folder(tmp_path, entry(**affected)), version)
    assert (got, "NOT EXPLAINED" in said) == (code, code == 1), said


@pytest.mark.parametrize(
    ("version", "code"), [("1.26.16", 1), ("1.26.17", 0), ("2.0.5", 1), ("1.10.0", 1), ("2.8.0", 0)]
)
def test_a_file_of_the_pypa_database_is_read(advisories: ModuleType, tmp_path: Path, version: str, code: int) -> None:
    found = advisories.read(folder(tmp_path, FILE))
    got, said = advisories.judge({"urllib3": version}, *found, {}, date(2023, 10, 11))
    assert got == code
    assert said[-1].startswith(
        "1 packages were held against 1 advisories, which name 1 of them; the newest is of 2023-10-10."
    )
    if code:
        assert (
            f"urllib3 {version}: PYSEC-2023-192 (CVE-2023-43804, GHSA-v845-jxx5-vc9f): from 2.0.0, repaired in 2.0.6"
            in said[0]
        )


def test_what_no_version_repairs_is_said_in_words(advisories: ModuleType, tmp_path: Path) -> None:
    _, said = judged(advisories, folder(tmp_path, entry(**ecosystem({"introduced": "0"}))), "5.0")
    assert "some-thing 5.0: PYSEC-2024-1 (CVE-2024-1): from 0, repaired in no version; NOT EXPLAINED" in said


def test_an_advisory_that_was_withdrawn_applies_to_nothing(advisories: ModuleType, tmp_path: Path) -> None:
    said = {**entry(**ecosystem({"introduced": "0"})), "withdrawn": "2024-10-09T00:00:00Z"}
    code, text = judged(advisories, folder(tmp_path, said), "1.0")
    assert (code, "against 1 advisories, which name 1 of them" in text) == (0, True), text


@pytest.mark.parametrize(
    "broken",
    [
        "id: [PYSEC-2024-1\naffected: {",
        "- a list\n- of things",
        "",
        yaml.safe_dump({k: v for k, v in entry().items() if k != "affected"}),  # the shape of before 2021, "affects"
        yaml.safe_dump({**entry(), "modified": "yesterday"}),
        yaml.safe_dump({**entry(), "affected": [{"ranges": []}]}),
    ],
)
def test_a_file_that_cannot_be_read_is_never_taken_for_no_weakness(
    advisories: ModuleType, tmp_path: Path, broken: str
) -> None:
    code, said = judged(advisories, folder(tmp_path, entry(versions=["9"]), broken), "1.0")
    assert (code, "NOT AUDITED: some-thing/PYSEC-2024-1.yaml cannot be read as an advisory" in said) == (3, True), said


@pytest.mark.parametrize(
    "event", [{"introduced": None}, "0", {"introduced": ["0"]}, {"limit": "2.0"}, None, {"fixed": "0.9"}]
)
def test_a_range_that_nobody_understands_counts_as_applying(advisories: ModuleType, tmp_path: Path, event: Any) -> None:
    code, said = judged(advisories, folder(tmp_path, entry(**ecosystem(event))), "1.0")
    assert (code, "its versions cannot be understood" in said) == (1, True), said


@pytest.mark.parametrize(
    "files",
    [
        [],
        [entry(package={"ecosystem": "npm", "name": "some.Thing"}, **ecosystem({"introduced": "0"}))],
        [entry(package={"ecosystem": "PyPI", "name": "other"}, **ecosystem({"introduced": "0"}))],
    ],
)
def test_a_folder_that_knows_none_of_the_packages_audits_nothing(
    advisories: ModuleType, tmp_path: Path, files: list[dict[str, Any]]
) -> None:
    code, said = judged(advisories, folder(tmp_path, *files), "1.0")
    assert (code, "NOT AUDITED: no advisory in the folder names any of the packages." in said) == (3, True), said
    assert "0 weaknesses are known" in said
    assert judged(advisories, tmp_path / "absent", "1.0")[0] == 3


def test_old_advisories_audit_nothing_that_came_after_them(advisories: ModuleType, tmp_path: Path) -> None:
    path = folder(tmp_path, entry(versions=["9"]))
    assert judged(advisories, path, "1.0", today=date(2024, 11, 7))[0] == 0
    code, said = judged(advisories, path, "1.0", today=date(2024, 11, 8))
    assert (code, "NOT AUDITED: the newest advisory is 31 days old" in said) == (3, True), said


def test_an_explanation_counts_for_the_version_that_was_thought_about(advisories: ModuleType, tmp_path: Path) -> None:
    path = folder(tmp_path, entry(**ecosystem({"introduced": "0"})))
    explained = {"CVE-2024-1": {"locked": "some-thing==1.0", "why": "radnode never calls it"}}
    code, said = judged(advisories, path, "1.0", explained)
    assert (code, "explained: radnode never calls it" in said, "1 of them explained." in said) == (0, True, True), said
    code, said = judged(advisories, path, "1.1", explained)
    assert (code, "CVE-2024-1 is explained in vain" in said) == (1, True), said


def test_a_line_that_pins_nothing_is_refused(advisories: ModuleType) -> None:
    with pytest.raises(ValueError, match="pydicom>=3 is not pinned"):
        advisories.locked("numpy==2.4.6\npydicom>=3\n")


def test_the_command_tells_it_with_the_exit_codes_of_the_audit(tmp_path: Path) -> None:
    pinned = tmp_path / "locked.txt"
    pinned.write_text("some-thing==1.0\n")
    now = {**entry(**ecosystem({"introduced": "0"})), "modified": datetime.now(UTC).isoformat()}
    path = folder(tmp_path / "database")
    (path / "vulns" / "GHSA-1.json").write_text(json.dumps(now))
    command = [sys.executable, ROOT / "deploy" / "advisories.py", pinned, path, ROOT / "deploy" / "advisories.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "NOT EXPLAINED" in done.stdout, done.stderr) == (1, True, ""), done.stdout


@pytest.mark.parametrize(("given", "asked"), [(["ADVISORIES=some folder"], False), ([], True)])
def test_make_audit_asks_the_network_only_without_a_folder(given: list[str], asked: bool) -> None:
    done = subprocess.run(["make", "--dry-run", "audit", *given], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ("pip-audit" in done.stdout, '"some folder" deploy/advisories.yaml' in done.stdout) == (asked, not asked)


def test_each_explanation_is_of_a_version_that_is_locked(advisories: ModuleType) -> None:
    packages = advisories.locked((ROOT / "requirements.lock").read_text())
    explained = yaml.safe_load((ROOT / "deploy" / "advisories.yaml").read_text())
    for name, said in explained.items():
        package, _, version = said["locked"].partition("==")
        assert packages[package] == version, name
        assert len(said["why"]) > 40, name
