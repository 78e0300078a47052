"""What a PACS has and the node never saw: asked for by schedule or by a person, listed, and on request fetched."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from radnode import audit, evidence, evidence_ask
from radnode.audit import Act, Kind
from radnode.database import Database
from radnode.destinations.dimse_find import Found
from radnode.errors import DeliveryError, RefusedError
from radnode.peers.table import Peer, list_peers
from radnode.query import Finder, querying
from radnode.settings import Settings
from radnode.states import StudyState
from radnode.tables import StudyRow
from radnode.tables_pacs import EvidenceRow, UnseenRow

SOURCE = "reconcile"
"""EvidenceRow.source of the row that says when a peer was asked last; its study is ""."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """A study that a peer has and the node has not (here = 0), or only a part of. No patient data but the date."""

    study_uid: str
    peer: str
    study_date: str
    study_time: str
    modalities: str
    instances: int | None
    here: int
    first_seen_at: float


@dataclass(frozen=True, kw_only=True)
class Asked:
    """at: when a peer was asked last, UTC epoch seconds. error: why it could not be."""

    peer: str
    at: float
    error: str


def ask(database: Database, settings: Settings, peer: Peer, days: int, now: float) -> int:
    """Ask a peer what it has of the last days, and keep what the node lacks; how many. Raises DeliveryError."""
    today = datetime.fromtimestamp(now, UTC).date()  # where the peer stands it may be the day before, or after
    span = f"{today - timedelta(days=days + 1):%Y%m%d}-{today + timedelta(days=1):%Y%m%d}"
    found: dict[str, Found] = {}
    try:
        with querying(peer, settings, settings.deliver.timeout_s) as finder:
            for modality in settings.reconcile.modalities or ("",):
                for study in finder.studies(StudyDate=span, ModalitiesInStudy=modality):
                    if not study.modalities or modality in ("", *study.modalities):  # some match by no modality
                        found[study.study_uid] = study
            found = {uid: images_of(database, finder, study) for uid, study in found.items()}
    except DeliveryError as e:
        evidence.keep(database, "", SOURCE, peer.name, now, error=str(e))
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as e:  # an answer may hold whatever a peer puts there
        log.exception("The answer of a peer cannot be read.", extra={"action": "reconcile"})
        why = f"its answer cannot be read ({type(e).__name__})"
        evidence.keep(database, "", SOURCE, peer.name, now, error=why)
        raise DeliveryError(why) from e
    evidence.keep(database, "", SOURCE, peer.name, now)
    with database.transaction() as session:
        detail = f"{peer.name} was asked for {span}: {len(found)} studies"
        audit.note(session, Act(kind=Kind.LISTED, action="query for studies never seen", detail=detail))
    return keep(database, peer.name, tuple(found.values()), now)


def images_of(database: Database, finder: Finder, found: Found) -> Found:
    """The study with as many images as it has beyond those that are here, where it may have more: it is asked for each series.

    The node's own results, which it may count as well, are none. Raises DeliveryError.
    """
    with database.reading() as session:
        study = session.get(StudyRow, found.study_uid)
        if study is None or (found.instances is not None and found.instances <= study.instances):
            return found
        own, made = evidence.own_series(session, found.study_uid), evidence.own_objects(session, found.study_uid)
    total, series = evidence_ask.count(finder, found.study_uid, own, made)
    with database.reading() as session:
        study = session.get_one(StudyRow, found.study_uid)
        more = evidence.surplus(session, study, EvidenceRow(instances=total, series=series))
        return replace(found, instances=study.instances + more)


def keep(database: Database, peer: str, found: Sequence[Found], now: float) -> int:
    """Replace what was known of a peer's unseen studies; how many there are now."""
    with database.transaction() as session:
        known = {r.study_uid: r.first_seen_at for r in session.scalars(select(UnseenRow).where(UnseenRow.peer == peer))}
        session.execute(delete(UnseenRow).where(UnseenRow.peer == peer))
        many = 0
        for study in found:
            here = present(session, study.study_uid)
            if here is None or (here and (study.instances or 0) <= here):
                continue
            row = UnseenRow(study_uid=study.study_uid, peer=peer, study_date=study.study_date[:16], here=here)
            row.study_time, row.modalities = study.study_time[:16], "\\".join(study.modalities)[:255]
            row.instances, row.seen_at = study.instances, now
            row.first_seen_at = known.get(study.study_uid, now)
            session.add(row)
            many += 1
    return many


