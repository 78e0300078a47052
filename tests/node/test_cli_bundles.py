"""`radnode bundles add` with gates: kept, shown, and refused where they are none."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from support.bundles import bundle

from radnode.cli import cli


def test_gates_are_given_as_a_card_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADNODE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RADNODE_WEIGHTS", str(tmp_path / "weights"))
    made = str(bundle(tmp_path / "tissue"))
    for wrong, why in (("region", "not added: "), ("regions=['HEAD']", "not added: the gates: ")):
        refused = CliRunner().invoke(cli, ["bundles", "add", made, "--gate", wrong])
        assert refused.exit_code == 1 and why in refused.output, refused.output
    asked = ["--gate", "region=['ABDOM', 'SPLEEN']", "--gate", "slice_mm=[0.5, 5]"]
    added = CliRunner().invoke(cli, ["bundles", "add", made, *asked])
    assert added.exit_code == 0, added.output
    told = "region: ABDOM or SPLEEN; slices (mm): 0.5 to 5"
    assert f"  gates        {told}\n" in added.output
    assert f"  gates        {told}\n" in CliRunner().invoke(cli, ["models", "tissue"]).output
