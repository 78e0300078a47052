"""What the node changes at a FHIR server beside its reports: the priority of an order, the patient of a study that it made."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.fhir_node import FhirNode, fhir_node
from support.fhir_server import FhirServer
from support.findings import findings, lesion, scene

from radnode.destinations import PRIORITY, open_destination, takes
from radnode.destinations.fhir_rest import Transactions
from radnode.destinations.fhir_rest_priority import NothingToChangeError, changed
from radnode.errors import DeliveryError
from radnode.settings import Destination
from radnode_fhir import check
from radnode_fhir.bundle import transaction

HEADERS = {"Content-Type": "application/fhir+json"}
NOTICE = {
    "study_uid": "1.2.3.4", "accession_number": "A123", "patient_id": "PID-7", "level": "STAT", "before": "ROUTINE",
    "reason": "Pneumothorax, 93 % [ct-lung]", "at": 1792000000.0,
}  # fmt: skip
Server = FhirServer | FhirNode


class Sent:
    """A notice on its way."""

    study_uid, kind, uid, sop_class_uid = "1.2.3.4", PRIORITY, "2.25.1", ""

    def __init__(self, path: Path) -> None:
        self.path = path


@pytest.fixture(params=["sekmet", "radnode"], scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    opened: AbstractContextManager[Server] = FhirServer(folder) if request.param == "sekmet" else fhir_node(folder)
    with opened as made:
        yield made


def tell(server: Server, folder: Path, **changes: Any) -> str:
    file = folder / "notice.json"
    file.write_text(json.dumps(NOTICE | changes))
    address = Destination(name="ris", kind="fhir", url=server.url, results=("priority",))
    with open_destination(address, calling_ae="N", timeout_s=60).open([]) as sender:
        return sender.send(Sent(file))


def placed(server: Server, accession: str, patient_id: str = "PID-7", **more: Any) -> str:
    """An order and its patient, made by the RIS; the order's id."""
    person = {"resourceType": "Patient", "identifier": [{"system": "urn:hospital", "value": patient_id}]}
    known = httpx.post(f"{server.url}/Patient", json=person, headers=HEADERS, timeout=60).json()["id"]
    order = {
        "resourceType": "ServiceRequest", "status": "active", "intent": "order", "subject": {"reference": f"Patient/{known}"},
        "identifier": [{"system": "urn:orders", "value": accession}], "note": [{"text": "kept as it is"}], **more,
    }  # fmt: skip
    return str(httpx.post(f"{server.url}/ServiceRequest", json=order, headers=HEADERS, timeout=60).json()["id"])


