"""TLS as BCP 195 (RFC 9325) asks for it, for DICOM and for collectors: version 1.2 or later, forward secrecy, AEAD only.

PS3.15 annex B.12 (the Modified BCP 195 RFC 8996, 9325 profile); both sides show a certificate.
"""

import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from radnode.errors import SettingsError
from radnode.settings import Settings
from radnode.settings_access import Tls, WebAccess

CIPHERS = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
"""Of TLS 1.2, RFC 9325 section 4.2; those of 1.3 are all good."""
DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """what: which one, in words. ends_at: UTC epoch seconds. problem: why it cannot be read, else ""."""

    what: str
    path: Path
    ends_at: float = 0.0
    problem: str = ""

    def days(self, now: float) -> float:
        return (self.ends_at - now) / DAY_S


def listening(own: Tls) -> ssl.SSLContext:
    """For associations that come in: a caller without a certificate of `tls.ca` is refused. Raises SettingsError."""
    made = filled(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), own)
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def calling(own: Tls) -> ssl.SSLContext:
    """For associations that go out: the peer shows a certificate of `tls.ca`, for the name or address that is called.

    Raises SettingsError.
    """
    return filled(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), own)


def names(connection: object) -> frozenset[str]:
    """What the certificate is for that the other side showed: its common names and its other names; none in the clear."""
    shown: Any = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    if not shown:
        return frozenset()
    common = [value for part in shown.get("subject", ()) for key, value in part if key == "commonName"]
    return frozenset(str(name).lower() for name in (*common, *(value for _, value in shown.get("subjectAltName", ()))))


def filled(made: ssl.SSLContext, own: Tls) -> ssl.SSLContext:
    if not (own.certificate and own.certificate_key and own.ca):
        raise SettingsError(
            "tls", "DICOM over TLS needs the node's certificate and whom it believes.",
            "Set certificate, certificate_key and ca in [tls].",
        )  # fmt: skip
    try:
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.set_ciphers(CIPHERS)
        show(made, own.certificate, own.certificate_key)
        believe(made, own.ca)
    except OSError as e:
        raise SettingsError("tls", f"A certificate of [tls] cannot be used: {e}.", "They are PEM files.") from e
    return made


def web(own: WebAccess) -> None:
    """Try the files that the page is served with. Raises OSError in words that name the file."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if own.certificate is not None:
        show(made, own.certificate, own.certificate_key)
    if own.client_ca is not None:
        believe(made, own.client_ca)


def show(made: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Have the node show this certificate. key: its own file, None where it stands with the certificate.

    Raises OSError in words that name the file; nobody is ever asked for a password.
    """
    for file in filter(None, (certificate, key)):
        file.open("rb").close()
    where = key or certificate

    def no_password() -> str:
        raise OSError(f"{where} has a password; `openssl pkey -in {where} -out NEW` writes a key without one")

    try:
        made.load_cert_chain(certificate, key, password=no_password)
    except ssl.SSLError as e:
        if e.reason == "KEY_VALUES_MISMATCH":
            raise OSError(f"{where} is not the key of {certificate}") from e
        raise OSError(f"{certificate} and {where} are no certificate and its key in PEM") from e


def believe(made: ssl.SSLContext, ca: Path) -> None:
    """Believe the certificates that those of this file signed. Raises OSError in words that name the file."""
    ca.open("rb").close()
    try:
        made.load_verify_locations(ca)
    except ssl.SSLError as e:
        raise OSError(f"{ca} holds no certificate in PEM") from e


def certificates(settings: Settings) -> Iterator[Certificate]:
    """Every certificate that the settings name, with its end."""
    named = [
        ("the page", settings.web.certificate),
        ("whom the page lets call", settings.web.client_ca),
        ("the node for DICOM", settings.tls.certificate),
        ("whom the node believes for DICOM", settings.tls.ca),
        ("the node at the syslog collector", settings.audit.certificate),
        *((f"the node at the destination {d.name}", d.certificate) for d in settings.destinations),
    ]
    for what, path in named:
        if path is not None:
            yield read(what, path)


def read(what: str, path: Path) -> Certificate:
    """The certificate of the file that ends first."""
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
        ends: datetime = min(c.not_valid_after_utc for c in found)
    except (OSError, ValueError) as e:
        return Certificate(what=what, path=path, problem=f"cannot be read ({type(e).__name__})")
    return Certificate(what=what, path=path, ends_at=ends.timestamp())


def warning(certificate: Certificate, warn_days: float, now: float | None = None) -> str:
    """What to do about this certificate, in a sentence; "" when there is time."""
    if certificate.problem:
        return f"The certificate of {certificate.what} {certificate.problem}."
    days = certificate.days(time.time() if now is None else now)
    if days < 0:
        return f"The certificate of {certificate.what} ended {-days:.0f} days ago."
    if days < warn_days:
        return f"The certificate of {certificate.what} ends in {days:.0f} days."
    return ""


def warnings(settings: Settings, now: float | None = None) -> tuple[str, ...]:
    """A sentence for each certificate of the settings that ended, ends soon, or cannot be read."""
    said = (warning(c, settings.tls.warn_days, now) for c in certificates(settings))
    return tuple(sentence for sentence in said if sentence)
