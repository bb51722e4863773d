"""Rows to records and back: the only place that knows both spellings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from comfyserve.domain.deployment import Deployment, DeploymentState, Revision
from comfyserve.domain.job import Job, JobDocuments, JobError, JobState
from comfyserve.domain.replica import Cause, Replica, ReplicaState
from comfyserve.domain.spec import DeploymentSpec
from comfyserve.domain.usage import Receipt, Segment, SegmentKind
from comfyserve.store import tables

JsonObject = Mapping[str, Any]
_PARAMETERS = 500

_encoder = msgspec.json.Encoder()
_labels = msgspec.json.Decoder(dict[str, str])
_error = msgspec.json.Decoder(JobError)
_receipt = msgspec.json.Decoder(Receipt)
_spec = msgspec.json.Decoder(DeploymentSpec)
_documents = msgspec.json.Decoder(JobDocuments)
_object = msgspec.json.Decoder(dict[str, Any])

_job, _replica, _usage = tables.job.c, tables.replica.c, tables.usage.c

# In the order of the record's fields.
JOB_COLUMNS = (
    _job.id,
    _job.deployment_id,
    _job.revision_id,
    _job.prompt_id,
    _job.number,
    _job.state,
    _job.created_at,
    _job.principal,
    _job.client_id,
    _job.labels,
    _job.attempts,
    _job.max_attempts,
    _job.replica_id,
    _job.owner,
    _job.lease_until,
    _job.started_at,
    _job.finished_at,
    _job.error,
)
REPLICA_COLUMNS = tuple(_replica)
SEGMENT_COLUMNS = (
    _usage.replica_id,
    _usage.deployment_id,
    _usage.kind,
    _usage.started_at,
    _usage.ended_at,
    _usage.job_id,
    _usage.gpu,
    _usage.price_per_hour,
)
DEPLOYMENT_COLUMNS = (
    tables.deployment.c.id,
    tables.deployment.c.name,
    tables.deployment.c.state,
    tables.deployment.c.created_at,
    tables.deployment.c.updated_at,
)
REVISION_COLUMNS = tuple(tables.revision.c)


def encode(value: object) -> bytes:
    """JSON of a record or a JSON value."""
    return _encoder.encode(value)


def encode_text(value: object) -> str:
    """The same as text, for columns that a person may want to read."""
    return _encoder.encode(value).decode()


def decode_object(data: bytes | str) -> JsonObject:
    """A JSON object."""
    return _object.decode(data)


def documents_from(data: bytes) -> JobDocuments:
    """A job's documents, without its secrets."""
    return _documents.decode(data)


def receipt_from(data: str | None) -> Receipt | None:
    """A receipt, if there is one yet."""
    return None if data is None else _receipt.decode(data)


def job_from(columns: Iterable[Any]) -> Job:
    """A job from JOB_COLUMNS."""
    values = list(columns)
    values[5] = JobState(values[5])
    values[9] = {} if values[9] == "{}" else _labels.decode(values[9])
    values[17] = None if values[17] is None else _error.decode(values[17])
    return Job(*values)


def values_of(job: Job) -> dict[str, Any]:
    """What a step may change in a job's row."""
    return {
        "revision_id": job.revision_id,
        "state": job.state.value,
        "attempts": job.attempts,
        "replica_id": job.replica_id,
        "owner": job.owner,
        "lease_until": job.lease_until,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "error": None if job.error is None else encode_text(job.error),
    }


def replica_from(columns: Iterable[Any]) -> Replica:
    """A replica from REPLICA_COLUMNS."""
    values = list(columns)
    values[3], values[4] = ReplicaState(values[3]), Cause(values[4])
    return Replica(*values)


def replica_values(replica: Replica) -> dict[str, Any]:
    """A replica's row, without its id."""
    return {
        "deployment_id": replica.deployment_id,
        "revision_id": replica.revision_id,
        "state": replica.state.value,
        "cause": replica.cause.value,
        "since": replica.since,
        "created_at": replica.created_at,
        "ready_at": replica.ready_at,
        "ended_at": replica.ended_at,
        "host": replica.host,
        "gpu": replica.gpu,
        "pid": replica.pid,
        "endpoint": replica.endpoint,
        "exit_code": replica.exit_code,
        "message": replica.message,
    }


def segment_from(columns: Iterable[Any]) -> Segment:
    """A usage segment from SEGMENT_COLUMNS."""
    values = list(columns)
    values[2] = SegmentKind(values[2])
    return Segment(*values)


def revision_from(columns: Iterable[Any]) -> Revision:
    """A revision from REVISION_COLUMNS."""
    values = list(columns)
    values[3] = _spec.decode(values[3])
    return Revision(*values)


def deployment_from(columns: Iterable[Any]) -> Deployment:
    """A deployment from DEPLOYMENT_COLUMNS followed by those of its current revision."""
    id_, name, state, created_at, updated_at, *rest = columns
    return Deployment(
        id=id_,
        name=name,
        state=DeploymentState(state),
        revision=revision_from(rest),
        created_at=created_at,
        updated_at=updated_at,
    )


def chunked(items: Sequence[str]) -> Iterator[Sequence[str]]:
    """Parts that fit into one statement's parameters on every database."""
    for start in range(0, len(items), _PARAMETERS):
        yield items[start : start + _PARAMETERS]
