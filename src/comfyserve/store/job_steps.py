"""Every change of a job's state: the domain's `step`, stored with all that follows from it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Connection, bindparam, delete, select, update

from comfyserve.domain.job import ACTIVE, Job, JobDocuments, JobError, JobEventKind, JobState, step
from comfyserve.domain.story import Story
from comfyserve.domain.usage import Receipt, SegmentKind
from comfyserve.store.assets import release_assets_of_job
from comfyserve.store.calls import insert_story
from comfyserve.store.job_history import HistoryEntry, record_entry
from comfyserve.store.outbox_entry import record_change
from comfyserve.store.rows import JOB_COLUMNS, documents_from, encode_text, job_from, values_of
from comfyserve.store.tables import deployment, job, job_document, job_secret
from comfyserve.store.usage import leave_job, switch_segment

LARGEST_BULK = 500
HistoryMaker = Callable[[Job, JobDocuments], bytes]


@dataclass(frozen=True, slots=True)
class Claim:
    """Who takes a job: the replica that will run it and the runtime that owns the claim."""

    deployment_id: str
    revision_id: str
    replica_id: str
    owner: str
    lease_until: float


@dataclass(frozen=True, slots=True)
class Adoption:
    """Who takes a job over from a dead owner."""

    owner: str
    lease_until: float


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, said by the owner of the claim.

    `history`, `summary`, `receipt` and `story` are stored only if the job ends with it.
    """

    owner: str
    attempt: int
    event: JobEventKind
    error: JobError | None = None
    history: bytes | None = None
    summary: bytes | None = None
    receipt: Receipt | None = None
    story: Story | None = None


@dataclass(frozen=True, slots=True)
class BulkEnding:
    """How queued jobs end without having run. `history` makes an entry of each, if it shows one."""

    event: JobEventKind
    error: JobError | None = None
    history: HistoryMaker | None = None


@dataclass(frozen=True, slots=True)
class _Change:
    """A job's row before and after a step."""

    seq: int
    before: Job
    after: Job
    receipt: Receipt | None = None

    @property
    def values(self) -> dict[str, object]:
        """Parameters of the update."""
        receipt = None if self.receipt is None else encode_text(self.receipt)
        place = {"at": self.seq, "was": self.before.state.value}
        return {**values_of(self.after), **place, "receipt": receipt}


_ACTIVE = [state.value for state in ACTIVE]
_ROWS = select(job.c.seq, *JOB_COLUMNS)
_BY_ID = _ROWS.where(job.c.id == bindparam("id")).with_for_update()
_FIRST_QUEUED = (
    _ROWS.where(
        job.c.state == JobState.QUEUED.value, job.c.deployment_id == bindparam("deployment_id")
    )
    .order_by(job.c.number, job.c.seq)
    .limit(1)
    # Nothing to SQLite's one writer; elsewhere claimers that run at once take different jobs.
    .with_for_update(skip_locked=True)
)
_ALL_QUEUED = (
    _ROWS.where(
        job.c.state == JobState.QUEUED.value, job.c.deployment_id == bindparam("deployment_id")
    )
    .order_by(job.c.number, job.c.seq)
    .limit(LARGEST_BULK)
    .with_for_update()
)
_UPDATE = update(job).where(job.c.seq == bindparam("at"), job.c.state == bindparam("was"))
_COUNT = (
    update(deployment)
    .where(deployment.c.id == bindparam("at"))
    .values(
        queued=deployment.c.queued + bindparam("queued_by"),
        active=deployment.c.active + bindparam("active_by"),
    )
)
_RENEW = (
    update(job)
    .where(job.c.state.in_(_ACTIVE), job.c.owner == bindparam("by"))
    .values(lease_until=bindparam("until"))
)
_DROP_SECRET = delete(job_secret).where(job_secret.c.job_seq == bindparam("at"))
_DOCUMENT = select(job_document.c.document).where(job_document.c.job_seq == bindparam("job_seq"))


def claim(connection: Connection, taker: Claim, now: float) -> Job | None:
    """Take the best queued job, by number and then age; its replica is busy from now on.

    The job's revision becomes the one that runs it.
    """
    while True:
        row = connection.execute(
            _FIRST_QUEUED, {"deployment_id": taker.deployment_id}
        ).one_or_none()
        if row is None:
            return None
        seq, *columns = row
        before = job_from(columns)
        after = replace(
            step(before, JobEventKind.CLAIMED, now=now),
            revision_id=taker.revision_id,
            replica_id=taker.replica_id,
            owner=taker.owner,
            lease_until=taker.lease_until,
        )
        if _store(connection, [_Change(seq, before, after)]):
            switch_segment(connection, taker.replica_id, SegmentKind.BUSY, after.id, now)
            return after


def renew(connection: Connection, owner: str, lease_until: float) -> None:
    """Extend the lease on everything that `owner` holds."""
    connection.execute(_RENEW, {"by": owner, "until": lease_until})


