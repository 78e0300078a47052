"""Which triage policy was in force since when: one row whenever it, or the settings file, changed. Never changed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from radnode.database import Database
from radnode.settings import Settings, settings_file
from radnode.tables_triage import PolicyRow
from radnode.triage import DEFAULT_POLICY

SHOWN = 100


@dataclass(frozen=True, kw_only=True)
class Policy:
    """at: since when, UTC epoch seconds. settings_sha256: of the settings file, "" without one. policy: the table, as JSON."""

    at: float
    settings_sha256: str
    policy_sha256: str
    policy: Mapping[str, Any]


def in_force(settings: Settings) -> Mapping[str, Any]:
    """The table, the limits and the classes of patients, as JSON."""
    rules = DEFAULT_POLICY if settings.triage is None else settings.triage
    return {
        "triage": [rule.model_dump(mode="json") for rule in rules],
        "ageing": settings.ageing.model_dump(mode="json"),
        "patient_classes": [rule.model_dump(mode="json") for rule in settings.patient_classes],
    }


def remember(database: Database, settings: Settings, now: float) -> bool:
    """Keep what is in force when it differs from what was in force last. Returns whether it does."""
    file = settings_file()
    said = hashlib.sha256(file.read_bytes()).hexdigest() if file is not None and file.is_file() else ""
    policy = in_force(settings)
    digest = hashlib.sha256(json.dumps(policy, sort_keys=True).encode()).hexdigest()
    with database.transaction() as session:
        last = session.scalars(select(PolicyRow).order_by(PolicyRow.id.desc()).limit(1)).first()
        if last is not None and (last.settings_sha256, last.policy_sha256) == (said, digest):
            return False
        session.add(PolicyRow(at=now, settings_sha256=said, policy_sha256=digest, policy=dict(policy)))
    return True


def history(session: Session) -> tuple[Policy, ...]:
    """The newest first."""
    rows = session.scalars(select(PolicyRow).order_by(PolicyRow.id.desc()).limit(SHOWN))
    return tuple(
        Policy(at=r.at, settings_sha256=r.settings_sha256, policy_sha256=r.policy_sha256, policy=r.policy) for r in rows
    )
