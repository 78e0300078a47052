"""What every test may ask for: a PACS, the real CT, a node."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.geometries import Delivered, deliver
from support.orthanc import Orthanc

ROOT = Path(__file__).resolve().parent.parent

# How long an example takes is the machine's affair: no test fails for it.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no worker is left alone with them at the end: files with tests against real peers."""
    system = {item.path for item in items if item.get_closest_marker("system")}
    items.sort(key=lambda item: item.path not in system)


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Orthanc]:
    """An Orthanc of the test's own."""
    with Orthanc(tmp_path / "pacs") as orthanc:
        yield orthanc


@pytest.fixture(scope="session")
def shared_pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """One Orthanc for every test that does not mind what others put into it."""
    with Orthanc(tmp_path_factory.mktemp("shared-pacs")) as orthanc:
        yield orthanc


@pytest.fixture(scope="session")
def geometries(tmp_path_factory: pytest.TempPathFactory, shared_pacs: Orthanc) -> Delivered:
    """Studies whose slices lie every way, read by a node, with their results in the shared PACS."""
    return deliver(tmp_path_factory.mktemp("geometries"), shared_pacs)


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """The folder of one real chest CT: `data/ct-chest-lidc` in RADNODE_SHARED or in `shared` beside the repository."""
    shared = Path(os.environ.get("RADNODE_SHARED", ROOT.parent / "shared"))
    folder = shared / "data" / "ct-chest-lidc"
    if not folder.is_dir():
        pytest.fail("The real chest CT is not there: set RADNODE_SHARED to the folder that holds data/ct-chest-lidc.")
    return folder
