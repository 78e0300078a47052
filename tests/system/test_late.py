"""Late images amend a study's results; the node's own results, coming back from the PACS, do not."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from support.node_process import TestNode, to_orthanc
from support.orthanc import Orthanc
from support.sending import PatientSender
from support.studies import Sample, small_breast

from radnode.states import JobState, StudyState
from radnode.tables import EventRow, InstanceRow, JobRow, ReportRow, ResultRow

pytestmark = pytest.mark.system


@dataclass(frozen=True, kw_only=True)
class Here:
    node: TestNode
    pacs: Orthanc


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("late")
    with Orthanc(folder / "orthanc") as pacs, TestNode(folder, destinations=[to_orthanc(pacs)]) as node:
        pacs.know_node(node.receive_port)
        yield Here(node=node, pacs=pacs)


def phases(sample: Sample) -> list[list[Path]]:
    """The files of each series, in the order of the series' numbers."""
    by_series: dict[tuple[int, str], list[Path]] = {}
    for file in sample.files:
        header = pydicom.dcmread(file, specific_tags=["SeriesNumber", "SeriesInstanceUID", "AcquisitionNumber"])
        key = (int(header.SeriesNumber), str(header.SeriesInstanceUID))
        by_series.setdefault(key, []).append(file)
    return [by_series[key] for key in sorted(by_series)]


def test_late_images_make_an_amended_result_that_supersedes_the_first(here: Here, tmp_path: Path) -> None:
    sample = small_breast(tmp_path, seed=11, phases=7)
    *early, last = phases(sample)
    assert early, "the study has one series only: nothing can be late"
    sender = PatientSender(lambda: here.node.receive_port)
    sender.send([file for series in early for file in series])
    assert JobState.DONE in {j.state for j in here.node.wait_until_read(sample.study_uid)}, here.node.story(
        sample.study_uid
    )
    here.node.wait_until_delivered(sample.study_uid)
    first = {r.uid for r in here.node.rows(ResultRow, study_uid=sample.study_uid, current=True)}
    assert {r.status for r in here.node.rows(ReportRow, study_uid=sample.study_uid)} == {"preliminary"}

    sender.send(last)
    jobs = here.node.wait_until_read(sample.study_uid, revision=2)
    assert JobState.DONE in {j.state for j in jobs}, here.node.story(sample.study_uid)
    here.node.wait_until_delivered(sample.study_uid)
    second = {r.uid for r in here.node.rows(ResultRow, study_uid=sample.study_uid, current=True)}
    assert second and not first & second
    assert {r.status for r in here.node.rows(ReportRow, study_uid=sample.study_uid)} == {"amended"}
    assert "amended" in here.node.http.get(f"/studies/{sample.study_uid}").text.lower()
    names_its_predecessor(here, sample.study_uid, first, second)


def names_its_predecessor(here: Here, study_uid: str, first: set[str], second: set[str]) -> None:
    """The new SR says which document it replaces (PS3.3 C.17.2, Predecessor Documents Sequence)."""
    files = here.pacs.files(study_uid)
    reports = [pydicom.dcmread(BytesIO(file)) for uid, file in files.items() if uid in second]
    named = {
        str(instance.ReferencedSOPInstanceUID)
        for report in reports
        if report.Modality == "SR"
        for study in report.PredecessorDocumentsSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert named and named <= first


def test_results_that_come_back_from_the_pacs_do_not_reopen_the_study(here: Here, tmp_path: Path) -> None:
    sample = small_breast(tmp_path, seed=36)
    sender = PatientSender(lambda: here.node.receive_port)
    sender.send(sample.files)
    here.node.wait_until_read(sample.study_uid)
    here.node.wait_until_delivered(sample.study_uid)
    results = here.pacs.files(sample.study_uid)
    here.pacs.send_to_node(sample.study_uid)  # a PACS that forwards everything, our results among it

    def taken_in() -> bool:
        rows = here.node.rows(InstanceRow, study_uid=sample.study_uid)
        return len(rows) == len(sample.files) + len(results) and all(r.settled for r in rows)

    here.node.wait("the results to be taken in", taken_in, study_uid=sample.study_uid)
    row = here.node.study(sample.study_uid)
    assert row is not None
    assert (row.state, row.revision) == (StudyState.READ, 1), here.node.story(sample.study_uid)
    assert {j.revision for j in here.node.rows(JobRow, study_uid=sample.study_uid)} == {1}
    assert "returned" in {e.action for e in here.node.rows(EventRow, study_uid=sample.study_uid)}


def test_the_same_images_sent_again_change_nothing(here: Here, tmp_path: Path) -> None:
    sample = small_breast(tmp_path, seed=37)
    PatientSender(lambda: here.node.receive_port).send(sample.files)
    here.node.wait_until_read(sample.study_uid)
    before = {r.uid for r in here.node.rows(ResultRow, study_uid=sample.study_uid)}
    PatientSender(lambda: here.node.receive_port).send(sample.files)
    after = here.node.study(sample.study_uid)
    assert after is not None and (after.state, after.revision) == (StudyState.READ, 1)
    assert len(here.node.rows(InstanceRow, study_uid=sample.study_uid)) == len(sample.files)
    assert {r.uid for r in here.node.rows(ResultRow, study_uid=sample.study_uid)} == before
