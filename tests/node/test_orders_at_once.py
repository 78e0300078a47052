"""Messages of one order that come at the same moment."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import select
from support.postgres import Postgres
from support.results import prepare

from radnode.hl7.listen import take
from radnode.settings import Settings
from radnode.tables_triage import OrderRow


def message(number: int, second: str, priority: str) -> bytes:
    return (
        f"MSH|^~\\&|RIS|HOSP|RADNODE||202611221015{second}||ORM^O01|M{number}{second}|P|2.3.1\r"
        "PID|1||P1^^^HOSP||X^Y\rPV1|1|E\r"
        f"ORC|XO|{number}|F{number}||||^^^^^{priority}\r"
        f"OBR|1|{number}|F{number}|71260^CT^L||||||||||||||A{number}\r"
    ).encode()


@pytest.mark.system
def test_the_later_of_two_messages_over_two_connections_holds(tmp_path: Path, postgres: Postgres) -> None:
    """An interface engine sends what has piled up over several connections."""
    database = prepare(Settings(data=tmp_path / "data", database_url=postgres.new_database()))
    lost = []
    for number in range(100, 220):
        assert "AA" in take(database, message(number, "00", "R"), "", "utf-8", 1.0)
        both = threading.Barrier(2)

        def send(second: str, priority: str, number: int = number, both: threading.Barrier = both) -> None:
            both.wait(60)
            assert "AA" in take(database, message(number, second, priority), "", "utf-8", 2.0)

        threads = [threading.Thread(target=send, args=said) for said in (("01", "A"), ("02", "S"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        with database.reading() as session:
            row = session.scalars(select(OrderRow).where(OrderRow.order_number == f"P:{number}")).one()
            if row.level != "STAT" or not row.said_at.endswith("02"):
                lost.append((number, row.level, row.said_at))
    database.close()
    assert lost == []
