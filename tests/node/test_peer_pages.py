"""The pages and commands beside a PACS: peers edited and tested, what was given up sent again, studies fetched by hand."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from pydicom.dataset import Dataset
from sqlalchemy import select
from support.orthanc import free_ports
from support.pages import serving
from support.results import add_job, add_study, four, record

from radnode import evidence, fetches, migrations, outbox, reconcile, refusals
from radnode.cli import cli
from radnode.database import Database
from radnode.destinations.dimse_find import MOST, Finder, Found
from radnode.errors import DeliveryError
from radnode.peers import table as peers
from radnode.peers.table import decide, list_peers
from radnode.settings import Destination, Settings
from radnode.tables import DeliveryRow

Beside = tuple[httpx.Client, Database, Settings]


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Beside]:
    out = Destination(name="out", kind="folder", folder=tmp_path / "out")
    settings = Settings(data=tmp_path / "data", destinations=(out,))
    settings.data.mkdir()
    migrations.upgrade(settings.url)
    database = Database(settings.url)
    with serving(settings) as client:
        yield client, database, settings
    database.close()


def test_a_peer_is_added_edited_renamed_and_its_history_told(beside: Beside) -> None:
    client, database, _ = beside
    first = {"name": "ct", "ae_title": "CT1", "address": "10.1.2.3", "port": "104", "may": ["send", "query"]}
    added = client.post("/peers", data=first)
    assert added.status_code == 200 and "ct is saved, and in force." in added.text
    assert "is saved" not in client.get("/peers?saved=nobody").text
    assert 'value="CT1"' in client.get("/peers?edit=ct").text
    changed = first | {"old": "ct", "name": "ct-1", "quiet_s": "45", "may": ["send"], "way": "get", "tls": "true"}
    page = client.post("/peers", data=changed).text
    (peer,) = list_peers(database)
    assert (peer.name, peer.quiet_s, peer.may, peer.way, peer.tls) == ("ct-1", 45.0, ("send",), "get", True)
    assert page.count("<td>removed</td>") == 1 and page.count("<td>added</td>") == 2
    assert "There is a peer ct-1 already: edit it" in client.post("/peers", data=first | {"name": "ct-1"}).text
    wrong = client.post("/peers", data=first | {"old": "ct-1", "name": "ct-1", "way": "carrier-pigeon"})
    assert wrong.status_code == 422 and "The way is wrong" in wrong.text


def test_a_peer_of_which_every_right_is_taken_away_may_nothing(beside: Beside) -> None:
    client, database, _ = beside
    first = {"name": "ct", "ae_title": "CT1"}
    client.post("/peers", data=first)  # as the button "Add" of a caller that was turned away: no rights in its form
    assert list_peers(database)[0].may == ("send",)
    assert 'name="chosen" value="true"' in client.get("/peers?edit=ct").text
    client.post("/peers", data=first | {"old": "ct", "chosen": "true"})
    (peer,) = list_peers(database)
    assert peer.may == ()
    assert decide((peer,), "CT1", "RADNODE", "10.1.2.3", ("RADNODE",), False).rejection is not None


def test_no_password_comes_into_the_database_by_the_page(beside: Beside) -> None:
    client, _, settings = beside
    first = {"name": "ct", "ae_title": "CT1"}
    for wrong in ({"url": "http://admin:geheim@pacs"}, {"user": "a", "password": "geheim"}, {"token": "geheim"}):
        page = client.post("/peers", data=first | wrong)
        assert page.status_code == 422 and "This is no peer: " in page.text and "geheim" not in page.text
    well = {"url": "http://pacs", "user": "a", "password": "file:/run/secrets/pacs", "host": "pacs", "port": "104"}
    client.post("/peers", data=first | well)
    assert "file:/run/secrets/pacs" in client.get("/peers?edit=ct").text
    assert b"geheim" not in b"".join(f.read_bytes() for f in settings.data.glob("radnode.db*"))


def test_a_peer_is_tested_on_its_page(beside: Beside) -> None:
    client, _, _ = beside
    (port,) = free_ports(1)
    client.post("/peers", data={"name": "away", "ae_title": "AWAY", "address": "127.0.0.1", "port": str(port)})
    page = client.post("/peers/test", data={"name": "away"})
    assert page.status_code == 200 and f"127.0.0.1:{port} refuses the connection" in page.text
    assert client.post("/peers/test", data={"name": "nobody"}).status_code == 404


def test_what_was_given_up_is_sent_again_by_a_button_and_by_a_command(beside: Beside) -> None:
    client, database, settings = beside
    add_study(database, "1.2.3")
    record(database, settings.data, add_job(database, "1.2.3"), four("1.2.3"), settings.destinations)

    def give_up() -> None:
        with database.transaction() as session:
            for row in session.scalars(select(DeliveryRow)):
                row.state, row.error = "dead", "no space"

    def owed() -> int:
        with database.reading() as session:
            return outbox.counts(session)["out"].owed

    give_up()
    client.post("/destinations/send-again", data={"name": "out"})
    assert owed() == 4
    give_up()
    listed = command(settings, "deliveries", "list").output
    assert "out: 0 owed, 0 kept, 0 taken, 4 given up" in listed and ": no space" in listed
    assert command(settings, "deliveries", "send-again", "1").exit_code == 0 and owed() == 1
    assert command(settings, "deliveries", "send-again", "1").exit_code == 1
    assert command(settings, "deliveries", "send-again", "--all", "out").output == "3 are owed again.\n"
    assert command(settings, "deliveries", "send-again").exit_code == 2


def command(settings: Settings, *arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, env={"RADNODE_DATA": str(settings.data)})


def test_a_study_that_the_node_never_saw_is_listed_and_wanted_once(beside: Beside) -> None:
    client, database, _ = beside
    assert "No peer may be queried" in client.get("/reconcile").text
    found = (Found(study_uid="1.2.9", study_date="20261121", modalities=("CT",), instances=212),)
    assert reconcile.keep(database, "pacs", found, 100.0) == 1
    assert reconcile.keep(database, "pacs", found, 200.0) == 1
    with database.reading() as session:
        assert [(u.study_uid, u.here, u.first_seen_at) for u in reconcile.unseen(session)] == [("1.2.9", 0, 100.0)]
    for _ in range(2):
        page = client.post("/reconcile/fetch", data={"study_uid": "1.2.9", "peer": "pacs"})
        assert page.status_code == 200 and "212" in page.text
    with database.reading() as session:
        assert [(f.study_uid, f.why, f.state) for f in fetches.latest(session)] == [("1.2.9", "reconcile", "queued")]


def test_that_the_node_has_everything_is_said_only_where_every_peer_answered(beside: Beside) -> None:
    client, database, _ = beside
    everything, not_every = "The node has everything", "not every peer has answered"
    for name in ("pacs", "archive"):
        peers.add_peer(
            database, peers.Peer(name=name, ae_title=name.upper(), address="127.0.0.1", port=1, may=("query",))
        )
    assert everything not in client.get("/reconcile").text
    evidence.keep(database, "", reconcile.SOURCE, "pacs", 100.0)
    page = client.get("/reconcile").text
    assert not_every in page and everything not in page, "one was never asked"
    evidence.keep(database, "", reconcile.SOURCE, "archive", 100.0, error="no connection: Connection refused")
    page = client.get("/reconcile").text
    assert not_every in page and everything not in page and "Connection refused" in page
    evidence.keep(database, "", reconcile.SOURCE, "archive", 200.0)
    page = client.get("/reconcile").text
    assert everything in page and not_every not in page


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [("port", "11x", "the port is a number, not “11x”"), ("quiet_s", "abc", "the quiet time is a number, not “abc”")],
)
def test_a_number_that_is_none_is_refused_in_plain_words_and_everything_typed_stays(
    beside: Beside, field: str, typed: str, said: str
) -> None:
    answer = beside[0].post("/peers", data={"name": "ct", "ae_title": "CT1", "address": "10.1.2.3", field: typed})
    assert answer.status_code == 422 and said in answer.text and "literal" not in answer.text
    for value in ("ct", "CT1", "10.1.2.3", typed):
        assert f'value="{value}"' in answer.text


@pytest.mark.parametrize(
    ("address", "page"),
    [("/peers/test", "/peers"), ("/rules/try", "/rules"), ("/studies/1.2.3/rulings", "/studies/1.2.3"), ("/destinations/probe", "/")],
)  # fmt: skip
def test_a_language_chosen_on_what_a_form_answered_leads_to_the_page_of_the_form(
    beside: Beside, address: str, page: str
) -> None:
    client, _, _ = beside
    answer = client.get(f"{address}?lang=zh-TW", headers={"accept": "text/html"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, page)
    assert "lang=zh-TW" in answer.headers["set-cookie"]
    assert client.get(address, headers={"accept": "application/json"}).status_code == 405, "a program is told"
    nowhere = client.get("/nowhere?lang=en", headers={"accept": "text/html"})
    assert nowhere.status_code == 404 and "Nothing has this address." in nowhere.text


def test_a_fetch_by_hand_says_why_it_cannot_be(beside: Beside) -> None:
    client, _, settings = beside
    both = client.post("/fetch", data={"study_uid": "1.2", "accession_number": "A"})
    assert both.status_code == 422 and "by its UID or by its accession number" in both.text
    nobody = client.post("/fetch", data={"study_uid": "1.2"})
    assert nobody.status_code == 422 and "There is no peer that may be queried and fetched from." in nobody.text
    said = command(settings, "fetch", "--accession", "A1")
    assert said.exit_code == 1 and "There is no peer that may be queried" in said.stderr
    assert command(settings, "fetch").exit_code == 2
    said = command(settings, "reconcile")
    assert said.exit_code == 1 and "there is no peer that may be queried" in said.stderr


def test_what_is_not_there_is_not_done_in_silence(beside: Beside) -> None:
    client, database, _ = beside
    with database.transaction() as session:
        peers.put(session, peers.Peer(name="filed", ae_title="FILED", from_settings=True), "")
    for path, form, status in (
        ("/peers/remove", {"name": "nobody"}, 404),
        ("/peers/remove", {"name": "filed"}, 409),
        ("/peers", {"name": "other", "ae_title": "X", "old": "filed"}, 422),
        ("/destinations/send-again", {"name": "nobody"}, 409),
        ("/reconcile/fetch", {"study_uid": "1.2.9", "peer": "nobody"}, 409),
        ("/reconcile/fetch", {"study_uid": "....", "peer": "filed"}, 409),
        ("/fetch", {"study_uid": "...."}, 422),
    ):
        answer = client.post(path, data=form, headers={"accept": "text/html"})
        assert answer.status_code == status and 'role="alert"' in answer.text, (path, form)
    assert [p.name for p in list_peers(database)] == ["filed"]
    with database.reading() as session:
        assert fetches.latest(session) == ()


def test_a_caller_that_found_no_free_association_is_listed_and_need_not_be_added(beside: Beside) -> None:
    client, database, _ = beside
    peers.record_refusal(database, "CT1", "RADNODE", "192.0.2.7", peers.NO_SEAT)
    peers.record_refusal(database, "CT2", "RADNODE", "192.0.2.7", "The caller is not among the peers.")
    page = client.get("/peers").text
    assert peers.NO_SEAT in page and 'value="CT2"' in page and 'value="CT1"' not in page


def test_a_study_of_which_every_image_was_refused_is_not_met_with_silence(beside: Beside) -> None:
    client, database, _ = beside
    refusals.keep(database, {"1.2.9": {"1.2.9.1": "The disk of the node is full."}}, 200.0)
    page = client.get("/studies/1.2.9")
    assert page.status_code == 404
    assert "The node never received this study. It refused 1 images of it: The disk of the node is full." in page.text
    assert "It refused" not in client.get("/studies/1.2.10").text


def test_a_study_is_fetched_only_where_it_is_the_one_that_was_named() -> None:
    found = Found(study_uid="1.2.9", accession_number=" a17 ")
    assert reconcile.is_named(found, "1.2.9", "") and reconcile.is_named(found, "", "A17")
    for study_uid, accession_number in (("1.2.99", ""), ("", "*"), ("", "A1?"), ("", "A1"), ("", "A17\\A18")):
        assert not reconcile.is_named(found, study_uid, accession_number), accession_number


class Endless:
    """An archive with more studies than are looked at."""

    def send_c_find(self, query: Dataset, _model: str) -> Iterator[tuple[Dataset, Dataset | None]]:
        pending, found = Dataset(), Dataset()
        pending.Status, found.StudyInstanceUID = 0xFF00, "1.2.3"
        for _ in range(MOST):
            yield pending, found
        done = Dataset()
        done.Status = 0x0000
        yield done, None


def test_an_archive_with_more_studies_than_are_looked_at_is_not_taken_for_looked_at() -> None:
    with pytest.raises(DeliveryError, match="or more, of which not all are looked at"):
        Finder(Endless()).studies(StudyDate="20260101-20261231")
