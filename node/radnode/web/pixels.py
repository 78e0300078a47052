"""Pictures of images from elsewhere are decoded in a process of its own: a file that crashes or stalls a decoder, or asks
for all the memory, ends that process and not the page. It starts with the first picture and is started again after a crash.
"""

import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

LONGEST_S = 30
MOST_MEMORY = 8 << 30
"""Bytes of address space: a slice of MAX_PIXELS with all its copies needs a tenth."""
PLACES = 4
"""Threads that wait for a picture; who else asks waits without one, and keeps no thread of the other pages busy."""
PICTURES = 500
"""After so many the process is replaced, so that what a decoder leaks does not add up."""


A = TypeVar("A")


class CrashedError(Exception):
    """The file ended the process that decoded it."""


class Decoder:
    """Runs functions that decode, one at a time. Safe among threads."""

    def __init__(self) -> None:
        self._places = CapacityLimiter(PLACES)
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._given = 0  # to this pool

    async def aside(self, make: Callable[[], A]) -> A:
        """What `make()` returns or raises, in one of PLACES threads: a file that stalls the decoder stalls pictures alone."""
        return await to_thread.run_sync(make, limiter=self._places)

    def run(self, make: Callable[..., bytes], *given: Any) -> bytes:
        """What `make(*given)` returns or raises; both and the result are pickled. Raises CrashedError."""
        for last in (False, True):  # another picture's crash takes those that wait with it: they are tried again
            pool, future = self._submit(make, *given)
            try:
                return future.result()
            except BrokenProcessPool as e:
                self._forget(pool)
                if last:
                    raise CrashedError("this file stops the process that decodes it") from e
        raise AssertionError

    def _submit(self, make: Callable[..., bytes], *given: Any) -> tuple[ProcessPoolExecutor, "Future[bytes]"]:
        """To the process, or to a new one. Not by `max_tasks_per_child`: that forgets to start the next process when
        several waited (https://github.com/python/cpython/issues/115634)."""
        with self._lock:
            if self._pool is not None and self._given >= PICTURES:
                self._pool.shutdown(wait=False)  # it ends when it has made what it was given
                self._pool = None
            if self._pool is None:
                self._given = 0
                self._pool = ProcessPoolExecutor(
                    max_workers=1,
                    mp_context=multiprocessing.get_context("spawn"),
                    initializer=confine,
                )
            self._given += 1
            pool = self._pool
            try:
                return pool, pool.submit(bounded, make, *given)
            except BrokenProcessPool as e:
                broken: Future[bytes] = Future()
                broken.set_exception(e)
                return pool, broken

    def _forget(self, pool: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is pool:
                self._pool = None
        pool.shutdown(wait=True)

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)

    @asynccontextmanager
    async def lifespan(self, _app: Any) -> AsyncIterator[None]:
        """For a router: the process ends with the application."""
        try:
            yield
        finally:
            self.close()


def confine() -> None:
    """In the process: not beyond its parent's life, not beyond MOST_MEMORY, no core of a patient's image on the disk."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def bounded(make: Callable[..., bytes], *given: Any) -> bytes:
    """In the process: the alarm's signal ends it when it takes too long."""
    signal.alarm(LONGEST_S)
    try:
        return make(*given)
    finally:
        signal.alarm(0)
