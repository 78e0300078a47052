"""The audit to a collector: DICOM audit messages by syslog over TLS (PS3.15 section A.6, RFC 5424, 5425).

How far it got stands in the database and moves only after a batch was handed over, so every row arrives, one or another
twice when the connection breaks: each message names its row. Syslog itself acknowledges nothing; the collector's closing
of the TLS connection is the most it says.
"""

import contextlib
import logging
import os
import socket
import ssl
import time
from collections.abc import Sequence
from itertools import islice

from sqlalchemy.orm import Session

from radnode import audit
from radnode.audit import Entry
from radnode.audit_messages import instant, message
from radnode.database import Database
from radnode.errors import DeliveryError
from radnode.settings import Settings
from radnode.settings_access import Audit
from radnode.tables_access import AuditExportRow

PRIORITY = 10 * 8 + 5
"""Facility 10 (security), severity 5 (notice)."""
MESSAGE_ID = "DICOM+RFC3881"
BATCH = 500
TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


def export(database: Database, settings: Settings) -> int:
    """Send what is new; how many messages. Raises DeliveryError when the collector cannot be reached."""
    address = settings.audit
    if not address.host:
        raise DeliveryError("the settings name no collector: set `host` in [audit]")
    name, sent = f"{address.host}:{address.port}", 0
    while batch := waiting(database, name):
        try:
            send(address, [frame(entry) for entry in batch])
        except (OSError, ssl.SSLError) as e:
            why = f"the collector {name} does not take audit messages: {type(e).__name__}"
            remember(database, name, batch[0].number - 1, why)
            raise DeliveryError(why) from e
        remember(database, name, batch[-1].number, "")
        sent += len(batch)
    return sent


def waiting(database: Database, name: str) -> Sequence[Entry]:
    """The next rows that the collector has not got."""
    with database.reading() as session:
        row = session.get(AuditExportRow, name)
        return list(islice(audit.walk(session, row.number if row else 0), BATCH))


def remember(database: Database, name: str, number: int, error: str) -> None:
    with audit.acting(None), database.transaction() as session:
        session.merge(AuditExportRow(destination=name, number=number, at=time.time(), error=error))


def owed(session: Session, settings: Settings) -> int:
    """How many rows the collector has not got yet; 0 without one."""
    row = session.get(AuditExportRow, f"{settings.audit.host}:{settings.audit.port}")
    return audit.last_number(session) - (row.number if row else 0) if settings.audit.host else 0


def send(address: Audit, frames: Sequence[bytes]) -> None:
    """All frames over one connection, closed in both directions."""
    with (
        socket.create_connection((address.host, address.port), TIMEOUT_S) as plain,
        context(address).wrap_socket(plain, server_hostname=address.host) as secured,
    ):
        secured.sendall(b"".join(frames))
        with contextlib.suppress(ssl.SSLError, TimeoutError):  # some collectors close without a word
            secured.unwrap()


def context(address: Audit) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=address.ca)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if address.certificate:
        made.load_cert_chain(address.certificate, address.certificate_key)
    return made


def frame(entry: Entry) -> bytes:
    """One syslog message with its length before it (RFC 5425 section 4.3)."""
    header = f"<{PRIORITY}>1 {instant(entry.at)} {socket.gethostname()} radnode {os.getpid()} {MESSAGE_ID} - "
    body = header.encode() + b"\xef\xbb\xbf" + message(entry).encode()
    return f"{len(body)} ".encode() + body
