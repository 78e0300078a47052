"""`/fhir` as other systems use it: what they may read, search and write, and what triage makes of it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from support.fhir_node import FhirNode, fhir_node
from support.postgres import Postgres
from support.results import bundle

from radnode import verdicts
from radnode.database import Database
from radnode.fhir_server import reports as fhir_reports
from radnode.fhir_server import subscriptions
from radnode.fhir_server import transaction as fhir_transaction
from radnode.fhir_server.store import Json
from radnode.settings import Deliver, TriageRule
from radnode.states import StudyState
from radnode.tables import ReportRow, StudyRow
from radnode.tables_fhir import NotificationRow
from radnode.worklist import Entry, Reader

STUDY = "1.2.3.77"
HEADERS = {"Content-Type": "application/fhir+json"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirNode]:
    with fhir_node(tmp_path_factory.mktemp("node"), hooks=("http://127.0.0.1:",)) as made:
        yield made


@pytest.fixture
def database(node: FhirNode) -> Iterator[Database]:
    made = Database(node.settings.url)
    yield made
    made.close()


def report(number: int, **more: Any) -> Json:
    return {
        "resourceType": "DiagnosticReport",
        "identifier": [{"system": "urn:test", "value": f"R{number}"}],
        "status": "preliminary",
        "code": {"coding": [{"system": "http://loinc.org", "code": "24627-2"}]},
        "issued": f"2026-02-{number:02}T10:00:00Z",
        "subject": {"type": "Patient", "identifier": {"system": "urn:hospital", "value": "P-77"}},
        **more,
    }


def call(node: FhirNode, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return node.client.request(method, f"/fhir{path}", content=content, headers={**HEADERS, **headers})


def test_a_report_is_made_read_changed_and_its_versions_stay(node: FhirNode) -> None:
    made = call(node, "POST", "/DiagnosticReport", report(1))
    assert made.status_code == 201
    path = f"/DiagnosticReport/{made.json()['id']}"
    assert made.headers["location"].endswith(f"{path}/_history/1")
    assert made.headers["etag"] == 'W/"1"'
    assert made.json()["meta"]["source"] == "urn:radnode:posted-by:127.0.0.1"
    changed = call(node, "PUT", path, {**made.json(), "status": "final"}, **{"If-Match": 'W/"1"'})
    assert (changed.status_code, changed.json()["meta"]["versionId"]) == (200, "2")
    assert call(node, "PUT", path, {**made.json(), "status": "final"}).json()["meta"]["versionId"] == "2", "no change"
    assert call(node, "PUT", path, made.json(), **{"If-Match": 'W/"1"'}).status_code == 412
    history = node.client.get(f"/fhir{path}/_history").json()
    assert [e["resource"]["status"] for e in history["entry"]] == ["final", "preliminary"]
    assert node.client.get(f"/fhir{path}/_history/1").json()["status"] == "preliminary"
    assert node.client.get(f"/fhir{path}").headers["etag"] == 'W/"2"'


def test_pages_follow_each_other_in_order(node: FhirNode) -> None:
    for number in range(10, 17):
        condition = {"If-None-Exist": f"identifier=urn:test|R{number}"}
        assert call(node, "POST", "/DiagnosticReport", report(number), **condition).status_code == 201
        assert call(node, "POST", "/DiagnosticReport", report(number), **condition).status_code == 200
    url: str | None = "/fhir/DiagnosticReport?issued=ge2026-02-10&_sort=-issued&_count=3"
    seen = []
    while url:
        page = node.client.get(url).json()
        assert page["total"] == 7
        seen += [e["resource"]["identifier"][0]["value"] for e in page["entry"]]
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    assert seen == [f"R{n}" for n in range(16, 9, -1)]
    both = "subject.identifier=urn:hospital|P-77&issued=gt2026-02-12&issued=le2026-02-14"
    assert len(node.search(f"DiagnosticReport?{both}")) == 2
    assert len(node.search("DiagnosticReport?patient:identifier=P-77&issued=2026-02-11,2026-02-12")) == 2
    assert node.search("DiagnosticReport?status:not=preliminary,final") == []
    assert node.client.get("/fhir/DiagnosticReport?_summary=count").json()["total"] >= 7


def test_a_search_by_form_finds_the_same_as_one_by_address(node: FhirNode) -> None:
    for number in (20, 21, 22):
        call(node, "POST", "/DiagnosticReport", report(number, subject={"identifier": {"value": "P-FORM"}}))
    asked = {"subject.identifier": "P-FORM", "_sort": "-issued", "_count": "2"}
    by_form = node.client.post("/fhir/DiagnosticReport/_search", data=asked)
    assert by_form.json() == node.client.get("/fhir/DiagnosticReport", params=asked).json()
    assert (by_form.json()["total"], len(by_form.json()["entry"])) == (3, 2)
    links = {link["relation"]: link["url"] for link in by_form.json()["link"]}
    assert len(node.client.get(links["next"]).json()["entry"]) == 1
    second = node.client.post("/fhir/DiagnosticReport/_search?_offset=2", data=asked)
    assert len(second.json()["entry"]) == 1
    assert node.client.post("/fhir/AuditEvent/_search", data={"_count": "1"}).status_code == 404, "others may ask this"
    assert call(node, "POST", "/DiagnosticReport/_search", {}).status_code == 415
    wrong = node.client.post("/fhir/DiagnosticReport/_search", data={"colour": "red"})
    assert (wrong.status_code, wrong.json()["resourceType"]) == (400, "OperationOutcome")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/DiagnosticReport/none", None, 404),
        ("GET", "/DiagnosticReport/none/_history", None, 404),
        ("GET", "/Medication", None, 404),
        ("GET", "/DiagnosticReport?colour=red", None, 400),
        ("GET", "/DiagnosticReport?issued=yesterday", None, 400),
        ("GET", "/DiagnosticReport?_count=many", None, 400),
        ("GET", "/DiagnosticReport?_sort=colour", None, 400),
        ("GET", "/DiagnosticReport?_include=DiagnosticReport:colour", None, 400),
        ("GET", "/DiagnosticReport?_summary=true", None, 400),
        ("GET", "/DiagnosticReport?_format=xml", None, 406),
        ("DELETE", "/DiagnosticReport/1", None, 405),
        ("POST", "/DiagnosticReport", b"no JSON", 400),
        ("POST", "/DiagnosticReport", [], 400),
        ("POST", "/DiagnosticReport", {"resourceType": "Patient"}, 400),
        ("POST", "/DiagnosticReport", report(1, status="bogus"), 422),
        ("POST", "/DiagnosticReport", report(1, colour="red"), 422),
        ("POST", "/Medication", {"resourceType": "Medication"}, 422),
        ("PUT", "/DiagnosticReport/a", report(1, id="b"), 400),
        ("POST", "", {"resourceType": "Bundle", "type": "batch"}, 400),
        ("POST", "/DiagnosticReport", report(1, result=[{"reference": "urn:uuid:0"}]), 400),
        ("POST", "/DiagnosticReport", report(1, result=[{"reference": "Observation?code=none"}]), 412),
    ],
)
def test_every_error_is_an_operation_outcome(node: FhirNode, method: str, path: str, body: Any, status: int) -> None:
    answer = call(node, method, path, body)
    assert (answer.status_code, answer.json()["resourceType"]) == (status, "OperationOutcome")
    assert answer.json()["issue"][0]["diagnostics"]
    assert answer.headers["content-type"] == "application/fhir+json"


def test_the_capability_statement_names_what_can_be_searched(node: FhirNode) -> None:
    statement = node.client.get("/fhir/metadata").json()
    for resource in statement["rest"][0]["resource"]:
        for known in resource["searchParam"]:
            value = {"date": "2026-01-01", "reference": "x"}.get(known["type"], "a|b")
            answer = node.client.get(f"/fhir/{resource['type']}", params={known["name"]: value, "_count": "0"})
            assert answer.status_code == 200, (resource["type"], known)
        for include in resource.get("searchInclude", []):
            assert node.client.get(f"/fhir/{resource['type']}", params={"_include": include}).status_code == 200


def others(accession: str, status: str = "preliminary") -> Json:
    """A transaction of another vendor: a pneumothorax, its device, and the order by accession number."""

    def entry(name: str, resource: Json, **request: str) -> Json:
        return {"fullUrl": f"urn:uuid:{name}", "resource": resource, "request": request}

    seen = {
        "resourceType": "Observation",
        "identifier": [{"system": "urn:vendor", "value": f"O-{accession}"}],
        "status": status,
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "36118008", "display": "Pneumothorax"}]},
        "valueBoolean": True,
        "device": {"reference": "urn:uuid:device"},
    }
    device = {
        "resourceType": "Device",
        "identifier": [{"system": "urn:vendor", "value": "D"}],
        "deviceName": [{"name": "ct-lung", "type": "model-name"}],
    }
    accessed = {"type": "ServiceRequest", "identifier": {"value": accession}}
    said = report(1, status=status, result=[{"reference": "urn:uuid:seen"}], basedOn=[accessed])
    said["identifier"][0]["value"] = f"R-{accession}"
    entries = [
        entry("report", said, method="PUT", url=f"DiagnosticReport?identifier=urn:test|R-{accession}"),
        entry("seen", seen, method="PUT", url=f"Observation?identifier=urn:vendor|O-{accession}"),
        entry("device", device, method="POST", url="Device", ifNoneExist="identifier=urn:vendor|D"),
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def add_study(database: Database, study_uid: str, accession: str, patient_id: str = "P-77") -> None:
    with database.transaction() as session:
        row = StudyRow(study_uid=study_uid, state=StudyState.READ, patient_id=patient_id, accession_number=accession)
        row.first_instance_at = row.last_instance_at = row.due_at = time.time()
        session.add(row)


def reports_of(database: Database, study_uid: str) -> list[ReportRow]:
    with database.reading() as session:
        return list(session.scalars(select(ReportRow).where(ReportRow.study_uid == study_uid)))


def test_triage_reads_the_report_of_another_system(node: FhirNode, database: Database) -> None:
    add_study(database, STUDY, "A-77")
    for _ in range(2):
        assert call(node, "POST", "", others("A-77")).status_code == 200
    (row,) = reports_of(database, STUDY)
    assert row.model == "ct-lung (by FHIR)", "never taken for the node's own model of that name"
    found = node.client.get(f"/api/studies/{STUDY}").json()["worklist"]
    assert (found["level"], found["reason"]) == ("STAT", "Pneumothorax [ct-lung (by FHIR)]")
    assert call(node, "POST", "", others("A-77", "entered-in-error")).status_code == 200
    assert node.client.get(f"/api/studies/{STUDY}").json()["worklist"]["level"] == "ROUTINE"
    assert len(node.search("DiagnosticReport?identifier=urn:test|R-A-77")) == 1


def test_a_finding_of_another_system_can_be_ruled_on_and_its_report_is_not_for_the_node_to_run_or_retract(
    node: FhirNode, database: Database
) -> None:
    study_uid, by = "1.2.3.178", "ct-lung (by FHIR)"
    add_study(database, study_uid, "A-178")
    said = others("A-178")
    said["entry"][1]["resource"]["identifier"].append({"system": "urn:dicom:uid", "value": "urn:oid:1.2.78"})
    assert call(node, "POST", "", said).status_code == 200
    page = node.client.get(f"/studies/{study_uid}").text
    assert "A report of another system" in page and "Run again" not in page and "Retract…" not in page
    ruling = {"model": by, "tracking_uid": "1.2.78", "ruling": "accepted"}
    assert node.client.post(f"/studies/{study_uid}/rulings", data=ruling).status_code in (200, 303)
    with database.reading() as session:
        assert [(v.model, v.ruling) for v in verdicts.history(session, study_uid)] == [(by, "accepted")]


def level(node: FhirNode, study_uid: str) -> str:
    return str(node.client.get(f"/api/studies/{study_uid}").json()["worklist"]["level"])


def posted(node: FhirNode, accession: str) -> tuple[str, Json]:
    """The path of a vendor's report about the study of this accession number, and what it says."""
    assert call(node, "POST", "", others(accession)).status_code == 200
    (found,) = node.search(f"DiagnosticReport?identifier=urn:test|R-{accession}")
    return f"/DiagnosticReport/{found['id']}", found


