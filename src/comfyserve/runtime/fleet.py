"""The replicas of one deployment: desired against observed, and the jobs that they run."""

import asyncio
from collections.abc import Awaitable

from comfyserve.domain.deployment import Deployment, DeploymentState
from comfyserve.domain.errors import ComfyserveError, EngineFailure, NotReady
from comfyserve.domain.job import Job, JobEventKind, JobState
from comfyserve.domain.replica import Cause, ReplicaState
from comfyserve.domain.scaling import Load, decide, has_had_its_turn, next_cull_in
from comfyserve.domain.usage import SegmentKind
from comfyserve.runtime.host import Host
from comfyserve.runtime.jobs import Attempt, Order
from comfyserve.runtime.pool import Pool, Slot
from comfyserve.runtime.snapshot import Snapshot
from comfyserve.runtime.starts import Starts
from comfyserve.runtime.supervisor import Parts, Supervisor
from comfyserve.runtime.tasks import TaskScope
from comfyserve.runtime.traffic import Meter, Traffic, stopped
from comfyserve.runtime.waiting import SHORTEST_ROUND_S, Waiting

_IDLE_TICK_S = 5.0
_CAPACITY_RETRY_S = 0.5
_MARGIN_S = 0.01
_COMING_OR_READY = frozenset({ReplicaState.PENDING, ReplicaState.STARTING, ReplicaState.READY})


