"""The answer to a storage commitment on the association that asked for it: an N-EVENT-REPORT from our side.

For callers that listen nowhere the node knows. PS3.4 annex J.3.3, PS3.7 section 10.1.1.
"""

import socket
import struct
import time

from pynetdicom.dsutils import encode

from radnode.association import Association
from radnode.association_pdu import (
    AFFECTED_CLASS,
    AFFECTED_INSTANCE,
    COMMAND_FIELD,
    DATA_SET_TYPE,
    EVENT_TYPE,
    HAS_DATA_SET,
    MESSAGE_ID,
    REPLIED_ID,
    RESPONSE,
    STATUS,
    Command,
    command_pdu,
    data_pdus,
)
from radnode.association_services import N_EVENT_REPORT_RQ, SUCCESS, SYNTAXES, Services
from radnode.commit_requests import Report
from radnode.destinations.commit_data import COMMITMENT, COMMITMENT_INSTANCE, event_information

SHORT = struct.Struct("<H")


class Reports:
    """The reports of one association that wait for their response."""

    def __init__(self, connection: socket.socket, association: Association) -> None:
        self._socket = connection
        self._association = association
        self._waiting: dict[int, Report] = {}  # by message id
        self._last = 0

    def send(self, context_id: int, report: Report, syntax: str) -> None:
        """Send a report; its response is awaited."""
        self._last = self._last % 0xFFFF + 1
        self._waiting[self._last] = report
        information = event_information(report.transaction_uid, report.committed, report.failed)
        values = {
            AFFECTED_CLASS: padded(COMMITMENT),
            COMMAND_FIELD: SHORT.pack(N_EVENT_REPORT_RQ),
            MESSAGE_ID: SHORT.pack(self._last),
            DATA_SET_TYPE: SHORT.pack(HAS_DATA_SET),
            AFFECTED_INSTANCE: padded(COMMITMENT_INSTANCE),
            EVENT_TYPE: SHORT.pack(2 if report.failed else 1),
        }
        body = encode(information, syntax == SYNTAXES[1], True) or b""
        self._socket.sendall(command_pdu(context_id, values) + data_pdus(context_id, body, self._association.max_pdu))

    def taken(self, command: Command, services: Services) -> bool:
        """Whether a command is the response to one of these reports; then the caller has its answer, or refused it."""
        if command.number(COMMAND_FIELD) != N_EVENT_REPORT_RQ | RESPONSE:
            return False
        report = self._waiting.pop(command.number(REPLIED_ID), None)
        if report is None:
            return False
        if command.number(STATUS) == SUCCESS:
            services.reported(report.transaction_uid, len(report.committed), time.time())
        return True


def padded(uid: str) -> bytes:
    """A UI value of even length. PS3.5 section 6.2."""
    return uid.encode() + b"\0" * (len(uid) % 2)
