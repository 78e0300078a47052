"""A loop that fails waits longer each time and says so once; a process ends with the place where everything is kept."""

import logging
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from radnode.patience import LONGEST_S, Patience

AWAY = OperationalError("SELECT 1", {}, Exception("connection refused\nDETAIL: of a patient"))


def test_each_failure_in_a_row_waits_longer_and_only_the_first_is_told(caplog: pytest.LogCaptureFixture) -> None:
    patience = Patience("The test", "test")
    waits = [patience.failed(AWAY) for _ in range(8)]
    assert waits == sorted(waits) and waits[:3] == [0.5, 1.0, 2.0] and waits[-1] == LONGEST_S
    assert patience.waits
    assert [r.getMessage() for r in caplog.records] == [
        "The test: it fails and is tried again, ever more seldom "
        "(OperationalError: (builtins.Exception) connection refused)."
    ]


def test_an_error_nobody_expects_is_told_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    patience = Patience("The test", "test")
    patience.failed(AWAY)
    try:
        raise ZeroDivisionError
    except ZeroDivisionError as e:
        patience.failed(e)
    assert len(caplog.records) == 2 and "Traceback" in caplog.text


def test_after_a_success_a_failure_waits_shortly_and_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    patience = Patience("The test", "test")
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            patience.failed(AWAY)
        patience.worked()
        patience.worked()
        assert not patience.waits
        assert patience.failed(AWAY) == 0.5
    assert [r.levelname for r in caplog.records] == ["ERROR", "INFO", "ERROR"]


@pytest.mark.parametrize("what", ["the data folder", "the database", "everything, made anew"])
def test_a_role_ends_with_a_clear_line_when_its_data_is_gone(what: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    log = tmp_path / "log"
    program = "from radnode import start; import threading; start.role(None); print('ready', flush=True); threading.Event().wait()"
    environment = {"RADNODE_DATA": str(data), "PATH": "/usr/bin:/bin"}
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-c", program], env=environment, cwd=tmp_path, stdout=written, stderr=written
        )
    try:
        end = time.monotonic() + 60
        while "ready" not in log.read_text():
            assert time.monotonic() < end and process.poll() is None, log.read_text()
            time.sleep(0.05)
        if what == "the database":
            (data / "radnode.db").unlink()
        else:
            shutil.rmtree(data)
        if what == "everything, made anew":
            (data / "run").mkdir(parents=True)
            (data / "radnode.db").touch()
        assert process.wait(60) == 2
    finally:
        process.kill()
        process.wait()
    assert "was removed or replaced: this process ends." in log.read_text()
    assert len(log.read_text().splitlines()) < 10
