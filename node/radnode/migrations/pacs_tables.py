"""The tables beside a PACS in the first revision."""

import sqlalchemy as sa
from alembic import op


def create() -> None:
    op.create_table(
        "commitments",
        sa.Column("delivery_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("way", sa.String(length=32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=True),
        sa.Column("committed_at", sa.Float(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], name=op.f("fk_commitments_delivery_id_deliveries")),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_commitments")),
    )
    op.create_index(
        "ix_commitments_destination_state_due_at", "commitments", ["destination", "state", "due_at"], unique=False
    )
    op.create_index(op.f("ix_commitments_transaction_uid"), "commitments", ["transaction_uid"], unique=False)
    op.create_table(
        "commit_requests",
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("calling_ae", sa.String(length=64), nullable=False),
        sa.Column("called_ae", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("named", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("committed", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("transaction_uid", name=op.f("pk_commit_requests")),
    )
    op.create_index(op.f("ix_commit_requests_due_at"), "commit_requests", ["due_at"], unique=False)
    op.create_table(
        "promises",
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("calling_ae", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("study_uid", name=op.f("pk_promises")),
    )
    op.create_table(
        "evidence",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=True),
        sa.Column("series", sa.JSON(), nullable=False),
        sa.Column("named", sa.JSON(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.UniqueConstraint("study_uid", "source", "key", name=op.f("uq_evidence_study_uid_source_key")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence")),
    )
    op.create_index(op.f("ix_evidence_study_uid"), "evidence", ["study_uid"], unique=False)
    op.create_table(
        "fetches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("peer", sa.String(length=64), nullable=False),
        sa.Column("wanted_by", sa.String(length=128), nullable=False),
        sa.Column("why", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("claimed_by", sa.String(length=128), nullable=False),
        sa.Column("claimed_until", sa.Float(), nullable=False),
        sa.UniqueConstraint("study_uid", "peer", "why", name=op.f("uq_fetches_study_uid_peer_why")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fetches")),
    )
    op.create_index("ix_fetches_state_due_at", "fetches", ["state", "due_at"], unique=False)
    op.create_index(op.f("ix_fetches_study_uid"), "fetches", ["study_uid"], unique=False)
    op.create_table(
        "unseen",
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("peer", sa.String(length=64), nullable=False),
        sa.Column("study_date", sa.String(length=16), nullable=False),
        sa.Column("study_time", sa.String(length=16), nullable=False),
        sa.Column("modalities", sa.String(length=255), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=True),
        sa.Column("here", sa.Integer(), nullable=False),
        sa.Column("first_seen_at", sa.Float(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("study_uid", "peer", name=op.f("pk_unseen")),
    )
    op.create_table(
        "turned_away",
        sa.Column("calling_ae", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("back_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("calling_ae", name=op.f("pk_turned_away")),
    )
    op.create_table(
        "peer_changes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("who", sa.String(length=128), nullable=False),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_peer_changes")),
    )
    op.create_index(op.f("ix_peer_changes_name"), "peer_changes", ["name"], unique=False)
    op.create_table(
        "breakers",
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("destination", name=op.f("pk_breakers")),
    )


def drop() -> None:
    op.drop_table("breakers")
    op.drop_index(op.f("ix_peer_changes_name"), table_name="peer_changes")
    op.drop_table("peer_changes")
    op.drop_table("turned_away")
    op.drop_table("unseen")
    op.drop_index("ix_fetches_state_due_at", table_name="fetches")
    op.drop_index(op.f("ix_fetches_study_uid"), table_name="fetches")
    op.drop_table("fetches")
    op.drop_index(op.f("ix_evidence_study_uid"), table_name="evidence")
    op.drop_table("evidence")
    op.drop_table("promises")
    op.drop_index(op.f("ix_commit_requests_due_at"), table_name="commit_requests")
    op.drop_table("commit_requests")
    op.drop_index("ix_commitments_destination_state_due_at", table_name="commitments")
    op.drop_index(op.f("ix_commitments_transaction_uid"), table_name="commitments")
    op.drop_table("commitments")
