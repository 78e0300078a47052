"""The worker: claims one job at a time, has the engine run it, and ends it in one transaction."""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from radnode import addresses, capabilities, complete, jobs, pipeline, priors, profiles, results, shadow, weights_use
from radnode.database import Database
from radnode.engine import Engine, StoppedError
from radnode.engine_messages import Answer, Declined, Done, Failed, Held, Task
from radnode.errors import LostClaimError
from radnode.jobs import Job
from radnode.patience import Patience
from radnode.profiles import Plan
from radnode.pulse import Pulse, keep_turning
from radnode.settings import Settings
from radnode.states import JobState
from radnode.triage import DEFAULT_POLICY
from radnode_inference.model import DeclinedError, ModelCard

POLL_S = 0.1
LOOK_S = 0.5  # without news: what is tried again, what another worker lost

log = logging.getLogger(__name__)


class Worker:
    """One worker. `name` is what stands in the job's row; no two living workers may share it.

    cards: the models there are; None: those whose weights are live when a job is claimed.
    """

    def __init__(
        self, settings: Settings, database: Database, engine: Engine, name: str = "",
        cards: Sequence[ModelCard] | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._database = database
        self._engine = engine
        self._cards = cards
        self.name = name or f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    def run(self, stop: threading.Event) -> None:
        """Work until `stop`. An error outside a model is logged; the job is found again by its missing heartbeat."""
        patience, pulse = Patience("The worker", "work"), Pulse(self._database, LOOK_S)
        keep_turning(lambda: self.turn(stop), stop, patience=patience, pulse=pulse, poll_s=POLL_S)

    def turn(self, stop: threading.Event) -> bool:
        """Claim a job, or else a run in shadow, and take it to its end; False when there was neither."""
        job = pipeline.claim(self._database, self.name)
        if job is None:
            return shadow.turn(self._database, self._settings, self._engine, self.name, stop)
        try:
            state = self._end(job, self._read(job, stop))
            log.info("A job ended.", extra={"action": "end", "job_id": job.id, "model": job.model, "state": state})
        except LostClaimError:
            log.warning("A job was taken away.", extra={"action": "lost", "job_id": job.id, "model": job.model})
        except StoppedError:
            jobs.release(self._database, job, "the worker was stopped", time.time())
        return True

    def _read(self, job: Job, stop: threading.Event) -> Answer:
        """Run the model on exactly the images that were settled for the job's revision."""
        with self._database.reading() as session:
            task = Task(
                data=self._settings.data.resolve(),
                files=complete.input_files(session, job.study_uid),
                previous=results.previous(session, job.study_uid, job.model),
                rules=self._settings.rules,
                policy=DEFAULT_POLICY if self._settings.triage is None else self._settings.triage,
                plans=self._plans(session),
                priors=priors.prior_files(session, job.study_uid),
                provisional=complete.lacking(session, job.study_uid),
            )
        cards = weights_use.live_cards(self._database, self._settings) if self._cards is None else self._cards
        card = next((c for c in cards if c.identity.name == job.model), None)
        if card is None:
            return Declined(gate="not-installed", sentence=f"there is no model {job.model} on this machine")
        return self._engine.run(card, task, lambda part: self._beat(job, part), stop.is_set)

    def _plans(self, session: Session) -> tuple[Plan, ...]:
        """What every destination takes, as far as it is known now."""
        destinations = addresses.destinations(session, self._settings)
        return profiles.plans(destinations, capabilities.known(session, destinations))

    def _beat(self, job: Job, part: float) -> None:
        """A database that is away for a moment ends no run: whether the job is still this worker's is asked again at its end."""
        try:
            jobs.beat(self._database, job, part, time.time())
        except (OperationalError, InterfaceError) as e:
            log.warning(
                "A run goes on without a word to the database (%s).", type(e).__name__, extra={"action": "beat"}
            )

    def _end(self, job: Job, answer: Answer) -> JobState:
        if isinstance(answer, Failed):
            log.error("A model failed. %s", answer.details, extra={"action": "fail", "job_id": job.id})
            return self._try_again(job, answer.sentence)
        try:
            if isinstance(answer, Declined):
                return pipeline.end_declined(
                    self._database, self._settings, job, DeclinedError(answer.gate, answer.sentence, answer.reasons)
                )
            if isinstance(answer, Held):
                return pipeline.end_held(self._database, self._settings, job, answer.reasons, answer.folder)
            return self._end_done(job, answer)
        except LostClaimError:
            raise
        except Exception as e:
            log.exception("The results of a job cannot be recorded.", extra={"action": "end", "job_id": job.id})
            return self._try_again(job, f"its results could not be recorded ({type(e).__name__}: {e})")

    def _end_done(self, job: Job, done: Done) -> JobState:
        return pipeline.end(
            self._database, self._settings, job, done.stored,
            read_s=done.read_s, omissions=done.omissions, reasons=done.reasons,
        )  # fmt: skip

    def _try_again(self, job: Job, reason: str) -> JobState:
        return jobs.try_again(self._database, job, self._settings, reason, time.time())


def serve(settings: Settings, stop: threading.Event, *, name: str = "") -> None:
    """Be a worker until `stop`. name: one that a supervisor gives to only one worker at a time; its old jobs are freed."""
    database = Database(settings.url)
    try:
        with Engine(settings) as engine:
            if name:
                jobs.recover(database, settings, time.time(), worker=name)
            Worker(settings, database, engine, name).run(stop)
    finally:
        database.close()
