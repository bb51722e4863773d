"""All deployments at work: adopt what lives, keep the leases, deploy, cancel, stop in order."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import structlog

from comfyserve.domain.deployment import Deployment, DeploymentState
from comfyserve.domain.errors import InvalidInput, NotFound
from comfyserve.domain.events import JobChanged
from comfyserve.domain.ids import ENTROPY_BYTES, Prefix, make_id
from comfyserve.domain.job import Job, JobError, JobEventKind, JobState
from comfyserve.domain.replica import Cause, Replica, ReplicaEvent, ReplicaState
from comfyserve.domain.replica import step as replica_step
from comfyserve.runtime import history
from comfyserve.runtime.fleet import Fleet
from comfyserve.runtime.launchers.base import LaunchState, LaunchStatus
from comfyserve.runtime.launching import Launching
from comfyserve.runtime.materials import Materials
from comfyserve.runtime.recordings import Recordings
from comfyserve.runtime.snapshot import Snapshot
from comfyserve.runtime.supervisor import Parts, Supervisor
from comfyserve.runtime.tasks import TaskScope

log = structlog.get_logger()

_SWEEP_INTERVAL_S = 30.0
_SWEEP_INPUTS_INTERVAL_S = 3600.0
_KEPT_ENDED_REPLICAS = 20


class Runtime:
    """The one runtime of a home. The gateway calls it; it never calls the gateway."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.owner = new_id(Prefix.RUNTIME)
        self.started_at = parts.clock.now()
        self.materials = Materials()
        self.launching = Launching(parts)
        self._fleets: dict[str, Fleet] = {}  # in the order in which they were created
        self._gone: set[str] = set()
        self._snapshots: dict[str, Snapshot] = {}
        self._scope = TaskScope("runtime")
        self._recordings = Recordings(
            parts, self._scope, lambda needy: self.relieve(needy, is_update=True)
        )

    @property
    def lease_s(self) -> float:
        """How long a claim, and a replica, lasts without being renewed."""
        return self.parts.settings.lease_s

    async def start(self) -> None:
        """Adopt and sweep, then serve."""
        await self.parts.launcher.open()
        deployments = await self.parts.store.deployments.list()
        for deployment in sorted(deployments, key=lambda each: each.created_at):
            self._open_fleet(deployment)
        self._gone = set(await self.parts.store.deployments.gone_names())
        await self._adopt()
        for fleet in self._fleets.values():
            fleet.start()
        self._scope.keep(self._watch, name="watch")
        self._scope.keep(self._renew, name="renew")
        self._scope.keep(self._sweep, name="sweep")
        self._scope.keep(self._sweep_inputs, name="sweep-inputs")

    async def drain(self) -> None:
        """Begin no more jobs, and let the running ones end in bounded time."""
        settings = self.parts.settings
        if not settings.detach_replicas:
            fleets = self._fleets.values()
            await asyncio.gather(*(fleet.drained(settings.stop_timeout_s) for fleet in fleets))

    async def stop(self) -> None:
        """Stop the replicas, and give the jobs that still run back to the queue."""
        settings = self.parts.settings
        fleets = tuple(self._fleets.values())
        if settings.detach_replicas:
            live = [supervisor.id for supervisor in self._supervisors()]
            await self.parts.launcher.renew(live, ttl_s=None)
            await self._close(fleets)
            return
        for fleet in fleets:
            await fleet.release_jobs()
        supervisors = [s for fleet in fleets for s in fleet.supervisors]
        for supervisor in supervisors:
            supervisor.stop(Cause.SHUTDOWN)
        if supervisors:
            longest = max(s.terms.timeouts.stop_s for s in supervisors)
            await asyncio.wait(
                [self._scope.spawn(s.ended.wait(), name="ended") for s in supervisors],
                timeout=longest + 5.0,
            )
        await self._close(fleets)

    def fleet(self, deployment_id: str) -> Fleet:
        """The fleet of a deployment. Raises NotFound."""
        try:
            return self._fleets[deployment_id]
        except KeyError:
            raise NotFound("there is no such deployment", code="deployment_not_found") from None

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """All deployments that are not deleted, oldest first."""
        return tuple(fleet.deployment for fleet in self._fleets.values())

    def accepted(self, job: Job) -> None:
        """A job was committed to the queue."""
        self.fleet(job.deployment_id).notify()
        self.parts.bus.publish(JobChanged(job))

    def canceled(self, job: Job) -> None:
        """A job was canceled in the store; tell whoever runs it or listens."""
        fleet = self._fleets.get(job.deployment_id)
        if fleet is not None:
            if job.state is JobState.CANCELING:
                fleet.cancel(job.id)
            fleet.notify()
        self.parts.bus.publish(JobChanged(job))

    async def snapshot(self, digest: str) -> Snapshot:
        """The recorded answers of a revision, parsed once. Raises NotFound for a plain one."""
        if not digest:
            raise NotFound(
                "what is deployed here is no ComfyUI: it has no node catalog and runs no prompts",
                code="no_catalog",
            )
        if digest not in self._snapshots:
            document = await self.parts.store.blobs.read_bytes(digest)
            self._snapshots[digest] = await asyncio.to_thread(Snapshot.decode, document)
        return self._snapshots[digest]

    def input_dir(self, deployment_id: str) -> Path:
        """Where the input files of a deployment lie, shared by its replicas on this host."""
        return self.launching.directory(deployment_id) / "input"

    async def cancel(self, job_id: str) -> Job | None:
        """Cancel a job in whatever state; None if there is no such job."""
        job = await self.parts.store.jobs.cancel(job_id, self.parts.clock.now())
        if job is not None:
            self.canceled(job)
        return job

    async def new_supervisor(
        self, deployment: Deployment, cause: Cause, on_change: Callable[[Supervisor], None]
    ) -> Supervisor:
        """A supervisor for a replica of the deployment's current revision."""
        now = self.parts.clock.now()
        replica = Replica(
            id=new_id(Prefix.REPLICA),
            deployment_id=deployment.id,
            revision_id=deployment.revision.id,
            state=ReplicaState.PENDING,
            cause=cause,
            since=now,
            created_at=now,
        )
        terms = await self.launching.terms(replica, deployment)
        return Supervisor(replica, terms, self.parts, on_change)

    def relieve(self, needy: str, *, is_update: bool = False) -> bool:
        """Ask another deployment to give up an idle replica, or one that had its turn; whether one will.

        With `is_update` its own may have to go, even the last one: it makes room for its successor.
        """
        others = [
            fleet
            for deployment_id, fleet in self._fleets.items()
            if deployment_id != needy and fleet.deployment.spec.resources.gpus
        ]
        for fleet in others:
            if fleet.can_give:
                fleet.give_one()
                return True
        own = self._fleets.get(needy)
        if is_update and own is not None and own.has_idle:
            own.give_one()
            return True
        return any(fleet.give_turn() for fleet in others)

    @asynccontextmanager
    async def recording(self, candidate: Deployment) -> AsyncIterator[Supervisor]:
        """One replica outside any fleet, to see what it is; stopped unless a fleet takes it."""
        supervisor = await self.new_supervisor(candidate, Cause.RECORDING, lambda _: None)
        async with self._recordings.run(supervisor):
            yield supervisor

    def opened(self, deployment: Deployment, successor: Supervisor | None = None) -> None:
        """A deployment was created; `successor` is a ready replica of it."""
        self._gone.discard(deployment.name)
        self._open_fleet(deployment).start()
        self.updated(deployment, successor)

    def updated(self, deployment: Deployment, successor: Supervisor | None = None) -> None:
        """A deployment has a new revision or state; `successor` is a ready replica of it."""
        if successor is not None:
            self._recordings.release(successor)
        self.fleet(deployment.id).update(deployment, successor)

    async def closed(self, deployment: Deployment) -> None:
        """A deployment was deleted: its jobs are canceled, its replicas stop."""
        fleet = self.fleet(deployment.id)
        fleet.update(replace(deployment, state=DeploymentState.DELETED))
        for job, _ in await self.parts.store.jobs.open_jobs(deployment.id):
            await self.cancel(job.id)
        for supervisor in fleet.supervisors:
            await supervisor.ended.wait()
        await fleet.aclose()
        self._fleets.pop(deployment.id, None)
        self._gone.add(deployment.name)

    def is_gone(self, name: str) -> bool:
        """Whether a deployment of that name was deleted, and none has it now."""
        return name in self._gone

    def _open_fleet(self, deployment: Deployment) -> Fleet:
        fleet = self._fleets[deployment.id] = Fleet(deployment, self.parts, self)
        return fleet

    async def _adopt(self) -> None:
        """Take over what an earlier server left: replicas by handle, jobs by id."""
        seen = {status.id: status for status in await self.parts.launcher.list()}
        abandoned = {
            job.replica_id: job for job in await self.parts.store.jobs.abandoned(self.owner)
        }
        for replica in await self.parts.store.replicas.list(live_only=True):
            status = seen.pop(replica.id, None)
            job = abandoned.pop(replica.id, None)
            if not await self._adopt_one(replica, status, job) and job is not None:
                abandoned[replica.id] = job
        for orphan in seen.values():
            if orphan.state is not LaunchState.GONE:
                log.warning("An orphan was swept.", event_key="orphan_swept", replica=orphan.id)
                await self.parts.launcher.stop(orphan.id, grace_s=1.0)
        for job in abandoned.values():
            await self._requeue(job)

    async def _adopt_one(
        self, replica: Replica, status: LaunchStatus | None, job: Job | None
    ) -> bool:
        fleet = self._fleets.get(replica.deployment_id)
        is_alive = status is not None and status.state is LaunchState.RUNNING
        is_usable = replica.state in {ReplicaState.STARTING, ReplicaState.READY}
        is_current = fleet is not None and (
            fleet.deployment.revision.id == replica.revision_id
            and fleet.deployment.state is DeploymentState.ACTIVE
        )
        if not (is_alive and is_usable and is_current and fleet and status):
            await self._bury(replica, status)
            return False
        if job is not None:
            now = self.parts.clock.now()
            job = await self.parts.store.jobs.adopt(
                job.id, owner=self.owner, lease_until=now + self.lease_s, now=now
            )
        deployment = fleet.deployment
        try:
            terms = await self.launching.terms(replica, deployment)
        except InvalidInput:  # What it was made of is gone: another one could not start either.
            await self._bury(replica, status)
            return False
        supervisor = Supervisor(replica, terms, self.parts, fleet.replica_changed)
        supervisor.attach(status)
        await self.parts.launcher.renew([replica.id], ttl_s=self.lease_s)
        log.info("A replica was adopted.", event_key="replica_adopted", replica=replica.id)
        await fleet.adopt(supervisor, job)
        return True

    async def _bury(self, replica: Replica, status: LaunchStatus | None) -> None:
        """Stop what cannot be adopted and close its record."""
        if status is not None and status.state is not LaunchState.GONE:
            await self.parts.launcher.stop(replica.id, grace_s=1.0)
        now = self.parts.clock.now()
        if replica.state not in {ReplicaState.STOPPING, ReplicaState.DRAINING}:
            replica, _ = replica_step(replica, ReplicaEvent.EXITED, now=now, cause=Cause.LOST)
        else:
            event = ReplicaEvent.GONE
            if replica.state is ReplicaState.DRAINING:
                event = ReplicaEvent.EXITED
            replica, _ = replica_step(replica, event, now=now)
        await self.parts.store.replicas.save(replica)
        await self.parts.store.usage.close(replica.id, now)

    async def _requeue(self, job: Job) -> None:
        """A job whose replica did not outlive the server: try again, or fail with the reason."""
        now = self.parts.clock.now()
        adopted = await self.parts.store.jobs.adopt(
            job.id, owner=self.owner, lease_until=now + self.lease_s, now=now
        )
        if adopted is None:
            return
        error = JobError("replica_lost", "the server and the replica ended while the job ran")
        documents = await self.parts.store.jobs.documents(job.id)
        failed = replace(adopted, error=error, finished_at=now)
        await self.parts.store.jobs.finish(
            job.id,
            owner=self.owner,
            attempt=adopted.attempts,
            event=JobEventKind.LOST,
            now=now,
            error=error,
            history=history.of_failed_wait(failed, documents),
        )

    async def _watch(self) -> None:
        """Bring what the launcher sees to the supervisors."""
        async for status in self.parts.launcher.watch():
            for supervisor in self._supervisors():
                if supervisor.id == status.id:
                    supervisor.observe(status)

    async def _renew(self) -> None:
        """Keep the leases of replicas and claims well before they lapse."""
        while True:
            now = self.parts.clock.now()
            ids = [supervisor.id for supervisor in self._supervisors()]
            await self.parts.launcher.renew(ids, ttl_s=self.lease_s)
            if any(fleet.running for fleet in self._fleets.values()):
                await self.parts.store.jobs.renew(self.owner, now + self.lease_s, now)
            await asyncio.sleep(self.lease_s / 3)

    async def _sweep(self) -> None:
        """Forget what has expired, and replicas that ended long ago."""
        while True:
            await asyncio.sleep(_SWEEP_INTERVAL_S)
            now, retention_s = self.parts.clock.now(), self.parts.settings.retention_s
            await self.parts.store.collect(
                now, jobs_ended_before=now - retention_s if retention_s else None
            )
            ended = [status for status in await self.parts.launcher.list() if status.is_gone]
            ended.sort(key=lambda status: status.ended_at or 0.0)
            for status in ended[:-_KEPT_ENDED_REPLICAS]:
                await self.parts.launcher.forget(status.id)

    async def _sweep_inputs(self) -> None:
        """Remove old copies of stored files from input directories that no open job reads."""
        while retention_s := self.parts.settings.retention_s:
            await asyncio.sleep(min(_SWEEP_INPUTS_INTERVAL_S, retention_s))
            counts = await self.parts.store.jobs.all_counts()
            for deployment_id, open_jobs in counts.items():
                if deployment_id in self._fleets and not open_jobs.queued + open_jobs.active:
                    used_before = self.parts.clock.now() - retention_s
                    directory = self.input_dir(deployment_id)
                    await asyncio.to_thread(self.materials.sweep, directory, used_before)

    def _supervisors(self) -> tuple[Supervisor, ...]:
        fleets = (s for fleet in self._fleets.values() for s in fleet.supervisors)
        return (*fleets, *self._recordings.supervisors)

    async def _close(self, fleets: tuple[Fleet, ...]) -> None:
        for fleet in fleets:
            await fleet.aclose()
        await self._scope.aclose()
        await self.parts.launcher.close()


def new_id(prefix: Prefix) -> str:
    """A fresh id."""
    return make_id(prefix, secrets.token_bytes(ENTROPY_BYTES))
