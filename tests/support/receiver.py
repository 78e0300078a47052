"""A receiving node of its own process, on a free port, for tests and benchmarks: `with receiver(folder) as node`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from radnode.database import Database
from radnode.settings import Settings, load
from radnode.tables import InstanceRow, Table

PROGRAM = """
import faulthandler, logging, os, signal
from radnode import receive, receive_child, settings, start
if drain := os.environ.get("RECEIVER_DRAIN_S"):
    receive_child.DRAIN_S, receive.STOP_S = float(drain), float(drain) + 5.0
faulthandler.register(signal.SIGUSR1)  # for what does not end: where its threads are
logging.basicConfig(level="INFO")
receive.serve(settings.load(), start.stop_on_signals())
"""
STOP_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """port: where it listens. process: the parent. log: what it wrote on stderr."""

    port: int
    settings: Settings
    database: Database
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def children(self) -> list[int]:
        """The ids of its receiving processes."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in text.split()]

    def rows(self) -> list[InstanceRow]:
        with self.database.reading() as session:
            return list(session.scalars(select(InstanceRow).order_by(InstanceRow.id)))

    def files(self) -> list[Path]:
        """Everything below `objects`, also half-written files."""
        return sorted(p for p in (self.settings.data / "objects").rglob("*") if p.is_file())

    def wait_for_log(self, text: str, timeout_s: float = 60) -> None:
        wait_until(lambda: text in self.log.read_text(), timeout_s, f"{text!r} in the log")


@contextmanager
def receiver(data: Path, *, environment: Mapping[str, str] | None = None, **receive: object) -> Iterator[Receiver]:
    """A running receiver that stops at the end. receive: settings of the section `receive`."""
    variables = {f"RADNODE_RECEIVE_{k.upper()}": str(v) for k, v in receive.items()}
    variables = {
        "RADNODE_RECEIVE_PORT": "0",
        "RADNODE_RECEIVE_HOST": "127.0.0.1",
        "RADNODE_DATA": str(data),
    } | variables
    own = dict(os.environ) | variables | dict(environment or {})
    settings = load(data=data, receive=dict(receive))
    data.mkdir(parents=True, exist_ok=True)
    database = Database(settings.url)
    Table.metadata.create_all(database.engine)
    log = data / "receiver.log"
    with log.open("ab") as errors:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=own, stderr=errors)
    try:
        yield Receiver(
            port=wait_for_port(data, process, log), settings=settings, database=database, process=process, log=log
        )
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGUSR1)
            time.sleep(1)
            raise AssertionError(f"the receiver did not end: {log.read_text()}") from None
        finally:
            process.kill()
            process.wait()
            database.close()


def wait_for_port(data: Path, process: subprocess.Popen[bytes], log: Path) -> int:
    file = data / "run" / "receive.port"

    def ready() -> bool:
        assert process.poll() is None, f"the receiver ended: {log.read_text()}"
        return file.exists()

    wait_until(ready, 120, "the port file")
    return int(file.read_text())


def wait_until(condition: "object", timeout_s: float, what: str) -> None:
    """Wait for a condition; fails with its name."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.02)
