"""Who was told a priority follows when the study's patient or accession number is corrected."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import update
from support.results import add_study, prepare

from radnode import notify, orders, priorities
from radnode.database import Database
from radnode.orders import Order
from radnode.outbox import Outbox
from radnode.settings import Destination, Settings
from radnode.tables import EventRow, StudyRow
from radnode.triage import Level
from radnode.worklist import Reader

RIS = Destination(name="ris", kind="hl7", host="127.0.0.1", port=1)
HOOK = Destination(name="hook", kind="webhook", url="http://127.0.0.1:1/", secret="s")
STUDY = "1.2.3"


@dataclass(frozen=True, kw_only=True)
class Node:
    settings: Settings
    database: Database
    reader: Reader

    def tell(self) -> int:
        return notify.tell(self.database, self.settings, self.reader, time.time())

    def correct(self, **values: str) -> None:
        with self.database.transaction() as session:
            session.execute(update(StudyRow).values(**values))

    def order(self, accession: str, patient: str, level: Level | None) -> None:
        with self.database.transaction() as session:
            orders.keep(
                session,
                Order(order_number=f"P:{accession}", accession_number=accession, patient_id=patient, level=level),
                1.0,
            )

    def deliver(self, destination: str = "ris", *, refused: bool = False) -> list[tuple[str, str, str]]:
        """Accession number, patient and level of what is sent, in order."""
        box, sent = Outbox(self.database, self.settings.data), []
        while batch := box.claim(destination, time.time(), 10.0):
            for delivery in batch.deliveries:
                said = json.loads(delivery.path.read_bytes())
                if refused:
                    box.postpone(batch.token, [delivery], "not now", time.time() + 60)
                else:
                    box.delivered(batch.token, delivery, "", time.time())
                    sent.append((said["accession_number"], said["patient_id"], said["level"]))
        box.hasten(destination, time.time())
        return sent

    def said(self) -> str:
        with self.database.reading() as session:
            return str(session.query(EventRow.sentence).order_by(EventRow.id.desc()).first()[0])


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    settings = Settings(data=tmp_path / "data", destinations=(RIS, HOOK))
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
    made = Node(settings=settings, database=database, reader=Reader.of(settings, database))
    priorities.set_level(database, STUDY, Level.STAT, "", now, stands=Level.ROUTINE)
    assert made.tell() == 1
    yield made
    database.close()


def test_the_right_order_is_told_anew_and_the_wrong_one_gets_its_own_priority_back(node: Node) -> None:
    node.order("A1", "P1", Level.HIGH)
    assert node.deliver() == [("A1", "P1", "STAT")]
    assert (node.tell(), node.deliver()) == (0, [])
    node.correct(patient_id="P2", accession_number="A2")
    assert node.tell() == 1
    assert node.said() == (
        "Its patient or accession number was corrected. The priority STAT is told anew to ris, hook. "
        "ris will hear that the order of before was not meant."
    )
    assert node.deliver() == [("A1", "P1", "HIGH"), ("A2", "P2", "STAT")]
    assert node.deliver("hook") == [("A2", "P2", "STAT")], "it changes no order: the one that had not left is enough"
    assert (node.tell(), node.deliver()) == (0, [])


def test_what_had_not_left_needs_no_taking_back_and_an_order_that_says_it_itself_is_not_told(node: Node) -> None:
    node.correct(patient_id="P2")
    assert node.tell() == 1
    assert node.deliver() == [("A1", "P2", "STAT")]
    node.order("A3", "P2", Level.STAT)
    node.correct(accession_number="A3")
    assert node.tell() == 1
    assert node.deliver() == [("A1", "P2", "ROUTINE")]
    assert "is not told, since its order says so" in node.said()


def test_the_taking_back_outlives_another_change_and_is_withdrawn_when_the_order_is_the_right_one_again(
    node: Node,
) -> None:
    node.deliver()
    node.correct(patient_id="P2", accession_number="A2")
    node.tell()
    assert node.deliver(refused=True) == []
    priorities.undo(node.database, STUDY, time.time())
    assert node.tell() == 1
    assert node.deliver(refused=True) == []
    node.correct(patient_id="P1", accession_number="A1")
    priorities.set_level(node.database, STUDY, Level.STAT, "", time.time(), stands=Level.ROUTINE)
    assert node.tell() == 1
    sent = node.deliver()
    assert sent[-1] == ("A1", "P1", "STAT") and ("A1", "P1", "ROUTINE") not in sent
