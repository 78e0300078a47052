"""Asks each PACS whether it keeps what it took, and answers those that ask the node: threads of the role `deliver`.

What else is asked of peers runs beside them (`threads`).
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from pydicom.dataset import Dataset

from radnode import commit_requests, commitment
from radnode.addresses import address_of
from radnode.commit_requests import Request
from radnode.commitment import Unproven
from radnode.database import Database
from radnode.destinations.dimse_commit import Way, open_way, report
from radnode.errors import DeliveryError
from radnode.evidence_ask import EvidenceAsker
from radnode.faults import Point, crash_point
from radnode.fetch_run import Fetcher
from radnode.patience import Patience
from radnode.peers.table import list_peers
from radnode.prior_fetch import PriorFinder
from radnode.pulse import Pulse, keep_turning
from radnode.reconcile import Reconciler
from radnode.settings import Deliver, Destination, Settings
from radnode_inference.findings import uid_from

POLL_S, LOOK_S = 0.25, 1.0
SAME_S = 5.0
"""How long an association is kept for a report on it."""
SURE = 2
"""C-FIND has to miss an object so often before it is sent again: some systems list late."""
GIVE_UP = 20
"""How often an answer to another system is tried; with the waits that double, for hours."""

log = logging.getLogger(__name__)


def is_asked(address: Destination) -> bool:
    """Whether a destination is asked about what it took."""
    return address.kind == "dimse" and address.commitment != "off"


class Asker:
    """Asks one PACS."""

    def __init__(self, settings: Settings, address: Destination, database: Database) -> None:
        self.policy = settings.deliver
        self.calling_ae = settings.receive.ae_title
        self.address = address
        self.database = database

    def turn(self) -> bool:
        """Ask about what is due; False when nothing was."""
        now = time.time()
        commitment.expire(self.database, self.address.name, now)
        items = commitment.due(self.database, self.address.name, now)
        if not items:
            return False
        try:
            with open_way(
                self.address, calling_ae=self.calling_ae, timeout_s=self.policy.timeout_s, hear=self._hear
            ) as way:
                self._ask(way, items)
        except DeliveryError as e:
            wait = later_s(self.policy, max(i.attempt for i in items))
            commitment.later(self.database, items, str(e), time.time() + wait)
            log.warning(
                "%s cannot be asked what it keeps: %s", self.address.name, e.sentence, extra={"action": "commit"}
            )
        return True

    def _ask(self, way: Way, items: Sequence[Unproven]) -> None:
        """By storage commitment, and where that is not offered or its answers never come, by C-FIND."""
        wanted = self.address.commitment
        in_vain = all(i.attempt for i in items) and wanted == "auto" and way.finds
        if wanted != "find" and way.commits and not in_vain:
            self._commit(way, items)
        elif wanted != "n-action" and way.finds:
            self._find(way, items)
        else:
            what = {"n-action": "no storage commitment", "find": "no C-FIND"}
            commitment.unknowable(
                self.database, items, f"it offers {what.get(wanted, 'neither storage commitment nor C-FIND')}"
            )

    def _commit(self, way: Way, items: Sequence[Unproven]) -> None:
        now = time.time()
        transaction_uid = uid_from(("commitment", self.address.name, repr(now), items[0].uid))
        commitment.asked(self.database, items, transaction_uid, now, now + self.policy.commit_wait_s)
        crash_point(Point.COMMITMENT_ASKED)
        way.request(transaction_uid, {i.uid: i.sop_class_uid for i in items})
        end = time.monotonic() + min(SAME_S, self.policy.commit_wait_s)
        while time.monotonic() < end and way.association.is_established:
            if not commitment.is_open(self.database, transaction_uid):
                return
            time.sleep(0.1)

    def _find(self, way: Way, items: Sequence[Unproven]) -> None:
        by_series: dict[tuple[str, str], list[Unproven]] = {}
        for item in items:
            by_series.setdefault((item.study_uid, item.series_uid), []).append(item)
        for (study_uid, series_uid), group in by_series.items():
            there = way.find(study_uid, series_uid, [i.uid for i in group])
            early = [i for i in group if i.uid not in there and i.attempt + 1 < SURE]
            if early:
                now = time.time()
                commitment.later(self.database, early, "its C-FIND does not list it yet", now + self.policy.retry_s)
            judged = [i for i in group if i not in early]
            commitment.found(self.database, self.policy, judged, there, time.time())

    def _hear(self, information: Dataset) -> None:
        commitment.heard(self.database, self.policy, information, time.time())


class Answerer:
    """Answers storage commitments that others asked for, each on an association of its own; none waits for another caller's."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self._busy: dict[str, threading.Thread] = {}  # by AE title

    def turn(self) -> bool:
        """Begin what can be begun; False always: what is under way is not waited for."""
        self._busy = {ae: thread for ae, thread in self._busy.items() if thread.is_alive()}
        for request in commit_requests.due(self.database, time.time(), self._busy):
            if request.calling_ae not in self._busy:
                thread = threading.Thread(target=self.answer, args=(request,), daemon=True)
                self._busy[request.calling_ae] = thread
                thread.start()
        return False

    def answer(self, asked: Request) -> None:
        """Say what is here to the peer that asked; later again where it does not listen, or whatever else fails."""
        try:
            self.say(asked)
        except Exception as e:  # a file system, a library: without a wait it would be tried again at once, for ever
            log.exception("A storage commitment cannot be answered.", extra={"action": "commit"})
            self.later(asked, f"{type(e).__name__}: see the log")

    def say(self, asked: Request) -> None:
        """Find out what is here, and report it."""
        at = commit_requests.where(list_peers(self.database), asked)
        if at is None:
            why = "It took no answer on its own association, and no peer of this AE title has a port."
            commit_requests.give_up(self.database, asked, why)
            return
        found = commit_requests.judge(self.database, self.settings.data, asked, time.time())
        policy = self.settings.deliver
        try:
            report(
                address_of(at, self.settings), found.transaction_uid, found.committed, found.failed,
                calling_ae=asked.called_ae, timeout_s=policy.timeout_s,
            )  # fmt: skip
        except DeliveryError as e:
            log.warning("A storage commitment cannot be answered: %s", e.sentence, extra={"action": "commit"})
            self.later(asked, str(e))
            return
        commit_requests.answered(self.database, asked.transaction_uid, len(found.committed), time.time())

    def later(self, asked: Request, why: str) -> None:
        """Again after a while, or not any more."""
        if asked.attempt >= GIVE_UP:
            commit_requests.give_up(self.database, asked, why)
            return
        wait_s = later_s(self.settings.deliver, asked.attempt)
        commit_requests.postpone(self.database, asked, why, time.time() + wait_s)


