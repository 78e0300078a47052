"""The data phase of one association: C-STORE and C-ECHO served on the socket, until release, abort or silence.

What else is asked goes to `association_services`.

pynetdicom's own loop spends most of its time on building data sets and sleeping; this one only moves bytes.
PS3.7 sections 9.1.1 and 9.1.5, PS3.4 annex B.
"""

import logging
import socket
import time

from radnode import association_report
from radnode import association_services as services
from radnode.association import VERIFICATION, Association, Context
from radnode.association_pdu import (
    ABORT,
    ABORT_UNEXPECTED,
    AFFECTED_CLASS,
    AFFECTED_INSTANCE,
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_STORE_RQ,
    COMMAND_FIELD,
    DATA_SET_TYPE,
    MAX_COMMAND,
    MAX_PDU,
    NO_DATA_SET,
    P_DATA,
    RELEASE_REPLY,
    RELEASE_RQ,
    RESPONSE,
    Command,
    PduReader,
    ProtocolError,
    data_pdus,
    pdvs,
    response,
)
from radnode.errors import StoreError
from radnode.faults import Point, crash_point
from radnode.refusals import Glimpse
from radnode.sending import Sending
from radnode.store import Arrival, Store, Upload

SUCCESS, CLASS_NOT_SUPPORTED, UNRECOGNIZED_OPERATION = 0x0000, 0x0122, 0x0211
"""PS3.7 annex C."""

log = logging.getLogger(__name__)


