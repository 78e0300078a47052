"""Which earlier studies of a patient the node hands to a model."""

from support.core import STUDY, Node

from radnode.priors import prior_studies
from radnode.states import StudyState

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


def test_a_study_without_patient_id_or_date_has_no_priors(node: Node) -> None:
    node.add_study(patient_id="", study_date="20260101", modalities="CT")
    node.add_study("1.1", patient_id="", study_date="20250101", modalities="CT")
    assert found(node) == ()
