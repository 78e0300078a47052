"""Backup and restore: every row and file, of both kinds of database and across them, and never over something else."""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import select, text
from support.filled import Filled, fill
from support.postgres import Postgres

from radnode import backup, migrations, restore, start
from radnode.cli import cli
from radnode.database import Database
from radnode.errors import RefusedError, SettingsError
from radnode.events import of_study
from radnode.settings import Settings
from radnode.tables import EventRow, InstanceRow, ResultRow, Table
from radnode.tables_pacs import PromiseRow


def filled(folder: Path, url: str = "") -> Filled:
    """A node after a morning's work, with the schema as a real one has it."""
    (folder / "data").mkdir(parents=True)
    migrations.upgrade(url or Settings(data=folder / "data").url)
    weights = folder / "data" / "weights" / "ct-voco" / "1" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    (folder / "data" / "run").mkdir(exist_ok=True)
    (folder / "data" / "run" / "receive.port").write_text("1\n")
    made = fill(folder, database_url=url)
    with made.database.transaction() as session:  # the node committed itself to keep this one
        session.add(PromiseRow(study_uid=made.normal, calling_ae="CT1", at=1.0))
    return made


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Never changed by a test."""
    made = filled(tmp_path_factory.mktemp("filled"))
    made.database.close()
    yield made


def contents(url: str) -> dict[str, list[dict[str, object]]]:
    """Every row of every table, but for what a restore itself tells."""
    database = Database(url)
    try:
        with database.engine.connect() as connection:
            return {
                t.name: [dict(r) for r in connection.execute(select(t).order_by(*t.primary_key)).mappings()]
                for t in Table.metadata.sorted_tables
            }
    finally:
        database.close()


def restored(source: Path, data: Path, monkeypatch: pytest.MonkeyPatch, url: str = "") -> Settings:
    """Restore as the command does, into a data folder of its own."""
    file = data.parent / f"{data.name}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"data = {json.dumps(str(data))}\ndatabase_url = {json.dumps(url)}\n")
    monkeypatch.setenv("RADNODE_CONFIG", str(file))
    return restore.restore(source)[0]


@pytest.mark.parametrize("name", ["backup.tar", "backup"])
def test_a_backup_restores_every_row_and_file(
    node: Filled, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(node.settings.url)
    made = backup.backup(node.settings, tmp_path / name, all_images=True)
    assert made.rows["results"] == len(before["results"]) > 0
    assert (tmp_path / name).stat().st_mode & 0o077 == 0
    settings = restored(tmp_path / name, tmp_path / "again" / "data", monkeypatch)
    assert contents(settings.url) == before
    assert (settings.data / "weights/ct-voco/1/model.safetensors").read_bytes() == b"weights"
    assert not (settings.data / "run" / "receive.port").exists()
    for table in (ResultRow, InstanceRow):
        for row in before[table.__tablename__]:
            old, new = node.settings.data / str(row["file"]), settings.data / str(row["file"])
            assert new.read_bytes() == old.read_bytes()
    assert not (settings.data / ".restore").exists()


def test_a_node_moves_from_sqlite_to_postgresql_and_back(
    node: Filled, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(node.settings.url)
    backup.backup(node.settings, tmp_path / "one.tar", all_images=True)
    moved = restored(tmp_path / "one.tar", tmp_path / "pg" / "data", monkeypatch, postgres.new_database())
    assert contents(moved.url) == before
    database = Database(moved.url)
    with database.transaction() as session:  # the sequences go on behind the highest number
        session.add(EventRow(study_uid="1.2", at=0.0, action="told", sentence="Later."))
        session.flush()
        assert session.scalar(text("SELECT max(id) FROM events")) == max(e["id"] for e in before["events"]) + 1  # type: ignore[type-var,operator]
        session.rollback()
    database.close()
    backup.backup(moved, tmp_path / "two", all_images=True)
    back = restored(tmp_path / "two", tmp_path / "back" / "data", monkeypatch)
    assert contents(back.url) == before


def test_images_that_a_backup_leaves_out_are_told_on_their_studies(
    node: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup.backup(node.settings, tmp_path / "small.tar", all_images=False)
    settings = restored(tmp_path / "small.tar", tmp_path / "again" / "data", monkeypatch)
    database = Database(settings.url)
    with database.reading() as session:
        rows = session.scalars(select(InstanceRow).where(InstanceRow.study_uid == node.lesion)).all()
        assert rows and all(r.gone_at is not None for r in rows)
        said = of_study(session, node.lesion)[-1].sentence
        promised = session.scalars(select(InstanceRow).where(InstanceRow.study_uid == node.normal)).all()
        assert promised and all(r.gone_at is None and (settings.data / r.file).is_file() for r in promised)
    database.close()
    assert f"without its {len(rows)} images" in said


def test_an_image_that_the_disk_lost_keeps_no_other_from_being_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = filled(tmp_path / "node")
    with made.database.reading() as session:
        lost = session.scalars(select(InstanceRow).where(InstanceRow.study_uid == made.normal).limit(1)).one()
    made.database.close()
    (made.settings.data / lost.file).unlink()
    monkeypatch.setenv("RADNODE_DATA", str(made.settings.data))
    said = CliRunner().invoke(cli, ["backup", "--images", str(tmp_path / "b.tar")])
    assert said.exit_code == 0 and "1 images are not in it: the disk had lost them" in said.output
    monkeypatch.delenv("RADNODE_DATA")
    settings = restored(tmp_path / "b.tar", tmp_path / "again" / "data", monkeypatch)
    database = Database(settings.url)
    with database.reading() as session:
        of_it = select(InstanceRow).where(InstanceRow.study_uid == made.normal)
        assert [r.file for r in session.scalars(of_it) if r.gone_at is not None] == [lost.file]
    database.close()


def test_a_restore_overwrites_nothing(node: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(node.settings.url)
    backup.backup(node.settings, tmp_path / "b.tar", all_images=True)
    with pytest.raises(RefusedError, match="not empty"):
        restored(tmp_path / "b.tar", node.settings.data, monkeypatch)
    with pytest.raises(RefusedError, match="the database is not empty"):
        restored(tmp_path / "b.tar", tmp_path / "other" / "data", monkeypatch, node.settings.url)
    assert contents(node.settings.url) == before
    with pytest.raises(RefusedError, match="is there already"):
        backup.backup(node.settings, tmp_path / "b.tar", all_images=True)


def damage(folder: Path, how: str) -> None:
    if how == "missing":
        next((folder / "data" / "results").rglob("*.dcm")).unlink()
    elif how == "changed":
        file = next((folder / "data" / "results").rglob("*.dcm"))
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    elif how == "extra":
        (folder / "data" / "weights" / "evil.py").write_text("")
    elif how == "unnamed":  # so that nothing would hold the database to what was written
        sums = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
        (folder / "SHA256SUMS").write_text("".join(line for line in sums if "  database.db" not in line))
    else:
        (folder / "manifest.json").unlink()


def test_weights_outside_the_data_folder_are_not_overwritten_by_others(
    node: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup.backup(node.settings, tmp_path / "b", all_images=False)
    weights = tmp_path / "shared" / "ct-voco" / "1" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    (tmp_path / "node.toml").write_text(f'data = "{tmp_path / "data"}"\nweights = "{tmp_path / "shared"}"\n')
    monkeypatch.setenv("RADNODE_CONFIG", str(tmp_path / "node.toml"))
    weights.write_bytes(b"others")
    with pytest.raises(RefusedError, match=r"holds another ct-voco/1/model\.safetensors than the backup"):
        restore.restore(tmp_path / "b")
    assert weights.read_bytes() == b"others"
    assert {p.name for p in (tmp_path / "data").iterdir()} <= {"run", "radnode.db"}
    weights.write_bytes(b"weights")
    restore.restore(tmp_path / "b")
    assert weights.read_bytes() == b"weights"


@pytest.mark.parametrize("how", ["missing", "changed", "extra", "unnamed", "unfinished"])
def test_a_damaged_backup_is_refused_before_anything_changes(
    node: Filled, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup.backup(node.settings, tmp_path / "b", all_images=False)
    damage(tmp_path / "b", how)
    data = tmp_path / "again" / "data"
    with pytest.raises(RefusedError, match="backup"):
        restored(tmp_path / "b", data, monkeypatch)
    left = {p.name for p in data.iterdir()} if data.exists() else set()
    assert left <= {"run", "radnode.db"}


@pytest.mark.parametrize("name", ["../beside", "/beside", "data/link", "data/device"])
def test_what_no_backup_holds_is_refused_before_anything_changes(
    name: str, node: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup.backup(node.settings, tmp_path / "b.tar", all_images=False)
    with tarfile.open(tmp_path / "b.tar", "a") as tar:
        entry = tarfile.TarInfo(f"{tmp_path}/beside" if name == "/beside" else name)
        entry.linkname, kinds = "/etc/passwd", {"data/link": tarfile.SYMTYPE, "data/device": tarfile.CHRTYPE}
        entry.type = kinds.get(name, tarfile.REGTYPE)
        tar.addfile(entry)
    data = tmp_path / "again" / "data"
    with pytest.raises(RefusedError, match="holds what no backup does"):
        restored(tmp_path / "b.tar", data, monkeypatch)
    assert {p.name for p in data.iterdir()} <= {"run", "radnode.db"}
    assert not (tmp_path / "beside").exists()


def test_a_restore_wants_nothing_that_the_python_of_debian_12_has_not(
    node: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`filter` came with 3.11.4."""

    def of_3_11_2(
        tar: tarfile.TarFile, path: Path = Path(), members: None = None, *, numeric_owner: bool = False
    ) -> None:
        raise AssertionError("this would take out whatever the file says")

    monkeypatch.setattr(tarfile.TarFile, "extractall", of_3_11_2)
    backup.backup(node.settings, tmp_path / "b.tar", all_images=True)
    settings = restored(tmp_path / "b.tar", tmp_path / "again" / "data", monkeypatch)
    weights = Path("weights/ct-voco/1/model.safetensors")
    assert (settings.data / weights).stat().st_mtime == int((node.settings.data / weights).stat().st_mtime)
    assert (settings.data / weights).stat().st_mode & 0o777 == 0o640


