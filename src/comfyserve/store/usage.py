"""Metering: the segments of each replica's life, and averages over recent ones."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, case, func, insert, select, update

from comfyserve.domain.usage import Segment, SegmentKind
from comfyserve.store.engine import Database
from comfyserve.store.rows import SEGMENT_COLUMNS, segment_from
from comfyserve.store.tables import replica, usage

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
