"""Signed-in browsers and failed attempts. A session's id is a secret of the browser: only its SHA-256 is kept.

A session ends after `session_idle_min` without a click and after `session_hours` in any case; a new one is made at each
sign-in, and every change of the account's role or password ends them all.
"""

import hashlib
import secrets
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from radnode.accounts import Account, find
from radnode.database import Database
from radnode.tables_access import AttemptRow, SessionRow

TOUCH_S = 30.0
"""A session's last use is written at most this often."""
WINDOW_S = 15 * 60.0
OF_ACCOUNT, OF_ADDRESS = 10, 50
"""Failures within WINDOW_S after which an account, or an address, has to wait."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    idle_s: float
    whole_s: float


def digest(secret: str) -> str:
    """What is kept of a secret of 256 random bits; such a one needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def begin(session: Session, account: str, limits: Limits, now: float, *, instead_of: str = "") -> str:
    """A new session's secret, in the caller's transaction. instead_of: the secret that the browser came with."""
    if instead_of:
        session.execute(delete(SessionRow).where(SessionRow.id_sha256 == digest(instead_of)))
    session.execute(delete(SessionRow).where(SessionRow.expires_at < now))
    secret = secrets.token_urlsafe(32)
    session.add(
        SessionRow(
            id_sha256=digest(secret), account=account, created_at=now, seen_at=now, expires_at=now + limits.whole_s
        )
    )
    return secret


def look(database: Database, secret: str, limits: Limits, now: float, *, active: bool) -> Account | None:
    """Whose session this is; None when it ended. active: a person did something, not the page by itself."""
    with database.reading() as session:
        row = session.get(SessionRow, digest(secret))
        if row is None or now > row.expires_at or now > row.seen_at + limits.idle_s:
            return None
        account = find(session, row.account)
    if active and now - row.seen_at > TOUCH_S:
        with database.transaction() as session:
            session.execute(update(SessionRow).where(SessionRow.id_sha256 == row.id_sha256).values(seen_at=now))
    return account


def end(session: Session, secret: str) -> None:
    session.execute(delete(SessionRow).where(SessionRow.id_sha256 == digest(secret)))


def must_wait(session: Session, account: str, address: str, now: float) -> bool:
    """Whether there were too many failures for this account, or from this address."""
    for key, most in ((f"account {account}", OF_ACCOUNT), (f"address {address}", OF_ADDRESS)):
        query = select(func.count()).where(AttemptRow.key == digest(key), AttemptRow.at > now - WINDOW_S)
        if (session.scalar(query) or 0) >= most:
            return True
    return False


def failed(session: Session, account: str, address: str, now: float) -> None:
    """Count a failure, in the caller's transaction."""
    session.execute(delete(AttemptRow).where(AttemptRow.at < now - WINDOW_S))
    session.add_all(AttemptRow(key=digest(key), at=now) for key in (f"account {account}", f"address {address}"))


def wrong_token(session: Session, address: str, now: float) -> bool:
    """Count a wrong token from an address, apart from its sign-ins; False, and nothing written, when there were too many."""
    key = digest(f"token {address}")
    query = select(func.count()).where(AttemptRow.key == key, AttemptRow.at > now - WINDOW_S)
    if (session.scalar(query) or 0) >= OF_ADDRESS:
        return False
    session.execute(delete(AttemptRow).where(AttemptRow.at < now - WINDOW_S))
    session.add(AttemptRow(key=key, at=now))
    return True


def succeeded(session: Session, account: str) -> None:
    """The account's failures are forgotten; those of the address stay."""
    session.execute(delete(AttemptRow).where(AttemptRow.key == digest(f"account {account}")))
