"""The clock: APScheduler turns the cranks of `pipeline`. It holds no state; the truth is in the tables."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy.exc import InterfaceError, OperationalError

from radnode import (
    audit_syslog,
    capabilities,
    clock,
    clock_belief,
    complete,
    notify,
    pipeline,
    results,
    retention,
    retention_rows,
    second_look,
)
from radnode.database import Database
from radnode.patience import Patience
from radnode.policy_shadow import Shadow
from radnode.pulse import Pulse
from radnode.scores import Watch
from radnode.settings import Settings
from radnode.worklist import Reader
from radnode_inference.model import ModelCard

TURN_S = 0.15
"""How often new instances are looked at. Together with the workers' polling it bounds what the node adds to a model."""
RECOVER_S = 1.0
PROBE_S = 2.0
AMEND_S = 5.0
NOTIFY_S = 0.5
TURN_LOOK_S, NOTIFY_LOOK_S = 1.0, 2.0
"""How often without news, for what only time brings. Whether a study is complete is asked at every turn: nobody writes
when its quiet time is over, and what comes after waits for it."""
WATCH_S = 10.0
RETENTION_S = 60.0
FAR_S, DOUBT_S = 3600.0, 86_400.0
"""After the clock was set forward by more than FAR_S, nothing counts as old for so long: the new time may be the wrong one."""

log = logging.getLogger(__name__)