class Fleet:
    """One deployment at work. Everything happens on the event loop's thread."""

    def __init__(self, deployment: Deployment, parts: Parts, host: Host) -> None:
        self.deployment = deployment
        self._parts = parts
        self._host = host
        self._pool: Pool[Supervisor] = Pool(deployment.revision.slots)
        self._supervisors: dict[str, Supervisor] = {}
        self._attempts: dict[str, Attempt] = {}
        self._scope = TaskScope(f"deployment:{deployment.name}")
        self._work = asyncio.Event()
        self._news = asyncio.Event()
        self._scale = asyncio.Event()
        self._starts = Starts(parts.settings.start_failures)
        self._waiting = Waiting(deployment.id, parts)
        self._meter = Meter(parts.store.usage, parts.clock)
        self.traffic = Traffic(self._pool, self._meter, parts.clock, self._scale.set)
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
        return any(not supervisor.is_kept for supervisor in self._pool.free)

    @property
    def can_give(self) -> bool:
        """Whether a replica is idle that may go before its time."""
        return self._has_more_than_it_must and self.has_idle

    @property
    def _has_more_than_it_must(self) -> bool:
        return len(self._supervisors) > self.deployment.spec.scaling.min_replicas

    @property
    def is_wanted(self) -> bool:
        """Whether a replica is there or should be: a successor would have work."""
        scaling = self.deployment.spec.scaling
        return bool(self._supervisors or scaling.min_replicas or self.traffic.waiting)

    def start(self) -> None:
        """Begin to serve."""
        self._scope.keep(self._dispatch, name="dispatch")
        self._scope.keep(self._autoscale, name="autoscale")
        self._scope.keep(lambda: self._waiting.report(self._news), name="report")
        self._scope.keep(self._meter.run, name="meter")
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

    def update(self, deployment: Deployment, successor: Supervisor | None = None) -> None:
        """Take a new revision or state: replicas of another revision drain.

        `successor` is a ready replica of the new revision: it takes over before the others go.
        """
        self.deployment = deployment
        self._pool.slots = deployment.revision.slots
        self._starts.succeeded()
        if successor is not None:
            successor.on_change = self.replica_changed
            self._see_through(successor, successor.ended.wait())
            self.replica_changed(successor)
        is_stopped = deployment.state is not DeploymentState.ACTIVE
        for supervisor in self.supervisors:
            if is_stopped:
                supervisor.drain(Cause.STOPPED_BY_USER)
            elif supervisor.replica.revision_id != deployment.revision.id:
                self._pool.withdraw(supervisor)
                supervisor.drain(Cause.UPDATED)
        if is_stopped:
            self._refuse(stopped(deployment))
        self.notify()

    def warm(self) -> None:
        """Have a replica ready although there is no work; it idles out as any other."""
        if not any(supervisor.state in _COMING_OR_READY for supervisor in self.supervisors):
            self._warm_wanted = 1
            self._starts.succeeded()
            self._scale.set()

    def give_one(self) -> None:
        """Drain the longest idle replica: another deployment needs its card."""
        free = (supervisor for supervisor in self._pool.free if not supervisor.is_kept)
        min(free, key=lambda supervisor: supervisor.idle_since).drain(Cause.IDLE)

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
        if job is not None:
            supervisor.is_held = True
            slot = self._pool.hold(supervisor)
            self._begin(job, slot, await self._snapshot(), is_resumed=True)
        elif self._is_plain:  # Its requests ended with the server that brought them.
            now = self._parts.clock.now()
            await self._parts.store.usage.switch(supervisor.id, SegmentKind.IDLE, None, now)
        self._see_through(supervisor)

    async def drained(self, timeout_s: float) -> None:
        """Wait until no job or request runs, at most `timeout_s` seconds; take no new ones."""
        self._is_closing = True
        self._refuse(NotReady("the server is stopping; come back", code="stopping"))
        try:
            async with asyncio.timeout(timeout_s):
                while self._attempts or self.traffic.in_flight:
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
            while not self._is_closing and await self._waiting.count():
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
            await asyncio.sleep(SHORTEST_ROUND_S)
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
        jobs = 0 if self._is_plain else await self._waiting.count()
        queued = jobs + self.traffic.replicas_wanted
        working |= {supervisor.id for supervisor in self._pool.held if self._is_plain}
        is_tight = (
            queued > 0 and not self._is_plain and self.deployment.spec.scaling.max_replicas > 1
        )
        expected_job_s = await usage.job_seconds(self.deployment.id) if is_tight else None
        wake_s = await usage.wake_seconds(self.deployment.id) if is_tight else None
        live = {s.id for s in self.supervisors if s.state in _COMING_OR_READY or self._fails(s)}
        idle = {s.id: s.idle_s(now) for s in self._pool.free if s.id in live}
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
        try:
            supervisor = await self._host.new_supervisor(deployment, cause, self.replica_changed)
        except ComfyserveError as error:
            now = self._parts.clock.monotonic()
            await self._give_up_if(self._starts.refused(error, now))
            return
        if deployment is not self.deployment:
            return  # Updated meanwhile, which asks for another look.
        self._see_through(supervisor)

    async def _live(self, supervisor: Supervisor, life: Awaitable[object]) -> None:
        """See one replica through its life."""
        try:
            await life
            if supervisor.replica.ready_at is None:
                await self._start_failed(supervisor)
        finally:
            self._pool.withdraw(supervisor)
            self._supervisors.pop(supervisor.id, None)
            self._scale.set()

    def _see_through(self, supervisor: Supervisor, life: Awaitable[object] | None = None) -> None:
        """Have a replica among ours; `life` is what tells its end, if somebody else runs it."""
        self._supervisors[supervisor.id] = supervisor
        life = life or supervisor.run()
        self._scope.spawn(self._live(supervisor, life), name=f"replica:{supervisor.id}")

    def replica_changed(self, supervisor: Supervisor) -> None:
        """A replica entered a state, or its slot came free."""
        if supervisor.state is ReplicaState.READY:
            if not supervisor.is_held:
                self._starts.succeeded()
                if supervisor.replica.revision_id == self.deployment.revision.id:
                    self._pool.offer(supervisor)
        else:
            self._pool.withdraw(supervisor)
        self._scale.set()
        if self._is_closing:
            self._news.set()

    async def _start_failed(self, supervisor: Supervisor) -> None:
        """Back off; after too many failures in a row, tell the jobs and requests that wait."""
        now = self._parts.clock.monotonic()
        await self._give_up_if(await self._starts.failed(supervisor, now))

    async def _give_up_if(self, error: EngineFailure | None) -> None:
        if error is not None:
            await self._waiting.fail(error)
            self._refuse(error)
            self._news.set()

    def _refuse(self, error: ComfyserveError) -> None:
        """Tell the requests that wait; a job waits in the store."""
        if self._is_plain:
            self._pool.refuse(error)

    async def _snapshot(self) -> Snapshot:
        return await self._host.snapshot(self.deployment.revision.snapshot_digest)

    @property
    def _is_plain(self) -> bool:
        return self.deployment.revision.is_plain
