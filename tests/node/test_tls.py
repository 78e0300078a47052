"""DICOM over TLS in both directions, mutual, by DCMTK's programs; the page over TLS; certificates that are about to end."""

import os
import signal
import socket
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from support.certificates import Authority, Pair
from support.dcmtk import echoscu, storescu
from support.objects import dataset_of, image, write
from support.orthanc import free_ports
from support.pages import running
from support.receiver import Receiver, receiver, wait_until

from radnode import check, start, tls
from radnode.destinations import open_destination
from radnode.errors import DeliveryError, SettingsError
from radnode.peers.table import ANOTHER_CERTIFICATE, Peer, add_peer, list_refusals
from radnode.settings import Destination, Settings, Web, load
from radnode.settings_access import Tls
from radnode.web.app import configuration, encryption


@dataclass(frozen=True, kw_only=True)
class Listening:
    """A receiver that takes DICOM over TLS, its authority, and a peer's certificate of the same one."""

    node: Receiver
    port: int
    authority: Authority
    peer: Pair


def own(authority: Authority, pair: Pair) -> Tls:
    return Tls(certificate=pair.certificate, certificate_key=pair.key, ca=authority.ca)


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder / "ca")
    pair, peer = authority.issue("node"), authority.issue("peer")
    files = {"CERTIFICATE": pair.certificate, "CERTIFICATE_KEY": pair.key, "CA": authority.ca}
    environment = {f"RADNODE_TLS_{key}": str(path) for key, path in files.items()}
    with receiver(folder / "data", environment=environment, accept_unknown_callers=True, tls_port=0) as node:
        port = int((folder / "data" / "run" / "receive-tls.port").read_text())
        yield Listening(node=node, port=port, authority=authority, peer=peer)


def as_peer(authority: Authority, pair: Pair) -> tuple[str, ...]:
    """DCMTK's options: the default profile is that of BCP 195."""
    return ("+tls", str(pair.key), str(pair.certificate), "+cf", str(authority.ca))


def test_a_peer_with_a_certificate_stores_over_tls_byte_for_byte(listening: Listening, tmp_path: Path) -> None:
    objects = [image(size=700, seed=n) for n in range(6)]
    sent = write(tmp_path / "sent", *objects)
    options = as_peer(listening.authority, listening.peer)
    assert echoscu(listening.port, *options).returncode == 0
    answer = storescu(listening.port, sent, *options)
    assert answer.returncode == 0, answer.stderr
    rows = {r.sop_uid: r.file for r in listening.node.rows()}
    for ds, file in zip(objects, sent, strict=True):
        assert dataset_of(listening.node.settings.data / rows[ds.SOPInstanceUID]) == dataset_of(file)


def test_the_plain_port_goes_on_beside_it(listening: Listening) -> None:
    assert echoscu(listening.node.port).returncode == 0


def test_the_profile_that_never_goes_down_is_agreed_on(listening: Listening) -> None:
    options = (*as_peer(listening.authority, listening.peer), "+py")  # PS3.15 section B.10, non-downgrading BCP 195
    assert echoscu(listening.port, *options).returncode == 0


def test_a_peer_with_tls_is_refused_in_the_clear_and_served_over_tls(listening: Listening) -> None:
    database = listening.node.database
    add_peer(database, Peer(name="over-tls", ae_title="OVERTLS", tls=True))
    options = as_peer(listening.authority, listening.peer)
    wait_until(lambda: echoscu(listening.node.port, calling_ae="OVERTLS").returncode, 60, "the refusal in the clear")
    assert echoscu(listening.port, *options, calling_ae="OVERTLS").returncode == 0
    (refusal,) = [r for r in list_refusals(database) if r.calling_ae == "OVERTLS"]
    assert refusal.reason == "This peer is to come over TLS, and came in the clear."
    assert echoscu(listening.node.port, calling_ae="ANOTHER").returncode == 0


def test_another_peers_certificate_does_not_open_the_door_under_this_ones_ae_title(listening: Listening) -> None:
    database, other = listening.node.database, listening.authority.issue("other")
    add_peer(database, Peer(name="named", ae_title="NAMED", tls=True, certificate_name="Peer"))
    right, wrong = as_peer(listening.authority, listening.peer), as_peer(listening.authority, other)
    wait_until(
        lambda: echoscu(listening.port, *wrong, calling_ae="NAMED").returncode, 10, "the refusal of another certificate"
    )
    assert echoscu(listening.port, *right, calling_ae="NAMED").returncode == 0
    assert echoscu(listening.port, *wrong, calling_ae="ANOTHER").returncode == 0
    (refusal,) = [r for r in list_refusals(database) if r.calling_ae == "NAMED"]
    assert refusal.reason == ANOTHER_CERTIFICATE


@pytest.mark.parametrize("stranger", ["no certificate", "another authority", "plain"])
def test_who_shows_no_certificate_of_ours_is_cut_off(listening: Listening, tmp_path: Path, stranger: str) -> None:
    options: tuple[str, ...] = ()
    if stranger == "no certificate":
        options = ("+tla", "+cf", str(listening.authority.ca))
    elif stranger == "another authority":
        other = Authority(tmp_path / "other", "other")
        pair = other.issue("stranger")
        options = ("+tls", str(pair.key), str(pair.certificate), "+cf", str(listening.authority.ca))
    assert echoscu(listening.port, *options).returncode != 0
    listening.node.wait_for_log("A connection ended early.")


