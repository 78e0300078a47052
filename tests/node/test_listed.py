"""Nothing that waits is hidden: however many studies there are, however old, and also where a finding came after the reading."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update
from support.pages import serving
from support.results import add_study, bundle, prepare

from radnode import fetches, notify, readings
from radnode.database import Database
from radnode.settings import Destination, Settings
from radnode.tables import EventRow, ReportRow, StudyRow
from radnode.tables_pacs import FetchRow
from radnode.tables_triage import NoticeRow
from radnode.triage import Level
from radnode.worklist import Entry, Reader

RIS = Destination(name="ris", kind="hl7", host="127.0.0.1", port=1, application="RIS", facility="HOSP")
EMBOLISM, NODULE = "59282003", "27925004"
DAY = 86400.0


@dataclass(frozen=True, kw_only=True)
class Node:
    settings: Settings
    database: Database
    reader: Reader

    def tell(self, now: float) -> int:
        return notify.tell(self.database, self.settings, self.reader, now)

    def row(self, now: float, study_uid: str = "1.1") -> Entry | None:
        return next((e for e in self.reader.worklist(now).entries if e.study.study_uid == study_uid), None)

    def told(self, study_uid: str = "1.1") -> str:
        with self.database.reading() as session:
            return str(session.get_one(NoticeRow, study_uid).level)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    settings = Settings(data=tmp_path / "data", destinations=(RIS,))
    database = prepare(settings)
    yield Node(settings=settings, database=database, reader=Reader.of(settings, database))
    database.close()


def arrived(database: Database, at: float, study_uid: str = "1.1") -> None:
    add_study(
        database, study_uid, state="read", accession_number=f"A{study_uid}", patient_id="P1", first_instance_at=at,
        last_instance_at=at,
    )  # fmt: skip


def report(
    database: Database, at: float, *codes: str, study_uid: str = "1.1", model: str = "ct-pe", status: str = "preliminary",
    percent: int = 90, side: str = "", **more: Any,
) -> None:  # fmt: skip
    """A report of these findings comes, or takes the place of the model's last one."""
    made = bundle(study_uid, model, "said", status)
    made["entry"][0]["resource"] |= more
    part = {"code": {"coding": [{"code": "111047"}]}, "valueQuantity": {"value": percent, "code": "%"}}
    made["entry"] += [
        {
            "fullUrl": f"urn:uuid:{code}",
            "resource": {
                "resourceType": "Observation", "status": "preliminary", "code": {"coding": [{"code": code}]},
                "interpretation": [{"coding": [{"code": "A"}]}], "component": [part], "bodySite": {"text": side},
            },
        }
        for code in codes
    ]  # fmt: skip
    with database.transaction() as session:
        row = session.get(ReportRow, f"{study_uid}-{model}") or ReportRow(
            id=f"{study_uid}-{model}", study_uid=study_uid, model=model, issued_at=at
        )
        row.status, row.bundle, row.updated_at = status, made, at
        session.add(row)


def test_the_stat_study_that_waits_longest_is_never_cut_and_the_page_says_how_many_more_wait(node: Node) -> None:
    now = time.time()
    with node.database.transaction() as session:
        session.add_all(
            StudyRow(
                study_uid=f"1.9.{n}", state="read", patient_id=f"P{n}", first_instance_at=now - n, last_instance_at=now - n,
                due_at=now,
            )
            for n in range(1004)
        )  # fmt: skip
    arrived(node.database, now - 3 * DAY)
    report(node.database, now - 3 * DAY, EMBOLISM)
    arrived(node.database, now - 2 * DAY, "1.2")
    assert node.tell(now) == 1
    shown = node.reader.worklist(now)
    assert [(e.study.study_uid, e.level) for e in shown.entries[:2]] == [("1.1", Level.STAT), ("1.2", Level.HIGH)]
    assert (len(shown.entries), shown.more, shown.older) == (1000, 6, 0)
    assert len(node.reader.worklist(now, limit=None).entries) == 1006
    with serving(node.settings) as client:
        page = client.get("/").text
    assert "6 more studies wait below these; none of them is STAT or overdue." in page
    with node.database.transaction() as session:
        session.execute(update(StudyRow).values(first_instance_at=now - 2 * DAY))
    assert (len(node.reader.worklist(now).entries), node.reader.worklist(now).more) == (1006, 0), "all are overdue"


def test_a_retraction_is_told_although_its_study_is_older_than_the_list(node: Node) -> None:
    arrived(node.database, 10 * DAY)
    report(node.database, 10 * DAY, EMBOLISM)
    assert (node.tell(10 * DAY + 1), node.told()) == (1, "STAT")
    report(node.database, 30 * DAY, EMBOLISM, status="entered-in-error")
    assert (node.tell(30 * DAY + 1), node.told()) == (1, "ROUTINE")
    assert node.tell(30 * DAY + 2) == 0


def read(node: Node, at: float) -> None:
    readings.mark(node.database, "1.1", 1, "Ada", at)


@pytest.mark.parametrize(
    ("known", "found", "back"),
    [("left", "right", True), ("left", "left", False), ("", "right", False), ("left", "", False), ("left", "bilateral", True),
     ("bilateral", "right", False)],
)  # fmt: skip
def test_the_same_finding_on_the_other_side_is_a_new_one(node: Node, known: str, found: str, back: bool) -> None:
    arrived(node.database, 100.0)
    report(node.database, 150.0, EMBOLISM, side=known)
    read(node, 200.0)
    report(node.database, 300.0, EMBOLISM, side=found)
    assert (node.row(360.0) is not None) == back


