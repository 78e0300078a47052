"""Who may send to the node, and who was turned away. The only writer of the peers and refusals tables."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from typing import TypedDict

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from radnode import audit
from radnode.audit import Act, Kind, Outcome
from radnode.database import Database
from radnode.peers import changes as peer_changes
from radnode.peers.peer import Peer as Peer
from radnode.settings import Settings
from radnode.tables import PeerRow, RefusalRow
from radnode.withdrawals import withdraw

REFRESH_S = 0.5
"""How old the list of peers may be: a removed peer is out after this. An added one is in at once."""
TOLD_S = 600.0
"""The audit has one row of the same refusal in so much time."""
MAX_REFUSALS = 10_000
"""Different refusals kept; beyond it, new ones are counted under one line, so that a scan cannot fill the disk."""
CALLING_NOT_RECOGNISED, CALLED_NOT_RECOGNISED, IN_THE_CLEAR = (1, 1, 3), (1, 1, 7), (1, 1, 1)
"""(result, source, reason) of an A-ASSOCIATE-RJ. PS3.8 table 9-21: it has no reason of its own for a lack of TLS."""

PLAIN = "This peer is to come over TLS, and came in the clear."
ANOTHER_CERTIFICATE = "The certificate that it came with is another's: it has not the name that is set for this peer."
UNSEEN_CERTIFICATE = (
    "This peer is known by its certificate, which is looked at for DICOM alone: it may not send over HTTP."
)
NO_SEAT = "There are too many associations."
FILE = "the settings file"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A caller that was turned away `count` times, last at `last_at` (UTC epoch seconds)."""

    calling_ae: str
    called_ae: str
    address: str
    reason: str
    count: int
    last_at: float


@dataclass(frozen=True, kw_only=True)
class Admission:
    """admitted: no rejection. rejection: (result, source, reason) of the A-ASSOCIATE-RJ; sentence says why."""

    peer: str = ""
    may: frozenset[str] = frozenset({"send"})
    rejection: tuple[int, int, int] | None = None
    sentence: str = ""


class Over(TypedDict):
    """How a caller came: over TLS, and with which names in its certificate."""

    secured: bool
    shown: Set[str]


