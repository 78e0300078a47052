"""Fetches studies from peers: a thread for each peer while there is something to fetch, in the role `deliver`."""

import logging
import threading
import time
from collections.abc import Iterator

from sqlalchemy.exc import SQLAlchemyError

from radnode import fetches
from radnode.addresses import address_of
from radnode.database import Database
from radnode.destinations import dimse_fetch, orthanc
from radnode.destinations.dimse_fetch import Brought
from radnode.destinations.web_find import WebFinder
from radnode.errors import DeliveryError, StoreError
from radnode.faults import Point, crash_point
from radnode.fetches import Fetch
from radnode.peers.table import Peer, list_peers
from radnode.query import web_address
from radnode.settings import Settings
from radnode.store import Store
from radnode.store_check import Arrival
from radnode_inference.header import NotDicomError, walk

RETRY_S = 10.0
BEAT_S = 10.0
"""Between two renewals of what is being fetched."""

log = logging.getLogger(__name__)


def fetch(peer: Peer, study_uid: str, settings: Settings, store: Store) -> Brought:
    """Fetch a study from a peer in its way. Raises DeliveryError."""
    if "retrieve" not in peer.may:
        raise DeliveryError(f"{peer.name} is no peer that studies may be fetched from", brought=0)
    own, timeout_s = settings.receive.ae_title, settings.deliver.timeout_s
    if peer.way == "move":
        many = dimse_fetch.move(address_of(peer, settings), study_uid, calling_ae=own, timeout_s=timeout_s)
        return Brought(many=many)
    many = 0
    try:
        if peer.way == "get":

            def keep(arrival: Arrival, body: bytes) -> None:
                nonlocal many
                store.put(arrival, [body])
                many += 1

            return dimse_fetch.get(address_of(peer, settings), study_uid, keep, calling_ae=own, timeout_s=timeout_s)
        for file in files(peer, study_uid, settings):
            keep_file(store, file, peer, own, study_uid)
            many += 1
    except DeliveryError as e:
        e.brought = many
        raise
    return Brought(many=many)


def files(peer: Peer, study_uid: str, settings: Settings) -> Iterator[bytes]:
    """The objects of a study as DICOM files, one at a time. Raises DeliveryError."""
    at, timeout_s = web_address(peer, settings), settings.deliver.timeout_s
    if peer.way == "orthanc":
        yield from orthanc.study_files(at, study_uid, timeout_s)
        return
    with WebFinder(at, timeout_s) as server:
        yield from server.objects(study_uid)


def keep_file(store: Store, file: bytes, peer: Peer, called_ae: str, study_uid: str) -> None:
    """A DICOM file (PS3.10) into the store. Raises DeliveryError when it is none, or cannot be kept."""
    try:
        meta, start, _, _ = walk(file, 132, big=False, implicit=False, stop_after_group=2)
        text = {e: meta.get(0x00020000 | e, (b"", b""))[1].rstrip(b"\0 ").decode("ascii") for e in (0x02, 0x03, 0x10)}
        arrival = Arrival(
            calling_ae=peer.ae_title or peer.name,
            called_ae=called_ae,
            address=peer.called_at,
            sop_class_uid=text[0x02],
            sop_uid=text[0x03],
            transfer_syntax_uid=text[0x10],
            study_uid=study_uid,
        )
        store.put(arrival, [memoryview(file)[start:]])
    except (StoreError, NotDicomError, ValueError, IndexError) as e:
        raise DeliveryError(f"an object that it sent cannot be kept: {e}") from e


class Fetcher:
    """Works off the queue; no peer waits for another."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._store: Store | None = None
        self._busy: dict[str, threading.Thread] = {}
        self._in_hand: dict[str, str] = {}  # token of what is being fetched, by peer
        self._released, self._beat_at = False, 0.0

    def turn(self) -> bool:
        """Begin where something waits; False always."""
        if not self._released:
            fetches.release_lost(self._database)
            self._released = True
        self._beat()
        self._busy = {name: thread for name, thread in self._busy.items() if thread.is_alive()}
        names = fetches.waiting(self._database, time.time()) - set(self._busy)
        peers = {p.name: p for p in list_peers(self._database)} if names else {}
        for name in names:
            thread = threading.Thread(target=self.work_off, args=(name, peers.get(name)), daemon=True)
            self._busy[name] = thread
            thread.start()
        return False

    def work_off(self, name: str, peer: Peer | None) -> None:
        """Fetch from one peer until nothing waits there. A database that fails ends it: `turn` begins anew."""
        try:
            while (wanted := fetches.claim(self._database, name, time.time())) is not None:
                self._in_hand[name] = wanted.token
                crash_point(Point.FETCH_CLAIMED)
                self.one(wanted, peer)
                peer = next((p for p in list_peers(self._database) if p.name == name), None)  # as it is by now
        except SQLAlchemyError as e:
            log.warning(
                "The fetches from %s stop for now: the database fails (%s).", name, type(e).__name__,
                extra={"action": "fetch"},
            )  # fmt: skip
        finally:
            self._in_hand.pop(name, None)

    def _beat(self) -> None:
        """What is being fetched stays this process's; what a thread left unsettled is free when its lease ends."""
        if time.monotonic() < self._beat_at:
            return
        tokens = tuple(self._in_hand.copy().values())
        if tokens:
            fetches.renew(self._database, tokens, time.time() + fetches.LEASE_S)
        self._beat_at = time.monotonic() + BEAT_S

    def one(self, wanted: Fetch, peer: Peer | None) -> None:
        try:
            if peer is None:
                raise DeliveryError(f"there is no peer {wanted.peer} any more", brought=0)
            self._store = self._store or Store(self._settings, self._database)
            brought = fetch(peer, wanted.study_uid, self._settings, self._store)
            if brought.many == 0:
                raise DeliveryError(f"{peer.name} has no such study", brought=0)
            here = fetches.here(self._database, wanted.study_uid)
            if here < (brought.many or 1):
                raise DeliveryError(elsewhere(peer, brought.many, here, self._settings), brought=here)
        except Exception as e:  # whatever a peer, a library or the database does, the queue goes on
            reason, came = str(e), e.brought if isinstance(e, DeliveryError) else None
            if not isinstance(e, DeliveryError):
                log.exception("A study cannot be fetched.", extra={"action": "fetch", "study_uid": wanted.study_uid})
                reason = f"{type(e).__name__}: see the log"
            fetches.failed(self._database, wanted, reason, time.time(), RETRY_S, brought=came)
            return
        crash_point(Point.FETCHED_BEFORE_DONE)
        fetches.done(self._database, wanted, brought.many or here, time.time(), without=brought.without)


def elsewhere(peer: Peer, said: int | None, here: int, settings: Settings) -> str:
    """A peer says that it sent what did not come."""
    many = "the study" if said is None else f"{said} objects"
    came = f"{here} of them are here" if here else "nothing of it came"
    return f"{peer.name} says that it sent {many}, and {came}: look at where it sends what is for {settings.receive.ae_title}"
