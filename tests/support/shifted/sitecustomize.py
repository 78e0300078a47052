"""For processes of a test's node: their wall clock is ahead of the machine's by the seconds in the file RADNODE_TEST_SHIFT."""

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import time_machine

LOOK_S = 0.05
FILE = Path(os.environ["RADNODE_TEST_SHIFT"])


def follow() -> None:
    """Set this process's clock whenever the file changes."""
    travel, ahead = None, 0.0
    while True:
        try:
            wanted = float(FILE.read_text() or 0)
        except (OSError, ValueError):
            wanted = ahead
        if wanted != ahead:
            if travel is not None:
                travel.stop()
            travel, ahead = None, wanted
            if wanted:
                travel = time_machine.travel(datetime.now(UTC) + timedelta(seconds=wanted))
                travel.start()
        time.sleep(LOOK_S)


def begin() -> None:
    threading.Thread(target=follow, name="shifted", daemon=True).start()


begin()
os.register_at_fork(after_in_child=begin)
