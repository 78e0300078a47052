"""A RIS that sends back the priority that it was told: what it says itself, and what is only our own word."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select
from support.results import add_study, prepare

from radnode import notify, priorities
from radnode.database import Database
from radnode.hl7 import listen as hl7_listen
from radnode.outbox import Outbox
from radnode.settings import Destination, Settings
from radnode.tables import EventRow
from radnode.tables_triage import OrderRow
from radnode.triage import Level
from radnode.worklist import Reader

STUDY = "1.2.3"
RIS = Destination(name="ris", kind="hl7", host="127.0.0.1", port=1)


@dataclass(frozen=True, kw_only=True)
class Ris:
    settings: Settings
    database: Database
    reader: Reader

    def says(self, code: str, *, patient: str = "P1", echoes: bool = True) -> str:
        """A message of the order with this priority comes; how the order stands."""
        lines = (
            f"MSH|^~\\&|RIS|H|AI|H|||ORM^O01|{time.time_ns()}|P|2.5.1", f"PID|1||{patient}^^^^MR", "ORC|XO|77|A1",
            f"OBR|1|77|A1|CT^CT|{code}|||||||||||||A1",
        )  # fmt: skip
        answer = hl7_listen.take(
            self.database, "\r".join(lines).encode(), "192.0.2.1", "utf-8", time.time(), echoes=echoes
        )
        assert "MSA|AA" in answer
        with self.database.reading() as session:
            return session.scalars(select(OrderRow.level)).one()

    def is_told(self, level: Level | None, *, took: bool = True) -> None:
        """The AI (here a person at the node) raises the study, or takes that back, and the RIS is told."""
        now = time.time()
        if level is None:
            priorities.undo(self.database, STUDY, now)
        else:
            priorities.set_level(self.database, STUDY, level, "", now, stands=Level.ROUTINE)
        assert notify.tell(self.database, self.settings, self.reader, now) == 1
        box = Outbox(self.database, self.settings.data)
        batch = box.claim("ris", time.time(), 10.0)
        assert batch is not None
        for delivery in batch.deliveries if took else ():
            box.delivered(batch.token, delivery, "", time.time())

    def level(self) -> Level:
        return self.reader.worklist(time.time()).entries[0].level


@pytest.fixture
def ris(tmp_path: Path) -> Iterator[Ris]:
    settings = Settings(data=tmp_path / "data", destinations=(RIS,))
    database = prepare(settings)
    now = time.time()
    add_study(
        database,
        STUDY,
        state="read",
        accession_number="A1",
        patient_id="P1",
        first_instance_at=now,
        last_instance_at=now,
    )
    yield Ris(settings=settings, database=database, reader=Reader.of(settings, database))
    database.close()


def test_what_comes_back_goes_with_what_was_told(ris: Ris) -> None:
    assert ris.says("A") == "HIGH"
    ris.is_told(Level.STAT)
    assert [ris.says("S"), ris.says("S")] == ["HIGH", "HIGH"], "in each later message of the order"
    ris.is_told(None)
    assert ris.level() is Level.HIGH, "what the order said itself"
    assert ris.says("A") == "HIGH"
    with ris.database.reading() as session:
        told = session.scalars(select(EventRow.sentence).where(EventRow.sentence.contains("does not count"))).all()
    assert told == ["Its order says STAT, as it was told: that does not count as ordered."]


def test_by_default_it_counts_as_ordered(ris: Ris) -> None:
    ris.says("R", echoes=False)
    ris.is_told(Level.STAT)
    assert ris.says("S", echoes=False) == "STAT"


@pytest.mark.parametrize(
    "case",
    ["before it took it", "another patient", "after a word of its own", "after the taking back", "no order before"],
)
def test_what_may_be_a_persons_counts(ris: Ris, case: str) -> None:
    if case != "no order before":
        ris.says("R")
    ris.is_told(Level.STAT, took=case != "before it took it")
    if case == "after a word of its own":
        assert ris.says("A") == "HIGH"
    if case == "after the taking back":
        assert ris.says("S") == "ROUTINE"
        ris.is_told(None)
    assert ris.says("S", patient="P2" if case == "another patient" else "P1") == "STAT"
