"""The audit: one row in the transaction of what it tells of, a chain that shows every change, and how it leaves."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from fhir.resources.R4B.auditevent import AuditEvent
from lxml import etree
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode
from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session
from support.access import ADMINISTRATOR, PASSWORD, READER, people, served, sign_in
from support.certificates import Authority
from support.collector import Collector
from support.core import STUDY as CORE_STUDY
from support.core import Node
from support.filled import fill as a_morning
from support.orthanc import free_ports
from support.pages import serving
from support.results import add_job, add_study, four, prepare, record

from radnode import (
    application,
    audit,
    audit_syslog,
    copy_tables,
    events,
    fetches,
    migrations,
    modality_worklist,
    pipeline,
    prior_fetch,
    reconcile,
)
from radnode.accounts_tokens import Scope
from radnode.association_pdu import Command
from radnode.association_services import Caller, Services
from radnode.audit import Act, Kind, Outcome
from radnode.audit_messages import facts, message
from radnode.cli import cli
from radnode.database import Database
from radnode.destinations.dimse_find import Found
from radnode.errors import DeliveryError
from radnode.outbox import Outbox
from radnode.peers import table as peers
from radnode.peers.peer import Peer
from radnode.prior_fetch import PriorFinder
from radnode.settings import Destination, Priors, Settings
from radnode.settings_access import Audit
from radnode.tables import DeliveryRow, ResultRow, StudyRow
from radnode.tables_access import AuditExportRow, AuditHeadRow, AuditRow
from radnode_fhir.audit_event import audit_event

SCHEMA = Path(__file__).parent.parent / "support" / "audit_schema.rng"
STUDY = "1.2.3.4"


def fill(database: Database, count: int = 6) -> None:
    for n in range(count):
        with database.transaction() as session:
            audit.note(session, Act(who=f"person {n}", kind=Kind.SEEN, action="GET /", study_uid=STUDY, detail="Ü\n<&"))


def rows(database: Database) -> list[AuditRow]:
    with database.reading() as session:
        return list(session.scalars(select(AuditRow).order_by(AuditRow.number)))


def problems(database: Database, written_down: tuple[int, str] | None = None) -> tuple[str, ...]:
    with database.reading() as session:
        return audit.verify(session, written_down=written_down).problems


def test_an_untouched_chain_is_whole_on_both_databases(node: Node) -> None:
    add_study(node.database, STUDY, patient_id="P1")
    fill(node.database, 3)
    with node.database.reading() as session:
        verdict = audit.verify(session)
    assert (verdict.rows, verdict.problems) == (3, ())
    found = rows(node.database)
    assert [r.number for r in found] == [1, 2, 3]
    assert [r.patient_id for r in found] == ["P1"] * 3
    assert verdict.head == found[-1].hash


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = prepare(Settings(data=tmp_path))
    fill(made)
    yield made
    made.close()


COLUMNS = [c for c in audit.HASHED if c not in ("number", "hash_before", "at")]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_row_that_was_changed_is_named(database: Database, column: str) -> None:
    with database.transaction() as session:
        session.execute(update(AuditRow).where(AuditRow.number == 3).values({column: "changed"}))
    assert problems(database) == ("Row 3 was changed: its hash is not that of its content.",)


def test_a_time_that_was_moved_by_a_millisecond_is_named(database: Database) -> None:
    with database.transaction() as session:
        session.execute(update(AuditRow).where(AuditRow.number == 2).values(at=AuditRow.at + 0.001))
    assert problems(database) == ("Row 2 was changed: its hash is not that of its content.",)


def test_a_row_that_was_changed_and_hashed_again_breaks_the_one_after_it(database: Database) -> None:
    with database.transaction() as session:
        row = session.get(AuditRow, 3)
        assert row is not None
        row.who = "somebody else"
        row.hash = audit.hash_of(row)
    assert problems(database) == ("Row 4 does not follow row 3: one of them was changed or put there.",)


def test_rows_that_were_taken_out_are_named(database: Database) -> None:
    with database.transaction() as session:
        session.execute(delete(AuditRow).where(AuditRow.number.in_([2, 4, 5])))
    assert problems(database) == ("Before row 3 row 2 is missing.", "Before row 6 rows 4 to 5 are missing.")


def test_rows_cut_off_at_the_end_or_the_start_are_named(database: Database) -> None:
    with database.transaction() as session:
        session.execute(delete(AuditRow).where(AuditRow.number.in_([1, 5, 6])))
    assert problems(database) == (
        "Before row 2 row 1 is missing.",
        "The rows after 4 up to 6 are missing at the end.",
    )


def test_two_rows_that_changed_places_are_named(database: Database) -> None:
    with database.transaction() as session:
        for before, after in ((2, 99), (3, 2), (99, 3)):
            session.execute(update(AuditRow).where(AuditRow.number == before).values(number=after))
    named = " ".join(problems(database))
    assert "Row 2 was changed" in named
    assert "Row 3 was changed" in named


def test_a_chain_that_was_made_anew_is_caught_by_a_hash_written_down_elsewhere(database: Database) -> None:
    noted = (4, rows(database)[3].hash)
    assert problems(database, noted) == ()
    with database.transaction() as session:
        before = ""
        for row in session.scalars(select(AuditRow).order_by(AuditRow.number)):
            row.who, row.hash_before = "nobody", before
            row.hash = before = audit.hash_of(row)
        session.execute(update(AuditHeadRow).values(hash=before))
    assert problems(database) == ()
    assert problems(database, noted) == ("Row 4 has another hash than was written down: the chain was made anew.",)
    assert problems(database, (9, "x")) == ("Row 9, which was written down, is missing.",)


def test_a_change_and_its_row_are_kept_or_lost_together(database: Database) -> None:
    before = len(rows(database))
    with pytest.raises(ZeroDivisionError), audit.acting(Act(who="anna", action="change")), database.transaction():
        raise ZeroDivisionError
    assert len(rows(database)) == before
    with audit.acting(Act(who="anna", action="change")), database.transaction() as session:
        events.write(session, STUDY, events.Action.RETRACTED, "It was retracted.", 1.0)
    told = rows(database)[before:]
    assert [(r.who, r.kind, r.action) for r in told] == [
        ("anna", "changed", "change"), ("radnode", "changed", "study retracted"),
    ]  # fmt: skip
    assert problems(database) == ()


def test_writers_at_the_same_time_make_one_chain(node: Node) -> None:
    def work(name: str) -> None:
        for n in range(10):
            with node.database.transaction() as session:
                audit.note(session, Act(who=name, action=f"change {n}"))

    threads = [threading.Thread(target=work, args=(f"thread {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.number for r in rows(node.database)] == list(range(1, 41))
    assert problems(node.database) == ()


def test_a_chain_that_grows_while_it_is_verified_is_whole(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows that come between two looks are neither missing nor put there, and the note is of one row's number and hash."""
    database = Database(database_url)
    migrations.upgrade(database_url)

    def write() -> None:
        with database.transaction() as session:
            audit.note(session, Act(action="meanwhile"))

    write()
    walked = audit.walk

    def walk(session: Session, after: int = 0) -> Iterator[audit.Entry]:
        write()
        yield from walked(session, after)
        write()

    monkeypatch.setattr(audit, "walk", walk)
    with database.reading() as session:
        verdict = audit.verify(session)
    assert (verdict.rows, verdict.problems) == (2, ())
    with database.reading() as session:
        assert audit.verify(session, written_down=(verdict.rows, verdict.head)).problems == ()
    database.close()


