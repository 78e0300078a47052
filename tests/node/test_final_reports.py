"""A final report of another system marks its study as read, where the settings say so: by HL7, by FHIR."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from support.fhir_node import FhirNode, fhir_node
from support.results import add_study, prepare

from radnode import readings
from radnode.database import Database
from radnode.hl7.listen import take
from radnode.settings import Settings
from radnode.settings_reading import ReadBy, Reading
from radnode.tables import EventRow
from radnode.worklist import Reader

ORU = (
    "MSH|^~\\&|RIS|HOSP|RADNODE||20261122101500||ORU^R01^ORU_R01|M{number}|P|2.5.1\r"
    "PID|1||{patient}^^^HOSP||X^Y\r"
    "OBR|1|77|F77|71260^CT chest^L||||||||||||||A1|||||||{status}|||||||44&Rossi&Ada\r"
    "OBX|1|TX|71260&GDT||No finding.||||||{status}\r"
)
ORM = (
    "MSH|^~\\&|RIS|HOSP|RADNODE||20261122101600||ORM^O01|M9|P|2.3.1\r"
    "PID|1||P1^^^HOSP||X^Y\rORC|SC|77|F77||CM\rOBR|1|77|F77|71260^CT chest^L||||||||||||||A1\r"
)
BOTH: tuple[ReadBy, ...] = ("final-report", "completed-order")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = prepare(Settings(data=tmp_path))
    now = time.time()
    for uid, state, number in (("1.1", "read", "A1"), ("1.2", "receiving", "A2")):
        add_study(
            made,
            uid,
            state=state,
            accession_number=number,
            patient_id="P1",
            first_instance_at=now,
            last_instance_at=now,
        )
    yield made
    made.close()


def hear(database: Database, message: str, read_by: Sequence[ReadBy] = BOTH) -> str:
    """The acknowledgement code."""
    answer = take(database, message.encode(), "127.0.0.1", "utf-8", time.time(), read_by)
    return answer.split("MSA|")[1][:2]


def listed(database: Database, settings: Settings) -> list[str]:
    return sorted(e.study.study_uid for e in Reader.of(settings, database).worklist(time.time()).entries)


def who(database: Database, study_uid: str = "1.1") -> str:
    with database.reading() as session:
        found = readings.of_study(session, study_uid)
    return found.who if found else ""


def last_event(database: Database, study_uid: str) -> str:
    with database.reading() as session:
        query = select(EventRow.sentence).where(EventRow.study_uid == study_uid).order_by(EventRow.id.desc())
        return str(session.scalars(query).first())


def oru(status: str = "F", patient: str = "P1") -> str:
    return ORU.format(number=1, status=status, patient=patient)


def test_a_reader_and_a_patient_among_several_are_found(database: Database, tmp_path: Path) -> None:
    message = oru(patient="A123^^^NATL^NI~P1").replace("44&Rossi&Ada", "44&Rossi&Ada~45&Bianchi&Leo")
    assert hear(database, message) == "AA"
    assert who(database) == "Ada Rossi (final report)"


def test_a_final_report_by_hl7_takes_its_study_off_the_list_and_says_who_read_it(
    database: Database, tmp_path: Path
) -> None:
    assert hear(database, oru()) == "AA"
    assert who(database) == "Ada Rossi (final report)"
    assert listed(database, Settings(data=tmp_path)) == ["1.2"]
    assert hear(database, oru("C")) == "AA", "corrected: it is read already"
    assert last_event(database, "1.1") == "Read by Ada Rossi (final report): the study leaves the worklist."


@pytest.mark.parametrize(
    "message",
    [
        oru("P"), oru("X"), oru(patient="P2"), oru().replace("|A1|", "|A9|"), ORM.replace("|CM", "|IP"),
        ORM.replace("P1^^^HOSP", "P2^^^HOSP"),
    ],
)  # fmt: skip
def test_what_is_not_final_or_of_another_patient_marks_nothing(database: Database, message: str) -> None:
    assert hear(database, message) == "AA"
    assert who(database) == ""


def test_a_completed_order_marks_only_where_the_settings_take_it_for_a_report(database: Database) -> None:
    assert hear(database, ORM, ["final-report"]) == "AA"
    assert who(database) == ""
    assert hear(database, ORM, ["completed-order"]) == "AA"
    assert who(database) == "RIS (final report)"


def test_without_the_setting_nothing_is_marked_and_reports_are_refused_as_before(database: Database) -> None:
    assert (hear(database, oru(), []), hear(database, ORM, [])) == ("AR", "AA")
    assert who(database) == ""


def test_a_study_whose_images_arrive_stays_and_its_story_says_that_a_report_came(database: Database) -> None:
    assert hear(database, oru().replace("|A1|", "|A2|")) == "AA"
    assert who(database, "1.2") == ""
    assert "while images were arriving: the study stays on the worklist" in last_event(database, "1.2")


def report(status: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "DiagnosticReport", "identifier": [{"system": "urn:ris", "value": "R1"}], "status": status,
        "code": {"text": "CT chest"}, "subject": {"type": "Patient", "identifier": {"value": "P1"}},
        "basedOn": [{"type": "ServiceRequest", "identifier": {"value": "A1"}}], **more,
    }  # fmt: skip


PERSON = {"resultsInterpreter": [{"type": "Practitioner", "display": "Dr. Rossi"}]}


def send(node: FhirNode, body: dict[str, Any]) -> None:
    answer = node.client.put("/fhir/DiagnosticReport?identifier=urn:ris|R1", json=body)
    assert answer.is_success, answer.text


def test_a_person_s_final_report_by_fhir_marks_and_its_withdrawal_takes_that_back(tmp_path: Path) -> None:
    with fhir_node(tmp_path, reading=Reading(read_by=("final-report",))) as node:
        database = Database(node.settings.url)
        now = time.time()
        add_study(database, "1.1", state="read", accession_number="A1", patient_id="P1", last_instance_at=now)
        send(node, report("preliminary", **PERSON))
        send(node, report("final"))
        send(node, report("final", performer=[{"type": "Device", "display": "AI"}]))
        assert who(database) == "", "nobody stands for it, or an AI does"
        send(node, report("final", **PERSON))
        assert who(database) == "Dr. Rossi (final report)"
        send(node, report("entered-in-error", **PERSON))
        assert who(database) == ""
        readings.mark(database, "1.1", 1, "Ada", now)
        send(node, report("cancelled", **PERSON))
        assert who(database) == "Ada", "what a person marked here stays"
        database.close()


def test_a_bare_withdrawal_and_a_correction_to_another_study_take_the_mark_along(tmp_path: Path) -> None:
    with fhir_node(tmp_path, reading=Reading(read_by=("final-report",))) as node:
        database = Database(node.settings.url)
        for number in (1, 2):
            add_study(
                database, f"1.{number}", state="read", accession_number=f"A{number}", patient_id="P1",
                last_instance_at=time.time(),
            )  # fmt: skip
        send(node, report("final", **PERSON))
        send(node, {k: v for k, v in report("entered-in-error").items() if k not in ("basedOn", "subject")})
        assert who(database) == "", "the withdrawal names neither the study nor the reader"
        send(node, report("final", **PERSON))
        assert who(database) == "Dr. Rossi (final report)"
        other = [{"type": "ServiceRequest", "identifier": {"value": "A2"}}]
        send(node, report("corrected", **PERSON) | {"basedOn": other})
        assert (who(database), who(database, "1.2")) == ("", "Dr. Rossi (final report)")
        database.close()


def test_without_the_setting_a_final_report_by_fhir_marks_nothing(tmp_path: Path) -> None:
    with fhir_node(tmp_path) as node:
        database = Database(node.settings.url)
        add_study(database, "1.1", state="read", accession_number="A1", patient_id="P1", last_instance_at=time.time())
        send(node, report("final", **PERSON))
        assert who(database) == ""
        database.close()
