"""A node of one's own as a child process: for the demo, the tests and the benchmarks."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import httpx

START_S = 180.0  # on a machine that is busy with other things
STOP_S = 20.0


class NodeError(Exception):
    """The node did not start, or ended by itself; the message holds the end of its log."""


def toml(value: object) -> str:
    """A value as TOML writes it: strings, numbers, booleans, paths, lists, and mappings as inline tables."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(v)}" for key, v in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)


class NodeProcess:
    """`radnode ROLE` in a folder of its own, on ports that the system gives; use as a context manager.

    data: its data folder. http: a client of its page and API. receive_port, web_port: where it listens.
    settings: keys of radnode.toml, sections as mappings. environment: added to this process's.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, object], *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.settings = {"data": self.data} | dict(settings)
        self.environment = dict(environment or {})
        self.http = httpx.Client(timeout=60.0)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "NodeProcess":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.http.close()

    @property
    def receive_port(self) -> int:
        return self._port("receive")

    @property
    def web_port(self) -> int:
        return self._port("web")

    @property
    def log(self) -> str:
        """The last 6,000 characters that the node wrote."""
        file = self.folder / "node.log"
        return file.read_text(errors="replace")[-6000:] if file.exists() else ""

    def start(self, role: str = "serve") -> None:
        """Start it and wait until it listens. Raises NodeError."""
        for stale in (self.data / "run").glob("*.port"):
            stale.unlink()
        self.process = self.launch(role)
        if role in ("serve", "receive"):
            self._wait("receive")
        if role in ("serve", "web"):
            self._wait("web")
            self.http.base_url = httpx.URL(f"http://127.0.0.1:{self.web_port}")
            self._wait_ready()

    def launch(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `radnode ARGUMENTS` with these settings, its output in the log; does not wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "node.log").open("ab") as log:
            return subprocess.Popen(
                [self.program(), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.variables(),
                cwd=self.folder,
                start_new_session=True,
            )

    def run(self, *arguments: str, timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run `radnode ARGUMENTS` with these settings to its end."""
        return subprocess.run(
            [self.program(), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.variables(),
            cwd=self.folder,
            timeout=timeout_s,
            check=False,
        )

    @staticmethod
    def program() -> str:
        return str(Path(sys.executable).parent / "radnode")

    def variables(self) -> dict[str, str]:
        """The environment of the node: this process's without RADNODE_ variables, and where its settings stand."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "radnode.toml"
        file.write_text("".join(f"{key} = {toml(value)}\n" for key, value in self.settings.items()))
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RADNODE_")}
        return inherited | {"RADNODE_CONFIG": str(file), "TCP_NODELAY": "1"} | self.environment

    def stop(self) -> None:
        """Ask it to end, wait, and end whatever it left behind."""
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
        kill_group(process)

    def kill(self) -> None:
        """SIGKILL to it and every process that it started, as a power cut would."""
        process, self.process = self.process, None
        if process is not None:
            kill_group(process)

    def _port(self, role: str) -> int:
        return int((self.data / "run" / f"{role}.port").read_text())

    def _wait(self, role: str) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            try:
                self._port(role)
                return
            except (FileNotFoundError, ValueError):
                self._alive()
                time.sleep(0.05)
        raise NodeError(f"the role {role} did not listen within {START_S:.0f} s:\n{self.log}")

    def _wait_ready(self) -> None:
        end = time.monotonic() + START_S
        answer = "nothing"
        while time.monotonic() < end:
            try:
                got = self.http.get("/readyz")
                if got.status_code == 200:
                    return
                answer = got.text
            except httpx.TransportError as e:
                answer = str(e)
            self._alive()
            time.sleep(0.1)
        raise NodeError(f"the node was not ready within {START_S:.0f} s; it said {answer}\n{self.log}")

    def _alive(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            raise NodeError(f"the node ended with {self.process.returncode}:\n{self.log}")


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all others of its session; nothing when none is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
