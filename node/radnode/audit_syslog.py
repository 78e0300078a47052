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
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import audit, tls
from radnode.audit import Entry
from radnode.audit_messages import instant, message
from radnode.database import Database
from radnode.errors import DeliveryError
from radnode.settings import Settings
from radnode.settings_access import Audit
from radnode.tables_access import AuditExportRow, AuditRow

PRIORITY = 10 * 8 + 5
"""Facility 10 (security), severity 5 (notice)."""
MESSAGE_ID = "DICOM+RFC3881"
BATCH = 500
TIMEOUT_S = 10.0

T = TypeVar("T")

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
        except (OSError, DeliveryError) as e:
            said = str(e) if isinstance(e, DeliveryError) else type(e).__name__
            why = f"the collector {name} does not take audit messages: {said}"
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


def owed_s(session: Session, settings: Settings, now: float) -> float:
    """For how many seconds the oldest row waits that the collector has not got; 0.0 without one, or without a collector."""
    if not settings.audit.host:
        return 0.0
    row = session.get(AuditExportRow, f"{settings.audit.host}:{settings.audit.port}")
    waiting_since = select(AuditRow.at).where(AuditRow.number > (row.number if row else 0)).order_by(AuditRow.number)
    at = session.scalar(waiting_since.limit(1))
    return max(0.0, now - at) if at is not None else 0.0


def send(address: Audit, frames: Sequence[bytes]) -> None:
    """All frames over one connection, closed in both directions. Raises OSError and DeliveryError.

    In TLS 1.3 a collector that does not take the node's certificate says so by an alert after the handshake (RFC 8446
    section 4.4.2), while the node is sending. `SSLSocket.unwrap` takes any alert for a good end, so the end is read here.
    """
    with socket.create_connection((address.host, address.port), TIMEOUT_S) as plain:
        talk = Talk(plain, context(address), address.host)
        talk.until_done(talk.tls.do_handshake)
        talk.tls.write(b"".join(frames))
        with contextlib.suppress(ssl.SSLWantReadError):
            talk.tls.unwrap()  # only says that this is the end: nothing was given it to read
        try:
            while talk.until_done(lambda: talk.tls.read(1)):
                pass
        except (TimeoutError, ssl.SSLEOFError):  # some collectors close without a word, or not at all
            return
        except ssl.SSLError as e:
            raise DeliveryError(f"it refuses the connection ({in_words(e)})") from e


class Talk:
    """TLS whose bytes are handed over here."""

    def __init__(self, plain: socket.socket, trusted: ssl.SSLContext, host: str) -> None:
        self._plain, self._incoming, self._outgoing = plain, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = trusted.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def until_done(self, do: Callable[[], T]) -> T:
        """What `do` returns, once it has got what it waits for."""
        while True:
            try:
                return do()
            except ssl.SSLWantReadError:
                self._flush()
                got = self._plain.recv(65_536)
                if got:
                    self._incoming.write(got)
                else:
                    self._incoming.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        self._plain.sendall(self._outgoing.read())


def in_words(error: ssl.SSLError) -> str:
    """What an alert says (RFC 8446 section 6), such as "alert certificate required"."""
    return " ".join(word for word in (error.reason or "").lower().split("_") if not word.startswith(("tlsv", "sslv")))


def context(address: Audit) -> ssl.SSLContext:
    """Raises DeliveryError when a file of the settings cannot be used."""
    try:
        made = ssl.create_default_context(cafile=address.ca)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        if address.certificate:
            tls.show(made, address.certificate, address.certificate_key)
    except OSError as e:
        raise DeliveryError(f"a certificate of [audit] cannot be used: {e}") from e
    return made


def frame(entry: Entry) -> bytes:
    """One syslog message with its length before it (RFC 5425 section 4.3)."""
    header = f"<{PRIORITY}>1 {instant(entry.at)} {socket.gethostname()} radnode {os.getpid()} {MESSAGE_ID} - "
    body = header.encode() + b"\xef\xbb\xbf" + message(entry).encode()
    return f"{len(body)} ".encode() + body
