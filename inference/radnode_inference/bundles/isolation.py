"""A program run in isolation: what it may see and take, watched from outside. The way in is `isolation_child`. No torch."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from radnode_inference.bundles.isolation_child import REFUSED

PACKAGE = Path(__file__).resolve().parent.parent
PYTHON = ("bin", "lib", "lib64", "pyvenv.cfg")
"""Of an environment: beside them a site may keep the node's settings and data."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
SYSTEM = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/proc/cpuinfo",
    "/sys/devices/system/cpu",
)
MIB = 1 << 20
OTHERS = 1 << 30
"""Pages that processes share and that none of those alive has touched count for none of them; the machine counts them, together with
what other programs take meanwhile, which gets so many bytes."""
LOOK_S = 0.1
KEPT_WORDS = 4096


class IsolationError(RuntimeError):
    """The program was not run, or was ended; the sentence says why."""


class NoIsolationError(IsolationError):
    """This machine cannot isolate the program, so it was not run."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """memory_mb: of all processes together, files in memory included. scratch_mb: of what it writes. Beyond any, it is ended."""

    memory_mb: int = 8192
    scratch_mb: int = 256
    processes: int = 64
    seconds: float = 1800.0
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Ended:
    """status: as the shell counts. said: the end of what it wrote to stdout and stderr."""

    status: int
    said: str


def run(
    program: Sequence[str], *, shown: Sequence[tuple[Path, str]], hidden: Sequence[Path], descriptors: Sequence[int],
    limits: Limits, look: Callable[[], None],
) -> Ended:  # fmt: skip
    """Run `program` (its first word an absolute path) in isolation until it ends.

    shown: (folder here, where the program sees it), read-only, besides Python and its libraries. hidden: what it must never see; refused
    when that lies in something shown. descriptors: passed on. look: called every tenth of a second; what it raises ends the program.
    Raises NoIsolationError when this machine cannot isolate it, IsolationError when it went beyond a limit.
    """
    with tempfile.TemporaryDirectory(prefix="radnode-bundle-") as root:
        order = json.dumps(order_of(program, shown, hidden, descriptors, limits, root))
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "radnode_inference.bundles.isolation_child", order],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=tuple(descriptors), env={"PATH": os.defpath}, cwd="/", start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        words = Words(process.stdout)
        try:
            watch(process, limits, look)
        finally:
            end(process)
            words.join()
    if process.returncode == REFUSED:
        raise NoIsolationError(words.said.strip() or "isolation cannot be had")
    return Ended(status=process.returncode, said=words.said)


def probe() -> None:
    """Raises NoIsolationError when this machine cannot isolate a program."""
    nothing = [sys.executable, "-I", "-S", "-c", "pass"]
    run(nothing, shown=(), hidden=(), descriptors=(), limits=Limits(seconds=60.0), look=lambda: None)


def order_of(
    program: Sequence[str], shown: Sequence[tuple[Path, str]], hidden: Sequence[Path], descriptors: Sequence[int],
    limits: Limits, root: str,
) -> dict[str, object]:  # fmt: skip
    """What `isolation_child` is told."""
    binds, links = libraries()
    for place, _ in binds:
        for secret in hidden:
            if secret.resolve().is_relative_to(place):
                raise NoIsolationError(f"{secret} lies in {place}, which a bundle has to see")
    bound = limits.scratch_mb * MIB
    return {
        "program": list(program),
        "environment": {
            "PATH": os.defpath, "HOME": "/tmp", "TMPDIR": "/tmp", "USER": "bundle", "LANG": "C.UTF-8",  # noqa: S108
            "OMP_NUM_THREADS": str(limits.threads), "OMP_WAIT_POLICY": "PASSIVE", "PYTHONDONTWRITEBYTECODE": "1",
        },
        "root": root,
        "binds": [*binds, *((str(p.resolve()), target) for p, target in shown)],
        "links": links,
        "descriptors": list(descriptors),
        "scratch_bytes": bound,
        "number": os.getpid(),
        "parent": os.getpid(),
        "limits": {
            "RLIMIT_AS": 2 * limits.memory_mb * MIB,  # torch reserves more than it uses; `watch` counts what is used
            "RLIMIT_CORE": 0, "RLIMIT_FSIZE": bound, "RLIMIT_MSGQUEUE": 0, "RLIMIT_NOFILE": 128,
            "RLIMIT_NPROC": limits.processes,
        },
    }  # fmt: skip


def libraries() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(folder, same folder) of Python, its libraries and this package, and the links between them that stay links."""
    python = [f"{prefix}/{part}" for prefix in (sys.prefix, sys.base_prefix) for part in PYTHON]
    places = [
        *python,
        str(Path(sys.executable).resolve()),
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
    ]
    binds: dict[str, str] = {}
    links: list[tuple[str, str]] = []
    for place in (*places, str(PACKAGE), *SYSTEM, *DEVICES):
        path = Path(place)
        if path.is_symlink():
            links.append((place, str(path.readlink())))
        elif path.exists() and not any(Path(place).is_relative_to(b) for b in binds):
            binds[place] = place
    return list(binds.items()), links


def watch(process: "subprocess.Popen[bytes]", limits: Limits, look: Callable[[], None]) -> None:
    """Wait for the end. Raises IsolationError when a limit is passed."""
    began, shared = time.monotonic(), psutil.virtual_memory().shared
    while process.poll() is None:
        look()
        if time.monotonic() - began > limits.seconds:
            raise IsolationError(f"the bundle took longer than {limits.seconds:g} s and was ended")
        unclaimed = psutil.virtual_memory().shared - shared - OTHERS
        used = max(memory(process.pid), unclaimed) / MIB
        if used > limits.memory_mb:
            raise IsolationError(
                f"the bundle took {used:.0f} MiB of memory, more than the {limits.memory_mb} MiB it may have"
            )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_S)


def memory(pid: int) -> int:
    """Bytes that a process and its descendants hold: what is resident, and files in memory that no one has mapped."""
    total, seen = 0, set()
    for process in family(pid):
        with contextlib.suppress(psutil.Error, OSError):
            total += process.memory_info().rss
            for fd in Path(f"/proc/{process.pid}/fd").iterdir():
                if str(fd.readlink()).startswith("/memfd:"):
                    there = fd.stat()
                    if there.st_ino not in seen:
                        seen.add(there.st_ino)
                        total += there.st_blocks * 512
    return total


def family(pid: int) -> Iterator[psutil.Process]:
    try:
        first = psutil.Process(pid)
        yield first
        yield from first.children(recursive=True)
    except psutil.Error:
        return


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill it with everything it started: its first process in the namespace takes all others along."""
    if process.poll() is None:
        for member in list(family(process.pid)):
            with contextlib.suppress(psutil.Error):
                member.send_signal(signal.SIGKILL)
    process.wait()


class Words:
    """The last words of a process, read while it runs so that it never waits for us."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._kept = b""
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while chunk := os.read(pipe.fileno(), 1 << 16):
                self._kept = (self._kept + chunk)[-KEPT_WORDS:]

    def join(self) -> None:
        self._thread.join(timeout=5)

    @property
    def said(self) -> str:
        """Printable text only: it comes from a stranger."""
        text = self._kept.decode("utf-8", "replace")
        return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
