"""Metering: the segments of each replica's life, and averages over recent ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, insert, select, update

from comfyserve.domain.usage import BILLED, Segment, SegmentKind
from comfyserve.store.engine import Database
from comfyserve.store.rows import SEGMENT_COLUMNS, chunked, segment_from
from comfyserve.store.tables import job, replica, usage

_RECENT = 20

_open = usage.c.ended_at.is_(None)
# A clock that was set back must not make a segment of negative length.
_end = case((usage.c.started_at > bindparam("now"), usage.c.started_at), else_=bindparam("now"))
_INSERT = insert(usage)
_CLOSE = update(usage).where(usage.c.replica_id == bindparam("at"), _open).values(ended_at=_end)
_CLOSE_OTHER = _CLOSE.where(
    (usage.c.kind != bindparam("next_kind"))
    | usage.c.job_id.is_distinct_from(bindparam("next_job_id"))
).returning(usage.c.deployment_id, usage.c.gpu, usage.c.price_per_hour, usage.c.ended_at)
_CLOSE_BUSY = _CLOSE.where(
    usage.c.kind == SegmentKind.BUSY.value, usage.c.job_id == bindparam("left_job_id")
).returning(usage.c.deployment_id, usage.c.gpu, usage.c.price_per_hour, usage.c.ended_at)
_SEGMENTS = select(*SEGMENT_COLUMNS).order_by(usage.c.seq)
_BY_JOB = _SEGMENTS.where(usage.c.job_id == bindparam("job_id"))

_recent_jobs = (
    select((usage.c.ended_at - usage.c.started_at).label("seconds"))
    .where(
        usage.c.deployment_id == bindparam("deployment_id"),
        usage.c.kind == SegmentKind.BUSY.value,
        usage.c.ended_at.is_not(None),
    )
    .order_by(usage.c.seq.desc())
    .limit(_RECENT)
    .subquery()
)
_MEAN_JOB = select(func.avg(_recent_jobs.c.seconds))
_recent_wakes = (
    select((replica.c.ready_at - replica.c.created_at).label("seconds"))
    .where(replica.c.deployment_id == bindparam("deployment_id"), replica.c.ready_at.is_not(None))
    .order_by(replica.c.created_at.desc())
    .limit(_RECENT)
    .subquery()
)
_MEAN_WAKE = select(func.avg(_recent_wakes.c.seconds))


_since: ColumnElement[float] = bindparam("since")
_start = case((usage.c.started_at < _since, _since), else_=usage.c.started_at)
_until_now = func.coalesce(usage.c.ended_at, bindparam("now"))
_price = (_until_now - _start) / 3600.0 * usage.c.price_per_hour
_lasted = _open | (usage.c.ended_at > _since)
_billed = usage.c.kind.in_(sorted(kind.value for kind in BILLED))
_SPENT_BY_DEPLOYMENT = (
    select(usage.c.deployment_id, func.sum(_price))
    .where(_lasted, _billed)
    .group_by(usage.c.deployment_id)
)
_SPENT_BY_PRINCIPAL = (
    select(job.c.principal, func.sum(_price))
    .join(job, job.c.id == usage.c.job_id)
    .where(_lasted, _billed)
    .group_by(job.c.principal)
)


@dataclass(frozen=True, slots=True)
class Spent:
    """Billed cost since some moment: by deployment id, and of jobs by the principal who sent them."""

    deployments: Mapping[str, float]
    principals: Mapping[str, float]


class UsageStore:
    """The ledger: a replica is in exactly one open segment from launch to end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, segment: Segment) -> None:
        """Record a replica's first segment."""
        await self._database.write(lambda connection: _insert(connection, segment))

    async def switch(
        self, replica_id: str, kind: SegmentKind, job_id: str | None, now: float
    ) -> None:
        """Close the open segment and open the next one at the same moment.

        Nothing happens if the open one is of this kind and job, or if there is none.
        """
        await self._database.write(
            lambda connection: switch_segment(connection, replica_id, kind, job_id, now)
        )

    async def close(self, replica_id: str, now: float) -> None:
        """Close the open segment, if there is one: the replica has ended."""
        await self._database.write(
            lambda connection: connection.execute(_CLOSE, {"at": replica_id, "now": now}).rowcount
        )

    async def segments(
        self,
        deployment_id: str | None = None,
        replica_id: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Sequence[Segment]:
        """Segments in the order in which they began; those that touch [since, until)."""
        query = _SEGMENTS
        if deployment_id is not None:
            query = query.where(usage.c.deployment_id == deployment_id)
        if replica_id is not None:
            query = query.where(usage.c.replica_id == replica_id)
        if since is not None:
            query = query.where(_open | (usage.c.ended_at > since))
        if until is not None:
            query = query.where(usage.c.started_at < until)
        return await self._database.read(
            lambda connection: [segment_from(row) for row in connection.execute(query)]
        )

    async def principals(self, segments: Iterable[Segment]) -> Mapping[str, str]:
        """Who sent the jobs of these segments, by job id; a job that was pruned is not there."""
        job_ids = sorted({segment.job_id for segment in segments if segment.job_id is not None})
        return await self._database.read(lambda connection: _principals(connection, job_ids))

    async def spent(self, since: float, now: float) -> Spent:
        """What was billed from `since` to `now`; a segment that is still open counts up to `now`."""
        moments = {"since": since, "now": now}
        return await self._database.read(
            lambda connection: Spent(
                deployments=_sums(connection.execute(_SPENT_BY_DEPLOYMENT, moments)),
                principals=_sums(connection.execute(_SPENT_BY_PRINCIPAL, moments)),
            )
        )

    async def by_job(self, job_id: str) -> Sequence[Segment]:
        """The segments in which a job ran: one for each attempt."""
        return await self._database.read(
            lambda connection: [
                segment_from(row) for row in connection.execute(_BY_JOB, {"job_id": job_id})
            ]
        )

    async def wake_seconds(self, deployment_id: str) -> float | None:
        """Mean time from launch to ready of the last replicas; None while unknown."""
        return await self._database.read(lambda connection: _mean_wake(connection, deployment_id))

    async def job_seconds(self, deployment_id: str) -> float | None:
        """Mean time that the last jobs held their replica; None while unknown."""
        return await self._database.read(
            lambda connection: mean_job_seconds(connection, deployment_id)
        )


def switch_segment(
    connection: Connection, replica_id: str, kind: SegmentKind, job_id: str | None, now: float
) -> None:
    """Close a replica's open segment and open the next, unless it is the same one."""
    closed = connection.execute(
        _CLOSE_OTHER,
        {"at": replica_id, "now": now, "next_kind": kind.value, "next_job_id": job_id},
    ).one_or_none()
    if closed is not None:
        deployment_id, gpu, price, ended_at = closed
        _insert(
            connection,
            Segment(
                replica_id=replica_id,
                deployment_id=deployment_id,
                kind=kind,
                started_at=ended_at,
                job_id=job_id,
                gpu=gpu,
                price_per_hour=price,
            ),
        )


def leave_job(connection: Connection, replica_id: str, job_id: str, now: float) -> None:
    """The replica is idle from now on, if it was busy with this job."""
    closed = connection.execute(
        _CLOSE_BUSY, {"at": replica_id, "now": now, "left_job_id": job_id}
    ).one_or_none()
    if closed is not None:
        deployment_id, gpu, price, ended_at = closed
        _insert(
            connection,
            Segment(
                replica_id=replica_id,
                deployment_id=deployment_id,
                kind=SegmentKind.IDLE,
                started_at=ended_at,
                gpu=gpu,
                price_per_hour=price,
            ),
        )


def mean_job_seconds(connection: Connection, deployment_id: str) -> float | None:
    """Mean time that a deployment's last jobs held their replica; None while unknown."""
    mean: float | None = connection.execute(_MEAN_JOB, {"deployment_id": deployment_id}).scalar()
    return mean


def _principals(connection: Connection, job_ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in chunked(job_ids):
        query = select(job.c.id, job.c.principal).where(job.c.id.in_(part))
        found.update((row.id, row.principal) for row in connection.execute(query))
    return found


def _sums(rows: Iterable[Any]) -> dict[str, float]:
    return {str(key): float(amount or 0.0) for key, amount in rows}


def _mean_wake(connection: Connection, deployment_id: str) -> float | None:
    mean: float | None = connection.execute(_MEAN_WAKE, {"deployment_id": deployment_id}).scalar()
    return mean


def _insert(connection: Connection, segment: Segment) -> None:
    connection.execute(
        _INSERT,
        {
            "replica_id": segment.replica_id,
            "deployment_id": segment.deployment_id,
            "kind": segment.kind.value,
            "started_at": segment.started_at,
            "ended_at": segment.ended_at,
            "job_id": segment.job_id,
            "gpu": segment.gpu,
            "price_per_hour": segment.price_per_hour,
        },
    )
