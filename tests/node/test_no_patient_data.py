"""A patient's name, ID and accession number stand on pages and in answers for those who may see them, and nowhere else:
not in logs, metrics, errors, or addresses of the node's own pages."""

import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError
from support.core import Node
from support.delivering import delivering
from support.filled import Filled, fill
from support.pages import serving
from support.receiver import wait_until
from support.results import add_job, add_study, four, record

import radnode_dicom_sr
from radnode import edited, pipeline
from radnode.destinations.dimse import judge
from radnode.errors import DeliveryError
from radnode.logs import JsonLines, Sentences
from radnode.settings import Deliver, Destination, Web
from radnode.tables import DeliveryRow, EventRow, StudyRow
from radnode.web import app

NAME, PATIENT_ID, ACCESSION, BIRTH = "ZZMUSTERMANN", "ZZPID4711", "ZZACC0815", "19420229"
MARKS = (NAME, PATIENT_ID, ACCESSION, BIRTH)
PAGES = (
    "/", "/studies", "/upload", "/triage", "/peers", "/models", "/users", "/audit", "/rules", "/reconcile",
    "/fragments/worklist", "/triage/simulation",
)  # fmt: skip


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    node = fill(tmp_path_factory.mktemp("node"), web=Web())
    with node.database.transaction() as session:
        for row in session.scalars(select(StudyRow)):
            row.patient_name, row.patient_id = f"{NAME}^Anna", PATIENT_ID
            row.accession_number, row.patient_birth_date = ACCESSION, BIRTH
    yield node
    node.database.close()


@pytest.fixture
def client(filled: Filled) -> Iterator[httpx.Client]:
    with serving(filled.settings) as made:
        made.timeout = httpx.Timeout(60)
        yield made


def marks_in(words: str) -> list[str]:
    return [mark for mark in MARKS if mark in words]


def told(caplog: pytest.LogCaptureFixture) -> str:
    """The log as it is written, with the keys of `extra`."""
    written = Sentences("%(message)s")
    return "\n".join(written.format(record) for record in caplog.records)


def test_no_address_on_any_page_holds_patient_data(client: httpx.Client, filled: Filled) -> None:
    found, shown = 0, False
    for path in (*PAGES, f"/studies/{filled.lesion}", f"/studies/{filled.lesion}/patient"):
        page = client.get(path)
        assert page.status_code == 200, path
        shown = shown or NAME in page.text
        for address in re.findall(r'(?:href|src|action|data-live)="([^"]*)"', page.text):
            found += 1
            assert marks_in(address) == [], (path, address)
    assert shown  # the pages themselves do show it, or this test would show nothing
    assert found > 100


def test_the_page_is_served_without_an_access_log(filled: Filled) -> None:
    assert app.configuration(filled.settings).access_log is False


def test_metrics_and_health_hold_none(client: httpx.Client) -> None:
    for path in ("/metrics", "/healthz", "/readyz", "/openapi.json"):
        assert marks_in(client.get(path).text) == [], path


