"""FHIR servers take the transaction, twice, with nothing doubled, and find what a worklist asks for.

The same for two that nobody here wrote (sekmet-fhir, Medplum's router) and for the node's own endpoint.
"""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset
from support.fhir_node import FhirNode, fhir_node
from support.fhir_server import FhirServer
from support.findings import MODEL, Scene, findings, lesion, scene
from support.medplum import MedplumServer

from radnode_fhir.bundle import transaction
from radnode_fhir.confirm import Confirmed, confirmation
from radnode_fhir.retraction import retraction
from radnode_inference.findings import device_uid

pytestmark = pytest.mark.system

KINDS = {"DiagnosticReport": 1, "Observation": 2, "ImagingStudy": 1, "Device": 1, "Provenance": 1, "Task": 1}
ISSUED = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
Server = FhirServer | MedplumServer | FhirNode


@pytest.fixture(params=["sekmet", "medplum", "radnode"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    opened: dict[str, Callable[[Path], AbstractContextManager[Server]]] = {
        "sekmet": FhirServer, "medplum": MedplumServer, "radnode": fhir_node,
    }  # fmt: skip
    with opened[request.param](tmp_path / "server") as made:
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Scene:
    def issued(ds: Dataset) -> None:
        ds.IssuerOfPatientID = "1.2.3"

    return scene(tmp_path / "source", shape=(6, 24, 24), change=issued)


def post(server: Server, bundle: dict[str, Any]) -> None:
    answer = httpx.post(server.url, content=json.dumps(copy.deepcopy(bundle)), headers=JSON, timeout=60)
    assert answer.is_success, answer.text


JSON = {"Content-Type": "application/fhir+json"}
SEARCHES = {
    "DiagnosticReport?status=preliminary": 1,
    "DiagnosticReport?status=final": 0,
    "DiagnosticReport?category=RAD": 1,
    "DiagnosticReport?category=http://terminology.hl7.org/CodeSystem/v2-0074|RAD": 1,
    "DiagnosticReport?code=http://loinc.org|25045-6": 1,
    "DiagnosticReport?issued=ge2026-03-01": 1,
    "DiagnosticReport?issued=lt2026-03-01": 0,
    "DiagnosticReport?issued=2026-03-01": 1,
    "DiagnosticReport?issued=gt2026-03-01T09:00:00Z&issued=lt2026-03-01T10:00:00Z": 1,
    "DiagnosticReport?_lastUpdated=gt2020-01-01": 1,
    "DiagnosticReport?_include=DiagnosticReport:result": 3,
    "DiagnosticReport?_sort=-issued&_count=1": 1,
    "Observation?status=preliminary&category=imaging": 2,
    "Observation?_include=Observation:device": 3,
    "Task?status=completed": 1,
}


def test_a_result_that_is_sent_twice_and_then_amended_stands_once(server: Server, place: Scene) -> None:
    made = findings(place, (lesion(place, "a", (2, 0, 0), 4), lesion(place, "b", (-3, 0, 0), 3)))
    bundle = transaction(made, place.study, (), status="preliminary", issued=ISSUED)
    amended = transaction(made, place.study, (), status="amended", issued=ISSUED)
    for sent in (bundle, bundle):
        post(server, sent)
    assert {kind: len(server.search(kind)) for kind in KINDS} == KINDS
    assert {query: len(server.search(query)) for query in SEARCHES} == SEARCHES
    uid = f"urn:oid:{place.study.study_uid}"
    (study,) = server.search(f"ImagingStudy?identifier=urn:dicom:uid|{uid}")
    (device,) = server.search(f"Device?identifier=urn:dicom:uid|urn:oid:{device_uid(MODEL)}")
    if isinstance(server, FhirNode):  # sekmet-fhir does not know this parameter
        assert len(server.search(f"Observation?device=Device/{device['id']}")) == 2
    assert len(server.search(f"Observation?derived-from=ImagingStudy/{study['id']}")) == 2
    post(server, amended)
    (report,) = server.search("DiagnosticReport?status=amended&category=RAD")
    assert report["result"][0]["reference"].startswith("Observation/")
    assert len(server.search(f"Provenance?target=DiagnosticReport/{report['id']}")) == 2, "one for each change"
    assert len(server.search("Observation")) == 2


def test_a_person_confirms_a_report_and_takes_another_back(server: Server, place: Scene) -> None:
    bundle = transaction(
        findings(place, (lesion(place, "a", (2, 0, 0), 4),)), place.study, (), status="preliminary", issued=ISSUED
    )
    post(server, bundle)
    final = confirmation(bundle, Confirmed(person="Dr Lin", at=ISSUED))
    post(server, final)
    (report,) = server.search("DiagnosticReport?status=final")
    assert report["resultsInterpreter"][0]["display"] == "Dr Lin"
    assert report["conclusion"].startswith("AI, confirmed by Dr Lin: Nodule")
    post(server, retraction([bundle], "2.25.5", reason="wrong patient", issued=ISSUED))
    assert [
        len(server.search(f"{k}?status=entered-in-error")) for k in ("DiagnosticReport", "Observation", "Task")
    ] == [1] * 3
    with pytest.raises(ValueError, match="taken back"):
        confirmation(retraction([bundle], "2.25.5", reason="x", issued=ISSUED), Confirmed(person="Dr Lin", at=ISSUED))
    with pytest.raises(ValueError, match="with a name"):
        confirmation(bundle, Confirmed(person=" ", at=ISSUED))
