"""Who may send, decided and recorded."""

from pathlib import Path

import pytest
from sqlalchemy import func, insert, select
from support.receiver import wait_until

from radnode.database import Database
from radnode.peers.table import (
    ANOTHER_CERTIFICATE,
    MAX_REFUSALS,
    PLAIN,
    UNSEEN_CERTIFICATE,
    Admission,
    Peer,
    Peers,
    add_peer,
    decide,
    list_peers,
    list_refusals,
    record_refusal,
    remove_peer,
    sync_from_settings,
    unheard,
)
from radnode.peers.ties import wide
from radnode.settings import Peer as PeerSetting
from radnode.settings import Receive, Settings
from radnode.tables import RefusalRow, Table

PACS = Peer(name="pacs", ae_title="PACS", address="10.1.0.5")
WARD = Peer(name="ward", ae_title="", address="10.2.0.0/16")
ANYWHERE = Peer(name="roaming", ae_title="ROAMING", address="")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path / 'radnode.db'}")
    Table.metadata.create_all(database.engine)
    return database


@pytest.mark.parametrize(
    ("calling_ae", "address", "peer"),
    [
        ("PACS", "10.1.0.5", "pacs"),
        ("PACS  ", "10.1.0.5", "pacs"),
        ("PACS", "::ffff:10.1.0.5", "pacs"),
        ("ANY", "10.2.3.4", "ward"),
        ("ROAMING", "192.0.2.7", "roaming"),
        ("ROAMING", "2001:db8::1", "roaming"),
        ("PACS", "10.1.0.6", None),
        ("pacs", "10.1.0.5", None),
        ("OTHER", "10.1.0.5", None),
        ("OTHER", "not an address", None),
    ],
)
def test_calling_ae_and_address_decide_together(calling_ae: str, address: str, peer: str | None) -> None:
    admission = decide((PACS, WARD, ANYWHERE), calling_ae, "RADNODE", address, "RADNODE", False)
    assert admission.peer == (peer or "")
    assert admission.rejection == (None if peer else (1, 1, 3))


def test_the_called_ae_comes_first() -> None:
    for unknown in (False, True):
        assert decide((PACS,), "PACS", "OTHER", "10.1.0.5", "RADNODE", unknown).rejection == (1, 1, 7)


def test_a_known_ae_from_elsewhere_is_told_apart_in_the_record() -> None:
    assert "not from this address" in decide((PACS,), "PACS", "RADNODE", "10.9.9.9", "RADNODE", False).sentence


def test_unknown_callers_come_in_only_when_the_settings_say_so() -> None:
    assert decide((), "X", "RADNODE", "10.0.0.1", "RADNODE", True).rejection is None
    assert decide((), "X", "RADNODE", "10.0.0.1", "RADNODE", False).rejection == (1, 1, 3)


def test_a_peer_with_tls_is_not_served_in_the_clear_whatever_else_describes_it() -> None:
    over = Peer(name="over", ae_title="PACS", address="10.1.0.5", tls=True)
    for peers, unknown in (((over,), False), ((PACS, over), False), ((over,), True)):
        plain = decide(peers, "PACS", "RADNODE", "10.1.0.5", "RADNODE", unknown)
        assert (plain.rejection, plain.sentence) == ((1, 1, 1), PLAIN)
        assert decide(peers, "PACS", "RADNODE", "10.1.0.5", "RADNODE", unknown, secured=True).rejection is None
    assert decide((over,), "OTHER", "RADNODE", "10.1.0.5", "RADNODE", False).rejection == (1, 1, 3)


