"""The tables of access and of the record of it: accounts, sessions, tokens, failed attempts, the audit. See `tables`.

No secret stands here in the clear: passwords as argon2 hashes, session ids and tokens as SHA-256 of 256 random bits.
"""

from sqlalchemy import Float, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from radnode.table import UID, Table


class AccountRow(Table):
    """A person who may sign in: by password, or at the identity provider that `subject` names."""

    __tablename__ = "accounts"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str] = mapped_column(String(16))  # reader, administrator
    password_hash: Mapped[str] = mapped_column(Text, default="")  # argon2id; "" where an identity provider asks
    subject: Mapped[str] = mapped_column(String(512), default="", index=True)  # "ISSUER SUB" of OpenID Connect
    created_at: Mapped[float] = mapped_column(Float)


class SessionRow(Table):
    """A signed-in browser. `expires_at` never moves; `seen_at` does while a person works."""

    __tablename__ = "sessions"
    id_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    account: Mapped[str] = mapped_column(String(64), index=True)
    created_at: Mapped[float] = mapped_column(Float)
    seen_at: Mapped[float] = mapped_column(Float)
    expires_at: Mapped[float] = mapped_column(Float)


class TokenRow(Table):
    """A machine's token, or the one that makes the first administrator (`scopes` is then "first-run")."""

    __tablename__ = "tokens"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[str] = mapped_column(Text)  # separated by spaces
    created_by: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[float] = mapped_column(Float)
    expires_at: Mapped[float] = mapped_column(Float)
    used_at: Mapped[float | None] = mapped_column(Float)


class AttemptRow(Table):
    """A failed sign-in; kept only as long as it counts. `key`: SHA-256 of an account's name, or of an address."""

    __tablename__ = "attempts"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(64), index=True)
    at: Mapped[float] = mapped_column(Float, index=True)


class SignInRow(Table):
    """A browser that was sent to the identity provider and has not come back yet."""

    __tablename__ = "sign_ins"
    id_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    state_sha256: Mapped[str] = mapped_column(String(64))
    nonce: Mapped[str] = mapped_column(String(64))
    verifier: Mapped[str] = mapped_column(String(128))
    at: Mapped[float] = mapped_column(Float, index=True)


class AuditRow(Table):
    """Who saw, changed or sent what. Never changed, never deleted: each row's hash covers the hash before it."""

    __tablename__ = "audit"
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)  # 1, 2, 3, ... without a gap
    at: Mapped[float] = mapped_column(Float)
    who: Mapped[str] = mapped_column(String(128), index=True)
    role: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(32))  # see radnode.audit.Kind
    action: Mapped[str] = mapped_column(String(255))
    outcome: Mapped[str] = mapped_column(String(16))
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    patient_id: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)
    hash_before: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class AuditHeadRow(Table):
    """The end of the chain: one row, which every writer locks."""

    __tablename__ = "audit_head"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(Integer)
    hash: Mapped[str] = mapped_column(String(64))


class AuditExportRow(Table):
    """How far the audit has been handed to a collector."""

    __tablename__ = "audit_exports"
    destination: Mapped[str] = mapped_column(String(255), primary_key=True)
    number: Mapped[int] = mapped_column(Integer)
    at: Mapped[float] = mapped_column(Float)
    error: Mapped[str] = mapped_column(Text, default="")
