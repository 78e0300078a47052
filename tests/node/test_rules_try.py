"""Rules tried on a stored study, and a draft replayed over the last days: by function, command and page. Nothing changes."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from support.core import STUDY, Node
from support.models import card
from support.pages import serving

from radnode import complete, fetches, pipeline, rules_try
from radnode.cli import cli
from radnode.errors import RefusedError
from radnode.states import StudyState

DRAFT = """
[[rules]]
name = "heads"
models = ["quick"]
urgency = 3
when = [{ attribute = "BodyPartExamined", test = "equals", values = ["HEAD"] }]
"""
OTHER = "1.2.4"


@pytest.fixture
def two(node: Node) -> Node:
    """A chest and a head CT, both routed by a rule for chests."""
    rules = rules_try.draft(DRAFT.replace("HEAD", "CHEST").replace("urgency = 3", "urgency = 1"))
    node.settings = node.settings.model_copy(update={"rules": rules})
    node.arrive(100.0)
    node.arrive(101.0, study_uid=OTHER, BodyPartExamined="HEAD")
    complete.settle(node.database, node.settings, since=100.0, now=101.0)
    complete.complete(node.database, now=500.0)
    assert pipeline.route(node.database, node.settings, (card("quick", "quick"),)) == 2
    return node


def test_rules_are_tried_on_a_stored_study_with_their_reasons(two: Node) -> None:
    (now,) = rules_try.try_rules(two.database, two.settings, (card("quick", "quick"),), STUDY, two.settings.rules)
    assert now.chosen and "BodyPartExamined 'CHEST'" in now.reason
    tried = rules_try.try_rules(two.database, two.settings, (card("quick", "quick"),), STUDY, rules_try.draft(DRAFT))
    assert not any(r.chosen for r in tried)
    assert any("No rule matched" in r.reason for r in tried)
    with pytest.raises(RefusedError, match="never received"):
        rules_try.try_rules(two.database, two.settings, (), "1.9.9", None)


def test_a_draft_is_replayed_with_what_would_change_and_changes_nothing(two: Node) -> None:
    before = (two.story().routes, two.jobs())
    found = rules_try.replay(two.database, two.settings, (card("quick", "quick"),), rules_try.draft(DRAFT), 0.0)
    assert (found.studies, found.unreadable, found.runs()) == (2, (), {"quick": (1, 1)})
    changes = {d.study_uid: (d.more, d.fewer) for d in found.differences}
    assert changes == {STUDY: ((), ("quick",)), OTHER: (("quick",), ())}
    assert all(d.why for d in found.differences)
    assert (two.story().routes, two.jobs()) == before
    assert two.study().state is not StudyState.COMPLETE
    with two.database.transaction() as session:
        fetches.want(session, OTHER, "pacs", fetches.PRIOR, STUDY, 90.0)
    found = rules_try.replay(two.database, two.settings, (card("quick", "quick"),), rules_try.draft(DRAFT), 0.0)
    assert (found.studies, found.runs()) == (1, {"quick": (0, 1)}), "what was fetched to compare with is never read"
    later = rules_try.replay(two.database, two.settings, (card("quick", "quick"),), rules_try.draft(DRAFT), 1e10)
    assert later.studies == 0


def test_another_urgency_alone_is_a_change_too(two: Node) -> None:
    draft = rules_try.draft(DRAFT.replace("HEAD", "CHEST"))
    (found,) = rules_try.replay(two.database, two.settings, (card("quick", "quick"),), draft, 0.0).differences
    assert (found.study_uid, found.urgency, found.more, found.fewer) == (STUDY, "quick 1 → 3", (), ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules = 3", "is wrong"),
        ("[[rules]]\nname = 'x'", "rule 1, when is wrong"),
        ("[[rules]]\nname = 'x'\nwhen = [{ attribute = 'Modality', test = 'is' }]", "rule 1, when 1 test is wrong"),
        ("[[rules", "not TOML"),
        ("", "has no"),
        ("#" * 300_000, "too long"),
    ],
)
def test_a_wrong_draft_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        rules_try.draft(text)


@pytest.fixture
def client(two: Node) -> Iterator[httpx.Client]:
    with serving(two.settings) as found:
        yield found


def test_the_page_and_the_command_say_the_same(two: Node, client: httpx.Client, tmp_path: Path) -> None:
    page = client.post("/rules/replay", data={"draft": DRAFT, "days": "3660"})
    assert page.status_code == 422  # more than a year
    page = client.post("/rules/replay", data={"draft": DRAFT, "days": "many", "study_uid": STUDY})
    for typed in ("a number above 0", 'value="many"', f'value="{STUDY}"', "[[rules]]"):
        assert typed in page.text, "what was typed stays"
    page = client.post("/rules/replay", data={"draft": "[[rules", "days": "30"})
    assert page.status_code == 422 and "The draft is not TOML" in page.text
    tried = client.post("/rules/try", data={"draft": DRAFT, "study_uid": STUDY})
    assert tried.status_code == 200 and "No rule matched" in tried.text
    assert client.get(f"/studies/{STUDY}/rules").status_code == 200
    draft = tmp_path / "draft.toml"
    draft.write_text(DRAFT)
    environment = {"RADNODE_DATA": str(two.settings.data), "RADNODE_DATABASE_URL": two.settings.database_url}
    said = CliRunner().invoke(cli, ["rules", "try", STUDY, "--rules", str(draft)], env=environment)
    assert said.exit_code == 0 and "No rule matched" in said.output
    said = CliRunner().invoke(cli, ["rules", "replay", "--rules", str(draft), "--days", "40000"], env=environment)
    assert said.exit_code == 0 and said.output.startswith("2 studies, ")
