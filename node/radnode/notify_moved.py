"""A study whose patient or accession number was corrected after others were told its priority: it was the order of another.

The order that was raised by mistake gets back what it said itself, and the study's own order is told anew.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from radnode import orders
from radnode.destinations import PRIORITY
from radnode.settings import Destination, Settings
from radnode.states import DeliveryState
from radnode.studies import StudySummary
from radnode.tables import DeliveryRow, ResultRow
from radnode.triage import Level

KINDS = frozenset({"hl7", "fhir"})
"""The kinds of destinations where a notice changes an order; others only tell people or programs."""
WHY = "The study was of another patient or order: its patient or accession number was corrected"
SOURCE = "triage (corrected)"
"""What stands as the model of a notice that takes back what an order was told by mistake."""
Notice = Mapping[str, Any]


def whose(study: StudySummary) -> str:
    """Changes with the order that a notice is about; no patient data."""
    of_it = (study.patient_id, study.issuer_of_patient_id, study.accession_number)
    return hashlib.sha256(repr(of_it).encode()).hexdigest()


def former(study: StudySummary, told: Notice) -> StudySummary:
    """The study as it was when a notice was made."""
    return replace(
        study,
        patient_id=str(told["patient_id"]),
        issuer_of_patient_id=str(told["issuer_of_patient_id"]),
        accession_number=str(told["accession_number"]),
    )


def meant_after_all(session: Session, settings: Settings, study: StudySummary) -> list[str]:
    """The UIDs of notices that took back what was told of an order, which is the study's again: they must not come late."""
    mine = (ResultRow.study_uid == study.study_uid, ResultRow.kind == PRIORITY, ResultRow.model == SOURCE)
    rows = session.execute(select(ResultRow.uid, ResultRow.file).where(*mine, ResultRow.current)).all()
    found = ((uid, settings.data / file) for uid, file in rows)
    return [
        uid
        for uid, file in found
        if not file.is_file() or whose(former(study, orjson.loads(file.read_bytes()))) == whose(study)
    ]


def told_before(
    session: Session, settings: Settings, addresses: Sequence[Destination], study_uid: str, now: float
) -> Mapping[str, Notice]:
    """Destination -> the last notice of the study that it has, or may have; those alone where it changes an order."""
    names = [a.name for a in addresses if a.kind in KINDS]
    state = DeliveryRow.state
    may_have = or_(state == DeliveryState.DELIVERED, DeliveryRow.attempt > 0, DeliveryRow.claimed_until > now)
    query = (
        select(DeliveryRow.destination, ResultRow.file)
        .join(ResultRow, ResultRow.uid == DeliveryRow.result_uid)
        .where(DeliveryRow.study_uid == study_uid, ResultRow.kind == PRIORITY, may_have)
        .where(DeliveryRow.destination.in_(names))
        .order_by(ResultRow.created_at, DeliveryRow.id)
    )
    files = {destination: settings.data / file for destination, file in session.execute(query)}
    return {destination: orjson.loads(f.read_bytes()) for destination, f in files.items() if f.is_file()}


def taken_back(session: Session, study: StudySummary, told: Notice, now: float) -> Notice | None:
    """The notice that gives the former order its own priority again; None where it was told nothing else."""
    was = former(study, told)
    placed = orders.of_accessions(session, [was.accession_number]).get(was.accession_number, ())
    own = orders.context(was, placed, (), None).ordered or Level.ROUTINE
    if whose(was) == whose(study) or told["level"] == own.value:
        return None
    return {**told, "level": own.value, "before": told["level"], "reason": WHY, "abnormal": False, "at": now}
