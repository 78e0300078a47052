"""`radnode check` on a bad day: what is wrong with keys, the collector, the provider, secrets and ports is named."""

import socket
from pathlib import Path

import pytest
from support.certificates import Authority
from support.collector import Collector
from support.oidc import provider
from support.orthanc import free_ports

from radnode import check_access
from radnode.serve import the_only_one
from radnode.settings import Receive, Settings, Web
from radnode.settings_access import Audit, Oidc, Tls
from radnode.settings_narrative import Narrative


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def said(settings: Settings) -> dict[str, tuple[bool, str]]:
    return {a.what: (a.ok, a.sentence) for a in check_access.answers(settings)}


def test_without_any_of_it_only_the_ports_are_looked_at(tmp_path: Path) -> None:
    assert said(Settings(data=tmp_path, receive=Receive(port=0), web=Web(port=0))) == {}


def test_what_is_right_is_said_to_be(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, (port, tls_port, web_port) = authority.issue("node"), free_ports(3)
    keys = {"certificate": pair.certificate, "certificate_key": pair.key}
    monkeypatch.setenv("SECRET", "s")
    with Collector(authority) as collector, provider() as there:
        found = said(
            Settings(
                data=tmp_path,
                receive=Receive(host="127.0.0.1", port=port, tls_port=tls_port),
                web=Web(port=web_port, client_ca=authority.ca, **keys),
                tls=Tls(ca=authority.ca, **keys),
                audit=Audit(host="127.0.0.1", port=collector.port, ca=authority.ca, **keys),
                oidc=Oidc(issuer=there.issuer, client_id="radnode", client_secret="env:SECRET"),
                narrative=Narrative(url="http://127.0.0.1:9/v1", model="m", api_key="env:SECRET"),
            )
        )
    assert {what for what, (ok, _) in found.items() if not ok} == set()
    assert list(found) == [
        "TLS of the page", "TLS of DICOM", "collector of the audit", "identity provider", "language model",
        "port of DICOM", "port of DICOM over TLS", "port of the page",
    ]  # fmt: skip
    assert collector.frames == []


def test_what_is_wrong_is_named(authority: Authority, tmp_path: Path) -> None:
    pair, other = authority.issue("node"), authority.issue("other")
    keys = {"certificate": pair.certificate, "certificate_key": other.key}
    (nobody,) = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(
            data=tmp_path,
            receive=Receive(host="127.0.0.1", port=port),
            web=Web(port=0, **keys),
            tls=Tls(ca=authority.ca, **keys),
            audit=Audit(host="127.0.0.1", port=nobody),
            oidc=Oidc(issuer=f"http://127.0.0.1:{nobody}", client_id="radnode", client_secret="env:NOT_SET"),
            narrative=Narrative(url="http://127.0.0.1:9/v1", model="m", api_key="file:/nowhere"),
        )
        found = said(settings)
        (tmp_path / "run").mkdir()
        with the_only_one(tmp_path):
            assert "port of DICOM" not in said(settings), "the node itself has it"
    mismatch = f"{other.key} is not the key of {pair.certificate}"
    assert found == {
        "TLS of the page": (False, mismatch),
        "TLS of DICOM": (False, f"A certificate of [tls] cannot be used: {mismatch}."),
        "collector of the audit": (False, f"127.0.0.1:{nobody} cannot be reached: Connection refused"),
        "identity provider": (
            False,
            "The identity provider cannot be asked: the environment variable NOT_SET is not set.",
        ),
        "language model": (False, "the secret file:/nowhere cannot be read: FileNotFoundError"),
        "port of DICOM": (False, f"127.0.0.1:{port} cannot be opened: Address already in use"),
    }


def test_a_collector_that_refuses_the_nodes_certificate_is_no_collector(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "other")
    with Collector(authority) as collector:
        for ca in (authority.ca, other.ca):
            own = Audit(host="127.0.0.1", port=collector.port, ca=ca)
            found = said(Settings(data=tmp_path, receive=Receive(port=0), web=Web(port=0), audit=own))
            ok, sentence = found["collector of the audit"]
            assert not ok
            assert ("is not believed" in sentence) == (ca == other.ca)
