"""Which earlier studies of a patient the node hands to a model."""

import time
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from sqlalchemy import update
from support.core import STUDY, Node
from support.ct_variants import volume_of, written
from support.objects import encoded, image
from support.store import arrival_of

from radnode import complete, fetches
from radnode.cli import cli
from radnode.priors import prior_studies
from radnode.states import StudyState
from radnode.store import Store
from radnode.tables import InstanceRow
from radnode.tables_pacs import FetchRow

PATIENT = {"patient_id": "P1", "modalities": "CT"}


def found(node: Node) -> tuple[str, ...]:
    with node.database.reading() as session:
        return prior_studies(session, STUDY)


def test_the_newest_three_earlier_studies_of_the_patient_are_priors(node: Node) -> None:
    node.add_study(study_date="20260101", **PATIENT)
    for year in (2019, 2025, 2021, 2023):
        node.add_study(f"1.{year}", study_date=f"{year}0101", **PATIENT)
    assert found(node) == ("1.2025", "1.2023", "1.2021")


def test_results_stored_as_a_series_make_no_common_modality(node: Node) -> None:
    node.add_study(study_date="20260101", patient_id="P1", modalities="CT\\SEG\\SR")
    node.add_study("1.1", study_date="20250101", patient_id="P1", modalities="MR\\SEG\\SR")
    node.add_study("1.2", study_date="20250101", patient_id="P1", modalities="CT\\SR")
    assert found(node) == ("1.2",)


def test_other_patients_later_studies_and_those_still_arriving_are_none(node: Node) -> None:
    node.add_study(study_date="20260101", patient_birth_date="19600101", patient_sex="F", **PATIENT)
    early = {"study_date": "20250101"} | PATIENT
    node.add_study("1.1", **early | {"patient_id": "P2"})
    node.add_study("1.2", **early, issuer_of_patient_id="ELSEWHERE")
    node.add_study("1.3", **early, patient_birth_date="19700101")
    node.add_study("1.4", **early, patient_sex="M")
    node.add_study("1.5", **early | {"study_date": "20260101"})
    node.add_study("1.6", **early | {"study_date": ""})
    node.add_study("1.7", state=StudyState.RECEIVING, **early)
    assert found(node) == ()
    node.add_study("1.8", **early, patient_birth_date="19600101")
    assert found(node) == ("1.8",)


def test_without_a_birth_date_another_name_is_another_patient(node: Node) -> None:
    node.add_study(study_date="20260101", patient_name="Wang^XiaoMing=王^小明", **PATIENT | {"patient_id": "UNKNOWN"})
    early = {"study_date": "20250101"} | PATIENT | {"patient_id": "UNKNOWN"}
    node.add_study("1.1", patient_name="SMITH^ANNA", **early)
    assert found(node) == ()
    for number, name in enumerate(("WANG XIAOMING", "=王^小明", "", "Chen^Xiaoming")):
        node.add_study(f"2.{number}", patient_name=name, **early | {"study_date": f"2025020{number + 1}"})
    assert found(node) == ("2.3", "2.2", "2.1")


def test_a_folder_that_is_no_earlier_study_of_the_patient_is_refused_unless_it_is_meant(
    tmp_path: Path, data: Path
) -> None:
    def folder(name: str, day: str, patient: str = "P1", **said: str) -> str:
        written(tmp_path / name, volume_of(np.zeros((3, 4, 4)), np.eye(4)), StudyDate=day, PatientID=patient, **said)
        return str(tmp_path / name)

    def refused(prior: str, *more: str) -> str:
        command = ["run", "ct-lung", study, "--prior", prior, "-o", str(tmp_path / "out"), *more]
        return CliRunner().invoke(cli, command).stderr

    study = folder("study", "20260101", PatientSex="F")
    assert "its Patient ID is another one, so it is another patient's" in refused(folder("a", "20250101", "P2"))
    assert "its sex is another one" in refused(folder("b", "20250101", PatientSex="M"))
    later = folder("c", "20260102")
    assert "it is later than the study. Add --force where it is meant" in refused(later)
    assert "it is the same study" in refused(study)
    for asked in (refused(folder("d", "20250101")), refused(later, "--force")):
        assert asked.startswith("declined: no-suitable-series")


def test_an_examination_of_the_same_day_is_a_prior_where_the_hours_say_that_it_came_first(node: Node) -> None:
    today = {"study_date": "20260101"} | PATIENT
    node.add_study(study_time="143000.000", **today)
    node.add_study("1.1", study_time="081500", **today)
    node.add_study("1.2", study_time="150000", **today)
    node.add_study("1.3", study_time="", **today)
    node.add_study("1.4", study_time="143000.000", **today)  # one examination as two studies
    node.add_study("1.5", **PATIENT | {"study_date": "20251231"}, study_time="235900")
    assert found(node) == ("1.1", "1.5")


def test_a_study_without_patient_id_or_date_has_no_priors(node: Node) -> None:
    node.add_study(patient_id="", study_date="20260101", modalities="CT")
    node.add_study("1.1", patient_id="", study_date="20250101", modalities="CT")
    assert found(node) == ()


def test_half_an_earlier_study_is_none(node: Node) -> None:
    node.add_study(study_date="20260101", **PATIENT)
    early = {"study_date": "20250101"} | PATIENT
    node.add_study("1.1", provisional="pacs has 100 images of this study, the node 2", **early)
    for n, state in enumerate((fetches.RUNNING, fetches.QUEUED, fetches.FAILED, fetches.DONE)):
        uid = f"9.{n}"
        node.add_study(uid, last_instance_at=50.0, **early | {"study_date": f"2024010{n + 1}"})
        row = FetchRow(study_uid=uid, peer="pacs", why=fetches.PRIOR, wanted_by=STUDY, state=state, attempt=1)
        row.created_at, row.due_at, row.ended_at = 40.0, 60.0, 60.0
        with node.database.transaction() as session:
            session.add(row)
    assert found(node) == ("9.3",), "only the one that came whole"


def test_a_study_that_was_fetched_as_a_prior_is_read_once_it_is_sent_itself(node: Node) -> None:
    ds, now, store = image(Modality="CT"), time.time(), Store(node.settings, node.database)
    uid = str(ds.StudyInstanceUID)

    def came() -> tuple[int, str]:
        """How many objects are counted, and whose prior the study is only."""
        store.put(arrival_of(ds), [encoded(ds)])
        settled = complete.settle(node.database, node.settings, since=0.0, now=time.time())
        complete.complete(node.database, now=1e11)
        with node.database.reading() as session:
            return settled, fetches.is_prior_only(session, uid)

    row = FetchRow(study_uid=uid, peer="pacs", why=fetches.PRIOR, wanted_by=STUDY, state=fetches.RUNNING, attempt=0)
    row.created_at = row.due_at = now
    with node.database.transaction() as session:
        session.add(row)
    assert came() == (1, STUDY)
    for ended_at, found in ((now, (0, STUDY)), (now - 300.0, (1, "")), (now - 300.0, (0, ""))):
        with node.database.transaction() as session:
            session.execute(update(FetchRow).values(state=fetches.DONE, ended_at=ended_at))
            if ended_at == now:
                session.execute(update(InstanceRow).values(received_at=now - 310.0))
        assert came() == found
    store.index.close()