def order(server: Server, order_id: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/ServiceRequest/{order_id}", timeout=60).json()
    return found


def task(server: Server, order_id: str) -> dict[str, Any]:
    (found,) = [t for t in server.search("Task") if t["focus"]["reference"].endswith(f"ServiceRequest/{order_id}")]
    return found


@pytest.mark.system
def test_an_order_is_raised_and_taken_back_to_what_it_said_before(server: Server, tmp_path: Path) -> None:
    there = placed(server, "A1", priority="urgent")
    study = {"accession_number": "A1", "study_uid": "1.2.1"}
    for _ in range(2):
        assert tell(server, tmp_path, **study) == ""
    raised = order(server, there)
    assert (raised["priority"], raised["note"]) == ("stat", [{"text": "kept as it is"}])
    reading = task(server, there)
    assert (reading["priority"], reading["status"], reading["description"]) == ("stat", "requested", NOTICE["reason"])
    assert check.problems(reading) == []
    assert tell(server, tmp_path, level="ROUTINE", before="STAT", reason="The AI's report was retracted", **study) == ""
    assert order(server, there)["priority"] == "urgent", "what the order said, not what the AI never said"
    assert task(server, there)["priority"] == "urgent"


@pytest.mark.system
def test_what_a_person_changed_meanwhile_stays(server: Server, tmp_path: Path) -> None:
    there = placed(server, "A2")
    study = {"accession_number": "A2", "study_uid": "1.2.2"}
    tell(server, tmp_path, level="HIGH", **study)
    assert order(server, there)["priority"] == "urgent"
    theirs = order(server, there) | {"priority": "stat"}
    assert httpx.put(f"{server.url}/ServiceRequest/{there}", json=theirs, headers=HEADERS, timeout=60).is_success
    tell(server, tmp_path, level="ROUTINE", **study)
    assert order(server, there)["priority"] == "stat"
    assert task(server, there)["priority"] == "stat"


@pytest.mark.system
def test_no_order_is_made_and_none_of_another_patient_changed(server: Server, tmp_path: Path) -> None:
    before = len(server.search("ServiceRequest"))
    assert "knows no order" in tell(server, tmp_path, accession_number="A9", study_uid="1.2.9")
    there = placed(server, "A3", patient_id="SOMEBODY ELSE", priority="routine")
    assert "another patient" in tell(server, tmp_path, accession_number="A3", study_uid="1.2.3")
    assert order(server, there)["priority"] == "routine"
    assert len(server.search("ServiceRequest")) == before + 1
    assert not [t for t in server.search("Task") if t["focus"]["reference"].endswith(there)]


def test_without_accession_number_or_patient_nothing_is_asked() -> None:
    def never(query: str) -> list[dict[str, Any]]:
        raise AssertionError(query)

    for missing in ("accession_number", "patient_id"):
        with pytest.raises(NothingToChangeError, match="cannot be found"):
            changed(NOTICE | {missing: ""}, never)


def test_an_order_that_changed_while_it_was_read_is_tried_again(server: Server, tmp_path: Path) -> None:
    """Two writers: the version that was read is not the newest any more."""
    there = placed(server, "A4")
    bundle = changed(NOTICE | {"accession_number": "A4", "study_uid": "1.2.5"}, server.search)
    theirs = order(server, there) | {"priority": "asap"}
    assert httpx.put(f"{server.url}/ServiceRequest/{there}", json=theirs, headers=HEADERS, timeout=60).is_success
    address = Destination(name="ris", kind="fhir", url=server.url)
    with httpx.Client(timeout=60) as client, pytest.raises(DeliveryError, match=r"412|409") as e:
        Transactions(client, address).post(bundle, frozenset({409, 412}))
    assert not e.value.permanent
    assert order(server, there)["priority"] == "asap"


def test_a_server_gets_priorities_only_where_the_settings_say_so() -> None:
    plain = Destination(name="ehr", kind="fhir", url="http://ehr.example")
    assert PRIORITY not in takes(plain)
    assert PRIORITY in takes(plain.model_copy(update={"results": ("fhir", "priority")}))
    assert PRIORITY in takes(Destination(name="ris", kind="hl7", host="h"))


class Result(Sent):
    kind = "fhir"


def report(server: Server, folder: Path, patient_id: str) -> str:
    """The report of one and the same study, which is this patient's; the remark."""
    place = scene(folder / patient_id, shape=(2, 8, 8), change=lambda ds: setattr(ds, "PatientID", patient_id))
    made = findings(place, (lesion(place, patient_id, (0, 0, 0), 2),))
    issued = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    file = folder / "bundle.json"
    file.write_text(json.dumps(transaction(made, place.study, (), status="preliminary", issued=issued)))
    address = Destination(name="ehr", kind="fhir", url=server.url)
    with open_destination(address, calling_ae="N", timeout_s=60).open([]) as sender:
        return sender.send(Result(file))


@pytest.mark.system
def test_an_imaging_study_that_the_node_made_follows_a_corrected_patient_and_another_systems_stays(
    server: Server, tmp_path: Path
) -> None:
    assert [report(server, tmp_path, patient) for patient in ("WRONG", "RIGHT", "RIGHT")] == ["", "", ""]
    (study,) = server.search("ImagingStudy")
    assert study["subject"]["identifier"]["value"] == "RIGHT"
    assert study["series"], "it is the server's own but for its patient"
    (made,) = server.search("DiagnosticReport")
    assert made["subject"]["identifier"]["value"] == "RIGHT"
    httpx.put(
        f"{server.url}/ImagingStudy/{study['id']}", json={k: v for k, v in study.items() if k != "meta"},
        headers=HEADERS, timeout=60,
    ).raise_for_status()  # fmt: skip
    assert "left as it is" in report(server, tmp_path, "THIRD")
    assert server.search("ImagingStudy")[0]["subject"]["identifier"]["value"] == "RIGHT"
