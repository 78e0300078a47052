"""Simulations that were asked for on the page: kept as rows, computed by a process of their own. The only writer of the table.

A run holds no request and no thread of the web process; its progress is a row that every page reads. One runs at a time.
"""

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from radnode.database import Database
from radnode.errors import RefusedError
from radnode.settings import Settings
from radnode.simulation import compare, recorded, show
from radnode.simulation.draft import parse
from radnode.simulation.traffic import Description
from radnode.tables_monitoring import SimulationRow
from radnode.triage import DEFAULT_POLICY

LOST_S = 300.0
"""Without a word for this long, the process of a run is taken for gone."""
SHOWN = 20
DAY_S = 86400.0
NICE = 10  # receiving and reading go before
MODULE = "radnode.simulation.child"


class State(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Asked(BaseModel):
    """What is simulated. since_days: of the node's own traffic; None: the traffic that `room` describes. draft: TOML, or ""."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    room: Description = Description()
    since_days: float | None = Field(default=None, gt=0, le=366)
    draft: str = Field(default="", max_length=50_000)
    studies: int = Field(default=2000, ge=100, le=20_000)
    trials: int = Field(default=10, ge=1, le=50)
    seed: int = 1
    interrupts: bool = False


@dataclass(frozen=True, kw_only=True)
class Run:
    """One simulation. progress: 0..1. result: policy ("current", "draft") -> as `show.stored` makes it."""

    id: int
    asked: Asked
    state: State
    progress: float
    created_at: float
    ended_at: float | None
    reason: str
    result: Mapping[str, Any]


class CancelledError(Exception):
    """The run is not wanted any more."""


def start(database: Database, settings: Settings, asked: Asked, now: float) -> int:
    """Begin a run in a process of its own; its number. Raises ValueError for a draft that is none, RefusedError when one runs."""
    if asked.draft:
        parse(asked.draft, settings.ageing)
    with database.transaction() as session:
        forget_lost(session, now)
        if session.scalar(select(SimulationRow.id).where(SimulationRow.state == State.RUNNING).limit(1)) is not None:
            raise RefusedError("another simulation is running")
        row = SimulationRow(asked=asked.model_dump(mode="json"), state=State.RUNNING, created_at=now, beat_at=now)
        session.add(row)
        session.flush()
        number = row.id
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, str(number), str(os.getpid())], stdin=subprocess.PIPE
    )  # fmt: skip
    told = settings.model_copy(update={"data": settings.data.resolve()}).model_dump_json()
    threading.Thread(target=follow, args=(database, number, process, told.encode()), daemon=True).start()
    return number


def follow(database: Database, number: int, process: "subprocess.Popen[bytes]", told: bytes) -> None:
    """Tell the process the settings and wait for its end. One that ends without a word is failed."""
    process.communicate(told)
    if process.returncode:
        with database.transaction() as session:
            running = (SimulationRow.id == number, SimulationRow.state == State.RUNNING)
            values = {"state": State.FAILED, "reason": f"its process ended with {process.returncode}"}
            session.execute(update(SimulationRow).where(*running).values(**values, ended_at=time.time()))


def forget_lost(session: Session, now: float) -> None:
    """Runs whose process is gone are failed."""
    lost = (SimulationRow.state == State.RUNNING, SimulationRow.beat_at < now - LOST_S)
    values = {"state": State.FAILED, "reason": "its process was lost", "ended_at": now}
    session.execute(update(SimulationRow).where(*lost).values(**values))


def cancel(database: Database, number: int, now: float) -> None:
    """Raises RefusedError when it is not running."""
    with database.transaction() as session:
        row = session.get(SimulationRow, number)
        if row is None or row.state != State.RUNNING:
            raise RefusedError("this simulation is not running")
        row.state, row.ended_at = State.CANCELLED, now


def runs(session: Session) -> tuple[Run, ...]:
    """The newest first."""
    return tuple(view(r) for r in session.scalars(select(SimulationRow).order_by(SimulationRow.id.desc()).limit(SHOWN)))


def run(session: Session, number: int) -> Run | None:
    row = session.get(SimulationRow, number)
    return None if row is None else view(row)


def compute(database: Database, settings: Settings, number: int, alive: Callable[[], bool]) -> None:
    """Do the work of one run and write its end. alive: whether somebody still waits for it."""
    with database.reading() as session:
        found = run(session, number)
    if found is None:
        return

    def tell(part: float) -> None:
        with database.transaction() as session:
            running = (SimulationRow.id == number, SimulationRow.state == State.RUNNING)
            kept = session.scalar(select(SimulationRow.id).where(*running))
            session.execute(update(SimulationRow).where(*running).values(progress=part, beat_at=time.time()))
        if kept is None or not alive():
            raise CancelledError

    try:
        values: dict[str, Any] = {"state": State.DONE, "progress": 1.0, "result": both(database, settings, found, tell)}
    except CancelledError:
        return
    except (ValueError, ArithmeticError) as e:
        values = {"state": State.FAILED, "reason": f"{e}"}
    with database.transaction() as session:
        running = (SimulationRow.id == number, SimulationRow.state == State.RUNNING)
        session.execute(update(SimulationRow).where(*running).values(**values, ended_at=time.time()))


def both(database: Database, settings: Settings, found: Run, tell: Callable[[float], None]) -> dict[str, Any]:
    """The policy in force, and the draft where there is one, on the same studies."""
    asked = found.asked
    policies = {"current": (DEFAULT_POLICY if settings.triage is None else settings.triage, settings.ageing)}
    if asked.draft:
        policies["draft"] = parse(asked.draft, settings.ageing)
    made: dict[str, Any] = {}
    for at, (name, (rules, ageing)) in enumerate(policies.items()):
        traffic, really = None, []
        if asked.since_days is not None:
            since = found.created_at - asked.since_days * DAY_S
            came = recorded.recorded(database, rules, since, settings.patient_classes)
            if not came:
                raise ValueError("the node received no study in this time")
            traffic = recorded.trials(came, asked.room, asked.trials, asked.seed)
            really = recorded.as_it_was(came, asked.room)
        compared = compare.compare(
            asked.room, rules, traffic=traffic, really=really, studies=asked.studies, trials=asked.trials, seed=asked.seed,
            interrupts=asked.interrupts, ageing=ageing,
            progress=part_of(tell, at, len(policies)),
        )  # fmt: skip
        made[name] = finite(show.stored(compared))
    return made


def part_of(tell: Callable[[float], None], at: int, of: int) -> Callable[[float], None]:
    """Tells how far the whole is, given how far its part `at` (from 0) is."""
    return lambda part: tell((at + part) / of)


def finite(value: Any) -> Any:
    """The same without numbers that JSON has not: None in their place."""
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def view(row: SimulationRow) -> Run:
    return Run(
        id=row.id,
        asked=Asked.model_validate(row.asked),
        state=State(row.state),
        progress=row.progress,
        created_at=row.created_at,
        ended_at=row.ended_at,
        reason=row.reason,
        result=row.result or {},
    )
