"""How jobs enter: number, queue limit and idempotency in one transaction, many jobs in few statements."""

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, insert, select, update

from comfyserve.domain.deployment import DeploymentState
from comfyserve.domain.errors import Conflict, InvalidInput, NotFound, QueueFull
from comfyserve.domain.job import Job, JobDocuments, JobState
from comfyserve.domain.typed import JobCall
from comfyserve.domain.webhook import NewWebhook
from comfyserve.store.calls import insert_calls
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
)
from comfyserve.store.sqlite import Prepared
from comfyserve.store.tables import (
    deployment,
    idempotency,
    job,
    job_document,
    job_label,
    job_secret,
)
from comfyserve.store.usage import mean_job_seconds
from comfyserve.store.webhooks import Owner, WebhookSeal, insert_webhook

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
    endpoint_id: str | None = None
    webhook: NewWebhook | None = None
    call: JobCall | None = None


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
    now: float
    webhook: JsonObject | None = None

    @classmethod
    def of(cls, new: NewJob, seal: WebhookSeal, now: float) -> "Entry":
        """Encode `new`. Raises InvalidInput for text that is not valid Unicode."""
        documents, sealer = new.documents, seal.sealer
        owner = Owner(new.deployment_id, new.id, job_id=new.id)
        try:
            return cls(
                new=new,
                document=encode(replace(documents, secrets={}) if documents.secrets else documents),
                sealed=sealer.seal(encode(documents.secrets)) if documents.secrets else None,
                workflow_id=_workflow_id(documents.extra_data),
                now=now,
                webhook=None if new.webhook is None else seal.values(new.webhook, owner),
            )
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"The prompt holds text that is not valid Unicode: {error}."
            ) from error


_TAKE_NUMBERS = Prepared(
    update(deployment)
    .where(
        deployment.c.id == bindparam("at"),
        deployment.c.state != DeploymentState.DELETED.value,
        deployment.c.queued + bindparam("jobs") <= bindparam("most"),
    )
    .values(
        next_number=deployment.c.next_number + bindparam("numbers"),
        queued=deployment.c.queued + bindparam("jobs"),
    )
    .returning(deployment.c.next_number)
)
_DEPLOYMENT = select(deployment.c.state, deployment.c.queued, deployment.c.active).where(
    deployment.c.id == bindparam("at")
)
_LAST_SEQ = Prepared(select(func.coalesce(func.max(job.c.seq), 0)))
_INSERT_JOB = Prepared(
    insert(job),
    *("seq", "id", "deployment_id", "revision_id", "prompt_id", "number", "state", "created_at"),
    *("principal", "client_id", "labels", "attempts", "max_attempts", "workflow_id"),
    "endpoint_id",
)
_INSERT_DOCUMENT = Prepared(insert(job_document), "job_seq", "document")
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


def enqueue_keyed(connection: Connection, entry: Entry) -> Enqueued:
    """Store a job under its key, or find the one that an earlier request with the same key stored."""
    new = entry.new
    used = UsedKey(new.deployment_id, new.principal, new.idempotency_key or "")
    drop_old_keys(connection, entry.now)
    if new.is_key_single_use:
        refuse_used(connection, used)
    elif (first := first_answer(connection, used, new.request_digest)) is not None:
        return first
    (enqueued,) = enqueue_all(connection, (entry,))
    said = FirstAnswer(new.id, new.request_digest, encode_text(new.answer_node_errors))
    record_key(connection, used, said, entry.now)
    return enqueued


def enqueue_all(connection: Connection, entries: Sequence[Entry]) -> Sequence[Enqueued]:
    """Store jobs without keys, in their order. Raises if one of them cannot be: then none may be kept."""
    records = [
        Job(
            id=entry.new.id,
            deployment_id=entry.new.deployment_id,
            revision_id=entry.new.revision_id,
            prompt_id=entry.new.prompt_id,
            number=number,
            state=JobState.QUEUED,
            created_at=entry.now,
            principal=entry.new.principal,
            client_id=entry.new.client_id,
            labels=entry.new.labels,
            max_attempts=entry.new.max_attempts,
        )
        for entry, number in zip(entries, _take_numbers(connection, entries), strict=True)
    ]
    _insert(connection, entries, records)
    return [
        Enqueued(record, is_replay=False, node_errors=entry.new.answer_node_errors)
        for entry, record in zip(entries, records, strict=True)
    ]


