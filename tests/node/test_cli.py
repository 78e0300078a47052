import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support import models
from support.core import Node, dataset, encoded

from radnode import complete, migrations, refusals, report
from radnode.cli import cli
from radnode.commands import look as cli_look
from radnode.commands import run as cli_run
from radnode.database import Database
from radnode.peers.table import Peer, add_peer
from radnode.sending import Sending
from radnode.settings import Settings
from radnode.states import DeliveryState
from radnode.studies import DeliveryView
from radnode_inference import registry
from radnode_inference.model import Availability


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry holds the small models of the tests, and results are the small ones."""
    cards = tuple(models.card(h, h) for h in ("quick", "raising", "declining"))
    cards += (models.card("missing", "quick", Availability.NOT_INSTALLED),)
    monkeypatch.setattr(registry, "cards", lambda _weights, _in_use=None: cards)
    monkeypatch.setattr(report, "results", lambda findings, study: models.report(findings, study, previous=()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        (images / f"{number}.dcm").write_bytes(encoded(dataset("1.2.3", f"1.2.3.{number}")))
    (images / "README").write_text("no DICOM")
    return images


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from radnode.cli import cli\n"
        "assert 'serve' in CliRunner().invoke(cli, ['--help']).output\n"
        "print([m for m in ('torch', 'monai', 'highdicom', 'fastapi', 'pynetdicom', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", "the help imports none of these"


def test_every_command_of_the_product_is_there() -> None:
    assert set(cli.list_commands(None)) >= {  # type: ignore[arg-type]
        *("serve", "receive", "schedule", "work", "deliver", "web", "run", "models", "check", "study"),
        *("conformance", "peers", "migrate", "demo", "destinations", "rerun", "retract", "read"),
    }


@pytest.mark.usefixtures("installed")
class TestRun:
    def test_results_are_written_and_the_exit_code_is_0(self, data: Path, folder: Path, tmp_path: Path) -> None:
        done = invoke("run", "quick", str(folder), "-o", str(tmp_path / "out"))
        assert done.exit_code == 0, done.output
        names = sorted(p.name for p in (tmp_path / "out").iterdir())
        assert "report.json" in names and [n.split("-")[0] for n in names] == ["key", "report.json", "seg", "sr"]
        assert all(str(tmp_path / "out" / name) in done.stdout for name in names)

    def test_a_folder_with_results_of_another_study_is_refused_in_one_line(
        self, data: Path, folder: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        run = ("run", "quick", str(folder), "-o", str(out))
        assert invoke(*run).exit_code == 0
        again = invoke(*run)
        assert (again.exit_code, again.stderr) == (0, ""), "the same study, the same files"
        for number in range(3):
            (folder / f"{number}.dcm").write_bytes(encoded(dataset("1.2.99", f"1.2.99.{number}")))
        before = {p.name: p.read_bytes() for p in out.iterdir()}
        refused = invoke(*run)
        assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
        assert "holds results of another study" in refused.stderr and "--force" in refused.stderr
        assert {p.name: p.read_bytes() for p in out.iterdir()} == before
        meant = invoke(*run, "--force")
        assert meant.exit_code == 0 and "also holds 3 files that are not of this run" in meant.stderr
        assert "report.json took the place of that of an earlier run." in meant.stderr
        assert "also holds" not in meant.stdout

    def test_a_report_alone_tells_whose_study_a_folder_holds(self, tmp_path: Path) -> None:
        identifier = {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}
        study = {"resourceType": "ImagingStudy", "identifier": [identifier]}
        (tmp_path / "report.json").write_text(json.dumps({"entry": [{"resource": study}]}))
        assert cli_run.of_another_study(tmp_path, "1.2.3") == ""
        assert cli_run.of_another_study(tmp_path, "1.2.4") == "report.json"
        (tmp_path / "report.json").write_text("[]")
        assert cli_run.of_another_study(tmp_path, "1.2.4") == ""

    def test_a_model_that_declines_says_why_in_one_line_and_the_exit_code_is_3(
        self, data: Path, folder: Path, tmp_path: Path
    ) -> None:
        done = invoke("run", "declining", str(folder), "-o", str(tmp_path / "out"))
        assert (done.exit_code, done.stdout) == (3, "")
        assert done.stderr == "declined: slice-gap: a slice is missing\n"
        assert not (tmp_path / "out").exists()

    def test_a_model_without_weights_declines(self, data: Path, folder: Path, tmp_path: Path) -> None:
        done = invoke("run", "missing", str(folder), "-o", str(tmp_path / "out"))
        assert done.exit_code == 3
        assert done.stderr == "declined: not-installed: not installed: weights missing\n"

    def test_a_phantom_is_declined(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        body = encoded(dataset("1.2.3", "1.2.3.1", QualityControlSubject="YES"))
        (tmp_path / "in" / "1.dcm").write_bytes(body)
        done = invoke("run", "quick", str(tmp_path / "in"), "-o", str(tmp_path / "out"))
        assert (done.exit_code, done.stderr.split(":")[1]) == (3, " no-input")

    @pytest.mark.parametrize(("model", "why"), [("raising", "the model is broken"), ("nowhere", "there is no model")])
    def test_a_failure_is_one_line_and_the_exit_code_is_1(
        self, data: Path, folder: Path, tmp_path: Path, model: str, why: str
    ) -> None:
        done = invoke("run", model, str(folder), "-o", str(tmp_path / "out"))
        assert (done.exit_code, done.stdout) == (1, "")
        assert why in done.stderr and done.stderr.count("\n") == 1

    def test_verbose_shows_the_traceback(self, data: Path, folder: Path, tmp_path: Path) -> None:
        done = invoke("run", "raising", str(folder), "-o", str(tmp_path / "out"), "-v")
        assert done.exit_code == 1 and "Traceback" in done.stderr

    def test_a_folder_without_images_is_a_failure(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        done = invoke("run", "quick", str(tmp_path / "empty"), "-o", str(tmp_path / "out"))
        assert (done.exit_code, done.stderr) == (1, "failed: there is no DICOM image here\n")

    @pytest.mark.parametrize(
        ("name", "held"),
        [("3.dcm", b""), ("IM4", b""), ("5", bytes(128) + b"DICM\x02\x00")],
        ids=["empty", "unnamed", "cut"],
    )
    def test_a_file_that_must_be_an_image_and_cannot_be_read_is_no_reason_to_read_the_rest(
        self, data: Path, folder: Path, tmp_path: Path, name: str, held: bytes
    ) -> None:
        (folder / name).write_bytes(held)
        done = invoke("run", "quick", str(folder), "-o", str(tmp_path / "out"))
        assert (done.exit_code, done.stdout) == (3, "")
        said = f"declined: unreadable: 1 of the files cannot be read ({name}): the study would be a part\n"
        assert done.stderr == said and not (tmp_path / "out").exists()

    def test_models_are_listed_with_weights_and_intended_use(self, data: Path) -> None:
        done = invoke("models")
        assert done.exit_code == 0
        assert "quick 1: quick" in done.output and "not installed: weights missing" in done.output


def test_a_wrong_setting_is_told_with_id_sentence_and_hint_and_the_exit_code_is_2(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADNODE_RECEIVE_PORT", "seventy")
    done = invoke("models")
    assert done.exit_code == 2
    assert done.stderr.startswith("radnode: [settings] The setting 'receive.port' is wrong")
    assert "deploy/radnode.toml" in done.stderr
    monkeypatch.delenv("RADNODE_RECEIVE_PORT")
    (tmp_path / "radnode.toml").write_text("[complete]\nquiet = 3\n")
    monkeypatch.setenv("RADNODE_CONFIG", str(tmp_path / "radnode.toml"))
    assert "The setting 'complete.quiet' is wrong: there is no such key." in invoke("models").stderr


def test_migrate_makes_the_schema(data: Path) -> None:
    done = invoke("migrate")
    assert (done.exit_code, done.output) == (0, f"The database has the schema {migrations.head()}.\n")
    assert (data / "radnode.db").exists()


def test_a_database_that_does_not_answer_is_no_wrong_setting_it_may_be_starting(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADNODE_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/x")
    done = invoke("migrate")
    assert done.exit_code == 1 and done.stderr.startswith("radnode: [database] ")


@pytest.mark.parametrize(
    "command", [("models",), ("check",), ("backup", "b.tar"), ("peers", "list"), ("weights", "list")]
)
def test_a_database_that_is_away_is_one_line_for_every_command(
    data: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RADNODE_DATABASE_URL", "postgresql+psycopg://nobody:secret@127.0.0.1:1/none")
    done = invoke(*command)
    assert done.exit_code == 1 and "Traceback" not in done.output and "secret" not in done.output
    assert isinstance(done.exception, SystemExit)
    if command == ("check",):
        assert "WRONG database: The database cannot be used" in done.stdout and "model ct-lung" in done.stdout
    else:
        assert done.stderr.startswith("radnode: [database] The database cannot be used: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "url", ["mysql://nobody@127.0.0.1/none", "postgresql+psycopg2://nobody@127.0.0.1/none", "nonsense"]
)
def test_a_kind_of_database_that_is_not_here_says_how_postgresql_is_written(
    data: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("RADNODE_DATABASE_URL", url)
    done = invoke("peers", "list")
    assert done.exit_code == 2 and "postgresql+psycopg://" in done.stderr and done.stderr.count("\n") == 1


def test_who_reads_only_the_first_lines_ends_a_command_in_silence(data: Path) -> None:
    program = [str(Path(sys.executable).parent / "radnode"), "audit", "export"]
    for _ in range(3):
        assert invoke("audit", "list").exit_code == 0  # each a row of the audit
    away, closed = os.pipe()
    os.close(away)
    try:
        done = subprocess.run(program, stdout=closed, stderr=subprocess.PIPE, text=True, check=False, timeout=250)
    finally:
        os.close(closed)
    assert done.stderr == ""


def test_peers_are_added_listed_and_removed(data: Path) -> None:
    added = invoke("peers", "add", "pacs", "--ae-title", "PACS", "--address", "10.0.0.0/8", "--quiet-s", "30")
    assert added.exit_code == 0, added.output
    assert invoke("peers", "list").output == "pacs: PACS at 10.0.0.0/8, quiet 30 s; may send (added)\n"
    assert invoke("peers", "remove", "pacs", "--yes").exit_code == 0
    assert invoke("peers", "list").stdout == ""
    assert invoke("peers", "remove", "pacs", "--yes").exit_code == 1


@pytest.mark.parametrize("wrong", [("--address", "nowhere"), ("--ae-title", "SEVENTEENLETTERSX"), ("--port", "0")])
def test_a_wrong_peer_is_refused(data: Path, wrong: tuple[str, str]) -> None:
    assert invoke("peers", "add", "pacs", *wrong).exit_code == 2


def test_a_peer_that_does_not_answer_fails_its_test_and_the_check(data: Path) -> None:
    invoke("peers", "add", "pacs", "--ae-title", "PACS", "--address", "127.0.0.1", "--port", "1")
    tested = invoke("peers", "test", "pacs")
    assert tested.exit_code == 1 and "127.0.0.1:1 refuses the connection" in tested.stderr
    assert invoke("peers", "test", "nobody").exit_code == 1
    checked = invoke("check")
    assert checked.exit_code == 1
    assert "WRONG peer pacs: 127.0.0.1:1 refuses the connection" in checked.output


def test_check_tells_one_line_for_each_part(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for section in ("RECEIVE", "WEB"):  # the ports of the settings may be another node's here
        monkeypatch.setenv(f"RADNODE_{section}_PORT", "0")
    invoke("peers", "add", "pacs", "--ae-title", "PACS")
    checked = invoke("check")
    assert checked.exit_code == 0, checked.output
    for part in ("settings", "data folder", "database", "peer pacs", "destination out", "model ct-lung", "device"):
        assert f"ok    {part}: " in checked.output


def test_a_misspelt_variable_is_named_and_one_that_holds_a_secret_is_not(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADNODE_RECIEVE_PORT", "104")
    monkeypatch.setenv("RADNODE_RIS_PASSWORD", "secret")
    checked = invoke("check")
    assert checked.exit_code == 1
    said = [line for line in checked.output.splitlines() if "sets nothing" in line]
    assert said == ["WRONG environment: RADNODE_RECIEVE_PORT sets nothing: is RADNODE_RECEIVE_PORT meant?"]
    monkeypatch.delenv("RADNODE_RECIEVE_PORT")
    monkeypatch.setenv("RADNODE_CLIENT_SECRET", "secret")
    monkeypatch.setenv("RADNODE_OIDC_CLIENT_SECRET", "env:RADNODE_CLIENT_SECRET")
    assert "sets nothing" not in invoke("check").output


def test_check_looks_at_every_stored_file_when_asked(data: Path) -> None:
    assert "ok    stored files: 0 are missing" in invoke("check", "--files").output
    settings = Settings()
    database = Database(settings.url)
    Node(settings=settings, database=database).arrive(100.0)
    database.close()
    (file,) = (settings.data / "objects").glob("*.dcm")
    file.unlink()
    checked = invoke("check", "--files")
    assert checked.exit_code == 1
    assert (
        f"WRONG stored files: 1 are missing or cut off and 0 cannot be read, the first objects/{file.name}"
        in checked.output
    )
    assert "stored files" not in invoke("check").output


def test_the_story_of_a_study_is_told(data: Path) -> None:
    settings = Settings()
    invoke("migrate")
    database = Database(settings.url)
    node = Node(settings=settings, database=database)
    node.arrive(100.0, SeriesNumber=3, SeriesDescription="THORAX")
    complete.settle(database, settings, since=0.0, now=100.0)
    database.close()
    told = invoke("study", "1.2.3")
    assert told.exit_code == 0
    assert "receiving, revision 1, 1 images, CT" in told.output
    assert "waits      nothing any more: the scheduler's next look completes it\n" in told.output
    assert "1970-01-01 00:01:40.000Z arrived     The first image came from PACS." in told.output
    assert "TEST^ANNA" not in told.output
    assert "series     CT 3 'THORAX': 1 objects, 1.2.3.1\n" in told.output
    next(settings.data.glob("objects/**/*.dcm")).write_bytes(b"no image any more")
    assert "series     no name: 1 objects" in invoke("study", "1.2.3").output
    unknown = invoke("study", "9.9")
    assert unknown.exit_code == 1 and "never received" in unknown.stderr and "refused" not in unknown.stderr
    with closing(Database(settings.url)) as database:
        refusals.keep(database, {"9.9": {"9.9.1": "The disk of the node is full."}}, 200.0)
    said = "this node never received a study 9.9. It refused 1 images of it: The disk of the node is full.\n"
    assert said in invoke("study", "9.9").stderr


def test_where_a_study_waits_that_is_being_received_is_told(data: Path) -> None:
    settings, now = Settings(), time.time()
    invoke("migrate")
    with closing(Database(settings.url)) as database:
        node = Node(settings=settings, database=database)
        node.arrive(now - 20.0)
        complete.settle(database, settings, since=0.0, now=now - 20.0)

        def told() -> str:
            (line,) = [line for line in invoke("study", "1.2.3").output.splitlines() if line.startswith("waits ")]
            return line.removeprefix("waits").strip()

        add_peer(database, Peer(name="pacs", address="192.0.2.1", port=104, may=("query",)))
        assert told().startswith("pacs has not said how many images there are; until 20")
        complete.hold(database, settings, now=time.time() + 60.0)
        assert told().startswith("more images may come; until 20")
        sender = Sending(database, slot=0, pause_s=60.0)
        sender.sent("1.2.3")
        assert told() == "it is being sent: an association with images of it is open"
        sender.end()
        complete.hold(database, settings, now=now - 900.0)
        complete.complete(database, now=now)
        assert "waits " not in invoke("study", "1.2.3").output


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"state": DeliveryState.OWED, "attempt": 2}, "owed (attempt 2), tried again at 1970-01-01 00:00:20.000Z"),
        ({"proof": "committed", "proof_way": "C-FIND"}, "taken, and kept since 1970-01-01 00:00:30.000Z (C-FIND)"),
        ({"proof": "asked"}, "taken, not proven to be kept yet"),
        ({"proof": "unknowable", "proof_reason": "no"}, "taken, nobody can say whether it is kept (no)"),
        ({"state": DeliveryState.DEAD, "proof": "refused", "attempt": 9}, "dead (attempt 9)"),
    ],
)
def test_how_far_a_result_is_on_its_way_is_told(values: dict[str, Any], said: str) -> None:
    plain = {
        "id": 1,
        "result_uid": "1.2",
        "kind": "sr",
        "destination": "pacs",
        "error": "",
        "attempt": 0,
        "due_at": 20.0,
    }
    one = DeliveryView(**plain | {"state": DeliveryState.DELIVERED, "delivered_at": 25.0, "kept_at": 30.0} | values)
    assert cli_look.whereabouts(one) == said


def test_the_conformance_statement_names_what_is_really_accepted(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADNODE_RECEIVE_AE_TITLE", "MY_NODE")
    statement = invoke("conformance").output
    assert "AE title `MY_NODE`" in statement
    for expected in (
        "| CT Image Storage | 1.2.840.10008.5.1.4.1.1.2 |",
        "| Verification | 1.2.840.10008.1.1 |",
        "| JPEG 2000 Image Compression (Lossless Only) | 1.2.840.10008.1.2.4.90 |",
        "| 0xA700 | Refused: out of resources",
        "| Comprehensive 3D SR Storage | 1.2.840.10008.5.1.4.1.1.88.34 |",
    ):
        assert expected in statement
    assert "Study Root Query" not in statement


@pytest.mark.parametrize(
    "command",
    [
        "peers list", "peers history", "deliveries list", "deliveries list pacs", "users list",
        "tokens list", "bundles list", "weights list", "weights history", "weights shadow", "weights verify",
    ],
)  # fmt: skip
def test_a_list_with_nothing_in_it_says_so_and_what_to_do_next_beside_what_programs_read(
    data: Path, command: str
) -> None:
    done = invoke(*command.split())
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.startswith("none: ") and done.stderr.count("\n") == 1
