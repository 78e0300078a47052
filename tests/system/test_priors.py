"""Two studies of one patient through the real node: the second's result names the first and what changed."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from support.node_process import TestNode
from support.sending import PatientSender
from support.studies import small_chest

from radnode.states import JobState
from radnode.tables import JobRow, ResultRow

pytestmark = pytest.mark.system
LARGER = 1.05
"""By this factor the second study's pixels are larger: its lungs hold a tenth more."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    with TestNode(tmp_path_factory.mktemp("priors")) as node:
        yield node


def dated(folder: Path, files: Sequence[Path], study_uid: str, day: str, scale: float = 1.0) -> list[Path]:
    """Copies of a study's images as those of another day."""
    folder.mkdir()
    made = []
    for file in files:
        ds = pydicom.dcmread(file)
        ds.StudyInstanceUID, ds.StudyDate, ds.AccessionNumber = study_uid, day, day
        for keyword in ("SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
            setattr(ds, keyword, f"{str(ds[keyword].value)[:50]}.{day}")
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.PixelSpacing = [scale * float(v) for v in ds.PixelSpacing]
        made.append(folder / file.name)
        ds.save_as(made[-1])
    return made


def test_the_second_study_of_a_patient_is_compared_with_the_first(node: TestNode, tmp_path: Path) -> None:
    sample = small_chest(tmp_path / "chest", seed=8, nodules=False)
    first, second = f"{sample.study_uid[:50]}.1", f"{sample.study_uid[:50]}.2"
    sender = PatientSender(lambda: node.receive_port)
    sender.send(dated(tmp_path / "1", sample.files, first, "20250110"))
    node.wait_until_read(first, seconds=240)
    assert "no earlier study of this patient was at hand in full" in node.http.get(f"/studies/{first}").text

    sender.send(dated(tmp_path / "2", sample.files, second, "20260110", LARGER))
    node.wait_until_read(second, seconds=240)
    (job,) = [j for j in node.rows(JobRow, study_uid=second) if j.model == "ct-lung"]
    assert job.state == JobState.DONE, node.story(second)
    page = node.http.get(f"/studies/{second}").text
    assert f"Compared with the study of 2025-01-10 ({first}), read anew by the same model." in page
    assert "right-lung: Volume" in page and "(+10 %)" in page
    reports_hold_the_earlier_numbers(node, first, second)
    assert {r.current for r in node.rows(ResultRow, study_uid=first)} == {True}  # nothing about the first has changed


def reports_hold_the_earlier_numbers(node: TestNode, first: str, second: str) -> None:
    """Each lung's measurement group of the first study's date stands in the second's SR beside today's (TID 1500)."""
    rows = [r for r in node.rows(ResultRow, study_uid=second) if r.kind == "sr" and r.model == "ct-lung"]
    texts = [pydicom.dcmread(BytesIO((node.data / r.file).read_bytes())).to_json() for r in rows]
    assert any(first in text and "20250110" in text for text in texts)
