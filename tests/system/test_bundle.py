"""MONAI bundles in a running node: a rule names them, a study arrives by C-STORE, segmentations go out."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from support.bundles import THRESHOLD_HU, bundle, segresnet
from support.dcmtk import storescu
from support.node_process import TestNode
from support.overlap import dice, segments
from support.studies import Sample, small_chest

from radnode.states import JobState
from radnode.tables import ResultRow, RouteRow
from radnode_inference.load import load
from radnode_inference.study import Study

pytestmark = pytest.mark.system

RULE = {
    "name": "tissue",
    "models": ["tissue", "liver-ct"],
    "when": [{"attribute": "Modality", "test": "equals", "values": ["CT"]}],
}


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestNode, Sample]]:
    folder = tmp_path_factory.mktemp("bundles")
    made = bundle(folder / "tissue"), segresnet(folder / "liver-ct")
    with TestNode(folder, rules=[RULE]) as node:
        for one in made:
            added = node.run("bundles", "add", str(one))
            assert added.returncode == 0, added.stderr
        sample = small_chest(folder / "chest", seed=6)
        storescu(node.receive_port, sample.files)
        jobs = node.wait_until_read(sample.study_uid, seconds=240)
        assert {j.model: j.state for j in jobs} == {"tissue": JobState.DONE, "liver-ct": JobState.DONE}, [
            j.reason for j in jobs
        ]
        yield node, sample


def segmentation(node: TestNode, sample: Sample, model: str) -> pydicom.Dataset:
    rows = node.rows(ResultRow, study_uid=sample.study_uid, model=model, current=True)
    return next(
        ds for r in rows if r.kind == "seg" for ds in [pydicom.dcmread(BytesIO((node.data / r.file).read_bytes()))]
    )


def test_the_segmentation_lies_where_the_bundle_saw_it(read: tuple[TestNode, Sample]) -> None:
    node, sample = read
    found = segments(segmentation(node, sample, "tissue"))
    study = Study.from_files(sample.files)
    volume = load(study.series[0].headers, study.series[0].series_uid)
    truth: np.ndarray = volume.voxels > THRESHOLD_HU
    assert dice(found[0].points, found[0].voxel_mm3, truth, volume.affine) > 0.95


def test_the_objects_name_the_bundle_its_version_and_its_pins(read: tuple[TestNode, Sample]) -> None:
    node, sample = read
    for model in ("tissue", "liver-ct"):
        ds = segmentation(node, sample, model)
        said = str(ds)
        assert model in said
        assert "0.3.1" in said
    listed = node.run("bundles", "list").stdout
    assert listed.count("as they were added") == 2


def test_the_rule_is_the_reason_and_the_page_lists_the_bundles(read: tuple[TestNode, Sample]) -> None:
    node, sample = read
    routes = {r.model: r for r in node.rows(RouteRow, study_uid=sample.study_uid)}
    assert routes["tissue"].chosen
    assert "rule tissue" in routes["tissue"].reason
    assert "MONAI bundle" in node.http.get("/models").text


def test_a_bundle_that_was_removed_is_no_model_any_more(read: tuple[TestNode, Sample], tmp_path: Path) -> None:
    node, _ = read
    assert node.run("bundles", "remove", "liver-ct").returncode == 0
    assert "liver-ct" not in node.run("models").stdout
    missing = node.run("bundles", "remove", "liver-ct")
    assert missing.returncode != 0
    assert "no bundle 'liver-ct'" in missing.stderr
