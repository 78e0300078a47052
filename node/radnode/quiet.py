"""How long a sender may be quiet before a study of its is complete."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode.peers.table import Peer, from_row
from radnode.settings import Settings
from radnode.tables import PeerRow


def quiet_of(session: Session, settings: Settings, calling_ae: str, address: str) -> float:
    """The quiet time of a sender: that of the peer which names it most exactly, or the node's."""
    peers = [from_row(r) for r in session.scalars(select(PeerRow).where(PeerRow.quiet_s.is_not(None)))]
    fitting = [p for p in peers if p.matches_ae(calling_ae) and (not address or p.matches_address(address))]
    best = max(fitting, key=exactness, default=None)
    return settings.complete.quiet_s if best is None or best.quiet_s is None else best.quiet_s


def exactness(peer: Peer) -> tuple[bool, bool]:
    return bool(peer.ae_title), bool(peer.address)