def test_where_a_peer_names_its_certificate_no_wider_row_lets_another_in() -> None:
    named = Peer(name="named", ae_title="PACS", tls=True, certificate_name="pacs.example", may=("send", "commit"))
    second = Peer(name="second", ae_title="PACS", tls=True, certificate_name="New.example", may=("worklist",))
    wide = Peer(name="wide", may=("send",))

    def door(*shown: str, unknown: bool = False) -> Admission:
        peers = (named, second, wide)
        return decide(peers, "PACS", "RADNODE", "10.1.0.5", "RADNODE", unknown, secured=True, shown=frozenset(shown))

    assert door("pacs.example", "other").may == {"send", "commit"} and door("new.example").may == {"send", "worklist"}
    for refused in (door(), door("other"), door("other", unknown=True)):
        assert (refused.rejection, refused.sentence) == ((1, 1, 3), ANOTHER_CERTIFICATE)
    with pytest.raises(ValueError, match="comes over TLS"):
        Peer(name="x", certificate_name="pacs.example")


def test_a_peer_that_is_only_fetched_from_over_the_web_opens_the_door_to_nobody() -> None:
    for way, admitted in (("move", True), ("get", False), ("wado", False), ("orthanc", False)):
        there = Peer(name="there", may=("query", "retrieve"), way=way, url="http://pacs.example")
        assert (decide((there,), "X", "RADNODE", "10.9.9.9", "RADNODE", False).rejection is None) == admitted, way
        assert bool(wide([there])) == admitted
    assert wide([Peer(name="x", may=("retrieve",))]) == (
        "x is any AE title at any address: whoever reaches the node may send.",
    )


def test_a_peer_with_tls_is_named_where_the_node_does_not_listen_for_it() -> None:
    over, asked = Peer(name="over", tls=True), Peer(name="asked", tls=True, may=("query",))
    (sentence,) = unheard(Settings(), (PACS, over, asked))
    assert sentence == "over is refused: it has to come over TLS, and [receive] names no tls_port."
    assert unheard(Settings(receive=Receive(tls_port=2762)), (over,)) == ()


def test_an_address_that_is_none_is_no_peer() -> None:
    with pytest.raises(ValueError, match="neither an IP address nor a network"):
        Peer(name="x", address="pacs.example")
    for host in ("pacs example", "10.1.0.0/16", "999.1.1.1", "http://pacs", "-a", "a..b"):
        with pytest.raises(ValueError, match="neither a host name nor an IP address"):
            Peer(name="x", host=host)
    for host in ("orthanc", "pacs_1.example.", "10.1.2.3", "2001:db8::1"):
        assert Peer(name="x", host=host, port=104).called_at == host


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"url": "http://admin:geheim@pacs.example"}, "holds no user and password"),
        ({"url": "https://admin@pacs.example/dicom-web"}, "holds no user and password"),
        ({"url": "ftp://pacs.example"}, "http:// or https://"),
        ({"url": "http://pacs.example/?token=geheim"}, "without"),
        ({"user": "radnode", "password": "geheim"}, "the password is written as file:PATH or env:NAME"),
        ({"token": "geheim"}, "the token is written as file:PATH or env:NAME"),
        ({"user": "radnode"}, "belong together"),
        ({"user": "radnode", "password": "env:A", "token": "env:B"}, "not with both"),
    ],
)
def test_no_secret_is_taken_for_a_peer_and_none_is_said(fields: dict[str, str], why: str) -> None:
    for made in (Peer, PeerSetting):
        with pytest.raises(ValueError, match=why) as refused:
            made(name="x", **fields)  # type: ignore[arg-type]
        if made is Peer:
            assert "geheim" not in str(refused.value)


def test_a_peer_is_called_at_its_host_and_comes_from_its_address() -> None:
    both = Peer(name="x", address="10.1.0.0/16", host="pacs.example", port=104)
    assert both.called_at == "pacs.example"
    assert (both.matches_address("10.1.2.3"), both.matches_address("10.2.2.3")) == (True, False)
    assert Peer(name="x", address="10.1.2.3", port=104).called_at == "10.1.2.3"
    assert Peer(name="x", address="10.1.0.0/16", port=104).called_at == Peer(name="x", host="pacs").called_at == ""


