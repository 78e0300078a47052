"""The first schema's tables of access and audit: see radnode.tables_access."""

import sqlalchemy as sa
from alembic import op

NAMES = ("audit_exports", "audit_head", "audit", "sign_ins", "attempts", "tokens", "sessions", "accounts")


def text(name: str, length: int | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length) if length else sa.Text(), nullable=False)


def number(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Float(), nullable=nullable)


def create() -> None:
    create_access()
    create_audit()


def create_access() -> None:
    op.create_table(
        "accounts", text("name", 64), text("role", 16), text("password_hash"), text("subject", 512), number("created_at"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_accounts")),
    )  # fmt: skip
    op.create_index(op.f("ix_accounts_subject"), "accounts", ["subject"])
    op.create_table(
        "sessions", text("id_sha256", 64), text("account", 64), number("created_at"), number("seen_at"),
        number("expires_at"), sa.PrimaryKeyConstraint("id_sha256", name=op.f("pk_sessions")),
    )  # fmt: skip
    op.create_index(op.f("ix_sessions_account"), "sessions", ["account"])
    op.create_table(
        "tokens", text("name", 64), text("token_sha256", 64), text("scopes"), text("created_by", 128),
        number("created_at"), number("expires_at"), number("used_at", nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tokens")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_tokens_token_sha256")),
    )  # fmt: skip
    op.create_table(
        "attempts", sa.Column("id", sa.Integer(), nullable=False), text("key", 64), number("at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
    )  # fmt: skip
    op.create_index(op.f("ix_attempts_key"), "attempts", ["key"])
    op.create_index(op.f("ix_attempts_at"), "attempts", ["at"])
    op.create_table(
        "sign_ins", text("id_sha256", 64), text("state_sha256", 64), text("nonce", 64), text("verifier", 128), number("at"),
        sa.PrimaryKeyConstraint("id_sha256", name=op.f("pk_sign_ins")),
    )  # fmt: skip
    op.create_index(op.f("ix_sign_ins_at"), "sign_ins", ["at"])


def create_audit() -> None:
    op.create_table(
        "audit", sa.Column("number", sa.Integer(), autoincrement=False, nullable=False), number("at"), text("who", 128),
        text("role", 16), text("address", 64), text("kind", 32), text("action", 255), text("outcome", 16),
        text("study_uid", 64), text("patient_id"), text("detail"), text("hash_before", 64), text("hash", 64),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit")),
    )  # fmt: skip
    op.create_index(op.f("ix_audit_who"), "audit", ["who"])
    op.create_index(op.f("ix_audit_study_uid"), "audit", ["study_uid"])
    op.create_table(
        "audit_head", sa.Column("id", sa.Integer(), nullable=False), sa.Column("number", sa.Integer(), nullable=False),
        text("hash", 64), sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )  # fmt: skip
    op.execute("INSERT INTO audit_head (id, number, hash) VALUES (1, 0, '')")
    op.create_table(
        "audit_exports", text("destination", 255), sa.Column("number", sa.Integer(), nullable=False), number("at"),
        text("error"), sa.PrimaryKeyConstraint("destination", name=op.f("pk_audit_exports")),
    )  # fmt: skip


def drop() -> None:
    for name in NAMES:
        op.drop_table(name)
