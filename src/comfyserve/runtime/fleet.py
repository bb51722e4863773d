"""The replicas of one deployment: desired against observed, and the jobs that they run."""

import asyncio
from dataclasses import dataclass

import structlog

from comfyserve.domain.deployment import Deployment, DeploymentState
from comfyserve.domain.errors import EngineFailure
from comfyserve.domain.events import QueueChanged
from comfyserve.domain.job import Job, JobEventKind, JobState
from comfyserve.domain.replica import Cause, Replica, ReplicaState
from comfyserve.domain.scaling import Load, backoff_s, decide, has_had_its_turn, next_cull_in
from comfyserve.runtime.host import Host
from comfyserve.runtime.jobs import Attempt, Order
from comfyserve.runtime.pool import Pool, Slot
from comfyserve.runtime.snapshot import Snapshot
from comfyserve.runtime.supervisor import Parts, Supervisor
from comfyserve.runtime.tasks import TaskScope
from comfyserve.runtime.waiting import Waiting

log = structlog.get_logger()

_IDLE_TICK_S = 5.0
# In a flood of prompts, one look at the queue serves all that came within it.
_SHORTEST_ROUND_S = 0.02
_CAPACITY_RETRY_S = 0.5
_MARGIN_S = 0.01
_COMING_OR_READY = frozenset({ReplicaState.PENDING, ReplicaState.STARTING, ReplicaState.READY})


@dataclass(slots=True)
class _Starts:
    """How starting has gone lately."""

    failures: int = 0
    not_before: float = 0.0
    last_error: EngineFailure | None = None


