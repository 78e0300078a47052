"""The engine of local processes: a warm child process for each model, killed when it takes too long.

Knows nothing of the database: the worker gives it a task and is told the answer.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import psutil

from radnode.engine_messages import Answer, Declined, Failed, Progressed, Spec, Task
from radnode.errors import RadnodeError
from radnode.settings import Settings
from radnode_inference.findings import ModelIdentity
from radnode_inference.model import ModelCard

LOOK_S = 0.1
"""How often the parent looks up from waiting."""
GIVING_S = 5.0
"""How long the end of a process may take to end the sending of a task to it."""
REPORTER = "radnode.report:results"
THREAD_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

log = logging.getLogger(__name__)


class StoppedError(RadnodeError):
    """The worker is to stop; the run was ended."""


class Child:
    """One process with one model in it."""

    def __init__(self, spec: Spec, threads: int) -> None:
        self.connection: Connection[Any, Any]
        self.connection, other = Pipe()
        count = str(threads)
        environment = {**os.environ, **dict.fromkeys(THREAD_COUNTS, count), "OMP_WAIT_POLICY": "PASSIVE"}
        with other:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "radnode.engine_child", str(other.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                env=environment,
            )
        self._giving: threading.Thread | None = None
        self.connection.send(spec)

    def give(self, task: Task) -> None:
        """Not waited for: a large task fills the pipe, and a process that does not read would hold up its worker for ever."""
        self._giving = threading.Thread(target=self._give, args=(task,), daemon=True)
        self._giving.start()

    def _give(self, task: Task) -> None:
        with contextlib.suppress(OSError):  # it is gone: `recv` says so too
            self.connection.send(task)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def memory(self) -> int:
        """Resident bytes."""
        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self._giving is not None:
            self._giving.join(GIVING_S)  # the other end is closed
        self.connection.close()

    def how_it_ended(self) -> str:
        code = self.process.wait()
        if code < 0:
            return f"the model's process was killed by signal {-code} ({signal.Signals(-code).name})"
        return f"the model's process ended by itself (exit status {code})"


class Engine:
    """Runs tasks one at a time, each model in its own warm child; use as a context manager, in one thread.

    The least recently used models are let go when the idle ones take more than `work.warm_mb`.
    """

    def __init__(self, settings: Settings, *, reporter: str = REPORTER) -> None:
        self._settings = settings
        self._reporter = reporter
        self._warm: OrderedDict[ModelIdentity, Child] = OrderedDict()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        for model in tuple(self._warm):
            self._let_go(model)

    @property
    def warm(self) -> tuple[str, ...]:
        """The models that are loaded, the least recently used first."""
        return tuple(identity.name for identity in self._warm)

    def run(self, card: ModelCard, task: Task, beat: Callable[[float], None], stop: Callable[[], bool]) -> Answer:
        """The answer of the model of this card, with the weights it names; Failed also when its process died or took
        longer than `work.timeout_s`.

        beat: called every `work.beat_s` with the part done; what it raises ends the run. Raises StoppedError when
        `stop` says so.
        """
        unavailable = card.unavailable_because(generated=True)
        if unavailable:
            return Declined(gate="not-installed", sentence=unavailable)
        try:
            answer = self._wait(self._child(card, shadow=task.shadow), task, beat, stop)
        except BaseException:
            self._let_go(card.identity)
            raise
        if isinstance(answer, Failed):
            self._let_go(card.identity)  # what is left in its memory cannot be trusted
        return answer

    def _child(self, card: ModelCard, *, shadow: bool) -> Child:
        """The warm child that holds this model with these weights, or a new one in place of other weights of it."""
        model = card.identity
        if model in self._warm and not self._warm[model].alive:
            self._let_go(model)
        if model not in self._warm:
            for other in [w for w in self._warm if w.name == model.name and not shadow]:
                self._let_go(other)
            self._make_room()
            spec = Spec(
                card=card,
                device=self._settings.work.device,
                weights=self._settings.weights_folder.resolve(),
                reporter=self._reporter,
            )
            self._warm[model] = Child(spec, threads(self._settings))
        self._warm.move_to_end(model)
        return self._warm[model]

    def _wait(self, child: Child, task: Task, beat: Callable[[float], None], stop: Callable[[], bool]) -> Answer:
        work = self._settings.work
        started = beaten = time.monotonic()
        part = 0.0
        try:
            child.give(task)
            while True:
                if child.connection.poll(LOOK_S):
                    message = child.connection.recv()
                    if not isinstance(message, Progressed):
                        return message  # type: ignore[no-any-return]
                    part = message.part
                now = time.monotonic()
                if stop():
                    raise StoppedError("the worker is stopping")
                if now - started > work.timeout_s:
                    return Failed(sentence=f"it took longer than {work.timeout_s:g} s and was stopped")
                if now - beaten >= work.beat_s:
                    beat(part)
                    beaten = now
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return Failed(sentence=child.how_it_ended())

    def _make_room(self) -> None:
        limit = warm_bytes(self._settings)
        while self._warm and sum(c.memory for c in self._warm.values()) > limit:
            self._let_go(next(iter(self._warm)))

    def _let_go(self, model: ModelIdentity) -> None:
        child = self._warm.pop(model, None)
        if child is not None:
            with contextlib.suppress(OSError):
                child.kill()


def threads(settings: Settings) -> int:
    """Torch and OpenMP threads for a child: as set, or the cores shared among the workers."""
    cores = len(os.sched_getaffinity(0))
    return settings.work.threads or max(1, cores // max(1, settings.work.processes))


def warm_bytes(settings: Settings) -> int:
    """Memory for idle warm models of one worker: as set, or half of the machine's shared among the workers."""
    if settings.work.warm_mb:
        return settings.work.warm_mb * 1024 * 1024
    return int(psutil.virtual_memory().total) // 2 // max(1, settings.work.processes)