def test_peers_are_added_replaced_listed_and_removed(database: Database) -> None:
    add_peer(database, WARD)
    add_peer(database, PACS)
    assert list_peers(database) == (PACS, WARD)
    moved = Peer(name="pacs", ae_title="PACS", address="10.1.0.6", port=104, quiet_s=3.0)
    add_peer(database, moved)
    assert list_peers(database) == (moved, WARD)
    assert remove_peer(database, "pacs")
    assert not remove_peer(database, "pacs")
    assert list_peers(database) == (WARD,)


def test_the_settings_rule_over_their_own_peers_only(database: Database, tmp_path: Path) -> None:
    add_peer(database, WARD)
    first = Settings(data=tmp_path, peers=(PeerSetting(name="a", ae_title="A"), PeerSetting(name="b", ae_title="B")))
    sync_from_settings(first, database)
    sync_from_settings(Settings(data=tmp_path, peers=(PeerSetting(name="b", ae_title="B2"),)), database)
    found = {p.name: (p.ae_title, p.from_settings) for p in list_peers(database)}
    assert found == {"ward": ("", False), "b": ("B2", True)}


def test_an_added_peer_is_in_force_at_once_and_a_removed_one_out_soon(database: Database, tmp_path: Path) -> None:
    door = Peers(Settings(data=tmp_path), database)
    assert door.admit("PACS", "RADNODE", "10.1.0.5").rejection == (1, 1, 3)
    assert not door.admit_address("10.1.0.5", "STOW-RS")
    add_peer(database, PACS)
    assert door.admit("PACS", "RADNODE", "10.1.0.5").rejection is None
    assert door.admit_address("10.1.0.5", "STOW-RS")
    remove_peer(database, "pacs")
    wait_until(lambda: door.admit("PACS", "RADNODE", "10.1.0.5").rejection is not None, 60, "the removal")


def test_refusals_are_counted_each_reason_by_itself(database: Database, tmp_path: Path) -> None:
    door = Peers(Settings(data=tmp_path), database)
    for _ in range(3):
        door.admit("X", "RADNODE", "10.0.0.1")
    door.admit("X", "WRONG", "10.0.0.1")
    assert sorted((r.called_ae, r.count) for r in list_refusals(database)) == [("RADNODE", 3), ("WRONG", 1)]


def test_a_scan_cannot_fill_the_disk_with_refusals(database: Database) -> None:
    row = {"called_ae": "R", "address": "a", "reason": "r", "count": 1, "last_at": 0.0}
    with database.transaction() as session:
        session.execute(insert(RefusalRow), [{**row, "calling_ae": str(n)} for n in range(MAX_REFUSALS)])
    for n in range(5):
        record_refusal(database, f"new {n}", "R", "a", "r")
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(RefusalRow)) == MAX_REFUSALS + 1
    assert list_refusals(database)[0].count == 5


def test_over_http_only_the_address_counts(database: Database, tmp_path: Path) -> None:
    add_peer(database, PACS)
    add_peer(database, ANYWHERE)
    door = Peers(Settings(data=tmp_path), database)
    assert door.admit_address("10.1.0.5", "STOW-RS")
    assert not door.admit_address("10.9.9.9", "STOW-RS")
    add_peer(database, Peer(name="over", address="10.3.0.5", tls=True))
    assert not door.admit_address("10.3.0.5", "STOW-RS") and door.admit_address("10.3.0.5", "STOW-RS", secured=True)
    assert list_refusals(database)[0].calling_ae == "STOW-RS"
    add_peer(database, Peer(name="named", address="10.4.0.5", tls=True, certificate_name="named"))
    assert not door.admit_address("10.4.0.5", "STOW-RS", secured=True)
    assert UNSEEN_CERTIFICATE in {r.reason for r in list_refusals(database)}
    everybody = Settings(data=tmp_path, receive=Receive(accept_unknown_callers=True))
    assert Peers(everybody, database).admit_address("10.9.9.9", "STOW-RS")
