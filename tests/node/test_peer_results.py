"""Peers that get results: destinations that begin, change and end while the node runs, by the page and by the command."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage, SegmentationStorage
from sqlalchemy import select
from support.delivering import delivering
from support.orthanc import free_ports
from support.pages import serving
from support.results import add_job, add_study, four, record
from support.storage_scp import storage_scp

from radnode import addresses, breaker, migrations
from radnode.cli import cli
from radnode.database import Database
from radnode.deliver import Places
from radnode.errors import SettingsError
from radnode.outbox import Outbox
from radnode.peers.table import Peer, add_peer, list_peers, remove_peer, sync_from_settings
from radnode.settings import Deliver, Destination, Settings, load
from radnode.tables import DeliveryRow, EventRow

CLASSES = (Comprehensive3DSRStorage, SegmentationStorage, SecondaryCaptureImageStorage)
PACS = Peer(name="pacs", ae_title="PACS", address="127.0.0.1", port=1, may=("send", "results"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    out = Destination(name="out", kind="folder", folder=tmp_path / "out")
    made = Settings(data=tmp_path / "data", destinations=(out,), deliver=Deliver(threads=2, timeout_s=60, retry_s=0.1))
    made.data.mkdir()
    migrations.upgrade(made.url)
    return made


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    opened = Database(settings.url)
    yield opened
    opened.close()


def read(database: Database, settings: Settings, study_uid: str) -> None:
    """A study's job ends with an SR, a SEG, a key image and a FHIR report."""
    add_study(database, study_uid)
    with database.reading() as session:
        to = addresses.destinations(session, settings)
    record(database, settings.data, add_job(database, study_uid), four(study_uid, content=study_uid), to)


def owed(database: Database, study_uid: str, destination: str = "pacs") -> list[str]:
    """The states of what is or was owed."""
    with database.reading() as session:
        of_it = (DeliveryRow.study_uid == study_uid, DeliveryRow.destination == destination)
        return sorted(session.scalars(select(DeliveryRow.state).where(*of_it)))


def story(database: Database, study_uid: str) -> str:
    with database.reading() as session:
        return "\n".join(session.scalars(select(EventRow.sentence).where(EventRow.study_uid == study_uid)))


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_a_peer_begins_changes_and_ends_as_a_destination_while_the_node_delivers(
    settings: Settings, database: Database
) -> None:
    got: list[str] = []

    def stored(event: object) -> int:
        got.append(str(event.request.AffectedSOPClassUID))  # type: ignore[attr-defined]  # pynetdicom's event has no types
        return 0

    with storage_scp(CLASSES, stored) as there, storage_scp(CLASSES, stored) as elsewhere, delivering(settings):
        read(database, settings, "1.2.1")
        assert owed(database, "1.2.1") == []
        peer = replace(PACS, port=there.port)
        add_peer(database, peer)
        read(database, settings, "1.2.2")
        until(lambda: owed(database, "1.2.2") == ["delivered"] * 3)
        assert sorted(got) == sorted(CLASSES)
        add_peer(database, replace(peer, profile=("sr",), port=elsewhere.port))
        read(database, settings, "1.2.3")
        until(lambda: owed(database, "1.2.3") == ["delivered"])
        assert got[3:] == [Comprehensive3DSRStorage]
        add_peer(database, replace(peer, may=("send",)))
        read(database, settings, "1.2.4")
        until(lambda: owed(database, "1.2.4", "out") == ["delivered"] * 4)
        assert owed(database, "1.2.4") == [] and len(got) == 4


def test_what_failed_at_the_wrong_port_goes_to_the_right_one_at_once(settings: Settings, database: Database) -> None:
    patient = settings.model_copy(update={"deliver": settings.deliver.model_copy(update={"retry_s": 600.0})})
    (nowhere,) = free_ports(1)
    with storage_scp(CLASSES, lambda _: 0) as there, delivering(patient):
        add_peer(database, replace(PACS, port=nowhere))
        for n in range(breaker.LIMIT):
            read(database, settings, f"1.2.{n}")

        def outages() -> dict[str, breaker.Outage]:
            with database.reading() as session:
                return breaker.outages(session)

        until(lambda: "pacs" in outages())
        add_peer(database, replace(PACS, port=there.port))
        for n in range(breaker.LIMIT):
            until(lambda n=n: owed(database, f"1.2.{n}") == ["delivered"] * 3)  # type: ignore[misc]  # a bound default
        until(lambda: outages() == {})  # it answers


@pytest.mark.parametrize("how", ["unticked", "removed"])
def test_what_is_owed_to_a_peer_that_gets_no_more_is_withdrawn_and_told(
    settings: Settings, database: Database, how: str
) -> None:
    add_peer(database, PACS)
    read(database, settings, "1.2.1")
    assert owed(database, "1.2.1") == ["owed"] * 3
    if how == "unticked":
        add_peer(database, replace(PACS, may=("send",)))
    else:
        remove_peer(database, "pacs")
    assert owed(database, "1.2.1") == ["withdrawn"] * 3 and owed(database, "1.2.1", "out") == ["owed"] * 4
    assert "3 results owed to pacs are withdrawn: this peer " in story(database, "1.2.1")
    add_peer(database, PACS)
    with database.reading() as session:
        to = addresses.destinations(session, settings)
    record(database, settings.data, add_job(database, "1.2.1", revision=2), four("1.2.1", content="1.2.1"), to)
    assert owed(database, "1.2.1") == ["owed"] * 3, "the same results of a later run are owed to it again"


