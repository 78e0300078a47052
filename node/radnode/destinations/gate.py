"""A gate in the place of pynetdicom's `_reactor_checkpoint`, which has a race.

pynetdicom 3.0.4 keeps its own thread away from the answers that `send_c_store` waits for: it clears an event and looks at
a flag that says "paused". The flag is still up for a moment after the thread was let through; a sender that comes at this
moment goes on, the thread takes its answer, and the sender waits for it until the time is out. On a busy machine that
happened once in some thousand objects.
"""

import threading

LIMIT_S = 1.0
"""How long `clear` waits for a thread that may have ended."""


class Gate(threading.Event):
    """An event whose `clear` returns only when the one thread that waits at it stands still."""

    def __init__(self) -> None:
        super().__init__()
        self._door = threading.Lock()
        self._inside = threading.Event()
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Until it is set; nobody passes after `clear` has returned."""
        self._inside.set()
        while True:
            reached = super().wait(timeout)
            with self._door:
                if self.is_set() or not reached:
                    self._inside.clear()
                    return reached

    def clear(self) -> None:
        with self._door:
            super().clear()
        self._inside.wait(LIMIT_S)
