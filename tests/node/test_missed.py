"""What a person adds to an AI's findings, the priority's form on the study's page, and `radnode models NAME`."""

from pathlib import Path

from click.testing import CliRunner
from support.filled import fill
from support.pages import serving

from radnode import scores, verdicts
from radnode.cli import cli
from radnode.monitor import Alarm, Kind
from radnode.verdicts import Ruling


def test_a_finding_that_the_ai_did_not_make_is_added_counted_and_taken_back(tmp_path: Path) -> None:
    node = fill(tmp_path)
    address = f"/studies/{node.normal}/missed"
    with serving(node.settings) as client:
        assert client.post(address, data={"model": "ct-lung", "comment": " "}).status_code == 422
        assert client.post(address, data={"model": "ct-voco", "comment": "a nodule"}).status_code == 409
        forged = client.post(
            address, data={"model": "ct-lung", "comment": "x"}, headers={"origin": "http://evil.example"}
        )
        assert forged.status_code == 403
        page = client.post(address, data={"model": "ct-lung", "comment": "nodule <right>"}).text
        assert "nodule &lt;right&gt;" in page and "A finding that ct-lung had not made was added" in page
        with node.database.reading() as session:
            (ruling,) = verdicts.in_force(session, "ct-lung")
            (agreed,) = verdicts.agreement(session)
        assert ruling.ruling is Ruling.ADDED
        assert (agreed.added, agreed.found, agreed.accepted) == (1, 0.0, 0)
        assert "Added by people" in client.get("/models/ct-lung").text
        undo = {"tracking_uid": ruling.tracking_uid}
        assert "was taken back" in client.post(f"{address}/undo", data=undo).text
        assert client.post(f"{address}/undo", data=undo).status_code == 409
        with node.database.reading() as session:
            assert verdicts.in_force(session) == ()
    node.database.close()


def test_the_priority_is_set_and_taken_back_by_the_forms_of_the_page(tmp_path: Path) -> None:
    node = fill(tmp_path)
    with serving(node.settings) as client:
        page = client.get(f"/studies/{node.normal}").text
        action = f"/worklist/{node.normal}/priority"
        assert f'action="{action}"' in page and f'action="{action}/undo"' not in page
        page = client.post(action, data={"level": "STAT", "comment": "the ward called"}).text
        assert "the ward called" in page and f'action="{action}/undo"' in page
        assert f'action="{action}/undo"' not in client.post(f"{action}/undo").text
        assert f'href="/studies/{node.normal}#priority"' in client.get("/").text
    node.database.close()


def test_the_command_names_the_open_alarms_of_a_model(tmp_path: Path) -> None:
    node = fill(tmp_path)
    alarm = Alarm(kind=Kind.UP, model="ct-lung", version="1.0", scanner="CT 2", value=6.1, limit=5.0, since=1e9)
    with node.database.transaction() as session:
        scores.settle(session, (alarm,), 2e9)
    node.database.close()
    environment = {"RADNODE_DATA": str(node.settings.data)}
    told = CliRunner().invoke(cli, ["models", "ct-lung"], env=environment)
    assert told.exit_code == 0, told.output
    assert "ALARM        score-up: 6.10 is above 5.00 since 2001-09-09 01:46, version 1.0, on CT 2" in told.output
    assert "ct-voco" not in told.output
    assert "ALARM" not in CliRunner().invoke(cli, ["models"], env={"RADNODE_DATA": str(tmp_path / "none")}).output
    assert CliRunner().invoke(cli, ["models", "nothing"], env=environment).exit_code == 1
