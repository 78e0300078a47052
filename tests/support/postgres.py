"""PostgreSQL of Debian as the database of a test: its own cluster in a temporary folder, on a free port, never the system's."""

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from support.orthanc import free_ports

PROGRAMS = Path("/usr/lib/postgresql")
START_S = 120.0


class Postgres:
    """A running cluster; use as a context manager. `new_database` gives the URL of an empty database of its own."""

    def __init__(self) -> None:
        versions = sorted(PROGRAMS.glob("*/bin"), key=lambda p: int(p.parent.name))
        if not versions:
            raise AssertionError("PostgreSQL is not installed: apt-get install postgresql")
        self.programs = versions[-1]
        self.folder = Path(tempfile.mkdtemp(prefix="radnode-pg-"))
        (self.port,) = free_ports(1)
        self.user = "postgres" if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Postgres":
        if self.user:
            shutil.chown(self.folder, self.user)
        cluster = str(self.folder / "cluster")
        self._run("initdb", "-D", cluster, "-U", "radnode", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        cluster = str(self.folder / "cluster")
        command = [str(self.programs / "postgres"), "-D", cluster, "-p", str(self.port), "-k", str(self.folder)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=self.user, cwd="/")
        self._wait(self._process)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def new_database(self) -> str:
        """An empty database of its own, as a URL for SQLAlchemy."""
        name = f"radnode_{uuid.uuid4().hex[:12]}"
        self._run("createdb", "-h", str(self.folder), "-p", str(self.port), "-U", "radnode", name)
        return f"postgresql+psycopg://radnode@127.0.0.1:{self.port}/{name}"

    def restart(self) -> None:
        """Cut every connection as a crash does, and start again."""
        with self.away():
            pass

    @contextmanager
    def away(self) -> Iterator[None]:
        """Cut every connection as a crash does (SIGQUIT: immediate shutdown); nobody listens until the end."""
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(3)
        process.wait(60)
        try:
            yield
        finally:
            self._start()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(2)  # SIGINT: fast shutdown
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            capture_output=True,
            text=True,
            user=self.user,
            cwd="/",
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + START_S
        ready = [str(self.programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, capture_output=True, cwd="/", check=False).returncode != 0:
            assert process.poll() is None and time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.1)
