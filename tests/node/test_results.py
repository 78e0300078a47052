import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from support.results import Ended, add_job, add_study, four, prepare, record

from radnode import results
from radnode.database import Database
from radnode.retract import REASONS, retract
from radnode.schedule import Clock
from radnode.settings import Destination, Settings
from radnode.tables import DeliveryRow, ReportRow, ResultRow

STUDY = "1.2.3.4"
PACS = Destination(name="pacs", kind="dimse", host="127.0.0.1")
EHR = Destination(name="ehr", kind="fhir", url="http://127.0.0.1:1/")
TO = (PACS, EHR)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[Settings, Database, Ended]]:
    settings = Settings(data=tmp_path)
    database = prepare(settings)
    add_study(database, STUDY)
    yield settings, database, add_job(database, STUDY)
    database.close()


def owed(database: Database) -> dict[tuple[str, str], str]:
    """(kind and content digest of the file, destination) -> state."""
    with database.reading() as session:
        rows = session.execute(
            select(ResultRow, DeliveryRow).join(DeliveryRow, DeliveryRow.result_uid == ResultRow.uid)
        )
        return {
            (result.kind + ":" + result.uid[-6:], delivery.destination): delivery.state for result, delivery in rows
        }


def states(database: Database, current: bool | None = None) -> list[str]:
    with database.reading() as session:
        query = select(DeliveryRow.state).join(ResultRow, ResultRow.uid == DeliveryRow.result_uid)
        if current is not None:
            query = query.where(ResultRow.current == current)
        return sorted(session.scalars(query))


def report(database: Database) -> ReportRow:
    with database.reading() as session:
        return session.scalars(select(ReportRow)).one()


def test_files_are_whole_and_named_after_their_uid(tmp_path: Path) -> None:
    made = four(STUDY)
    stored = results.write_files(tmp_path, made)
    for result, file in zip(made, stored, strict=True):
        assert (tmp_path / file.file).read_bytes() == result.body
        assert file.path.stem == result.uid
        assert file.size == len(result.body)
    assert not list(tmp_path.rglob("*.part"))


def test_a_result_that_exists_keeps_its_first_bytes(tmp_path: Path) -> None:
    first = four(STUDY)[0]
    (stored,) = results.write_files(tmp_path, [first])
    other = results.Result(
        kind=first.kind, uid=first.uid, sop_class_uid="", series_uid="", digest=first.digest, body=b"{}"
    )
    (again,) = results.write_files(tmp_path, [other])
    assert again.path == stored.path
    assert again.path.read_bytes() == first.body
    assert again.size == len(first.body)


def test_what_a_killed_writer_left_half_written_goes_when_the_scheduler_begins_a_day_later(
    node: tuple[Settings, Database, Ended],
) -> None:
    settings, database, job = node
    (stored, *_) = results.write_files(settings.data, four(job.study_uid))
    now = time.time()
    for hours in (1, 25):
        for name in (f"{stored.path.name}.{hours}.part", f"{hours}.dcm"):
            (stored.path.parent / name).write_bytes(b"half")
            os.utime(stored.path.parent / name, (now - hours * 3600,) * 2)
    with Clock(settings, database, ()):
        left = {f.name for f in stored.path.parent.iterdir()}
    assert left == {stored.path.name, f"{stored.path.name}.1.part", "1.dcm", "25.dcm"}


def test_each_destination_is_owed_what_it_can_take(node: tuple[Settings, Database, Ended]) -> None:
    settings, database, job = node
    record(database, settings.data, job, four(STUDY), TO)
    kinds = sorted((kind.split(":")[0], destination, state) for (kind, destination), state in owed(database).items())
    assert kinds == [
        ("fhir", "ehr", "owed"),
        ("key-image", "pacs", "owed"),
        ("seg", "pacs", "owed"),
        ("sr", "pacs", "owed"),
    ]


def test_the_same_results_again_owe_nothing_twice(node: tuple[Settings, Database, Ended]) -> None:
    settings, database, job = node
    record(database, settings.data, job, four(STUDY), TO)
    with database.transaction() as session:
        for row in session.scalars(select(DeliveryRow)):
            row.state = "delivered"
    again = add_job(database, STUDY, revision=2)
    record(database, settings.data, again, four(STUDY), TO)
    assert states(database) == ["delivered"] * 4
    with database.reading() as session:
        assert {row.job_id for row in session.scalars(select(ResultRow))} == {again.id}