def present(session: Session, study_uid: str) -> int | None:
    """How many images of a study the node has; None while it is being received."""
    study = session.get(StudyRow, study_uid)
    if study is None:
        return 0
    return None if study.state == StudyState.RECEIVING else study.instances


def unseen(session: Session) -> tuple[Unseen, ...]:
    """Every study that the node lacks, the newest first."""
    order = (UnseenRow.study_date.desc(), UnseenRow.study_time.desc(), UnseenRow.study_uid)
    return tuple(
        Unseen(
            study_uid=r.study_uid, peer=r.peer, study_date=r.study_date, study_time=r.study_time,
            modalities=r.modalities, instances=r.instances, here=r.here, first_seen_at=r.first_seen_at,
        )
        for r in session.scalars(select(UnseenRow).order_by(*order).limit(2000))
    )  # fmt: skip


def asked(session: Session) -> dict[str, Asked]:
    """Peer -> when it was asked last."""
    rows = session.scalars(select(EvidenceRow).where(EvidenceRow.source == SOURCE))
    return {r.key: Asked(peer=r.key, at=r.at, error=r.error) for r in rows}


def find(
    settings: Settings, peers: Sequence[Peer], *, study_uid: str = "", accession_number: str = ""
) -> tuple[Found, Peer]:
    """The one study that a person names, and the first peer that has it. Raises RefusedError that says what was tried."""
    keys = {"StudyInstanceUID": study_uid} if study_uid else {"AccessionNumber": accession_number}
    tried = []
    for peer in peers:
        try:
            with querying(peer, settings, settings.deliver.timeout_s) as finder:
                found = tuple(f for f in finder.studies(**keys) if is_named(f, study_uid, accession_number))
        except DeliveryError as e:
            tried.append(f"{peer.name}: {e}")
            continue
        if len(found) > 1:
            uids = ", ".join(f.study_uid for f in found[:5])
            raise RefusedError(f"{peer.name} has {len(found)} such studies; name one by its UID: {uids}.")
        if found:
            return found[0], peer
        tried.append(f"{peer.name} has no such study")
    raise RefusedError("; ".join(tried) + "." if tried else "There is no peer that may be queried and fetched from.")


def is_named(found: Found, study_uid: str, accession_number: str) -> bool:
    """Whether this is the study that a person names: "*" and "?" match others, and some servers match by no key at all."""
    if study_uid:
        return found.study_uid.strip("\0 ") == study_uid
    return found.accession_number.strip().casefold() == accession_number.strip().casefold()


def sources(peers: Sequence[Peer]) -> tuple[Peer, ...]:
    """Those that may be queried and from which studies may be fetched."""
    return tuple(p for p in peers if {"query", "retrieve"} <= set(p.may))


class Reconciler:
    """Asks by the schedule of the settings; one thread for each peer, so that none waits for another."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._busy: dict[str, threading.Thread] = {}
        self._look_at = 0.0

    def turn(self) -> bool:
        """Begin with the peers that are due; False always."""
        every_s, now = self._settings.reconcile.every_h * 3600, time.time()
        if not every_s or now < self._look_at:
            return False
        self._look_at = now + min(60.0, every_s)
        self._busy = {name: thread for name, thread in self._busy.items() if thread.is_alive()}
        with self._database.reading() as session:
            last = asked(session)
        for peer in list_peers(self._database):
            at = last[peer.name].at if peer.name in last else 0.0
            if "query" in peer.may and peer.name not in self._busy and now - at >= every_s:
                thread = threading.Thread(target=self._ask, args=(peer, now), daemon=True)
                self._busy[peer.name] = thread
                thread.start()
        return False

    def _ask(self, peer: Peer, now: float) -> None:
        try:
            ask(self._database, self._settings, peer, self._settings.reconcile.days, now)
        except DeliveryError as e:
            log.warning("%s cannot be asked what it has: %s", peer.name, e.sentence, extra={"action": "reconcile"})
        except Exception:
            log.exception("A peer cannot be asked what it has.", extra={"action": "reconcile"})
