"""Batches: many calls of one endpoint, accepted together or not at all."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select

from comfyserve.domain.errors import Conflict
from comfyserve.domain.job import Job, JobState
from comfyserve.domain.typed import Batch
from comfyserve.store.engine import Database
from comfyserve.store.job_entry import Entry, NewJob, enqueue_all
from comfyserve.store.job_pages import format_cursor, parse_cursor
from comfyserve.store.keys import (
    FirstAnswer,
    UsedKey,
    drop_old_keys,
    find_first_answer,
    record_key,
)
from comfyserve.store.rows import JOB_COLUMNS, decode_object, encode_text, job_from
from comfyserve.store.tables import batch, job, job_call
from comfyserve.store.webhooks import WebhookSeal

_LARGEST_PAGE = 500

_b = batch.c
_COLUMNS = (
    _b.id, _b.deployment_id, _b.endpoint, _b.version, _b.size, _b.labels, _b.principal, _b.created_at,
)  # fmt: skip
_INSERT = insert(batch)
_BY_ID = select(*_COLUMNS).where(_b.id == bindparam("id"))
_COUNTS = (
    select(job_call.c.batch_id, job.c.state, func.count(), func.max(job.c.finished_at))
    .join(job, job.c.seq == job_call.c.job_seq)
    .where(job_call.c.batch_id.in_(bindparam("ids", expanding=True)))
    .group_by(job_call.c.batch_id, job.c.state)
)
_JOBS = (
    select(*JOB_COLUMNS)
    .join(job_call, job.c.seq == job_call.c.job_seq)
    .where(job_call.c.batch_id == bindparam("id"))
    .order_by(job_call.c.batch_index)
)


@dataclass(frozen=True, slots=True)
class BatchKey:
    """An idempotency key, and what was asked under it."""

    used: UsedKey
    request_digest: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How many jobs of a batch are in each state, and when the last one ended."""

    by_state: Mapping[JobState, int]
    last_finished_at: float | None


@dataclass(frozen=True, slots=True)
class BatchPage:
    """Some batches, newest first, and where the next page begins (None: this was the last)."""

    batches: Sequence[Batch]
    next_cursor: str | None


class BatchStore:
    """Batches, and the jobs that are their calls."""

    def __init__(self, database: Database, seal: WebhookSeal) -> None:
        self._database = database
        self._seal = seal

    async def add(
        self, new: Batch, jobs: Sequence[NewJob], key: BatchKey | None, now: float
    ) -> tuple[Batch, Sequence[Job]]:
        """Store a batch with all of its jobs, or find the one of an earlier request with the same key.

        Raises QueueFull if they do not all fit, and Conflict `idempotency_conflict`; then nothing
        is stored. Of an earlier one there are no jobs.
        """
        entries = [Entry.of(each, self._seal, now) for each in jobs]

        def work(connection: Connection) -> tuple[Batch, Sequence[Job]]:
            if key is not None:
                drop_old_keys(connection, now)
                known = _known(connection, key)
                if known is not None:
                    return known, ()
            connection.execute(_INSERT, _values(new))
            enqueued = enqueue_all(connection, entries)
            if key is not None:
                record_key(connection, key.used, FirstAnswer(new.id, key.request_digest), now)
            return new, [each.job for each in enqueued]

        return await self._database.write(work)

    async def replayed(self, key: BatchKey) -> Batch | None:
        """The batch that the same request made before. Raises Conflict `idempotency_conflict`."""
        return await self._database.read(lambda connection: _known(connection, key))

    async def get(self, batch_id: str) -> Batch | None:
        """The batch with this id."""
        return await self._database.read(lambda connection: _get(connection, batch_id))

    async def counts(self, batch_ids: Sequence[str]) -> Mapping[str, Counts]:
        """How far batches are, by id."""
        rows = await self._database.read(
            lambda connection: connection.execute(_COUNTS, {"ids": list(batch_ids)}).all()
        )
        found: dict[str, Counts] = {}
        for id_ in batch_ids:
            own = [row for row in rows if row[0] == id_]
            ends = [row[3] for row in own if row[3] is not None]
            states = {JobState(row[1]): row[2] for row in own}
            found[id_] = Counts(states, max(ends, default=None))
        return found

    async def jobs(self, batch_id: str) -> Sequence[Job]:
        """The jobs of a batch, in the order of its calls."""
        return await self._database.read(
            lambda connection: [
                job_from(row) for row in connection.execute(_JOBS, {"id": batch_id})
            ]
        )

    async def list(
        self, deployment_id: str, endpoint: str | None, limit: int, cursor: str | None
    ) -> BatchPage:
        """One page of a deployment's batches. Raises InvalidInput `invalid_cursor`."""
        query = select(_b.seq, *_COLUMNS).where(_b.deployment_id == deployment_id)
        if endpoint is not None:
            query = query.where(_b.endpoint == endpoint)
        if cursor is not None:
            query = query.where(_b.seq < parse_cursor(cursor))
        most = max(1, min(limit, _LARGEST_PAGE))
        query = query.order_by(_b.seq.desc()).limit(most + 1)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        more = format_cursor(rows[most - 1][0]) if len(rows) > most else None
        return BatchPage([_batch(row[1:]) for row in rows[:most]], more)


def _known(connection: Connection, key: BatchKey) -> Batch | None:
    first = find_first_answer(connection, key.used)
    if first is None:
        return None
    if first.request_digest != key.request_digest:
        raise Conflict(
            f"Idempotency key '{key.used.key.rpartition(':')[2]}' was used with another request in "
            "the last 24 hours; send a new key with a new request.",
            code="idempotency_conflict",
        )
    return _get(connection, first.subject_id)


def _get(connection: Connection, batch_id: str) -> Batch | None:
    row = connection.execute(_BY_ID, {"id": batch_id}).one_or_none()
    return None if row is None else _batch(row)


def _batch(columns: Iterable[Any]) -> Batch:
    id_, deployment_id, endpoint, version, size, labels, principal, created_at = columns
    return Batch(
        id=id_,
        deployment_id=deployment_id,
        endpoint=endpoint,
        version=version,
        size=size,
        labels=decode_object(labels),
        principal=principal,
        created_at=created_at,
    )


def _values(new: Batch) -> dict[str, object]:
    return {
        "id": new.id,
        "deployment_id": new.deployment_id,
        "endpoint": new.endpoint,
        "version": new.version,
        "size": new.size,
        "labels": encode_text(new.labels),
        "principal": new.principal,
        "created_at": new.created_at,
    }
