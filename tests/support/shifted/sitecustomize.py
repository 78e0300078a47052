"""For processes of a test's node: their wall clock is ahead of the machine's by the seconds in the file RADNODE_TEST_SHIFT."""

import os
import threading
import time
from pathlib import Path

import time_machine

LOOK_S = 0.05


class Shifted:
    """The clock of this process; a process that was forked goes on with its parent's."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._travel: time_machine.travel | None = None
        self._ahead = 0.0

    def begin(self) -> None:
        threading.Thread(target=self._follow, name="shifted", daemon=True).start()

    def _follow(self) -> None:
        while True:
            try:
                wanted = float(self._file.read_text() or 0)
            except (OSError, ValueError):
                wanted = self._ahead
            if wanted != self._ahead:
                self._set(wanted)
            time.sleep(LOOK_S)

    def _set(self, wanted: float) -> None:
        if self._travel is not None:
            self._travel.stop()
        self._travel, self._ahead = None, wanted
        if wanted:
            self._travel = time_machine.travel(time.time() + wanted)  # a datetime would set the zone as well
            self._travel.start()


clock = Shifted(Path(os.environ["RADNODE_TEST_SHIFT"]))
clock.begin()
os.register_at_fork(after_in_child=clock.begin)
