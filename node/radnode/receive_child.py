"""One receiving process: accepts connections and runs each association in a thread."""

import logging
import mmap
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from zlib import crc32

from sqlalchemy.exc import SQLAlchemyError

from radnode import tls, turned_away
from radnode.association import ARTIM_S, VERIFICATION, Association, negotiate
from radnode.association_pdu import ConnectionEndedError, NothingCameError, PduReader, ProtocolError, abort
from radnode.association_serve import Session
from radnode.association_services import SERVICES, Services
from radnode.database import Database
from radnode.peers.table import NO_SEAT, Admission, Peers, record_refusal
from radnode.sending import Sending, forget, pause_of
from radnode.settings import Settings
from radnode.store import Store
from radnode.store_recover import recover

DRAIN_S = 5.0
"""How long associations may go on after the node was told to stop."""
RECOVER_S = 600.0
"""How often the store is looked at."""
LINGER_S = 1.0
"""How long to wait for the peer to close after the last PDU."""
STRANGERS = 32
"""Connections of a process that have not yet asked for an association, beyond its associations."""
CALLERS = 256
KEPT_FREE = 8
"""One seat in so many is for other callers than the one that has all the rest: one that is stuck shuts nobody out."""
TEMPORARY_CONGESTION, LOCAL_LIMIT_EXCEEDED = (2, 3, 1), (2, 3, 2)
"""PS3.8 table 9-21."""

log = logging.getLogger(__name__)


class Slots:
    """How many associations each process has, in all and of each caller: memory shared by parent and children, one writer per slot.

    Callers are told apart by a hash of their AE title: two may count as one, and then have fewer seats together.
    """

    def __init__(self, count: int) -> None:
        self._row = struct.Struct(f"{1 + CALLERS}I")
        self._memory = mmap.mmap(-1, count * self._row.size)

    def set(self, slot: int, callers: Collection[str] = ()) -> None:
        """callers: the AE title of each association of the process."""
        row = [len(callers)] + CALLERS * [0]
        for calling_ae in callers:
            row[place_of(calling_ae)] += 1
        self._row.pack_into(self._memory, slot * self._row.size, *row)

    def total(self) -> int:
        return sum(row[0] for row in self._row.iter_unpack(self._memory))

    def of(self, calling_ae: str) -> int:
        place = place_of(calling_ae)
        return sum(row[place] for row in self._row.iter_unpack(self._memory))


def place_of(calling_ae: str) -> int:
    return 1 + crc32(calling_ae.encode("utf-8", "replace")) % CALLERS


