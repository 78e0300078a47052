"""A study that is sent again because it was another patient's: the worklist, the results and the story follow the newest bytes."""

import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import orjson
import pydicom
import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select
from support.core import Node, encoded
from support.findings import Scene, findings, scene
from support.models import card
from support.objects import image
from support.store import arrival_of

from radnode import complete, report
from radnode.engine_child import infer
from radnode.fhir_server import transaction as fhir_transaction
from radnode.profiles import Plan
from radnode.results import Previous, Result, report_of
from radnode.store import Store
from radnode.tables import StudyRow
from radnode.tables_fhir import ResourceRow
from radnode_inference.findings import Findings
from radnode_inference.model import DeclinedError, Progress
from radnode_inference.study import Study


@pytest.fixture
def store(node: Node) -> Iterator[Store]:
    made = Store(node.settings, node.database)
    yield made
    made.index.close()


def send(node: Node, store: Store, ds: Dataset, at: float) -> None:
    store.put(arrival_of(ds), [encoded(ds)])
    complete.settle(node.database, node.settings, since=0.0, now=at)
    complete.complete(node.database, now=1e11)


def row(node: Node, uid: str) -> StudyRow:
    with node.database.reading() as session:
        return session.get_one(StudyRow, uid)


def test_a_corrected_patient_is_the_studys_patient_and_the_story_says_what_changed(node: Node, store: Store) -> None:
    ds = image(Modality="CT", PatientID="WRONG", PatientName="WRONG^NAME", AccessionNumber="A1", PatientSex="M")
    other = image(Modality="CT", PatientID="WRONG", PatientName="WRONG^NAME", AccessionNumber="A1", PatientSex="M")
    other.StudyInstanceUID = ds.StudyInstanceUID
    now = time.time()
    send(node, store, ds, now)
    send(node, store, other, now)
    for again in (ds, other):
        again.PatientID, again.PatientName, again.PatientSex = "RIGHT", "RIGHT^NAME", ""
        send(node, store, again, now)
    found = row(node, ds.StudyInstanceUID)
    assert (found.patient_id, found.patient_name, found.patient_sex) == ("RIGHT", "RIGHT^NAME", "")
    assert (found.accession_number, found.instances) == ("A1", 2)
    told = [e.sentence for e in node.story(ds.StudyInstanceUID).events if e.action == "corrected"]
    assert told == ["Its images came again with another PatientID, PatientName, PatientSex: that counts from now on."]


def test_a_late_image_that_replaces_none_changes_nothing_of_the_patient(node: Node, store: Store) -> None:
    ds = image(Modality="CT", PatientID="FIRST")
    late = image(Modality="CT", PatientID="OTHER")
    late.StudyInstanceUID = ds.StudyInstanceUID
    now = time.time()
    send(node, store, ds, now)
    send(node, store, late, now)
    assert row(node, ds.StudyInstanceUID).patient_id == "FIRST"


def placed(folder: Path, patient_id: str) -> Scene:
    """The same study, with the same UIDs and voxels, of this patient."""
    return scene(folder, shape=(6, 24, 24), change=lambda ds: setattr(ds, "PatientID", patient_id))


def previous(found: tuple[Result, ...]) -> tuple[Previous, ...]:
    return tuple(
        Previous(kind=r.kind, uid=r.uid, sop_class_uid=r.sop_class_uid, series_uid=r.series_uid, digest=r.digest)
        for r in found
    )


def patients(found: tuple[Result, ...]) -> set[str]:
    files = (BytesIO(r.body) for r in found if r.sop_class_uid)
    return {str(pydicom.dcmread(f).PatientID) for f in files}


def test_equal_findings_of_a_corrected_patient_are_other_objects_that_supersede_the_wrong_ones(tmp_path: Path) -> None:
    wrong, right = placed(tmp_path / "1", "WRONG"), placed(tmp_path / "2", "RIGHT")
    assert wrong.study.study_uid == right.study.study_uid
    first = report.results(findings(wrong, ()), wrong.study)
    second = report.results(findings(right, ()), right.study, previous=previous(first))
    again = report.results(findings(right, ()), right.study, previous=previous(second))
    assert (patients(first), patients(second)) == ({"WRONG"}, {"RIGHT"})
    assert not {r.uid for r in first} & {r.uid for r in second}, "a file that has its name is never written anew"
    assert {r.uid for r in second if r.sop_class_uid} == {r.uid for r in again if r.sop_class_uid}
    assert report_of(orjson.loads(second[-1].body))["status"] == "amended"


def test_the_word_that_the_ai_declined_is_of_the_corrected_patient_too(tmp_path: Path) -> None:
    plans = (Plan(destination="pacs", kinds=frozenset({"status"})),)
    wrong, right = placed(tmp_path / "1", "WRONG"), placed(tmp_path / "2", "RIGHT")
    model = findings(wrong, ()).model
    first, second = (report.status_results(s.study, model, "declined", "a gap", plans) for s in (wrong, right))
    assert patients(second) == {"RIGHT"} and not {r.uid for r in first} & {r.uid for r in second}


def test_the_nodes_own_imaging_study_names_the_corrected_patient(node: Node, tmp_path: Path) -> None:
    said = []
    for n, patient_id in enumerate(("WRONG", "RIGHT", "RIGHT")):
        made = placed(tmp_path / str(n), patient_id)
        with node.database.transaction() as session:
            bundle = orjson.loads(report.results(findings(made, ()), made.study)[-1].body)
            fhir_transaction.keep(session, bundle, float(n))
            of_it = (ResourceRow.kind == "ImagingStudy", ResourceRow.current)
            (found,) = session.scalars(select(ResourceRow).where(*of_it))
            said.append((found.body["subject"]["identifier"]["value"], found.version))  # type: ignore[index]
    assert said == [("WRONG", 1), ("RIGHT", 2), ("RIGHT", 2)]


class Reader:
    """A model that finds what it is told."""

    def __init__(self, said: Findings) -> None:
        self.said = said
        self.identity = said.model

    def read(self, study: Study, progress: Progress) -> Findings:
        return self.said


def test_a_study_whose_images_name_two_patients_is_declined(tmp_path: Path) -> None:
    made = placed(tmp_path / "study", "ONE")
    file = min((tmp_path / "study").glob("*.dcm"))
    ds = pydicom.dcmread(file)
    for patient_id in ("", "TWO"):
        ds.PatientID = patient_id
        ds.save_as(file)
        study = Study.from_folder(tmp_path / "study")
        model = Reader(findings(made, ()))
        if not patient_id:  # an image that does not say whose it is contradicts none
            assert infer(card("quick", "quick"), model, study, None, lambda *_: None)
            continue
        with pytest.raises(DeclinedError, match="its images name 2 different patients") as declined:
            infer(card("quick", "quick"), model, study, None, lambda *_: None)
        assert declined.value.gate == "patients"
