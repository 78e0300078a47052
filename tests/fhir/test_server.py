"""A FHIR server that nobody here wrote takes the transaction, twice, with nothing doubled, and finds what a worklist asks for."""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from support.fhir_server import FhirServer
from support.findings import findings, lesion, scene

from radnode_fhir.bundle import transaction

pytestmark = pytest.mark.system

KINDS = {"DiagnosticReport": 1, "Observation": 2, "ImagingStudy": 1, "Device": 1, "Provenance": 1}


def test_a_result_that_is_sent_twice_and_then_amended_stands_once(tmp_path: Path) -> None:
    place = scene(tmp_path / "source", shape=(6, 24, 24))
    made = findings(place, (lesion(place, "a", (2, 0, 0), 4), lesion(place, "b", (-3, 0, 0), 3)))
    issued = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    bundle = transaction(made, place.study, (), status="preliminary", issued=issued)
    amended = transaction(made, place.study, (), status="amended", issued=issued)
    with FhirServer(tmp_path / "server") as server:
        for sent in (bundle, bundle):
            answer = httpx.post(server.url, content=json.dumps(copy.deepcopy(sent)), timeout=30)
            assert answer.is_success, answer.text
        assert {kind: len(server.search(kind)) for kind in KINDS} == KINDS
        assert httpx.post(server.url, content=json.dumps(amended), timeout=30).is_success
        (report,) = server.search("DiagnosticReport?status=amended&category=RAD")
        assert report["result"][0]["reference"].startswith("Observation/")
        assert len(server.search("Observation")) == 2
        assert len(server.search(f"ImagingStudy?identifier=urn:dicom:uid|urn:oid:{place.study.study_uid}")) == 1
