"""What leaves as HL7, webhook and e-mail: against receivers that others wrote."""

import copy
import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import hl7
import pytest
from aiosmtpd.controller import Controller
from hl7apy.mllp import AbstractHandler, MLLPServer
from hl7apy.parser import parse_message
from sqlalchemy import select
from support.findings import findings, lesion, scene
from support.results import add_study, prepare
from support.results import bundle as plain_bundle
from v2fhir.bridge import Bridge
from v2fhir.config import load_config
from v2fhir.hl7.parser import parse_bytes
from v2fhir.mllp import Frame, ServerThread, bridge_handler
from v2fhir.mllp import MLLPServer as BridgeServer

from radnode import notify, orders, report
from radnode.breaker import Breaker
from radnode.database import Database
from radnode.deliver import Lane
from radnode.destinations import PRIORITY, hl7_mllp, mail
from radnode.errors import DeliveryError
from radnode.hl7 import messages as hl7_messages
from radnode.orders import Order
from radnode.outbox import Outbox
from radnode.settings import Destination, Settings
from radnode.states import DeliveryState
from radnode.tables import DeliveryRow, EventRow, ReportRow
from radnode.triage import Level
from radnode.worklist import Reader

NOTICE: dict[str, Any] = {
    "study_uid": "1.2.3", "accession_number": "A|1", "order_number": "77", "procedure": "CT chest",
    "patient_id": "P^1", "issuer_of_patient_id": "SYNTH_HOSP", "patient_name": "MÜLLER^Anna", "patient_sex": "F",
    "patient_birth_date": "19700101", "patient_class": "emergency", "level": "STAT", "before": "ROUTINE",
    "reason": "Pulmonary embolism, 93 %", "abnormal": True, "demonstration": False, "at": 1_800_000_000.5,
}  # fmt: skip
RIS = Destination(name="ris", kind="hl7", host="127.0.0.1", port=1, application="RIS", facility="SYNTH_HOSP")


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A result on its way."""

    path: Path
    kind: str = PRIORITY
    uid: str = "2.25.1"
    study_uid: str = "1.2.3"
    sop_class_uid: str = ""


def at(port: int, **more: Any) -> Destination:
    return RIS.model_copy(update={"port": port, **more})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A report of the node's own writers, with one lesion."""
    made = scene(tmp_path_factory.mktemp("scene"))
    found = report.results(findings(made, (lesion(made, "nodule-1", (5, 3, 2), 6.0),)), made.study)
    return dict(json.loads(next(r.body for r in found if r.kind == "fhir")))


@contextmanager
def hl7apy_receiver(answer: str = "AA", error: str = "") -> Iterator[tuple[int, list[Any]]]:
    """hl7apy's own server, strict; the messages that it parsed."""
    got: list[Any] = []

    class Take(AbstractHandler):  # type: ignore[misc]
        def reply(self) -> str:
            message = parse_message(self.incoming_message, validation_level=1)
            got.append(message)
            lines = [
                "MSH|^~\\&|RIS||RADNODE||20261122||ACK|1|P|2.5.1",
                f"MSA|{answer}|{message.msh.msh_10.value}",
                error,
            ]
            return "\x0b" + "\r".join(line for line in lines if line) + "\r\x1c\r"

    kinds = ("ORU^R01^ORU_R01", "OMI^O23^OMI_O23", "ORM^O01^ORM_O01")
    server = MLLPServer("127.0.0.1", 0, dict.fromkeys(kinds, (Take,)), timeout=60)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], got
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


@contextmanager
def bridge_receiver(folder: Path) -> Iterator[tuple[int, list[bytes]]]:
    """hl7v2-fhir-bridge's listener, which answers AA only for what it can turn into valid FHIR; its Bundles lie in folder."""
    config = load_config(None, {"host": "127.0.0.1", "port": 0, "out_dir": str(folder), "fhir_base_url": ""})
    bridge = Bridge(config)
    handle, got = bridge_handler(bridge), list[bytes]()

    def kept(frame: Frame) -> bytes | None:
        got.append(frame.data)
        return handle(frame)

    server = ServerThread(BridgeServer(kept, "127.0.0.1", 0)).start()
    try:
        yield server.port, got
    finally:
        server.stop()
        bridge.close()


