"""E-mail when a study rises to STAT: that there is one and where to look, no patient data (RFC 5321, RFC 5322)."""

import json
import smtplib
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from radnode.destinations import Outgoing
from radnode.errors import DeliveryError
from radnode.settings import Destination as Address


class Mail:
    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.timeout_s = timeout_s

    @contextmanager
    def open(self, results: Sequence[Outgoing]) -> Iterator["Post"]:
        address = self.address
        try:
            with smtplib.SMTP(address.host, address.port, timeout=self.timeout_s) as server:
                if address.starttls:
                    server.starttls(context=ssl.create_default_context())
                if address.user:
                    server.login(address.user, address.password)
                yield Post(server, address)
        except (OSError, smtplib.SMTPException) as e:
            raise DeliveryError(f"the mail server does not take it: {type(e).__name__}") from e


class Post:
    def __init__(self, server: smtplib.SMTP, address: Address) -> None:
        self.server = server
        self.address = address

    def send(self, result: Outgoing) -> str:
        letter = digest(json.loads(result.path.read_bytes()), result.uid, self.address)
        try:
            refused = self.server.send_message(letter)
        except smtplib.SMTPRecipientsRefused as e:
            codes = {code for code, _ in e.recipients.values()}
            raise DeliveryError("every recipient was refused", permanent=min(codes) >= 500) from e
        except smtplib.SMTPResponseException as e:
            permanent = e.smtp_code >= 500
            raise DeliveryError(f"the mail server answered {e.smtp_code}", permanent=permanent) from e
        return f"{len(refused)} of {len(self.address.to)} recipients were refused" if refused else ""


def digest(notice: Mapping[str, Any], uid: str, address: Address) -> EmailMessage:
    """The same letter, with the same Message-ID, for the same change."""
    at = datetime.fromtimestamp(float(notice["at"]), UTC)
    letter = EmailMessage()
    letter["Subject"] = f"radnode: a study stands at {notice['level']}"
    letter["From"], letter["To"] = address.sender, ", ".join(address.to)
    letter["Date"], letter["Message-ID"] = format_datetime(at), f"<{uid}@radnode.invalid>"
    where = f" Open it: {address.link.rstrip('/')}/" if address.link else ""
    weights = " It comes from demonstration weights, which are not for clinical use." if notice["demonstration"] else ""
    level, before = notice["level"], notice["before"]
    what = f"a study rose from {before} to {level}"
    if level == before:  # told although nothing rose: it had left the worklist
        what = f"a study that had been read got a new finding and came back at {level}"
    letter.set_content(f"At {at:%Y-%m-%d %H:%M:%S} UTC {what} on the worklist.{weights}{where}\n")
    return letter


def make(address: Address, *, calling_ae: str, timeout_s: float) -> Mail:
    if not address.sender or not address.to:
        raise DeliveryError(f"destination {address.name!r} names no sender or no recipient")
    return Mail(address, timeout_s)
