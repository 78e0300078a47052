"""The policy on its page, and a person's priority by POST."""

from pathlib import Path

import pytest
from support.filled import fill
from support.pages import serving

from radnode import policies
from radnode.settings import Ageing, TriageRule


def test_a_priority_is_set_with_a_comment_kept_in_the_story_and_taken_back(tmp_path: Path) -> None:
    node = fill(tmp_path)
    address = f"/worklist/{node.normal}/priority"
    with serving(node.settings) as client:

        def row() -> dict[str, object]:
            entries = client.get("/api/worklist").json()["entries"]
            return next(r for r in entries if r["study"]["study_uid"] == node.normal)

        assert row()["level"] == "ROUTINE"
        assert client.post(address, data={"level": "NOW"}).status_code == 422
        forged = client.post(address, data={"level": "STAT"}, headers={"origin": "http://evil.example"})
        assert forged.status_code == 403
        page = client.post(address, data={"level": "STAT", "comment": "the ward <called>"})
        assert page.status_code == 200
        assert "set the priority to STAT (the ward &lt;called&gt;)" in page.text
        assert (row()["level"], row()["set_level"], row()["comment"]) == ("STAT", "STAT", "the ward <called>")
        assert client.post(f"{address}/undo").status_code == 200
        assert row()["level"] == "ROUTINE"
        assert client.post(f"{address}/undo").status_code == 409
        lowered = client.post(f"/worklist/{node.lesion}/priority", data={"level": "ROUTINE"})
        assert lowered.status_code == 409
        assert "The study stands at HIGH already, and a person's priority only raises." in lowered.json()["detail"]
        assert client.post("/worklist/9.9/priority", data={"level": "STAT"}).status_code == 404
    node.database.close()


def test_the_page_shows_the_policy_and_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = fill(tmp_path)
    file = tmp_path / "radnode.toml"
    file.write_text("[ageing]\n")
    monkeypatch.setenv("RADNODE_CONFIG", str(file))
    assert policies.remember(node.database, node.settings, 1000.0)
    assert not policies.remember(node.database, node.settings, 2000.0)
    rule = TriageRule(name="bleeding-first", codes=("50960005",), level="STAT")
    changed = node.settings.model_copy(update={"triage": (rule,)})
    assert policies.remember(node.database, changed, 3000.0)
    file.write_text("[ageing]\n# another file\n")
    assert policies.remember(node.database, changed, 4000.0)
    with serving(changed) as client:
        page = client.get("/triage").text
        assert "bleeding-first" in page and "emergency-patient" in page
        assert page.count("1970-01-01") == 3
        assert client.get("/triage?lang=zh-TW").status_code == 200
    node.database.close()


def test_the_pages_say_how_many_wait_longer_than_their_limit(tmp_path: Path) -> None:
    for number, (one_in, sentence) in enumerate(((4, "One of 4 readings"), (0, "STAT goes before whatever"))):
        node = fill(tmp_path / str(number), ageing=Ageing(routine_min=60, late_one_in=one_in))
        with serving(node.settings) as client:
            entries = client.get("/api/worklist").json()["entries"]
            late = {e["study"]["study_uid"] for e in entries if e["past"]}
            assert late == {node.normal, node.declined}
            assert sentence in client.get("/triage").text
            for address in ("/", "/fragments/worklist", "/triage"):
                assert "Waiting longer than their limit: 2." in client.get(address).text
        node.database.close()
