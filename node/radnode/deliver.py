"""Results -> destinations. Each destination has its own lanes, so that one that is stuck never holds up another."""

import logging
import random
import threading
import time
from collections.abc import Collection

from sqlalchemy.exc import SQLAlchemyError

from radnode import addresses, breaker, commit_ask
from radnode.breaker import Breaker
from radnode.database import Database
from radnode.destinations import Sender, open_destination
from radnode.errors import DeliveryError, NotTakenError
from radnode.faults import Point, crash_point
from radnode.fhir_server import subscriptions
from radnode.outbox import Batch, Delivery, Outbox
from radnode.patience import Patience
from radnode.pulse import Pulse
from radnode.settings import Deliver, Destination, Settings

log = logging.getLogger(__name__)

POLL_S = 0.05  # a result should stand in the PACS well within a second after its job
LOOK_S = 0.5  # without news: what was postponed
LEASE_S = 10.0  # a claim whose process is gone is free again after this; living ones are renewed
BEAT_S = 2.5
STOP_S = 2.0  # what is still in hand then is sent again by the next process


class Lane:
    """One worker of one destination: takes a study's due results, opens one connection, sends, settles each."""

    def __init__(
        self,
        settings: Settings,
        address: Destination,
        outbox: Outbox,
        breaker: Breaker,
        leaves: threading.Event | None = None,
    ) -> None:
        self.policy = settings.deliver
        self.calling_ae = settings.receive.ae_title
        self.address = address
        self.outbox = outbox
        self.breaker = breaker
        self.leaves = leaves or threading.Event()  # set: nothing more is sent, and what is not sent is given back
        self.due = threading.Event()
        self.token: str | None = None  # of the batch in hand, for its heartbeat

    def run(self) -> None:
        patience = Patience(f"Delivery to {self.address.name}", "deliver")
        while not self.leaves.is_set():
            if not self.due.wait(POLL_S * 4):
                continue
            self.due.clear()
            try:
                while not self.leaves.is_set() and self.deliver_one():
                    pass
                patience.worked()
            except Exception as e:  # a lane that ends would leave its destination without any
                self.leaves.wait(patience.failed(e))

    def deliver_one(self) -> bool:
        """Claim one batch and do what can be done with it. False when there was none, or the destination is left alone."""
        if not self.breaker.lets(time.time()):
            return False
        batch = self.outbox.claim(self.address.name, time.time(), LEASE_S)
        if batch is None:
            self.breaker.untried()
            return False
        self.token = batch.token
        try:
            self._send(batch)
        finally:
            self.token = None
            self.breaker.untried()
        return True

    def _send(self, batch: Batch) -> None:
        left = list(batch.deliveries)
        done = 0
        error = logged = ""
        try:
            destination = open_destination(self.address, calling_ae=self.calling_ae, timeout_s=self.policy.timeout_s)
            with destination.open(batch.deliveries) as sender:
                while left and not self.leaves.is_set():
                    done += self._send_one(sender, batch.token, left[0])
                    left.pop(0)
        except DeliveryError as e:
            error, logged = str(e), e.sentence
        except SQLAlchemyError:
            raise
        except Exception as e:  # whatever a peer or a library does, the results stay owed
            log.exception("delivery failed", extra={"action": "deliver", "study_uid": batch.study_uid})
            error = logged = f"{type(e).__name__}: see the log"
        self._note(error)
        if done:
            self.outbox.tell(batch.study_uid, time.time(), f"{count(done)} delivered to {self.address.name}.")
        if left and self.leaves.is_set() and not error:
            self.outbox.give_back(batch.token)
        elif left:
            self._fail(batch, left, error, logged)

    def _note(self, error: str) -> None:
        """How it went, for the deliveries to come; what waited for a destination that is back waits no longer."""
        if error and not self.leaves.is_set():
            self.breaker.failed(error, time.time())
        elif not error and self.breaker.worked():
            self.outbox.hasten(self.address.name, time.time())

    def _send_one(self, sender: Sender, token: str, delivery: Delivery) -> bool:
        """Whether the destination has it now. A transient failure is raised: what follows may refer to this object."""
        try:
            note = sender.send(delivery)
        except NotTakenError as e:
            self.outbox.not_taken(token, delivery, self.address, e, time.time())
            return False
        except DeliveryError as e:
            if not e.permanent:
                raise
            self.outbox.give_up(token, [delivery], str(e), time.time())
            return False
        crash_point(Point.MID_DELIVERY)
        self.outbox.delivered(token, delivery, note, time.time(), commits=commit_ask.is_asked(self.address))
        return True

    def _fail(self, batch: Batch, left: list[Delivery], error: str, logged: str) -> None:
        now = time.time()
        hopeless = [d for d in left if now - d.owed_since >= self.policy.give_up_after_days * 86400]
        again = [d for d in left if d not in hopeless]
        if hopeless:
            self.outbox.give_up(batch.token, hopeless, error, now)
        if again:
            attempt = max(d.attempt for d in again) + 1
            self.outbox.postpone(batch.token, again, error, now + backoff_s(self.policy, attempt, random.random()))  # noqa: S311
            if attempt == 1 and not self.leaves.is_set():
                sentence = (
                    f"{count(len(again))} could not be delivered to {self.address.name}; tried again until it works."
                )
                self.outbox.tell(batch.study_uid, now, sentence)
        log.warning(
            "%s owed to %s: %s", count(len(left)), self.address.name, logged,
            extra={"action": "deliver", "study_uid": batch.study_uid},
        )  # fmt: skip


