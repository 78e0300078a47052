"""What tests of the node may ask for beside tests/conftest.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.core import Node
from support.postgres import Postgres

from radnode import migrations
from radnode.database import Database
from radnode.settings import Settings


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL cluster for all tests; each takes a database of its own."""
    with Postgres() as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database; the test runs once on each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'radnode.db'}"
    cluster: Postgres = request.getfixturevalue("postgres")
    return cluster.new_database()


@pytest.fixture
def node(database_url: str, tmp_path: Path) -> Iterator[Node]:
    """A node without sockets, on each kind of database."""
    settings = Settings(data=tmp_path / "data", database_url=database_url)
    settings.data.mkdir()
    migrations.upgrade(database_url)
    database = Database(database_url)
    yield Node(settings=settings, database=database)
    database.close()
