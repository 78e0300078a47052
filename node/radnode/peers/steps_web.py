"""What a peer answers over the web, step by step: connection, TLS, whether it takes the node's user or token, QIDO-RS.

The steps over DICOM stand in `steps`.
"""

import socket
import ssl
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from radnode.destinations.orthanc import version
from radnode.destinations.web_client import WebAddress, client, context, why
from radnode.destinations.web_find import WebFinder
from radnode.errors import DeliveryError
from radnode.peers import steps as peer_steps
from radnode.peers.peer import Peer
from radnode.peers.steps import Step
from radnode.query import web_address
from radnode.settings import Destination, Settings
from radnode.tls import DAY_S

IN_THE_CLEAR = " What the node shows of itself goes there in the clear: use https."


def web(peer: Peer, settings: Settings) -> Iterator[Step]:
    """The steps, each as soon as it is done; the first that fails is the last."""
    at = web_address(peer, settings)
    parts = urlsplit(at.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    for step in (
        peer_steps.connect(Destination(name=peer.name, kind="dimse", host=host, port=port), "web connection"),
        *([secure(at, host, port, settings)] if parts.scheme == "https" else []),
    ):
        yield step
        if not step.ok:
            return
    yield by_rest(at) if peer.way == "orthanc" else by_qido(at)


def secure(at: WebAddress, host: str, port: int, settings: Settings) -> Step:
    """A TLS handshake, and until when the certificate holds."""
    what = "web TLS"
    try:
        with (
            socket.create_connection((host, port), timeout=peer_steps.TIMEOUT_S) as plain,
            context(at).wrap_socket(plain, server_hostname=host) as secured,
        ):
            shown = secured.getpeercert() or {}
    except (OSError, DeliveryError) as e:  # an SSLError is an OSError
        said = str(e) if isinstance(e, DeliveryError) else why(e)
        return Step(what=what, ok=False, sentence=f"The TLS connection fails: {said}.")
    days = (ssl.cert_time_to_seconds(str(shown["notAfter"])) - time.time()) / DAY_S
    return Step(what=what, ok=days >= settings.tls.warn_days, sentence=f"Its certificate ends in {days:.0f} days.")


def by_qido(at: WebAddress) -> Step:
    """QIDO-RS for a study that cannot exist: the answer is nothing, and it is an answer. WADO-RS asks so as well."""
    try:
        with WebFinder(at, peer_steps.TIMEOUT_S) as finder:
            finder.studies(StudyInstanceUID="2.25.1")
    except DeliveryError as e:
        return Step(what="QIDO-RS", ok=False, sentence=f"It cannot be queried: {e}.")
    return Step(what="QIDO-RS", ok=True, sentence=f"It answers queries.{in_the_clear(at)}")


def by_rest(at: WebAddress) -> Step:
    """The version of an Orthanc."""
    try:
        with client(at, peer_steps.TIMEOUT_S) as http:
            said = version(http)
    except DeliveryError as e:
        return Step(what="Orthanc", ok=False, sentence=f"It cannot be asked: {e}.")
    return Step(what="Orthanc", ok=True, sentence=f"It is Orthanc {said}, and answers.{in_the_clear(at)}")


def in_the_clear(at: WebAddress) -> str:
    return IN_THE_CLEAR if (at.user or at.token) and at.url.startswith("http://") else ""
