"""The job store: what is accepted, who works on it, how it ended. Each method is one transaction."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, bindparam, func, select

from comfyserve.domain.errors import NotFound
from comfyserve.domain.job import ACTIVE, OPEN, Job, JobDocuments, JobError, JobEventKind, JobState
from comfyserve.domain.story import Story
from comfyserve.domain.usage import Receipt
from comfyserve.store import job_history, job_steps
from comfyserve.store.engine import Database
from comfyserve.store.job_entry import (
    Enqueued,
    Entry,
    NewJob,
    enqueue_all,
    enqueue_keyed,
    first_answer,
)
from comfyserve.store.job_pages import (
    JobFilter,
    JobPage,
    JobSort,
    JobView,
    JobViewPage,
    JobViewQuery,
    list_page,
    view_page,
)
from comfyserve.store.job_pruning import LARGEST_PRUNE, prune
from comfyserve.store.job_samples import PastJob, latest_jobs
from comfyserve.store.job_steps import Adoption, BulkEnding, Claim, Ending, HistoryMaker
from comfyserve.store.keys import UsedKey, is_used
from comfyserve.store.rows import (
    JOB_COLUMNS,
    chunked,
    decode_object,
    documents_from,
    job_from,
    receipt_from,
)
from comfyserve.store.tables import deployment, job, job_document, job_secret
from comfyserve.store.webhooks import WebhookSeal

__all__ = [
    "Enqueued",
    "JobCounts",
    "JobFilter",
    "JobPage",
    "JobSort",
    "JobStore",
    "JobView",
    "JobViewPage",
    "JobViewQuery",
    "NewJob",
    "PastJob",
]


T = TypeVar("T")
Jobs = list[Job]  # inside the store, `list` is its method


@dataclass(frozen=True, slots=True)
class JobCounts:
    """How many jobs of a deployment wait, and how many are with a replica."""

    queued: int = 0
    active: int = 0


_ROWS = select(*JOB_COLUMNS)
_BY_ID = _ROWS.where(job.c.id == bindparam("id"))
_BY_PROMPT = (
    _ROWS.where(
        job.c.deployment_id == bindparam("deployment_id"), job.c.prompt_id == bindparam("prompt_id")
    )
    .order_by(job.c.seq.desc())
    .limit(1)
)
_DOCUMENTS = (
    select(job_document.c.document, job_secret.c.sealed)
    .join(job, job.c.seq == job_document.c.job_seq)
    .outerjoin(job_secret, job_secret.c.job_seq == job_document.c.job_seq)
)
_DOCUMENTS_BY_ID = _DOCUMENTS.where(job.c.id == bindparam("id"))
_RECEIPT = select(job.c.receipt).where(job.c.id == bindparam("id"))
_COUNTS = select(deployment.c.queued, deployment.c.active).where(deployment.c.id == bindparam("id"))
_ALL_COUNTS = select(deployment.c.id, deployment.c.queued, deployment.c.active)
_other = job.alias("other")
_AHEAD = (
    select(func.count())
    .select_from(
        job.join(
            _other,
            (_other.c.deployment_id == job.c.deployment_id)
            & (_other.c.state == JobState.QUEUED.value)
            & (
                (_other.c.number < job.c.number)
                | ((_other.c.number == job.c.number) & (_other.c.seq < job.c.seq))
            ),
        )
    )
    .where(job.c.id == bindparam("id"))
)
_OPEN = (
    _DOCUMENTS.add_columns(*JOB_COLUMNS)
    .where(
        job.c.deployment_id == bindparam("deployment_id"),
        job.c.state.in_(sorted(state.value for state in OPEN)),
    )
    .order_by(job.c.started_at.is_(None), job.c.started_at, job.c.number, job.c.seq)
)
_ABANDONED = _ROWS.where(
    job.c.state.in_(sorted(state.value for state in ACTIVE)), job.c.owner != bindparam("owner")
).order_by(job.c.seq)


class JobStore:
    """Jobs. Times are seconds since the epoch, given by the caller."""

    def __init__(self, database: Database, seal: WebhookSeal, news: asyncio.Event) -> None:
        self._database = database
        self._seal = seal
        self._news = news

    async def enqueue(self, new: NewJob, now: float) -> Enqueued:
        """Accept a job: when this returns it is on disk.

        Raises QueueFull, Conflict `idempotency_conflict` for a key that came with another
        request, Conflict `job_exists`, NotFound for an unknown deployment.
        """
        entry = Entry.of(new, self._seal, now)
        if new.idempotency_key is None:
            return await self._database.write_item(enqueue_all, entry)
        return await self._database.write(lambda connection: enqueue_keyed(connection, entry))

    async def claim(
        self,
        deployment_id: str,
        *,
        revision_id: str,
        replica_id: str,
        owner: str,
        lease_until: float,
        now: float,
    ) -> Job | None:
        """Take the best queued job, by number and then age. Its replica is busy from now on."""
        claim = Claim(deployment_id, revision_id, replica_id, owner, lease_until)
        return await self._step(lambda connection: job_steps.claim(connection, claim, now))

    async def renew(self, owner: str, lease_until: float, now: float) -> None:
        """Extend the lease on everything that `owner` holds; it must end after `now`."""
        if lease_until <= now:
            raise ValueError("a lease must end in the future")
        await self._database.write(
            lambda connection: job_steps.renew(connection, owner, lease_until)
        )

    async def adopt(self, job_id: str, *, owner: str, lease_until: float, now: float) -> Job | None:
        """Take over an active job of a dead owner, in its present attempt."""
        adoption = Adoption(owner, lease_until)
        return await self._database.write(
            lambda connection: job_steps.adopt(connection, job_id, adoption, now)
        )

    async def cancel(self, job_id: str, now: float) -> Job | None:
        """Cancel a job; one that has ended is returned as it is, None if there is no such job."""
        return await self._step(lambda connection: job_steps.cancel(connection, job_id, now))

    async def finish(  # noqa: PLR0913 - one commit holds all that an end leaves behind
        self,
        job_id: str,
        *,
        owner: str,
        attempt: int,
        event: JobEventKind,
        now: float,
        error: JobError | None = None,
        history: bytes | None = None,
        receipt: Receipt | None = None,
        summary: bytes | None = None,
        story: Story | None = None,
    ) -> Job | None:
        """End an attempt, if it is still the owner's; None, and nothing changed, if it is not.

        With LOST the job waits again, or fails if that was its last attempt, and what the attempt
        made is deleted. `history`, `summary`, `receipt` and `story` are kept if the job ends.
        """
        ending = Ending(owner, attempt, event, error, history, summary, receipt, story)
        return await self._step(
            lambda connection: job_steps.finish(connection, job_id, ending, now)
        )

    async def fail_queued(
        self,
        deployment_id: str,
        error: JobError,
        now: float,
        history: HistoryMaker | None = None,
    ) -> Jobs:
        """Fail all queued jobs: there is no hope of a replica for them."""
        return await self._end_queued(
            deployment_id, BulkEnding(JobEventKind.FAILED, error, history), now
        )

    async def expire_queued(
        self,
        deployment_id: str,
        before: float,
        error: JobError,
        now: float,
        history: HistoryMaker | None = None,
    ) -> Jobs:
        """Expire queued jobs that were created before `before`."""
        ending = BulkEnding(JobEventKind.EXPIRED, error, history)
        return await self._end_queued(deployment_id, ending, now, job.c.created_at < before)

    async def delete_queued(
        self, deployment_id: str, prompt_ids: Sequence[str] | None, now: float
    ) -> Jobs:
        """Cancel queued jobs by prompt id, or all of them."""
        ending = BulkEnding(JobEventKind.CANCEL)
        if prompt_ids is None:
            return await self._end_queued(deployment_id, ending, now)
        ended: Jobs = []
        for some in chunked(prompt_ids):
            chosen = job.c.prompt_id.in_(some)
            ended += await self._end_queued(deployment_id, ending, now, chosen)
        return ended

    async def prune(self, ended_before: float) -> int:
        """Delete jobs that ended by then, with all that is theirs but usage; return how many."""
        pruned = 0
        while True:
            some = await self._database.write(lambda connection: prune(connection, ended_before))
            pruned += some
            if some < LARGEST_PRUNE:
                return pruned

    async def is_key_used(self, key: UsedKey, now: float) -> bool:
        """Whether an idempotency key was used in the last 24 hours."""
        return await self._database.read(lambda connection: is_used(connection, key, now))

    async def replayed(self, key: UsedKey, request_digest: str, now: float) -> Job | None:
        """The job that the same request made before. Raises Conflict `idempotency_conflict`."""

        def work(connection: Connection) -> Job | None:
            first = first_answer(connection, key, request_digest)
            return first.job if first and is_used(connection, key, now) else None

        return await self._database.read(work)

    async def get(self, job_id: str) -> Job | None:
        """The job with this id."""
        return await self._database.read(lambda connection: _one(connection, {"id": job_id}))

    async def by_prompt_id(self, deployment_id: str, prompt_id: str) -> Job | None:
        """The newest job of a deployment that its client knows under this id."""
        sought = {"deployment_id": deployment_id, "prompt_id": prompt_id}
        return await self._database.read(lambda connection: _one(connection, sought))

    async def documents(self, job_id: str) -> JobDocuments:
        """What a job runs; its secrets are gone once it has ended. Raises NotFound."""

        def work(connection: Connection) -> JobDocuments:
            row = connection.execute(_DOCUMENTS_BY_ID, {"id": job_id}).one_or_none()
            if row is None:
                raise NotFound(f"There is no job '{job_id}'.", code="job_not_found")
            return self._decode(*row)

        return await self._database.read(work)

    async def latest(self, deployment_id: str, most: int) -> Sequence[PastJob]:
        """The last jobs that succeeded, the newest first, with prompt and receipt."""
        return await self._database.read(
            lambda connection: latest_jobs(connection, deployment_id, most)
        )

    async def receipt(self, job_id: str) -> Receipt | None:
        """Where a finished job's time went."""
        return await self._database.read(
            lambda connection: receipt_from(connection.execute(_RECEIPT, {"id": job_id}).scalar())
        )

    async def counts(self, deployment_id: str) -> JobCounts:
        """How many jobs wait and run."""
        row = await self._database.read(
            lambda connection: connection.execute(_COUNTS, {"id": deployment_id}).one_or_none()
        )
        return JobCounts() if row is None else JobCounts(*row)

    async def all_counts(self) -> Mapping[str, JobCounts]:
        """The same by deployment id."""
        rows = await self._database.read(lambda connection: connection.execute(_ALL_COUNTS).all())
        return {row.id: JobCounts(row.queued, row.active) for row in rows}

    async def position(self, job_id: str) -> int:
        """How many queued jobs of its deployment are to be taken before this one."""
        return await self._database.read(
            lambda connection: connection.execute(_AHEAD, {"id": job_id}).scalar() or 0
        )

    async def open_jobs(self, deployment_id: str) -> Sequence[tuple[Job, JobDocuments]]:
        """Jobs that run, in the order in which they began, then those that wait, best first."""
        sought = {"deployment_id": deployment_id}
        return await self._database.read(
            lambda connection: [
                (job_from(columns), self._decode(data, sealed))
                for data, sealed, *columns in connection.execute(_OPEN, sought)
            ]
        )

    async def abandoned(self, owner: str) -> Sequence[Job]:
        """Active jobs that anyone but `owner` holds, oldest first: for recovery at start."""
        return await self._database.read(
            lambda connection: [
                job_from(row) for row in connection.execute(_ABANDONED, {"owner": owner})
            ]
        )

    async def list(self, chosen: JobFilter, limit: int, cursor: str | None = None) -> JobPage:
        """One page of jobs, newest first. Raises InvalidInput `invalid_cursor`."""
        return await self._database.read(
            lambda connection: list_page(connection, chosen, limit, cursor)
        )

    async def view(self, query: JobViewQuery) -> JobViewPage:
        """What ComfyUI's `/api/jobs` shows: open jobs, and those in the history."""
        return await self._database.read(lambda connection: view_page(connection, query))

    async def history(
        self, deployment_id: str, max_items: int | None = None, offset: int | None = None
    ) -> Sequence[tuple[str, bytes]]:
        """History entries by prompt id, oldest first, chosen by ComfyUI's rules."""
        return await self._database.read(
            lambda connection: job_history.list_entries(
                connection, deployment_id, max_items, offset
            )
        )

    async def history_entry(self, deployment_id: str, prompt_id: str) -> bytes | None:
        """One history entry."""
        return await self._database.read(
            lambda connection: job_history.read_entry(connection, deployment_id, prompt_id)
        )

    async def delete_history(self, deployment_id: str, prompt_ids: Sequence[str] | None) -> None:
        """Forget history entries, or all of them. Jobs, receipts and assets stay."""
        await self._database.write(
            lambda connection: job_history.delete_entries(connection, deployment_id, prompt_ids)
        )

    async def _step(self, work: Callable[[Connection], T]) -> T:
        """Write a change of state; whoever delivers webhooks looks after the commit."""
        made = await self._database.write(work)
        self._news.set()
        return made

    def _decode(self, data: bytes, sealed: bytes | None) -> JobDocuments:
        documents = documents_from(data)
        if sealed is None:
            return documents
        return replace(documents, secrets=decode_object(self._seal.sealer.open(sealed)))

    async def _end_queued(
        self,
        deployment_id: str,
        ending: BulkEnding,
        now: float,
        *conditions: ColumnElement[bool],
    ) -> Jobs:
        """In parts, so that a long queue does not keep other writers waiting."""
        ended: Jobs = []
        while True:
            some = await self._step(
                lambda connection: job_steps.end_queued(
                    connection, deployment_id, ending, now, *conditions
                )
            )
            ended += some
            if len(some) < job_steps.LARGEST_BULK:
                return ended


def _one(connection: Connection, sought: Mapping[str, str]) -> Job | None:
    query = _BY_ID if "id" in sought else _BY_PROMPT
    row = connection.execute(query, sought).one_or_none()
    return None if row is None else job_from(row)
