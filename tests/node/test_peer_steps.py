"""The test of a peer: every step with its sentence, and each thing that may be wrong in a sentence that says what to do."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydicom import dcmread
from pynetdicom import AE
from sqlalchemy import update
from support.certificates import Authority
from support.core import Node, dataset, encoded
from support.orthanc import Orthanc, free_ports
from support.receiver import wait_until
from support.results import add_study
from support.tls_front import tls_front

from radnode import check, fetch_run, fetches
from radnode.addresses import as_destination
from radnode.cli import cli
from radnode.peers import changes as peer_changes
from radnode.peers import steps as peer_steps
from radnode.peers import ties as peer_ties
from radnode.peers.examine import NOT_ASKED, examine
from radnode.peers.table import Admission, Peer, add_peer, decide, remove_peer
from radnode.settings import Settings
from radnode.settings_access import Tls, with_certificates
from radnode.tables import StudyRow
from radnode.tables_pacs import CommitRequestRow


def look(peer: Peer, **sections: object) -> dict[str, tuple[bool, str]]:
    settings = Settings(**sections)  # type: ignore[arg-type]
    return {s.what: (s.ok, s.sentence) for s in examine(peer, settings)}


def at(port: int, ae_title: str = "PACS", **values: object) -> Peer:
    return Peer(name="pacs", ae_title=ae_title, address="127.0.0.1", port=port, **values)  # type: ignore[arg-type]


@contextmanager
def door(**required: object) -> Iterator[int]:
    """A DICOM system that lets only some in; its port."""
    ae = AE(ae_title="DOOR")
    for name, value in required.items():
        setattr(ae, name, value)
    ae.add_supported_context("1.2.840.10008.1.1")
    server = ae.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


@pytest.mark.system
def test_orthanc_passes_every_step(shared_pacs: Orthanc) -> None:
    steps = look(at(shared_pacs.dicom_port, may=("send", "query")))
    assert [what for what, (ok, _) in steps.items() if ok] == ["connection", "C-ECHO", "negotiation", "query"]
    assert "It offers storage commitment, C-FIND, C-MOVE, C-GET; stores " in steps["negotiation"][1]
    assert steps["query"][1] == "It answers queries."


def test_nobody_listens() -> None:
    (port,) = free_ports(1)
    steps = look(at(port))
    assert steps == {
        "connection": (
            False,
            f"127.0.0.1:{port} refuses the connection: nothing listens there. Look at the port, and whether it runs.",
        )
    }


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_steps, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]  # they fill the queue of connections, so that the next one waits
        for s in waiting:
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", port))
        steps = look(at(port))
        for s in waiting:
            s.close()
    said = f"127.0.0.1:{port} does not answer within 0.3 s: look at the address and the firewall."
    assert steps == {"connection": (False, said)}


def test_the_called_ae_title_is_wrong() -> None:
    with door(require_called_aet=True) as port:
        assert look(at(port, "OTHER"))["C-ECHO"] == (
            False,
            "It listens, but is not called OTHER: correct its AE title here.",
        )


def test_the_node_is_not_known_there() -> None:
    with door(require_calling_aet=["SOMEBODY"]) as port:
        assert look(at(port, "DOOR"))["C-ECHO"] == (
            False,
            "It listens, but does not know this node: add the AE title RADNODE there.",
        )


def test_something_that_takes_the_connection_and_never_answers_is_not_said_to_have_hung_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer_steps, "TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        steps = look(at(deaf.getsockname()[1]))
    said = "It takes the connection, but does not answer within 0.5 s: it is stuck, or no DICOM system."
    assert steps["C-ECHO"] == (False, said)


def test_something_that_is_no_dicom_system_hangs_up() -> None:
    def hang_up() -> None:
        with suppress(OSError):  # the end of the test
            while True:
                web.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as web:
        thread = threading.Thread(target=hang_up)
        thread.start()
        steps = look(at(web.getsockname()[1]))
        web.shutdown(socket.SHUT_RDWR)
        thread.join()
    ok, sentence = steps["C-ECHO"]
    assert not ok and sentence.startswith("It listens, but ended the association without an answer")


def test_a_network_is_no_address_to_call() -> None:
    steps = look(Peer(name="all", address="10.0.0.0/8", port=104))
    assert steps == {"address": (False, "all has no single place to call by DICOM: host, or one address, and port.")}


@contextmanager
def secured(folder: Path, *, address: bool = True) -> Iterator[tuple[int, Authority]]:
    """DCMTK's storage SCP over TLS by the BCP 195 profile, for clients of its own authority.

    address: its certificate is also for 127.0.0.1.
    """
    authority = Authority(folder / "ca")
    pair = authority.issue("dcmtk", address=address)
    (port,) = free_ports(1)
    tls = ("+tls", str(pair.key), str(pair.certificate), "+cf", str(authority.ca), "+py", "-rc")
    process = subprocess.Popen(
        ["/usr/bin/storescp", *tls, "-aet", "DCMTK", "-od", str(folder), str(port)],
        env=os.environ | {"TCP_NODELAY": "1"}, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def listens() -> bool:
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens, 60, "DCMTK's storescp")
        yield port, authority
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.system
def test_tls_is_named_where_it_is_missing_refused_or_well(tmp_path: Path) -> None:
    with secured(tmp_path) as (port, authority):
        plain = at(port, "DCMTK")
        sentence = "It expects TLS, and this node calls it without: switch TLS on for it."
        assert look(plain)["C-ECHO"] == (False, sentence)
        over = replace(plain, tls=True)
        pair, strange = authority.issue("node"), Authority(tmp_path / "strange", "strange")
        own = Tls(certificate=pair.certificate, certificate_key=pair.key, ca=authority.ca)
        found = look(over, tls=own)
        assert found["C-ECHO"] == (True, "DCMTK knows this node and answers.")
        assert found["certificate"] == (True, "Its certificate ends in 365 days.")
        ours = Settings(tls=own)
        (there,) = with_certificates((as_destination(over, ours),), own)
        assert check.reach(there, ours).ok and not check.reach(as_destination(plain, ours), ours).ok
        ok, sentence = look(over, tls=own.model_copy(update={"warn_days": 400.0}))["certificate"]
        assert not ok and sentence.startswith("Its certificate ends in 365 days: a new one is needed")
        unknown = strange.issue("stranger")
        wrong = Tls(certificate=unknown.certificate, certificate_key=unknown.key, ca=authority.ca)
        ok, sentence = look(over, tls=wrong)["C-ECHO"]
        assert not ok and sentence.startswith("The TLS connection fails: TLS was refused: ")
        ok, sentence = look(over, tls=own.model_copy(update={"ca": strange.ca}))["C-ECHO"]
        assert not ok and sentence.startswith("The TLS connection fails: its certificate is not believed")


@pytest.mark.system
def test_a_certificate_for_a_name_alone_is_believed_where_the_peer_is_called_by_that_name(tmp_path: Path) -> None:
    with secured(tmp_path, address=False) as (port, authority):
        pair = authority.issue("node")
        own = Tls(certificate=pair.certificate, certificate_key=pair.key, ca=authority.ca)
        by_address = at(port, "DCMTK", tls=True)
        ok, sentence = look(by_address, tls=own)["C-ECHO"]
        assert not ok and "its certificate is not believed" in sentence
        steps = look(replace(by_address, host="localhost"), tls=own)
        assert steps["C-ECHO"] == (True, "DCMTK knows this node and answers.")
        assert steps["certificate"][0] and steps["negotiation"][0]


@pytest.mark.system
def test_an_orthanc_that_asks_who_calls_is_asked_and_fetched_from_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("orthanc", address=False)
    more = {"AuthenticationEnabled": True, "RegisteredUsers": {"radnode": "geheim"}}
    secret = tmp_path / "secret"
    secret.write_text("geheim\n")
    study = "1.2.826.77"
    with (
        Orthanc(tmp_path / "pacs", more, ("radnode", "geheim")) as pacs,
        tls_front(pair, pacs.http_port) as port,
    ):
        pacs.upload(encoded(dataset(study, f"{study}.1")))
        base = f"https://localhost:{port}"
        rest = Peer(name="o", way="orthanc", url=base, user="radnode", password=f"file:{secret}", may=("retrieve",))
        web = replace(rest, way="wado", url=f"{base}/dicom-web", may=("query", "retrieve"))
        ours: dict[str, object] = {"tls": Tls(ca=authority.ca), "data": tmp_path / "data"}
        assert look(rest, **ours)["Orthanc"] == (True, "It is Orthanc 1.10.1, and answers.")
        assert look(rest, **ours)["query"] == (True, NOT_ASKED)
        assert [w for w, (ok, _) in look(web, **ours).items() if ok] == ["web connection", "web TLS", "QIDO-RS"]
        for peer in (rest, web):
            (file,) = fetch_run.files(peer, study, Settings(**ours))  # type: ignore[arg-type]
            assert dcmread(BytesIO(file)).SOPInstanceUID == f"{study}.1"
        secret.write_text("wrong")
        why = "the web address answered 401: it asks who calls, and does not take what the node shows (user and password, or token)."
        assert look(rest, **ours)["Orthanc"] == (False, f"It cannot be asked: {why}")
        assert look(web, **ours)["QIDO-RS"] == (False, f"It cannot be queried: {why}")
        secret.unlink()
        assert "the secret file:" in look(web, **ours)["QIDO-RS"][1]
        assert look(web)["web TLS"][1].startswith("The TLS connection fails: its certificate is not believed: ")
    assert look(web, **ours)["web connection"][1].endswith("Look at the port, and whether it runs.")


def test_changes_of_peers_are_in_force_and_in_the_history(node: Node) -> None:
    add_peer(node.database, at(104), who="anna")
    add_peer(node.database, at(104), who="bert")  # nothing changes
    add_peer(node.database, at(105, may=("send", "query")), who="carl")
    assert remove_peer(node.database, "pacs", who="dora") and not remove_peer(node.database, "pacs")
    with node.database.reading() as session:
        told = [(c.who, c.sentence) for c in peer_changes.history(session)]
    assert told == [
        ("dora", "removed"),
        ("carl", "port: 104 → 105; may: send → send, query"),
        ("anna", "added"),
    ]


def test_a_peer_may_only_what_it_is_allowed() -> None:
    sender, asked = at(104), Peer(name="q", ae_title="QUERY", may=("query",))
    fetched, proof = (
        Peer(name="r", ae_title="FETCH", may=("retrieve",)),
        Peer(name="c", ae_title="PROOF", may=("commit",)),
    )

    def door_of(calling: str, called: str = "RADNODE") -> Admission:
        return decide((sender, asked, fetched, proof), calling, called, "127.0.0.1", ("RADNODE", "AI_TEST"), False)

    assert door_of("PACS").may == {"send"} == door_of("PACS", "AI_TEST").may
    assert door_of("FETCH").may == {"send", "retrieve"} and door_of("PROOF").may == {"commit"}
    assert door_of("QUERY").sentence == "The caller is among the peers, but may not send."
    assert door_of("PACS", "ELSE").sentence == "The node is called RADNODE or AI_TEST, not this."


def test_the_command_adds_tests_and_tells_the_history(tmp_path: Path) -> None:
    def said(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli, ["peers", *arguments], env={"RADNODE_DATA": str(tmp_path / "data")})
        assert result.exit_code == code, result.output
        return result.output

    with door() as port:
        rights = ("--may", "send", "--may", "query")
        assert said("add", "door", "--ae-title", "DOOR", "--address", "127.0.0.1", "--port", str(port), *rights)
        assert f"door: DOOR at 127.0.0.1:{port}; may send, query (added)" in said("list")
        tested = said("test", "door", code=1)
        assert "door: C-ECHO: DOOR knows this node and answers." in tested
        assert "door: query: It cannot be queried: it takes no queries (C-FIND at the study root)." in tested
        assert "door: added" in said("history")


def test_the_command_changes_only_what_it_is_told_and_says_what_it_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "radnode.toml"
    file.write_text('[[peers]]\nname = "ris"\nae_title = "RIS"\n[priors]\npeer = "pacs"\n')
    monkeypatch.setenv("RADNODE_CONFIG", str(file))
    monkeypatch.setenv("RADNODE_DATA", str(tmp_path / "data"))

    def said(*arguments: str, code: int = 0, typed: str = "") -> str:
        result = CliRunner().invoke(cli, ["peers", *arguments], input=typed)
        assert result.exit_code == code, result.output
        return result.output

    said(
        "add", "pacs", "--ae-title", "PACS", "--address", "10.1.2.3", "--port", "104", "--may", "send", "--may", "query"
    )
    assert "there is a peer pacs already: `radnode peers edit pacs`" in said("add", "pacs", "--quiet-s", "5", code=1)
    said("edit", "pacs", "--quiet-s", "5")
    assert "pacs: PACS at 10.1.2.3:104, quiet 5 s; may send, query (added)" in said("list")
    assert "Say what to change" in said("edit", "pacs", code=2)
    assert said("edit", "pacs", "--may", "none") == "pacs may nothing.\n"
    for command in (("edit", "ris", "--quiet-s", "5"), ("remove", "ris", "--yes")):
        assert "ris stands in the settings file: change it there." in said(*command, code=1)
    for wrong in (("--password", "geheim"), ("--token", "geheim"), ("--url", "http://a:geheim@pacs")):
        said("edit", "pacs", *wrong, code=2)
        said("add", "new", *wrong, code=2)
    assert b"geheim" not in b"".join(f.read_bytes() for f in (tmp_path / "data").glob("radnode.db*"))
    kept = said("remove", "pacs", typed="n\n", code=1)
    assert "Earlier studies are looked for in it" in kept and "Remove pacs? It is refused from then on." in kept
    assert "pacs: PACS" in said("list") and "pacs may no longer send." in said("remove", "pacs", typed="y\n")
    everybody = "all is any AE title at any address: whoever reaches the node may send."
    assert everybody in said("add", "all") and everybody in said("list")


def test_what_hangs_on_a_peer_is_counted(node: Node) -> None:
    peer = Peer(name="pacs", ae_title="PACS")
    with node.database.transaction() as session:
        assert peer_ties.hangs_on(session, Settings(), peer, 100.0) == ()
        fetches.want(session, "1.2", "pacs", fetches.HAND, "anna", 100.0)
        request = {"called_ae": "R", "address": "a", "asked_at": 1.0, "named": [], "due_at": 1.0}
        session.add(CommitRequestRow(transaction_uid="1.3", calling_ae="PACS", state="owed", **request))
        session.add(CommitRequestRow(transaction_uid="1.4", calling_ae="ELSE", state="owed", **request))
    add_study(node.database, "1.2")
    with node.database.transaction() as session:
        session.execute(update(StudyRow).values(calling_ae="PACS", last_instance_at=100.0))
    with node.database.reading() as session:
        assert peer_ties.hangs_on(session, Settings(), peer, 200.0) == (
            "It sent 1 of the last seven days' studies.",
            "1 fetches from it wait and will fail.",
            "1 answers to its storage commitments are owed.",
        )
