"""The tables, as SQLAlchemy Core. What a list selects is small; documents have rows of their own."""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only where the key is declared INTEGER.
SEQ = BigInteger().with_variant(Integer, "sqlite")
# Only for SQLite here, because naming another dialect imports it (100 ms). The migrations, from
# which any other database is made, have the same conditions for it.
_LIVE_NAME = text("state <> 'deleted'")
_OPEN_SEGMENT = text("ended_at IS NULL")
_NOT_RETIRED = text("retired_at IS NULL")

# `revision_id` has no foreign key: revisions point at deployments, and a circle of two could
# only be inserted with deferred checks. The counters are kept by every step of a job, so that
# the queue limit is one conditional UPDATE.
deployment = Table(
    "deployment",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("revision_id", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("next_number", BigInteger, nullable=False, server_default="0"),
    Column("queued", Integer, nullable=False, server_default="0"),
    Column("active", Integer, nullable=False, server_default="0"),
)
Index(
    "uq_deployment_live_name",
    deployment.c.name,
    unique=True,
    sqlite_where=_LIVE_NAME,
)

revision = Table(
    "revision",
    metadata,
    Column("id", Text, primary_key=True),
    Column("deployment_id", Text, ForeignKey("deployment.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("spec", Text, nullable=False),
    Column("engine_version", Text, nullable=False),
    Column("snapshot_digest", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)
Index("uq_revision_number", revision.c.deployment_id, revision.c.number, unique=True)
Index("ix_revision_snapshot", revision.c.snapshot_digest)

# The code of an application is kept for as long as a revision runs it.
revision_source = Table(
    "revision_source",
    metadata,
    Column("revision_id", Text, ForeignKey("revision.id"), primary_key=True),
    Column("digest", Text, nullable=False),
)
Index("ix_revision_source_digest", revision_source.c.digest)

replica = Table(
    "replica",
    metadata,
    Column("id", Text, primary_key=True),
    # No foreign keys: the replica that records a deployment comes before the deployment.
    Column("deployment_id", Text, nullable=False),
    Column("revision_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("since", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("ready_at", Double),
    Column("ended_at", Double),
    Column("host", Text, nullable=False),
    Column("gpu", Text, nullable=False),
    Column("pid", BigInteger),
    Column("endpoint", Text, nullable=False),
    Column("exit_code", Integer),
    Column("message", Text, nullable=False),
)
Index("ix_replica_deployment", replica.c.deployment_id, replica.c.created_at)
Index("ix_replica_state", replica.c.state)

job = Table(
    "job",
    metadata,
    Column("seq", SEQ, primary_key=True),
    Column("id", Text, nullable=False),
    Column("deployment_id", Text, ForeignKey("deployment.id"), nullable=False),
    Column("revision_id", Text, ForeignKey("revision.id"), nullable=False),
    Column("prompt_id", Text, nullable=False),
    Column("number", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("principal", Text, nullable=False),
    Column("client_id", Text),
    Column("labels", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("replica_id", Text),
    Column("owner", Text),
    Column("lease_until", Double),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("error", Text),
    Column("receipt", Text),
    Column("workflow_id", Text),
    # The typed endpoint that it came through, if any.
    Column("endpoint_id", Text),
)
Index("uq_job_id", job.c.id, unique=True)
Index("ix_job_order", job.c.state, job.c.deployment_id, job.c.number, job.c.seq)
Index("ix_job_deployment", job.c.deployment_id, job.c.seq)
Index("ix_job_prompt", job.c.deployment_id, job.c.prompt_id, job.c.seq)
Index("ix_job_replica", job.c.replica_id, job.c.seq)
Index("ix_job_finished_at", job.c.finished_at)

job_document = Table(
    "job_document",
    metadata,
    Column("job_seq", SEQ, ForeignKey("job.seq"), primary_key=True, autoincrement=False),
    Column("document", LargeBinary, nullable=False),
)

# Only while a job is open; the row goes when the job ends.
job_secret = Table(
    "job_secret",
    metadata,
    Column("job_seq", SEQ, ForeignKey("job.seq"), primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
)

job_label = Table(
    "job_label",
    metadata,
    Column("job_seq", SEQ, ForeignKey("job.seq"), primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
Index("ix_job_label_value", job_label.c.key, job_label.c.value, job_label.c.job_seq)

# ComfyUI's history: one entry per prompt id, in the order in which they first finished.
job_history = Table(
    "job_history",
    metadata,
    Column("seq", SEQ, primary_key=True),
    Column("deployment_id", Text, ForeignKey("deployment.id"), nullable=False),
    Column("prompt_id", Text, nullable=False),
    Column("job_seq", SEQ, ForeignKey("job.seq"), nullable=False),
    Column("state", Text, nullable=False),
    Column("summary", LargeBinary),
    Column("entry", LargeBinary, nullable=False),
)
Index("uq_job_history_prompt", job_history.c.deployment_id, job_history.c.prompt_id, unique=True)
Index("ix_job_history_order", job_history.c.deployment_id, job_history.c.seq)
Index("ix_job_history_state", job_history.c.deployment_id, job_history.c.state)
Index("ix_job_history_job", job_history.c.deployment_id, job_history.c.job_seq)

idempotency = Table(
    "idempotency",
    metadata,
    Column("deployment_id", Text, ForeignKey("deployment.id"), primary_key=True),
    Column("principal", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_digest", Text, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("node_errors", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)
Index("ix_idempotency_created_at", idempotency.c.created_at)

usage = Table(
    "usage",
    metadata,
    Column("seq", SEQ, primary_key=True),
    Column("replica_id", Text, nullable=False),
    Column("deployment_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("job_id", Text),
    Column("gpu", Text, nullable=False),
    Column("price_per_hour", Double, nullable=False),
)
Index(
    "uq_usage_open",
    usage.c.replica_id,
    unique=True,
    sqlite_where=_OPEN_SEGMENT,
)
Index("ix_usage_replica", usage.c.replica_id, usage.c.seq)
Index("ix_usage_deployment", usage.c.deployment_id, usage.c.kind, usage.c.seq)
Index("ix_usage_job", usage.c.job_id)
Index("ix_usage_ended_at", usage.c.ended_at)

# `family` and `ordinal` are read off the name, to find the next free one without a scan.
asset = Table(
    "asset",
    metadata,
    Column("seq", SEQ, primary_key=True),
    Column("id", Text, nullable=False),
    Column("deployment_id", Text, ForeignKey("deployment.id"), nullable=False),
    Column("job_id", Text),
    Column("node_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("subfolder", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("family", Text, nullable=False),
    Column("ordinal", BigInteger, nullable=False),
    # Only of uploads through Comfy API v2: what a workflow may call it, and its tags (JSON).
    Column("file_path", Text),
    Column("tags", Text),
)
Index("uq_asset_id", asset.c.id, unique=True)
Index(
    "uq_asset_name",
    asset.c.deployment_id,
    asset.c.type,
    asset.c.subfolder,
    asset.c.name,
    unique=True,
)
Index(
    "ix_asset_family",
    asset.c.deployment_id,
    asset.c.type,
    asset.c.subfolder,
    asset.c.family,
    asset.c.ordinal,
)
Index("ix_asset_job", asset.c.job_id)
Index("ix_asset_digest", asset.c.digest)
Index("ix_asset_expires_at", asset.c.expires_at)
Index("ix_asset_file_path", asset.c.deployment_id, asset.c.file_path)

# Digests that lost an asset: candidates for deletion, until the bytes are gone.
released_blob = Table(
    "released_blob",
    metadata,
    Column("digest", Text, primary_key=True),
)

# How often the links to an output were revoked; those that were signed before are worthless. No
# foreign key: a link that outlives its output is refused all the same.
link_revocation = Table(
    "link_revocation",
    metadata,
    Column("asset_id", Text, primary_key=True),
    Column("generation", Integer, nullable=False),
)

token = Table(
    "token",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_digest", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("deployment_id", Text, ForeignKey("deployment.id")),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)
Index("uq_token_secret", token.c.secret_digest, unique=True)

# Each version of a typed endpoint is a row that never changes; the endpoint says which one counts.
typed_endpoint = Table(
    "typed_endpoint",
    metadata,
    Column("id", Text, primary_key=True),
    Column("deployment_id", Text, ForeignKey("deployment.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)
Index("uq_typed_endpoint_name", typed_endpoint.c.deployment_id, typed_endpoint.c.name, unique=True)

typed_version = Table(
    "typed_version",
    metadata,
    Column("endpoint_id", Text, ForeignKey("typed_endpoint.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("revision_id", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("principal", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
)

# A replaced value stays for a while, sealed, so that logs of its time are still masked.
secret = Table(
    "secret",
    metadata,
    Column("seq", SEQ, primary_key=True),
    Column("name", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("retired_at", Double),
)
Index("uq_secret_name", secret.c.name, unique=True, sqlite_where=_NOT_RETIRED)

volume = Table(
    "volume",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)
Index("uq_volume_name", volume.c.name, unique=True)

# A monthly cap of a deployment or token; `subject_id` is its id.
budget = Table(
    "budget",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("subject_id", Text, primary_key=True),
    Column("monthly_cost", Double, nullable=False),
)

# Of jobs that are calls of a typed endpoint. The endpoint's name: its jobs outlive it.
job_call = Table(
    "job_call",
    metadata,
    Column("job_seq", SEQ, ForeignKey("job.seq"), primary_key=True, autoincrement=False),
    Column("endpoint", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("inputs", Text, nullable=False),
    Column("outputs", Text, nullable=False),
    Column("batch_id", Text),
    Column("batch_index", Integer),
    Column("reuse_key", Text),
    Column("reused_from", Text),
)
Index("ix_job_call_endpoint", job_call.c.endpoint, job_call.c.job_seq)
Index("ix_job_call_batch", job_call.c.batch_id, job_call.c.batch_index)
Index("ix_job_call_reuse", job_call.c.reuse_key, job_call.c.job_seq)

# What a job went through, written once with its end.
job_story = Table(
    "job_story",
    metadata,
    Column("job_seq", SEQ, ForeignKey("job.seq"), primary_key=True, autoincrement=False),
    Column("story", LargeBinary, nullable=False),
)

batch = Table(
    "batch",
    metadata,
    Column("seq", SEQ, primary_key=True),
    Column("id", Text, nullable=False),
    Column("deployment_id", Text, ForeignKey("deployment.id"), nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("labels", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)
Index("uq_batch_id", batch.c.id, unique=True)
Index("ix_batch_deployment", batch.c.deployment_id, batch.c.seq)
