"""How a job enters: number, queue limit and idempotency in one transaction."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, and_, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from comfyserve.domain.deployment import DeploymentState
from comfyserve.domain.errors import Conflict, InvalidInput, NotFound, QueueFull
from comfyserve.domain.job import Job, JobDocuments, JobState
from comfyserve.store.keys import (
    FirstAnswer,
    UsedKey,
    drop_old_keys,
    record_key,
    refuse_used,
)
from comfyserve.store.rows import (
    JOB_COLUMNS,
    JsonObject,
    decode_object,
    encode,
    encode_text,
    job_from,
    values_of,
)
from comfyserve.store.sealing import Sealer
from comfyserve.store.tables import (
    deployment,
    idempotency,
    job,
    job_document,
    job_label,
    job_secret,
)
from comfyserve.store.usage import mean_job_seconds

_RETRY_AFTER_UNKNOWN_S = 5
_RETRY_AFTER_MOST_S = 60


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be. `id` is a lowercase UUID that no job has yet.

    `number` is None for the next one of the deployment. `answer_node_errors` is what the first
    answer said about outputs that were left out; a replay says the same. With
    `is_key_single_use` nothing is replayed: a key that was used before is refused.
    """

    id: str
    deployment_id: str
    revision_id: str
    prompt_id: str
    documents: JobDocuments
    number: float | None = None
    front: bool = False
    client_id: str | None = None
    principal: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    max_attempts: int = 2
    max_queue: int = 1000
    idempotency_key: str | None = None
    is_key_single_use: bool = False
    request_digest: str = ""
    answer_node_errors: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The answer to an enqueue: the job, new or (`is_replay`) that of an earlier request."""

    job: Job
    is_replay: bool
    node_errors: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A new job with its documents encoded, so that the transaction only has to store bytes."""

    new: NewJob
    document: bytes
    sealed: bytes | None
    workflow_id: str | None

    @classmethod
    def of(cls, new: NewJob, sealer: Sealer) -> "Entry":
        """Encode `new`. Raises InvalidInput for text that is not valid Unicode."""
        documents = new.documents
        try:
            return cls(
                new=new,
                document=encode(replace(documents, secrets={}) if documents.secrets else documents),
                sealed=sealer.seal(encode(documents.secrets)) if documents.secrets else None,
                workflow_id=_workflow_id(documents.extra_data),
            )
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"The prompt holds text that is not valid Unicode: {error}."
            ) from error


_NEXT_NUMBER = (
    update(deployment)
    .where(
        deployment.c.id == bindparam("at"),
        deployment.c.state != DeploymentState.DELETED.value,
        deployment.c.queued < bindparam("most"),
    )
    .values(
        next_number=deployment.c.next_number + bindparam("step"), queued=deployment.c.queued + 1
    )
    .returning(deployment.c.next_number)
)
_DEPLOYMENT = select(deployment.c.state, deployment.c.queued, deployment.c.active).where(
    deployment.c.id == bindparam("at")
)
_INSERT_JOB = insert(job).returning(job.c.seq)
_INSERT_DOCUMENT = insert(job_document)
_INSERT_SECRET = insert(job_secret)
_INSERT_LABEL = insert(job_label)
_FIRST_ANSWER = (
    select(idempotency.c.request_digest, idempotency.c.node_errors, *JOB_COLUMNS)
    .join(job, job.c.id == idempotency.c.job_id)
    .where(
        and_(
            idempotency.c.deployment_id == bindparam("deployment_id"),
            idempotency.c.principal == bindparam("principal"),
            idempotency.c.key == bindparam("key"),
        )
    )
)