def test_a_finding_that_comes_after_the_reading_brings_the_study_back_until_somebody_looks(node: Node) -> None:
    arrived(node.database, 100.0)
    report(node.database, 150.0)
    read(node, 200.0)
    assert (node.row(250.0), node.tell(250.0)) == (None, 0)
    report(node.database, 300.0, EMBOLISM, model="ct-late")
    row = node.row(360.0)
    assert row is not None
    assert (row.level, row.after_reading, row.waiting_s) == (Level.STAT, True, 60.0), "it waits since the finding came"
    assert row.reason.startswith("AI finding after reading. ")
    assert (node.reader.worklist(360.0).read, node.reader.worklist(360.0).older) == (0, 0)
    assert (node.tell(360.0), node.told(), node.tell(361.0)) == (1, "STAT", 0)
    with node.database.reading() as session:
        story = session.scalars(select(EventRow.sentence).order_by(EventRow.id.desc())).first()
    assert story is not None
    assert story.startswith("AI finding after reading. The priority is STAT")
    read(node, 400.0)
    assert (node.row(450.0), node.reader.worklist(450.0).read) == (None, 1)
    assert node.tell(450.0) == 0


def test_a_finding_after_the_reading_is_told_although_the_priority_stays_the_same(node: Node) -> None:
    arrived(node.database, 100.0)
    report(node.database, 110.0, EMBOLISM)
    assert node.tell(120.0) == 1
    read(node, 200.0)
    report(node.database, 300.0, "1386000", model="ct-head")
    assert (node.tell(310.0), node.tell(320.0)) == (1, 0)


@pytest.mark.parametrize(
    ("codes", "percent", "more", "back"),
    [
        ((EMBOLISM,), 90, {}, True),
        ((NODULE,), 90, {}, False),
        ((NODULE,), 99, {"status": "amended"}, False),
        ((), 90, {}, False),
        ((EMBOLISM,), 90, {"status": "entered-in-error"}, False),
        ((EMBOLISM,), 90, {"status": "final", "resultsInterpreter": [{"display": "Dr. Rossi"}]}, False),
        (("87433001",), 99, {}, False),
    ],
    ids=["new", "the same again", "surer, but no higher", "gone", "retracted", "confirmed by a person", "not urgent"],
)
def test_only_what_is_new_or_worse_and_urgent_brings_a_read_study_back(
    node: Node, codes: Sequence[str], percent: int, more: dict[str, Any], back: bool
) -> None:
    arrived(node.database, 100.0)
    report(node.database, 110.0, NODULE)
    read(node, 200.0)
    report(node.database, 300.0, *codes, percent=percent, **more)
    assert (node.row(310.0) is not None) == back


def test_a_finding_that_gets_worse_after_the_reading_brings_the_study_back(node: Node) -> None:
    arrived(node.database, 100.0)
    report(node.database, 110.0, EMBOLISM, percent=20)
    read(node, 200.0)
    report(node.database, 300.0, EMBOLISM, percent=80, status="amended")
    row = node.row(310.0)
    assert row is not None
    assert row.level is Level.STAT


def test_the_pages_label_a_finding_after_the_reading_and_let_it_be_marked_again(node: Node) -> None:
    now = time.time()
    arrived(node.database, now - 100)
    read(node, now - 50)
    report(node.database, now - 20, EMBOLISM)
    with serving(node.settings) as client:
        assert "AI finding after reading" in client.get("/").text
        assert "read before" in client.get("/").text
        page = client.get("/studies/1.1").text
        assert "AI finding after reading" in page
        assert "Mark as read" in page
        assert entries(client) == ["1.1"]
        assert client.post("/worklist/1.1/read", data={"revision": "1"}).status_code == 200
        assert entries(client) == []
        assert "To be read after all" in client.get("/studies/1.1").text


def entries(client: httpx.Client) -> list[str]:
    return [e["study"]["study_uid"] for e in client.get("/api/worklist").json()["entries"]]


def test_an_earlier_study_that_was_fetched_to_compare_with_waits_for_nobody(node: Node) -> None:
    now = time.time()
    arrived(node.database, now)
    arrived(node.database, now, "1.2")
    row = FetchRow(study_uid="1.2", peer="pacs", why=fetches.PRIOR, wanted_by="1.1", state=fetches.RUNNING, attempt=0)
    row.created_at = row.due_at = now
    with node.database.transaction() as session:
        session.add(row)

    def listed() -> tuple[set[str], int]:
        found = node.reader.worklist(now + 10 * 60.0)
        return {e.study.study_uid for e in found.entries}, found.older

    assert listed() == ({"1.1"}, 0)
    for values, read in (
        ({"state": fetches.DONE, "ended_at": now + 1.0}, {"1.1"}),
        ({"ended_at": now - fetches.AFTER_S - 1.0}, {"1.1", "1.2"}),  # an image came long after: somebody sent it
        ({"ended_at": now + 1.0, "why": fetches.HAND}, {"1.1", "1.2"}),
    ):
        with node.database.transaction() as session:
            session.execute(update(FetchRow).values(values))
        assert listed() == (read, 0)
