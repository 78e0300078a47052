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
    held = {path: hold(path) for path in paths}
    threading.Thread(target=watch, args=(held,), name="lifeline", daemon=True).start()


def hold(path: Path) -> int | None:
    """A descriptor that keeps the inode's number from being given to what is made in its place; None when there is nothing.

    O_PATH: it opens nothing, and closing it lets go no lock of SQLite's.
    """
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def watch(held: dict[Path, int | None]) -> None:
    """Look until one is gone; never returns."""
    missed = dict.fromkeys(held, 0)
    while max(missed.values(), default=0) < MISSED:
        time.sleep(LOOK_S)
        for path, descriptor in held.items():
            missed[path] = missed[path] + 1 if is_gone(path, descriptor) else 0
    gone = next(path for path, count in missed.items() if count >= MISSED)
    log.critical("%s was removed or replaced: this process ends.", gone, extra={"action": "gone"})
    os._exit(GONE)


def is_gone(path: Path, held: int | None) -> bool:
    """A disk that does not answer is no proof that something is gone."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return held is not None
    except OSError:
        return False
    return held is None or not os.path.samestat(found, os.fstat(held))
