"""Lists of jobs: keyset pages for the control API, and the view that `/api/jobs` needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, func, null, select

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.job import OPEN, TERMINAL, Job, JobState
from comfyserve.store.rows import JOB_COLUMNS, job_from
from comfyserve.store.tables import job, job_call, job_history, job_label

LARGEST_PAGE = 1000


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; None and empty mean: any. Times are seconds since the epoch."""

    deployment_id: str | None = None
    states: frozenset[JobState] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    principal: str | None = None
    replica_id: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    endpoint: str | None = None
    batch_id: str | None = None


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs, newest first, and where the next page begins (None: this was the last)."""

    jobs: Sequence[Job]
    next_cursor: str | None


class JobSort(StrEnum):
    """What ComfyUI's job list can be sorted by."""

    CREATED_AT = "created_at"
    EXECUTION_DURATION = "execution_duration"


@dataclass(frozen=True, slots=True)
class JobViewQuery:
    """What ComfyUI's job list asks for. Empty `states`: any."""

    deployment_id: str
    states: frozenset[JobState] = frozenset()
    workflow_id: str | None = None
    sort_by: JobSort = JobSort.CREATED_AT
    is_ascending: bool = False
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as ComfyUI's list shows it. `summary` is what was given when it finished."""

    job: Job
    workflow_id: str | None
    summary: bytes | None


@dataclass(frozen=True, slots=True)
class JobViewPage:
    """Some jobs, and how many there are in all."""

    views: Sequence[JobView]
    total: int


def list_page(connection: Connection, chosen: JobFilter, limit: int, cursor: str | None) -> JobPage:
    """One page; its cursor stays good while jobs come and end."""
    most = max(1, min(limit, LARGEST_PAGE))
    query = select(job.c.seq, *JOB_COLUMNS).where(*_conditions(chosen))
    if cursor is not None:
        query = query.where(job.c.seq < parse_cursor(cursor))
    rows = connection.execute(query.order_by(job.c.seq.desc()).limit(most + 1)).all()
    jobs = [job_from(row[1:]) for row in rows[:most]]
    return JobPage(
        jobs=jobs, next_cursor=format_cursor(rows[most - 1][0]) if len(rows) > most else None
    )


def view_page(connection: Connection, query: JobViewQuery) -> JobViewPage:
    """Open jobs and those in the history, as ComfyUI counts them; what was cleared is gone."""
    states = query.states or frozenset(JobState)
    parts = []
    if open_states := states & OPEN:
        parts.append(_open_part(query, open_states))
    if ended_states := states & TERMINAL:
        parts.append(_history_part(query, ended_states))
    total = sum(_count(connection, part) for part in parts)
    end = total if query.limit is None else query.offset + max(0, query.limit)
    found: list[tuple[tuple[float, int], JobView]] = []
    for part in parts:
        for seq, workflow_id, summary, *columns in connection.execute(_rows(part, query, end)):
            record = job_from(columns)
            view = JobView(job=record, workflow_id=workflow_id, summary=summary)
            found.append(((_rank(record, query.sort_by), seq), view))
    found.sort(key=lambda item: item[0], reverse=not query.is_ascending)
    return JobViewPage(views=[view for _, view in found[query.offset : end]], total=total)


@dataclass(frozen=True, slots=True)
class _Part:
    """One source of the view: what to select from, and the smaller thing that can be counted."""

    source: FromClause
    counted: FromClause
    seq: ColumnElement[int]
    summary: ColumnElement[Any]
    conditions: Sequence[ColumnElement[bool]]


_duration = func.coalesce(job.c.finished_at - job.c.started_at, 0.0)
_history_jobs = job_history.join(job, job.c.seq == job_history.c.job_seq)


def _open_part(query: JobViewQuery, states: frozenset[JobState]) -> _Part:
    conditions = [job.c.deployment_id == query.deployment_id, job.c.state.in_(_values(states))]
    if query.workflow_id is not None:
        conditions.append(job.c.workflow_id == query.workflow_id)
    return _Part(job, job, job.c.seq, null(), conditions)


def _history_part(query: JobViewQuery, states: frozenset[JobState]) -> _Part:
    counted: FromClause = job_history
    conditions = [job_history.c.deployment_id == query.deployment_id]
    if states != TERMINAL:
        conditions.append(job_history.c.state.in_(_values(states)))
    if query.workflow_id is not None:
        counted = _history_jobs
        conditions.append(job.c.workflow_id == query.workflow_id)
    return _Part(_history_jobs, counted, job_history.c.job_seq, job_history.c.summary, conditions)


def _count(connection: Connection, part: _Part) -> int:
    query = select(func.count()).select_from(part.counted).where(*part.conditions)
    total: int = connection.execute(query).scalar_one()
    return total


def _rows(part: _Part, query: JobViewQuery, most: int) -> Select[*tuple[Any, ...]]:
    keys: tuple[ColumnElement[Any], ...] = (part.seq,)
    if query.sort_by is JobSort.EXECUTION_DURATION:
        keys = (_duration, part.seq)
    return (
        select(part.seq, job.c.workflow_id, part.summary, *JOB_COLUMNS)
        .select_from(part.source)
        .where(*part.conditions)
        .order_by(*(key.asc() if query.is_ascending else key.desc() for key in keys))
        .limit(most)
    )


def _rank(record: Job, sort_by: JobSort) -> float:
    """The first sort key; jobs are numbered in the order of their creation."""
    if sort_by is JobSort.CREATED_AT or record.started_at is None or record.finished_at is None:
        return 0.0
    return record.finished_at - record.started_at


def _conditions(chosen: JobFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if chosen.deployment_id is not None:
        conditions.append(job.c.deployment_id == chosen.deployment_id)
    if chosen.states:
        conditions.append(job.c.state.in_(_values(chosen.states)))
    if chosen.principal is not None:
        conditions.append(job.c.principal == chosen.principal)
    if chosen.replica_id is not None:
        conditions.append(job.c.replica_id == chosen.replica_id)
    if chosen.created_after is not None:
        conditions.append(job.c.created_at > chosen.created_after)
    if chosen.created_before is not None:
        conditions.append(job.c.created_at < chosen.created_before)
    called = [
        column == wanted
        for column, wanted in (
            (job_call.c.endpoint, chosen.endpoint),
            (job_call.c.batch_id, chosen.batch_id),
        )
        if wanted is not None
    ]
    if called:
        conditions.append(job.c.seq.in_(select(job_call.c.job_seq).where(*called)))
    for key, value in chosen.labels.items():
        labelled = select(job_label.c.job_seq).where(
            job_label.c.key == key, job_label.c.value == value
        )
        conditions.append(job.c.seq.in_(labelled))
    return conditions


def _values(states: frozenset[JobState]) -> list[str]:
    return sorted(state.value for state in states)


def format_cursor(seq: int) -> str:
    """Where a page that ends with this row goes on."""
    return f"{seq:x}"


def parse_cursor(cursor: str) -> int:
    """The row of a cursor. Raises InvalidInput for anything that no page has handed out."""
    try:
        seq = int(cursor, 16)
    except ValueError:
        seq = -1
    if seq < 0 or format_cursor(seq) != cursor or seq >= 2**63:
        raise InvalidInput(
            f"'{cursor[:80]}' is not a cursor of this list; leave it out to start over.",
            code="invalid_cursor",
        )
    return seq