class Fleet:
    """One deployment at work. Everything happens on the event loop's thread."""

    def __init__(self, deployment: Deployment, parts: Parts, host: Host) -> None:
        self.deployment = deployment
        self._parts = parts
        self._host = host
        self._pool: Pool[Supervisor] = Pool()
        self._supervisors: dict[str, Supervisor] = {}
        self._attempts: dict[str, Attempt] = {}
        self._scope = TaskScope(f"deployment:{deployment.name}")
        self._work = asyncio.Event()
        self._news = asyncio.Event()
        self._scale = asyncio.Event()
        self._starts = _Starts()
        self._waiting = Waiting(deployment.id, parts)
        self._warm_wanted = 0
        self._is_closing = False

    @property
    def supervisors(self) -> tuple[Supervisor, ...]:
        """Those of replicas that are not over."""
        return tuple(self._supervisors.values())

    @property
    def running(self) -> tuple[Attempt, ...]:
        """The attempts under way, oldest first."""
        return tuple(self._attempts.values())

    def attempt_at(self, job_id: str) -> Attempt | None:
        """The attempt under way at this job."""
        return self._attempts.get(job_id)

    @property
    def ready(self) -> tuple[Supervisor, ...]:
        """Those that can take a job, or have one."""
        return tuple(s for s in self.supervisors if s.state is ReplicaState.READY)

    @property
    def last_start_error(self) -> EngineFailure | None:
        """Why the last start failed; None once one succeeded."""
        return self._starts.last_error

    @property
    def has_idle(self) -> bool:
        """Whether a replica is ready and has no work."""
        return bool(self._pool.free)

    @property
    def can_give(self) -> bool:
        """Whether a replica is idle that may go before its time."""
        return self._has_more_than_it_must and self.has_idle

    @property
    def _has_more_than_it_must(self) -> bool:
        return len(self._supervisors) > self.deployment.spec.scaling.min_replicas

    def start(self) -> None:
        """Begin to serve."""
        self._scope.keep(self._dispatch, name="dispatch")
        self._scope.keep(self._autoscale, name="autoscale")
        self._scope.keep(self._report, name="report")
        self.notify()

    async def aclose(self) -> None:
        """Stop serving; replicas are left as they are."""
        self._is_closing = True
        await self._scope.aclose()

    def notify(self) -> None:
        """Something was queued, canceled or finished."""
        self._work.set()
        self._news.set()
        self._scale.set()

    def update(self, deployment: Deployment) -> None:
        """Take a new revision or state: replicas of another revision drain."""
        self.deployment = deployment
        is_stopped = deployment.state is not DeploymentState.ACTIVE
        for supervisor in self.supervisors:
            if is_stopped:
                supervisor.drain(Cause.STOPPED_BY_USER)
            elif supervisor.replica.revision_id != deployment.revision.id:
                supervisor.drain(Cause.UPDATED)
        self._starts = _Starts()
        self.notify()

    def warm(self) -> None:
        """Have a replica ready although there is no work; it idles out as any other."""
        if not any(supervisor.state in _COMING_OR_READY for supervisor in self.supervisors):
            self._warm_wanted = 1
            self._starts = _Starts()
            self._scale.set()

    def give_one(self) -> None:
        """Drain the longest idle replica: another deployment needs its card."""
        oldest = min(self._pool.free, key=lambda supervisor: supervisor.idle_since)
        oldest.drain(Cause.IDLE)

    def give_turn(self) -> bool:
        """Drain a busy replica that has had its turn; whether one goes. Its job is finished first."""
        now = self._parts.clock.now()
        for supervisor in self.supervisors if self._has_more_than_it_must else ():
            if supervisor.replica.cause is Cause.YIELDED:
                return True
            if has_had_its_turn(supervisor.replica, now):
                supervisor.drain(Cause.YIELDED)
                return True
        return False

    def cancel(self, job_id: str) -> None:
        """Stop the attempt at this job, if there is one."""
        if (attempt := self._attempts.get(job_id)) is not None:
            attempt.order(Order.CANCEL)

    async def adopt(self, supervisor: Supervisor, job: Job | None) -> None:
        """Take over a replica of an earlier server, and the job that it runs."""
        self._supervisors[supervisor.id] = supervisor
        if job is not None:
            supervisor.is_held = True
            slot = self._pool.hold(supervisor)
            self._begin(job, slot, await self._snapshot(), is_resumed=True)
        self._scope.spawn(self._live(supervisor), name=f"replica:{supervisor.id}")

    async def drained(self, timeout_s: float) -> None:
        """Wait until no job runs, at most `timeout_s` seconds; take no new ones."""
        self._is_closing = True
        try:
            async with asyncio.timeout(timeout_s):
                while self._attempts:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return

    async def release_jobs(self) -> None:
        """Give the jobs that still run back to the queue, uncounted: the server stops."""
        self._is_closing = True
        for attempt in self.running:
            await self._parts.store.jobs.finish(
                attempt.job.id,
                owner=self._host.owner,
                attempt=attempt.job.attempts,
                event=JobEventKind.RELEASED,
                now=self._parts.clock.now(),
            )

    async def _dispatch(self) -> None:
        """While jobs wait: get a slot, then claim the best job for it."""
        while True:
            await self._work.wait()
            self._work.clear()
            while not self._is_closing and await self._count_queued():
                snapshot = await self._snapshot()
                await self._fill(await self._pool.slot(), snapshot)

    async def _fill(self, slot: Slot[Supervisor], snapshot: Snapshot) -> None:
        """Claim the best job for a slot; from the claim to its attempt nothing comes between."""
        slot.replica.is_held = True
        job = None
        try:
            job = await self._claim(slot.replica)
        finally:
            if job is None:
                slot.release()
        if job is not None:
            self._begin(job, slot, snapshot)

    async def _claim(self, supervisor: Supervisor) -> Job | None:
        now = self._parts.clock.now()
        if self._is_closing or supervisor.state is not ReplicaState.READY:
            return None
        return await self._parts.store.jobs.claim(
            self.deployment.id,
            revision_id=supervisor.replica.revision_id,
            replica_id=supervisor.id,
            owner=self._host.owner,
            lease_until=now + self._host.lease_s,
            now=now,
        )

    def _begin(
        self, job: Job, slot: Slot[Supervisor], snapshot: Snapshot, *, is_resumed: bool = False
    ) -> None:
        attempt = Attempt(
            job=job,
            supervisor=slot.replica,
            parts=self._parts,
            catalog=snapshot.catalog,
            owner=self._host.owner,
            is_resumed=is_resumed,
        )
        self._attempts[job.id] = attempt
        if job.state is JobState.CANCELING:
            attempt.order(Order.CANCEL)
        self._scope.spawn(self._run(attempt, slot), name=f"job:{job.id}")
        self._news.set()
        self._scale.set()

    async def _run(self, attempt: Attempt, slot: Slot[Supervisor]) -> None:
        try:
            await attempt.run()
        finally:
            del self._attempts[attempt.job.id]
            slot.release()
            self.notify()

    async def _autoscale(self) -> None:
        """Act on each change, and when the next idle replica is ripe."""
        while True:
            pause = await self._scale_once()
            await asyncio.sleep(_SHORTEST_ROUND_S)
            try:
                async with asyncio.timeout(pause):
                    await self._scale.wait()
            except TimeoutError:
                pass
            self._scale.clear()

    async def _scale_once(self) -> float:
        """Compare desired with observed once; return the longest pause until the next time."""
        scaling, now = self.deployment.spec.scaling, self._parts.clock.monotonic()
        if self._is_closing:
            return _IDLE_TICK_S
        queue_s = self.deployment.spec.timeouts.queue_s
        if queue_s > 0 and await self._waiting.expire(queue_s):
            self._news.set()
        load = await self._load(now)
        decision = decide(load, scaling)
        for replica_id in decision.drain:
            self._supervisors[replica_id].drain(Cause.IDLE)
        wanted = max(decision.start, self._warm_wanted if load.observed == 0 else 0)
        if now >= self._starts.not_before:
            for _ in range(wanted):
                await self._wake(self._cause_of_wake(load))
            self._warm_wanted = 0
        is_short_of_room = any(supervisor.waits_for_capacity for supervisor in self.supervisors)
        if is_short_of_room:
            self._host.relieve(self.deployment.id)
        return min(self._pause(load, now), _CAPACITY_RETRY_S if is_short_of_room else _IDLE_TICK_S)

    def _pause(self, load: Load, now: float) -> float:
        """Seconds until something is due: a cull, the end of a wait in the queue, another start."""
        spec, pauses = self.deployment.spec, [_IDLE_TICK_S]
        if (cull_in := next_cull_in(load, spec.scaling)) is not None:
            pauses.append(cull_in + _MARGIN_S)
        if load.queued and spec.timeouts.queue_s > 0:
            pauses.append(spec.timeouts.queue_s + _MARGIN_S)
        if now < self._starts.not_before:
            pauses.append(self._starts.not_before - now)
        return min(pauses)

    def _cause_of_wake(self, load: Load) -> Cause:
        if load.queued:
            return Cause.WORK
        return Cause.WARM_UP if self._warm_wanted else Cause.MIN_REPLICAS

    async def _load(self, now: float) -> Load:
        """Count each replica once, and each job: one claimed while the queue is counted waits no more."""
        usage, working = self._parts.store.usage, {a.supervisor.id for a in self.running}
        queued = await self._count_queued()
        is_tight = queued > 0 and self.deployment.spec.scaling.max_replicas > 1
        expected_job_s = await usage.job_seconds(self.deployment.id) if is_tight else None
        wake_s = await usage.wake_seconds(self.deployment.id) if is_tight else None
        live = {s.id for s in self.supervisors if s.state in _COMING_OR_READY or self._fails(s)}
        idle = {s.id: now - s.idle_since for s in self._pool.free if s.id in live}
        return Load(
            queued=queued,
            busy=len(live & working - idle.keys()),
            starting=len(live - working - idle.keys()),
            idle=tuple(idle.items()),
            expected_job_s=expected_job_s,
            wake_s=wake_s,
            is_active=self.deployment.state is DeploymentState.ACTIVE,
        )

    def _fails(self, supervisor: Supervisor) -> bool:
        """Whether it ends without having been ready, and that has not been counted yet."""
        replica = supervisor.replica
        return replica.ready_at is None and replica.revision_id == self.deployment.revision.id

    async def _wake(self, cause: Cause) -> None:
        deployment = self.deployment
        supervisor = await self._host.new_supervisor(deployment, cause, self.replica_changed)
        if deployment is not self.deployment:
            return  # Updated meanwhile, which asks for another look.
        self._supervisors[supervisor.id] = supervisor
        self._scope.spawn(self._live(supervisor), name=f"replica:{supervisor.id}")

    async def _live(self, supervisor: Supervisor) -> None:
        """See one replica through its life."""
        try:
            await supervisor.run()
            if supervisor.replica.ready_at is None:
                await self._start_failed(supervisor.replica, supervisor)
        finally:
            self._pool.withdraw(supervisor)
            self._supervisors.pop(supervisor.id, None)
            self._scale.set()

    def replica_changed(self, supervisor: Supervisor) -> None:
        """A replica entered a state, or its slot came free."""
        if supervisor.state is ReplicaState.READY:
            if not supervisor.is_held:
                self._starts = _Starts()
                self._pool.offer(supervisor)
        else:
            self._pool.withdraw(supervisor)
        self._scale.set()

    async def _start_failed(self, replica: Replica, supervisor: Supervisor) -> None:
        """Back off; after too many failures in a row, tell the jobs that wait."""
        now = self._parts.clock.monotonic()
        if replica.cause in {Cause.STOPPED_BY_USER, Cause.SHUTDOWN, Cause.UPDATED}:
            return
        starts = self._starts
        starts.failures += 1
        starts.not_before = now + backoff_s(starts.failures)
        starts.last_error = await supervisor.failure()
        log.warning(
            "A replica did not become ready.",
            event_key="start_failed",
            replica=replica.id,
            cause=str(replica.cause),
            failures=starts.failures,
            error=starts.last_error.message,
        )
        if starts.failures >= self._parts.settings.start_failures:
            await self._waiting.fail(starts.last_error)
            starts.failures = 0
            self._news.set()

    async def _snapshot(self) -> Snapshot:
        return await self._host.snapshot(self.deployment.revision.snapshot_digest)

    async def _count_queued(self) -> int:
        counts = await self._parts.store.jobs.counts(self.deployment.id)
        return counts.queued

    async def _report(self) -> None:
        """Announce the length of the queue whenever it may have changed."""
        while True:
            await self._news.wait()
            self._news.clear()
            counts = await self._parts.store.jobs.counts(self.deployment.id)
            remaining = counts.queued + counts.active
            self._parts.bus.publish(QueueChanged(self.deployment.id, remaining))
            await asyncio.sleep(_SHORTEST_ROUND_S)
