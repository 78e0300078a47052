"""What tests of the node may ask for beside tests/conftest.py."""

from collections.abc import Iterator

import pytest
from support.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL cluster for all tests; each takes a database of its own."""
    with Postgres() as cluster:
        yield cluster
