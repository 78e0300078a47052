"""What a transaction and a search of the node's own FHIR store cost, in processor time (the machine may be busy).

    python benchmarks/fhir_store.py [--kept 20000]

Transactions of 100 Observations of another system, into a store that keeps `kept` of them already; then searches.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from radnode import start
from radnode.database import Database
from radnode.fhir_server import search as fhir_search
from radnode.fhir_server import transaction as fhir_transaction
from radnode.fhir_server.transaction import Writer
from radnode.settings import Settings

AT_ONCE, ROUNDS = 100, 10
SEARCHES: tuple[tuple[tuple[str, str], ...], ...] = (
    (("identifier", "urn:vendor|kept-7"),),
    (("subject:identifier", "P7"), ("_lastUpdated", "gt2026-01-01")),
    (("status", "preliminary"), ("_sort", "-date"), ("_count", "50")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", type=int, default=20_000, help="Observations that are there before")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="radnode-fhir-") as folder:
        settings = Settings(data=Path(folder))
        start.prepare(settings)
        database = Database(settings.url)
        try:
            for first in range(0, chosen.kept, 1000):
                write(database, [put(f"kept-{n}", n) for n in range(first, min(first + 1000, chosen.kept))])
            measure(database, chosen.kept)
        finally:
            database.close()


def measure(database: Database, kept: int) -> None:
    print(f"{kept} Observations are kept; milliseconds of processor time, mean of {ROUNDS}")
    batches = [[put(f"{r}-{n}", n) for n in range(AT_ONCE)] for r in range(ROUNDS)]
    print(f"{cost(lambda r: write(database, batches[r])):8.1f}  a transaction of {AT_ONCE} conditional updates, new")
    print(f"{cost(lambda r: write(database, batches[r])):8.1f}  the same again, equal")
    for query in SEARCHES:
        print(f"{cost(partial(search, database, query)):8.1f}  {'&'.join('='.join(p) for p in query)}")


def cost(action: Callable[[int], object]) -> float:
    began = time.process_time()
    for number in range(ROUNDS):
        action(number)
    return 1000 * (time.process_time() - began) / ROUNDS


def put(name: str, number: int) -> dict[str, Any]:
    resource = {
        "resourceType": "Observation", "identifier": [{"system": "urn:vendor", "value": name}], "status": "preliminary",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "27925004"}]},
        "subject": {"type": "Patient", "identifier": {"value": f"P{number}"}},
        "effectiveDateTime": f"2026-03-{1 + number % 28:02}T10:00:00Z", "interpretation": [{"coding": [{"code": "POS"}]}],
    }  # fmt: skip
    return {
        "resource": resource,
        "request": {"method": "PUT", "url": f"Observation?identifier=urn:vendor|{name}"},
    }


def write(database: Database, entries: list[dict[str, Any]]) -> None:
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    with database.transaction() as session:
        fhir_transaction.transact(session, bundle, Writer(source="vendor"), time.time())


def search(database: Database, query: tuple[tuple[str, str], ...], _: int) -> None:
    with database.reading() as session:
        fhir_search.search(session, "Observation", query)


if __name__ == "__main__":
    main()
