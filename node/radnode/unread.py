"""What is left where a model has no result: nothing earlier stands, and whoever wants it gets a visible status object."""

import logging
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from radnode import addresses, capabilities, events, profiles, results
from radnode.events import Action
from radnode.results import EndedJob, Result
from radnode.retract import REASONS, identity_of, reject_status, retract
from radnode.settings import Settings
from radnode.tables import InstanceRow, ResultRow

log = logging.getLogger(__name__)

Outcome = Literal["declined", "failed"]


def leave(session: Session, settings: Settings, job: EndedJob, outcome: Outcome, reason: str, now: float) -> None:
    """Within the transaction that ends the job without a result. reason: a sentence for a radiologist."""
    why = f"a later run of the model {outcome}"
    retract(session, settings, job.study_uid, job.model, REASONS["quality"], why, now)
    try:
        made = objects(session, settings, job, outcome, reason)
    except Exception:  # what a header holds is no reason for a job not to end
        log.exception("No status object can be made.", extra={"action": "status", "study_uid": job.study_uid})
        events.write(session, job.study_uid, Action.DECLINED, f"No status object of {job.model} can be made.", now)
        return
    reject_status(session, settings, job.study_uid, job.model, {r.uid for r in made}, now)
    if made:
        stored = results.write_files(settings.data, made)
        results.record(session, job, stored, addresses.destinations(session, settings), now, again=True)


def objects(session: Session, settings: Settings, job: EndedJob, outcome: Outcome, reason: str) -> tuple[Result, ...]:
    """The status objects that destinations asked for; () when none did."""
    there = addresses.destinations(session, settings)
    known = capabilities.known(session, there)
    plans = [p for p in profiles.plans(there, known) if "status" in p.kinds]
    if not plans:
        return ()
    from radnode.report import status_results
    from radnode_inference.study import Study

    own = select(ResultRow.uid).where(ResultRow.study_uid == job.study_uid)
    images = (InstanceRow.study_uid == job.study_uid, InstanceRow.current, InstanceRow.sop_uid.not_in(own))
    first = select(func.min(InstanceRow.id)).where(*images).group_by(InstanceRow.series_uid)
    files = session.scalars(select(InstanceRow.file).where(InstanceRow.id.in_(first)).order_by(InstanceRow.id))
    study = Study.from_files(settings.data / file for file in files)
    return status_results(study, identity_of(settings, job.model), outcome, reason, plans)
