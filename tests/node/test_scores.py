"""Scores are read from reports once, with the scanner of the images; alarms are opened, kept and cleared in the tables."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from support.core import Node
from support.filled import Filled, fill

from radnode import scores, verdicts
from radnode.monitor import Alarm, Kind
from radnode.scores import Watch
from radnode.settings import Settings
from radnode.settings_monitoring import Monitoring
from radnode.tables import ReportRow
from radnode.verdicts import Ruling, Verdict


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Filled]:
    made = fill(tmp_path)
    yield made
    made.database.close()


def known(filled: Filled) -> dict[str, scores.Score]:
    with filled.database.reading() as session:
        return {s.study_uid: s for s in scores.scores(session)}


def test_every_report_becomes_one_score_with_its_version_and_scanner(filled: Filled) -> None:
    watch = Watch(filled.database, filled.settings)
    assert watch.turn(time.time()) == 3
    assert watch.turn(time.time()) == 0, "nothing is taken twice"
    found = known(filled)
    lesion, normal = found[filled.lesion], found[filled.normal]
    assert (lesion.findings, lesion.probability) == (1, pytest.approx(0.8125))
    assert (normal.findings, normal.probability, normal.value) == (0, None, 0.0)
    assert lesion.model == "ct-lung" and "·" in lesion.version
    assert lesion.scanner == "Maker", "as the images say; they name no model and no station"


def test_a_retraction_changes_the_status_and_not_what_was_said(filled: Filled) -> None:
    scores.collect(filled.database, filled.settings)
    change = update(ReportRow).where(ReportRow.study_uid == filled.lesion)
    with filled.database.transaction() as session:
        session.execute(change.values(status="entered-in-error", updated_at=time.time() + 1))
    assert scores.collect(filled.database, filled.settings) == 1
    found = known(filled)[filled.lesion]
    assert (found.status, found.findings) == ("entered-in-error", 1)


def test_a_report_that_cannot_be_read_is_taken_once_and_counts_for_nothing(filled: Filled) -> None:
    with filled.database.transaction() as session:
        session.execute(update(ReportRow).where(ReportRow.study_uid == filled.lesion).values(bundle={"entry": [3]}))
    assert scores.collect(filled.database, filled.settings) == 3
    assert scores.collect(filled.database, filled.settings) == 0
    assert filled.lesion not in known(filled)


def test_alarms_are_opened_kept_and_cleared(node: Node) -> None:
    up = Alarm(kind=Kind.UP, model="m", version="1", scanner="", value=6.0, limit=5.0, since=1.0)
    higher = Alarm(kind=Kind.UP, model="m", version="1", scanner="", value=8.0, limit=5.0, since=1.0)
    other = Alarm(kind=Kind.UP, model="m", version="1", scanner="CT 2", value=6.0, limit=5.0, since=1.0)
    for at, found in enumerate([(up,), (higher, other), (other,)]):
        with node.database.transaction() as session:
            scores.settle(session, found, float(at))
    with node.database.reading() as session:
        first, second = scores.known(session)
        assert scores.known(session, open_only=True) == (first,)
        assert scores.known(session, "another") == ()
    assert (first.alarm, first.raised_at, first.cleared_at) == (other, 1.0, None)
    assert (second.alarm, second.raised_at, second.cleared_at) == (higher, 0.0, 2.0)


def test_rulings_raise_an_alarm_that_undoing_them_clears(node: Node) -> None:
    settings = Settings(data=node.settings.data, monitoring=Monitoring(reference_rulings=10))

    def rule(number: int, ruling: Ruling, at: float) -> None:
        with node.database.transaction() as session:
            verdicts.rule(session, Verdict(
                study_uid="1.2", model="m", tracking_uid=f"1.{number}", said="", ruling=ruling, comment="c", who="", at=at,
            ))  # fmt: skip

    for i in range(60):
        rule(i, Ruling.ACCEPTED if i < 20 else Ruling.REJECTED, 100.0 + i)
    rule(99, Ruling.ADDED, 300.0)
    watch = Watch(node.database, settings)
    watch.turn(1000.0)
    with node.database.reading() as session:
        (found,) = scores.known(session)
        assert len(scores.ruled(session)) == 60, "what people add is no ruling on the model's findings"
    assert (found.alarm.kind, found.alarm.model) == (Kind.RULINGS, "m")
    assert found.alarm.since >= 120.0
    for i in range(20, 60):
        rule(i, Ruling.UNDONE, 500.0)
    watch.turn(1001.0)
    with node.database.reading() as session:
        assert scores.known(session, open_only=True) == ()
