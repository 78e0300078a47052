"""The side that opens associations: pynetdicom's application entity, with sockets that are closed when they end."""

import socket
import ssl
from contextlib import suppress
from typing import Any

from pynetdicom import AE
from pynetdicom.transport import AssociationSocket

from radnode import tls
from radnode.errors import DeliveryError, SettingsError
from radnode.settings import Destination
from radnode.settings_access import Tls

CONNECT_S = 10.0


class Caller(AE):  # type: ignore[misc]  # mypy is not shown the types of pynetdicom (pyproject.toml)
    """An application entity that calls others. All its waits end after `timeout_s`, the one for a connection earlier."""

    def __init__(self, ae_title: str, timeout_s: float) -> None:
        super().__init__(ae_title=ae_title)
        self.connection_timeout = min(CONNECT_S, timeout_s)
        self.acse_timeout = self.dimse_timeout = self.network_timeout = timeout_s

    def _create_socket(self, assoc: Any, address: Any, tls_args: Any) -> AssociationSocket:
        opened = CallerSocket(assoc, address=address)
        opened.tls_args = tls_args
        return opened


def tls_of(address: Destination) -> ssl.SSLContext | None:
    """How a destination is called over TLS; None for one that is called plainly. Raises DeliveryError."""
    if not address.tls:
        return None
    try:
        return tls.calling(Tls(certificate=address.certificate, certificate_key=address.certificate_key, ca=address.ca))
    except SettingsError as e:
        raise DeliveryError(f"{address.name}: {e.sentence}") from e


class CallerSocket(AssociationSocket):  # type: ignore[misc]
    """Closed also where the peer ended first: pynetdicom would leave that one to the garbage collector."""

    def _shutdown_socket(self) -> None:
        connection = self.socket
        if connection is None:
            return
        with suppress(OSError):  # there is no peer any more
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


def tls_args(address: Destination) -> tuple[ssl.SSLContext, str] | None:
    """For `associate`: the context, and the name that the peer's certificate must have. Raises DeliveryError."""
    context = tls_of(address)
    return None if context is None else (context, address.host)


def certificate_ends_at(address: Destination, timeout_s: float) -> float:
    """When the certificate ends that a PACS shows over TLS, UTC epoch seconds. Raises DeliveryError and OSError."""
    context = tls_of(address)
    if context is None:
        raise DeliveryError("it is not called over TLS")
    with (
        socket.create_connection((address.host, address.port), timeout_s) as plain,
        context.wrap_socket(plain, server_hostname=address.host) as secured,
    ):
        shown = secured.getpeercert() or {}
    return float(ssl.cert_time_to_seconds(str(shown["notAfter"])))


def tls_problem(address: Destination, timeout_s: float) -> str:
    """Why there is no TLS connection, in words; "" where there is one. An alert of TLS 1.3 comes after the handshake."""
    context = tls_of(address)
    if context is None:
        return ""
    try:
        with (
            socket.create_connection((address.host, address.port), timeout=timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as secured,
        ):
            secured.settimeout(min(1.0, timeout_s))
            secured.recv(1)
    except ssl.SSLCertVerificationError as e:
        return f"its certificate is not believed: {e.verify_message}"
    except ssl.SSLError as e:
        return f"TLS was refused: {(e.reason or type(e).__name__).replace('_', ' ').lower()}"
    except OSError:
        return ""
    return ""
