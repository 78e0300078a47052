"""A process that does not outlive what it cannot do without: its parent, its data folder, its database file. Linux."""

import ctypes
import logging
import os
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
LOOK_S = 1.0
MISSED = 3
"""So many looks in a row must find a path gone."""
GONE = 2
"""The exit code: starting again cannot help (see `serve`), it would begin with nothing in the place of what was there."""

log = logging.getLogger(__name__)


def die_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to send this process `number` when its parent ends; end at once if it has ended already.

    parent: its process id as the parent told it. The signal comes when the *thread* that made this process ends.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os._exit(1)


def die_with(paths: Iterable[Path]) -> None:
    """End this process soon after one of `paths` was removed or replaced: nothing that it does would be kept."""
    was = {path: identity(path) for path in paths}
    threading.Thread(target=watch, args=(was,), name="lifeline", daemon=True).start()


def watch(was: dict[Path, tuple[int, int] | None]) -> None:
    """Look until one is gone; never returns."""
    missed = dict.fromkeys(was, 0)
    while max(missed.values(), default=0) < MISSED:
        time.sleep(LOOK_S)
        for path, there in was.items():
            missed[path] = missed[path] + 1 if is_gone(path, there) else 0
    gone = next(path for path, count in missed.items() if count >= MISSED)
    log.critical("%s was removed or replaced: this process ends.", gone, extra={"action": "gone"})
    os._exit(GONE)


def is_gone(path: Path, was: tuple[int, int] | None) -> bool:
    """A disk that does not answer is no proof that something is gone."""
    try:
        return identity(path) != was
    except OSError:
        return False


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode; None when there is nothing. Raises OSError when it cannot be known."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
