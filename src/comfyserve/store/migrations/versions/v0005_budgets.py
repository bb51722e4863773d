"""Monthly caps of deployments and tokens; the ledger is read from a moment on."""

import sqlalchemy as sa
from alembic import op

revision = "v0005"
down_revision = "v0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "budget",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("monthly_cost", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "subject_id", name=op.f("pk_budget")),
    )
    op.create_index("ix_usage_ended_at", "usage", ["ended_at"], unique=False)