def test_the_page_tells_who_saw_changed_and_was_refused_and_the_whole_is_on_the_audit_page(tmp_path: Path) -> None:
    here = people(tmp_path)
    add_study(here.database, STUDY, patient_id="P1")
    with served(here) as client:
        sign_in(client, READER)
        for _ in range(3):
            client.get("/")
            client.get("/api/worklist")
        client.post(f"/studies/{STUDY}/remark", data={"text": "seen"})
        client.get("/users")
        sign_in(client, ADMINISTRATOR)
        client.post("/users", data={"name": "nina", "role": "reader", "password": PASSWORD})
        page = client.get("/audit").text
    told = [(r.who, r.kind, r.action, r.outcome) for r in rows(here.database)]
    assert (READER, "log-in", "signed in", "success") in told
    assert told.count((READER, "listed", "GET /", "success")) == 1  # once in ten minutes is enough
    assert (READER, "changed", "POST /studies/{study_uid}/remark", "success") in told
    assert (READER, "security", "GET refused", "refused") in told
    changed = next(r for r in rows(here.database) if r.action.endswith("/remark"))
    assert (changed.study_uid, changed.patient_id, changed.address) == (STUDY, "P1", "127.0.0.1")
    assert "POST /studies/{study_uid}/remark" in page
    assert "account nina made, reader" in page
    assert PASSWORD not in page
    here.database.close()


