"""What a loop does when it fails again and again: wait longer each time, and say so once."""

import logging
import time

from sqlalchemy.exc import InterfaceError, OperationalError

FIRST_S, LONGEST_S = 0.5, 10.0
"""Before the next try: doubled with each failure in a row."""
REMIND_S = 600.0
"""After this the same failure is told again."""

log = logging.getLogger(__name__)


class Patience:
    """Of one loop. doing: what it does, the beginning of a sentence; action: the key of its log lines."""

    def __init__(self, doing: str, action: str) -> None:
        self._doing, self._action = doing, action
        self._failures = 0
        self._told: dict[type[Exception], float] = {}  # when, by the monotonic clock
        self._until = 0.0

    @property
    def waits(self) -> bool:
        """Whether it is too early to try again."""
        return time.monotonic() < self._until

    def failed(self, error: Exception) -> float:
        """It failed once more: how many seconds to wait before the next try."""
        self._failures += 1
        wait_s = min(LONGEST_S, FIRST_S * 2.0 ** min(self._failures - 1, 30))
        now = time.monotonic()
        self._until = now + wait_s
        if now >= self._told.get(type(error), float("-inf")) + REMIND_S:
            self._told[type(error)] = now
            self._tell(error)
        return wait_s

    def worked(self) -> None:
        """It did not fail."""
        if self._failures:
            log.info("%s: it works again.", self._doing, extra={"action": self._action, "failures": self._failures})
            self._failures, self._until = 0, 0.0
            self._told.clear()

    def _tell(self, error: Exception) -> None:
        """A database or a disk that does not answer needs no traceback, and its words hold no data; all else is otherwise."""
        expected = isinstance(error, OperationalError | InterfaceError | OSError)
        why = f"{type(error).__name__}: {first_line(error)}" if expected else type(error).__name__
        log.error(
            "%s: it fails and is tried again, ever more seldom (%s).", self._doing, why,
            exc_info=None if expected else error, extra={"action": self._action},
        )  # fmt: skip


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
