"""Large transactions at `/fhir`: as few statements for many resources as for a few, and the same answers as one by one."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from radnode import start
from radnode.database import Database
from radnode.errors import FhirError
from radnode.fhir_server import search as fhir_search
from radnode.fhir_server import store as fhir_store
from radnode.fhir_server import transaction as fhir_transaction
from radnode.fhir_server.store import Json, Stored
from radnode.fhir_server.transaction import Writer
from radnode.settings import Settings

VENDOR = Writer(source="vendor")
FINDING = {"coding": [{"system": "http://snomed.info/sct", "code": "27925004"}]}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    settings = Settings(data=tmp_path)
    start.prepare(settings)
    made = Database(settings.url)
    yield made
    made.close()


def seen(number: int, **more: Any) -> Json:
    named = [{"system": "urn:vendor", "value": f"O-{number}"}]
    return {"resourceType": "Observation", "identifier": named, "status": "preliminary", "code": FINDING, **more}


def entry(resource: Json, method: str, url: str, **request: str) -> Json:
    return {"resource": resource, "request": {"method": method, "url": url, **request}}


def put(number: int, **more: Any) -> Json:
    return entry(seen(number, **more), "PUT", f"Observation?identifier=urn:vendor|O-{number}")


def transact(database: Database, *entries: Json) -> list[Stored]:
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}
    with database.transaction() as session:
        return fhir_transaction.transact(session, bundle, VENDOR, time.time())


def statements(database: Database, *entries: Json) -> int:
    """How many statements a transaction takes."""
    count = 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1

    event.listen(database.engine, "before_cursor_execute", counted)
    transact(database, *entries)
    event.remove(database.engine, "before_cursor_execute", counted)
    return count


def test_a_hundred_resources_take_as_few_statements_as_ten(database: Database) -> None:
    few = statements(database, *(put(n) for n in range(10)))
    assert few < 10
    assert statements(database, *(put(n) for n in range(100, 200))) == few
    changed = [put(n, note=[{"text": "again"}]) for n in range(100, 200)]
    few = statements(database, *(put(n, note=[{"text": "again"}]) for n in range(10)))
    assert statements(database, *changed) == few, "the versions before are replaced at once too"


def test_many_at_a_time_do_what_one_at_a_time_does(database: Database) -> None:
    first = transact(database, *(put(n) for n in range(1200)))  # more than one statement may hold
    assert all(s.created and s.version == 1 for s in first)
    again = transact(database, *(put(n, **({"note": [{"text": "new"}]} if n % 2 else {})) for n in range(1200)))
    assert [s.id for s in again] == [s.id for s in first]
    assert [(s.version, s.changed, s.created) for s in again[:2]] == [(1, False, False), (2, True, False)]
    with database.reading() as session:
        assert fhir_search.search(session, "Observation", [("status", "preliminary")]).total == 1200
        (found,) = fhir_search.matches(session, "Observation", [("identifier", "urn:vendor|O-7")])
        assert found.body["note"] == [{"text": "new"}]
        assert [s.version for s in fhir_store.history(session, "Observation", found.id)] == [2, 1]


def test_a_condition_that_finds_two_is_refused_and_one_that_finds_another_s_is_kept(database: Database) -> None:
    transact(database, entry(seen(1), "POST", "Observation"), entry(seen(1), "POST", "Observation"), put(2))
    with pytest.raises(FhirError, match="more than one") as refused:
        transact(database, put(1))
    assert refused.value.status == 412
    (there,) = transact(database, entry(seen(2), "POST", "Observation", ifNoneExist="identifier=urn:vendor|O-2"))
    assert (there.created, there.changed) == (False, False)
    with pytest.raises(FhirError, match="same resource"):
        transact(database, put(2), put(2))


def test_a_conditional_reference_finds_what_the_same_transaction_writes_after_it(database: Database) -> None:
    reference = {"reference": "Observation?identifier=urn:vendor|O-5"}
    report = {
        "resourceType": "DiagnosticReport", "identifier": [{"system": "urn:vendor", "value": "R"}],
        "status": "preliminary", "code": {"text": "AI"}, "result": [reference],
    }  # fmt: skip
    made, other = transact(database, entry(report, "POST", "DiagnosticReport"), put(5))
    assert made.body["result"] == [{"reference": other.address}]
    with pytest.raises(FhirError, match="Nothing is found"):
        transact(
            database, entry({**report, "result": [{"reference": "Observation?code=none"}]}, "POST", "DiagnosticReport")
        )