def without(said: Json, *names: str) -> Json:
    return {k: v for k, v in said.items() if k not in names}


SHAPES = ("contained", "versioned", "absolute", "identifier", "panel")


def shaped(node: FhirNode, shape: str, accession: str) -> tuple[Json, ...]:
    """A vendor's critical finding and the report of it, linked in one of the ways that FHIR allows."""
    made = others(accession)
    said, seen = (e["resource"] for e in made["entry"][:2])
    seen = {**without(seen, "device"), "interpretation": [{"coding": [{"code": "AA"}]}]}
    panel = {**without(seen, "valueBoolean", "interpretation", "identifier"), "code": {"text": "CT"}}
    if shape == "contained":
        return ({**said, "contained": [{**seen, "id": "o"}], "result": [{"reference": "#o"}]},)
    if shape == "identifier":
        return ({**said, "result": [{"identifier": seen["identifier"][0]}]}, seen)
    there = call(node, "POST", "/Observation", seen if shape != "panel" else panel).json()
    address = {
        "versioned": f"Observation/{there['id']}/_history/1",
        "absolute": f"{node.url}/Observation/{there['id']}",
    }
    if shape == "panel":
        child = call(node, "POST", "/Observation", {**seen, "valueBoolean": False}).json()
        panel = {**there, "hasMember": [{"reference": f"Observation/{child['id']}"}]}
        return (
            {**said, "result": [{"reference": f"Observation/{there['id']}"}]},
            panel,
            {**child, "valueBoolean": True},
        )
    return ({**said, "result": [{"reference": address[shape]}]},)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_finding_counts_however_the_report_refers_to_it(node: FhirNode, database: Database, shape: str) -> None:
    uid, accession = f"1.2.3.9.{SHAPES.index(shape)}", f"A-{shape}"
    add_study(database, uid, accession)
    first, *later = shaped(node, shape, accession)
    assert call(node, "POST", "/DiagnosticReport", first).status_code == 201
    for resource in later:
        assert level(node, uid) == "ROUTINE"
        method, path = ("PUT", f"/{resource['id']}") if "id" in resource else ("POST", "")
        assert call(node, method, f"/Observation{path}", resource).is_success
    assert level(node, uid) == "STAT"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"status": "registered", "result": []}, "No finding to go by: the report is not complete yet"),
        ({"result": [{"reference": "Observation/to-come"}]}, "No finding to go by: 1 of its findings is not here"),
        ({"result": [], "conclusion": "Large pneumothorax."}, "No finding to go by: no finding in it is coded"),
    ],
)
def test_a_report_that_says_nothing_that_can_be_read_is_not_called_clear(
    node: FhirNode, database: Database, more: Json, words: str
) -> None:
    uid, accession = f"1.2.3.8.{len(words)}", f"A-unread-{len(words)}"
    add_study(database, uid, accession)
    said = {k: v for k, v in (others(accession)["entry"][0]["resource"] | more).items() if v}
    assert call(node, "POST", "/DiagnosticReport", said).status_code == 201
    found = node.client.get(f"/api/studies/{uid}").json()["worklist"]
    assert found["reason"].startswith(words)
    assert [a["outcome"] for a in found["answers"]] == ["uncoded" if "coded" in words else "waiting"]