def later_s(policy: Deliver, attempt: int) -> float:
    return float(min(policy.retry_max_s, policy.retry_s * 2.0 ** min(attempt, 60)))


def asking(
    settings: Settings, address: Destination, database: Database, stop: threading.Event
) -> list[threading.Thread]:
    """One for this PACS, so that none holds up another; none where it is not asked."""
    asked = [Asker(settings, address, database)] if is_asked(address) else []
    return [threading.Thread(target=run, args=(a.turn, database, stop), daemon=True) for a in asked]


def threads(settings: Settings, database: Database, stop: threading.Event) -> list[threading.Thread]:
    """One that answers, one that asks what there is of a study, and those that find and fetch studies."""
    turns: list[Callable[[], bool]] = [Answerer(settings, database).turn, EvidenceAsker(settings, database).turn]
    turns += [c(settings, database).turn for c in (PriorFinder, Fetcher, Reconciler)]
    return [threading.Thread(target=run, args=(turn, database, stop), daemon=True) for turn in turns]


def run(turn: Callable[[], bool], database: Database, stop: threading.Event) -> None:
    """Turn until `stop`; what fails is turned again."""
    patience = Patience(f"What {type(getattr(turn, '__self__', turn)).__name__} asks", "commit")
    keep_turning(turn, stop, patience=patience, pulse=Pulse(database, LOOK_S), poll_s=POLL_S)
