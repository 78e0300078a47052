"""What happens when the clock of the machine is set: waits begin anew from the new time, and none grows by the jump.

Times in the tables are the wall clock's, for people and to outlive a restart; within a process waits are measured by the
monotonic clock. A jump forward would make every study look quiet; after a jump back, everything that waits until a time
that is now far away would wait for as long as the clock was turned back.
"""

import logging
import time
from typing import Any

from sqlalchemy import update

from radnode import complete
from radnode.database import Database
from radnode.settings import Settings
from radnode.tables import CapabilityRow, DeliveryRow, JobRow, SendingRow, ShadowRow, StudyRow
from radnode.tables_fhir import NotificationRow
from radnode.tables_monitoring import SimulationRow
from radnode.tables_pacs import CommitmentRow, CommitRequestRow, EvidenceRow, FetchRow, TurnedAwayRow

JUMP_S = 1.0
"""Less is how clocks are set right in small steps."""
CLAIM_S = 90.0
"""No claim is longer than this ahead of its next renewal."""

log = logging.getLogger(__name__)


class Jumps:
    """Tells when the wall clock was set. Of one process, asked now and then."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def look(self) -> float:
        """By how many seconds the clock was set since the last look; 0.0 when it was not."""
        before, self._ahead = self._ahead, time.time() - time.monotonic()
        jump = self._ahead - before
        return jump if abs(jump) >= JUMP_S else 0.0


def put_right(database: Database, settings: Settings, *, now: float) -> None:
    """After a jump to `now`: every study that is being received gets its quiet time again, and nothing lies further
    ahead than it could when it was written."""
    with database.transaction() as session:
        for column, longest_s in bounds(settings):
            latest = now + longest_s
            session.execute(update(column.class_).where(column > latest).values({column: latest}))
    complete.hold(database, settings, now=now)


def bounds(settings: Settings) -> tuple[tuple[Any, float], ...]:
    """Columns with times to come, or signs of life, and how far ahead of the clock each may lie."""
    again_s = settings.deliver.retry_max_s
    idle_s = settings.receive.association_idle_s
    return (
        (SendingRow.alive_until, idle_s),
        (JobRow.due_at, settings.work.retry_s * 2.0**settings.work.attempts),
        (JobRow.beat_at, 0.0),
        (ShadowRow.beat_at, 0.0),
        (SimulationRow.beat_at, 0.0),
        (DeliveryRow.due_at, again_s),
        (DeliveryRow.claimed_until, CLAIM_S),
        (NotificationRow.due_at, again_s),
        (NotificationRow.claimed_until, CLAIM_S),
        (CommitmentRow.due_at, max(again_s, settings.deliver.commit_wait_s)),
        (CommitRequestRow.due_at, again_s),
        (FetchRow.due_at, again_s),
        (FetchRow.claimed_until, CLAIM_S),
        (CapabilityRow.tried_at, 0.0),
        (StudyRow.last_instance_at, 0.0),
        (EvidenceRow.at, -1.0),  # what was said before the jump is older than an image of now
        (TurnedAwayRow.at, 0.0),
        (TurnedAwayRow.back_at, 0.0),
    )
