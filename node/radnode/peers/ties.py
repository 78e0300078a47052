"""What hangs on a peer, said before it is removed; and which peers are wider than somebody may have meant."""

from collections.abc import Iterable

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from radnode import withdrawals
from radnode.peers.peer import Peer
from radnode.settings import Settings
from radnode.tables import StudyRow
from radnode.tables_pacs import CommitRequestRow, FetchRow

LATELY_S = 7 * 86_400.0
WITHDRAWN = "{} results owed to it are withdrawn."


def hangs_on(session: Session, settings: Settings, peer: Peer, now: float) -> tuple[str, ...]:
    """A sentence for each thing that ends with this peer."""
    said = []
    if "send" in peer.may and peer.ae_title:
        lately = (StudyRow.calling_ae == peer.ae_title, StudyRow.last_instance_at >= now - LATELY_S)
        said.append((count(session, StudyRow.study_uid, *lately), "It sent {} of the last seven days' studies."))
    fetches = (FetchRow.peer == peer.name, FetchRow.state.in_(("queued", "running")))
    said.append((count(session, FetchRow.id, *fetches), "{} fetches from it wait and will fail."))
    if peer.gets_results:
        said.append((withdrawals.owed(session, peer.name), WITHDRAWN))
    owed = (CommitRequestRow.calling_ae == peer.ae_title, CommitRequestRow.state == "owed")
    said.append(
        (count(session, CommitRequestRow.transaction_uid, *owed), "{} answers to its storage commitments are owed.")
    )
    sentences = [sentence.format(many) for many, sentence in said if many]
    if settings.priors.peer == peer.name:
        sentences.append("Earlier studies are looked for in it ([priors] in the settings).")
    return tuple(sentences)


def ends(session: Session, before: Peer | None, after: Peer) -> str:
    """What is withdrawn where `before` becomes `after`, in a sentence; "" for nothing."""
    if before is None or not before.gets_results or (after.gets_results and after.name == before.name):
        return ""
    many = withdrawals.owed(session, before.name)
    return WITHDRAWN.format(many) if many else ""


def count(session: Session, column: object, *where: object) -> int:
    return session.scalar(select(func.count(column)).where(*where)) or 0  # type: ignore[arg-type]  # any column, any condition


def doing(peer: Peer) -> list[str]:
    """What it may do by calling: who is fetched from by C-MOVE sends."""
    return sorted({"send" if right == "retrieve" else right for right in peer.as_caller})


def wide(peers: Iterable[Peer]) -> tuple[str, ...]:
    """A sentence for each peer that is everybody."""
    return tuple(
        f"{p.name} is any AE title at any address: whoever reaches the node may {', '.join(doing(p))}."
        for p in peers
        if p.is_anybody
    )
