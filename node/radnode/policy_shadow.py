"""A triage policy in shadow: where each study would stand by it is recorded and sorts nothing. The only writer of its table.

Nothing that orders the worklist, tells other systems or reports looks at this table; the policy page shows it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from radnode.database import Database
from radnode.settings import Settings, TriageRule
from radnode.tables_monitoring import PolicyShadowRow
from radnode.triage import RANK, Level
from radnode.worklist import Reader

SHOWN = 50


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A study that would stand elsewhere. at: when it was recorded, UTC epoch seconds. Rules are "" where none decided."""

    study_uid: str
    live_level: Level
    live_rule: str
    shadow_level: Level
    shadow_rule: str
    at: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """counts: (level by the policy in force, level by the one in shadow) -> studies. moved: the newest of those that differ."""

    policy: tuple[TriageRule, ...]
    policy_sha256: str
    since: float | None
    counts: Mapping[tuple[Level, Level], int]
    moved: tuple[Moved, ...]

    @property
    def studies(self) -> int:
        return sum(self.counts.values())

    @property
    def raised(self) -> int:
        return sum(n for (live, shadow), n in self.counts.items() if RANK[shadow] < RANK[live])

    @property
    def lowered(self) -> int:
        return sum(n for (live, shadow), n in self.counts.items() if RANK[shadow] > RANK[live])


def digest(policy: Sequence[TriageRule]) -> str:
    """SHA-256 of the rules, so that a changed draft is another."""
    return hashlib.sha256(json.dumps([r.model_dump(mode="json") for r in policy], sort_keys=True).encode()).hexdigest()


class Shadow:
    """Records what the policy of `triage_shadow` would do, as long as there is one."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._live = Reader.of(settings, database)
        shadow = settings.model_copy(update={"triage": settings.triage_shadow})
        self._shadow = Reader.of(shadow, database) if settings.triage_shadow else None
        self._digest = digest(settings.triage_shadow)

    def turn(self, now: float) -> int:
        """Record every recent study whose place by either policy is new or has changed; how many."""
        if self._shadow is None:
            return 0
        live, shadow = self._live.priorities(now), self._shadow.priorities(now)
        places = {
            uid: (str(live[uid][1].level), live[uid][1].rule, str(there.level), there.rule)
            for uid, (_, there, _) in shadow.items()
            if uid in live
        }
        with self._database.reading() as session:
            known = {uid: place for uid, place in recorded(session, self._digest).items() if uid in places}
        changed = {uid: place for uid, place in places.items() if known.get(uid) != place}
        if changed:
            with self._database.transaction() as session:
                for uid, place in changed.items():
                    keep(session, self._digest, uid, place, now)
        return len(changed)


def recorded(session: Session, policy_sha256: str) -> Mapping[str, tuple[str, str, str, str]]:
    row = PolicyShadowRow
    query = select(row.study_uid, row.live_level, row.live_rule, row.shadow_level, row.shadow_rule)
    found = session.execute(query.where(row.policy_sha256 == policy_sha256))
    return {uid: (live, live_rule, shadow, rule) for uid, live, live_rule, shadow, rule in found}


def keep(session: Session, policy_sha256: str, study_uid: str, place: tuple[str, str, str, str], now: float) -> None:
    same = (PolicyShadowRow.study_uid == study_uid, PolicyShadowRow.policy_sha256 == policy_sha256)
    row = session.scalars(select(PolicyShadowRow).where(*same)).one_or_none()
    if row is None:
        row = PolicyShadowRow(study_uid=study_uid, policy_sha256=policy_sha256)
        session.add(row)
    row.live_level, row.live_rule, row.shadow_level, row.shadow_rule = place
    row.at = now


def comparison(session: Session, policy: Sequence[TriageRule]) -> Comparison | None:
    """What the policy in shadow would have changed so far; None without one."""
    if not policy:
        return None
    sha256 = digest(policy)
    counts = Counter((Level(live), Level(shadow)) for live, _, shadow, _ in recorded(session, sha256).values())
    mine = PolicyShadowRow.policy_sha256 == sha256
    differ = PolicyShadowRow.live_level != PolicyShadowRow.shadow_level
    query = select(PolicyShadowRow).where(mine, differ).order_by(PolicyShadowRow.at.desc(), PolicyShadowRow.id)
    return Comparison(
        policy=tuple(policy),
        policy_sha256=sha256,
        since=session.scalar(select(func.min(PolicyShadowRow.at)).where(mine)),
        counts=counts,
        moved=tuple(from_row(row) for row in session.scalars(query.limit(SHOWN))),
    )


def from_row(row: PolicyShadowRow) -> Moved:
    return Moved(
        study_uid=row.study_uid,
        live_level=Level(row.live_level),
        live_rule=row.live_rule,
        shadow_level=Level(row.shadow_level),
        shadow_rule=row.shadow_rule,
        at=row.at,
    )
