"""What a peer answers by DICOM, step by step, and what is wrong in one sentence: connection, C-ECHO, what it takes, C-FIND."""

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from radnode.addresses import address_of
from radnode.destinations import probe, sop_class_name
from radnode.destinations.caller import certificate_ends_at
from radnode.destinations.commit_data import COMMITMENT
from radnode.destinations.dimse import Pacs, hang_up
from radnode.destinations.dimse_fetch import GET, MOVE
from radnode.errors import DeliveryError
from radnode.peers.table import Peer
from radnode.profiles import ASKED
from radnode.query import querying
from radnode.settings import Destination, Settings
from radnode.tls import DAY_S

TIMEOUT_S = 5.0
VERIFICATION, FIND = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.2.2.1"
NEEDED = frozenset({"address", "connection", "C-ECHO"})
"""The steps without which none of the others can be."""
SERVICES = {COMMITMENT: "storage commitment", FIND: "C-FIND", MOVE: "C-MOVE", GET: "C-GET"}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: `what` was tried, whether it is well, and what is to be known of it."""

    what: str
    ok: bool
    sentence: str


def dicom(peer: Peer, settings: Settings) -> Iterator[Step]:
    """The steps but the query, each as soon as it is done; a failed one that the others need is the last."""
    try:
        address = address_of(peer, settings)
    except DeliveryError as e:
        yield Step(what="address", ok=False, sentence=f"{e}.")
        return
    for step in (connect(address), echo(address, settings)):
        yield step
        if not step.ok:
            return
    if address.tls:
        yield certificate(address, settings)
    yield takes(address, settings)


def connect(address: Destination, what: str = "connection") -> Step:
    """A TCP connection."""
    at = f"{address.host}:{address.port}"
    began = time.monotonic()
    try:
        socket.create_connection((address.host, address.port), timeout=TIMEOUT_S).close()
    except TimeoutError:
        return Step(
            what=what,
            ok=False,
            sentence=f"{at} does not answer within {TIMEOUT_S:g} s: look at the address and the firewall.",
        )
    except ConnectionRefusedError:
        return Step(
            what=what,
            ok=False,
            sentence=f"{at} refuses the connection: nothing listens there. Look at the port, and whether it runs.",
        )
    except OSError as e:
        return Step(what=what, ok=False, sentence=f"{at} cannot be reached: {e.strerror or type(e).__name__}.")
    return Step(what=what, ok=True, sentence=f"{at} takes connections ({(time.monotonic() - began) * 1000:.0f} ms).")


def echo(address: Destination, settings: Settings) -> Step:
    """An association with Verification, and C-ECHO."""
    try:
        association = associate(address, settings, [VERIFICATION])
    except DeliveryError as e:
        return Step(what="C-ECHO", ok=False, sentence=in_words(str(e), address, settings))
    try:
        if not association.accepted_contexts:
            return Step(
                what="C-ECHO",
                ok=True,
                sentence="It takes the association, but no Verification: it cannot be asked by C-ECHO.",
            )
        status = association.send_c_echo().get("Status")
    finally:
        end(association)
    if status != 0:
        said = "nothing" if status is None else f"0x{status:04X}"
        return Step(what="C-ECHO", ok=False, sentence=f"It answered C-ECHO with {said}.")
    return Step(what="C-ECHO", ok=True, sentence=f"{address.ae_title or 'It'} knows this node and answers.")


def certificate(address: Destination, settings: Settings) -> Step:
    """How long the certificate holds that it shows: it is warned of before its end, as one's own."""
    try:
        days = (certificate_ends_at(address, TIMEOUT_S) - time.time()) / DAY_S
    except (DeliveryError, OSError) as e:
        return Step(what="certificate", ok=False, sentence=f"Its certificate cannot be read: {type(e).__name__}.")
    well = days >= settings.tls.warn_days
    until = "" if well else ": a new one is needed there, or TLS ends with it"
    return Step(what="certificate", ok=well, sentence=f"Its certificate ends in {days:.0f} days{until}.")


def in_words(error: str, address: Destination, settings: Settings) -> str:
    """The sentence for an association that did not come about, with what to do."""
    said = error.lower()
    own = settings.receive.ae_title
    if "called ae title not recognised" in said:
        return f"It listens, but is not called {address.ae_title or 'ANY-SCP'}: correct its AE title here."
    if "calling ae title not recognised" in said:
        return f"It listens, but does not know this node: add the AE title {own} there."
    if "limit exceeded" in said or "congestion" in said:
        return "It listens, but has too many associations now: try again later."
    if "rejected" in said:
        return f"It refuses the association: {error.rpartition(': ')[2]}."
    if "alert" in said or "certificate" in said or "tls" in said:
        return f"The TLS connection fails: {(error.partition(': ')[2] or error).rstrip('.')}."
    if not address.tls and speaks_tls(address):
        return "It expects TLS, and this node calls it without: switch TLS on for it."
    if "has not answered" in said:
        return f"It takes the connection, but does not answer within {TIMEOUT_S:g} s: it is stuck, or no DICOM system."
    return "It listens, but ended the association without an answer: it may be no DICOM system, or refuse this address."


def speaks_tls(address: Destination) -> bool:
    """Whether it answers a TLS handshake. Nothing is sent over it, and nothing is believed of it."""
    try:
        ssl.get_server_certificate((address.host, address.port), timeout=TIMEOUT_S)
    except ssl.SSLError as e:
        return "ALERT" in str(e.reason or "")  # it asks for a certificate of ours: that is TLS too
    except OSError:
        return False
    return True


def takes(address: Destination, settings: Settings) -> Step:
    """A negotiation probe: which results it stores, in which transfer syntaxes, and which services it offers."""
    own = settings.receive.ae_title
    try:
        answer = probe(address, ASKED, calling_ae=own, timeout_s=TIMEOUT_S)
        association = associate(address, settings, list(SERVICES))
        offered = {c.abstract_syntax for c in association.accepted_contexts}
        end(association)
    except DeliveryError as e:
        return Step(what="negotiation", ok=False, sentence=f"{e}.")
    stored = [
        f"{sop_class_name(uid)} ({len(syntaxes)} transfer syntaxes)" for uid, syntaxes in answer.items() if syntaxes
    ]
    refused = [sop_class_name(uid) for uid, syntaxes in answer.items() if not syntaxes]
    services = [name for uid, name in SERVICES.items() if uid in offered]
    parts = [f"It offers {', '.join(services) or 'no service that was asked for'}"]
    parts.append(f"stores {', '.join(stored)}" if stored else "stores none of the results")
    if refused and stored:
        parts.append(f"does not store {', '.join(refused)}")
    return Step(what="negotiation", ok=True, sentence="; ".join(parts) + ".")


def query(peer: Peer, settings: Settings) -> Step:
    """A C-FIND (or QIDO-RS) for a study that cannot exist: the answer is nothing, and it is an answer."""
    try:
        with querying(peer, settings, TIMEOUT_S) as finder:
            finder.studies(StudyInstanceUID="2.25.1")
    except DeliveryError as e:
        return Step(what="query", ok=False, sentence=f"It cannot be queried: {e}.")
    return Step(what="query", ok=True, sentence="It answers queries.")


def associate(address: Destination, settings: Settings, uids: list[str]) -> Any:
    contexts = [(uid, syntax) for uid in uids for syntax in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")]
    return Pacs(address, settings.receive.ae_title, TIMEOUT_S).associate(contexts)


def end(association: Any) -> None:
    if association.is_established:
        association.release()
    hang_up(association)
