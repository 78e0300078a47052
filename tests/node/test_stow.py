"""STOW-RS into the same store: what is answered, and what is kept."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from httpx import Client, Response
from pydicom import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import select
from support.core import STUDY, Node
from support.objects import dataset_of, encoded, image, write
from support.receiver import wait_until
from support.store import arrival_of, files, open_store, rows, settings_for

from radnode import complete
from radnode.peers.table import Peer, add_peer, list_refusals, remove_peer
from radnode.sending import WEB
from radnode.settings import Settings
from radnode.store import Store
from radnode.tables import SendingRow
from radnode.web import app, dicomweb
from radnode.web.dicomweb import Batch

BOUNDARY = "a-boundary"
RELATED = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


@contextmanager
def client_of(settings: Settings, store: Store) -> Iterator[Client]:
    """A client of a web server of its own, over a real socket."""
    served = FastAPI()
    served.include_router(dicomweb.router(settings, store))
    server = uvicorn.Server(uvicorn.Config(served, log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        wait_until(lambda: server.started, 60, "the web server")
        try:
            with Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(settings_for(tmp_path / "data", max_object_mb=1))
    add_peer(store.database, Peer(name="pacs", address="127.0.0.0/8"))
    yield store
    store.close()


@pytest.fixture
def client(store: Store, tmp_path: Path) -> Iterator[Client]:
    with client_of(settings_for(tmp_path / "data", max_object_mb=1), store) as client:
        yield client


def body(*parts: bytes, content_type: bytes = b"application/dicom") -> bytes:
    head = b"--" + BOUNDARY.encode() + b"\r\nContent-Type: " + content_type + b"\r\n\r\n"
    return b"".join(head + part + b"\r\n" for part in parts) + b"--" + BOUNDARY.encode() + b"--\r\n"


def file_of(folder: Path, ds: Dataset) -> bytes:
    return write(folder, ds)[0].read_bytes()


def post(client: Client, data: bytes, path: str = "/dicom-web/studies", content_type: str = RELATED) -> Response:
    return client.post(path, content=data, headers={"content-type": content_type})


def test_objects_are_kept_byte_for_byte_and_listed(client: Client, store: Store, tmp_path: Path) -> None:
    objects = [image(size=200, seed=n) for n in range(3)]
    answer = post(client, body(*(file_of(tmp_path, ds) for ds in objects)))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom+json")
    kept = answer.json()["00081199"]["Value"]
    assert [item["00081155"]["Value"] for item in kept] == [[ds.SOPInstanceUID] for ds in objects]
    assert [item["00081150"]["Value"] for item in kept] == [[ds.SOPClassUID] for ds in objects]
    assert "00081198" not in answer.json()
    assert {r.sop_uid: dataset_of(store.data / r.file) for r in rows(store)} == {
        ds.SOPInstanceUID: encoded(ds) for ds in objects
    }
    assert {(r.calling_ae, r.called_ae, r.address) for r in rows(store)} == {("STOW-RS", "RADNODE", "127.0.0.1")}


def test_a_body_in_small_chunks_is_the_same(client: Client, store: Store, tmp_path: Path) -> None:
    ds = image(size=100)
    data = body(file_of(tmp_path, ds))
    chunks = (data[at : at + 77] for at in range(0, len(data), 77))
    answer = client.post("/dicom-web/studies", content=chunks, headers={"content-type": RELATED})
    assert answer.status_code == 200
    assert dataset_of(files(store)[0]) == encoded(ds)


def test_some_refused_is_202_with_a_reason_for_each(client: Client, store: Store, tmp_path: Path) -> None:
    good, cut = image(), image()
    answer = post(client, body(file_of(tmp_path, good), file_of(tmp_path, cut)[:-20], b"no DICOM at all" * 50))
    assert answer.status_code == 202
    (kept,) = answer.json()["00081199"]["Value"]
    assert kept["00081155"]["Value"] == [good.SOPInstanceUID]
    first, second = answer.json()["00081198"]["Value"]
    assert first["00081155"]["Value"] == [cut.SOPInstanceUID]
    assert first["00081197"]["Value"] == second["00081197"]["Value"] == [0xC000]
    assert len(files(store)) == len(rows(store)) == 1


def test_all_refused_is_409(client: Client, store: Store, tmp_path: Path) -> None:
    answer = post(client, body(file_of(tmp_path, image())[:-20]))
    assert (answer.status_code, "00081199" in answer.json()) == (409, False)
    assert files(store) == []


def test_an_object_of_another_study_is_refused_with_a900(client: Client, store: Store, tmp_path: Path) -> None:
    ds = image()
    answer = post(client, body(file_of(tmp_path, ds)), f"/dicom-web/studies/{generate_uid()}")
    assert answer.status_code == 409
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA900]
    assert files(store) == []
    assert post(client, body(file_of(tmp_path, ds)), f"/dicom-web/studies/{ds.StudyInstanceUID}").status_code == 200


def test_an_over_long_object_is_413(client: Client, store: Store, tmp_path: Path) -> None:
    assert post(client, body(file_of(tmp_path, image(size=1024)))).status_code == 413
    assert files(store) == []


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/dicom", 415),
        ("multipart/form-data; boundary=a-boundary", 415),
        ('multipart/related; type="application/dicom+json"; boundary=a-boundary', 415),
        ('multipart/related; type="application/dicom"', 400),
        ("", 415),
    ],
)
def test_a_wrong_content_type_is_refused(client: Client, tmp_path: Path, content_type: str, status: int) -> None:
    assert post(client, body(file_of(tmp_path, image())), content_type=content_type).status_code == status


@pytest.mark.parametrize("data", [b"", b"--a-boundary--\r\n", b"nonsense", body(b"x" * 500)[:-30]])
def test_a_body_that_is_none_is_400(client: Client, store: Store, data: bytes) -> None:
    assert post(client, data).status_code == 400
    assert files(store) == []


def test_a_body_cut_in_an_object_keeps_what_was_whole_and_nothing_else(
    client: Client, store: Store, tmp_path: Path
) -> None:
    whole = image()
    data = body(file_of(tmp_path, whole), file_of(tmp_path, image(size=300)))
    assert post(client, data[:-5000]).status_code == 400
    assert [dataset_of(file) for file in files(store)] == [encoded(whole)]


def test_a_part_of_another_type_is_refused(client: Client, tmp_path: Path) -> None:
    data = body(file_of(tmp_path, image()), content_type=b"application/dicom+json")
    assert post(client, data).status_code == 409


def test_a_uid_in_the_address_that_is_none_is_400(client: Client, tmp_path: Path) -> None:
    assert post(client, body(file_of(tmp_path, image())), "/dicom-web/studies/1..2").status_code == 400


def test_the_same_object_by_http_and_by_dimse_is_one(client: Client, store: Store, tmp_path: Path) -> None:
    ds = image()
    store.put(arrival_of(ds), [encoded(ds)])
    assert post(client, body(file_of(tmp_path, ds))).status_code == 200
    assert len(files(store)) == len(rows(store)) == 1


def test_an_unknown_address_is_refused_and_recorded(store: Store, tmp_path: Path) -> None:
    remove_peer(store.database, "pacs")
    with client_of(settings_for(tmp_path / "data"), store) as stranger:
        assert post(stranger, body(file_of(tmp_path, image()))).status_code == 403
    assert files(store) == []
    (refusal,) = list_refusals(store.database)
    assert (refusal.calling_ae, refusal.address) == ("STOW-RS", "127.0.0.1")


def test_a_study_is_not_complete_while_the_request_that_brings_it_goes_on(node: Node, tmp_path: Path) -> None:
    """A large object over a slow line takes longer than the quiet time."""
    first, second = image(size=200, seed=1), image(size=200, seed=2)
    second.StudyInstanceUID = first.StudyInstanceUID
    made = Store(node.settings, node.database)
    batch = Batch(made, node.settings, "10.0.0.1", "")

    def done(later_s: float) -> tuple[str, ...]:
        now = time.time() + later_s
        complete.settle(node.database, node.settings, since=0.0, now=now)
        return complete.complete(node.database, now=now)

    assert batch.take([file_of(tmp_path, first)]) == ("", first.StudyInstanceUID)
    quiet_s = node.settings.complete.quiet_s
    assert done(quiet_s + 1.0) == (), "quiet, and its request goes on"
    batch.take([file_of(tmp_path, second)])
    batch.close()
    assert done(quiet_s + 1.0) == (first.StudyInstanceUID,)
    assert node.study(first.StudyInstanceUID).instances == 2
    made.close()


def test_what_a_killed_web_process_took_in_is_forgotten_by_the_next_one(node: Node) -> None:
    with node.database.transaction() as session:
        session.add(SendingRow(association="a", study_uid=STUDY, slot=WEB, alive_until=1e12))
    served = app.create(node.settings)

    async def begin_and_end() -> None:
        async with served.router.lifespan_context(served):
            pass

    asyncio.run(begin_and_end())
    with node.database.reading() as session:
        assert session.scalars(select(SendingRow)).all() == []