def test_new_content_supersedes_and_withdraws_what_has_not_left(node: tuple[Settings, Database, Ended]) -> None:
    settings, database, job = node
    record(database, settings.data, job, four(STUDY, content="A"), TO)
    record(
        database, settings.data, add_job(database, STUDY, revision=2), four(STUDY, content="B", status="amended"), TO
    )
    assert states(database, current=False) == ["withdrawn"] * 4
    assert states(database, current=True) == ["owed"] * 4
    assert report(database).status == "amended"


def test_what_was_delivered_and_superseded_is_owed_again_when_it_comes_back(
    node: tuple[Settings, Database, Ended],
) -> None:
    settings, database, job = node
    record(database, settings.data, job, four(STUDY, content="A"), TO)
    with database.transaction() as session:
        for row in session.scalars(select(DeliveryRow)):
            row.state, row.delivered_at, row.attempt = "delivered", 5.0, 3
    record(database, settings.data, add_job(database, STUDY, revision=2), four(STUDY, content="B"), TO)
    record(database, settings.data, add_job(database, STUDY, revision=3), four(STUDY, content="A"), TO)
    assert states(database, current=True) == ["owed"] * 4
    assert states(database, current=False) == ["withdrawn"] * 4
    with database.reading() as session:
        query = select(DeliveryRow).where(DeliveryRow.state == "owed")
        assert {(d.attempt, d.delivered_at) for d in session.scalars(query)} == {(0, None)}


def test_another_model_is_not_superseded(node: tuple[Settings, Database, Ended]) -> None:
    settings, database, job = node
    record(database, settings.data, job, four(STUDY), TO)
    other = add_job(database, STUDY, model="ct-voco")
    record(database, settings.data, other, four(STUDY, model="ct-voco"), TO)
    assert states(database, current=True) == ["owed"] * 8


def test_one_report_per_study_and_model_under_one_id(node: tuple[Settings, Database, Ended]) -> None:
    settings, database, job = node
    record(database, settings.data, job, four(STUDY, content="A"), TO, now=100.0)
    first = report(database)
    record(database, settings.data, add_job(database, STUDY, revision=2), four(STUDY, content="B"), TO, now=200.0)
    second = report(database)
    assert (first.id, first.issued_at) == (second.id, second.issued_at)
    assert (first.updated_at, second.updated_at) == (100.0, 200.0)
    assert results.report_of(dict(second.bundle))["conclusion"] == "B"


def test_a_retracted_report_says_entered_in_error_until_there_is_another(
    node: tuple[Settings, Database, Ended],
) -> None:
    settings, database, job = node
    record(database, settings.data, job, four(STUDY), TO)
    with database.transaction() as session:
        retract(session, settings, STUDY, job.model, REASONS["quality"], "a test", 9.0)
    assert report(database).status == "entered-in-error"
    assert states(database) == ["withdrawn"] * 4
    record(database, settings.data, job, four(STUDY), TO)
    assert report(database).status == "preliminary"
    assert states(database, current=True) == ["owed"] * 4


def test_previous_names_the_current_results_only(node: tuple[Settings, Database, Ended]) -> None:
    settings, database, job = node
    record(database, settings.data, job, four(STUDY, content="A"))
    record(database, settings.data, job, four(STUDY, content="B"))
    with database.reading() as session:
        previous = results.previous(session, STUDY, job.model)
        assert results.previous(session, STUDY, "another") == ()
    assert {p.uid for p in previous} == {r.uid for r in four(STUDY, content="B")}


def test_nothing_is_recorded_when_the_job_cannot_end(node: tuple[Settings, Database, Ended]) -> None:
    settings, database, job = node
    stored = results.write_files(settings.data, four(STUDY))
    with pytest.raises(RuntimeError), database.transaction() as session:
        results.record(session, job, stored, TO, 1.0)
        raise RuntimeError("the job was lost")
    with database.reading() as session:
        assert session.scalars(select(ResultRow)).all() == []
        assert session.scalars(select(DeliveryRow)).all() == []
