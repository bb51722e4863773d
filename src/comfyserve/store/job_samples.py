"""Jobs that have run, with what they took: what estimates rest on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, select

from comfyserve.domain.job import JobState
from comfyserve.domain.usage import Receipt
from comfyserve.store.rows import documents_from, receipt_from
from comfyserve.store.tables import job, job_document

_LATEST = (
    select(job_document.c.document, job.c.receipt)
    .join(job_document, job_document.c.job_seq == job.c.seq)
    .where(
        job.c.deployment_id == bindparam("deployment_id"),
        job.c.state == JobState.SUCCEEDED.value,
        job.c.receipt.is_not(None),
    )
    .order_by(job.c.seq.desc())
    .limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class PastJob:
    """A prompt that ran to its end, and its receipt."""

    prompt: Mapping[str, Any]
    receipt: Receipt


def latest_jobs(connection: Connection, deployment_id: str, most: int) -> Sequence[PastJob]:
    """The last jobs of a deployment that succeeded, the newest first."""
    rows = connection.execute(_LATEST, {"deployment_id": deployment_id, "most": most})
    return [
        PastJob(documents_from(document).prompt, receipt)
        for document, data in rows
        if (receipt := receipt_from(data)) is not None
    ]