def first_answer(connection: Connection, key: UsedKey, request_digest: str) -> Enqueued | None:
    """The job that an earlier request with this key made. Raises Conflict `idempotency_conflict`."""
    row = connection.execute(_FIRST_ANSWER, key.values).one_or_none()
    if row is None:
        return None
    digest, node_errors, *columns = row
    if digest != request_digest:
        shown = key.key.rpartition(":")[2]
        raise Conflict(
            f"Idempotency key '{shown}' was used with another request in the last "
            "24 hours; send a new key with a new request.",
            code="idempotency_conflict",
        )
    return Enqueued(job=job_from(columns), is_replay=True, node_errors=decode_object(node_errors))


def _take_numbers(connection: Connection, entries: Sequence[Entry]) -> Iterator[float]:
    """Count the jobs in, if the queues have room; give their numbers by ComfyUI's rules.

    A number that the client chose does not advance the counter; `front` negates it.
    """
    wanted: dict[tuple[str, int], list[NewJob]] = {}
    for entry in entries:
        wanted.setdefault((entry.new.deployment_id, entry.new.max_queue), []).append(entry.new)
    counters: dict[str, int] = {}
    for (deployment_id, most), jobs in wanted.items():
        numbers = sum(new.number is None for new in jobs)
        counter: int | None = _TAKE_NUMBERS.fetch(
            connection,
            {"at": deployment_id, "most": most, "jobs": len(jobs), "numbers": numbers},
        )
        if counter is None:
            raise _refusal(connection, jobs[0])
        counters.setdefault(deployment_id, counter - numbers)
    for entry in entries:
        new = entry.new
        if new.number is not None:
            yield float(new.number)
            continue
        counter = counters[new.deployment_id]
        counters[new.deployment_id] += 1
        yield float(-counter if new.front else counter)


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


def _insert(connection: Connection, entries: Sequence[Entry], records: Sequence[Job]) -> None:
    """Nobody else writes, so that the rows can be numbered here, as the database would."""
    first = _LAST_SEQ.fetch(connection, {}) + 1
    rows = list(zip(range(first, first + len(entries)), entries, records, strict=True))
    try:
        _INSERT_JOB.insert(connection, [_row(*row) for row in rows])
    except sqlite3.IntegrityError as error:
        raise Conflict(
            f"Job '{records[0].id}' cannot be stored: there is one with this id, or its revision "
            f"'{records[0].revision_id}' is unknown.",
            code="job_exists",
        ) from error
    _INSERT_DOCUMENT.insert(connection, [(seq, entry.document) for seq, entry, _ in rows])
    secrets = [{"job_seq": seq, "sealed": e.sealed} for seq, e, _ in rows if e.sealed is not None]
    if secrets:
        connection.execute(_INSERT_SECRET, secrets)
    labels = [
        {"job_seq": seq, "key": key, "value": value}
        for seq, _, record in rows
        for key, value in record.labels.items()
    ]
    if labels:
        connection.execute(_INSERT_LABEL, labels)
    for entry in entries:
        if entry.webhook is not None:
            insert_webhook(connection, entry.webhook, entry.now)
    calls = [(seq, entry.new.call) for seq, entry, _ in rows if entry.new.call is not None]
    if calls:
        insert_calls(connection, calls)


def _row(seq: int, entry: Entry, record: Job) -> tuple[Any, ...]:
    """Values in the order of `_INSERT_JOB`."""
    return (
        seq,
        record.id,
        record.deployment_id,
        record.revision_id,
        record.prompt_id,
        record.number,
        record.state.value,
        record.created_at,
        record.principal,
        record.client_id,
        encode_text(record.labels) if record.labels else "{}",
        record.attempts,
        record.max_attempts,
        entry.workflow_id,
        entry.new.endpoint_id,
    )


def _workflow_id(extra_data: JsonObject) -> str | None:
    """`extra_pnginfo.workflow.id` of a client's extra data, which may have any shape."""
    value: object = extra_data
    for key in ("extra_pnginfo", "workflow", "id"):
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value if isinstance(value, str) else None