def test_a_value_may_hold_what_parts_values_and_an_address_of_this_endpoint_is_its_own(node: FhirNode) -> None:
    odd = report(26, identifier=[{"system": "urn:odd", "value": "A,1|2"}])
    made = call(node, "POST", "/DiagnosticReport", odd).json()
    asked = {"identifier": "urn:odd|A\\,1\\|2,urn:odd|B"}
    assert [e["resource"]["id"] for e in node.client.get("/fhir/DiagnosticReport", params=asked).json()["entry"]] == [
        made["id"]
    ]
    patient = call(node, "POST", "/Patient", {"resourceType": "Patient", "gender": "other"}).json()["id"]
    said = report(27, subject={"reference": f"{node.url}/Patient/{patient}"}, identifier=[{"value": "R27"}])
    kept = call(node, "POST", "/DiagnosticReport", said).json()
    assert kept["subject"]["reference"] == f"Patient/{patient}"
    for asked in ({"subject": f"{node.url}/Patient/{patient}"}, {"patient.gender": "other"}):
        found = node.client.get("/fhir/DiagnosticReport", params={**asked, "_format": "json"}).json()
        assert [e["resource"]["id"] for e in found["entry"]] == [kept["id"]]


def test_an_ai_that_reports_twice_agrees_with_nobody_and_keeps_its_name_in_rules(
    node: FhirNode, database: Database
) -> None:
    add_study(database, "1.2.3.86", "A-86")
    for name in ("A-86", "A-86 again"):
        twice = others(name)
        twice["entry"][0]["resource"]["basedOn"][0]["identifier"]["value"] = "A-86"
        assert call(node, "POST", "", twice).status_code == 200
    first, second = reports_of(database, "1.2.3.86")
    assert first.model != second.model
    vendor, model = TriageRule(name="vendor", models=("ct-lung (by FHIR)",), level="HIGH"), "ct-lung (by FHIR)"
    both = TriageRule(name="two-agree", agreeing=2, level="STAT")
    assert str(decided(database, both, vendor).level) == "HIGH", "one AI, however often it says so"
    with database.transaction() as session:
        session.get_one(ReportRow, first.id).status = "entered-in-error"
        session.get_one(ReportRow, first.id).updated_at += 1
    assert [r.by for r in Reader(database, None).reports_of("1.2.3.86")] == [model, model]
    assert str(decided(database, vendor).level) == "HIGH", "the second report is that model's too"