class Child:
    """Everything of one process. Made after the fork, so that no database connection is carried over it."""

    def __init__(self, settings: Settings, listeners: Mapping[str, socket.socket], slots: Slots, slot: int) -> None:
        self._node, self._settings = settings, settings.receive
        self._secured = listeners.get("receive-tls.port")
        self._tls = tls.listening(settings.tls) if self._secured is not None else None
        self._pause_s = pause_of(settings)
        self._listeners = tuple(listeners.values())
        self._slots, self._slot = slots, slot
        # the files are flushed, and `recover` makes rows of them again: a second flush per image would buy nothing
        self._database = Database(settings.url, flush_commits=False)
        self._store = Store(settings, self._database)
        self._peers = Peers(settings, self._database)
        # what these promise (a commitment, a step that was heard) has no file to be made again from
        self._services = Services(settings, Database(settings.url))
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, None] = {}  # the oldest first
        self._seated: dict[socket.socket, str] = {}  # those with an association, and the AE title of its caller

    def run(self, lifeline: int, *, recovering: bool) -> None:
        """Accept until the lifeline ends, then let the associations finish."""
        with suppress(SQLAlchemyError):  # what is left there counts only for a while
            forget(self._database, self._slot)
        if recovering:
            threading.Thread(target=self._look_after_the_store, name="recover", daemon=True).start()
        with selectors.DefaultSelector() as selector:
            for listener in self._listeners:
                selector.register(listener, selectors.EVENT_READ)
            selector.register(lifeline, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if lifeline in ready:
                    break
                for listener in self._listeners:
                    if listener.fileno() in ready:
                        self._accept(listener)
        for listener in self._listeners:
            listener.close()
        self._drain()
        self._store.refusals.close()  # the process ends without a word to its threads

    def _look_after_the_store(self) -> None:
        """At the start; the first process then goes on, so that the next start has only minutes to look at."""
        while True:
            try:
                recover(self._store, self._database)
            except Exception:
                log.exception("The store could not be checked.", extra={"action": "recover"})
            if self._slot != 0:
                return
            time.sleep(RECOVER_S)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, address = listener.accept()
        except OSError:  # another process was quicker, the caller is gone again, or no descriptor is free
            time.sleep(0.001)
            return
        if not self._make_room(connection):
            connection.close()
            return
        secured = listener is self._secured
        threading.Thread(target=self._serve, args=(connection, address[0], secured), daemon=True).start()

    def _make_room(self, connection: socket.socket) -> bool:
        """Keep a new connection. When there are too many, the one that has longest not asked for an association goes:
        an honest caller asks at once, so that callers who open connections and say nothing shut nobody out."""
        with self._lock:
            if len(self._connections) >= self._settings.max_associations + STRANGERS:
                slowest = next((c for c in self._connections if c not in self._seated), None)
                if slowest is None:
                    return False
                del self._connections[slowest]
                with suppress(OSError):
                    slowest.shutdown(socket.SHUT_RDWR)  # its thread then ends
            self._connections[connection] = None
        return True

    def _secure(self, connection: socket.socket, address: str) -> socket.socket:
        """The connection over TLS, in place of the plain one. Raises ConnectionEndedError when they do not agree."""
        assert self._tls is not None
        connection.settimeout(min(ARTIM_S, self._settings.association_idle_s))
        secured: socket.socket = connection
        try:
            secured = handshake = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            with self._lock:  # so that it can be ended in the middle of the handshake
                self._connections.pop(connection, None)
                self._connections[secured] = None
            handshake.do_handshake()
        except (ssl.SSLError, OSError) as e:
            with self._lock:
                self._connections.pop(secured, None)
            secured.close()
            why = getattr(e, "reason", "") or type(e).__name__
            raise ConnectionEndedError(f"TLS was not agreed on with {address}: {why}") from e
        return secured

    def _serve(self, connection: socket.socket, address: str, secured: bool) -> None:
        """One connection from its first byte to its end."""
        try:
            connection.setblocking(True)
            if secured:
                connection = self._secure(connection, address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader = PduReader(connection, idle_s=min(ARTIM_S, self._settings.association_idle_s))
            came_at = time.time()
            association = negotiate(connection, reader, partial(self._admit, connection, address, secured))
            if association is not None:
                self._back(association, address, came_at)
                reader.set_idle(self._settings.association_idle_s)
                self._converse(connection, reader, association, address)
        except ProtocolError as e:
            tell("A caller broke the protocol and was cut off.", "abort", address, str(e))
            with suppress(OSError):
                connection.sendall(abort(e.reason))
        except NothingCameError:  # `/readyz` and load balancers look so every few seconds: no news
            pass
        except (ConnectionEndedError, OSError) as e:
            tell("A connection ended early.", "cut", address, str(e))
        except Exception:
            log.exception("An association failed.", extra={"action": "fail", "address": address})
            with suppress(OSError):
                connection.sendall(abort(0))
        finally:
            self._leave(connection)

    def _converse(self, connection: socket.socket, reader: PduReader, association: Association, address: str) -> None:
        sending = Sending(self._database, slot=self._slot, pause_s=self._pause_s)
        session = Session(connection, reader, association, address, self._store, sending, self._services)
        ending = "cut off"
        try:
            ending = session.run()
        finally:
            log.info(
                "An association ended.",
                extra={
                    "action": "association",
                    "calling_ae": association.calling_ae,
                    "address": address,
                    "stored": session.stored,
                    "refused": session.refused,
                    "ending": ending,
                },
            )

    def _admit(
        self, connection: socket.socket, address: str, secured: bool, calling_ae: str, called_ae: str
    ) -> Admission:
        """The peers table's word, then whether there is a seat."""
        try:
            shown = tls.names(connection)
            admission = self._peers.admit(calling_ae, called_ae, address, secured=secured, shown=shown)
        except SQLAlchemyError as e:
            tell("A caller was turned away: the database does not answer.", "reject", address, type(e).__name__)
            return Admission(rejection=TEMPORARY_CONGESTION, sentence="The database of the node does not answer.")
        if admission.rejection is not None:
            return admission
        with self._lock:
            most, has = self._settings.max_associations, self._slots.of(calling_ae)
            seated = self._slots.total() < most and has < most - most // KEPT_FREE
            if seated:
                self._seated[connection] = calling_ae
                self._slots.set(self._slot, self._seated.values())
        if seated:
            return admission
        try:  # before the caller hears of it, so that its next call comes later
            turned_away.refused(self._database, calling_ae, time.time(), seated=has > 0)
            record_refusal(self._database, calling_ae, called_ae, address, NO_SEAT)
        except SQLAlchemyError as e:
            tell("It cannot be noted who was turned away.", "refuse", address, type(e).__name__)
        return Admission(rejection=LOCAL_LIMIT_EXCEEDED, sentence=NO_SEAT)

    def _back(self, association: Association, address: str, came_at: float) -> None:
        """Who was turned away is back once it may send images again: an echo brings none."""
        if all(c.abstract_syntax in (VERIFICATION, *SERVICES) for c in association.contexts.values()):
            return
        try:
            turned_away.back(self._database, self._node, association.calling_ae, address, came_at)
        except SQLAlchemyError as e:
            tell("It cannot be noted who is back.", "associate", address, type(e).__name__)

    def _leave(self, connection: socket.socket) -> None:
        with self._lock:
            self._seated.pop(connection, None)
            self._slots.set(self._slot, self._seated.values())
        hang_up(connection)
        with self._lock:
            self._connections.pop(connection, None)

    def _drain(self) -> None:
        deadline = time.monotonic() + DRAIN_S
        while self._seated and time.monotonic() < deadline:
            time.sleep(0.02)
        with self._lock:
            left = list(self._seated)
        for connection in left:
            with suppress(OSError):
                connection.sendall(abort(0))


def hang_up(connection: socket.socket) -> None:
    """Close so that the peer still reads what was sent last: a close with unread input would throw that away."""
    deadline = time.monotonic() + LINGER_S
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(LINGER_S)
        while connection.recv(65536) and time.monotonic() < deadline:
            pass
    connection.close()


def tell(sentence: str, action: str, address: str, why: str) -> None:
    log.warning(sentence, extra={"action": action, "address": address, "why": why})