def send(address: Destination, *sent: Sent) -> list[str]:
    with hl7_mllp.make(address, calling_ae="", timeout_s=60.0).open(sent) as line:
        return [line.send(one) for one in sent]


def write(folder: Path, body: Any) -> Path:
    path = folder / f"{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps(body))
    return path


NAMES = ("PID", "PV1", "ORC", "OBR", "TQ1", "IPC")
LAST = 30


def values_of_hl7apy(message: Any) -> list[tuple[str, ...]]:
    """Every component that hl7apy read: of OBX what says something, of the other segments everything."""
    found: list[tuple[str, ...]] = []
    for segment in walked(message):
        name = segment.name
        if name == "OBX":
            cells = (segment.obx_3.obx_3_1, segment.obx_5, segment.obx_6.obx_6_1, segment.obx_8, segment.obx_11)
            found.append((name, *(plain(c.to_er7()) for c in cells)))
        elif name in NAMES:
            fields = {int(f.name.split("_")[1]): f for f in segment.children}
            found.append((name, *(plain(fields[n].to_er7()) if n in fields else "" for n in range(1, LAST))))
    return found


def walked(group: Any) -> Iterator[Any]:
    for child in group.children:
        if child.classname == "Segment":
            yield child
        else:
            yield from walked(child)


def plain(text: str) -> str:
    return text.replace("\\T\\", "&").rstrip("^")


def values_of_bridge(message: Any) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for segment in message.segments:
        if segment.name == "OBX":
            cells = (segment.get(3), segment.raw(5), segment.get(6), segment.get(8), segment.get(11))
            found.append(("OBX", *(plain(c or "") for c in cells)))
        elif segment.name in NAMES:
            found.append((segment.name, *(plain(segment.raw(n)) for n in range(1, LAST))))
    return found