def test_a_backup_of_a_newer_version_is_refused_with_a_sentence(
    node: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup.backup(node.settings, tmp_path / "b", all_images=False)
    database = Database(f"sqlite:///{tmp_path / 'b' / 'database.db'}")
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'from-the-future'"))
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
    database.close()
    sums = (tmp_path / "b" / "SHA256SUMS").read_text().splitlines()
    digest = hashlib.sha256((tmp_path / "b" / "database.db").read_bytes()).hexdigest()
    changed = [f"{digest}  database.db" if line.endswith("  database.db") else line for line in sums]
    (tmp_path / "b" / "SHA256SUMS").write_text("\n".join(changed) + "\n")
    with pytest.raises(SettingsError, match="from-the-future"):
        restored(tmp_path / "b", tmp_path / "again" / "data", monkeypatch)


def test_a_restore_that_was_killed_lets_no_role_start_and_is_begun_anew(
    node: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(node.settings.url)
    backup.backup(node.settings, tmp_path / "b.tar", all_images=True)
    data = tmp_path / "again" / "data"

    class KilledError(BaseException):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as dying:
        dying.setattr(restore, "fill", killed)
        with pytest.raises(KilledError):
            restored(tmp_path / "b.tar", data, monkeypatch)
    assert (data / "results").is_dir()  # it died in the middle
    with pytest.raises(SettingsError, match="has not ended"):
        start.make_data_folder(Settings(data=data))
    settings = restored(tmp_path / "b.tar", data, monkeypatch)
    assert contents(settings.url) == before
    start.make_data_folder(settings)


def test_the_settings_of_a_backup_take_the_place_of_missing_ones(
    node: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there" / "radnode.toml"
    there.parent.mkdir()
    there.write_text(f"data = {json.dumps(str(tmp_path / 'new'))}\n[complete]\nquiet_s = 7.5\n")
    monkeypatch.setenv("RADNODE_CONFIG", str(there))
    backup.backup(node.settings, tmp_path / "b.tar", all_images=True)
    there.unlink()
    settings, _ = restore.restore(tmp_path / "b.tar")
    assert settings.complete.quiet_s == 7.5
    assert there.stat().st_mode & 0o077 == 0
    assert contents(settings.url)["results"]


def test_the_commands_say_what_they_did(node: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADNODE_DATA", str(node.settings.data))
    made = CliRunner().invoke(cli, ["backup", str(tmp_path / "b.tar")])
    assert made.exit_code == 0 and "images of open studies" in made.output, made.output
    told = contents(node.settings.url)["audit"][-1]
    assert (told["kind"], told["action"]) == ("exported", "radnode backup") and "open studies" in str(told["detail"])
    again = CliRunner().invoke(cli, ["restore", str(tmp_path / "b.tar")])
    assert again.exit_code == 1 and "not empty" in again.output
    monkeypatch.setenv("RADNODE_DATA", str(tmp_path / "data"))
    done = CliRunner().invoke(cli, ["restore", str(tmp_path / "b.tar")])
    assert done.exit_code == 0 and str(tmp_path / "data") in done.output, done.output
