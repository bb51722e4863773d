"""The tables of webhooks and their outbox."""

from sqlalchemy import Column, Double, ForeignKey, Index, Integer, LargeBinary, Table, Text

from comfyserve.store.tables import SEQ, metadata

__all__ = ["metadata", "webhook", "webhook_delivery"]

# Whose events (`subject`): a deployment's, a typed endpoint's or one job's, which `job_id` names too.
# No foreign keys: it may be any of them. The URL is sealed with the secrets, because many URLs are
# secrets themselves.
webhook = Table(
    "webhook",
    metadata,
    Column("id", Text, primary_key=True),
    Column("deployment_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("job_id", Text),
    Column("events", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("base_url", Text, nullable=False),
    Column("principal", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("ended_by", Text, nullable=False),
)
Index("ix_webhook_subject", webhook.c.subject)
Index("ix_webhook_job", webhook.c.job_id, webhook.c.created_at)

# The outbox: written in the transaction of the change that it tells of.
webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    Column("seq", SEQ, primary_key=True),
    Column("id", Text, nullable=False),
    Column("webhook_id", Text, ForeignKey("webhook.id"), nullable=False),
    Column("deployment_id", Text, nullable=False),
    Column("job_id", Text),
    Column("event", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("queued_at", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("status", Integer),
    Column("error", Text, nullable=False),
    Column("facts", LargeBinary, nullable=False),
)
_d = webhook_delivery.c
Index("uq_webhook_delivery_id", _d.id, unique=True)
Index("ix_webhook_delivery_due", _d.state, _d.origin, _d.next_at)
Index("ix_webhook_delivery_webhook", _d.webhook_id, _d.seq)
Index("ix_webhook_delivery_job", _d.job_id)
Index("ix_webhook_delivery_ended", _d.state, _d.ended_at)
