import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage
from support.fhir_server import FhirServer
from support.orthanc import Orthanc, free_ports
from support.results import dicom_result, fhir_result, four
from support.storage_scp import storage_scp

from radnode import results
from radnode.destinations import BY_CHOICE, DICOM_KINDS, NOTES, TAKES, dimse, open_destination, takes
from radnode.destinations.caller import Caller
from radnode.destinations.dimse import judge
from radnode.errors import DeliveryError
from radnode.outbox import Delivery
from radnode.settings import Destination

STUDY = "1.2.826.0.1.3680043.2.1"


def deliveries(tmp_path: Path, made: list[results.Result]) -> list[Delivery]:
    return [
        Delivery(
            id=n,
            study_uid=STUDY,
            destination="there",
            attempt=0,
            owed_since=0.0,
            kind=stored.kind,
            uid=stored.uid,
            sop_class_uid=stored.sop_class_uid,
            path=stored.path,
        )
        for n, stored in enumerate(results.write_files(tmp_path / "data", made))
    ]


def send(address: Destination, batch: list[Delivery], timeout_s: float = 60.0) -> list[str]:
    destination = open_destination(address, calling_ae="RADNODE", timeout_s=timeout_s)
    with destination.open(batch) as sender:
        return [sender.send(delivery) for delivery in batch]


def dicom(batch: list[Delivery]) -> list[Delivery]:
    return [d for d in batch if d.kind != "fhir"]


@contextmanager
def scp(
    status: int = 0, classes: tuple[str, ...] = (Comprehensive3DSRStorage,)
) -> Iterator[tuple[Destination, list[Any]]]:
    """A storage SCP that takes `classes` and answers `status`; the objects it got, as they were sent."""
    got: list[Any] = []

    def on_store(event: Any) -> int:
        got.append((event.assoc, event.request.AffectedSOPInstanceUID, event.encoded_dataset(include_meta=False)))
        return status

    with storage_scp(classes, on_store) as address:
        yield address, got


def test_a_destination_takes_what_its_kind_can_and_its_settings_want() -> None:
    assert takes(Destination(name="a", kind="dimse")) == TAKES["dimse"] - BY_CHOICE
    assert takes(Destination(name="a", kind="dimse", results=("sr", "fhir"))) == {"sr", "rejection"}
    assert takes(Destination(name="a", kind="dimse", results=("sr",), rejection_notes=False)) == {"sr"}
    assert takes(Destination(name="a", kind="folder")) == DICOM_KINDS - BY_CHOICE | NOTES | {"fhir"}
    assert takes(Destination(name="a", kind="dimse", results=("pdf",), status_objects=True)) == {
        "pdf", "status", "rejection"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "stored", "permanent"),
    [
        (0x0000, True, False),
        (0xB000, True, False),
        (0xB007, True, False),
        (0xA700, False, False),
        (0xA900, False, True),
        (0xC000, False, False),
        (0x0110, False, False),
        (0x0117, False, True),
        (0x0122, False, True),
        (0x0124, False, False),
    ],
)
def test_every_status_is_stored_or_retried_or_refused_for_good(status: int, stored: bool, permanent: bool) -> None:
    if stored:
        assert (judge(status, "") == "") == (status == 0)
        return
    with pytest.raises(DeliveryError, match=f"0x{status:04X}") as e:
        judge(status, "")
    assert e.value.permanent is permanent


def test_c_store_sends_the_bytes_of_the_file_over_one_association(tmp_path: Path) -> None:
    batch = deliveries(tmp_path, [dicom_result("sr", STUDY, "A"), dicom_result("sr", STUDY, "B")])
    with scp() as (address, got):
        assert send(address, batch) == ["", ""]
    assert len({id(assoc) for assoc, _, _ in got}) == 1
    for delivery, (_, uid, body) in zip(batch, got, strict=True):
        assert uid == delivery.uid
        assert delivery.path.read_bytes().endswith(body)
        assert len(body) > 100


def test_a_warning_counts_as_stored_and_is_kept_as_a_remark(tmp_path: Path) -> None:
    with scp(status=0xB000) as (address, _):
        (remark,) = send(address, deliveries(tmp_path, [dicom_result("sr", STUDY, "A")]))
    assert "warning" in remark
    assert "0xB000" in remark