def decided(database: Database, *policy: TriageRule) -> Entry:
    found = Reader(database, policy).entry("1.2.3.86", time.time())
    assert found is not None
    return found


def test_a_retraction_that_does_not_say_its_study_again_is_heeded(node: FhirNode, database: Database) -> None:
    add_study(database, "1.2.3.81", "A-81")
    path, said = posted(node, "A-81")
    assert level(node, "1.2.3.81") == "STAT"
    bare = {**without(said, "basedOn", "result", "subject"), "status": "entered-in-error"}
    assert call(node, "PUT", path, bare).status_code == 200
    (row,) = reports_of(database, "1.2.3.81")
    assert (row.status, level(node, "1.2.3.81")) == ("entered-in-error", "ROUTINE")
    said["status"] = "corrected"
    assert call(node, "PUT", path, without(said, "basedOn")).status_code == 200
    assert level(node, "1.2.3.81") == "STAT", "the same patient: still about the same study"


def test_a_report_that_is_corrected_to_another_study_raises_that_one_alone(node: FhirNode, database: Database) -> None:
    for number in ("82", "83"):
        add_study(database, f"1.2.3.{number}", f"A-{number}")
    assert call(node, "POST", "", others("A-83")).status_code == 200
    path, said = posted(node, "A-82")
    about = {"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3.83"}}
    corrected = {**without(said, "basedOn"), "status": "corrected", "imagingStudy": [about]}
    assert call(node, "PUT", path, corrected).status_code == 200
    assert (reports_of(database, "1.2.3.82"), level(node, "1.2.3.82")) == ([], "ROUTINE")
    assert len({row.model for row in reports_of(database, "1.2.3.83")}) == 2
    story = [e["sentence"] for e in node.client.get("/api/studies/1.2.3.82").json()["events"]]
    assert any("not about this study any more" in sentence for sentence in story)


