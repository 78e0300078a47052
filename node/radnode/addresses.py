"""Where results go now: the destinations of the settings file, and the peers that get results."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode import outbox
from radnode.errors import DeliveryError
from radnode.peers.table import Peer, from_row
from radnode.settings import Destination, Settings
from radnode.settings_access import with_certificates
from radnode.tables import PeerRow


def destinations(session: Session, settings: Settings) -> tuple[Destination, ...]:
    """Those of the settings, then the peers that get results, by name. A name of the settings is never a peer's."""
    named = {d.name for d in settings.destinations}
    rows = session.scalars(select(PeerRow).where(PeerRow.may.contains("results")).order_by(PeerRow.name))
    return (*settings.destinations, *(as_destination(from_row(r), settings) for r in rows if r.name not in named))


def astray(session: Session, settings: Settings) -> tuple[str, ...]:
    """What is owed to a name that leads nowhere any more, a sentence each: it waits, and somebody has to know."""
    there = {d.name for d in destinations(session, settings)}
    owed = {name: count.owed for name, count in sorted(outbox.counts(session).items()) if count.owed}
    return tuple(
        f"{many} results are owed to {name}, which is neither a destination of the settings file nor a peer that gets results: they wait until one has this name again."
        for name, many in owed.items()
        if name not in there
    )


def as_destination(peer: Peer, settings: Settings) -> Destination:
    """A peer that gets results, as the destination that it is."""
    return address_of(peer, settings).model_copy(update={"results": peer.profile})


def address_of(peer: Peer, settings: Settings) -> Destination:
    """Where a peer is called. Raises DeliveryError when it has no single place and port."""
    host = peer.called_at
    if not host or peer.port is None:
        raise DeliveryError(f"{peer.name} has no single place to call by DICOM: host, or one address, and port")
    called = Destination(name=peer.name, kind="dimse", host=host, port=peer.port, ae_title=peer.ae_title, tls=peer.tls)
    return with_certificates((called,), settings.tls)[0]


def clash(peer: Peer, there: Iterable[Destination]) -> str:
    """Why this peer may not get results under its name; "" when it may. there: the destinations of the settings."""
    if peer.gets_results and peer.name in {d.name for d in there}:
        return (
            f"{peer.name} is the name of a destination in the settings file: choose another name, or take it out there."
        )
    return ""
