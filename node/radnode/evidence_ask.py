"""Asks the peers that may be queried how many images there are of a study that seems to be complete. A thread of `deliver`."""

import logging
import threading
import time
from collections.abc import Collection
from itertools import islice

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import evidence
from radnode.database import Database
from radnode.errors import DeliveryError
from radnode.peers.table import Peer, list_peers
from radnode.query import Finder, querying
from radnode.settings import Settings
from radnode.states import StudyState
from radnode.tables import StudyRow
from radnode.tables_pacs import EvidenceRow

EARLY_S = 0.5
"""Before a study's quiet time ends."""
AGAIN_S = 5.0
"""A peer that has more than the node is asked again after this, as is one that did not answer."""
MOST = 50
TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


class EvidenceAsker:
    """One thread for each peer while it is asked, so that a stuck one holds up no other."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._busy: dict[str, threading.Thread] = {}

    def turn(self) -> bool:
        """Begin to ask those peers for which something is due; False always: nobody is waited for."""
        self._busy = {name: thread for name, thread in self._busy.items() if thread.is_alive()}
        peers = [p for p in list_peers(self._database) if "query" in p.may and p.name not in self._busy]
        for peer in peers:
            studies = due(self._database, peer.name, time.time())
            if studies:
                thread = threading.Thread(target=self.ask, args=(peer, studies), daemon=True)
                self._busy[peer.name] = thread
                thread.start()
        return False

    def ask(self, peer: Peer, studies: tuple[str, ...]) -> None:
        """Keep what this peer says of these studies, or why it says nothing."""
        timeout_s = min(TIMEOUT_S, self._settings.deliver.timeout_s)
        error = logged = ""
        left = list(studies)
        try:
            with querying(peer, self._settings, timeout_s) as finder:
                for study_uid in studies:
                    asked_at = time.time()  # what comes while it answers may not be counted yet
                    with self._database.reading() as session:
                        own, made = evidence.own_series(session, study_uid), evidence.own_objects(session, study_uid)
                    total, series = count(finder, study_uid, own, made)
                    evidence.keep(
                        self._database,
                        study_uid,
                        evidence.QUERY,
                        peer.name,
                        asked_at,
                        instances=total,
                        series=series,
                    )
                    left.remove(study_uid)
        except DeliveryError as e:
            error, logged = str(e), e.sentence
        except Exception as e:  # whatever a peer or a library does, the study is not held up for longer than its wait
            log.exception("A peer cannot be asked.", extra={"action": "evidence"})
            error = logged = type(e).__name__
        if error:
            log.warning("%s cannot be asked what it has: %s", peer.name, logged, extra={"action": "evidence"})
            for study_uid in left:
                evidence.unanswered(self._database, study_uid, peer.name, time.time(), error)


def count(finder: Finder, study_uid: str, own: Collection[str], made: int) -> tuple[int | None, dict[str, int]]:
    """How many images there are, in all and of each series as far as that is said, without the node's results.

    own, made: the series of those results, and how many were delivered: where only the whole study is counted, they may
    be among what is counted. Where not even that is said, what is listed is counted. None: it lists nothing. Raises DeliveryError.
    """
    said = {uid: many for uid, many in finder.series(study_uid).items() if uid not in own}
    series = {uid: many for uid, many in said.items() if many is not None}
    if said and len(series) == len(said):
        return sum(series.values()), series
    totals = [f.instances for f in finder.studies(StudyInstanceUID=study_uid) if f.study_uid == study_uid]
    if total := max((t for t in totals if t is not None), default=None):
        return max(0, total - made), series
    listed = {uid: finder.images(study_uid, uid) if many is None else many for uid, many in said.items()}
    series = {uid: many for uid, many in listed.items() if many is not None}
    return (sum(series.values()) if series else None), series


def due(database: Database, peer: str, now: float) -> tuple[str, ...]:
    """The studies about which this peer is to be asked now: it was not since the last image, or knew of more."""
    with database.reading() as session:
        quiet = (StudyRow.state == StudyState.RECEIVING, StudyRow.due_at <= now + EARLY_S)
        rows = session.scalars(select(StudyRow).where(*quiet).order_by(StudyRow.due_at)).all()
        of_them = (EvidenceRow.source == evidence.QUERY, EvidenceRow.key == peer)
        wanted = [r.study_uid for r in rows]
        said = {
            e.study_uid: e
            for e in session.scalars(select(EvidenceRow).where(*of_them, EvidenceRow.study_uid.in_(wanted)))
        }
        asked = (r.study_uid for r in rows if is_due(session, said.get(r.study_uid), r, now))
        return tuple(islice(asked, MOST))


def is_due(session: Session, said: EvidenceRow | None, study: StudyRow, now: float) -> bool:
    if said is None or said.at < study.last_instance_at:
        return True
    return now - said.at >= AGAIN_S and (bool(said.error) or evidence.surplus(session, study, said) > 0)
