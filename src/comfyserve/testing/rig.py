"""A runtime over a real store, a fake host and fake engines: what tests of the runtime work on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import aiohttp

from comfyserve.clock import Clock, SystemClock
from comfyserve.domain.deployment import Deployment
from comfyserve.domain.events import BusEvent, EngineMessage, JobChanged, ReplicaChanged
from comfyserve.domain.job import Job, JobDocuments
from comfyserve.domain.replica import Replica, ReplicaState
from comfyserve.domain.spec import DeploymentSpec, Scaling, Timeouts
from comfyserve.runtime.bus import Bus
from comfyserve.runtime.deploy import Deployer
from comfyserve.runtime.fleet import Fleet
from comfyserve.runtime.gpus import Gpu
from comfyserve.runtime.launchers.base import Launcher
from comfyserve.runtime.runtime import Runtime
from comfyserve.runtime.supervisor import Parts, Supervisor
from comfyserve.settings import Settings
from comfyserve.store import Store, open_store
from comfyserve.store.jobs import NewJob
from comfyserve.testing.comfy import FakeComfy, FakeEngines
from comfyserve.testing.comfy_classes import a_prompt
from comfyserve.testing.launchers import FakeHost, FakeLauncher

DEADLINE_S = 15.0
# Most changes are told on the bus; the few that are not are looked for so often.
_LOOK_S = 0.02

SPEC = DeploymentSpec(
    scaling=Scaling(idle_timeout_s=60.0), timeouts=Timeouts(start_s=10.0, job_s=60.0, stop_s=0.3)
)
AnyEvent = TypeVar("AnyEvent", bound=BusEvent)


class HeardBus(Bus):
    """A bus that keeps all that was ever said on it."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[BusEvent] = []
        self.news = asyncio.Event()

    def publish(self, event: BusEvent) -> None:
        """Keep the event and hand it on."""
        self.events.append(event)
        self.news.set()
        super().publish(event)


