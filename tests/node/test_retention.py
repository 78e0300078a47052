"""Images are let go by rule and by the disk's watermark, and never while anything of their study is still to be done."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from support.core import Node
from support.objects import encoded, image
from support.results import add_job, add_study, dicom_result, record
from support.store import arrival_of, files, rows

from radnode import commit_requests, complete, jobs, pipeline, retention
from radnode.cli import cli
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.events import of_study
from radnode.routing import complete_studies
from radnode.settings import Destination, Retention, RetentionRule, Settings
from radnode.states import DeliveryState, JobState, StudyState
from radnode.store import Store
from radnode.store_recover import recover
from radnode.tables import DeliveryRow, InstanceRow, ResultRow, RouteRow, SendingRow, ShadowRow, StudyRow
from radnode.tables_pacs import PromiseRow

DAY = 86400.0
NOW = 1_800_000_000.0
PACS = Destination(name="pacs", kind="folder", folder=Path("out"))


def settings_of(node: Node, **rules: object) -> Settings:
    return node.settings.model_copy(update={"retention": Retention(**rules), "destinations": (PACS,)})  # type: ignore[arg-type]


def study(node: Node, *, days: float = 10.0, seed: int = 0, **values: object) -> str:
    """A study of two stored images that was read, and is `days` old at NOW."""
    store = Store(node.settings, Database(node.settings.url))
    first = image(seed=seed)
    second = image(seed=seed + 100, StudyInstanceUID=first.StudyInstanceUID)
    for ds in (first, second):
        store.put(arrival_of(ds), [encoded(ds)])
    store.close()
    uid = str(first.StudyInstanceUID)
    with node.database.transaction() as session:
        session.execute(update(InstanceRow).where(InstanceRow.study_uid == uid).values(settled=True))
    at = NOW - days * DAY
    row = {"state": StudyState.READ, "modalities": "CT", "patient_id": f"P{seed}", "calling_ae": "CT1", "instances": 2}
    add_study(node.database, uid, **(row | {"first_instance_at": at, "last_instance_at": at} | values))
    add_job(node.database, uid, state="done")
    return uid


def turn(node: Node, settings: Settings) -> list[str]:
    """The studies whose images went."""
    going = [c.study_uid for c in retention.plan(node.database, settings, NOW) if not c.kept]
    assert retention.turn(node.database, settings, NOW) == len(going)
    return going


def on_disk(node: Node, uid: str) -> int:
    return len(list((node.settings.data / "objects" / uid).rglob("*.dcm")))


def test_old_images_go_and_the_story_says_so(node: Node) -> None:
    old, young = study(node, days=10), study(node, days=5, seed=1)
    assert turn(node, settings_of(node, keep_days=7)) == [old]
    assert (on_disk(node, old), on_disk(node, young)) == (0, 2)
    with node.database.reading() as session:
        said = of_study(session, old)[-1]
    assert said.action == "let-go" and "2 images" in said.sentence and "kept 7 days by default" in said.sentence
    assert turn(node, settings_of(node, keep_days=7)) == []  # told once


def test_without_a_rule_nothing_goes(node: Node) -> None:
    study(node, days=4000)
    assert retention.plan(node.database, settings_of(node), NOW) == ()


def owe(node: Node, uid: str, state: DeliveryState) -> None:
    job = add_job(node.database, uid, "ct-voco", state="done")
    record(node.database, node.settings.data, job, [dicom_result("sr", uid, "x")], (PACS,))
    with node.database.transaction() as session:
        session.execute(update(DeliveryRow).where(DeliveryRow.study_uid == uid).values(state=state))


def hinder(node: Node, uid: str, what: str) -> None:
    """Something of the study is still to be done."""
    if what in ("owed", "dead"):
        owe(node, uid, DeliveryState(what))
    elif what in ("queued", "running", "failed", "held"):
        add_job(node.database, uid, "ct-voco", state=what)
    elif what == "promised":
        asked = request(node, uid)
        assert len(commit_requests.judge(node.database, node.settings.data, asked, NOW).committed) == 2
    elif what == "patient":
        study(node, days=0, seed=50, patient_id="P10", state=StudyState.ROUTED)
    else:
        with node.database.transaction() as session:
            if what == "state":
                session.execute(update(StudyRow).where(StudyRow.study_uid == uid).values(state=StudyState.ROUTED))
            elif what == "unsettled":
                session.execute(update(InstanceRow).where(InstanceRow.study_uid == uid).values(settled=False))
            elif what == "sending":
                session.add(SendingRow(association="a", study_uid=uid, slot=0, alive_until=NOW + 1))
            elif what == "shadow":
                run = {"revision": 1, "model": "m", "version": "2", "state": JobState.QUEUED, "created_at": 0.0}
                session.add(ShadowRow(study_uid=uid, **run))


def request(node: Node, uid: str) -> commit_requests.Request:
    """Another system asks whether the node keeps the images of a study."""
    with node.database.reading() as session:
        found = session.query(InstanceRow).filter_by(study_uid=uid).all()
    named = {row.sop_uid: row.sop_class_uid for row in found}
    return commit_requests.Request(
        transaction_uid="1.2.3.9", calling_ae="CT1", called_ae="RADNODE", address="127.0.0.1", named=named
    )


HINDRANCES = (
    "owed", "dead", "queued", "running", "failed", "held", "state", "unsettled", "sending", "shadow", "patient", "promised",
)  # fmt: skip


def test_nothing_goes_while_something_is_still_to_be_done(node: Node) -> None:
    uids = {what: study(node, days=4000, seed=n) for n, what in enumerate(HINDRANCES)}
    for what, uid in uids.items():
        hinder(node, uid, what)
    settings = settings_of(node, keep_days=1, free_mb=10**9)
    found = {c.study_uid: c for c in retention.plan(node.database, settings, NOW)}
    for what, uid in uids.items():
        assert found[uid].kept, what
        assert not retention.let_go(node.database, settings, replace(found[uid], kept=""), NOW)  # it came in between
    assert len({found[uid].kept for uid in uids.values()}) == 9  # a reason of its own for each kind
    assert turn(node, settings) == [] and {on_disk(node, uid) for uid in uids.values()} == {2}


def test_what_can_never_end_holds_nothing_up_and_the_story_says_so(node: Node) -> None:
    """A receiving process that is no more, a destination that was taken out of the settings, a result that was superseded."""
    silent, nowhere, old = (study(node, days=10, seed=n) for n in range(3))
    with node.database.transaction() as session:
        session.add(SendingRow(association="a", study_uid=silent, slot=17, alive_until=NOW - 1))
    owe(node, nowhere, DeliveryState.OWED)
    owe(node, old, DeliveryState.DEAD)
    settings = settings_of(node, keep_days=1)
    assert {c.study_uid for c in retention.plan(node.database, settings, NOW) if c.kept} == {nowhere, old}
    with node.database.transaction() as session:
        session.execute(update(ResultRow).where(ResultRow.study_uid == old).values(current=False))
    without = settings.model_copy(update={"destinations": ()})
    assert set(turn(node, without)) == {silent, nowhere, old}
    told = node.story(nowhere).events[-1].sentence
    assert told.endswith("Results are still owed to pacs, which is no destination any more: that held them no longer.")
    assert "owed" not in node.story(silent).events[-1].sentence


def test_what_was_delivered_or_withdrawn_holds_nothing_up(node: Node) -> None:
    uid = study(node)
    owe(node, uid, DeliveryState.DELIVERED)
    assert turn(node, settings_of(node, keep_days=1)) == [uid]


def test_the_node_commits_to_nothing_that_it_let_go(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = study(node)
    asked, settings = request(node, uid), settings_of(node, keep_days=1)
    with monkeypatch.context() as slow:
        slow.setattr(retention, "delete_files", lambda *_: None)  # the rows say so already, the files still lie there
        assert turn(node, settings) == [uid]
    assert on_disk(node, uid) == 2
    said = commit_requests.judge(node.database, settings.data, asked, NOW)
    assert not said.committed and {reason for _, reason in said.failed.values()} == {0x0112}
    with node.database.reading() as session:
        assert session.query(PromiseRow).count() == 0


def test_what_goes_while_its_files_are_read_is_not_committed_to(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = study(node)
    asked, settings = request(node, uid), settings_of(node, keep_days=1)
    look = commit_requests.digest
    done: list[str] = []

    def go_meanwhile(file: Path) -> str:
        found = look(file)
        if len(done) == 1 and len(asked.named) == 2:  # both were read
            retention.turn(node.database, settings, NOW)
        done.append(found)
        return found

    monkeypatch.setattr(commit_requests, "digest", go_meanwhile)
    said = commit_requests.judge(node.database, settings.data, asked, NOW)
    assert len(done) == 2 and on_disk(node, uid) == 0
    assert not said.committed and {reason for _, reason in said.failed.values()} == {0x0112}


def test_the_first_rule_that_fits_decides_and_0_days_means_for_ever(node: Node) -> None:
    teaching, mr, ct = study(node, calling_ae="TEACH"), study(node, seed=1, modalities="MR\\SR"), study(node, seed=2)
    rules = (
        RetentionRule(name="teaching", calling_aes=("TEACH",), keep_days=0),
        RetentionRule(name="mr", modalities=("MR",), keep_days=3),
    )
    settings = settings_of(node, keep_days=30, rules=rules, free_mb=0)
    found = retention.plan(node.database, settings, NOW)
    assert [(c.study_uid, c.why) for c in found] == [(mr, "kept 3 days by the rule mr")]
    low = settings_of(node, rules=rules, free_mb=10**9)
    assert {c.study_uid for c in retention.plan(node.database, low, NOW)} == {mr, ct} - {teaching}


def test_the_watermark_takes_the_oldest_until_enough_is_free(node: Node) -> None:
    uids = [study(node, days=30 - n, seed=n) for n in range(4)] + [study(node, days=0.5, seed=9)]
    settings = settings_of(node, free_mb=100)
    one = retention.plan(node.database, settings, NOW, free_bytes=100 * 10**6 - 1)
    assert [c.study_uid for c in one] == uids[:1]  # one study is more than the byte that was missing
    assert retention.plan(node.database, settings, NOW, free_bytes=100 * 10**6) == ()
    every = retention.plan(node.database, settings, NOW, free_bytes=0)
    assert [c.study_uid for c in every] == uids[:4]  # the young one stays


def test_an_image_that_comes_again_is_kept_and_a_part_of_a_study_is_never_read(node: Node) -> None:
    uid = study(node)
    store = Store(node.settings, Database(node.settings.url))
    sent = [(arrival, data) for arrival, data in resend(store, uid)]
    settings = settings_of(node, keep_days=1)
    assert turn(node, settings) == [uid]
    assert recover(store, store.database, everything=True).missing == ()  # nothing is reported as lost
    with pytest.raises(RefusedError, match="were let go"):
        jobs.rerun(node.database, uid, "", time.time())
    store.put(sent[0][0], [sent[0][1]])
    route_again(node, settings, uid)
    with node.database.reading() as session:
        assert complete.input_files(session, uid) == ()
        reason = session.query(RouteRow.reason).filter_by(study_uid=uid, revision=2).scalar()
    assert reason == "1 of its images were let go earlier: it is read when they were sent again."
    store.put(sent[1][0], [sent[1][1]])
    route_again(node, settings, uid)
    with node.database.reading() as session:
        assert len(complete.input_files(session, uid)) == 2
    assert len(files(store)) == 2 and len([r for r in rows(store) if r.gone_at is None]) == 2
    retention.sweep(node.database, settings)
    assert len(files(store)) == 2
    store.close()


def test_a_result_that_came_back_and_was_let_go_is_no_image_that_the_study_lacks(node: Node) -> None:
    uid = study(node)
    store = Store(node.settings, Database(node.settings.url))
    sent = resend(store, uid)
    job = add_job(node.database, uid, model="m")
    (own,) = record(node.database, node.settings.data, job, [dicom_result("sr", uid, "A")])
    came_back = pydicom.dcmread(own.path)
    store.put(arrival_of(came_back), [encoded(came_back)])
    settings = settings_of(node, keep_days=1)
    pipeline.settle(node.database, settings, since=0.0)
    assert turn(node, settings) == [uid] and on_disk(node, uid) == 0
    for arrival, data in sent:
        store.put(arrival, [data])
    route_again(node, settings, uid)
    add_job(node.database, uid, model="m", revision=2)
    assert jobs.rerun(node.database, uid, "m", time.time()) == ("m",)
    store.close()


def resend(store: Store, uid: str) -> list[tuple[object, bytes]]:
    """What came before, to be sent again: (arrival, data set)."""
    found = [pydicom.dcmread(store.data / r.file) for r in rows(store) if r.study_uid == uid]
    return [(arrival_of(ds), encoded(ds)) for ds in found]


def route_again(node: Node, settings: Settings, uid: str) -> None:
    quick = settings.model_copy(update={"complete": settings.complete.model_copy(update={"quiet_s": 0.0})})
    pipeline.settle(node.database, quick, since=0.0)
    assert pipeline.complete(node.database) == (uid,)
    assert [u for u, _ in complete_studies(node.database)] == [uid]
    assert pipeline.route(node.database, quick, ()) == 1


def test_files_that_a_crash_left_behind_go_at_the_next_start(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = study(node)
    settings = settings_of(node, keep_days=1)
    with monkeypatch.context() as crash:
        crash.setattr(retention, "delete_files", lambda *_: None)
        retention.turn(node.database, settings, NOW)
    assert on_disk(node, uid) == 2
    store = Store(settings, Database(settings.url))
    assert recover(store, store.database, everything=True).indexed == 0  # they are not taken back
    store.close()
    retention.sweep(node.database, settings)
    assert on_disk(node, uid) == 0


def test_an_object_that_is_just_arriving_is_not_deleted(node: Node) -> None:
    uid = study(node)
    store = Store(node.settings, Database(node.settings.url))
    ((arrival, data), _) = resend(store, uid)
    turn(node, settings_of(node, keep_days=1))
    upload = store.begin(arrival)  # type: ignore[arg-type]
    upload.write(data)
    linked = store.data / next(r.file for r in rows(store) if r.sop_uid == arrival.sop_uid)  # type: ignore[attr-defined]
    linked.parent.mkdir(parents=True, exist_ok=True)
    linked.hardlink_to(upload._name)  # as it stands between its name and its row
    retention.delete_files(node.database, store.data, uid)
    assert linked.is_file()
    linked.unlink()
    upload.discard()
    store.close()


def test_an_image_that_comes_while_its_study_is_let_go_stays(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = study(node)
    late, kept_because = image(seed=7, StudyInstanceUID=uid), retention.kept_because

    def receive() -> None:
        store = Store(node.settings, Database(node.settings.url))
        store.put(arrival_of(late), [encoded(late)])
        store.close()

    sender = threading.Thread(target=receive)

    def looked(session: Session, row: StudyRow, places: frozenset[str], now: float) -> str:
        why = kept_because(session, row, places, now)
        sender.start()  # PostgreSQL: from here on another transaction may commit
        sender.join(0.5)
        return why

    candidates = retention.plan(node.database, settings_of(node, keep_days=1), NOW)
    monkeypatch.setattr(retention, "kept_because", looked)
    for candidate in candidates:
        retention.let_go(node.database, node.settings, candidate, NOW)
    sender.join()
    with node.database.reading() as session:
        row = session.scalars(select(InstanceRow).where(InstanceRow.sop_uid == late.SOPInstanceUID)).one()
    assert row.gone_at is None and (node.settings.data / row.file).is_file()


def test_retention_waits_for_a_backup(node: Node) -> None:
    study(node)
    with retention.nothing_is_deleted(node.settings.data, "backup"), pytest.raises(RefusedError, match="a backup is"):
        retention.turn(node.database, settings_of(node, keep_days=1), NOW)


def test_the_command_deletes_only_when_told_to(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = study(node, days=4000)
    file = tmp_path / "radnode.toml"
    file.write_text(
        f'data = "{node.settings.data}"\ndatabase_url = "{node.settings.database_url}"\n[retention]\nkeep_days = 30\n'
    )
    monkeypatch.setenv("RADNODE_CONFIG", str(file))
    said = CliRunner().invoke(cli, ["retention"])
    assert said.exit_code == 0 and f"{uid}: 2 images" in said.output and "Nothing was deleted" in said.output
    assert on_disk(node, uid) == 2
    (node.settings.data / "run" / "clock.json").write_text('{"seen": 1.0}')
    doubted = CliRunner().invoke(cli, ["retention", "--delete"])
    assert doubted.exit_code == 1 and "is it right?" in doubted.output
    assert on_disk(node, uid) == 2
    done = CliRunner().invoke(cli, ["retention", "--delete", "--clock-is-right"])
    assert done.exit_code == 0 and "1 studies' images were deleted" in done.output
    assert on_disk(node, uid) == 0


def test_others_write_while_the_files_of_a_large_study_go(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow disk they take long; what waits for the database would be refused meanwhile."""
    uid = study(node)
    with node.database.transaction() as session:
        session.execute(update(InstanceRow).values(gone_at=1.0))
        names = session.scalars(select(InstanceRow.file)).all()
    assert len(names) > 1
    order: list[str] = []

    def write() -> None:
        with node.database.transaction() as session:
            session.execute(update(InstanceRow).values(gone_at=2.0))
        order.append("written")

    writer = threading.Thread(target=write)

    def slowly(file: Path) -> None:
        if not order:
            writer.start()
        order.append(file.name)
        time.sleep(0.2)
        file.unlink()

    monkeypatch.setattr(retention, "AT_ONCE", 1)
    monkeypatch.setattr(retention, "PAUSE_S", 5.0)
    monkeypatch.setattr(retention, "delete_unless_arriving", slowly)
    retention.delete_files(node.database, node.settings.data, uid)
    writer.join(60)
    assert order.index("written") < len(names) and on_disk(node, uid) == 0
