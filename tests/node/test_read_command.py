import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.findings import findings, scene

from radnode.cli import cli
from radnode_dicom_sr import Profile, build


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of each kind that a result has."""
    folder = tmp_path_factory.mktemp("read")
    made = scene(folder / "study")
    found = {}
    for o in build(findings(made), made.study, profile=Profile(pdf=True)):
        found.setdefault(o.kind, folder / f"{o.kind}.dcm").write_bytes(o.body)
    return found


def read(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["read", *map(str, arguments)])


def tracking(document: dict[str, Sequence[dict[str, str]]]) -> set[str]:
    return {f["tracking_uid"] for f in document["findings"]}


def test_our_report_and_segmentation_say_the_same_findings(written: dict[str, Path]) -> None:
    done = read(written["sr"], written["seg"], "--json")
    assert done.exit_code == 0, done.output
    report, segmentation = json.loads(done.stdout)
    assert (report["kind"], segmentation["kind"]) == ("sr", "seg")
    assert tracking(report) == tracking(segmentation) and len(tracking(report)) == 3
    assert not report["verified"]


def test_the_table_has_a_line_for_each_finding(written: dict[str, Path]) -> None:
    done = read(written["sr"])
    assert done.exit_code == 0
    for words in ("Imaging Measurement Report, not verified", "nodule-1", "nodule-2", "Left Lung", "Volume"):
        assert words in done.stdout, done.stdout


def test_what_is_no_report_is_named_and_the_others_are_read(written: dict[str, Path], tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no DICOM")
    done = read(text, written["pdf"], tmp_path / "absent.dcm", written["sr"])
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert lines[0] == f"radnode: {text}: this is not a DICOM file"
    assert "neither a structured report nor a segmentation" in lines[1]
    assert lines[2].endswith("absent.dcm: No such file or directory")
    assert len(lines) == 3
    assert "nodule-1" in done.stdout


def test_without_a_file_the_usage_is_shown() -> None:
    assert read().exit_code == 2
