"""The listener over real sockets: DCMTK's senders, pynetdicom's, and what each is answered."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import psutil
import pydicom.data
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE
from support.dcmtk import echoscu, storescu
from support.objects import CT_IMAGE_STORAGE, dataset_of, encoded, image, write
from support.receiver import Receiver, receiver, wait_until
from support.wire import VERIFICATION, Wire, association_request

from radnode.peers.table import Peer, add_peer, list_refusals

ODD = Path(pydicom.data.__file__).parent / "test_files"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A receiver that takes every caller."""
    with receiver(tmp_path_factory.mktemp("node") / "data", accept_unknown_callers=True) as node:
        yield node


def stored(node: Receiver, sop_uid: str) -> Path:
    (row,) = [r for r in node.rows() if r.sop_uid == sop_uid and r.current]
    return node.settings.data / row.file


def test_an_echo_is_answered(node: Receiver) -> None:
    assert echoscu(node.port).returncode == 0


def test_objects_sent_by_dcmtk_are_kept_byte_for_byte(node: Receiver, tmp_path: Path) -> None:
    objects = [image(size=300, seed=n) for n in range(20)]
    sent = write(tmp_path / "sent", *objects)
    answer = storescu(node.port, sent, calling_ae="PACS")
    assert answer.returncode == 0, answer.stderr
    for ds, file in zip(objects, sent, strict=True):
        assert dataset_of(stored(node, ds.SOPInstanceUID)) == dataset_of(file)
    (row,) = [r for r in node.rows() if r.sop_uid == objects[0].SOPInstanceUID]
    assert (row.calling_ae, row.called_ae, row.address) == ("PACS", "RADNODE", "127.0.0.1")


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("JPEG2000.dcm", "-xw"),
        ("MR_small_RLE.dcm", "-xr"),
        ("MR_small_jpeg_ls_lossless.dcm", "-xt"),
        ("JPEG-lossy.dcm", "-xx"),
        ("image_dfl.dcm", "-xd"),
        ("MR_small_bigendian.dcm", "-xb"),
        ("MR_small_implicit.dcm", "-xi"),
    ],
)
def test_every_kind_of_encoding_is_kept_byte_for_byte(node: Receiver, name: str, option: str) -> None:
    file = ODD / name
    ds = dcmread(file, stop_before_pixels=True)
    with Wire(node.port) as wire:
        kind, _ = wire.associate(str(ds.SOPClassUID), transfer=str(ds.file_meta.TransferSyntaxUID))
        assert kind == 2
        answer = wire.store(str(ds.SOPInstanceUID), dataset_of(file), sop_class_uid=str(ds.SOPClassUID))
        assert answer.number(0x0900) == 0
        assert wire.release() == 6
    assert dataset_of(stored(node, ds.SOPInstanceUID)) == dataset_of(file)
    sent = storescu(node.port, [file], option)
    assert sent.returncode == 0, sent.stderr  # DCMTK encodes what it sends itself: the object need only be taken


def test_pynetdicom_sends_implicit_and_explicit(node: Receiver) -> None:
    ae = AE(ae_title="PYTHON")
    ae.add_requested_context(CT_IMAGE_STORAGE, ImplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", node.port, ae_title="RADNODE")
    assert association.is_established
    ds = image()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert association.send_c_store(ds).Status == 0
    association.release()
    assert dcmread(stored(node, ds.SOPInstanceUID)).PixelData == ds.PixelData


@pytest.mark.parametrize(
    "sop_class_uid",
    ["1.2.3.4.5.6", "1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.88.34"],
)
def test_private_retired_and_new_storage_classes_are_taken(node: Receiver, sop_class_uid: str) -> None:
    ds = image(SOPClassUID=sop_class_uid)
    with Wire(node.port) as wire:
        wire.associate(sop_class_uid)
        assert wire.status(ds.SOPInstanceUID, encoded(ds), sop_class_uid=sop_class_uid) == 0
    assert dataset_of(stored(node, ds.SOPInstanceUID)) == encoded(ds)


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.34.6.1", "1.2.840.10008.5.1.4.38.1"]
)
def test_other_services_are_not_negotiated(node: Receiver, syntax: str) -> None:
    with Wire(node.port) as wire:
        kind, body = wire.associate("1.2.840.10008.5.1.4.1.1.2", syntax)
        assert kind == 2
        results = body[68:].split(b"\x21\x00")[1:]
        assert [item[4] for item in results] == [0, 3]


