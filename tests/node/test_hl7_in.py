"""Orders over MLLP from python-hl7's own client."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hl7
import pytest
from hl7.client import MLLPClient
from sqlalchemy import select
from support.results import add_study, prepare

from radnode import orders
from radnode.database import Database
from radnode.hl7 import orders as hl7_orders
from radnode.hl7.listen import Listener, take
from radnode.settings import Hl7, Settings
from radnode.tables_triage import MessageRow, OrderRow
from radnode.triage import Level
from radnode.web.changes import Changes
from radnode.worklist import Reader

ORM = (
    "MSH|^~\\&|RIS|HOSP|RADNODE||20261122101500||ORM^O01|M1|P|2.3.1\r"
    "PID|1||P1^^^HOSP||MÜLLER^Anna\rPV1|1|E\r"
    "ORC|NW|77|F77||||^^^^^S\rOBR|1|77|F77|71260^CT chest^L||||||||||||||A1\r"
)
OMI = (
    "MSH|^~\\&|RIS|HOSP|RADNODE||20261122101600||OMI^O23^OMI_O23|M2|P|2.5.1\r"
    "PID|1||P2^^^HOSP||X^Y\rPV1|1|O\rORC|NW|78\rTQ1|1||||||||A^ASAP^HL70485\rOBR|1|78||71260^CT\rIPC|A2|RP1|1.2.2|SPS\r"
    "ORC|NW|79\rTQ1|1||||||||S\rOBR|1|79||71260^CT\rIPC|A3|RP1|1.2.3|SPS\r"
)


@dataclass(frozen=True, kw_only=True)
class Node:
    port: int
    database: Database
    reader: Reader


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with listening(tmp_path) as made:
        yield made


@contextmanager
def listening(tmp_path: Path, message_s: float = 60.0) -> Iterator[Node]:
    hl7 = Hl7(port=0, message_s=message_s, idle_s=600.0, max_message_kb=4, max_connections=3)
    settings = Settings(data=tmp_path / "data", hl7=hl7)
    database = prepare(settings)
    stop = threading.Event()
    listener = Listener(settings, database)
    thread = threading.Thread(target=lambda: asyncio.run(listener.run(stop)), daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not listener.port_file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield Node(port=int(listener.port_file.read_text()), database=database, reader=Reader.of(settings, database))
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    database.close()


def ask(node: Node, *messages: str | bytes) -> list[hl7.Message]:
    """The acknowledgements, over one connection."""
    with MLLPClient("127.0.0.1", node.port) as client:
        client.socket.settimeout(60)
        answers = [client.send(b"\x0b" + (m.encode() if isinstance(m, str) else m) + b"\x1c\r") for m in messages]
    return [hl7.parse(a.strip(b"\x0b\x1c\r").decode() + "\r") for a in answers]


def kept(node: Node) -> list[tuple[str, str]]:
    with node.database.reading() as session:
        return [(m.answer, m.reason) for m in session.scalars(select(MessageRow).order_by(MessageRow.id))]


def test_an_order_raises_the_class_and_the_priority_of_its_study(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    now = time.time()
    for n in (1, 2, 3):
        add_study(
            node.database, f"1.{n}", accession_number=f"A{n}", patient_id=f"P{min(n, 2)}", first_instance_at=now,
            last_instance_at=now,
        )  # fmt: skip
    assert {e.level for e in node.reader.worklist(now).entries} == {Level.ROUTINE}
    first, second = ask(node, ORM, OMI)
    assert [(str(a["MSA.F1"]), str(a["MSA.F2"])) for a in (first, second)] == [("AA", "M1"), ("AA", "M2")]
    assert str(first["MSH.F9.R1.C1"]) == "ACK"
    rows = {e.study.study_uid: (e.level, e.patient_class) for e in node.reader.worklist(now).entries}
    assert rows == {
        "1.1": (Level.STAT, "emergency"), "1.2": (Level.HIGH, "outpatient"), "1.3": (Level.STAT, "outpatient")
    }  # fmt: skip
    ask(node, ORM.replace("|NW|", "|CA|").replace("M1", "M3").replace("101500", "101700"))
    assert {e.study.study_uid: e.level for e in node.reader.worklist(now).entries}["1.1"] is Level.ROUTINE
    assert all(word not in caplog.text for word in ("LLER", "P1", "A1", "Anna"))


def test_the_same_message_twice_is_one_order(node: Node) -> None:
    ask(node, ORM, ORM)
    with node.database.reading() as session:
        assert len(session.scalars(select(OrderRow)).all()) == 1
    assert kept(node) == [("AA", ""), ("AA", "")]


SC = (
    "MSH|^~\\&|RIS|HOSP|RADNODE||20261122102000||ORM^O01|M7|P|2.3.1\r"
    "PID|1||P1^^^HOSP\rORC|SC|77|F77||IP\rOBR|1|77|F77|71260^CT chest^L||||||||||||||A1\r"
)


def the_order(node: Node) -> orders.Order:
    with node.database.reading() as session:
        (found,) = orders.of_accessions(session, ["A1"])["A1"]
    return found


def test_what_a_later_message_does_not_say_stays_and_what_it_deletes_goes(node: Node) -> None:
    ask(node, ORM, SC)
    told = the_order(node)
    assert (told.level, told.patient_class, told.patient_name) == (Level.STAT, "emergency", "MÜLLER^Anna")
    ask(node, SC.replace("||IP", '||IP||""').replace("ORC|", 'PV1|1|""\rORC|').replace("02000", "02100"))
    told = the_order(node)
    assert (told.level, told.patient_class, told.patient_name) == (None, "", "MÜLLER^Anna")
    ask(node, SC.replace("||IP", "||IP||^^^^^R").replace("P1^^^HOSP", 'P1^^^HOSP||""').replace("02000", "02200"))
    told = the_order(node)
    assert (told.level, told.patient_class, told.patient_name) == (Level.ROUTINE, "", "")


TWO_IPC = OMI.split("ORC|NW|79")[0].replace("NW|78", "NW|90").replace("OBR|1|78", "OBR|1|90") + "IPC|A3|RP2|1.2.3|SPS\r"


@pytest.mark.parametrize("message", [OMI.replace("|78", "|90").replace("|79", "|90"), TWO_IPC])
def test_one_placer_number_with_two_accession_numbers_is_two_orders(node: Node, message: str) -> None:
    ask(node, message)
    with node.database.reading() as session:
        found = orders.of_accessions(session, ["A2", "A3"])
    assert {a: [(o.placer, o.study_uid) for o in told] for a, told in found.items()} == {
        "A2": [("90", "1.2.2")], "A3": [("90", "1.2.3")]
    }  # fmt: skip
    assert found["A2"][0].level is Level.HIGH
    cancelled = "PID|1||P2^^^HOSP\rORC|CA|90\rOBR|1|90||71260^CT\r"
    ask(node, message.split("PID")[0].replace("M2", "M5").replace("101600", "103000") + cancelled)
    with node.database.reading() as session:
        rows = session.scalars(select(OrderRow)).all()
    assert [(r.accession_number, r.cancelled) for r in rows] == [("A2", True), ("A3", True)], "it names neither: both"


@pytest.mark.parametrize(
    ("message", "answer", "number", "where"),
    [
        (ORM.replace("ORM^O01", "ADT^A01"), "AR", "200", "MSH^1^9"),
        (ORM.replace("2.3.1", "3.0"), "AR", "203", "MSH^1^12"),
        (ORM.replace("PID|1||P1^^^HOSP", "PID|1||"), "AE", "101", "PID^1^3"),
        (ORM.split("ORC")[0], "AE", "100", "OBR"),
        (
            ORM.replace("|77|F77|71260^CT chest^L||||||||||||||A1", "|||71260").replace("|77|F77", ""),
            "AE",
            "101",
            "OBR^1^18",
        ),
        (ORM.replace("|M1|", "||"), "AE", "101", "MSH^1^10"),
        (ORM.encode("latin-1"), "AE", "102", "MSH^1^18"),
        (b"GET / HTTP/1.1", "AR", "100", ""),
    ],
)
def test_a_wrong_message_is_answered_with_the_reason_and_kept(
    node: Node, message: str | bytes, answer: str, number: str, where: str
) -> None:
    (ack,) = ask(node, message)
    assert (str(ack["MSA.F1"]), hl7_orders.value(ack, "ERR", 3)) == (answer, number)
    assert str(ack.segment("ERR")[2]) == where
    [(said, reason)] = kept(node)
    assert said == answer
    assert reason
    with node.database.reading() as session:
        assert not session.scalars(select(OrderRow)).all()


def test_a_character_set_that_the_message_names_is_used(node: Node) -> None:
    message = ORM.replace("|2.3.1", "|2.3.1||||||8859/1").replace("CT chest", "Schädel")
    ask(node, message.encode("latin-1"))
    with node.database.reading() as session:
        assert session.scalars(select(OrderRow.procedure)).one() == "Schädel"


def ended(connection: socket.socket) -> bool:
    connection.settimeout(60)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def ended_while_it_drips(connection: socket.socket) -> bool:
    """A byte every tenth of a second does not keep it."""
    end = time.monotonic() + 60
    connection.settimeout(0.1)
    while time.monotonic() < end:
        try:
            connection.sendall(b"x")
            return connection.recv(1) == b""
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


def test_a_message_that_is_too_long_or_too_slow_ends_its_connection_and_no_other(tmp_path: Path) -> None:
    with listening(tmp_path, message_s=1.0) as node, socket.create_connection(("127.0.0.1", node.port)) as other:
        with socket.create_connection(("127.0.0.1", node.port)) as long:
            long.sendall(b"\x0b" + b"x" * 9000)
            assert ended(long)
        with socket.create_connection(("127.0.0.1", node.port)) as slow:
            slow.sendall(b"\x0bMSH|")
            assert ended_while_it_drips(slow)
        other.settimeout(60)
        other.sendall(b"\x0b" + ORM.encode() + b"\x1c\r")
        assert b"MSA|AA|M1" in other.recv(4096)


def test_more_connections_than_allowed_are_turned_away(node: Node) -> None:
    held = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(4)]
    try:
        assert ended(held[3])
    finally:
        for connection in held:
            connection.close()


def test_what_cannot_be_kept_is_not_acknowledged(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(Exception, match="no such table"):
        take(database, ORM.encode(), "127.0.0.1", "utf-8", 1.0)
    database.close()


def test_an_order_is_read_whatever_its_placer(node: Node) -> None:
    ask(node, ORM.replace("|77|F77", "||F77"))
    with node.database.reading() as session:
        assert orders.of_accessions(session, ["A1"])["A1"][0].order_number == "F:F77"


def test_a_message_of_an_order_moves_the_open_pages(node: Node) -> None:
    changes = Changes(node.database)
    before = changes.look()
    assert changes.look() == before
    ask(node, ORM)
    ordered = changes.look()
    assert ordered != before
    ask(node, SC)
    assert changes.look() != ordered


def test_the_patient_of_an_order_is_known_by_each_identifier(node: Node) -> None:
    add_study(node.database, "1.1", accession_number="A1", patient_id="P1", issuer_of_patient_id="HOSP")
    three = "A123^^^NATL^NI~~P1^^^HOSP^MR~P1^^^ELSEWHERE^PI"
    ask(node, ORM.replace("P1^^^HOSP", three))
    told = the_order(node)
    assert (told.ids, told.placer) == ((("P1", "HOSP"), ("A123", "NATL"), ("P1", "ELSEWHERE")), "77")
    assert node.reader.without_person("1.1") is Level.STAT
    ask(node, ORM.replace("P1^^^HOSP", "A123^^^NATL~P1^^^ELSEWHERE").replace("101500", "101700"))
    assert node.reader.without_person("1.1") is Level.ROUTINE, "the same number of another issuer"


@pytest.mark.parametrize(
    "cancel",
    [
        "ORC|CA|77|F77\r",
        "ORC|CA||F77\r",
        "ORC|CA||F77\rOBR|1||F77|71260^CT chest^L||||||||||||||A1\r",
        "ORC|SC|77|F77||CA\rOBR|1|77|F77|71260^CT chest^L||||||||||||||A1\r",
        "ORC|SC|77|F77||DC\r",
    ],
)
def test_an_order_is_cancelled_however_that_is_said(node: Node, cancel: str) -> None:
    ask(node, ORM)
    (ack,) = ask(node, SC.split("ORC")[0].replace("102000", "103000") + cancel)
    assert str(ack["MSA.F1"]) == "AA"
    with node.database.reading() as session:
        assert [(r.order_number, r.accession_number, r.cancelled) for r in session.scalars(select(OrderRow))] == [
            ("P:77", "A1", True)
        ]


def test_the_filler_s_number_alone_finds_no_order_of_another_patient(node: Node) -> None:
    ask(node, ORM, SC.split("ORC")[0].replace("P1^^^HOSP", "P5^^^HOSP") + "ORC|CA||F77\r")
    assert not the_order(node).cancelled


def test_what_no_database_takes_is_left_out_or_refused_and_never_stops_the_line(node: Node) -> None:
    odd = ORM.replace("CT chest", "CT\\X00\\ chest").replace("Anna", "A\0nna").replace("101500", "101500" + "0" * 30)
    first, second = ask(node, odd.encode(), ORM.replace("|77|", f"|{'7' * 300}|").replace("M1", "M2").encode())
    assert [str(a["MSA.F1"]) for a in (first, second)] == ["AA", "AE"]
    assert (the_order(node).procedure, len(the_order(node).said_at)) == ("CT chest", 32)
    with node.database.reading() as session:
        assert not any("\0" in body for body in session.scalars(select(MessageRow.body)))


@pytest.mark.parametrize(
    ("named", "encoded", "name"),
    [
        ("~ISO IR87", "iso2022_jp", "YAMADA^Taro=山田^太郎"),
        ("UTF-8", "utf-8", "MÜLLER^Anna"),
        ("UNICODE UTF8", "utf-8", "MÜLLER^Anna"),
        ("nothing known", "iso-8859-1", "MÜLLER^Anna"),
        ("", "iso-8859-1", "MÜLLER^Anna"),
    ],
)
def test_character_sets_are_known_by_the_names_that_are_sent(named: str, encoded: str, name: str) -> None:
    raw = ORM.replace("|2.3.1", f"|2.3.1||||||{named}").replace("MÜLLER^Anna", name).encode(encoded)
    (found,) = hl7_orders.understood(hl7_orders.parsed(hl7_orders.decoded(raw, "iso-8859-1"))).orders
    assert found.patient_name == name


def test_a_priority_in_a_word_that_is_not_known_is_kept_and_said(node: Node) -> None:
    ask(node, ORM.replace("^^^^^S", "^^^^^URGENT"))
    assert (the_order(node).level, kept(node)[0]) == (Level.HIGH, ("AA", ""))
    (ack,) = ask(node, ORM.replace("^^^^^S", "^^^^^QUICKLY").replace("101500", "101700"))
    answer, reason = kept(node)[1]
    assert (str(ack["MSA.F1"]), answer, "no word that is known" in reason) == ("AA", "AA", True)
    assert the_order(node).level is Level.HIGH, "what is not understood takes nothing back"


def sent(node: Node, data: bytes, answers: int, *, pieces: int = 0) -> bytes:
    """What comes back for these bytes, in pieces of so many; until so many blocks have ended."""
    with socket.create_connection(("127.0.0.1", node.port)) as line:
        line.settimeout(60)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), pieces or len(data)):
            line.sendall(data[at : at + (pieces or len(data))])
        got = b""
        while got.count(b"\x1c\r") < answers:
            got += line.recv(4096)
    return got


def test_blocks_may_come_in_any_pieces_with_line_ends_between_and_a_byte_order_mark(node: Node) -> None:
    two = [ORM.replace("|M1|", f"|M{n}|").replace("101500", f"10150{n}").encode() for n in (1, 2)]
    got = sent(node, b"\x0b" + two[0] + b"\x1c\r\n\x0b\xef\xbb\xbf" + two[1] + b"\x1c\r\r\n", 2, pieces=7)
    assert got.count(b"MSA|AA|M1") == got.count(b"MSA|AA|M2") == 1


@pytest.mark.parametrize(
    ("accept", "application", "good", "bad"),
    [
        ("", "", "AA", "AE"), ("AL", "NE", "CA", "CE"), ("NE", "AL", "AA", "AE"), ("AL", "AL", "AA", "AE"),
        ("NE", "ER", "", "AE"), ("ER", "NE", "", "CE"), ("SU", "", "CA", ""), ("NE", "NE", "", ""), ("2.3.1", "", "AA", "AE"), ("AL", "?", "CA", "CE"),
    ],
)  # fmt: skip
def test_each_sender_gets_the_answer_that_it_asked_for_and_every_message_is_kept(
    node: Node, accept: str, application: str, good: str, bad: str
) -> None:
    head = f"|2.3.1|||{accept}|{application}"
    for message, code, kept_as in ((ORM, good, "AA"), (ORM.replace("PID|1||P1^^^HOSP", "PID|1||"), bad, "AE")):
        asked = message.replace("|2.3.1", head)
        answer = take(node.database, asked.encode(), "192.0.2.1", "utf-8", 1.0)
        assert hl7_orders.value(hl7.parse(answer), "MSA", 1) == code if code else answer == ""
        assert kept(node)[-1][0] == kept_as


def test_earlier_orders_within_a_message_are_no_orders_and_one_of_several_patients_is_refused(node: Node) -> None:
    prior = "PID|1||P1^^^HOSP\rORC|RE|11|F11\rOBR|1|11|F11|71260^CT||||||||||||||A0\r"
    (ack,) = ask(node, ORM.replace("ORM^O01", "OMG^O19") + prior)
    assert str(ack["MSA.F1"]) == "AA" and the_order(node).accession_number == "A1"
    for kind in ("ORM^O01", "OMG^O19"):
        other = ORM.replace("ORM^O01", kind).replace("|M1|", "|M9|") + prior.replace("P1", "P7")
        (ack,) = ask(node, other)
        assert str(ack["MSA.F1"]) == "AE" and "several patients" in str(ack["MSA.F3"])
    with node.database.reading() as session:
        assert len(session.scalars(select(OrderRow)).all()) == 1


def test_segments_that_end_in_line_feeds_keep_the_character_set_that_they_name(node: Node) -> None:
    message = ORM.replace("|2.3.1", "|2.3.1||||||8859/1").replace("CT chest", "Schädel").replace("\r", "\n")
    ask(node, message.encode("latin-1"))
    assert the_order(node).procedure == "Schädel"


def test_a_report_of_several_patients_marks_the_study_of_each_alone() -> None:
    one = "PID|1||{p}^^^HOSP\rOBR|1||{a}|71260^CT||||||||||||||{a}|||||||F\r"
    head = ORM.partition("\r")[0].replace("ORM^O01", "ORU^R01")
    text = f"{head}\r{one.format(p='P1', a='A1')}{one.format(p='P2', a='A2')}"
    found = hl7_orders.understood(hl7_orders.parsed(text), ("final-report",)).finals
    assert [(f.accession_number, f.patient_ids) for f in found] == [("A1", {"P1"}), ("A2", {"P2"})]
