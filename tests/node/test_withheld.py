"""Each invariant of a result, broken on the node's own way from findings to outbox: the result is withheld, whole."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select
from support.core import Node, opened
from support.findings import LUNG, MM, Scene, findings, lesion
from support.pages import serving
from support.reading import NAME, work

from radnode import jobs, report
from radnode.settings import Destination, Settings
from radnode.states import JobState, StudyState
from radnode.tables import DeliveryRow, ReportRow, ResultRow
from radnode.worklist import Reader
from radnode_dicom_sr import DicomObject
from radnode_inference.findings import Findings

PACS = Destination(name="pacs", kind="dimse", host="127.0.0.1")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    settings = Settings(data=tmp_path / "data", destinations=(PACS,))
    with opened(settings) as made:
        yield made


@pytest.fixture
def client(node: Node) -> Iterator[httpx.Client]:
    with serving(node.settings) as client:
        yield client


def rows(node: Node, table: Any) -> int:
    with node.database.reading() as session:
        return len(session.scalars(select(table)).all())


def changed(o: DicomObject, change: Callable[[Dataset], None]) -> DicomObject:
    ds = pydicom.dcmread(BytesIO(o.body))
    change(ds)
    out = BytesIO()
    ds.save_as(out)
    return replace(o, body=out.getvalue())


def breaking(monkeypatch: pytest.MonkeyPatch, kind: str, change: Callable[[Dataset], None]) -> None:
    """The writers make the first object of this kind wrong."""
    build = report.build

    def wrong(*args: Any, **options: Any) -> tuple[DicomObject, ...]:
        made = list(build(*args, **options))
        index = next(i for i, o in enumerate(made) if o.kind == kind)
        made[index] = changed(made[index], change)
        return tuple(made)

    monkeypatch.setattr(report, "build", wrong)


def content(ds: Dataset) -> Iterator[Dataset]:
    """Every content item of an SR, depth first."""
    for item in ds.get("ContentSequence", ()):
        yield item
        yield from content(item)


def tracking(ds: Dataset) -> None:
    ds.SegmentSequence[0].TrackingUID = "1.2.3"


def reported_tracking(ds: Dataset) -> None:
    found = (i for i in content(ds) if i.ValueType == "UIDREF" and i.ConceptNameCodeSequence[0].CodeValue == "112040")
    next(found).UID = "1.2.3"


def reference(ds: Dataset) -> None:
    series = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3.4"


def region(ds: Dataset) -> None:
    outline = next(i for i in content(ds) if i.ValueType == "SCOORD")
    outline.GraphicData = [float(v) + 60 for v in outline.GraphicData]


def patient(ds: Dataset) -> None:
    ds.PatientID = "PID-8"


def study(ds: Dataset) -> None:
    ds.AccessionNumber = "A999"


def assert_withheld(node: Node, study_uid: str, said: str) -> None:
    """Nothing of it is owed, reported or current; the reason stands in the job, the worklist and the story."""
    story = node.story(study_uid)
    (job,) = story.jobs
    assert (job.state, story.study.state) == (JobState.HELD, StudyState.READ), job.reason
    assert said in job.reason
    assert (rows(node, ResultRow), rows(node, DeliveryRow), rows(node, ReportRow)) == (0, 0, 0)
    kept = list((node.settings.data / job.held).iterdir())
    assert {f.name.split("-2.25")[0] for f in kept} >= {"sr", "seg", "key-image", "fhir"}
    (entry,) = Reader(node.database, None).worklist(time.time()).entries
    assert (entry.level, entry.answers[0].outcome) == ("ROUTINE", "held")
    assert entry.answers[0].text.startswith("result withheld: ") and said in entry.answers[0].text
    assert any("is withheld" in e.sentence and said in e.sentence for e in story.events)


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("seg", tracking, "does not track"),
        ("sr", reported_tracking, "do not track exactly"),
        ("sr", reference, "which is not there"),
        ("sr", region, "leaves the image"),
        ("sr", patient, "PatientID is not the source's"),
        ("key-image", study, "AccessionNumber is not the source's"),
    ],
)
def test_an_object_that_breaks_an_invariant_holds_the_whole_result(
    node: Node, place: Scene, monkeypatch: pytest.MonkeyPatch, kind: str, change: Callable[[Dataset], None], said: str
) -> None:
    breaking(monkeypatch, kind, change)
    work(node, place)
    assert_withheld(node, place.study.study_uid, said)


def test_a_volume_that_was_not_drawn_holds_the_result(node: Node, place: Scene) -> None:
    item = lesion(place, "a", (0, 0, 0), 5)
    volume = item.measurements[0]
    item = replace(item, measurements=(replace(volume, value=volume.value * 1.02), *item.measurements[1:]))
    work(node, place, findings(place, (item,)))
    assert_withheld(node, place.study.study_uid, "ml stated")


def test_an_outline_on_another_slice_holds_the_result(
    node: Node, place: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (findings(place, (lesion(place, "a", (0, 0, z), 3),)) for z in (8, -8))
    build = report.build
    monkeypatch.setattr(report, "build", lambda _, *args, **options: build(there, *args, **options))
    work(node, place, here)
    assert_withheld(node, place.study.study_uid, "does not touch")


def test_fhir_that_tracks_other_findings_holds_the_result(
    node: Node, place: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction = report.transaction
    less = findings(place, findings(place).items[:1])
    monkeypatch.setattr(report, "transaction", lambda _, *args, **options: transaction(less, *args, **options))
    work(node, place)
    assert_withheld(node, place.study.study_uid, "FHIR Observations do not track")


def test_a_unit_that_does_not_fit_holds_the_result(node: Node, place: Scene) -> None:
    item = lesion(place, "a", (0, 0, 0), 5)
    volume = item.measurements[0]
    item = replace(item, measurements=(replace(volume, unit=MM), *item.measurements[1:]))
    work(node, place, findings(place, (item,)))
    assert_withheld(node, place.study.study_uid, "is not measured in")


def test_a_code_outside_its_context_group_holds_the_result(node: Node, place: Scene) -> None:
    item = lesion(place, "a", (0, 0, 0), 5, laterality=LUNG)
    work(node, place, findings(place, (item,)))
    assert_withheld(node, place.study.study_uid, "is not in CID 244")


def test_the_page_shows_a_withheld_result_and_its_objects(
    node: Node, place: Scene, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(monkeypatch, "sr", patient)
    work(node, place)
    uid = place.study.study_uid
    page = client.get(f"/studies/{uid}").text
    assert "result withheld" in page and "PatientID is not the source&#39;s" in page
    assert "result withheld" in client.get("/").text
    link = page.split('href="/held/')[1].split('"')[0]
    assert len(client.get(f"/held/{link}").content) > 100
    assert client.get("/held/1/..%2f..%2fradnode.db").status_code in (404, 422)


def test_only_another_run_releases_a_withheld_result(
    node: Node, place: Scene, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as wrong:
        breaking(wrong, "sr", patient)
        work(node, place)
    uid = place.study.study_uid
    assert jobs.claim(node.database, "w", 1e12) is None
    assert client.post(f"/studies/{uid}/rerun", data={"model": NAME}, follow_redirects=False).status_code == 303
    work(node, place)
    story = node.story(uid)
    assert story.jobs[0].state is JobState.DONE
    assert {d.destination for d in story.deliveries} == {"pacs"}
    for result in story.results:
        body = (node.settings.data / result.file).read_bytes()
        assert b"PID-8" not in body, "the bytes of the withheld object"


def test_a_withheld_result_leaves_no_earlier_one_standing(
    node: Node, place: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(node, place)
    jobs.rerun(node.database, place.study.study_uid, NAME, time.time())
    breaking(monkeypatch, "sr", patient)
    less: Findings = findings(place, findings(place).items[:1])
    work(node, place, less)
    assert node.story(place.study.study_uid).jobs[0].state is JobState.HELD
    assert node.report_status(place.study.study_uid) == "entered-in-error"
    assert not any(r.current for r in node.story(place.study.study_uid).results)
