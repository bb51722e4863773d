"""The job store against a plain model: none lost, none finished twice, in the right order."""

import asyncio
import itertools
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from comfyserve.domain.errors import QueueFull
from comfyserve.domain.job import ACTIVE, TERMINAL, Job, JobError, JobEventKind, JobState
from comfyserve.domain.usage import SegmentKind
from comfyserve.store import open_store
from comfyserve.store.jobs import JobCounts, JobFilter
from comfyserve.testing.store_data import a_new_job, a_replica, furnish

_MOST = 6
_ATTEMPTS = 2
_ENDS = [
    JobEventKind.SUCCEEDED,
    JobEventKind.FAILED,
    JobEventKind.INTERRUPTED,
    JobEventKind.LOST,
]
_ERROR = JobError("start_failed", "no replica")


@dataclass
class Modelled:
    """What the model knows of one job."""

    order: int
    number: float
    state: JobState = JobState.QUEUED
    attempts: int = 0
    ends: int = field(default=0)


class JobStoreMachine(RuleBasedStateMachine):
    """Random callers of one deployment, each step checked against the model."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.store = self.runner.run(
            self.stack.enter_async_context(open_store(Path(self.directory.name)))
        )
        self.runner.run(furnish(self.store))
        self.runner.run(self.store.replicas.save(a_replica("rp_2")))
        self.jobs: dict[str, Modelled] = {}
        self.held: dict[str, int] = {}
        self.counter = 0
        self.owner = 1
        self.now = 10.0

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()
        self.directory.cleanup()

    def tick(self) -> float:
        self.now += 1.0
        return self.now

    def in_state(self, *states: JobState) -> list[str]:
        return [job_id for job_id, job in self.jobs.items() if job.state in states]

    def end(self, job: Modelled, state: JobState) -> None:
        job.state = state
        job.ends += state in TERMINAL
        assert job.ends <= 1

    @rule(number=st.none() | st.integers(-3, 3).map(float), front=st.booleans())
    def enqueue(self, number: float | None, front: bool) -> None:
        new = a_new_job(number=number, front=front, max_queue=_MOST, max_attempts=_ATTEMPTS)
        try:
            job = self.runner.run(self.store.jobs.enqueue(new, self.tick())).job
        except QueueFull:
            assert len(self.in_state(JobState.QUEUED)) == _MOST
            return
        assert len(self.in_state(JobState.QUEUED)) < _MOST
        if number is None:
            number = -float(self.counter) if front else float(self.counter)
            self.counter += 1
        assert job.number == number
        self.jobs[job.id] = Modelled(order=len(self.jobs), number=number)

    @rule()
    def claim(self) -> None:
        job = self.runner.run(
            self.store.jobs.claim(
                "dp_1",
                revision_id="rv_dp_1_1",
                replica_id="rp_1",
                owner=f"rt_{self.owner}",
                lease_until=self.now + 30,
                now=self.tick(),
            )
        )
        waiting = self.in_state(JobState.QUEUED)
        if job is None:
            assert not waiting
            return
        best = min(waiting, key=lambda job_id: (self.jobs[job_id].number, self.jobs[job_id].order))
        assert job.id == best
        modelled = self.jobs[job.id]
        modelled.state = JobState.RUNNING
        modelled.attempts += 1
        assert job.attempts == modelled.attempts <= _ATTEMPTS
        self.held[job.id] = modelled.attempts
        (last,) = self.runner.run(self.store.usage.segments(replica_id="rp_1"))[-1:]
        assert (last.kind, last.job_id) == (SegmentKind.BUSY, job.id)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), event=st.sampled_from(_ENDS), is_stale=st.booleans())
    def finish(self, data: st.DataObject, event: JobEventKind, is_stale: bool) -> None:
        """By whoever ever held the job, with the attempt it had then."""
        job_id = data.draw(st.sampled_from(sorted(self.held)))
        modelled, attempt = self.jobs[job_id], self.held[job_id]
        finished = self.runner.run(
            self.store.jobs.finish(
                job_id,
                owner=f"rt_{self.owner - is_stale}",
                attempt=attempt,
                event=event,
                now=self.tick(),
                history=job_id.encode(),
            )
        )
        if is_stale or modelled.state not in ACTIVE or attempt != modelled.attempts:
            assert finished is None
            return
        assert finished is not None
        self.end(modelled, self.expected(modelled, event))
        assert finished.state is modelled.state

    def expected(self, job: Modelled, event: JobEventKind) -> JobState:
        if job.state is JobState.CANCELING or event is JobEventKind.INTERRUPTED:
            return JobState.CANCELED
        if event is JobEventKind.LOST:
            return JobState.QUEUED if job.attempts < _ATTEMPTS else JobState.FAILED
        return JobState.SUCCEEDED if event is JobEventKind.SUCCEEDED else JobState.FAILED

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(list(self.jobs)))
        modelled = self.jobs[job_id]
        canceled = self.runner.run(self.store.jobs.cancel(job_id, self.tick()))
        assert canceled is not None
        if modelled.state is JobState.QUEUED:
            self.end(modelled, JobState.CANCELED)
        elif modelled.state is JobState.RUNNING:
            modelled.state = JobState.CANCELING
        assert canceled.state is modelled.state

    @rule()
    def fail_queued(self) -> None:
        failed = self.runner.run(self.store.jobs.fail_queued("dp_1", _ERROR, self.tick()))
        self.all_ended(failed, JobState.FAILED)

    @rule()
    def delete_queued(self) -> None:
        gone = self.runner.run(self.store.jobs.delete_queued("dp_1", None, self.tick()))
        self.all_ended(gone, JobState.CANCELED)

    def all_ended(self, ended: list[Job], state: JobState) -> None:
        assert {job.id for job in ended} == set(self.in_state(JobState.QUEUED))
        for job in ended:
            assert job.state is state
            self.end(self.jobs[job.id], state)

    @rule()
    def restart(self) -> None:
        """A new owner takes over whatever ran."""
        self.owner += 1
        owner = f"rt_{self.owner}"
        abandoned = self.runner.run(self.store.jobs.abandoned(owner))
        assert {job.id for job in abandoned} == set(self.in_state(*ACTIVE))
        for job in abandoned:
            adopted = self.runner.run(
                self.store.jobs.adopt(
                    job.id, owner=owner, lease_until=self.now + 30, now=self.tick()
                )
            )
            assert adopted is not None
            assert adopted.attempts == job.attempts

    @invariant()
    def states_agree(self) -> None:
        page = self.runner.run(self.store.jobs.list(JobFilter(deployment_id="dp_1"), 1000))
        assert {job.id: job.state for job in page.jobs} == {
            job_id: modelled.state for job_id, modelled in self.jobs.items()
        }
        counts = self.runner.run(self.store.jobs.counts("dp_1"))
        assert counts == JobCounts(
            queued=len(self.in_state(JobState.QUEUED)), active=len(self.in_state(*ACTIVE))
        )

    @invariant()
    def the_ledger_has_no_gap(self) -> None:
        segments = self.runner.run(self.store.usage.segments(replica_id="rp_1"))
        for earlier, later in itertools.pairwise(segments):
            assert earlier.ended_at == later.started_at
        assert [segment.ended_at is None for segment in segments[-1:]] == [True]


TestJobStoreModel = JobStoreMachine.TestCase
TestJobStoreModel.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
