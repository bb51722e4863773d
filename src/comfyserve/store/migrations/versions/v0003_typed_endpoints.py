"""Typed endpoints and their versions."""

import sqlalchemy as sa
from alembic import op

revision = "v0003"
down_revision = "v0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "typed_endpoint",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployment.id"], name="fk_typed_endpoint_deployment_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_typed_endpoint"),
    )
    op.create_index("uq_typed_endpoint_name", "typed_endpoint", ["deployment_id", "name"], unique=True)
    op.create_table(
        "typed_version",
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("revision_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["typed_endpoint.id"], name="fk_typed_version_endpoint_id"
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "number", name="pk_typed_version"),
    )
