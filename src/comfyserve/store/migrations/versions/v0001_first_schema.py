"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "v0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deployment",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("revision_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("next_number", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("queued", sa.Integer(), server_default="0", nullable=False),
        sa.Column("active", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployment")),
    )
    op.create_index(
        "uq_deployment_live_name",
        "deployment",
        ["name"],
        unique=True,
        sqlite_where=sa.text("state <> 'deleted'"),
        postgresql_where=sa.text("state <> 'deleted'"),
    )
    op.create_table(
        "released_blob",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_released_blob")),
    )
    op.create_table(
        "replica",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("revision_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ready_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("gpu", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=True),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replica")),
    )
    op.create_index(
        "ix_replica_deployment", "replica", ["deployment_id", "created_at"], unique=False
    )
    op.create_index("ix_replica_state", "replica", ["state"], unique=False)
    op.create_table(
        "usage",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("replica_id", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("gpu", sa.Text(), nullable=False),
        sa.Column("price_per_hour", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_usage")),
    )
    op.create_index("ix_usage_deployment", "usage", ["deployment_id", "kind", "seq"], unique=False)
    op.create_index("ix_usage_job", "usage", ["job_id"], unique=False)
    op.create_index("ix_usage_replica", "usage", ["replica_id", "seq"], unique=False)
    op.create_index(
        "uq_usage_open",
        "usage",
        ["replica_id"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "asset",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("subfolder", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployment.id"], name=op.f("fk_asset_deployment_id")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_asset")),
    )
    op.create_index("ix_asset_digest", "asset", ["digest"], unique=False)
    op.create_index("ix_asset_expires_at", "asset", ["expires_at"], unique=False)
    op.create_index(
        "ix_asset_family",
        "asset",
        ["deployment_id", "type", "subfolder", "family", "ordinal"],
        unique=False,
    )
    op.create_index("ix_asset_job", "asset", ["job_id"], unique=False)
    op.create_index("uq_asset_id", "asset", ["id"], unique=True)
    op.create_index(
        "uq_asset_name", "asset", ["deployment_id", "type", "subfolder", "name"], unique=True
    )
    op.create_table(
        "idempotency",
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_digest", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("node_errors", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployment.id"], name=op.f("fk_idempotency_deployment_id")
        ),
        sa.PrimaryKeyConstraint("deployment_id", "principal", "key", name=op.f("pk_idempotency")),
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"], unique=False)
    op.create_table(
        "revision",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("engine_version", sa.Text(), nullable=False),
        sa.Column("snapshot_digest", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployment.id"], name=op.f("fk_revision_deployment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revision")),
    )
    op.create_index("ix_revision_snapshot", "revision", ["snapshot_digest"], unique=False)
    op.create_index("uq_revision_number", "revision", ["deployment_id", "number"], unique=True)
    op.create_table(
        "token",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_digest", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployment.id"], name=op.f("fk_token_deployment_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
    )
    op.create_index("uq_token_secret", "token", ["secret_digest"], unique=True)
    op.create_table(
        "job",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("revision_id", sa.Text(), nullable=False),
        sa.Column("prompt_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Double(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=True),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("replica_id", sa.Text(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.Column("workflow_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployment.id"], name=op.f("fk_job_deployment_id")
        ),
        sa.ForeignKeyConstraint(["revision_id"], ["revision.id"], name=op.f("fk_job_revision_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_job")),
    )
    op.create_index("ix_job_deployment", "job", ["deployment_id", "seq"], unique=False)
    op.create_index(
        "ix_job_order", "job", ["state", "deployment_id", "number", "seq"], unique=False
    )
    op.create_index("ix_job_prompt", "job", ["deployment_id", "prompt_id", "seq"], unique=False)
    op.create_index("ix_job_replica", "job", ["replica_id", "seq"], unique=False)
    op.create_index("uq_job_id", "job", ["id"], unique=True)
    op.create_table(
        "job_document",
        sa.Column(
            "job_seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_seq"], ["job.seq"], name=op.f("fk_job_document_job_seq")),
        sa.PrimaryKeyConstraint("job_seq", name=op.f("pk_job_document")),
    )
    op.create_table(
        "job_history",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("prompt_id", sa.Text(), nullable=False),
        sa.Column("job_seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("summary", sa.LargeBinary(), nullable=True),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployment.id"], name=op.f("fk_job_history_deployment_id")
        ),
        sa.ForeignKeyConstraint(["job_seq"], ["job.seq"], name=op.f("fk_job_history_job_seq")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_job_history")),
    )
    op.create_index("ix_job_history_job", "job_history", ["deployment_id", "job_seq"], unique=False)
    op.create_index("ix_job_history_order", "job_history", ["deployment_id", "seq"], unique=False)
    op.create_index("ix_job_history_state", "job_history", ["deployment_id", "state"], unique=False)
    op.create_index(
        "uq_job_history_prompt", "job_history", ["deployment_id", "prompt_id"], unique=True
    )
    op.create_table(
        "job_label",
        sa.Column(
            "job_seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_seq"], ["job.seq"], name=op.f("fk_job_label_job_seq")),
        sa.PrimaryKeyConstraint("job_seq", "key", name=op.f("pk_job_label")),
    )
    op.create_index("ix_job_label_value", "job_label", ["key", "value", "job_seq"], unique=False)
    op.create_table(
        "job_secret",
        sa.Column(
            "job_seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_seq"], ["job.seq"], name=op.f("fk_job_secret_job_seq")),
        sa.PrimaryKeyConstraint("job_seq", name=op.f("pk_job_secret")),
    )