def test_nothing_is_shown_that_the_audit_cannot_tell_of(tmp_path: Path) -> None:
    here = people(tmp_path)
    with served(here) as client:
        sign_in(client, READER)
        with here.database.engine.begin() as connection:
            connection.execute(text("ALTER TABLE audit RENAME TO gone"))
        assert client.get("/", headers={"connection": "close"}).status_code == 500
        with here.database.engine.begin() as connection:
            connection.execute(text("ALTER TABLE gone RENAME TO audit"))
        assert client.get("/").status_code == 200
    assert rows(here.database)[-1].action == "GET /"
    here.database.close()


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_row_is_a_valid_dicom_audit_message_and_fhir_audit_event(kind: Kind, outcome: Outcome) -> None:
    row = audit.row_of(NoStudies(), Act(who="an\u0001na", role="reader", address="192.0.2.7", kind=kind, outcome=outcome, action="a < b\nc", study_uid=STUDY, detail="&\x00<"), AuditHeadRow(number=6, hash="ab"), 1.7e9)  # type: ignore[arg-type]  # fmt: skip
    row.patient_id = "P 1"
    entry = audit.view(row)
    schema = etree.RelaxNG(etree.parse(SCHEMA))
    schema.assertValid(etree.fromstring(message(entry)))
    made = AuditEvent.model_validate(audit_event(facts(entry)))
    assert made.entity is not None
    assert made.entity[-1].detail[0].valueString == "7"


class NoStudies:
    """Stands for a session in which no study is known."""

    def get(self, *_: object) -> None:
        return None


