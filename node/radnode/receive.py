"""The DICOM listener: processes on one port, a thread per association.

`serve` is the parent: it opens the port, forks the children, and starts another for each that dies. A child accepts,
negotiates, serves. Everything that must survive is in the store.
"""

import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from radnode import tls
from radnode.receive_child import Child, Slots
from radnode.settings import Settings

RESTART_S = 0.5
"""How long to wait before a child that died is started again, so that a fault does not spin."""
STOP_S = 8.0
"""How long children may take to end before they are killed."""
BACKLOG = 128

log = logging.getLogger(__name__)


def serve(settings: Settings, stop: threading.Event) -> None:
    """Receive until `stop` is set. The real port stands in `run/receive.port` of the data folder.

    That of DICOM over TLS stands in `run/receive-tls.port`. Call it before other threads are started: it forks. Raises
    OSError when an address cannot be taken, SettingsError when a certificate cannot be used.
    """
    own = settings.receive
    if own.tls_port is not None:
        tls.listening(settings.tls)  # wrong certificates are told of now
    ports = (("receive-tls.port", own.tls_port), ("receive.port", own.port if own.plain else None))
    listeners = {name: listen(own.host, port) for name, port in ports if port is not None}
    Parent(settings, listeners, stop).run()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, IPv4 or IPv6 by the form of `host`."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as e:
        listener.close()
        raise OSError(e.errno, f"port {port} of {host} cannot be opened: {e.strerror}") from e
    return listener


class Parent:
    """Keeps the children alive. The pipe `lifeline` ends when the parent does, however it ends: children then stop."""

    def __init__(self, settings: Settings, listeners: Mapping[str, socket.socket], stop: threading.Event) -> None:
        self._settings = settings
        self._listeners = listeners
        self._stop = stop
        self._children: dict[int, int] = {}  # process id -> slot
        self._slots = Slots(settings.receive.processes)
        self._lifeline = os.pipe()

    def run(self) -> None:
        run = self._settings.data / "run"
        try:
            for slot in range(self._settings.receive.processes):
                self._start(slot, recovering=slot == 0)
            for name, listener in self._listeners.items():
                port = listener.getsockname()[1]
                write_atomically(run / name, str(port))
                log.info("The node receives.", extra={"action": "listen", "port": port})
            while not self._stop.wait(0.1):
                self._restart_dead()
        finally:
            for name, listener in self._listeners.items():
                (run / name).unlink(missing_ok=True)
                listener.close()
            self._end()

    def _start(self, slot: int, *, recovering: bool) -> None:
        self._slots.set(slot)
        pid = os.fork()
        if pid == 0:
            run_child(self._settings, self._listeners, self._lifeline, self._slots, slot, recovering)
        self._children[pid] = slot

    def _restart_dead(self) -> None:
        for pid, status in self._dead():
            slot = self._children.pop(pid)
            log.error(
                "A receiving process died; another is started.",
                extra={"action": "restart", "pid": pid, "status": os.waitstatus_to_exitcode(status)},
            )
            if self._stop.wait(RESTART_S):
                return
            self._start(slot, recovering=True)

    def _dead(self) -> Iterator[tuple[int, int]]:
        for pid in list(self._children):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                yield pid, status

    def _end(self) -> None:
        """Let the children finish their associations, then end those that did not."""
        for fd in self._lifeline:
            os.close(fd)
        deadline = time.monotonic() + STOP_S
        while self._children and time.monotonic() < deadline:
            for pid, _ in self._dead():
                del self._children[pid]
            time.sleep(0.02)
        for pid in list(self._children):
            log.error("A receiving process did not end and was killed.", extra={"action": "kill", "pid": pid})
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def run_child(
    settings: Settings,
    listeners: Mapping[str, socket.socket],
    lifeline: tuple[int, int],
    slots: Slots,
    slot: int,
    recovering: bool,
) -> None:
    """The life of a forked process; never returns."""
    code = 1
    try:
        os.close(lifeline[1])
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
        gc.freeze()
        Child(settings, listeners, slots, slot).run(lifeline[0], recovering=recovering)
        code = 0
    except BaseException:
        log.exception("A receiving process failed.", extra={"action": "fail"})
    finally:
        os._exit(code)


def write_atomically(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(file)