def backoff_s(policy: Deliver, attempt: int, chance: float) -> float:
    """Seconds until the next try after `attempt` failures: doubled each time up to the maximum, and up to a quarter less
    by `chance` (0..1), so that many do not come at once."""
    longest = min(policy.retry_max_s, policy.retry_s * 2.0 ** min(attempt - 1, 60))
    return longest * (1.0 - 0.25 * chance)


def count(results: int) -> str:
    return "1 result" if results == 1 else f"{results} results"


class Place:
    """A destination at work: its lanes and who asks it what it keeps, each in a thread of its own, until it leaves."""

    def __init__(self, settings: Settings, address: Destination, outbox: Outbox, lanes: int) -> None:
        self.address = address
        self.leaves = threading.Event()
        shared = Breaker(
            address.name,
            outbox.database,
            lambda failures: backoff_s(settings.deliver, failures, random.random()),  # noqa: S311
        )
        self.lanes = [Lane(settings, address, outbox, shared, self.leaves) for _ in range(lanes)]
        self.threads = [threading.Thread(target=lane.run, daemon=True) for lane in self.lanes]
        self.threads += commit_ask.asking(settings, address, outbox.database, self.leaves)
        for thread in self.threads:
            thread.start()

    def is_alive(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)


class Places:
    """Every destination at work; at least one lane for each, `deliver.threads` are shared out. For one thread alone."""

    def __init__(self, settings: Settings, outbox: Outbox) -> None:
        self._settings = settings
        self._outbox = outbox
        self._at: dict[str, Place] = {}
        self._leaving: list[Place] = []
        self._left: set[str] = set()

    def follow(self) -> None:
        """Begin where results go by now, and leave where they go no more; one that was changed begins anew."""
        with self._outbox.database.reading() as session:
            there = {d.name: d for d in addresses.destinations(session, self._settings)}
        for name, place in tuple(self._at.items()):
            if there.get(name) != place.address:
                place.leaves.set()
                self._leaving.append(self._at.pop(name))
                self._left.add(name)
        self._leaving = [p for p in self._leaving if p.is_alive()]
        each = max(1, self._settings.deliver.threads // max(1, len(there)))
        for name in there.keys() - self._at.keys():
            if name in self._left:  # what failed there may work now: nothing waits for another try
                breaker.forget(self._outbox.database, name)
                self._outbox.hasten(name, time.time())
            self._at[name] = Place(self._settings, there[name], self._outbox, each)

    def wake(self, due: Collection[str]) -> None:
        """The lanes of these destinations have something to do."""
        for lane in (lane for name in due if name in self._at for lane in self._at[name].lanes):
            lane.due.set()

    def in_hand(self) -> list[str]:
        """The claims of busy lanes, also of those that leave."""
        places = (*self._at.values(), *self._leaving)
        return [token for place in places for lane in place.lanes if (token := lane.token)]

    def end(self) -> None:
        """Leave everywhere."""
        places = (*self._at.values(), *self._leaving)
        for place in places:
            place.leaves.set()
        for thread in (thread for place in places for thread in place.threads):
            thread.join(STOP_S)


def serve(settings: Settings, stop: threading.Event | None = None) -> None:
    """Deliver what is owed until `stop`. Kill it at any time: what it had in hand is sent again."""
    stop = stop or threading.Event()
    database = Database(settings.url)
    breaker.forget(database)
    outbox = Outbox(database, settings.data)
    places = Places(settings, outbox)
    threads = commit_ask.threads(settings, database, stop)
    threads.append(threading.Thread(target=subscriptions.serve, args=(settings, stop), daemon=True))
    for thread in threads:
        thread.start()
    try:
        turn(outbox, places, stop)
    finally:
        stop.set()
        places.end()
        for thread in threads:
            thread.join(STOP_S)
        database.close()


def turn(outbox: Outbox, places: Places, stop: threading.Event) -> None:
    """Follow where results go, wake the lanes of destinations that something is due for, and keep the claims of busy lanes alive."""
    released, beat_at = False, 0.0
    patience = Patience("The look for what is owed", "deliver")
    pulse = Pulse(outbox.database, LOOK_S)
    while pulse.wait(stop, POLL_S):
        try:
            if not released:
                outbox.release_lost()
                released = True
            places.follow()
            now = time.time()
            places.wake(outbox.due(now))
            if time.monotonic() >= beat_at:
                outbox.renew(places.in_hand(), now + LEASE_S)
                beat_at = time.monotonic() + BEAT_S
            patience.worked()
        except SQLAlchemyError as e:
            stop.wait(patience.failed(e))
