"""Uploads of Comfy API v2 have a path and tags; ended jobs are found by when they ended."""

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("asset", sa.Column("file_path", sa.Text(), nullable=True))
    op.add_column("asset", sa.Column("tags", sa.Text(), nullable=True))
    op.create_index("ix_asset_file_path", "asset", ["deployment_id", "file_path"], unique=False)
    op.create_index("ix_job_finished_at", "job", ["finished_at"], unique=False)
