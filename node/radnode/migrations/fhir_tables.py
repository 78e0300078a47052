"""The tables of the FHIR store: a part of the first step."""

import sqlalchemy as sa
from alembic import op


def create() -> None:
    op.create_table(
        "fhir_resources",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fhir_resources")),
        sa.UniqueConstraint("kind", "resource_id", "version", name=op.f("uq_fhir_resources_kind_resource_id_version")),
    )
    op.create_index(
        "ix_fhir_resources_kind_current_updated_at", "fhir_resources", ["kind", "current", "updated_at"], unique=False
    )
    op.create_table(
        "fhir_terms",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("resource", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("system", sa.String(length=255), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.Column("low", sa.Float(), nullable=True),
        sa.Column("high", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["resource"], ["fhir_resources.id"], name=op.f("fk_fhir_terms_resource_fhir_resources")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fhir_terms")),
    )
    op.create_index(op.f("ix_fhir_terms_resource"), "fhir_terms", ["resource"], unique=False)
    op.create_index("ix_fhir_terms_name_value", "fhir_terms", ["name", "value"], unique=False)
    op.create_index("ix_fhir_terms_name_low", "fhir_terms", ["name", "low"], unique=False)
    op.create_table(
        "fhir_notifications",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("subscription_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("claimed_until", sa.Float(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fhir_notifications")),
    )
    op.create_index("ix_fhir_notifications_state_due_at", "fhir_notifications", ["state", "due_at"], unique=False)


def drop() -> None:
    op.drop_index("ix_fhir_notifications_state_due_at", table_name="fhir_notifications")
    op.drop_table("fhir_notifications")
    op.drop_index("ix_fhir_terms_name_low", table_name="fhir_terms")
    op.drop_index("ix_fhir_terms_name_value", table_name="fhir_terms")
    op.drop_index(op.f("ix_fhir_terms_resource"), table_name="fhir_terms")
    op.drop_table("fhir_terms")
    op.drop_index("ix_fhir_resources_kind_current_updated_at", table_name="fhir_resources")
    op.drop_table("fhir_resources")
