"""The checkpoint of the store: up to when every file has its row and every row its file, durably.

Without one, after the clock was set back, or with a database that is older (from a backup), everything is looked at.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import func, select

from radnode.database import Database
from radnode.durable import write_json
from radnode.tables import InstanceRow

MARGIN_S = 3600.0
"""How much older than the checkpoint is looked at too: longer than any object lies between its file and its row."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """at: UTC epoch seconds. row: the highest id of InstanceRow then."""

    at: float
    row: int


NEVER = Checkpoint(at=0.0, row=0)


def read_checkpoint(data: Path, now: Checkpoint) -> Checkpoint:
    """The last one; NEVER when there is none, it cannot be read, or clock or table are behind it."""
    try:
        found = Checkpoint(**json.loads((data / "run" / "store.checkpoint").read_text()))
    except (OSError, ValueError, TypeError):
        return NEVER
    return found if found.at <= now.at and found.row <= now.row else NEVER


def write_checkpoint(data: Path, checkpoint: Checkpoint) -> None:
    """Replace the last one; a power cut leaves the one or the other."""
    write_json(data / "run" / "store.checkpoint", asdict(checkpoint))


def last_row(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.max(InstanceRow.id))) or 0