def test_errors_name_no_patient_and_logs_hold_none(
    client: httpx.Client, filled: Filled, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = (
        ("GET", f"/studies/{NAME}"), ("GET", f"/results/{PATIENT_ID}/file"), ("GET", f"/api/studies/{PATIENT_ID}"),
        ("GET", f"/fhir/Patient?nonsense={PATIENT_ID}"), ("POST", f"/studies/{filled.lesion}/rerun"),
        ("POST", f"/studies/{filled.lesion}/retract"), ("GET", "/results/1.2.3/picture.png"),
    )  # fmt: skip
    for method, path in wrong:
        client.request(method, path)
    for path in PAGES:
        client.get(path)
    # the test's own client; and the access log that the node switches off, to which pytest itself adds a handler
    others = ("httpx", "httpcore", "hpack", "uvicorn.access")
    own = [r for r in caplog.records if not r.name.startswith(others)]
    written = [(r.name, Sentences("%(message)s").format(r)) for r in own]
    assert [line for line in written if marks_in(line[1])] == []


def test_receiving_and_deciding_log_no_patient(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    node.arrive(
        1.0, PatientID=PATIENT_ID, PatientName=f"{NAME}^Anna", AccessionNumber=ACCESSION, PatientBirthDate=BIRTH
    )
    pipeline.settle(node.database, node.settings, since=0.0)
    pipeline.complete(node.database)
    pipeline.route(node.database, node.settings)
    with node.database.reading() as session:
        assert session.scalars(select(StudyRow.patient_id)).one() == PATIENT_ID
        story = " ".join(session.scalars(select(EventRow.sentence)))
    assert story
    assert marks_in(story) == []
    assert marks_in(told(caplog)) == []


def test_an_error_of_the_database_is_told_without_the_values_of_the_statement(node: Node) -> None:
    with pytest.raises(SQLAlchemyError) as error, node.database.transaction() as session:
        session.execute(text("INSERT INTO nowhere (name) VALUES (:name)"), {"name": NAME})
    assert NAME not in str(error.value)


class Blabber(BaseHTTPRequestHandler):
    """A FHIR server that refuses everything and says whose it was."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        said = f'{{"resourceType": "OperationOutcome", "issue": [{{"diagnostics": "no patient {NAME} {PATIENT_ID}"}}]}}'
        self.send_response(503)
        self.end_headers()
        self.wfile.write(said.encode())

    do_GET = do_POST  # noqa: N815  the names are those of http.server

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def blabbing() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Blabber) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/fhir"
        server.shutdown()
        thread.join()


def test_what_other_systems_say_is_for_those_who_may_see_the_study_and_not_for_the_log(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    with blabbing() as url:
        to = (Destination(name="ehr", kind="fhir", url=url),)
        settings = node.settings.model_copy(update={"destinations": to, "deliver": Deliver(retry_s=0.1, timeout_s=60)})
        add_study(node.database, "1.2.3")
        record(node.database, settings.data, add_job(node.database, "1.2.3"), four("1.2.3"), to)
        with delivering(settings):
            wait_until(lambda: "owed to ehr" in told(caplog), 60, "a failed delivery")
    with node.database.reading() as session:
        assert NAME in session.scalars(select(DeliveryRow.error)).one()
    assert "1 result owed to ehr: FHIR server answered 503" in told(caplog)
    assert marks_in(told(caplog)) == []


@pytest.mark.parametrize("comment", ["", NAME])
def test_a_status_of_a_pacs_goes_to_the_log_without_its_comment(comment: str) -> None:
    with pytest.raises(DeliveryError) as error:
        judge(0xA700, comment)
    assert error.value.sentence == "not stored: status 0xA700"
    assert str(error.value) == f"not stored: status 0xA700{f': {NAME}' if comment else ''}"


def test_errors_of_libraries_are_logged_without_the_values_that_they_quote() -> None:
    def stumble() -> None:
        try:
            int(NAME)
        except ValueError as e:
            raise DeliveryError("it cannot be sent", quoted=NAME) from e

    try:
        stumble()
    except DeliveryError as e:
        record_ = logging.LogRecord(
            "radnode", logging.ERROR, __file__, 1, "It failed.", (), (type(e), e, e.__traceback__)
        )
    for written in (Sentences("%(message)s").format(record_), JsonLines().format(record_)):
        assert marks_in(written) == []
        assert "ValueError" in written and "in stumble" in written and "it cannot be sent" in written


def test_a_line_of_the_log_holds_no_colours() -> None:
    record = logging.makeLogRecord({"msg": "It runs.", "levelname": "INFO", "color_message": "\x1b[1mIt runs.\x1b[0m"})
    for written in (Sentences(), JsonLines()):
        assert "color" not in written.format(record)


def test_warnings_that_quote_elements_are_not_written(tmp_path: Path) -> None:
    program = f"""
import sys
from pydicom.dataset import Dataset
from radnode.logs import log_to_stderr
if sys.argv[1] == "node": log_to_stderr()
Dataset().PatientID = "{PATIENT_ID}" + "x" * 80
Dataset().StudyDate = "{NAME}"
import hl7
print(hl7.parse("MSH|^~\\\\&|\\r").unescape("\\\\Cxx\\\\{NAME}"))
"""
    said = {
        who: subprocess.run([sys.executable, "-c", program, who], capture_output=True, text=True, check=True).stderr
        for who in ("plain", "node")
    }
    assert marks_in(said["plain"]) and not marks_in(said["node"]), said


def test_what_ends_a_role_or_a_thread_of_it_is_logged_without_the_words_of_libraries(data: Path) -> None:
    program = f"""
import sys, threading
from radnode import cli, schedule
def serve(*_):
    thread = threading.Thread(target=int, args=("{NAME}",))
    thread.start()
    thread.join()
    float("{PATIENT_ID}")
schedule.serve = serve
sys.argv = ["radnode", "schedule"]
if sys.argv: (cli.main if "{{how}}" == "node" else cli.cli)()
"""
    ended = {
        how: subprocess.run(
            [sys.executable, "-c", program.replace("{how}", how)], capture_output=True, text=True, check=False
        )
        for how in ("plain", "node")
    }
    assert marks_in(ended["plain"].stderr) == [NAME, PATIENT_ID]
    assert marks_in(ended["node"].stderr) == [], ended["node"].stderr
    assert ended["node"].stderr.count("builtins.ValueError") == 2 and ended["node"].returncode == 1


def test_a_report_that_cannot_be_read_back_is_told_without_what_stands_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def parse(_: bytes) -> None:
        float(NAME)

    monkeypatch.setattr(radnode_dicom_sr, "read", parse)
    (tmp_path / "sr.dcm").write_bytes(b"")
    assert edited.read(tmp_path / "sr.dcm") is None
    assert marks_in(told(caplog)) == [] and "ValueError" in told(caplog)


def test_a_log_line_that_named_a_patient_would_be_seen_here(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    logging.getLogger("radnode.test").warning("A study came.", extra={"action": "x", "patient_id": PATIENT_ID})
    assert marks_in(told(caplog)) == [PATIENT_ID]