def test_a_report_that_is_corrected_to_a_study_not_here_or_another_patient_leaves_its_study(
    node: FhirNode, database: Database
) -> None:
    add_study(database, "1.2.3.84", "A-84")
    path, said = posted(node, "A-84")
    other = {**without(said, "basedOn"), "subject": {"type": "Patient", "identifier": {"value": "SOMEBODY ELSE"}}}
    assert call(node, "PUT", path, other).status_code == 200
    assert reports_of(database, "1.2.3.84") == []
    assert call(node, "PUT", path, said).status_code == 200
    assert level(node, "1.2.3.84") == "STAT"
    later = [{"type": "ServiceRequest", "identifier": {"value": "A-85"}}]
    assert call(node, "PUT", path, {**said, "basedOn": later}).status_code == 200
    assert reports_of(database, "1.2.3.84") == []
    add_study(database, "1.2.3.85", "A-85")
    assert fhir_reports.link_waiting(database, time.time()) >= 1
    assert level(node, "1.2.3.85") == "STAT"


def test_a_report_waits_for_its_images_and_never_goes_to_another_patient(node: FhirNode, database: Database) -> None:
    assert call(node, "POST", "", others("A-78")).status_code == 200
    add_study(database, "1.2.3.78", "A-78", patient_id="SOMEBODY ELSE")
    fhir_reports.link_waiting(database, time.time())
    assert reports_of(database, "1.2.3.78") == []
    add_study(database, "1.2.3.79", "A-78")
    fhir_reports.link_waiting(database, time.time())
    assert len(reports_of(database, "1.2.3.79")) == 1