def test_an_sop_class_the_pacs_does_not_take_is_refused_for_good_and_the_rest_goes(tmp_path: Path) -> None:
    sr, seg = deliveries(tmp_path, [dicom_result("sr", STUDY, "A"), dicom_result("seg", STUDY, "A")])
    with scp() as (address, got), dimse.make(address, calling_ae="RADNODE", timeout_s=60).open([sr, seg]) as sender:
        with pytest.raises(DeliveryError, match="abstract syntax not supported") as e:
            sender.send(seg)
        assert sender.send(sr) == ""
    assert e.value.permanent
    assert [uid for _, uid, _ in got] == [sr.uid]


def test_a_pacs_that_takes_none_of_it_says_so_for_each(tmp_path: Path) -> None:
    batch = deliveries(tmp_path, [dicom_result("sr", STUDY, "A")])
    with scp(classes=(SegmentationStorage,)) as (address, _), pytest.raises(DeliveryError, match="not supported") as e:
        send(address, batch)
    assert e.value.permanent


def test_a_called_ae_that_is_not_known_there_is_tried_again(tmp_path: Path) -> None:
    with storage_scp([Comprehensive3DSRStorage], only_as="STRICT") as there:
        address = there.model_copy(update={"ae_title": "OTHER"})
        with pytest.raises(DeliveryError, match="Called AE title not recognised") as e:
            send(address, deliveries(tmp_path, [dicom_result("sr", STUDY, "A")]))
    assert not e.value.permanent


def test_a_refusal_that_comes_before_anybody_looks_is_told_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pynetdicom asks whether it is connected when the connection opens: too late, where refusal and end were quicker."""

    class Late(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            opened = super().wait(timeout)
            while association.dul.state_machine.current_state != "Sta1":
                time.sleep(0.01)
            return opened

    def create(self: Caller, assoc: Any, address: Any, tls_args: Any) -> Any:
        nonlocal association
        association, opened = assoc, made(self, assoc, address, tls_args)
        opened._ready = Late()
        return opened

    association: Any = None
    made = Caller._create_socket
    monkeypatch.setattr(Caller, "_create_socket", create)
    with storage_scp([Comprehensive3DSRStorage], only_as="STRICT") as there:
        address = there.model_copy(update={"ae_title": "OTHER"})
        with pytest.raises(DeliveryError, match="Called AE title not recognised"):
            send(address, deliveries(tmp_path, [dicom_result("sr", STUDY, "A")]))


def test_nobody_listening_is_tried_again(tmp_path: Path) -> None:
    batch = deliveries(tmp_path, four(STUDY))
    (port,) = free_ports(1)
    nowhere = f"http://127.0.0.1:{port}"
    for address in (
        Destination(name="a", kind="dimse", host="127.0.0.1", port=port),
        Destination(name="a", kind="orthanc", url=nowhere),
        Destination(name="a", kind="fhir", url=nowhere),
    ):
        with pytest.raises(DeliveryError) as e:
            send(address, batch if address.kind == "fhir" else dicom(batch))
        assert not e.value.permanent, address


def test_a_host_name_that_leads_nowhere_is_tried_again(tmp_path: Path) -> None:
    batch = deliveries(tmp_path, [dicom_result("sr", STUDY, "A")])
    with pytest.raises(DeliveryError) as e:
        send(Destination(name="a", kind="dimse", host="pacs.invalid", port=104), batch)
    assert not e.value.permanent


@pytest.mark.system
def test_dcmtk_stores_what_is_sent_byte_for_byte(tmp_path: Path) -> None:
    batch = dicom(deliveries(tmp_path, four(STUDY)))
    (port,) = free_ports(1)
    received = tmp_path / "received"
    received.mkdir()
    command = ["/usr/bin/storescp", "--output-directory", str(received), "+B", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = Destination(name="a", kind="dimse", host="127.0.0.1", port=port)
    try:
        assert until(lambda: send(address, batch), DeliveryError) == ["", "", ""]
    finally:
        process.terminate()
        process.wait(60)
    got = {pydicom.dcmread(f).SOPInstanceUID: f.read_bytes() for f in received.iterdir()}
    for delivery in batch:
        sent = delivery.path.read_bytes()
        start = sent.index(b"\x08\x00\x16\x00UI")  # the data set, after the file's own meta information
        assert got[delivery.uid].endswith(sent[start:])


def until(action: Any, error: type[Exception], timeout_s: float = 60.0) -> Any:
    """The answer of `action`, tried again while the peer starts."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            return action()
        except error:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