def test_a_lane_that_leaves_gives_back_what_it_has_not_sent(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, go_on, leaves = threading.Event(), threading.Event(), threading.Event()
    here: list[object] = []
    moved: list[object] = []

    def slow(event: object) -> int:
        here.append(event)
        first.set()
        go_on.wait(120)
        return 0

    def quick(event: object) -> int:
        moved.append(event)
        return 0

    follow = Places.follow

    def noted(places: Places) -> None:
        follow(places)
        if places._leaving:
            leaves.set()

    monkeypatch.setattr(Places, "follow", noted)
    with storage_scp(CLASSES, slow) as there, storage_scp(CLASSES, quick) as elsewhere, delivering(settings):
        add_peer(database, replace(PACS, port=there.port))
        read(database, settings, "1.2.1")
        assert first.wait(60)
        add_peer(database, replace(PACS, port=elsewhere.port))
        assert leaves.wait(60), "the role saw the change"
        go_on.set()
        until(lambda: owed(database, "1.2.1") == ["delivered"] * 3)
    assert (len(here), len(moved)) == (1, 2)
    with database.reading() as session:
        query = select(DeliveryRow.attempt).where(DeliveryRow.destination == "pacs")
        assert list(session.scalars(query)) == [0, 0, 0]
    assert Outbox(database, settings.data).due(time.time() + 60) == frozenset()


def test_the_page_asks_before_it_withdraws_and_the_names_of_the_settings_are_not_free(
    settings: Settings, database: Database
) -> None:
    form = {"name": "pacs", "ae_title": "PACS", "address": "127.0.0.1", "port": "1", "chosen": "true"}
    gets = form | {"may": ["send", "results"], "profile": ["sr", "seg"]}
    with serving(settings) as client:
        page = client.post("/peers", data=gets).text
        assert "results: sr, seg" in page and "<td>dimse</td>" in page
        taken = client.post("/peers", data=gets | {"name": "out"})
        assert taken.status_code == 422 and "out is the name of a destination in the settings file" in taken.text
        nowhere = client.post("/peers", data=gets | {"name": "b", "port": ""})
        assert nowhere.status_code == 422 and "has a single place to call" in nowhere.text
        read(database, settings, "1.2.1")
        assert "2 results owed to it are withdrawn." in client.get("/peers").text
        unticked = form | {"old": "pacs", "may": ["send"]}
        asked(client, database, unticked)
        assert client.post("/peers", data=unticked | {"sure": "true"}).status_code == 200
    assert owed(database, "1.2.1") == ["withdrawn"] * 2 and list_peers(database)[0].may == ("send",)


def asked(client: httpx.Client, database: Database, form: dict[str, object]) -> None:
    """Nothing is changed before somebody says so."""
    said = client.post("/peers", data=form)
    assert said.status_code == 409 and "2 results owed to it are withdrawn." in said.text and 'name="sure"' in said.text
    assert owed(database, "1.2.1") == ["owed"] * 2 and list_peers(database)[0].gets_results


def test_the_command_makes_a_peer_a_destination_and_asks_before_it_ends(settings: Settings, database: Database) -> None:
    def run(*arguments: str, answer: str = "") -> str:
        said = CliRunner().invoke(cli, arguments, env={"RADNODE_DATA": str(settings.data)}, input=answer)
        return said.output + said.stderr

    place = ("--ae-title", "PACS", "--address", "127.0.0.1", "--port", "1")
    run("peers", "add", "pacs", *place, "--may", "send", "--may", "results", "--profile", "sr")
    assert "gets sr" in run("peers", "list") and "pacs (dimse): gets rejection, sr" in run("destinations", "list")
    assert "name of a destination" in run("peers", "add", "out", *place, "--may", "results")
    run("peers", "edit", "pacs", "--profile", "all")
    assert "gets all that it takes" in run("peers", "list")
    read(database, settings, "1.2.1")
    run("peers", "edit", "pacs", "--may", "send", answer="n\n")
    assert owed(database, "1.2.1") == ["owed"] * 3
    assert "3 results owed to it are withdrawn." in run("peers", "edit", "pacs", "--may", "send", answer="y\n")
    assert owed(database, "1.2.1") == ["withdrawn"] * 3
    assert "profile: sr → nothing" in run("peers", "history")


def test_a_destination_of_the_settings_takes_over_a_name_and_what_is_owed_to_it(
    settings: Settings, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_peer(database, PACS)
    read(database, settings, "1.2.1")
    to = Destination(name="pacs", kind="dimse", host="127.0.0.1", port=1)
    sync_from_settings(settings.model_copy(update={"destinations": (to,)}), database)
    assert owed(database, "1.2.1") == ["owed"] * 3 and not list_peers(database)[0].gets_results
    file = tmp_path / "radnode.toml"
    peer = '[[peers]]\nname = "p"\nhost = "p"\nport = 104\nmay = ["results"]\nprofile = ["sr"]\n'
    file.write_text(peer)
    monkeypatch.setenv("RADNODE_CONFIG", str(file))
    (read_peer,) = load().peers
    assert (read_peer.may, read_peer.profile) == (("results",), ("sr",))
    file.write_text(peer + '[[destinations]]\nname = "p"\nkind = "folder"\nfolder = "f"\n')
    with pytest.raises(SettingsError, match="there is a destination of this name"):
        load()


def test_what_is_owed_to_a_name_that_leads_nowhere_is_said(settings: Settings, database: Database) -> None:
    read(database, settings, "1.2.1")
    renamed = (settings.destinations[0].model_copy(update={"name": "elsewhere"}),)
    with database.reading() as session:
        assert addresses.astray(session, settings) == ()
        (said,) = addresses.astray(session, settings.model_copy(update={"destinations": renamed}))
    assert said.startswith("4 results are owed to out, which is neither a destination of the settings file nor a peer")
