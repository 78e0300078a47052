"""Tokens of machines, and the one-time token that makes the first administrator. Only their SHA-256 is kept."""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from radnode import audit
from radnode.accounts import NAME, any_account
from radnode.accounts_sessions import digest
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.tables_access import TokenRow

PREFIX = "rn_"
"""So that a scanner for leaked secrets knows one."""
FIRST_RUN = "first-run"
FIRST_RUN_S = 24 * 3600.0
TOUCH_S = 60.0


class Scope(StrEnum):
    API_READ = "api.read"
    FHIR_READ = "fhir.read"
    FHIR_WRITE = "fhir.write"
    DICOM_WRITE = "dicom.write"
    METRICS_READ = "metrics.read"
    AUDIT_READ = "audit.read"


@dataclass(frozen=True, kw_only=True)
class Token:
    """All but its secret. Times: UTC epoch seconds."""

    name: str
    scopes: frozenset[Scope]
    created_by: str
    created_at: float
    expires_at: float
    used_at: float | None


def add(database: Database, name: str, scopes: Collection[Scope], by: str, now: float, *, days: float) -> str:
    """The new token's secret, which nobody can see again. Raises RefusedError."""
    if not NAME.fullmatch(name) or name == FIRST_RUN:
        raise RefusedError("a name has up to 64 letters, digits and . _ @ -, and begins with a letter or digit")
    if not scopes:
        raise RefusedError("a token has at least one scope")
    secret = PREFIX + secrets.token_urlsafe(32)
    with database.transaction() as session:
        if session.get(TokenRow, name) is not None:
            raise RefusedError(f"there is a token {name} already: revoke it first")
        audit.about(session, f"token {name} made: {', '.join(sorted(scopes))}")
        session.add(row_of(name, " ".join(sorted(scopes)), secret, by, now, now + days * 86400))
    return secret


def row_of(name: str, scopes: str, secret: str, by: str, now: float, until: float) -> TokenRow:
    return TokenRow(
        name=name, token_sha256=digest(secret), scopes=scopes, created_by=by, created_at=now, expires_at=until
    )


def tokens(session: Session) -> Sequence[Token]:
    rows = session.scalars(select(TokenRow).where(TokenRow.scopes != FIRST_RUN).order_by(TokenRow.name))
    return [view(row) for row in rows]


def view(row: TokenRow) -> Token:
    return Token(
        name=row.name,
        scopes=frozenset(Scope(s) for s in row.scopes.split()),
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
    )


def revoke(database: Database, name: str) -> None:
    """Raises RefusedError when there is none."""
    with database.transaction() as session:
        if session.scalar(delete(TokenRow).where(TokenRow.name == name).returning(TokenRow.name)) is None:
            raise RefusedError(f"there is no token {name}")
        audit.about(session, f"token {name} revoked")


def look(database: Database, secret: str, now: float) -> Token | None:
    """The token of this secret, unless it expired or was revoked."""
    with database.reading() as session:
        row = session.scalars(select(TokenRow).where(TokenRow.token_sha256 == digest(secret))).first()
    if row is None or row.scopes == FIRST_RUN or now > row.expires_at:
        return None
    if row.used_at is None or now - row.used_at > TOUCH_S:
        with database.transaction() as session:
            session.execute(update(TokenRow).where(TokenRow.name == row.name).values(used_at=now))
    return view(row)


def first_run(database: Database, now: float) -> str:
    """A new one-time token in place of any before; "" when there is an account already."""
    secret = PREFIX + secrets.token_urlsafe(24)
    with database.transaction() as session:
        session.execute(delete(TokenRow).where(TokenRow.name == FIRST_RUN))
        if any_account(session):
            return ""
        session.add(row_of(FIRST_RUN, FIRST_RUN, secret, "radnode serve", now, now + FIRST_RUN_S))
    return secret


def is_first_run(session: Session, secret: str, now: float) -> bool:
    """Whether this is the one-time token and nobody used it yet."""
    row = session.get(TokenRow, FIRST_RUN)
    known = row is not None and secrets.compare_digest(row.token_sha256, digest(secret)) and now <= row.expires_at
    return known and not any_account(session)


def use_first_run(session: Session) -> None:
    session.execute(delete(TokenRow).where(TokenRow.name == FIRST_RUN))