class Peers:
    """The door: keeps the peers table for REFRESH_S, so that asking costs nothing. Safe among threads.

    Nobody is refused by what was kept: before a refusal the table is read again, which costs less than recording it.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings.receive
        self._database = database
        self._lock = threading.Lock()
        self._peers: tuple[Peer, ...] = ()
        self._read_at = float("-inf")

    def admit(
        self, calling_ae: str, called_ae: str, address: str, *, secured: bool = False, shown: Set[str] = frozenset()
    ) -> Admission:
        """Whether this caller may come in; secured: over TLS; shown: the names in its certificate, in small letters.

        A refusal is recorded before it is returned.
        """
        own, unknown = (self._settings.ae_title, *self._settings.also_called), self._settings.accept_unknown_callers
        over: Over = {"secured": secured, "shown": shown}
        admission = decide(self._kept(), calling_ae, called_ae, address, own, unknown, **over)
        if admission.rejection is not None:
            admission = decide(self._read(), calling_ae, called_ae, address, own, unknown, **over)
        if admission.rejection is not None:
            record_refusal(self._database, calling_ae, called_ae, address, admission.sentence)
        return admission

    def admit_address(self, address: str, name: str, *, secured: bool = False) -> bool:
        """Whether a caller without an AE title (HTTP) may send: some peer has this address. A refusal is recorded.

        name: what stands for its AE title in the record. secured: over TLS.
        """
        why = self._against(self._kept(), address, secured=secured)
        why = why and self._against(self._read(), address, secured=secured)
        if why:
            record_refusal(self._database, name, "", address, why)
        return not why

    def _against(self, peers: Iterable[Peer], address: str, *, secured: bool) -> str:
        """Why a caller without an AE title may not send; "" when it may."""
        there = [p for p in peers if "send" in p.may and is_address_of(p, address)]
        if not secured and any(p.tls for p in there):
            return PLAIN
        if any(p.certificate_name for p in there):
            return UNSEEN_CERTIFICATE
        return "" if there or self._settings.accept_unknown_callers else "The address is not among the peers."

    def _kept(self) -> tuple[Peer, ...]:
        with self._lock:
            if time.monotonic() - self._read_at <= REFRESH_S:
                return self._peers
        return self._read()

    def _read(self) -> tuple[Peer, ...]:
        with self._lock:
            self._peers = list_peers(self._database)
            self._read_at = time.monotonic()
            return self._peers


def is_address_of(peer: Peer, address: str) -> bool:
    """Whether a peer stands at this address, or may be anybody."""
    return peer.matches_address(address) if peer.address else not peer.ae_title


def decide(
    peers: Iterable[Peer],
    calling_ae: str,
    called_ae: str,
    address: str,
    own: Sequence[str],
    accept_unknown: bool,
    *,
    secured: bool = False,
    shown: Set[str] = frozenset(),
) -> Admission:
    """Pure: called AE first, then calling AE and address together. own: the AE titles of the node. secured: over TLS.

    A caller that several rows describe may do what any of them allows, but in the clear only when none of them asks for
    TLS, and where any of them names a certificate, only with one that is named. One that studies are fetched from sends
    them.
    """
    if called_ae.strip() not in own:
        return Admission(rejection=CALLED_NOT_RECOGNISED, sentence=f"The node is called {' or '.join(own)}, not this.")
    peers = tuple(peers)
    fitting = [p for p in peers if p.matches(calling_ae, address)]
    if not secured and any(p.tls for p in fitting):
        return Admission(rejection=IN_THE_CLEAR, sentence=PLAIN)
    if any(p.certificate_name for p in fitting):
        named = [p for p in fitting if p.certificate_name.lower() in shown]
        if not named:
            return Admission(rejection=CALLING_NOT_RECOGNISED, sentence=ANOTHER_CERTIFICATE)
        fitting = [p for p in fitting if p in named or not p.certificate_name]
    may = frozenset(right for p in fitting for right in p.as_caller)
    if may:
        return Admission(peer=fitting[0].name, may=may | ({"send"} if "retrieve" in may else set()))
    if accept_unknown:
        return Admission(may=frozenset({"send", "commit"}))
    if fitting:
        why = "The caller is among the peers, but may not send."
        return Admission(rejection=CALLING_NOT_RECOGNISED, sentence=why)
    known_ae = any(p.ae_title and p.matches_ae(calling_ae) for p in peers)
    why = (
        "The calling AE title is known, but not from this address."
        if known_ae
        else "The caller is not among the peers."
    )
    return Admission(rejection=CALLING_NOT_RECOGNISED, sentence=why)


def unheard(settings: Settings, peers: Iterable[Peer]) -> tuple[str, ...]:
    """A sentence for each peer that has to call over TLS where the node does not listen for it."""
    if settings.receive.tls_port is not None:
        return ()
    told = [p for p in peers if p.tls and p.as_caller]
    return tuple(f"{p.name} is refused: it has to come over TLS, and [receive] names no tls_port." for p in told)


def list_peers(database: Database) -> tuple[Peer, ...]:
    """Every peer, by name."""
    with database.reading() as session:
        rows = session.scalars(select(PeerRow).order_by(PeerRow.name))
        return tuple(from_row(row) for row in rows)


def add_peer(database: Database, peer: Peer, *, who: str = "") -> None:
    """Add a peer, or replace the one of that name. Kept in the history: who did it, before and after.

    What is owed to one that gets no results any more is withdrawn.
    """
    with database.transaction() as session:
        put(session, peer, who)


def put(session: Session, peer: Peer, who: str) -> None:
    row = session.get(PeerRow, peer.name)
    before = None if row is None else from_row(row)
    if before == peer:
        return
    change(session, peer, before, who)
    if before is not None and before.gets_results and not peer.gets_results:
        withdraw(session, peer.name, "this peer gets no results any more", time.time())


def change(session: Session, peer: Peer, before: Peer | None, who: str) -> None:
    session.merge(PeerRow(**to_row(peer)))
    peer_changes.record(session, peer.name, None if before is None else vars(before), vars(peer), who, time.time())


def remove_peer(database: Database, name: str, *, who: str = "") -> bool:
    """Whether there was such a peer."""
    with database.transaction() as session:
        return drop(session, name, who)


def drop(session: Session, name: str, who: str) -> bool:
    row = session.get(PeerRow, name)
    if row is None:
        return False
    before, now = from_row(row), time.time()
    peer_changes.record(session, name, vars(before), None, who, now)
    session.delete(row)
    if before.gets_results:
        withdraw(session, name, "this peer was removed", now)
    return True


def sync_from_settings(settings: Settings, database: Database) -> None:
    """Make the rows that come from the settings file equal to it; peers added by hand stay, unless named in the file.

    One whose name is a destination of the file by now gets no results as a peer: what is owed to the name goes there.
    """
    wanted = {p.name: Peer(**{**p.model_dump(), "from_settings": True}) for p in settings.peers}
    with database.transaction() as session:
        for name in session.scalars(select(PeerRow.name).where(PeerRow.from_settings)).all():
            if name not in wanted:
                drop(session, name, FILE)
        for row in session.scalars(select(PeerRow).where(PeerRow.name.in_([d.name for d in settings.destinations]))):
            peer = from_row(row)
            if peer.gets_results:
                may = tuple(right for right in peer.may if right != "results")
                change(session, replace(peer, may=may, profile=()), peer, FILE)
        for peer in wanted.values():
            put(session, peer, FILE)


def record_refusal(database: Database, calling_ae: str, called_ae: str, address: str, reason: str) -> None:
    """Count a caller that was turned away, and say so in the log."""
    log.warning(
        "An association was refused.",
        extra={"action": "refuse", "calling_ae": calling_ae, "called_ae": called_ae, "address": address, "why": reason},
    )
    key = {"calling_ae": calling_ae[:64], "called_ae": called_ae[:64], "address": address[:64], "reason": reason}
    try:
        count_refusal(database, key)
    except IntegrityError:  # another process recorded the same one at the same moment
        count_refusal(database, key)


def count_refusal(database: Database, key: dict[str, str]) -> None:
    now = time.time()
    with database.transaction() as session:
        if once_more(session, key, now):
            return
        many = session.scalar(select(RefusalRow.id).order_by(RefusalRow.id).offset(MAX_REFUSALS - 1).limit(1))
        if many is not None:
            key = {**key, "calling_ae": "", "called_ae": "", "address": ""}
            if once_more(session, key, now):
                return
        session.execute(insert(RefusalRow), [{**key, "count": 1, "last_at": now}])
        tell(session, key)


def once_more(session: Session, key: dict[str, str], now: float) -> bool:
    """Count a refusal that is known; False for a new one. The audit gets one row of it in TOLD_S, however often it comes."""
    last = session.scalar(select(RefusalRow.last_at).filter_by(**key))
    if last is None:
        return False
    session.execute(update(RefusalRow).filter_by(**key).values({"count": RefusalRow.count + 1, "last_at": now}))
    if now // TOLD_S != last // TOLD_S:
        tell(session, key)
    return True


def tell(session: Session, key: dict[str, str]) -> None:
    """The audit's row of a caller that was turned away."""
    called = f" It called {key['called_ae']}." if key["called_ae"] else ""
    act = Act(
        who=key["calling_ae"] or "unknown", address=key["address"], kind=Kind.TURNED_AWAY, action="association refused",
        detail=key["reason"] + called, outcome=Outcome.REFUSED,
    )  # fmt: skip
    audit.note(session, act)


def list_refusals(database: Database, limit: int = 100) -> tuple[Refusal, ...]:
    """The callers turned away, the latest first."""
    with database.reading() as session:
        rows = session.scalars(select(RefusalRow).order_by(RefusalRow.last_at.desc()).limit(limit))
        return tuple(
            Refusal(
                calling_ae=r.calling_ae,
                called_ae=r.called_ae,
                address=r.address,
                reason=r.reason,
                count=r.count,
                last_at=r.last_at,
            )
            for r in rows
        )


def from_row(row: PeerRow) -> Peer:
    columns = {name: getattr(row, name) for name in Peer.__dataclass_fields__}
    return Peer(**columns | {"may": tuple(row.may.split()), "profile": tuple(row.profile.split())})


def to_row(peer: Peer) -> dict[str, object]:
    return {**vars(peer), "may": " ".join(peer.may), "profile": " ".join(peer.profile)}
