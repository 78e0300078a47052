"""Tells open pages that something changed, by server-sent events (HTML Living Standard, section 9.2).

The tables are the truth and other processes write them, so they are asked: a few counts, four times a second at most,
however many pages are open. What changed, a page then fetches itself.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from sqlalchemy import func, select

from radnode.database import Database
from radnode.states import JobState
from radnode.tables import DeliveryRow, EventRow, JobRow, RemarkRow, ReportRow, StudyRow, VerdictRow
from radnode.tables_monitoring import SimulationRow
from radnode.tables_triage import OrderRow

LOOK_S = 0.25
QUIET_S = 15.0
"""After this long without news a comment is sent, so that proxies keep the connection and a dead one is found."""


class Changes:
    """Asks the tables, at most every LOOK_S, for a text that differs whenever a page may."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._lock = threading.Lock()
        self._asked_at, self._stamp = float("-inf"), ""

    def stamp(self) -> str:
        with self._lock:
            if time.monotonic() - self._asked_at >= LOOK_S * 0.9:
                self._stamp = self.look()
                self._asked_at = time.monotonic()
            return self._stamp

    def look(self) -> str:
        written = (EventRow.id, VerdictRow.id, RemarkRow.id, ReportRow.updated_at, OrderRow.updated_at)
        newest = [func.max(c) for c in written]
        running = select(func.count(), func.sum(JobRow.progress)).where(JobRow.state == JobState.RUNNING)
        states = select(DeliveryRow.state, func.count()).group_by(DeliveryRow.state).order_by(DeliveryRow.state)
        simulations = select(SimulationRow.state, func.count(), func.sum(SimulationRow.progress))
        simulations = simulations.group_by(SimulationRow.state).order_by(SimulationRow.state)
        with self.database.reading() as session:
            parts = [session.scalar(select(n)) for n in newest]
            arrived = session.execute(select(func.max(StudyRow.last_instance_at), func.sum(StudyRow.instances))).one()
            simulated = session.execute(simulations).all()
            return repr(
                (parts, simulated, tuple(arrived), tuple(session.execute(running).one()), session.execute(states).all())
            )


def router(database: Database) -> APIRouter:
    made = APIRouter(include_in_schema=False)
    changes = Changes(database)

    @made.get("/changes")
    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(news(request, changes), media_type="text/event-stream")

    return made


async def news(request: Request, changes: Changes) -> AsyncIterator[str]:
    """One message at once, and one after each change, until the page is gone."""
    last, told_at, number = "", time.monotonic(), 0
    while not await request.is_disconnected():
        stamp = await run_in_threadpool(changes.stamp)
        if stamp != last:
            last, told_at, number = stamp, time.monotonic(), number + 1
            yield f"data: {number}\n\n"
        elif time.monotonic() - told_at > QUIET_S:
            told_at = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(LOOK_S)
