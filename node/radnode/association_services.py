"""What an association serves beside C-ECHO and C-STORE: requests with one data set.

Storage commitment in both roles (PS3.4 annex J), performed procedure steps (annex F.7), Instance Availability
Notification (annex R), and the worklist (annex K), which has an answer for each study. Called by `association_serve`, which moves the bytes; what is said goes to the tables.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode
from sqlalchemy.exc import SQLAlchemyError

from radnode import audit, commit_requests, commitment, evidence, modality_worklist, orders
from radnode.association_pdu import C_STORE_RQ, Command
from radnode.audit import Act, Kind, Outcome
from radnode.database import Database
from radnode.destinations.commit_data import COMMITMENT
from radnode.errors import RefusedError
from radnode.settings import Settings
from radnode.worklist import Reader

PROCEDURE_STEP = "1.2.840.10008.3.1.2.3.3"
AVAILABILITY = "1.2.840.10008.5.1.4.33"
SERVICES = {
    COMMITMENT: "Storage Commitment",
    PROCEDURE_STEP: "Performed Procedure Step",
    AVAILABILITY: "Availability",
    modality_worklist.FIND: "Modality Worklist",
}
SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
"""The data sets of services are decoded, so only these transfer syntaxes are accepted for them."""
C_FIND_RQ = 0x0020
N_EVENT_REPORT_RQ, N_SET_RQ, N_ACTION_RQ, N_CREATE_RQ = 0x0100, 0x0120, 0x0130, 0x0140
MOST = 8 * 1024 * 1024
"""Bytes of a data set: a commitment that names 50,000 objects has 6 MB."""
SUCCESS, PROCESSING_FAILURE, NO_SUCH_ACTION, NOT_AUTHORIZED = 0x0000, 0x0110, 0x0123, 0x0124
UNRECOGNIZED, TOO_LARGE, NO_SUCH_EVENT = 0x0211, 0x0213, 0x0113
"""PS3.7 annex C."""
NO_MATCHING_IDENTIFIER, UNABLE_TO_PROCESS = 0xA900, 0xC000
"""PS3.4 section K.4.1.1.4."""
REQUESTED_CLASS, REQUESTED_INSTANCE, EVENT_TYPE, ACTION_TYPE = 0x0003, 0x1001, 0x1002, 0x1008
AFFECTED_INSTANCE = 0x1000

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks. may: what the peers table allows it."""

    calling_ae: str
    called_ae: str
    address: str
    may: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """status: of the response. report: makes an N-EVENT-REPORT for the same association, where there is no other way.

    found: what goes before the response, each with its own status and data set (C-FIND).
    """

    status: int = SUCCESS
    comment: str = ""
    found: tuple[tuple[int, bytes], ...] = ()
    report: Callable[[], commit_requests.Report] | None = field(default=None)