def test_old_versions_of_tls_are_refused(listening: Listening) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(listening.authority.ca)
    context.load_cert_chain(listening.peer.certificate, listening.peer.key)
    context.set_ciphers("AES128-GCM-SHA256")  # without forward secrecy
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", listening.port), 20) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


def test_a_caller_that_says_nothing_after_the_handshake_is_cut_off(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("node")
    files = {"CERTIFICATE": pair.certificate, "CERTIFICATE_KEY": pair.key, "CA": authority.ca}
    environment = {f"RADNODE_TLS_{key}": str(path) for key, path in files.items()}
    with receiver(tmp_path / "data", environment=environment, tls_port=0, association_idle_s=1.0, processes=1) as node:
        port = int((tmp_path / "data" / "run" / "receive-tls.port").read_text())
        context = tls.calling(own(authority, authority.issue("peer")))

        def cut_off() -> bool:
            """Once more where a slow machine did not come through the handshake in that time."""
            with (
                suppress(OSError),
                socket.create_connection(("127.0.0.1", port), 60) as silent,
                context.wrap_socket(silent, server_hostname="127.0.0.1") as secured,
            ):
                return secured.recv(100) == b""
            return False

        wait_until(cut_off, 60, "a handshake, and the end")
        node.wait_for_log("A connection ended early")


@contextmanager
def storescp(folder: Path, authority: Authority, pair: Pair) -> Iterator[int]:
    """DCMTK's storage SCP over TLS; its port."""
    folder.mkdir()
    (port,) = free_ports(1)
    process = subprocess.Popen(
        ["/usr/bin/storescp", *as_peer(authority, pair), "-rc", "-od", str(folder), "+B", str(port)],
        env=os.environ | {"TCP_NODELAY": "1"}, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    try:
        wait_until(listens, 60, "storescp")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@dataclass(frozen=True, kw_only=True)
class Image:
    """A result on its way."""

    path: Path
    sop_class_uid: str
    uid: str
    study_uid: str = "1.2"
    kind: str = "sr"


def pacs(port: int, secured: Tls, host: str = "127.0.0.1") -> Destination:
    return Destination(
        name="pacs", kind="dimse", host=host, port=port, ae_title="PACS", tls=True,
        certificate=secured.certificate, certificate_key=secured.certificate_key, ca=secured.ca,
    )  # fmt: skip


def send(address: Destination, path: Path, sop_class_uid: str, uid: str) -> str:
    result = Image(path=path, sop_class_uid=sop_class_uid, uid=uid)
    with open_destination(address, calling_ae="RADNODE", timeout_s=60).open([result]) as sender:
        return sender.send(result)


def test_results_leave_over_tls_and_only_to_whom_the_node_believes(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other", "other")
    mine = own(authority, authority.issue("node"))
    ds = image(size=32)
    (file,) = write(tmp_path / "sent", ds)
    with storescp(tmp_path / "in", authority, authority.issue("pacs")) as port:
        assert send(pacs(port, mine), file, ds.SOPClassUID, ds.SOPInstanceUID) == ""
        (arrived,) = (tmp_path / "in").iterdir()
        assert dataset_of(arrived) == dataset_of(file)
        with pytest.raises(DeliveryError):
            send(pacs(port, own(other, other.issue("stranger"))), file, ds.SOPClassUID, ds.SOPInstanceUID)
    with (
        storescp(tmp_path / "in2", other, other.issue("pacs")) as port,
        pytest.raises(DeliveryError, match=r"TLS|certificate"),
    ):
        send(pacs(port, mine), file, ds.SOPClassUID, ds.SOPInstanceUID)
    assert list((tmp_path / "in2").iterdir()) == []


def test_a_destination_over_tls_takes_the_nodes_own_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    mine = own(authority, authority.issue("node"))
    there = [{"name": "a", "kind": "dimse", "tls": True}, {"name": "b", "kind": "dimse"}]
    first, second = load(data=tmp_path, tls=mine.model_dump(), destinations=there).destinations
    assert (first.certificate, first.ca) == (mine.certificate, mine.ca)
    assert second.certificate is None


def test_certificates_that_are_missing_or_no_certificates_stop_the_start_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("no certificate")
    wrong = Tls(certificate=tmp_path / "x.pem", certificate_key=tmp_path / "x.pem", ca=tmp_path / "x.pem")
    for secured in (Tls(), wrong):
        with pytest.raises(SettingsError) as error:
            tls.listening(secured)
        assert error.value.id == "tls"


def test_a_key_that_cannot_be_used_is_named_and_nobody_is_asked_for_its_password(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    node, other = authority.issue("node"), authority.issue("other")
    locked = tmp_path / "locked.key"
    key = serialization.load_pem_private_key(node.key.read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        )
    )
    wrong = {
        locked: f"{locked} has a password; `openssl pkey -in {locked} -out NEW` writes a key without one",
        other.key: f"{other.key} is not the key of {node.certificate}",
        authority.ca: f"{node.certificate} and {authority.ca} are no certificate and its key in PEM",
        tmp_path / "gone.key": f"No such file or directory: '{tmp_path / 'gone.key'}'",
    }
    for file, words in wrong.items():
        with pytest.raises(SettingsError) as error:
            tls.listening(Tls(certificate=node.certificate, certificate_key=file, ca=authority.ca))
        assert words in error.value.sentence
        with pytest.raises(OSError, match="the page cannot be served over TLS: ") as refused:
            encryption(Settings(data=tmp_path, web=Web(certificate=node.certificate, certificate_key=file)))
        assert words in str(refused.value)


@pytest.mark.parametrize(("days", "said"), [(400, ""), (20.2, "ends in 20 days"), (-3, "ended 3 days ago")])
def test_a_certificate_is_warned_of_before_it_ends(tmp_path: Path, days: float, said: str) -> None:
    pair = Authority(tmp_path).issue("node", days=days)
    found = tls.read("the node", pair.certificate)
    assert said in tls.warning(found, 30)
    assert bool(tls.warning(found, 30)) == bool(said)


def test_the_check_names_every_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    pair, old = authority.issue("page", days=5), authority.issue("old", days=-1)
    settings = Settings(
        web=Web(certificate=pair.certificate, certificate_key=pair.key),
        tls=Tls(certificate=old.certificate, certificate_key=old.key, ca=tmp_path / "none.crt"),
    )
    said = {a.what: (a.ok, a.sentence) for a in check.certificates(settings)}
    assert said["certificate of the page"] == (True, "The certificate of the page ends in 5 days.")
    assert said["certificate of the node for DICOM"][0] is False
    assert said["certificate of whom the node believes for DICOM"][0] is False


def test_the_page_over_tls_asks_for_certificates_where_the_settings_say_so(tmp_path: Path) -> None:
    assert encryption(Settings()) == {}
    authority = Authority(tmp_path)
    pair = authority.issue("page")
    web = Web(certificate=pair.certificate, certificate_key=pair.key, client_ca=authority.ca)
    made = encryption(Settings(web=web))
    assert made["ssl_cert_reqs"] == ssl.CERT_REQUIRED
    with pytest.raises(ValueError, match="belong together"):
        Web(certificate=pair.certificate)


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page that is served over TLS."""

    port: int
    authority: Authority

    def context(self, **pair: Path) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.load_verify_locations(self.authority.ca)
        if pair:
            made.load_cert_chain(pair["certificate"], pair["key"])
        return made

    def agree(self, context: ssl.SSLContext) -> tuple[str, str]:
        """The version and the cipher of a handshake and an answer, because alerts of TLS 1.3 come after it.

        Raises SSLError, and ConnectionError when the server hangs up.
        """
        with (
            socket.create_connection(("127.0.0.1", self.port), 20) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            secured.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if not secured.recv(8):
                raise ConnectionError
            return str(secured.version()), str((secured.cipher() or ("",))[0])


@contextmanager
def page_over_tls(folder: Path, *, mutual: bool = False) -> Iterator[Page]:
    authority = Authority(folder / "ca")
    pair = authority.issue("page")
    web = Web(
        port=0, certificate=pair.certificate, certificate_key=pair.key, client_ca=authority.ca if mutual else None
    )
    settings = Settings(data=folder / "data", web=web)
    start.prepare(settings)
    with running(configuration(settings), settings) as port:
        yield Page(port=port, authority=authority)


def test_the_page_agrees_on_new_tls_with_forward_secrecy_and_on_nothing_else(tmp_path: Path) -> None:
    with page_over_tls(tmp_path) as page:
        assert page.agree(page.context())[0] == "TLSv1.3"
        older = page.context()
        older.maximum_version = ssl.TLSVersion.TLSv1_2
        version, cipher = page.agree(older)
        assert version == "TLSv1.2" and cipher.startswith("ECDHE-") and "GCM" in cipher
        for spoil in (old_version, no_forward_secrecy, no_aead):
            context = page.context()
            spoil(context)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                page.agree(context)
        with httpx.Client(base_url=f"https://localhost:{page.port}", verify=page.context(), timeout=60.0) as client:
            answer = client.get("/healthz")
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://localhost:{page.port}/healthz")  # nothing is answered in the clear


def old_version(context: ssl.SSLContext) -> None:
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():  # Python itself warns of what is tried here
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1


def no_forward_secrecy(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-GCM-SHA256")


def no_aead(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-SHA256")


def test_the_page_over_mutual_tls_answers_nobody_without_a_certificate_of_its_authority(tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "other").issue("stranger")
    with page_over_tls(tmp_path, mutual=True) as page:
        known = page.authority.issue("browser")
        assert page.agree(page.context(certificate=known.certificate, key=known.key))[0] == "TLSv1.3"
        for context in (page.context(), page.context(certificate=other.certificate, key=other.key)):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                page.agree(context)