@pytest.mark.system
def test_orthanc_keeps_one_of_each_also_when_they_come_twice_and_by_both_ways(
    tmp_path: Path, shared_pacs: Orthanc
) -> None:
    batch = dicom(deliveries(tmp_path, four(STUDY)))
    rest = Destination(name="a", kind="orthanc", url=shared_pacs.url)
    store = Destination(name="a", kind="dimse", host="127.0.0.1", port=shared_pacs.dicom_port, ae_title="PACS")
    for address in (rest, rest, store, store):
        assert len(send(address, batch)) == 3
    stored = shared_pacs.files(STUDY)
    assert set(stored) == {d.uid for d in batch}
    for delivery in batch:
        assert pydicom.dcmread(delivery.path) == pydicom.dcmread(pydicom.filebase.DicomBytesIO(stored[delivery.uid]))


@pytest.mark.system
def test_orthanc_refuses_what_is_no_dicom_for_good(tmp_path: Path, shared_pacs: Orthanc) -> None:
    good = dicom_result("sr", STUDY, "broken")
    bad = results.Result(
        kind="sr", uid=good.uid, sop_class_uid=good.sop_class_uid, series_uid="", digest="", body=b"no DICOM" * 40
    )
    address = Destination(name="a", kind="orthanc", url=shared_pacs.url)
    with pytest.raises(DeliveryError, match="400") as e:
        send(address, deliveries(tmp_path, [bad]))
    assert e.value.permanent


@pytest.mark.system
def test_a_real_fhir_server_holds_one_report_also_when_the_bundle_comes_twice(tmp_path: Path) -> None:
    batch = deliveries(tmp_path, [fhir_result(STUDY, "ct-lung", "nothing found")])
    with FhirServer(tmp_path / "fhir") as server:
        address = Destination(name="a", kind="fhir", url=server.url)
        assert send(address, batch) == [""]
        assert send(address, batch) == [""]
        (report,) = server.search("DiagnosticReport")
    assert report["conclusion"] == "nothing found"


@contextmanager
def answering(status: int, body: bytes) -> Iterator[Destination]:
    """An HTTP server with one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Destination(name="a", kind="fhir", url=f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "permanent"),
    [
        (400, b'{"issue": [{"diagnostics": "bad code"}]}', True),
        (412, b"", True),
        (422, b"", True),
        (401, b"", False),
        (404, b"", False),
        (409, b"", False),
        (429, b"", False),
        (500, b"", False),
        (503, b"", False),
        (200, b"<html>", False),
        (200, b'{"entry": [{"response": {"status": "201"}}, {"response": {"status": "422 no"}}]}', True),
        (200, b'{"entry": [{"response": {"status": "503"}}]}', False),
    ],
)
def test_what_a_fhir_server_answers_is_retried_or_refused_for_good(
    tmp_path: Path, status: int, body: bytes, permanent: bool
) -> None:
    with answering(status, body) as address, pytest.raises(DeliveryError) as e:
        send(address, deliveries(tmp_path, [fhir_result(STUDY, "m", "x")]))
    assert e.value.permanent is permanent
    if b"bad code" in body:
        assert "bad code" in str(e.value)


def test_a_folder_gets_whole_files_once(tmp_path: Path) -> None:
    batch = deliveries(tmp_path, four(STUDY))
    address = Destination(name="a", kind="folder", folder=tmp_path / "out")
    assert send(address, batch) == ["", "", "", ""]
    assert send(address, batch) == ["was there already"] * 4
    files = {f.name: f.read_bytes() for f in (tmp_path / "out" / STUDY).iterdir()}
    assert files == {d.path.name: d.path.read_bytes() for d in batch}


def test_a_folder_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file is in the way")
    address = Destination(name="a", kind="folder", folder=tmp_path / "out")
    with pytest.raises(DeliveryError, match="cannot be written") as e:
        send(address, deliveries(tmp_path, four(STUDY)))
    assert not e.value.permanent