def test_the_senders_own_order_of_transfer_syntaxes_decides(node: Receiver) -> None:
    ae = AE()
    ae.add_requested_context(CT_IMAGE_STORAGE, ["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
    ae.add_requested_context(VERIFICATION, ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
    association = ae.associate("127.0.0.1", node.port, ae_title="RADNODE")
    accepted = {c.abstract_syntax: c.transfer_syntax for c in association.accepted_contexts}
    association.release()
    assert accepted == {CT_IMAGE_STORAGE: ["1.2.840.10008.1.2.4.90"], VERIFICATION: ["1.2.840.10008.1.2"]}


def test_four_associations_at_once_lose_nothing(node: Receiver, tmp_path: Path) -> None:
    studies = [[image(size=256, seed=9 * n + k) for k in range(30)] for n in range(4)]
    folders = [write(tmp_path / str(n), *study) for n, study in enumerate(studies)]
    with ThreadPoolExecutor(4) as senders:
        answers = list(senders.map(lambda files: storescu(node.port, files), folders))
    assert [a.returncode for a in answers] == [0, 0, 0, 0]
    for ds, file in zip(chain(*studies), chain(*folders), strict=True):
        assert dataset_of(stored(node, ds.SOPInstanceUID)) == dataset_of(file)


@pytest.mark.parametrize(
    ("damage", "status"),
    [
        (lambda ds: encoded(ds)[:-40], 0xC000),
        (lambda ds: encoded(ds)[:60], 0xC000),
        (lambda ds: b"", 0xA900),
        (lambda ds: encoded(image()), 0xA900),
        (lambda ds: bytes(range(256)) * 20, 0xC000),
    ],
)
def test_a_bad_object_is_refused_and_the_association_goes_on(
    node: Receiver, damage: Callable[[Dataset], bytes], status: int
) -> None:
    ds, good = image(), image()
    before = len(node.files())
    with Wire(node.port) as wire:
        wire.associate()
        answer = wire.store(ds.SOPInstanceUID, damage(ds))
        assert answer.number(0x0900) == status
        assert answer.elements[0x0902], "no Error Comment"
        assert answer.uid(0x1000) == ds.SOPInstanceUID
        assert len(node.files()) == before
        assert wire.status(good.SOPInstanceUID, encoded(good)) == 0
        assert wire.release() == 6
    assert stored(node, good.SOPInstanceUID).exists()


def test_a_sop_instance_uid_with_dots_and_slashes_is_refused_with_c000(node: Receiver) -> None:
    with Wire(node.port) as wire:
        wire.associate()
        assert wire.status("../../../evil", encoded(image())) == 0xC000
    assert not list(node.settings.data.parent.rglob("*evil*"))


def test_a_sop_class_that_is_not_that_of_its_context_is_refused_with_0122(node: Receiver) -> None:
    ds = image()
    with Wire(node.port) as wire:
        wire.associate()
        assert wire.status(ds.SOPInstanceUID, encoded(ds), sop_class_uid="1.2.840.10008.5.1.4.1.1.4") == 0x0122


def test_a_wrong_called_ae_is_rejected(node: Receiver) -> None:
    with Wire(node.port) as wire:
        kind, body = wire.associate(called="SOMEBODY")
    assert (kind, tuple(body[1:])) == (3, (1, 1, 7))
    (refusal,) = [r for r in list_refusals(node.database) if r.called_ae == "SOMEBODY"]
    assert (refusal.calling_ae, refusal.address, refusal.count) == ("WIRE", "127.0.0.1", 1)


def test_an_unknown_caller_is_refused_and_shown_until_it_is_added(tmp_path: Path) -> None:
    [file] = write(tmp_path, image())
    with receiver(tmp_path / "data") as node:
        for _ in range(3):
            with Wire(node.port) as wire:
                kind, body = wire.associate()
            assert (kind, tuple(body[1:])) == (3, (1, 1, 3))
        assert echoscu(node.port, calling_ae="STRANGER").returncode != 0
        assert storescu(node.port, [file], calling_ae="STRANGER").returncode != 0
        counts = {r.calling_ae: r.count for r in list_refusals(node.database)}
        assert counts == {"WIRE": 3, "STRANGER": 2}
        add_peer(node.database, Peer(name="scanner", ae_title="STRANGER", address="127.0.0.0/8"))
        for _ in range(4):  # whichever process takes the call
            assert echoscu(node.port, calling_ae="STRANGER").returncode == 0
        assert storescu(node.port, [file], calling_ae="STRANGER").returncode == 0
        assert echoscu(node.port, calling_ae="ELSE").returncode != 0
        add_peer(node.database, Peer(name="far", ae_title="FAR", address="192.0.2.1"))
        assert echoscu(node.port, calling_ae="FAR").returncode != 0
        assert any("not from this address" in r.reason for r in list_refusals(node.database))


def test_more_associations_than_allowed_are_rejected_for_the_moment(tmp_path: Path) -> None:
    with receiver(tmp_path / "data", accept_unknown_callers=True, max_associations=2) as node:
        with Wire(node.port) as one, Wire(node.port) as two:
            assert one.associate()[0] == two.associate()[0] == 2
            with Wire(node.port) as three:
                kind, body = three.associate()
            assert (kind, tuple(body[1:])) == (3, (2, 3, 2))
            assert one.release() == 6

        def free() -> bool:
            with Wire(node.port) as wire:
                return wire.associate()[0] == 2

        wait_until(free, 60, "a seat")


def test_a_caller_that_lets_no_association_go_leaves_seats_to_others(tmp_path: Path) -> None:
    with receiver(tmp_path / "data", accept_unknown_callers=True, max_associations=16) as node, ExitStack() as wires:

        def ask(calling: str) -> tuple[int, bytes]:
            wire = wires.enter_context(Wire(node.port))
            wire.send(association_request(VERIFICATION, calling=calling))
            return wire.read()

        assert [ask("STUCK")[0] for _ in range(14)] == [2] * 14
        kind, body = ask("STUCK")
        assert (kind, tuple(body[1:])) == (3, (2, 3, 2))
        assert [ask("OTHER")[0] for _ in range(2)] == [2, 2]
        assert ask("OTHER")[0] == 3, "sixteen in all"


def test_who_only_looks_whether_somebody_listens_is_no_line_in_the_log(tmp_path: Path) -> None:
    """`/readyz` and load balancers do so every few seconds."""
    with receiver(tmp_path / "data", processes=1) as node:
        for sent in (b"", b"\x01"):
            with socket.create_connection(("127.0.0.1", node.port), 5) as looking:
                looking.sendall(sent)
                looking.shutdown(socket.SHUT_WR)
                assert looking.recv(1) == b""
        node.wait_for_log("A connection ended early")
        assert node.log.read_text().count("A connection ended early") == 1


def test_a_full_disk_is_a700_over_the_wire(tmp_path: Path) -> None:
    with (
        receiver(tmp_path / "data", accept_unknown_callers=True, disk_free_min_mb=10**9) as node,
        Wire(node.port) as wire,
    ):
        wire.associate()
        ds = image()
        assert wire.status(ds.SOPInstanceUID, encoded(ds)) == 0xA700
        assert node.files() == []
        assert wire.release() == 6


def test_sigterm_lets_an_association_finish_and_removes_the_port_file(tmp_path: Path) -> None:
    patient = {"RECEIVER_DRAIN_S": "50"}  # a slow machine needs more than the five seconds of a node
    with (
        receiver(tmp_path / "data", environment=patient, accept_unknown_callers=True) as node,
        Wire(node.port) as wire,
    ):
        wire.associate()
        children = node.children
        node.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not listens(node.port), 60, "the closed port")
        ds = image()
        assert wire.status(ds.SOPInstanceUID, encoded(ds)) == 0
        assert wire.release() == 6
        assert node.process.wait(timeout=60) == 0
        assert not (node.settings.data / "run" / "receive.port").exists()
        assert not any(psutil.pid_exists(pid) for pid in children)
        assert len(node.rows()) == 1


def test_children_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    with receiver(tmp_path / "data", accept_unknown_callers=True) as node:
        children = node.children
        assert len(children) == 2
        os.kill(node.process.pid, signal.SIGKILL)
        node.process.wait()
        wait_until(lambda: not any(alive(pid) for pid in children), 60, "the children's end")
        assert not listens(node.port)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
