import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from support.postgres import Postgres

from radnode import migrations, node_lock, serve, start
from radnode.errors import SettingsError
from radnode.settings import Settings, Work
from radnode.start import prepare


class Served:
    """`radnode serve` in a folder of its own, on free ports; its log is a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "log"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RADNODE_")}
        self.environment = inherited | {
            "RADNODE_DATA": str(self.data),
            "RADNODE_RECEIVE_PORT": "0",
            "RADNODE_WEB_PORT": "0",
        }
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "radnode", "serve"],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def said(self, sentence: str) -> bool:
        return sentence in self.log.read_text()

    def roles(self) -> dict[str, psutil.Process]:
        """The living child processes by role."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            try:
                line = child.cmdline()
            except psutil.Error:  # it is just ending
                continue
            if "radnode" in line:
                found[line[line.index("radnode") + 1]] = child
        return found


def wait_for(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def gone(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    node = Served(tmp_path)
    try:
        wait_for(lambda: node.said("radnode listens: DICOM RADNODE on 0.0.0.0:") or node.process.poll() is not None)
        assert node.process.poll() is None, node.log.read_text()
        yield node
    finally:
        if node.process.poll() is None:
            node.process.terminate()
            node.process.wait(60)


def test_every_role_is_started_a_dead_one_again_and_all_are_stopped_together(served: Served) -> None:
    before = served.roles()
    assert set(before) == {"receive", "schedule", "work", "deliver", "web"}
    before["schedule"].kill()
    wait_for(lambda: served.roles().get("schedule", before["schedule"]).pid != before["schedule"].pid)
    assert served.said("A role ended and is started again.")
    after = served.roles()
    assert {r: p.pid for r, p in after.items() if r != "schedule"} == {
        r: p.pid for r, p in before.items() if r != "schedule"
    }
    everybody = psutil.Process(served.process.pid).children(recursive=True)
    served.process.terminate()
    assert served.process.wait(60) == 0
    assert gone(everybody)
    assert not (served.data / "run" / "receive.port").exists()


def test_a_second_node_on_the_same_data_is_refused(served: Served) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "radnode", "serve"],
        env=served.environment,
        cwd=served.folder,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert second.returncode == 2
    assert "[already-serving]" in second.stderr
    assert served.process.poll() is None


def test_no_role_outlives_a_supervisor_that_is_killed_and_the_node_starts_again(served: Served) -> None:
    everybody = psutil.Process(served.process.pid).children(recursive=True)
    served.process.send_signal(signal.SIGKILL)
    served.process.wait()
    wait_for(lambda: gone(everybody))
    served.log.unlink()
    served.process = served.start()
    wait_for(lambda: served.said("radnode listens:"))


def test_a_second_node_on_the_same_database_is_refused_and_a_third_follows_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Postgres() as server:
        url = server.new_database()
        with node_lock.the_only_node(url), monkeypatch.context() as hurried:
            hurried.setattr(node_lock, "TAKEN_S", 0.5)
            refused = pytest.raises(serve.SettingsError, match="Another `radnode serve` uses this database")
            with refused, node_lock.the_only_node(url):
                pytest.fail("two nodes hold one database")
        with node_lock.the_only_node(url):
            migrations.upgrade(url)  # as its roles do: under a lock of their own
        with node_lock.the_only_node(url), server.away():
            pass  # its end asks nothing of a database that is gone
        with node_lock.the_only_node(url):
            pass


def test_each_worker_has_the_same_name_after_a_restart_and_no_two_share_one(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "a", work=Work(processes=2))
    other = Settings(data=tmp_path / "b", work=Work(processes=2))
    names = [serve.worker_name(s, n) for s in (settings, other) for n in range(2)]
    assert len(set(names)) == 4
    assert names[:2] == [serve.worker_name(settings, n) for n in range(2)]
    assert [r.name for r in serve.roles(settings)] == ["receive", "schedule", "work 0", "work 1", "deliver", "web"]


def test_a_role_that_keeps_ending_is_started_ever_later() -> None:
    role = serve.Role(name="x", arguments=("--no-such-option",))
    waits = []
    now = 100.0
    for _ in range(9):
        role.process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
        role.process.wait()
        role.started_at = now
        role.look(now)
        waits.append(role.start_at - now)
        now = role.start_at
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (pytest.approx(0.5), pytest.approx(30.0))


def end(role: serve.Role, code: int, *, lived_s: float) -> None:
    role.process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
    role.process.wait()
    role.started_at = 100.0
    role.look(100.0 + lived_s)


def test_a_role_whose_settings_are_wrong_stops_the_node() -> None:
    with pytest.raises(serve.SettingsError, match="role x cannot go on"):
        end(serve.Role(name="x", arguments=()), 2, lived_s=1.0)


def test_settings_that_are_being_changed_stop_no_node_that_works() -> None:
    """A worker was killed while somebody edited the settings file: the receiver goes on."""
    role = serve.Role(name="x", arguments=(), longest_wait_s=serve.LISTENER_WAIT_S)
    end(role, 1, lived_s=3600.0)
    for _ in range(2):
        end(role, 2, lived_s=1.0)
        assert role.start_at == 101.0 + serve.LONGEST_WAIT_S
    with pytest.raises(serve.SettingsError, match="role x cannot go on"):  # the data folder was removed
        end(role, 2, lived_s=3600.0)


def test_a_database_that_does_not_answer_ends_one_role_for_a_while_and_not_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a supervisor, at the very beginning, it is an error of the settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RADNODE_DATA", str(tmp_path))
    monkeypatch.setenv("RADNODE_FAULT_BUSY_S", "0.01")
    monkeypatch.setattr("radnode.start.die_with_parent", lambda _: None)
    prepare(Settings(data=tmp_path))
    with closing(sqlite3.connect(tmp_path / "radnode.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SystemExit) as ended:
            start.role(1)
        with pytest.raises(SettingsError, match="cannot be used: database is locked"):
            start.role(None)
        other.execute("ROLLBACK")
    assert ended.value.code == 1 != serve.WRONG_SETTINGS