def test_rows_leave_by_syslog_over_tls_each_once_and_wait_while_the_collector_is_away(
    database: Database, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("node")
    with Collector(authority) as collector:
        own = Audit(
            host="127.0.0.1",
            port=collector.port,
            ca=authority.ca,
            certificate=pair.certificate,
            certificate_key=pair.key,
        )
        settings = Settings(audit=own)
        assert audit_syslog.export(database, settings) == 6
        assert audit_syslog.export(database, settings) == 0
        fill(database, 1)
        assert audit_syslog.export(database, settings) == 1
        with database.reading() as session:
            assert audit_syslog.owed_s(session, settings, time.time() + 60) == 0
    bodies = [f.decode() for f in collector.frames]
    assert len(bodies) == 7
    header, _, xml = bodies[0].partition("\ufeff")
    assert header.startswith("<85>1 20")
    assert header.split()[5] == "DICOM+RFC3881"
    etree.RelaxNG(etree.parse(SCHEMA)).assertValid(etree.fromstring(xml))
    assert [b.count(f'urn:radnode:audit:{n}"') for n, b in enumerate(bodies, 1)] == [1] * 7
    fill(database, 1)
    with pytest.raises(DeliveryError, match="does not take audit messages"):
        audit_syslog.export(database, settings)
    with database.reading() as session:
        assert audit_syslog.owed_s(session, settings, time.time() + 60) >= 60
        kept = session.get(AuditExportRow, f"127.0.0.1:{own.port}")
        assert kept is not None
        assert (kept.number, bool(kept.error)) == (7, True)


def test_a_collector_that_does_not_take_the_nodes_certificate_got_nothing_and_gets_it_later(
    database: Database, tmp_path: Path
) -> None:
    """By TLS 1.3 it says so when the handshake is over and the rows are on their way: they do not count as handed over."""
    authority, other = Authority(tmp_path / "one"), Authority(tmp_path / "two", "other")
    with database.transaction() as session:
        audit.note(session, Act(action="owed"))
    shown = (None, other.issue("node"), authority.issue("node"))
    with Collector(authority) as collector:
        for pair in shown:
            own = Audit(host="127.0.0.1", port=collector.port, ca=authority.ca)
            if pair is not None:
                own = own.model_copy(update={"certificate": pair.certificate, "certificate_key": pair.key})
            settings = Settings(data=tmp_path, audit=own)
            if pair is not shown[-1]:
                with pytest.raises(DeliveryError, match="does not take audit messages"):
                    audit_syslog.export(database, settings)
            else:
                sent = audit_syslog.export(database, settings)
    assert sent == len(collector.frames) > 0


def test_a_collector_of_another_authority_gets_nothing(database: Database, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other", "other")
    with Collector(other) as collector:
        own = Audit(host="127.0.0.1", port=collector.port, ca=authority.ca)
        with pytest.raises(DeliveryError):
            audit_syslog.export(database, Settings(audit=own))
    assert collector.frames == []


def test_the_command_verifies_names_wrong_rows_and_hands_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADNODE_DATA", str(tmp_path))

    def run(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, ["audit", *words])
        assert done.exit_code == code, done.output
        return done.output

    run("verify")
    made = Database(Settings(data=tmp_path).url)
    fill(made, 3)
    said = run("verify")
    assert "3 rows, none changed" in said
    assert run("verify", "--head", said.split()[-1])
    assert len([json.loads(line) for line in run("export", "--as", "json").splitlines()]) == 4  # with its own
    assert all(line.startswith("<AuditMessage>") for line in run("export", "--after", "1").splitlines())
    assert json.loads(run("export", "--as", "fhir").splitlines()[0])["resourceType"] == "AuditEvent"
    assert "person 2" in run("list", "--who", "person 2")
    shown = [(r.kind, r.action) for r in rows(made)][-3:]  # whoever reads the audit stands in it
    assert shown == [("audit", "radnode audit export")] * 2 + [("audit", "radnode audit list")]
    with made.transaction() as session:
        session.execute(update(AuditRow).where(AuditRow.number == 2).values(who="x"))
    assert "Row 2 was changed" in run("verify", code=1)
    made.close()


def test_what_was_received_made_and_sent_is_told_of_with_its_patient(node: Node) -> None:
    node.arrive(1.0, ae="CT1", PatientID="P7")
    pipeline.settle(node.database, node.settings, since=0.0)
    job = add_job(node.database, CORE_STUDY)
    record(node.database, node.settings.data, job, four(CORE_STUDY), (Destination(name="out", kind="folder"),))
    sent = Outbox(node.database, node.settings.data)
    batch = sent.claim("out", time.time() + 1, 5)
    assert batch is not None
    sent.delivered(batch.token, batch.deliveries[0], "", time.time())
    told = [(r.who, r.kind, r.study_uid, r.patient_id) for r in rows(node.database)]
    assert told[0] == ("CT1", "received", CORE_STUDY, "P7")
    assert told[-1] == ("radnode", "sent", CORE_STUDY, "P7")
    assert batch.deliveries[0].uid in rows(node.database)[-1].detail


def test_the_start_and_the_stop_of_the_application_are_told_also_when_it_fails(database: Database) -> None:
    settings = Settings(database_url=database.url)
    before = len(rows(database))
    with pytest.raises(RuntimeError), application.told(settings, "web"):
        assert rows(database)[-1].kind == "start"
        raise RuntimeError
    with application.told(settings, "work", parent=1):  # its supervisor has told it
        pass
    started, stopped = rows(database)[before:]
    assert (started.kind, started.action) == ("start", "radnode web started")
    assert (stopped.kind, stopped.action) == ("stop", "radnode web stopped")
    assert started.who.endswith("at the command line") and started.detail.startswith("radnode ")
    for row, code in ((started, "110120"), (stopped, "110121")):
        assert 'csd-code="110100"' in message(audit.view(row)) and f'csd-code="{code}"' in message(audit.view(row))


def test_a_new_database_with_nothing_but_starts_is_empty_to_a_restore(database: Database) -> None:
    with database.engine.connect() as connection:
        assert not copy_tables.is_empty(connection)  # people were shown something
    with database.transaction() as session:
        session.execute(delete(AuditRow))
    with application.told(Settings(database_url=database.url), "serve"):
        pass
    with database.engine.connect() as connection:
        assert copy_tables.is_empty(connection)


def found(client: httpx.Client, query: str = "", **headers: str) -> list[AuditEvent]:
    answer = client.get(f"/fhir/AuditEvent{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    return [AuditEvent.model_validate(e["resource"]) for e in bundle.get("entry", ())]


def test_the_audit_is_searched_and_read_as_audit_events_by_administrators_alone(tmp_path: Path) -> None:
    here = people(tmp_path)
    add_study(here.database, STUDY, patient_id="P1")
    fill(here.database, 3)
    with served(here) as client:
        sign_in(client, READER)
        assert client.get("/fhir/AuditEvent").status_code == 403 == client.get("/fhir/AuditEvent/1").status_code
        client.cookies.clear()
        for scope in (Scope.FHIR_READ, Scope.AUDIT_READ):
            mine = {"authorization": f"Bearer {here.tokens[scope]}"}
            assert client.get("/fhir/AuditEvent", headers=mine).is_success == (scope is Scope.AUDIT_READ)
        by_study = found(client, f"?entity:identifier=urn:dicom:uid|urn:oid:{STUDY}", **mine)
        assert len(by_study) == 3 and all(e.type.code == "110103" and e.action == "R" for e in by_study)
        newest, *_ = found(client, "?_count=1", **mine)
        assert newest.type.code == "110101"  # that the audit was read is told as well
        assert {a.name for e in found(client, "?agent-name=PERSON", **mine) for a in e.agent if a.requestor} == {
            "person 0", "person 1", "person 2",
        }  # fmt: skip
        assert (
            len(
                found(client, "?patient:identifier=P1&type=http://dicom.nema.org/resources/ontology/DCM|110103", **mine)
            )
            == 3
        )
        assert found(client, "?patient:identifier=P2", **mine) == [] == found(client, "?date=lt2001", **mine)
        assert len(found(client, "?date=ge2001&action=R&subtype=110122,110137&outcome=0", **mine)) == 0
        one = client.get(f"/fhir/AuditEvent/{by_study[0].id}", headers=mine)
        assert one.json()["entity"][-1]["detail"][0]["valueString"] == by_study[0].id
        assert client.get("/fhir/AuditEvent/999999", headers=mine).status_code == 404
        assert client.get("/fhir/AuditEvent?colour=red", headers=mine).status_code == 400
        writer = {"authorization": f"Bearer {here.tokens[Scope.FHIR_WRITE]}"}
        made = client.post("/fhir/AuditEvent", json=one.json(), headers=writer)
        assert made.status_code in (400, 404, 405, 422), made.text
    assert problems(here.database) == ()
    here.database.close()


def told(database: Database) -> list[tuple[str, str, str, str, str]]:
    return [(r.who, r.kind, r.action, r.outcome, r.detail) for r in rows(database)]


def test_a_caller_that_is_turned_away_is_told_of_once_in_a_while(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [6000.0]
    monkeypatch.setattr(peers.time, "time", lambda: now[0])
    for at in (6000.0, 6001.0, 6599.0, 6600.0, 6601.0):
        now[0] = at
        peers.record_refusal(node.database, "X", "RADNODE", "10.0.0.1", "The caller is not among the peers.")
    row = (
        "X",
        "turned-away",
        "association refused",
        "refused",
        "The caller is not among the peers. It called RADNODE.",
    )
    assert told(node.database) == [row] * 2
    assert [(r.count, r.last_at) for r in peers.list_refusals(node.database)] == [(5, 6601.0)]


def test_a_worklist_that_a_system_asks_for_is_told_of_before_it_leaves(node: Node) -> None:
    now = time.time()
    came = {"first_instance_at": now, "last_instance_at": now, "due_at": now}
    add_study(node.database, STUDY, patient_name="DOE^JANE", patient_id="P1", **came)
    services = Services(node.settings, node.database)
    request = Dataset()
    request.PatientName = request.StudyInstanceUID = ""
    data = encode(request, False, True)
    assert data is not None
    for may in ({"worklist"}, {"send"}):
        caller = Caller(calling_ae="RIS", called_ae="RADNODE", address="10.0.0.1", may=frozenset(may))
        command = Command(elements={0x0100: (0x0020).to_bytes(2, "little")})
        services.answer(modality_worklist.FIND, command, data, "1.2.840.10008.1.2.1", caller, time.time())
    ask = "C-FIND of the worklist"
    assert told(node.database) == [
        ("RIS", "listed", ask, "success", "1 answers"),
        ("RIS", "listed", ask, "refused", "may not ask"),
    ]


def test_what_the_node_asks_and_fetches_elsewhere_is_told_of(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    peer = Peer(name="away", ae_title="AWAY", host="localhost", port=port, may=("query", "retrieve"))
    add_study(node.database, STUDY, patient_id="P1", study_date="20261122", modalities="CT")
    with node.database.reading() as session:
        study = session.get(StudyRow, STUDY)
    assert study is not None
    settings = Settings(data=node.settings.data, priors=Priors(peer="away"))
    finder = PriorFinder(settings, node.database)
    finder.look(peer, [study])
    finder.look(peer, [study])  # asked again: told of once until it answers

    class Answering:
        def studies(self, **_: str) -> tuple[Found, ...]:
            return (Found(study_uid="1.2.9"),)

    monkeypatch.setattr(prior_fetch, "querying", lambda *_: nullcontext(Answering()))
    monkeypatch.setattr(reconcile, "querying", lambda *_: nullcontext(Answering()))
    finder.look(peer, [study])
    reconcile.ask(node.database, settings, peer, 2, 1_780_000_000.0)
    with node.database.transaction() as session:
        fetches.want(session, "1.2.9", "away", fetches.HAND, "anna", 0.0)
    claimed = fetches.claim(node.database, "away", 1000.0)
    assert claimed is not None
    fetches.done(node.database, claimed, 7, 1001.0)
    found = [row for row in told(node.database) if row[2].startswith(("query", "study fetched"))]
    assert [(kind, action, outcome) for _, kind, action, outcome, _ in found] == [
        ("listed", "query for earlier studies", "failed"),
        ("listed", "query for earlier studies", "success"),
        ("listed", "query for studies never seen", "success"),
        ("received", "study fetched", "success"),
    ]
    assert found[2][4].endswith(": 1 studies") and found[3][4] == "from away for anna (hand): 7 objects"
    assert [r.patient_id for r in rows(node.database) if r.action == "query for earlier studies"] == ["P1", "P1"]


def test_who_takes_a_result_away_or_has_it_sent_again_is_told_of_with_study_and_patient(tmp_path: Path) -> None:
    node = a_morning(tmp_path)
    with node.database.reading() as session:
        uid = session.scalars(
            select(ResultRow.uid).where(ResultRow.study_uid == node.lesion, ResultRow.kind == "sr")
        ).one()
        dead = session.scalars(select(DeliveryRow.id).where(DeliveryRow.state == "dead")).one()
        patient_id = session.scalars(select(StudyRow.patient_id).where(StudyRow.study_uid == node.lesion)).one()
    with serving(node.settings) as client:
        assert client.get(f"/results/{uid}/file").status_code == client.get(f"/results/{uid}/text").status_code == 200
        report = client.get("/fhir/DiagnosticReport").json()["entry"]
        ids = [e["resource"]["id"] for e in report]
        assert all(client.get(f"/fhir/DiagnosticReport/{i}").status_code == 200 for i in ids)
        assert client.post(f"/deliveries/{dead}/send-again", data={"study_uid": "9.9"}).status_code in (200, 404)
    told = {r.action: (r.study_uid, r.patient_id) for r in rows(node.database)}
    for action in ("GET /results/{uid}/file", "GET /results/{uid}/text", "POST /deliveries/{delivery_id}/send-again"):
        assert told[action] == (node.lesion, patient_id), action
    read = {r.study_uid for r in rows(node.database) if r.action == "GET /fhir/{kind}/{resource_id}"}
    assert read == {node.lesion, node.normal, node.demonstration}
    assert problems(node.database) == ()
    node.database.close()


def test_whatever_is_read_through_fhir_the_audit_names_its_study_and_patient_where_it_is_of_one(tmp_path: Path) -> None:
    node = a_morning(tmp_path)
    with node.database.reading() as session:
        patient_id = session.scalars(select(StudyRow.patient_id).where(StudyRow.study_uid == node.lesion)).one()

    def last() -> tuple[str, str]:
        newest = rows(node.database)[-1]
        return newest.study_uid, newest.patient_id

    with serving(node.settings) as client:
        mine = client.get(f"/fhir/ImagingStudy?identifier=urn:dicom:uid|urn:oid:{node.lesion}").json()["entry"][0][
            "resource"
        ]
        assert last() == (node.lesion, patient_id), "a search that finds one study's"
        (seen,) = client.get(f"/fhir/Observation?derived-from=ImagingStudy/{mine['id']}").json()["entry"][:1]
        assert last() == (node.lesion, patient_id)
        task = next(
            e["resource"] for e in client.get("/fhir/Task").json()["entry"]
            if e["resource"]["focus"]["reference"].endswith(mine["id"])
        )  # fmt: skip
        assert last() == ("", patient_id), "several studies of one patient"
        for kind, name in (("Observation", seen["resource"]["id"]), ("ImagingStudy", mine["id"]), ("Task", task["id"])):
            for rest in ("", "/_history", "/_history/1"):
                assert client.get(f"/fhir/{kind}/{name}{rest}").is_success
                assert last() == (node.lesion, patient_id), (kind, rest)
        theirs = {"resourceType": "Patient", "identifier": [{"system": "urn:h", "value": "P-77"}]}
        person = client.post("/fhir/Patient", json=theirs).json()["id"]
        assert client.get(f"/fhir/Patient/{person}").is_success and last() == ("", "P-77")
        bare = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
        one = client.post("/fhir/Observation", json=bare | {"subject": {"reference": f"Patient/{person}"}}).json()["id"]
        assert client.get(f"/fhir/Observation/{one}").is_success and last() == ("", "P-77")
        assert client.post("/fhir/Observation/_search", data={"subject": f"Patient/{person}"}).json()["total"] == 1
        assert last() == ("", "P-77")
    assert problems(node.database) == ()
    node.database.close()
