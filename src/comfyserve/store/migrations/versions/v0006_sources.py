"""The code of applications is kept for the revisions that run it; links to outputs can be revoked."""

import sqlalchemy as sa
from alembic import op

revision = "v0006"
down_revision = "v0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "revision_source",
        sa.Column("revision_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["revision_id"], ["revision.id"], name=op.f("fk_revision_source_revision_id")
        ),
        sa.PrimaryKeyConstraint("revision_id", name=op.f("pk_revision_source")),
    )
    op.create_index("ix_revision_source_digest", "revision_source", ["digest"], unique=False)
    op.create_table(
        "link_revocation",
        sa.Column("asset_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("asset_id", name=op.f("pk_link_revocation")),
    )