def test_two_receivers_accept_the_report_and_the_priority_and_read_the_same_values(
    bundle: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    said = Sent(path=write(tmp_path, bundle), kind="fhir", uid="2.25.5")
    changed = Sent(path=write(tmp_path, NOTICE | {"accession_number": "A1", "patient_id": "P1"}))
    with hl7apy_receiver() as (port, got):
        assert send(at(port), said, changed, said) == ["", "", ""]
    with bridge_receiver(out) as (port, others):
        assert send(at(port), said, changed) == ["", ""]
    oru, omi, again = got
    assert oru.msh.msh_10.value == again.msh.msh_10.value
    resources = [e["resource"] for file in out.rglob("*.json") for e in json.loads(file.read_text()).get("entry", ())]
    (theirs,) = [r for r in resources if r["resourceType"] == "DiagnosticReport"]
    ours = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DiagnosticReport")
    assert theirs["status"] == "preliminary"
    assert ours["conclusion"] in theirs["conclusion"]
    for first, second in zip(got, (parse_bytes(raw) for raw in others), strict=False):
        assert values_of_hl7apy(first) == values_of_bridge(second)
    assert values_of_hl7apy(oru)[-3:] == [
        ("OBX", "111012", "81.25", "%", "A", "P"), ("OBX", "118565006", "0.896", "mL", "A", "P"),
        ("OBX", "103339001", "12", "mm", "A", "P"),
    ]  # fmt: skip
    requests = [r for r in resources if r["resourceType"] == "ServiceRequest"]
    assert "stat" in {r.get("priority") for r in requests}
    assert omi.omi_o23_order.omi_o23_timing.tq1.tq1_9.tq1_9_1.value == "S"
    assert omi.omi_o23_order.ipc.ipc_1.value == "A1"
    assert omi.omi_o23_order.ipc.ipc_3.value == "1.2.3"


def test_a_receiver_of_older_messages_gets_an_orm(tmp_path: Path) -> None:
    with hl7apy_receiver() as (port, got):
        send(at(port, priority_message="ORM^O01"), Sent(path=write(tmp_path, NOTICE)))
    message = hl7.parse(got[0].to_er7())
    assert (str(message["ORC.F7.R1.C6"]), str(message["OBR.F27.R1.C6"]), str(message["OBR.F5"])) == ("S", "S", "S")


def test_what_has_a_meaning_in_hl7_is_escaped_and_comes_back() -> None:
    text = "a|b^c&d~e\\f é 測"
    message = hl7.parse(hl7_messages.priority(NOTICE | {"reason": text}, "2.25.1", RIS))
    assert message.unescape(str(message.segment("NTE")[3])) == text
    assert message.unescape(str(message["PID.F3.R1.C1"])) == "P^1"
    assert message.unescape(str(message["PID.F5.R1.C1"])) == "MÜLLER"


@pytest.mark.parametrize(
    ("answer", "error", "permanent"),
    [
        ("AE", "ERR||PID^1^3|101|E", True), ("AE", "ERR|||207|E", False), ("AR", "", False), ("AR", "ERR|||200|E", True)
    ],
)  # fmt: skip
def test_an_error_of_the_message_is_final_and_a_busy_receiver_is_tried_again(
    tmp_path: Path, answer: str, error: str, permanent: bool
) -> None:
    with hl7apy_receiver(answer, error) as (port, _), pytest.raises(DeliveryError, match=answer) as raised:
        send(at(port), Sent(path=write(tmp_path, NOTICE)))
    assert raised.value.permanent is permanent


def test_what_names_no_patient_or_order_is_not_sent_and_says_why(tmp_path: Path, bundle: dict[str, Any]) -> None:
    with pytest.raises(DeliveryError, match="nobody could find its order") as raised:
        send(at(9), Sent(path=write(tmp_path, NOTICE | {"accession_number": ""})))
    assert raised.value.permanent
    with pytest.raises(DeliveryError, match="does not answer") as raised:
        send(at(9), Sent(path=write(tmp_path, NOTICE)))
    assert not raised.value.permanent


def test_the_acknowledgement_of_another_message_is_none() -> None:
    with pytest.raises(DeliveryError, match="another message"):
        hl7_mllp.acknowledged("MSH|^~\\&|A|B|C|D|1||ACK|1|P|2.5.1\rMSA|AA|XXX\r", "YYY")
    with pytest.raises(DeliveryError, match="no HL7"):
        hl7_mllp.acknowledged("HTTP/1.1 400 Bad Request", "YYY")


def test_a_retracted_report_is_sent_as_wrong(bundle: dict[str, Any]) -> None:
    dead = json.loads(json.dumps(bundle))
    for entry in dead["entry"]:
        if entry["resource"]["resourceType"] in ("DiagnosticReport", "Observation"):
            entry["resource"]["status"] = "entered-in-error"
    message = hl7.parse(hl7_messages.report(dead, "2.25.9", RIS))
    assert str(message["OBR.F25"]) == "C"
    assert {str(obx[11]) for obx in message.segments("OBX")} == {"W"}


@dataclass
class Hook:
    port: int = 0
    status: int = 204
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.got.append((dict(self.headers.items()), body))
            self.send_response(made.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Answer)
    made.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join(60)


@pytest.fixture
def mailbox() -> Iterator[tuple[int, list[Any]]]:
    got: list[Any] = []

    class Box:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
            got.append(envelope)
            return "250 OK"

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(Box(), hostname="127.0.0.1", port=port, ready_timeout=60.0)
    controller.start()
    yield port, got
    controller.stop()


@contextmanager
def node(folder: Path, destinations: Sequence[Destination]) -> Iterator[tuple[Settings, Database, Reader]]:
    settings = Settings(data=folder / "data", destinations=tuple(destinations))
    database = prepare(settings)
    add_study(
        database, "1.2.3", accession_number="A1", patient_id="P1", patient_name="MÜLLER^Anna",
        first_instance_at=time.time(), last_instance_at=time.time(),
    )  # fmt: skip
    yield settings, database, Reader.of(settings, database)
    database.close()


def order(database: Database, level: Level | None, patient_class: str = "") -> None:
    with database.transaction() as session:
        said = frozenset({"level", "patient_class"})  # what it leaves empty is to be empty
        made = Order(
            order_number="P:1", accession_number="A1", level=level, patient_class=patient_class, emptied=said
        )  # fmt: skip
        orders.keep(session, made, 1.0)


def deliver(settings: Settings, database: Database) -> None:
    outbox = Outbox(database, settings.data)
    for address in settings.destinations:
        lane = Lane(settings, address, outbox, Breaker(address.name, database, lambda _: 0.0))
        while lane.deliver_one():
            pass


def test_a_changed_priority_is_told_once_signed_and_without_patient_data(
    tmp_path: Path, hook: Hook, mailbox: tuple[int, list[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"http://127.0.0.1:{hook.port}/"
    with hl7apy_receiver() as (port, got):
        addresses = (
            at(port), Destination(name="hook", kind="webhook", url=url, secret="geheim", link="https://node.example"),
            Destination(
                name="mail", kind="mail", host="127.0.0.1", port=mailbox[0], sender="node@x.example", to=("a@x.example",)
            ),
        )  # fmt: skip
        with node(tmp_path, addresses) as (settings, database, reader):
            assert notify.tell(database, settings, reader, time.time()) == 0
            order(database, None, "emergency")
            assert notify.tell(database, settings, reader, time.time()) == 1
            assert notify.tell(database, settings, reader, time.time()) == 0
            deliver(settings, database)
            assert (len(got), len(hook.got), len(mailbox[1])) == (1, 1, 0)
            from radnode import priorities

            priorities.set_level(database, "1.2.3", Level.STAT, "Mrs MÜLLER's ward", time.time(), stands=Level.HIGH)
            assert notify.tell(database, settings, reader, time.time()) == 1
            deliver(settings, database)
            with database.reading() as session:
                assert set(session.scalars(select(DeliveryRow.state))) == {DeliveryState.DELIVERED}
                told = [s for s in session.scalars(select(EventRow.sentence)) if "to be told" in s]
            assert len(told) == 2
    assert str(hl7.parse(got[1].to_er7())["TQ1.F9.R1.C1"]) == "S"
    assert str(hl7.parse(got[1].to_er7())["ORC.F2"]) == "1", "the placer's number as the placer wrote it"
    assert "MÜLLER" in got[1].to_er7()
    headers, body = hook.got[1]
    signed = hmac.new(b"geheim", headers["X-Radnode-Timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-Radnode-Signature"] == f"sha256={signed}"
    assert (json.loads(body)["level"], json.loads(body)["before"]) == ("STAT", "HIGH")
    (letter,) = mailbox[1]
    assert b"stands at STAT" in letter.content
    for text in (body.decode(), letter.content.decode(), caplog.text):
        assert all(word not in text for word in ("LLER", "P1", "A1", "ward"))


@pytest.mark.parametrize(("status", "found"), [("amended", False), ("entered-in-error", True)])
def test_an_amended_or_retracted_finding_takes_the_priority_back_by_message(
    tmp_path: Path, status: str, found: bool
) -> None:
    """found: whether the later report still holds the finding."""
    seen = {
        "resourceType": "Observation", "status": "preliminary", "code": {"coding": [{"code": "36118008"}]},
        "interpretation": [{"coding": [{"code": "POS"}]}],
    }  # fmt: skip

    def says(database: Database, now: float, status: str, found: bool) -> None:
        made = plain_bundle("1.2.3", "ct", "said", status)
        made["entry"] += [{"fullUrl": "urn:uuid:1", "resource": seen}] if found else []
        with database.transaction() as session:
            row = session.get(ReportRow, "r") or ReportRow(id="r", study_uid="1.2.3", model="ct", issued_at=now)
            row.status, row.bundle, row.updated_at = status, made, now
            session.add(row)

    with hl7apy_receiver() as (port, got), node(tmp_path, (at(port),)) as (settings, database, reader):
        for now, report in ((100.0, ("preliminary", True)), (200.0, (status, found))):
            says(database, now, *report)
            assert notify.tell(database, settings, reader, time.time()) == 1
            deliver(settings, database)
    levels = [str(hl7.parse(message.to_er7())["TQ1.F9.R1.C1"]) for message in got]
    assert levels == ["S", "R"]


def test_a_newer_priority_takes_the_place_of_one_that_had_not_left(tmp_path: Path, hook: Hook) -> None:
    address = Destination(name="hook", kind="webhook", url=f"http://127.0.0.1:{hook.port}/", secret="s")
    with node(tmp_path, [address]) as (settings, database, reader):
        order(database, None, "emergency")
        notify.tell(database, settings, reader, time.time())
        order(database, None)
        notify.tell(database, settings, reader, time.time())
        deliver(settings, database)
        with database.reading() as session:
            states = list(session.scalars(select(DeliveryRow.state).order_by(DeliveryRow.id)))
    assert states == [DeliveryState.WITHDRAWN, DeliveryState.DELIVERED]
    assert [json.loads(body)["level"] for _, body in hook.got] == ["ROUTINE"]


def test_an_order_that_said_stat_itself_is_not_told_back(tmp_path: Path) -> None:
    with node(tmp_path, [RIS]) as (settings, database, reader):
        order(database, Level.STAT)
        assert notify.tell(database, settings, reader, time.time()) == 0


@pytest.mark.parametrize(("status", "state"), [(400, DeliveryState.DEAD), (503, DeliveryState.OWED)])
def test_a_webhook_that_refuses_is_given_up_and_one_that_is_ill_is_tried_again(
    tmp_path: Path, hook: Hook, status: int, state: DeliveryState
) -> None:
    hook.status = status
    address = Destination(name="hook", kind="webhook", url=f"http://127.0.0.1:{hook.port}/", secret="s")
    with node(tmp_path, [address]) as (settings, database, reader):
        order(database, None, "emergency")
        notify.tell(database, settings, reader, time.time())
        deliver(settings, database)
        with database.reading() as session:
            assert list(session.scalars(select(DeliveryRow.state))) == [state]


@pytest.mark.parametrize(
    ("before", "said"),
    [("HIGH", "a study rose from HIGH to STAT"), ("STAT", "read got a new finding and came back at STAT")],
)
def test_a_letter_says_whether_a_study_rose_or_came_back(before: str, said: str) -> None:
    address = Destination(name="m", kind="mail", host="h", port=25, sender="n@x.org", to=("r@x.org",))
    notice = {"level": "STAT", "before": before, "at": 1.0, "demonstration": False}
    assert said in mail.digest(notice, "1.2.3", address).get_content().replace("\n", " ")


def test_a_finding_in_a_person_s_words_is_sent_in_those_words(bundle: dict[str, Any]) -> None:
    changed = copy.deepcopy(bundle)
    for entry in changed["entry"]:
        if "interpretation" in entry["resource"]:
            del entry["resource"]["valueCodeableConcept"]
            entry["resource"]["valueString"] = "Gas in the portal vein"
    message = hl7.parse(hl7_messages.report(changed, "2.25.9", RIS))
    assert any(str(obx[5]).startswith("Gas in the portal vein") for obx in message.segments("OBX"))


@pytest.mark.parametrize(
    ("dicom", "xpn"),
    [
        ("WANG^XiaoDong=王^小東", "WANG^XiaoDong"),
        ("ADAMS^John^Q^Rev.^B.A.", "ADAMS^John^Q^B.A.^Rev."),
        ("O'NEILL", "O'NEILL"),
        ("", ""),
    ],
)
def test_a_title_stays_a_title(dicom: str, xpn: str) -> None:
    assert "^".join(hl7_messages.person_name(dicom)).rstrip("^") == xpn
