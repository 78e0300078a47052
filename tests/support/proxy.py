"""A TCP proxy between two real programs that cuts, resets, stalls, drops and delays what passes, or is not there at all."""

import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

CHUNK = 4096
LINGER_NONE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What happens to a connection once `after` bytes of the caller have passed: its end (cut), a RST (reset), nothing
    passes any more (stall), a piece is left out (drop), every piece from the first comes late (delay)."""

    kind: Literal["cut", "reset", "stall", "drop", "delay"]
    after: int = 0
    delay_s: float = 0.02


class Proxy:
    """Listens on `port` of 127.0.0.1 and passes on to the port that `target` names; use as a context manager.

    Each new connection has the next of the troubles that were asked for; without one it is left alone. met: how many
    connections had one.
    """

    def __init__(self, target: Callable[[], int]) -> None:
        self._target = target
        self._troubles: deque[Trouble] = deque()
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.port = 0
        self.met = 0

    def __enter__(self) -> "Proxy":
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._silence()
        for thread in self._threads:
            thread.join(60)

    def trouble(self, troubles: Iterable[Trouble]) -> None:
        """What the connections to come will meet, in order."""
        with self._lock:
            self._troubles.extend(troubles)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody listens here, and what was open is cut."""
        self._silence()
        try:
            yield
        finally:
            self._listen()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener)

    def _silence(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            left = list(self._open)
        for connection in left:
            end(connection)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                trouble = self._troubles.popleft() if self._troubles else None
                self.met += trouble is not None
            self._start(self._serve, caller, trouble)

    def _serve(self, caller: socket.socket, trouble: Trouble | None) -> None:
        try:
            called = socket.create_connection(("127.0.0.1", self._target()), timeout=60)
        except OSError:
            caller.close()
            return
        called.settimeout(None)
        pair = (caller, called)
        for one in pair:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.update(pair)
        back = threading.Thread(target=pump, args=(called, caller), daemon=True)
        back.start()
        troubled(caller, called, trouble) if trouble else pump(caller, called)
        back.join()
        with self._lock:
            self._open.difference_update(pair)
        for one in pair:
            one.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass on until either side ends."""
    with suppress(OSError):
        while data := source.recv(CHUNK):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def troubled(caller: socket.socket, called: socket.socket, trouble: Trouble) -> None:
    passed, dropped = 0, False
    with suppress(OSError):
        while data := caller.recv(CHUNK):
            if trouble.kind == "delay":
                time.sleep(trouble.delay_s)
            elif passed + len(data) > trouble.after and not dropped:
                keep = max(0, trouble.after - passed)
                called.sendall(data[:keep])
                if trouble.kind != "drop":
                    break
                data, dropped = data[keep + 1000 :], True
            called.sendall(data)
            passed += len(data)
    if trouble.kind == "stall":
        while quiet(caller):
            pass
    if trouble.kind == "reset":
        for one in (caller, called):
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    for one in (caller, called):
        end(one)


def quiet(caller: socket.socket) -> bool:
    """Take in and forget; False when the caller has ended."""
    try:
        return bool(caller.recv(CHUNK))
    except OSError:
        return False


def end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
