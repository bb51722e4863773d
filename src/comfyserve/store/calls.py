"""Calls of typed endpoints: which endpoint a job is of, and the stories of ended jobs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, func, insert, select

from comfyserve.domain.job import JobState
from comfyserve.domain.story import Story
from comfyserve.domain.typed import JobCall
from comfyserve.store.engine import Database
from comfyserve.store.rows import chunked, decode_object, encode, encode_text
from comfyserve.store.tables import job, job_call, job_story

_RECENT = 20

_c = job_call.c
_COLUMNS = (
    _c.endpoint,
    _c.version,
    _c.inputs,
    _c.outputs,
    _c.batch_id,
    _c.batch_index,
    _c.reuse_key,
    _c.reused_from,
)
_INSERT = insert(job_call)
_OF_JOBS = (
    select(job.c.id, *_COLUMNS)
    .join(job, job.c.seq == _c.job_seq)
    .where(job.c.id.in_(bindparam("ids", expanding=True)))
)
_recent = (
    select((job.c.finished_at - job.c.started_at).label("seconds"))
    .join(job_call, _c.job_seq == job.c.seq)
    .where(
        _c.endpoint == bindparam("endpoint"),
        job.c.deployment_id == bindparam("deployment_id"),
        job.c.state == JobState.SUCCEEDED.value,
        job.c.started_at.is_not(None),
    )
    .order_by(_c.job_seq.desc())
    .limit(_RECENT)
    .subquery()
)
_MEAN = select(func.avg(_recent.c.seconds))
_INSERT_STORY = insert(job_story)
_STORY = (
    select(job_story.c.story)
    .join(job, job.c.seq == job_story.c.job_seq)
    .where(job.c.id == bindparam("id"))
)
_decode_story = msgspec.json.Decoder(Story).decode


class CallStore:
    """What jobs are calls of. Calls are stored with their jobs, stories with their ends."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_job(self, job_id: str) -> JobCall | None:
        """The call that a job is; None for a job of another door."""
        return (await self.of_jobs([job_id])).get(job_id)

    async def of_jobs(self, job_ids: Sequence[str]) -> Mapping[str, JobCall]:
        """The same of several jobs, by id."""
        return await self._database.read(
            lambda connection: {
                row[0]: _call(row[1:])
                for some in chunked(job_ids)
                for row in connection.execute(_OF_JOBS, {"ids": some})
            }
        )

    async def seconds(self, deployment_id: str, endpoint: str) -> float | None:
        """Mean time that the last calls of an endpoint ran; None while unknown."""
        sought = {"deployment_id": deployment_id, "endpoint": endpoint}
        mean: float | None = await self._database.read(
            lambda connection: connection.execute(_MEAN, sought).scalar()
        )
        return mean

    async def story(self, job_id: str) -> Story | None:
        """What an ended job went through; None if nothing took it up."""
        data = await self._database.read(
            lambda connection: connection.execute(_STORY, {"id": job_id}).scalar()
        )
        return None if data is None else _decode_story(data)


def insert_calls(connection: Connection, calls: Sequence[tuple[int, JobCall]]) -> None:
    """Store what new jobs are calls of."""
    rows = [
        {
            "job_seq": seq,
            "endpoint": call.endpoint,
            "version": call.version,
            "inputs": encode_text(call.inputs),
            "outputs": encode_text(call.outputs),
            "batch_id": call.batch_id,
            "batch_index": call.batch_index,
            "reuse_key": call.reuse_key,
            "reused_from": call.reused_from,
        }
        for seq, call in calls
    ]
    connection.execute(_INSERT, rows)


def insert_story(connection: Connection, seq: int, story: Story) -> None:
    """Store the story of a job that ends."""
    connection.execute(_INSERT_STORY, {"job_seq": seq, "story": encode(story)})


def _call(columns: Iterable[Any]) -> JobCall:
    endpoint, version, inputs, outputs, *rest = columns
    return JobCall(endpoint, version, decode_object(inputs), decode_object(outputs), *rest)
