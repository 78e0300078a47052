"""HL7 messages and earlier versions of FHIR resources are let go by age, and never what is current or to be answered for."""

import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import select
from support.core import Node

from radnode import retention_rows
from radnode.cli import cli
from radnode.fhir_server import store as fhir_store
from radnode.retention_rows import Old
from radnode.settings import Retention, Settings
from radnode.tables_access import AuditRow
from radnode.tables_fhir import NotificationRow, ResourceRow
from radnode.tables_triage import MessageRow

DAY = 86400.0
NOW = 1_800_000_000.0


def message(node: Node, days: float, answer: str = "AA") -> None:
    with node.database.transaction() as session:
        session.add(
            MessageRow(received_at=NOW - days * DAY, address="192.0.2.1", control_id="1", answer=answer, body="MSH|")
        )


def said(node: Node, name: str, days: float, status: str, kind: str = "DiagnosticReport") -> None:
    """A resource says this from so many days before NOW on."""
    body = {"resourceType": kind, "status": status, "text": {"div": f"{days}"}}
    with node.database.transaction() as session:
        fhir_store.put(session, kind, name, body, "", NOW - days * DAY)


def there(node: Node) -> list[str]:
    with node.database.reading() as session:
        rows = session.scalars(select(ResourceRow).order_by(ResourceRow.resource_id, ResourceRow.version))
        return [f"{row.resource_id} {row.version}" for row in rows]


def settings_of(node: Node, **rules: float) -> Settings:
    return node.settings.model_copy(update={"retention": Retention(**rules)})


def test_nothing_goes_without_a_rule(node: Node) -> None:
    message(node, 9999)
    said(node, "r", 9999, "preliminary")
    said(node, "r", 9998, "amended")
    assert retention_rows.turn(node.database, settings_of(node), NOW) == Old()
    assert len(there(node)) == 2


def test_what_is_older_goes_and_what_is_current_confirmed_taken_back_or_owed_stays(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_rows, "AT_ONCE", 2)
    for days in (40, 39, 35, 31, 29):
        message(node, days)
    for days, status in ((90, "preliminary"), (80, "amended"), (29, "amended")):
        said(node, "draft", days, status)  # the second was current until 29 days ago
    for days, status in ((90, "preliminary"), (80, "final"), (70, "corrected"), (60, "amended")):
        said(node, "person", days, status)
    for days, status in ((90, "preliminary"), (80, "entered-in-error")):
        said(node, "wrong", days, status)
    for days, status in ((90, "preliminary"), (80, "entered-in-error"), (70, "preliminary")):
        said(node, "back", days, status)
    for days in (90, 80):
        said(node, "told", days, "completed", kind="Task")
        said(node, "patient", days, "", kind="Patient")
    with node.database.transaction() as session:
        owed = NotificationRow(subscription_id="s", kind="Task", resource_id="told", state="owed")
        owed.created_at, owed.due_at = NOW, NOW
        session.add(owed)
    settings = settings_of(node, messages_days=30, versions_days=30)
    assert retention_rows.plan(node.database, settings, NOW) == Old(messages=4, versions=4)
    assert retention_rows.turn(node.database, settings, NOW) == Old(messages=4, versions=4)
    assert there(node) == [
        "back 2", "back 3", "draft 2", "draft 3", "patient 2", "person 2", "person 3", "person 4", "told 1", "told 2",
        "wrong 1", "wrong 2",
    ]  # fmt: skip
    with node.database.reading() as session:
        assert session.scalars(select(MessageRow.received_at)).all() == [NOW - 29 * DAY]
        told = session.scalars(select(AuditRow.detail).where(AuditRow.action == "retention")).all()
        assert fhir_store.get(session, "DiagnosticReport", "draft") is not None
    assert [d.partition(" (")[0] for d in told] == ["2 HL7 messages"] * 2 + ["2 earlier versions of FHIR resources"] * 2
    said(node, "draft", 1, "final")
    assert "draft 4" in there(node), "numbers go on"


def test_the_command_says_what_would_go_and_deletes_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RADNODE_DATA", str(tmp_path / "data"))
    (tmp_path / "radnode.toml").write_text("[retention]\nmessages_days = 30.0\n")
    run = CliRunner().invoke
    assert "HL7" not in run(cli, ["retention"]).stdout
    from radnode.database import Database

    database = Database(Settings(data=tmp_path / "data").url)
    with database.transaction() as session:
        session.add(
            MessageRow(
                received_at=time.time() - 31 * DAY, address="192.0.2.1", control_id="1", answer="AA", body="MSH|"
            )
        )
    database.close()
    shown = run(cli, ["retention"]).stdout
    assert "1 HL7 messages, 0 earlier versions of FHIR resources would go." in shown and "add --delete" in shown
    assert "1 messages and 0 versions were deleted." in run(cli, ["retention", "--delete"]).stdout