def adopt(connection: Connection, job_id: str, adoption: Adoption, now: float) -> Job | None:
    """Take over an active job in its present attempt; None if it is not active any more.

    Its replica, if that still lives, is busy with it. What the dead owner had stored of its
    outputs is released: the new one takes them all again, and none may be there twice.
    """
    found = _find(connection, job_id)
    if found is None or found[1].state not in ACTIVE:
        return None
    seq, before = found
    after = replace(before, owner=adoption.owner, lease_until=adoption.lease_until)
    if not _store(connection, [_Change(seq, before, after)]):
        return None
    release_assets_of_job(connection, job_id)
    if after.replica_id is not None:
        switch_segment(connection, after.replica_id, SegmentKind.BUSY, job_id, now)
    return after


def cancel(connection: Connection, job_id: str, now: float) -> Job | None:
    """Cancel a job: final if it is queued, asked for if it runs, nothing if it has ended."""
    found = _find(connection, job_id)
    if found is None:
        return None
    seq, before = found
    if before.is_terminal:
        return before
    after = step(before, JobEventKind.CANCEL, now=now)
    if after is not before:
        _store(connection, [_Change(seq, before, after)])
    return after


def finish(connection: Connection, job_id: str, ending: Ending, now: float) -> Job | None:
    """End an attempt, if it is still the owner's; None, and nothing changed, if it is not."""
    found = _find(connection, job_id)
    if found is None:
        return None
    seq, before = found
    is_owner = before.owner == ending.owner and before.attempts == ending.attempt
    if before.state not in ACTIVE or not is_owner:
        return None
    after = step(before, ending.event, now=now, error=ending.error)
    receipt = ending.receipt if after.is_terminal else None
    if not _store(connection, [_Change(seq, before, after, receipt)]):
        return None
    if ending.event is JobEventKind.LOST:
        release_assets_of_job(connection, job_id)
    if before.replica_id is not None:
        leave_job(connection, before.replica_id, job_id, now)
    if after.is_terminal and ending.history is not None:
        record_entry(connection, _entry(seq, after, ending.history, ending.summary))
    if after.is_terminal and ending.story is not None:
        insert_story(connection, seq, ending.story)
    return after


def end_reused(
    connection: Connection, job_id: str, receipt: Receipt, now: float
) -> tuple[int, Job]:
    """End a job that has just been stored: the results of an earlier one are its own. Gives its row too."""
    found = _find(connection, job_id)
    if found is None:
        raise ValueError(job_id)
    seq, before = found
    after = step(before, JobEventKind.REUSED, now=now)
    _store(connection, [_Change(seq, before, after, receipt)])
    return seq, after


def end_queued(
    connection: Connection,
    deployment_id: str,
    ending: BulkEnding,
    now: float,
    *conditions: ColumnElement[bool],
) -> list[Job]:
    """End up to LARGEST_BULK queued jobs that meet all conditions, best first."""
    query = _ALL_QUEUED.where(*conditions)
    changes = []
    for seq, *columns in connection.execute(query, {"deployment_id": deployment_id}):
        before = job_from(columns)
        after = step(before, ending.event, now=now, error=ending.error)
        changes.append(_Change(seq, before, after))
    _store(connection, changes)
    if ending.history is not None:
        for change in changes:
            data = connection.execute(_DOCUMENT, {"job_seq": change.seq}).scalar_one()
            made = ending.history(change.after, documents_from(data))
            record_entry(connection, _entry(change.seq, change.after, made, None))
    return [change.after for change in changes]


def _find(connection: Connection, job_id: str) -> tuple[int, Job] | None:
    row = connection.execute(_BY_ID, {"id": job_id}).one_or_none()
    if row is None:
        return None
    seq, *columns = row
    return seq, job_from(columns)


def _store(connection: Connection, changes: Sequence[_Change]) -> bool:
    """Write what steps made of jobs, and keep the counters. False if another writer was first."""
    if not changes:
        return True
    if connection.execute(_UPDATE, [change.values for change in changes]).rowcount == 0:
        return False
    queued, active = Counter[str](), Counter[str]()
    for change in changes:
        at = change.after.deployment_id
        queued[at] += _is_queued(change.after) - _is_queued(change.before)
        active[at] += _is_active(change.after) - _is_active(change.before)
    for at in queued:
        if queued[at] or active[at]:
            by = {"at": at, "queued_by": queued[at], "active_by": active[at]}
            connection.execute(_COUNT, by)
    ended = [{"at": change.seq} for change in changes if change.after.is_terminal]
    if ended:
        connection.execute(_DROP_SECRET, ended)
    for change in changes:
        if change.after.state is not change.before.state:
            record_change(connection, change.after, change.receipt)
    return True


def _is_queued(job: Job) -> int:
    return int(job.state is JobState.QUEUED)


def _is_active(job: Job) -> int:
    return int(job.state in ACTIVE)


def _entry(seq: int, job: Job, data: bytes, summary: bytes | None) -> HistoryEntry:
    return HistoryEntry(
        job_seq=seq,
        deployment_id=job.deployment_id,
        prompt_id=job.prompt_id,
        state=job.state.value,
        entry=data,
        summary=summary,
    )