def test_a_report_about_no_study_here_is_listed_with_the_reason_until_its_study_comes(
    node: FhirNode, database: Database
) -> None:
    add_study(database, "1.2.3.70", "A-70", patient_id="SOMEBODY ELSE")
    other, missing = (posted(node, number)[0] for number in ("A-70", "A-71"))
    nameless = call(node, "POST", "/DiagnosticReport", report(28)).json()["id"]

    def why(path: str) -> str:
        shown = [line for line in node.client.get("/triage").text.splitlines() if path in line]
        return shown[0].rpartition("): ")[2].removesuffix("</li>") if shown else ""

    assert why(other) == "the study with its accession number is of a patient with another identifier"
    assert why(missing) == "no study here has its accession number"
    assert why(f"/{nameless}") == "it names neither a study nor an order"
    count = int(float(node.client.get("/metrics").text.split("\nradnode_reports_without_study ")[1].split("\n")[0]))
    assert count >= 3
    add_study(database, "1.2.3.71", "A-71")
    fhir_reports.link_waiting(database, time.time())
    assert why(missing) == ""
    assert f"\nradnode_reports_without_study {count - 1}.0\n" in node.client.get("/metrics").text


def test_what_the_node_reported_is_changed_by_nobody_else(node: FhirNode, database: Database) -> None:
    own = bundle(STUDY, "ct-own", "nothing found")
    with database.transaction() as session:
        fhir_transaction.keep(session, own, time.time())
    assert call(node, "POST", "", own).status_code == 200, "the same again changes nothing"
    forged = bundle(STUDY, "ct-own", "cancer")
    answer = call(node, "POST", "", forged)
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (403, "forbidden")
    query = own["entry"][0]["request"]["url"]
    assert [r["conclusion"] for r in node.search(query)] == ["nothing found"]


def test_a_transaction_is_done_whole_or_not_at_all(node: FhirNode) -> None:
    half = others("A-80")
    half["entry"][2]["resource"]["status"] = "bogus"
    half["entry"][2]["request"].pop("ifNoneExist")
    assert call(node, "POST", "", half).status_code == 422
    assert node.search("Observation?identifier=urn:vendor|O-A-80") == []


