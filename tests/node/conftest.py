"""What tests of the node may ask for beside tests/conftest.py."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.core import Node, opened
from support.findings import Scene, scene
from support.postgres import Postgres
from support.reading import receive

from radnode import audit_syslog, capabilities, check, evidence_ask, identity_provider
from radnode.destinations import caller
from radnode.peers import steps
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
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a node with default settings, which is the one that commands find."""
    for key in [k for k in os.environ if k.startswith("RADNODE_")]:
        monkeypatch.delenv(key)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RADNODE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def place(node: Node) -> Scene:
    """A small CT that arrived at the node."""
    made = scene(node.settings.data / "objects", shape=(12, 40, 48))
    receive(node, made)
    return made


@pytest.fixture
def node(database_url: str, tmp_path: Path) -> Iterator[Node]:
    """A node without sockets, on each kind of database."""
    settings = Settings(data=tmp_path / "data", database_url=database_url)
    with opened(settings) as made:
        yield made


@pytest.fixture(scope="session", autouse=True)
def patience_with_peers() -> Iterator[None]:
    """The peers of these tests are on this machine, which may be slow: nobody is given up after five or ten seconds.

    A test of what is said of a silent peer sets a shorter time of its own.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (audit_syslog, capabilities, check, evidence_ask, identity_provider, steps):
            patch.setattr(module, "TIMEOUT_S", 60.0)
        patch.setattr(caller, "CONNECT_S", 60.0)
        yield
