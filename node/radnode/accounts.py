"""People who may sign in, their roles and passwords. The only writer of the accounts table.

Passwords are kept as argon2id hashes (RFC 9106, argon2-cffi's defaults). There is no default password: the first
administrator is made with a one-time token (`accounts_tokens`) or by `radnode users add`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from radnode import audit
from radnode.database import Database
from radnode.errors import RefusedError
from radnode.tables_access import AccountRow, SessionRow

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
PROVIDED = 64
"""Characters of a name that an identity provider gives; it is the provider's own (o'brien@, DOMAIN\\rita, of any script)."""
SHORTEST, LONGEST = 12, 256
"""Characters of a password. NIST SP 800-63B: length, no rules of composition, no expiry."""
HASHING = BoundedSemaphore(2)
"""Each check takes 64 MiB: more at once would let strangers use up the memory."""


class Role(StrEnum):
    READER = "reader"  # everything about studies: see, rule, re-run, retract, upload
    ADMINISTRATOR = "administrator"  # also peers, people, tokens, the audit


@dataclass(frozen=True, kw_only=True)
class Account:
    """subject: "ISSUER SUB" of a person whom an identity provider signs in, else ""."""

    name: str
    role: Role
    subject: str
    created_at: float


def add(database: Database, name: str, role: Role, password: str, now: float) -> None:
    """A new person with a password. Raises RefusedError."""
    check_name(name)
    check_password(name, password)
    hashed = hash_of(password)
    with database.transaction() as session:
        if session.get(AccountRow, name) is not None:
            raise RefusedError(f"there is an account {name} already")
        session.add(AccountRow(name=name, role=role, password_hash=hashed, subject="", created_at=now))
        audit.about(session, f"account {name} made, {role}")


def sign_in_by_provider(session: Session, name: str, role: Role, subject: str, now: float) -> str:
    """The name of the account of `subject`, made or brought up to date in the caller's transaction.

    Raises RefusedError for a name that belongs to somebody else.
    """
    if not 1 <= len(name) <= PROVIDED or not name.isprintable() or name != name.strip() or "/" in name:
        raise RefusedError(
            f"the identity provider gives no name of 1 to {PROVIDED} characters, without / and blanks at its ends"
        )
    row = session.scalars(select(AccountRow).where(AccountRow.subject == subject)).first()
    if row is not None:
        if row.role != role:
            audit.about(session, f"account {row.name}: {row.role} becomes {role}, as the identity provider says")
            row.role = role
            forget_sessions(session, row.name)
        return row.name
    if session.get(AccountRow, name) is not None:
        raise RefusedError(f"another account is called {name} already")
    session.add(AccountRow(name=name, role=role, password_hash="", subject=subject, created_at=now))
    audit.about(session, f"account {name} made, {role}, of the identity provider")
    return name


def remove(database: Database, name: str) -> None:
    """Raises RefusedError when there is no such account, or nobody else could manage the node."""
    with database.transaction() as session:
        keep_an_administrator(session, there(session, name))
        forget_sessions(session, name)
        audit.about(session, f"account {name} removed")
        session.execute(delete(AccountRow).where(AccountRow.name == name))


def set_role(database: Database, name: str, role: Role) -> None:
    """The person has to sign in again. Raises RefusedError."""
    with database.transaction() as session:
        row = there(session, name)
        if role is not Role.ADMINISTRATOR:
            keep_an_administrator(session, row)
        audit.about(session, f"account {name}: {row.role} becomes {role}")
        row.role = role
        forget_sessions(session, name)


def set_password(database: Database, name: str, password: str) -> None:
    """Every browser of the person is signed out. Raises RefusedError."""
    check_password(name, password)
    hashed = hash_of(password)
    with database.transaction() as session:
        row = there(session, name)
        if row.subject:
            raise RefusedError(f"{name} signs in at the identity provider and has no password here")
        row.password_hash = hashed
        audit.about(session, f"account {name}: new password")
        forget_sessions(session, name)


def is_password(database: Database, name: str, password: str) -> bool:
    """Whether this is the account's password; an unknown name takes as long as a wrong password."""
    with database.reading() as session:
        row = session.get(AccountRow, name)
        kept = row.password_hash if row is not None else ""
    hasher = PasswordHasher()
    with HASHING:
        if not kept or len(password) > LONGEST:
            hasher.hash("nobody's password")
            return False
        try:
            hasher.verify(kept, password)
        except (VerificationError, InvalidHashError):
            return False
    if hasher.check_needs_rehash(kept):
        renew(database, name, kept, hash_of(password))
    return True


def renew(database: Database, name: str, before: str, after: str) -> None:
    """The same password, hashed as this version would hash it."""
    with database.transaction() as session:
        change = update(AccountRow).where(AccountRow.name == name, AccountRow.password_hash == before)
        session.execute(change.values(password_hash=after))


def accounts(session: Session) -> Sequence[Account]:
    """Everybody, by name."""
    return [view(row) for row in session.scalars(select(AccountRow).order_by(AccountRow.name))]


def find(session: Session, name: str) -> Account | None:
    row = session.get(AccountRow, name)
    return view(row) if row is not None else None


def any_account(session: Session) -> bool:
    return session.scalars(select(AccountRow.name).limit(1)).first() is not None


def view(row: AccountRow) -> Account:
    return Account(name=row.name, role=Role(row.role), subject=row.subject, created_at=row.created_at)


def there(session: Session, name: str) -> AccountRow:
    row = session.get(AccountRow, name)
    if row is None:
        raise RefusedError(f"there is no account {name}")
    return row


def keep_an_administrator(session: Session, row: AccountRow) -> None:
    """Raises RefusedError when this is the last administrator."""
    are = select(AccountRow.name).where(AccountRow.role == Role.ADMINISTRATOR).order_by(AccountRow.name)
    administrators = session.scalars(are.with_for_update()).all()  # two may go at the same moment
    if administrators == [row.name]:
        raise RefusedError(f"{row.name} is the only administrator: make another one first")


def forget_sessions(session: Session, name: str) -> None:
    session.execute(delete(SessionRow).where(SessionRow.account == name))


def check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise RefusedError("a name has up to 64 letters, digits and . _ @ -, and begins with a letter or digit")


def check_password(name: str, password: str) -> None:
    if len(password) < SHORTEST:
        raise RefusedError(f"a password has at least {SHORTEST} characters")
    if len(password) > LONGEST:
        raise RefusedError(f"a password has at most {LONGEST} characters")
    if len(set(password)) < 5 or name.lower() in password.lower():
        raise RefusedError("this password is too easy to guess: more different characters, and not the name itself")


def hash_of(password: str) -> str:
    with HASHING:
        return PasswordHasher().hash(password)
