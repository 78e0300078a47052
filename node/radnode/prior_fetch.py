"""Fetches the earlier studies of a patient by rule: same patient, modality and region, of the last months."""

import logging
import re
import threading
import time
from collections.abc import Sequence

from sqlalchemy import exists, select

from radnode import evidence, fetches
from radnode.database import Database
from radnode.destinations.dimse_find import Found
from radnode.errors import DeliveryError
from radnode.peers import Peer, list_peers
from radnode.priors import RESULTS
from radnode.query import querying
from radnode.settings import Priors, Settings
from radnode.tables import StudyRow
from radnode.tables_pacs import EvidenceRow, FetchRow

SOURCE = "priors"
"""EvidenceRow.source of the row that says that a study's priors were looked for."""
RECENT_S = 86400.0
"""Only for studies that came within this time: an old archive that is sent in is not searched for."""
WORD = re.compile(r"[^\W\d_]{4,}")
GENERAL = frozenset({"with", "without", "contrast", "post", "routine", "study", "exam", "follow", "control"})

log = logging.getLogger(__name__)


def fitting(study: StudyRow, found: Sequence[Found], rule: Priors) -> tuple[Found, ...]:
    """Pure: which of these are priors of a study by the rule, the newest first."""
    mine = set(study.modalities.split("\\")) - RESULTS - {""}
    first = months_before(study.study_date, rule.months)
    chosen = [
        f
        for f in found
        if f.study_uid != study.study_uid
        and first <= f.study_date <= study.study_date
        and (f.study_date, f.study_time) < (study.study_date, study.study_time)
        and mine & set(f.modalities)
        and is_same_patient(study, f)
        and (not rule.same_region or is_same_region(study, f))
    ]
    return tuple(sorted(chosen, key=lambda f: (f.study_date, f.study_time), reverse=True)[: rule.most])


def is_same_patient(study: StudyRow, found: Found) -> bool:
    """Equal ID, and nothing of issuer, birth date and sex that says otherwise: hospitals use an ID twice."""
    if found.patient_id != study.patient_id:
        return False
    pairs = (
        (study.issuer_of_patient_id, found.issuer_of_patient_id),
        (study.patient_birth_date, found.patient_birth_date),
        (study.patient_sex, found.patient_sex),
    )
    return all(not a or not b or a == b for a, b in pairs)


def is_same_region(study: StudyRow, found: Found) -> bool:
    """The same body part, or a common word of the descriptions. What says neither may be."""
    if study.body_part and found.body_part:
        return study.body_part.casefold() == found.body_part.casefold()
    mine, other = words(study.study_description, study.body_part), words(found.description, found.body_part)
    return not mine or not other or bool(mine & other)


def words(*texts: str) -> set[str]:
    return {w.casefold() for text in texts for w in WORD.findall(text)} - GENERAL


def months_before(date: str, months: int) -> str:
    """YYYYMMDD so many months earlier."""
    month = int(date[:4]) * 12 + int(date[4:6]) - 1 - months
    return f"{month // 12:04d}{month % 12 + 1:02d}{date[6:8]}"


class PriorFinder:
    """Looks for the priors of every study that comes, and queues them."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._thread: threading.Thread | None = None

    def turn(self) -> bool:
        """False always: nobody waits for the peer."""
        rule = self._settings.priors
        if not rule.peer or (self._thread is not None and self._thread.is_alive()):
            return False
        studies = self.due(time.time())
        peer = next((p for p in list_peers(self._database) if p.name == rule.peer), None)
        if studies and peer is not None:
            self._thread = threading.Thread(target=self.look, args=(peer, studies), daemon=True)
            self._thread.start()
        return False

    def due(self, now: float) -> tuple[StudyRow, ...]:
        """The studies that came and whose priors nobody looked for; priors have none."""
        looked = exists().where(EvidenceRow.study_uid == StudyRow.study_uid, EvidenceRow.source == SOURCE)
        fetched = exists().where(FetchRow.study_uid == StudyRow.study_uid, FetchRow.why == fetches.PRIOR)
        whole = (StudyRow.patient_id != "", StudyRow.study_date != "", StudyRow.modalities != "")
        recent = StudyRow.first_instance_at >= now - RECENT_S
        with self._database.reading() as session:
            query = select(StudyRow).where(*whole, recent, ~looked, ~fetched).limit(20)
            return tuple(session.scalars(query))

    def look(self, peer: Peer, studies: Sequence[StudyRow]) -> None:
        """Ask a peer for the patient's studies, and queue those that the rule wants and the node has not."""
        rule, error = self._settings.priors, ""
        for study in studies:
            chosen: tuple[Found, ...] = ()
            try:
                with querying(peer, self._settings, self._settings.deliver.timeout_s) as finder:
                    span = f"{months_before(study.study_date, rule.months)}-{study.study_date}"
                    chosen = fitting(study, finder.studies(PatientID=study.patient_id, StudyDate=span), rule)
            except DeliveryError as e:
                error = str(e)
                log.warning("%s cannot be asked for priors: %s", peer.name, e.sentence, extra={"action": "priors"})
            except Exception as e:  # a study date that is none, a library that fails: other studies go on
                error = type(e).__name__
                log.exception("Priors cannot be looked for.", extra={"action": "priors", "study_uid": study.study_uid})
            now = time.time()
            with self._database.transaction() as session:
                for found in chosen:
                    if session.get(StudyRow, found.study_uid) is None:
                        fetches.want(session, found.study_uid, peer.name, fetches.PRIOR, study.study_uid, now)
            evidence.keep(self._database, study.study_uid, SOURCE, peer.name, now, error=error)
