"""`radnode serve`: one process for each role, started, watched, started again, and stopped together.

Truth is in the tables and files: any role may be killed and started again at any time.
"""

import fcntl
import hashlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from radnode.errors import SettingsError
from radnode.node_lock import the_only_node
from radnode.settings import Settings

FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 30.0
"""Before a role is started again: doubled each time, until it has lived for STEADY_S."""
LISTENER_WAIT_S = 1.0
"""At most so long for the receiver: while nobody listens, a study that is being sent looks quiet."""
STEADY_S = 30.0
STOP_S = 15.0
LOOK_S = 0.05
WRONG_SETTINGS = 2  # the exit code of SettingsError: starting again cannot help

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class Role:
    """One child process and when it may start again."""

    name: str
    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = field(default=None)
    started_at: float = 0.0
    start_at: float = 0.0
    worked: bool = False  # it has lived for STEADY_S since the node began
    wait_s: float = FIRST_WAIT_S
    longest_wait_s: float = LONGEST_WAIT_S

    def start(self, now: float) -> None:
        command = [sys.executable, "-m", "radnode", *self.arguments, "--parent", str(os.getpid())]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.started_at = now

    def look(self, now: float) -> None:
        """Start it when it is due; when it ended, decide when it starts again. Raises SettingsError."""
        if self.process is None:
            if now >= self.start_at:
                self.start(now)
            return
        code = self.process.poll()
        if code is None:
            return
        self.process = None
        lived, worked = now - self.started_at > STEADY_S, self.worked
        self.worked = worked or lived
        if code == WRONG_SETTINGS and (lived or not worked):
            raise SettingsError("role", f"The role {self.name} cannot go on.", "Its message stands above.")
        self.wait_s = FIRST_WAIT_S if lived else min(self.wait_s * 2, self.longest_wait_s)
        if code == WRONG_SETTINGS:  # somebody is changing them: the other roles go on with those that they began with
            self.wait_s = LONGEST_WAIT_S
        self.start_at = now + self.wait_s
        log.error(
            "A role ended and is started again.",
            extra={"action": "restart", "role": self.name, "status": code, "wait_s": self.wait_s},
        )


def roles(settings: Settings) -> tuple[Role, ...]:
    return (
        Role(name="receive", arguments=("receive",), longest_wait_s=LISTENER_WAIT_S),
        Role(name="schedule", arguments=("schedule",)),
        *(
            Role(name=f"work {n}", arguments=("work", "--name", worker_name(settings, n)))
            for n in range(settings.work.processes)
        ),
        Role(name="deliver", arguments=("deliver",)),
        Role(name="web", arguments=("web",)),
        *((Role(name="hl7", arguments=("hl7",)),) if settings.hl7.port is not None else ()),
        *((Role(name="narrate", arguments=("narrate",)),) if settings.narrative.url else ()),
    )


def worker_name(settings: Settings, number: int) -> str:
    """The same after every restart, so that a new worker frees at once what the one before it had claimed."""
    node = hashlib.sha256(str(settings.data.resolve()).encode()).hexdigest()[:8]
    return f"{socket.gethostname()}:{node}:{number}"


class Supervisor:
    """Keeps the roles alive until `stop`."""

    def __init__(self, settings: Settings, watched: Sequence[Role]) -> None:
        self._settings = settings
        self._roles = tuple(watched)

    def run(self, stop: threading.Event) -> None:
        """Raises SettingsError when another node serves this data folder or database, or a role says its settings are
        wrong."""
        with the_only_one(self._settings.data), the_only_node(self._settings.url):
            forget_ports(self._settings.data)
            said = False
            try:
                while not stop.wait(LOOK_S):
                    for role in self._roles:
                        role.look(time.monotonic())
                    said = said or self._say()
            finally:
                self._end()

    def _say(self) -> bool:
        """Print where the node listens, once it does."""
        run = self._settings.data / "run"
        try:
            receive, web = int((run / "receive.port").read_text()), int((run / "web.port").read_text())
        except (FileNotFoundError, ValueError):
            return False
        settings = self._settings
        dicom = f"{settings.receive.ae_title} on {settings.receive.host}:{receive}"
        scheme = "http" if settings.web.certificate is None else "https"
        sys.stdout.write(f"radnode listens: DICOM {dicom}, page {scheme}://{settings.web.host}:{web}/\n")
        sys.stdout.flush()
        return True

    def _end(self) -> None:
        """Ask every role to end, and kill those that do not."""
        living = [r.process for r in self._roles if r.process is not None and r.process.poll() is None]
        for process in living:
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in living:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("A role did not end and was killed.", extra={"action": "kill", "pid": process.pid})
                process.kill()
                process.wait()


def the_only_one(data: Path) -> IO[str]:
    """A lock on the data folder, held until it is closed. Raises SettingsError when another process holds it."""
    lock = (data / "run" / "serve.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        lock.close()
        raise SettingsError(
            "already-serving",
            f"Another `radnode serve` uses the data folder {data}.",
            "Stop it, or set another `data`.",
        ) from e
    return lock


def is_served(data: Path) -> bool:
    """Whether `radnode serve` holds this data folder."""
    try:
        with (data / "run" / "serve.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def forget_ports(data: Path) -> None:
    for name in ("receive.port", "web.port", "hl7.port"):
        (data / "run" / name).unlink(missing_ok=True)


def serve(settings: Settings, stop: threading.Event) -> None:
    """Every role of the node, until `stop`."""
    Supervisor(settings, roles(settings)).run(stop)