def enqueue(connection: Connection, entry: Entry, now: float) -> Enqueued:
    """Store a job, or find the one that an earlier request with the same key stored."""
    new = entry.new
    if new.idempotency_key is not None:
        used = UsedKey(new.deployment_id, new.principal, new.idempotency_key)
        drop_old_keys(connection, now)
        if new.is_key_single_use:
            refuse_used(connection, used)
        elif (first := _first_answer(connection, new)) is not None:
            return first
    record = Job(
        id=new.id,
        deployment_id=new.deployment_id,
        revision_id=new.revision_id,
        prompt_id=new.prompt_id,
        number=_take_number(connection, new),
        state=JobState.QUEUED,
        created_at=now,
        principal=new.principal,
        client_id=new.client_id,
        labels=dict(new.labels),
        max_attempts=new.max_attempts,
    )
    _insert(connection, entry, record)
    if new.idempotency_key is not None:
        first_answer = FirstAnswer(new.id, new.request_digest, encode_text(new.answer_node_errors))
        record_key(
            connection,
            UsedKey(new.deployment_id, new.principal, new.idempotency_key),
            first_answer,
            now,
        )
    return Enqueued(job=record, is_replay=False, node_errors=new.answer_node_errors)


def _first_answer(connection: Connection, new: NewJob) -> Enqueued | None:
    sought = {
        "deployment_id": new.deployment_id,
        "principal": new.principal,
        "key": new.idempotency_key,
    }
    row = connection.execute(_FIRST_ANSWER, sought).one_or_none()
    if row is None:
        return None
    digest, node_errors, *columns = row
    if digest != new.request_digest:
        raise Conflict(
            f"Idempotency key '{new.idempotency_key}' was used with another request in the last "
            "24 hours; send a new key with a new request.",
            code="idempotency_conflict",
        )
    return Enqueued(job=job_from(columns), is_replay=True, node_errors=decode_object(node_errors))


def _take_number(connection: Connection, new: NewJob) -> float:
    """Count the job in, if the queue has room; return its number by ComfyUI's rules.

    A number that the client chose does not advance the counter; `front` negates it.
    """
    is_chosen = new.number is not None
    taken = connection.execute(
        _NEXT_NUMBER,
        {"at": new.deployment_id, "most": new.max_queue, "step": 0 if is_chosen else 1},
    ).scalar_one_or_none()
    if taken is None:
        raise _refusal(connection, new)
    if new.number is not None:
        return float(new.number)
    counter = float(taken - 1)
    return -counter if new.front and counter else counter


def _refusal(connection: Connection, new: NewJob) -> NotFound | QueueFull:
    row = connection.execute(_DEPLOYMENT, {"at": new.deployment_id}).one_or_none()
    if row is None or row.state == DeploymentState.DELETED.value:
        return NotFound(f"There is no deployment '{new.deployment_id}'.")
    wait_s = _RETRY_AFTER_UNKNOWN_S
    if (mean_s := mean_job_seconds(connection, new.deployment_id)) is not None:
        wait_s = min(_RETRY_AFTER_MOST_S, max(1, math.ceil(mean_s / max(1, row.active))))
    return QueueFull(
        f"The queue is full: {row.queued} jobs wait, the limit is {new.max_queue}. "
        f"Try again in {wait_s} s.",
        retry_after_s=wait_s,
    )


def _insert(connection: Connection, entry: Entry, record: Job) -> None:
    values = {
        **values_of(record),
        "id": record.id,
        "deployment_id": record.deployment_id,
        "prompt_id": record.prompt_id,
        "number": record.number,
        "created_at": record.created_at,
        "principal": record.principal,
        "client_id": record.client_id,
        "labels": encode_text(record.labels) if record.labels else "{}",
        "max_attempts": record.max_attempts,
        "workflow_id": entry.workflow_id,
    }
    try:
        seq: int = connection.execute(_INSERT_JOB, values).scalar_one()
    except IntegrityError as error:
        raise Conflict(
            f"Job '{record.id}' cannot be stored: there is one with this id, or its revision "
            f"'{record.revision_id}' is unknown.",
            code="job_exists",
        ) from error
    connection.execute(_INSERT_DOCUMENT, {"job_seq": seq, "document": entry.document})
    if entry.sealed is not None:
        connection.execute(_INSERT_SECRET, {"job_seq": seq, "sealed": entry.sealed})
    if record.labels:
        labels = [{"job_seq": seq, "key": k, "value": v} for k, v in record.labels.items()]
        connection.execute(_INSERT_LABEL, labels)


def _workflow_id(extra_data: JsonObject) -> str | None:
    """`extra_pnginfo.workflow.id` of a client's extra data, which may have any shape."""
    value: object = extra_data
    for key in ("extra_pnginfo", "workflow", "id"):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value if isinstance(value, str) else None
