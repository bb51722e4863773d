"""Old jobs go as a whole: documents, labels, history entry, keys, assets and messages together.

The ledger of usage stays: what a GPU did is on record for longer than what it made.
"""

from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, delete, exists, select

from comfyserve.store.assets import release_assets_of_job
from comfyserve.store.outbox_entry import delete_of_jobs
from comfyserve.store.tables import (
    batch,
    idempotency,
    job,
    job_call,
    job_document,
    job_history,
    job_label,
    job_secret,
    job_story,
)

LARGEST_PRUNE = 200

_ENDED = (
    select(job.c.seq, job.c.id)
    .where(job.c.finished_at <= bindparam("before"))
    .order_by(job.c.finished_at)
    .limit(LARGEST_PRUNE)
)
_seqs: BindParameter[Any] = bindparam("seqs", expanding=True)
_DELETE_PARTS = tuple(
    delete(table).where(table.c.job_seq.in_(_seqs))
    for table in (job_document, job_label, job_secret, job_history, job_call, job_story)
)
_DELETE_KEYS = delete(idempotency).where(
    idempotency.c.job_id.in_(bindparam("ids", expanding=True)),
    idempotency.c.deployment_id.in_(
        select(job.c.deployment_id).where(job.c.seq.in_(_seqs)).distinct()
    ),
)
_DELETE_BATCHES = delete(batch).where(
    batch.c.created_at <= bindparam("before"),
    ~exists().where(job_call.c.batch_id == batch.c.id),
)
_DELETE_JOBS = delete(job).where(job.c.seq.in_(_seqs))


def prune(connection: Connection, ended_before: float) -> int:
    """Delete up to LARGEST_PRUNE jobs that ended by then, the oldest first; return how many."""
    rows = connection.execute(_ENDED, {"before": ended_before}).all()
    if not rows:
        return 0
    seqs, ids = [row.seq for row in rows], [row.id for row in rows]
    for statement in _DELETE_PARTS:
        connection.execute(statement, {"seqs": seqs})
    connection.execute(_DELETE_KEYS, {"seqs": seqs, "ids": ids})
    delete_of_jobs(connection, ids)
    for job_id in ids:
        release_assets_of_job(connection, job_id)
    connection.execute(_DELETE_JOBS, {"seqs": seqs})
    connection.execute(_DELETE_BATCHES, {"before": ended_before})
    return len(rows)