class Session:
    """One association after its acceptance. `stored` and `refused` count its objects."""

    def __init__(
        self,
        connection: socket.socket,
        reader: PduReader,
        association: Association,
        address: str,
        store: Store,
        sending: Sending,
        others: services.Services | None = None,
    ) -> None:
        self._socket = connection
        self._reader = reader
        self._association = association
        self._address = address
        self._store = store
        self._sending = sending
        self._fragments = bytearray()  # of a command
        self._command: Command | None = None  # whose data set is awaited
        self._context_id = 0
        self._upload: Upload | None = None
        self._glimpse = Glimpse()
        self._failure: StoreError | None = None
        self._others = others
        self._collected: bytearray | None = None  # the data set of a service
        self._reports = association_report.Reports(connection, association)
        self.stored = self.refused = 0

    def run(self) -> str:
        """Serve until the peer releases or aborts; how it ended.

        Raises ProtocolError and ConnectionEndedError. An object that was not whole by then leaves nothing.
        """
        try:
            while True:
                kind, body = self._reader.next(MAX_PDU)
                if kind == P_DATA:
                    for context_id, control, fragment in pdvs(body):
                        self._take(context_id, control, fragment)
                elif kind == RELEASE_RQ:
                    self._socket.sendall(RELEASE_REPLY)
                    return "released"
                elif kind == ABORT:
                    return "aborted by the peer"
                else:
                    raise ProtocolError(f"A PDU of type {kind} does not belong here", ABORT_UNEXPECTED)
        finally:
            self._discard()
            self._sending.end()

    def _take(self, context_id: int, control: int, fragment: memoryview) -> None:
        """One fragment. control: bit 0 command, bit 1 last. PS3.8 annex E.2."""
        if context_id not in self._association.contexts:
            raise ProtocolError(f"Presentation context {context_id} was not accepted")
        is_command, is_last = control & 1, control & 2
        if is_command:
            self._take_command(context_id, fragment, is_last=bool(is_last))
        elif self._command is None or context_id != self._context_id:
            raise ProtocolError("A data set without its command")
        else:
            self._take_data(fragment, is_last=bool(is_last))

    def _take_command(self, context_id: int, fragment: memoryview, *, is_last: bool) -> None:
        if self._command is not None or (self._fragments and context_id != self._context_id):
            raise ProtocolError("A command inside another message")
        if len(self._fragments) + len(fragment) > MAX_COMMAND:
            raise ProtocolError("A command is too long")
        self._context_id = context_id
        self._fragments += fragment
        if not is_last:
            return
        command = Command.parse(self._fragments)
        self._fragments.clear()
        if self._others is not None and self._reports.taken(command, self._others):
            return
        if command.number(COMMAND_FIELD) & RESPONSE:
            raise ProtocolError("A response to no request")
        if command.number(DATA_SET_TYPE) != NO_DATA_SET:
            self._command = command
            self._begin(command)
        else:
            self._answer_plain(command)

    def _answer_plain(self, command: Command) -> None:
        """Answer a request without a data set."""
        field = command.number(COMMAND_FIELD)
        if field == C_CANCEL_RQ:  # nothing here can be cancelled, and it has no answer. PS3.7 section 9.3.2.3
            return
        if field == C_ECHO_RQ and self._context.abstract_syntax == VERIFICATION:
            self._reply(command, SUCCESS)
        elif field == C_STORE_RQ:
            self._refuse(command, StoreError(0xC000, "C-STORE without a data set."))
        else:
            self._reply(command, UNRECOGNIZED_OPERATION)

    @property
    def _context(self) -> Context:
        return self._association.contexts[self._context_id]

    def _begin(self, command: Command) -> None:
        """Get ready for the data set. A refusal is kept until the data set has passed: only then may it be answered."""
        self._failure, self._glimpse = None, Glimpse()
        if self._others is not None and self._context.abstract_syntax in services.SERVICES:
            self._collected = bytearray()
            return
        if command.number(COMMAND_FIELD) != C_STORE_RQ:
            self._failure = StoreError(UNRECOGNIZED_OPERATION, "")
            return
        if (
            command.uid(AFFECTED_CLASS) != self._context.abstract_syntax
            or self._context.abstract_syntax == VERIFICATION
        ):
            self._failure = StoreError(CLASS_NOT_SUPPORTED, "The SOP Class is not that of the presentation context.")
            return
        arrival = Arrival(
            calling_ae=self._association.calling_ae,
            called_ae=self._association.called_ae,
            address=self._address,
            sop_class_uid=command.uid(AFFECTED_CLASS),
            sop_uid=command.uid(AFFECTED_INSTANCE),
            transfer_syntax_uid=self._context.transfer_syntax_uid,
        )
        try:
            self._upload = self._store.begin(arrival)
        except StoreError as e:
            self._failure = e

    def _take_data(self, fragment: memoryview, *, is_last: bool) -> None:
        self._sending.alive()
        if self._collected is not None and len(self._collected) <= services.MOST:
            self._collected += fragment
        else:
            self._glimpse.see(fragment)
        if self._upload is not None:
            try:
                self._upload.write(fragment)
            except StoreError as e:
                self._failure = e
                self._discard()
        if is_last:
            self._end_data()

    def _end_data(self) -> None:
        command, self._command = self._command, None
        assert command is not None
        if self._collected is not None and self._others is not None:
            data, self._collected = bytes(self._collected), None
            self._serve(command, data, self._others)
            return
        crash_point(Point.MID_ASSOCIATION)
        try:
            if self._failure is not None:
                raise self._failure
            assert self._upload is not None
            self._sending.sent(self._upload.finish().study_uid)
        except StoreError as e:
            self._lack(command, e)
            self._refuse(command, e)
            return
        finally:
            self._upload = None
        self.stored += 1
        self._reply(command, SUCCESS)

    def _serve(self, command: Command, data: bytes, others: services.Services) -> None:
        """Answer a request of a service, and report where its answer can go on this association only."""
        if len(data) > services.MOST:
            self._reply(command, services.TOO_LARGE, "The data set is too large.")
            return
        caller = services.Caller(
            calling_ae=self._association.calling_ae,
            called_ae=self._association.called_ae,
            address=self._address,
            may=self._association.may,
        )
        context = self._context
        found = others.answer(context.abstract_syntax, command, data, context.transfer_syntax_uid, caller, time.time())
        for status, item in found.found:
            head = response(command, self._context_id, status, has_data=True)
            self._socket.sendall(head + data_pdus(self._context_id, item, self._association.max_pdu))
        self._reply(command, found.status, found.comment)
        if found.report is not None:
            self._reports.send(self._context_id, found.report(), context.transfer_syntax_uid)

    def _lack(self, command: Command, error: StoreError) -> None:
        """A study lacks what was refused of it."""
        study_uid = self._glimpse.study_uid(self._context.transfer_syntax_uid) or self._sending.only
        self._store.refusals.note(study_uid, command.uid(AFFECTED_CLASS), command.uid(AFFECTED_INSTANCE), str(error))

    def _refuse(self, command: Command, error: StoreError) -> None:
        self.refused += 1
        log.warning(
            "An object was refused.",
            extra={
                "action": "refuse-object",
                "calling_ae": self._association.calling_ae,
                "address": self._address,
                "sop_uid": command.uid(AFFECTED_INSTANCE),
                "status": f"{error.status:#06x}",
                "why": str(error),
            },
        )
        self._reply(command, error.status, str(error))

    def _reply(self, command: Command, status: int, comment: str = "") -> None:
        self._socket.sendall(response(command, self._context_id, status, comment))

    def _discard(self) -> None:
        if self._upload is not None:
            self._upload.discard()
            self._upload = None