class Hook(HTTPServer):
    """A subscriber, which refuses what it is told as often as `refusals` says."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, Any]] = []
        self.refusals = 0
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.told.append((self.path, self.headers["Authorization"], body))
                hook.refusals -= 1
                self.send_response(503 if hook.refusals >= 0 else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@contextmanager
def listening() -> Iterator[Hook]:
    with Hook() as hook:
        thread = threading.Thread(target=hook.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hook
        finally:
            hook.shutdown()
            thread.join(60)


def subscription(endpoint: str) -> Json:
    channel = {
        "type": "rest-hook",
        "endpoint": endpoint,
        "payload": "application/fhir+json",
        "header": ["Authorization: Bearer x"],
    }
    made: Json = {"resourceType": "Subscription", "status": "requested", "reason": "worklist", "channel": channel}
    return {**made, "criteria": "DiagnosticReport?status=preliminary&identifier=urn:test|R25"}


def test_a_subscriber_is_told_until_it_hears(node: FhirNode, database: Database) -> None:
    policy = Deliver(retry_s=1.0)
    with listening() as hook, httpx.Client(timeout=60.0) as client:
        hook.refusals = 1
        made = call(node, "POST", "/Subscription", subscription(f"http://127.0.0.1:{hook.server_port}/hook"))
        assert (made.status_code, made.json()["status"]) == (201, "active")
        for number in (24, 25):
            assert call(node, "POST", "/DiagnosticReport", report(number)).status_code == 201
        now = time.time()
        assert subscriptions.deliver_due(database, policy, client, now) == 1, "only what was asked for"
        assert subscriptions.deliver_due(database, policy, client, now) == 0, "not before its time"
        assert subscriptions.deliver_due(database, policy, client, now + 60) == 1
        assert subscriptions.deliver_due(database, policy, client, now + 120) == 0
        (path, secret, body), second = hook.told
        assert (path, secret) == (f"/hook/DiagnosticReport/{body['id']}", "Bearer x")
        assert body["identifier"][0]["value"] == "R25"
        assert second == hook.told[0]
    with database.reading() as session:
        assert [r.state for r in session.scalars(select(NotificationRow))] == ["delivered"]


@pytest.mark.parametrize(
    "spoil",
    [
        {"channel": {"type": "rest-hook", "endpoint": "https://elsewhere.example/"}},
        {"channel": {"type": "rest-hook", "endpoint": "http://127.0.0.1:80@elsewhere.example/"}},
        {"channel": {"type": "websocket"}},
        {"criteria": "DiagnosticReport?colour=red"},
        {"criteria": "Medication"},
    ],
)
def test_a_subscription_that_cannot_be_served_is_refused(node: FhirNode, spoil: Json) -> None:
    answer = call(node, "POST", "/Subscription", subscription("http://127.0.0.1:9/") | spoil)
    assert 400 <= answer.status_code < 500
    assert answer.json()["resourceType"] == "OperationOutcome"


@pytest.mark.system
def test_the_same_on_postgresql(tmp_path: Path, postgres: Postgres) -> None:
    with fhir_node(tmp_path, ("http://127.0.0.1:",), database_url=postgres.new_database()) as node:
        assert call(node, "POST", "/Subscription", subscription("http://127.0.0.1:9/")).status_code == 201
        for _ in range(2):
            assert call(node, "POST", "", others("A-1")).status_code == 200
        query = "DiagnosticReport?subject.identifier=P-77&issued=ge2026-02-01&_sort=-issued,status,_id"
        (said, seen) = node.search(f"{query}&_include=DiagnosticReport:result&_count=5")
        assert said["result"][0]["reference"] == f"Observation/{seen['id']}"
        assert node.search("Observation?device:Device.identifier=urn:vendor|D&status:not=final")[0]["id"] == seen["id"]
        assert len(node.search(f"Observation?_revinclude=DiagnosticReport:result&_id={seen['id']}")) == 2
