"""The table of report texts in the first revision."""

import sqlalchemy as sa
from alembic import op


def create() -> None:
    op.create_table(
        "narratives",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("statements", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("who", sa.String(length=128), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_narratives")),
    )
    op.create_index("ix_narratives_study_uid_model", "narratives", ["study_uid", "model"], unique=False)
    op.create_index("ix_narratives_step_at", "narratives", ["step", "at"], unique=False)


def drop() -> None:
    op.drop_index("ix_narratives_step_at", table_name="narratives")
    op.drop_index("ix_narratives_study_uid_model", table_name="narratives")
    op.drop_table("narratives")
