"""The history of the peers: who changed what, when. Rows are added and never changed."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode.tables_pacs import PeerChangeRow


@dataclass(frozen=True, kw_only=True)
class Change:
    """at: UTC epoch seconds. sentence: what became of the peer."""

    at: float
    name: str
    who: str
    sentence: str


def record(
    session: Session,
    name: str,
    before: Mapping[str, object] | None,
    after: Mapping[str, object] | None,
    who: str,
    now: float,
) -> None:
    """One more change, in the caller's transaction."""
    session.add(PeerChangeRow(name=name, at=now, who=who, before=plain(before), after=plain(after)))


def plain(peer: Mapping[str, object] | None) -> dict[str, object] | None:
    """As JSON keeps it."""
    return None if peer is None else {k: list(v) if isinstance(v, tuple) else v for k, v in peer.items()}


def history(session: Session, limit: int = 50) -> tuple[Change, ...]:
    """The latest changes, the newest first."""
    rows = session.scalars(select(PeerChangeRow).order_by(PeerChangeRow.id.desc()).limit(limit))
    return tuple(Change(at=r.at, name=r.name, who=r.who, sentence=sentence(r.before, r.after)) for r in rows)


def sentence(before: Mapping[str, object] | None, after: Mapping[str, object] | None) -> str:
    """What changed, in words."""
    if before is None:
        return "added"
    if after is None:
        return "removed"
    changed = [k for k in after if after[k] != before.get(k)]
    return "; ".join(f"{k.replace('_', ' ')}: {shown(before.get(k))} → {shown(after[k])}" for k in changed)


def shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "nothing"
    return "–" if value in (None, "") else str(value)