@dataclass(slots=True)
class Rig:
    """One home with its runtime, which can be ended as a crash does and begun anew."""

    store: Store
    session: aiohttp.ClientSession
    settings: Settings
    new_launcher: Callable[[], Launcher]
    host: FakeHost
    engines: FakeEngines
    clock: Clock = field(default_factory=SystemClock)
    bus: HeardBus = field(default_factory=HeardBus)
    runtime: Runtime = field(init=False)
    deployer: Deployer = field(init=False)

    @property
    def launcher(self) -> Launcher:
        """The launcher of the present runtime."""
        return self.runtime.parts.launcher

    async def start(self) -> None:
        """Begin a runtime on what there is."""
        self.runtime = Runtime(
            Parts(
                self.new_launcher(), self.store, self.bus, self.clock, self.session, self.settings
            )
        )
        self.deployer = Deployer(self.runtime)
        await self.runtime.start()

    async def stop(self) -> None:
        """End the runtime as a server does that is told to stop."""
        await self.runtime.drain()
        await self.runtime.stop()

    async def crash(self) -> None:
        """End the runtime as SIGKILL does: nothing is stopped, given back or written down."""
        for deployment in self.runtime.deployments:
            await self.runtime.fleet(deployment.id).aclose()
        await self.runtime._scope.aclose()  # noqa: SLF001 - no door leads to this on purpose
        await self.launcher.close()
        # What was handed to the writer is committed; a dead process has no writer any more.
        await self.store.database.write(lambda _: None)

    async def deploy(self, name: str = "demo", spec: DeploymentSpec = SPEC) -> Deployment:
        """Deploy, and return the deployment."""
        return (await self.deployer.deploy(name, spec)).deployment

    async def submit(
        self,
        deployment: Deployment,
        prompt: Mapping[str, Any] | None = None,
        **changes: Any,  # noqa: ANN401 - fields of NewJob
    ) -> Job:
        """Accept a job, as the gateway does."""
        job_id = str(uuid4())
        documents = JobDocuments(prompt or a_prompt(), {}, ("9",))
        new = NewJob(
            **{
                "id": job_id,
                "deployment_id": deployment.id,
                "revision_id": deployment.revision.id,
                "prompt_id": job_id,
                "documents": documents,
                "client_id": "me",
                "max_attempts": deployment.spec.limits.max_attempts,
                **changes,
            }
        )
        accepted = await self.store.jobs.enqueue(new, self.clock.now())
        self.runtime.accepted(accepted.job)
        return accepted.job

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for a condition. Raises TimeoutError."""
        async with asyncio.timeout(DEADLINE_S):
            while not holds():
                self.bus.news.clear()
                try:
                    async with asyncio.timeout(_LOOK_S):
                        await self.bus.news.wait()
                except TimeoutError:
                    continue

    async def job(self, job: Job) -> Job:
        """The job as it is stored now."""
        found = await self.store.jobs.get(job.id)
        assert found is not None  # noqa: S101 - a test support
        return found

    async def ended(self, job: Job) -> Job:
        """Wait for a job's end, told and stored; return it."""
        await self.until(lambda: any(each.is_terminal for each in self.story(job)))
        return await self.job(job)

    async def settled(self, job: Job) -> Job:
        """Wait until a job has ended in the store, told or not: a crash may come in between."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                self.bus.news.clear()
                current = await self.job(job)
                if current.is_terminal:
                    return current
                await self.bus.news.wait()

    async def reaches(self, job: Job, state: str) -> None:
        """Wait until a job was in a state."""
        await self.until(lambda: any(each.state == state for each in self.story(job)))

    async def replica(self, deployment: Deployment, state: ReplicaState) -> Supervisor:
        """Wait until the deployment has a replica in this state; return its supervisor."""
        fleet = self.fleet(deployment)
        await self.until(lambda: [s for s in fleet.supervisors if s.state is state])
        return next(s for s in fleet.supervisors if s.state is state)

    async def asleep(self, deployment: Deployment) -> None:
        """Wait until the deployment has no replica."""
        await self.until(lambda: not self.fleet(deployment).supervisors)

    def fleet(self, deployment: Deployment) -> Fleet:
        """The deployment at work."""
        return self.runtime.fleet(deployment.id)

    def engine(self, supervisor: Supervisor) -> FakeComfy:
        """The engine behind a replica."""
        return self.engines.of[supervisor.id]

    def story(self, job: Job) -> Sequence[Job]:
        """Every change of a job, as it was told."""
        return [event.job for event in self.heard(JobChanged) if event.job.id == job.id]

    def messages(self, job: Job) -> Sequence[EngineMessage]:
        """Every message about a job, as it was told."""
        return [event for event in self.heard(EngineMessage) if event.job_id == job.id]

    def replicas(self, deployment: Deployment) -> Sequence[Replica]:
        """Every change of a deployment's replicas, as it was told."""
        changes = self.heard(ReplicaChanged)
        return [event.replica for event in changes if event.deployment_id == deployment.id]

    def heard(self, kind: type[AnyEvent]) -> Sequence[AnyEvent]:
        """Every event of a kind."""
        return [event for event in self.bus.events if isinstance(event, kind)]


@asynccontextmanager
async def open_rig(
    home: Path,
    *,
    gpus: Sequence[Gpu] = (),
    launcher: Callable[[FakeHost, FakeEngines], Launcher] | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Settings
) -> AsyncIterator[Rig]:
    """A started rig; at the end it stops as a server does, and nothing of it is left."""
    host, engines = FakeHost(gpus), FakeEngines()
    defaults: dict[str, Any] = {"home": str(home), "stop_timeout_s": 0.5}

    def new_launcher() -> Launcher:
        if launcher is not None:
            return launcher(host, engines)
        return FakeLauncher(host=host, servers=engines)

    async with (
        open_store(home) as store,
        aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False
        ) as session,
    ):
        rig = Rig(store, session, Settings(**defaults | settings), new_launcher, host, engines)
        await rig.start()
        try:
            yield rig
        finally:
            await rig.stop()
            await engines.aclose()