class Services:
    """Answers from the tables. One per receiving process; safe among threads."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._reader = Reader.of(settings, database)

    def answer(self, sop_class: str, command: Command, data: bytes, syntax: str, caller: Caller, now: float) -> Answer:
        """The answer to one request; whatever is wrong with it is said in the answer."""
        field_ = command.number(0x0100)
        try:
            dataset = decoded(data, syntax)
            if sop_class == COMMITMENT:
                return self._commitment(field_, command, dataset, caller, now)
            if sop_class == modality_worklist.FIND and field_ == C_FIND_RQ:
                return self._worklist(dataset, syntax, caller, now)
            if sop_class == PROCEDURE_STEP and field_ in (N_CREATE_RQ, N_SET_RQ):
                uid = named(command)
                evidence.procedure_step(self._database, uid, dataset, now)
                return Answer()
            if sop_class == AVAILABILITY and field_ == N_CREATE_RQ:
                evidence.availability(self._database, command.uid(AFFECTED_INSTANCE), dataset, now)
                return Answer()
        except (RefusedError, AttributeError, KeyError, ValueError, TypeError) as e:
            status = UNABLE_TO_PROCESS if field_ == C_FIND_RQ else PROCESSING_FAILURE
            return Answer(status=status, comment=str(e) or type(e).__name__)
        except SQLAlchemyError as e:
            log.warning(
                "A request was refused: the database does not take it (%s).",
                type(e).__name__,
                extra={"action": "refuse"},
            )
            status = UNABLE_TO_PROCESS if field_ == C_FIND_RQ else PROCESSING_FAILURE
            return Answer(status=status, comment="The database of the node does not answer.")
        return Answer(status=UNRECOGNIZED)

    def _commitment(self, kind: int, command: Command, dataset: Dataset, caller: Caller, now: float) -> Answer:
        if kind == N_EVENT_REPORT_RQ:
            if command.number(EVENT_TYPE) not in (1, 2):
                return Answer(status=NO_SUCH_EVENT)
            commitment.heard(self._database, self._settings.deliver, dataset, now)
            return Answer()
        if kind != N_ACTION_RQ:
            return Answer(status=UNRECOGNIZED)
        if command.number(ACTION_TYPE) != 1:
            return Answer(status=NO_SUCH_ACTION)
        if "commit" not in caller.may:
            return Answer(status=NOT_AUTHORIZED, comment="This peer may not ask for storage commitment.")
        asked = commit_requests.read(dataset, caller.calling_ae, caller.called_ae, caller.address)
        somewhere = commit_requests.take(self._database, asked, now)
        if somewhere:
            return Answer()
        return Answer(report=lambda: commit_requests.judge(self._database, self._settings.data, asked, now))

    def _worklist(self, request: Dataset, syntax: str, caller: Caller, now: float) -> Answer:
        if "worklist" not in caller.may:
            self._told(caller, "may not ask", Outcome.REFUSED)
            return Answer(status=NOT_AUTHORIZED, comment="This peer may not ask for the worklist.")
        try:
            with self._database.reading() as session:
                expected = orders.expected(session, now)
            answers = list(modality_worklist.answers(request, self._reader.worklist(now, limit=None).entries, expected))
        except RefusedError as e:
            return Answer(status=NO_MATCHING_IDENTIFIER, comment=str(e))
        self._told(caller, f"{len(answers)} answers")
        implicit = syntax == SYNTAXES[1]
        return Answer(found=tuple((status, encode(item, implicit, True) or b"") for status, item in answers))

    def _told(self, caller: Caller, detail: str, outcome: Outcome = Outcome.SUCCESS) -> None:
        """The audit's row of a query, before its first answer leaves."""
        act = Act(
            who=caller.calling_ae, address=caller.address, kind=Kind.LISTED, action="C-FIND of the worklist",
            detail=detail, outcome=outcome,
        )  # fmt: skip
        with self._database.transaction() as session:
            audit.note(session, act)

    def reported(self, transaction_uid: str, committed: int, now: float) -> None:
        """The caller took the N-EVENT-REPORT."""
        commit_requests.answered(self._database, transaction_uid, committed, now)


def named(command: Command) -> str:
    """The UID of the instance that a request is about. Raises RefusedError: without one, all that lack it would be the same."""
    uid = command.uid(AFFECTED_INSTANCE) or command.uid(REQUESTED_INSTANCE)
    if not uid or len(uid) > 64 or "\0" in uid:
        raise RefusedError("The request names no instance.")
    return uid


def decoded(data: bytes, syntax: str) -> Dataset:
    """The data set of a request, with every value looked at: pydicom decodes most only when they are asked for.

    Raises RefusedError, whatever is wrong with it.
    """
    try:
        dataset: Dataset = decode(BytesIO(data), syntax == SYNTAXES[1], True)
        for _ in dataset.iterall():
            pass
    except Exception as e:  # pydicom promises no kinds: struct.error, OSError, NotImplementedError, RecursionError ...
        raise RefusedError(f"The data set cannot be decoded ({type(e).__name__}).") from e
    return dataset


def is_service(sop_class: str, command_field: int) -> bool:
    """Whether a request with a data set is for this module."""
    return sop_class in SERVICES and command_field != C_STORE_RQ
