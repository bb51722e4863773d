"""Jobs that are calls of typed endpoints, their stories, and batches of them."""

import sqlalchemy as sa
from alembic import op

revision = "v0008"
down_revision = "v0007"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "job_call",
        sa.Column("job_seq", _SEQ, autoincrement=False, nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("outputs", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=True),
        sa.Column("batch_index", sa.Integer(), nullable=True),
        sa.Column("reuse_key", sa.Text(), nullable=True),
        sa.Column("reused_from", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_seq"], ["job.seq"], name="fk_job_call_job_seq"),
        sa.PrimaryKeyConstraint("job_seq", name="pk_job_call"),
    )
    op.create_index("ix_job_call_endpoint", "job_call", ["endpoint", "job_seq"], unique=False)
    op.create_index("ix_job_call_batch", "job_call", ["batch_id", "batch_index"], unique=False)
    op.create_index("ix_job_call_reuse", "job_call", ["reuse_key", "job_seq"], unique=False)
    op.create_table(
        "job_story",
        sa.Column("job_seq", _SEQ, autoincrement=False, nullable=False),
        sa.Column("story", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_seq"], ["job.seq"], name="fk_job_story_job_seq"),
        sa.PrimaryKeyConstraint("job_seq", name="pk_job_story"),
    )
    op.create_table(
        "batch",
        sa.Column("seq", _SEQ, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployment.id"], name="fk_batch_deployment_id"),
        sa.PrimaryKeyConstraint("seq", name="pk_batch"),
    )
    op.create_index("uq_batch_id", "batch", ["id"], unique=True)
    op.create_index("ix_batch_deployment", "batch", ["deployment_id", "seq"], unique=False)
