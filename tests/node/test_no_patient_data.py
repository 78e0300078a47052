"""A patient's name, ID and accession number stand on pages and in answers for those who may see them, and nowhere else:
not in logs, metrics, errors, or addresses of the node's own pages."""

import inspect
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError
from support.core import Node
from support.filled import Filled, fill
from support.pages import serving

from radnode import pipeline
from radnode.settings import Web
from radnode.start import Sentences
from radnode.tables import EventRow, StudyRow
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


def test_the_page_is_served_without_an_access_log() -> None:
    assert "access_log=False" in inspect.getsource(app.serve)


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


def test_a_log_line_that_named_a_patient_would_be_seen_here(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    logging.getLogger("radnode.test").warning("A study came.", extra={"action": "x", "patient_id": PATIENT_ID})
    assert marks_in(told(caplog)) == [PATIENT_ID]
