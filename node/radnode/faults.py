"""Places where tests may kill a process, to prove that nothing is lost there. Inert unless RADNODE_FAULT is set.

RADNODE_FAULT=POINT:N kills the process with SIGKILL the Nth time it passes POINT, and never again: the file named by
RADNODE_FAULT_ONCE, made at that moment, stops the restarted process from dying too. RADNODE_FAULT_BUSY_S is how long
SQLite is waited for while others lock it, so that a test may see that wait end.
"""

import os
import signal
from enum import StrEnum
from pathlib import Path


class Point(StrEnum):
    MID_ASSOCIATION = "mid-association"
    FILE_BEFORE_ROW = "file-before-row"
    COMPLETE_BEFORE_ROUTE = "complete-before-route"
    MID_INFERENCE = "mid-inference"
    INFERRED_BEFORE_OUTBOX = "inferred-before-outbox"
    MID_DELIVERY = "mid-delivery"
    COMMITMENT_ASKED = "commitment-asked"  # it is written that it was asked, and not asked yet
    COMMITMENT_ANSWERED = "commitment-answered"
    FETCH_CLAIMED = "fetch-claimed"
    FETCHED_BEFORE_DONE = "fetched-before-done"
    SUPERSEDED = "superseded"
    RETRACTED = "retracted"
    ROWS_GONE_BEFORE_FILES = "rows-gone-before-files"


BUSY_S = 30.0

_passed: dict[str, int] = {}


def crash_point(point: Point) -> None:
    """Die here if the test asked for it."""
    wanted = os.environ.get("RADNODE_FAULT")
    if not wanted:
        return
    name, _, nth = wanted.partition(":")
    if name != point:
        return
    _passed[name] = _passed.get(name, 0) + 1
    once = Path(os.environ["RADNODE_FAULT_ONCE"])
    if _passed[name] >= int(nth or "1") and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def busy_s() -> float:
    """Seconds that a locked database is waited for."""
    return float(os.environ.get("RADNODE_FAULT_BUSY_S", BUSY_S))
