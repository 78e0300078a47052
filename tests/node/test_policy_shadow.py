"""A policy in shadow is recorded and changes nothing that anybody is shown."""

import time
from pathlib import Path

from support.filled import fill

from radnode import policy_shadow
from radnode.policy_shadow import Shadow, comparison
from radnode.settings import TriageRule
from radnode.triage import Level
from radnode.worklist import Reader

DRAFT = (TriageRule(name="nodules-first", codes=("27925004",), level="STAT"),)


def test_a_policy_in_shadow_is_recorded_and_moves_nothing(tmp_path: Path) -> None:
    node = fill(tmp_path)
    now = time.time()
    before = [e.study.study_uid for e in Reader.of(node.settings, node.database).worklist(now).entries]
    settings = node.settings.model_copy(update={"triage_shadow": DRAFT})
    shadow = Shadow(node.database, settings)
    assert shadow.turn(now) == 7
    assert shadow.turn(now + 1) == 0, "nothing changed"
    after = Reader.of(settings, node.database).worklist(now)
    assert [e.study.study_uid for e in after.entries] == before
    assert {str(e.level) for e in after.entries} == {"HIGH", "ROUTINE"}
    with node.database.reading() as session:
        found = comparison(session, DRAFT)
        assert comparison(session, ()) is None
        other = comparison(session, (DRAFT[0].model_copy(update={"level": "HIGH"}),))
    assert found is not None and other is not None
    assert found.counts == {(Level.HIGH, Level.STAT): 2, (Level.ROUTINE, Level.ROUTINE): 5}
    assert (found.studies, found.raised, found.lowered) == (7, 2, 0)
    assert {m.study_uid for m in found.moved} == {node.lesion, node.demonstration}
    assert {(m.live_rule, m.shadow_rule) for m in found.moved} == {("likely-abnormal", "nodules-first")}
    assert other.studies == 0, "another draft begins anew"
    assert Shadow(node.database, node.settings).turn(now) == 0, "without a policy in shadow nothing is recorded"
    assert policy_shadow.digest(DRAFT) == found.policy_sha256
    node.database.close()
