"""What `radnode check` tests of access: the files of TLS, the collector of the audit, the identity provider, secrets, ports."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from radnode import audit_syslog, identity_provider, serve, tls
from radnode.errors import DeliveryError, SettingsError
from radnode.identity_provider import ProviderError
from radnode.secrets_read import SecretError, secret
from radnode.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was tested and what came of it."""

    what: str
    ok: bool
    sentence: str


def answers(settings: Settings) -> Iterator[Answer]:
    """Only of what the settings name."""
    if settings.web.certificate is not None:
        yield page(settings)
    if settings.tls.certificate is not None or settings.receive.tls_port is not None:
        yield dicom(settings)
    if settings.audit.host:
        yield collector(settings)
    if settings.oidc.issuer:
        yield provider(settings)
    if settings.narrative.api_key:
        yield language_model(settings)
    yield from ports(settings)


def page(settings: Settings) -> Answer:
    what = "TLS of the page"
    try:
        tls.web(settings.web)
    except OSError as e:
        return Answer(what=what, ok=False, sentence=f"{e}")
    return Answer(what=what, ok=True, sentence="its certificate and key can be used")


def dicom(settings: Settings) -> Answer:
    what = "TLS of DICOM"
    try:
        tls.listening(settings.tls)
    except SettingsError as e:
        return Answer(what=what, ok=False, sentence=e.sentence)
    return Answer(what=what, ok=True, sentence="the node's certificate and key can be used")


def collector(settings: Settings) -> Answer:
    """Connected to over TLS; nothing is sent."""
    what, name = "collector of the audit", f"{settings.audit.host}:{settings.audit.port}"
    try:
        audit_syslog.send(settings.audit, ())
    except DeliveryError as e:
        return Answer(what=what, ok=False, sentence=f"{name}: {e}")
    except ssl.SSLCertVerificationError as e:
        return Answer(what=what, ok=False, sentence=f"{name}: its certificate is not believed: {e.verify_message}")
    except OSError as e:
        return Answer(what=what, ok=False, sentence=f"{name} cannot be reached: {e.strerror or type(e).__name__}")
    return Answer(what=what, ok=True, sentence=f"{name} takes connections over TLS")


def provider(settings: Settings) -> Answer:
    what = "identity provider"
    try:
        identity_provider.shown(settings.oidc)
        with identity_provider.client(settings.oidc) as http:
            identity_provider.discover(settings.oidc, http)
    except ProviderError as e:
        return Answer(what=what, ok=False, sentence=str(e))
    return Answer(what=what, ok=True, sentence=f"{settings.oidc.issuer} says where to sign in")


def language_model(settings: Settings) -> Answer:
    what = "language model"
    try:
        secret(settings.narrative.api_key)
    except SecretError as e:
        return Answer(what=what, ok=False, sentence=str(e))
    return Answer(what=what, ok=True, sentence="its key can be read; it is not asked")


def ports(settings: Settings) -> Iterator[Answer]:
    """Those that the node opens itself; nothing of one that it has already."""
    own, web, hl7 = settings.receive, settings.web, settings.hl7
    wanted = (
        ("DICOM", own.host, own.port if own.plain else None),
        ("DICOM over TLS", own.host, own.tls_port),
        ("the page", web.host, web.port),
        ("HL7", hl7.host, hl7.port),
    )
    for who, host, number in wanted:
        if not number:  # none, or any that is free
            continue
        problem = taken(host, number)
        if not (problem and serve.is_served(settings.data)):
            said = problem or f"{host}:{number} can be opened"
            yield Answer(what=f"port of {who}", ok=not problem, sentence=said)


def taken(host: str, number: int) -> str:
    """Why a port cannot be opened here, in words; "" when it can. It is not listened on."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with closing(socket.socket(family, socket.SOCK_STREAM)) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as e:
        return f"{host}:{number} cannot be opened: {e.strerror}"
    return ""