class Clock:
    """Turns every crank until it is stopped; use as a context manager. cards: as for `pipeline.route`."""

    def __init__(self, settings: Settings, database: Database, cards: Sequence[ModelCard] | None = None) -> None:
        self._settings = settings
        self._database = database
        self._cards = cards
        self._since = time.time()
        self._reader = Reader.of(settings, database)
        self._watch, self._shadow = Watch(database, settings), Shadow(database, settings)
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self._patience: dict[str, Patience] = {}
        self._turns, self._notices = Pulse(database, TURN_LOOK_S), Pulse(database, NOTIFY_LOOK_S)
        self._jumps, self._jumped = clock.Jumps(), 0.0
        self._database_failed, self._doubt_until, self._doubted = False, 0.0, ""
        self._looking, self._ended = threading.Lock(), threading.Event()
        self._looker = threading.Thread(target=self._keep_looking, name="clock", daemon=True)

    def __enter__(self) -> "Clock":
        logging.getLogger("apscheduler").setLevel(
            logging.ERROR
        )  # a turn that takes longer than its interval is no news
        clock.put_right(self._database, self._settings, now=self._since)
        self._guarded("sweep results", lambda: results.sweep(self._settings.data, self._since))
        self._every(TURN_S, self.turn)
        self._every(RECOVER_S, self.recover)
        self._every(PROBE_S, self.probe)
        self._every(AMEND_S, self.amend)
        self._every(NOTIFY_S, self.notify)
        self._every(WATCH_S, self.watch)
        if self._settings.audit.host:
            self._every(self._settings.audit.every_s, self.hand_over)
        if self._settings.retention.delete:
            self._guarded("sweep", lambda: retention.sweep(self._database, self._settings))
            self._every(RETENTION_S, self.let_go)
        self._scheduler.start()
        self._looker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._looker.join()
        self._scheduler.shutdown(wait=True)

    def turn(self) -> None:
        """One turn: settle, complete, route. Each crank turns also when the one before it failed."""
        known, now = self._since, time.time()
        self._guarded("clock", self.look_at_the_clock)
        if self._jumped or self._since != known:  # a part of a study would look complete
            return
        if self._database_failed and self._guarded("hold", self.hold) is None:
            return
        news = self._turns.due()
        if news:
            self._guarded("settle", lambda: pipeline.settle(self._database, self._settings, since=self._since))
        wait_s = self._settings.complete.evidence_wait_s
        priors = bool(self._settings.priors.peer)
        completed = self._guarded("complete", lambda: pipeline.complete(self._database, wait_s, priors=priors, now=now))
        if news or completed:
            self._guarded("route", lambda: pipeline.route(self._database, self._settings, self._cards))

    def hold(self) -> bool:
        """The database was away, so that the receiver refused what came: senders have time to send it again."""
        complete.hold(self._database, self._settings, now=time.time())
        self._database_failed = False
        return True

    def look_at_the_clock(self) -> None:
        """When it was set, waits begin anew by the new one, and so do the scheduler's, which knows no other clock."""
        with self._looking:
            self._jumped = self._jumps.look() or self._jumped  # what failed is done at the next look
            if not self._jumped:
                return
            if self._jumped > FAR_S:
                self._doubt_until = time.monotonic() + DOUBT_S
            self._since = time.time()
            for job in self._scheduler.get_jobs():
                job.modify(next_run_time=datetime.now(UTC))
            clock.put_right(self._database, self._settings, now=self._since)
            log.warning("The clock was set; waits begin anew.", extra={"action": "clock", "jump_s": self._jumped})
            self._jumped = 0.0

    def _keep_looking(self) -> None:
        while not self._ended.wait(TURN_S):
            self._guarded("clock", self.look_at_the_clock)

    def recover(self) -> None:
        self._guarded("recover", lambda: pipeline.recover(self._database, self._settings))

    def probe(self) -> None:
        """Ask the destinations whose answer is a day old, or missing, what they take."""
        self._guarded("probe", lambda: capabilities.ask_those_due(self._database, self._settings, time.time()))

    def amend(self) -> None:
        """Have studies read again as whole that were read as provisional, and lack nothing any more."""
        self._guarded("amend", lambda: second_look.amend(self._database, time.time()))

    def notify(self) -> None:
        """Owe the worklists of other systems the priorities that changed."""
        if self._notices.due():
            self._guarded("notify", lambda: notify.tell(self._database, self._settings, self._reader, time.time()))

    def hand_over(self) -> None:
        """Send what is new in the audit to the collector of the settings."""
        self._guarded("hand over", lambda: audit_syslog.export(self._database, self._settings))

    def let_go(self) -> None:
        """Delete the images and rows whose time is over, where the settings say so, by a clock that can be believed."""
        if time.monotonic() < self._doubt_until or self._guarded("believe", self.believes) is not True:
            return
        self._guarded("let go", lambda: retention.turn(self._database, self._settings, time.time()))
        self._guarded("let rows go", lambda: retention_rows.turn(self._database, self._settings, time.time()))

    def believes(self) -> bool:
        """Whether the clock can be believed that was there when the node began; why not, is logged once."""
        why = clock_belief.look(self._database, self._settings, time.time())
        if why and why != self._doubted:
            log.warning("%s", why, extra={"action": "clock"})
        self._doubted = why
        return not why

    def watch(self) -> None:
        """Keep the scores of models, their alarms, and what a policy in shadow would do."""
        self._guarded("watch", lambda: self._watch.turn(time.time()))
        self._guarded("shadow", lambda: self._shadow.turn(time.time()))

    def _every(self, seconds: float, crank: Callable[[], None]) -> None:
        self._scheduler.add_job(
            crank, "interval", seconds=seconds, coalesce=True, max_instances=1, misfire_grace_time=None
        )

    def _guarded(self, name: str, crank: Callable[[], object]) -> object:
        """What it returns. An error is logged and never stops the clock: the rows are still there for a later turn."""
        patience = self._patience.setdefault(name, Patience(f"The crank `{name}`", "crank"))
        if patience.waits:
            return None
        try:
            done = crank()
        except Exception as e:
            patience.failed(e)
            self._database_failed |= name == "complete" and isinstance(e, OperationalError | InterfaceError)
            return None
        patience.worked()
        return done


def serve(settings: Settings, stop: threading.Event) -> None:
    """Turn the cranks until `stop`."""
    database = Database(settings.url)
    try:
        with Clock(settings, database):
            stop.wait()
    finally:
        database.close()
