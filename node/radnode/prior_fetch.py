"""Fetches the earlier studies of a patient by rule: same patient, modality and region, of the last months."""

import logging
import re
import threading
import time
from calendar import monthrange
from collections.abc import Sequence

from sqlalchemy import exists, or_, select
from sqlalchemy.exc import SQLAlchemyError

from radnode import audit, events, evidence, fetches
from radnode.audit import Act, Kind, Outcome
from radnode.database import Database
from radnode.destinations.dimse_find import Found
from radnode.errors import DeliveryError
from radnode.events import Action
from radnode.peers.table import Peer, list_peers
from radnode.priors import RESULTS
from radnode.query import querying
from radnode.settings import Priors, Settings
from radnode.tables import StudyRow
from radnode.tables_pacs import EvidenceRow

AGAIN_S = 10.0
"""A peer that could not be asked about a study is asked again after this, then after as long as the study is there."""
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
        and (not f.modalities or mine & set(f.modalities))  # not every system says which there are
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
    """YYYYMMDD so many months earlier, or the last day of that month where it has no such day."""
    year, month = divmod(int(date[:4]) * 12 + int(date[4:6]) - 1 - months, 12)
    day = min(int(date[6:8]), monthrange(year, month + 1)[1])
    return f"{year:04d}{month + 1:02d}{day:02d}"


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
        if studies:
            self._thread = threading.Thread(target=self.look, args=(peer, studies), daemon=True)
            self._thread.start()
        return False

    def due(self, now: float) -> tuple[StudyRow, ...]:
        """The studies that came and whose priors nobody could look for yet, those that came last first."""
        waits = or_(EvidenceRow.at > now - AGAIN_S, 2.0 * EvidenceRow.at - StudyRow.first_instance_at > now)
        looked = exists().where(
            EvidenceRow.study_uid == StudyRow.study_uid,
            EvidenceRow.source == evidence.PRIORS,
            or_(EvidenceRow.error == "", waits),
        )
        newest = StudyRow.first_instance_at.desc()
        with self._database.reading() as session:
            query = select(StudyRow).where(*fetches.may_have_priors(now), ~looked).order_by(newest).limit(20)
            return tuple(session.scalars(query))

    def look(self, peer: Peer | None, studies: Sequence[StudyRow]) -> None:
        """Ask a peer for the patient's studies, and queue those that the rule wants and the node has not."""
        try:
            for study in studies:
                self._keep(study, *self._ask(peer, study))
        except SQLAlchemyError as e:  # what was not kept is looked for again
            log.warning("Priors wait for the database (%s).", type(e).__name__, extra={"action": "priors"})

    def _ask(self, peer: Peer | None, study: StudyRow) -> tuple[tuple[Found, ...], str]:
        """The priors that the rule wants, or why nobody knows."""
        rule = self._settings.priors
        try:
            if peer is None:
                raise DeliveryError(f"there is no peer {rule.peer}")
            span = f"{months_before(study.study_date, rule.months)}-{study.study_date}"
            with querying(peer, self._settings, self._settings.deliver.timeout_s) as finder:
                return fitting(study, finder.studies(PatientID=study.patient_id, StudyDate=span), rule), ""
        except DeliveryError as e:
            log.warning("%s cannot be asked for priors: %s", rule.peer, e.sentence, extra={"action": "priors"})
            return (), str(e)
        except Exception as e:  # a study date that is none, a library that fails: other studies go on
            log.exception("Priors cannot be looked for.", extra={"action": "priors", "study_uid": study.study_uid})
            return (), f"{type(e).__name__}: see the log"

    def _keep(self, study: StudyRow, chosen: Sequence[Found], error: str) -> None:
        """Queue what was chosen; the story tells of the first failure, and of the answer that came all the same."""
        name, now, sentence = self._settings.priors.peer, time.time(), ""
        with self._database.transaction() as session:
            of_it = (EvidenceRow.study_uid == study.study_uid, EvidenceRow.source == evidence.PRIORS)
            before = session.scalar(select(EvidenceRow.error).where(*of_it, EvidenceRow.key == name))
            for found in chosen:
                if session.get(StudyRow, found.study_uid) is None:
                    fetches.want(session, found.study_uid, name, fetches.PRIOR, study.study_uid, now)
            if error and not before:
                sentence = f"{name} cannot be asked for earlier studies: {error}. It is asked again, for a day."
            elif before and not error:
                sentence = f"{name} answers again: {len(chosen)} earlier studies fit the rule."
            if not (error and before):
                detail = f"{name} was asked by the patient's ID: " + (error or f"{len(chosen)} fit the rule")
                audit.note(session, Act(
                    kind=Kind.LISTED, action="query for earlier studies", study_uid=study.study_uid, detail=detail,
                    outcome=Outcome.FAILED if error else Outcome.SUCCESS,
                ))  # fmt: skip
            if sentence:
                events.write(session, study.study_uid, Action.FETCHED, sentence, now)
        evidence.keep(self._database, study.study_uid, evidence.PRIORS, name, now, error=error)
