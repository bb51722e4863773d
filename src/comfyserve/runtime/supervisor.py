"""One replica's life: feeds events to the table, records each step, executes the effects."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import aiohttp
import structlog

from comfyserve.clock import Clock
from comfyserve.domain.errors import ComfyserveError, EngineError, NotReady, StartFailed
from comfyserve.domain.events import ReplicaChanged
from comfyserve.domain.replica import Cause, Effect, Replica, ReplicaEvent, ReplicaState, step
from comfyserve.domain.spec import Timeouts
from comfyserve.domain.usage import Segment, SegmentKind, price_of
from comfyserve.runtime.bus import Bus
from comfyserve.runtime.comfy import ComfyClient
from comfyserve.runtime.launchers.base import (
    GoneReason,
    Launcher,
    LaunchSpec,
    LaunchState,
    LaunchStatus,
    PendingReason,
)
from comfyserve.runtime.probes import COMFYUI, Probe, await_ready, watch_health
from comfyserve.runtime.replica_logs import ReplicaLogs
from comfyserve.runtime.surroundings import Images, NoImages
from comfyserve.runtime.tasks import TaskScope
from comfyserve.settings import Settings
from comfyserve.store import Store

log = structlog.get_logger()

_CAUSE_OF_END = {
    GoneReason.OOM: Cause.OOM,
    GoneReason.LEASE_EXPIRED: Cause.LEASE_EXPIRED,
    GoneReason.HOST_LOST: Cause.LOST,
}
_UNDER_WAY = frozenset({LaunchState.STARTING, LaunchState.RUNNING})
_SEGMENTS = {
    ReplicaState.READY: SegmentKind.IDLE,
    ReplicaState.DRAINING: SegmentKind.DRAINING,
    ReplicaState.STOPPING: SegmentKind.DRAINING,
}
_LOG_TAIL_BYTES = 8192
_PAUSE_WHEN_STUCK_S = 1.0
LOG_TAIL_LINES = 40


@dataclass(frozen=True, slots=True)
class Parts:
    """What every supervisor shares."""

    launcher: Launcher
    store: Store
    bus: Bus
    clock: Clock
    session: aiohttp.ClientSession
    settings: Settings
    gpu_types: Mapping[str, str] = field(default_factory=dict)
    """Short type by UUID of the GPUs of this host."""
    images: Images = field(default_factory=NoImages)
    inside_url: str = ""
    """Where a replica reaches the gateway."""

    @property
    def logs(self) -> ReplicaLogs:
        """What replicas wrote, fit to be shown."""
        return ReplicaLogs(self.launcher, self.store.secrets)


@dataclass(frozen=True, slots=True)
class Terms:
    """What one replica is started with."""

    spec: LaunchSpec
    timeouts: Timeouts
    secrets: tuple[str, ...] = ()
    probe: Probe = COMFYUI


class Supervisor:
    """Owns one replica. `run` is its whole life; every change goes through `post`."""

    def __init__(
        self,
        replica: Replica,
        terms: Terms,
        parts: Parts,
        on_change: Callable[["Supervisor"], None],
    ) -> None:
        self.replica = replica
        self.terms = terms
        self.idle_since = parts.clock.monotonic()
        self.lost = asyncio.Event()
        self.ended = asyncio.Event()
        self.last_status: LaunchStatus | None = None
        self.is_held = False
        self._parts = parts
        self.on_change = on_change
        self._kept_until = 0.0
        self._inbox: asyncio.Queue[tuple[ReplicaEvent, Cause]] = asyncio.Queue()
        self._client: ComfyClient | None = None

    @property
    def id(self) -> str:
        """The replica's id."""
        return self.replica.id

    @property
    def state(self) -> ReplicaState:
        """The replica's state."""
        return self.replica.state

    @property
    def price_per_hour(self) -> float:
        """What an hour of it costs, by the operator's table."""
        prices = self._parts.settings.prices
        return sum(price_of(gpu, prices) for gpu in self.replica.gpu.split(","))

    @property
    def client(self) -> ComfyClient:
        """A client of the ready engine. Raises EngineError before there is an address."""
        if self._client is None:
            raise EngineError(f"replica {self.id} has no address yet")
        return self._client

    @property
    def base_url(self) -> str:
        """Where its server listens. Raises EngineError before there is an address."""
        return self.client.base_url

    @property
    def is_kept(self) -> bool:
        """Whether somebody asked that it stays, idle or not."""
        return self._kept_until > self._parts.clock.monotonic()

    def keep(self, seconds: float) -> None:
        """Do not count it as idle for so long; asked again, the longer wish holds."""
        self._kept_until = max(self._kept_until, self._parts.clock.monotonic() + seconds)

    def idle_s(self, now: float) -> float:
        """Seconds without work; none while it is kept."""
        return min(now - self.idle_since, now - self._kept_until)

    def post(self, event: ReplicaEvent, cause: Cause = Cause.NONE) -> None:
        """Feed one event; it is handled in `run`, in order."""
        self._inbox.put_nowait((event, cause))

    def drain(self, cause: Cause) -> None:
        """No new work; stop once the job that holds it has ended."""
        self.post(ReplicaEvent.DRAIN, cause)

    def stop(self, cause: Cause) -> None:
        """Stop now, whatever it does."""
        self.post(ReplicaEvent.STOP, cause)

    def slot_released(self) -> None:
        """The job that held this replica has ended."""
        self.is_held = False
        self.idle_since = self._parts.clock.monotonic()
        if self.state is ReplicaState.DRAINING:
            self.stop(self.replica.cause)
        self.on_change(self)

    @property
    def message(self) -> str:
        """What is known of its trouble: the record's words, else the launcher's."""
        return self.replica.message or (self.last_status.message if self.last_status else "")

    @property
    def waits_for_capacity(self) -> bool:
        """Whether it cannot start because no GPU is free."""
        status = self.last_status
        return status is not None and status.reason is PendingReason.NO_CAPACITY

    def observe(self, status: LaunchStatus) -> None:
        """Take in what the launcher saw."""
        self.last_status = status
        if status.is_gone and self.replica.is_live:
            self.post(ReplicaEvent.EXITED, _cause_of(status))
        elif self.state is ReplicaState.PENDING and status.state in _UNDER_WAY:
            self.post(ReplicaEvent.LAUNCHED)
        if self.waits_for_capacity:
            self.on_change(self)

    async def run(self) -> None:
        """Live until the record is terminal, or be cancelled and leave the process as it is."""
        try:
            async with TaskScope(f"replica:{self.id}") as scope:
                await self._begin(scope)
                while self.replica.is_live:
                    event, cause = await self._inbox.get()
                    await self._apply(scope, event, cause)
        finally:
            self.lost.set()
            self.ended.set()

    async def log_tail(self) -> tuple[str, ...]:
        """The last lines of its log, also after its end."""
        lines = await self._parts.logs.lines(self.id, _LOG_TAIL_BYTES)
        return tuple(lines[-LOG_TAIL_LINES:])

    async def failure(self) -> StartFailed:
        """Why it did not become ready, with the end of its log."""
        replica = self.replica
        what = self.message or f"ended before it was ready ({replica.cause or 'stopped'})"
        return StartFailed(
            f"replica {self.id}: {what}", code=replica.cause or None, log_tail=await self.log_tail()
        )

    async def _begin(self, scope: TaskScope) -> None:
        if self.state is not ReplicaState.PENDING:
            await self._execute(
                scope, (Effect.PROBE if self.state is ReplicaState.STARTING else Effect.OFFER,)
            )
            if self.state in {ReplicaState.DRAINING, ReplicaState.STOPPING}:
                await self._execute(scope, (Effect.TERMINATE,))
            self.on_change(self)
            return
        await self._parts.store.replicas.save(self.replica)
        await self._launch()

    async def _launch(self) -> None:
        try:
            values = await self._parts.store.secrets.open(self.terms.secrets)
        except ComfyserveError as error:
            self.replica = replace(self.replica, message=error.message)
            self.post(ReplicaEvent.EXITED, Cause.START_ERROR)
            return
        status = await self._parts.launcher.start(self.id, replace(self.terms.spec, secrets=values))
        self.observe(status)
        if status.reason is PendingReason.INFEASIBLE:
            self.post(ReplicaEvent.EXITED, Cause.NO_CAPACITY)
            await self._parts.launcher.stop(self.id, grace_s=0)

    async def _apply(self, scope: TaskScope, event: ReplicaEvent, cause: Cause) -> None:
        before = self.replica
        self._note(event)
        self.replica, effects = step(self.replica, event, now=self._parts.clock.now(), cause=cause)
        if self.replica.state is before.state:
            return
        if not (self.replica.is_live and self.state is not ReplicaState.STOPPING):
            self.lost.set()
        await self._record()
        log.info(
            "A replica changed state.",
            event_key="replica_state",
            replica=self.id,
            state=str(self.state),
            cause=str(self.replica.cause),
        )
        self._parts.bus.publish(ReplicaChanged(self.replica))
        await self._execute(scope, effects)
        if self.state is ReplicaState.DRAINING:
            if self.is_held:
                scope.spawn(self._end_drain(), name="drain")
            else:
                self.stop(self.replica.cause)
        self.on_change(self)

    async def _end_drain(self) -> None:
        """What it still does may take as long as a job; a stream without end takes no longer."""
        await asyncio.sleep(self.terms.timeouts.job_s)
        self.stop(self.replica.cause)

    def _note(self, event: ReplicaEvent) -> None:
        """Keep the launcher's facts on the record."""
        status = self.last_status
        if status is None:
            return
        message = status.message if event is ReplicaEvent.EXITED else self.replica.message
        self.replica = replace(
            self.replica,
            host=status.host,
            gpu=",".join(self._parts.gpu_types.get(uuid, uuid) for uuid in status.gpus),
            pid=status.pid,
            endpoint=self._client.base_url if self._client else "",
            exit_code=status.exit_code,
            message=message or self.replica.message,
        )

    async def _record(self) -> None:
        now, store = self.replica.since, self._parts.store
        # Together: writes that wait at once share one commit.
        writes = [store.replicas.save(self.replica)]
        if self.state is ReplicaState.STARTING:
            writes.append(store.usage.open(self._first_segment()))
        elif not self.replica.is_live:
            writes.append(store.usage.close(self.id, now))
        elif (kind := _SEGMENTS.get(self.state)) is not None and not (
            self.state is ReplicaState.DRAINING and self.is_held
        ):
            writes.append(store.usage.switch(self.id, kind, None, now))
        await asyncio.gather(*writes)

    def _first_segment(self) -> Segment:
        return Segment(
            replica_id=self.id,
            deployment_id=self.replica.deployment_id,
            kind=SegmentKind.STARTING,
            started_at=self.replica.since,
            gpu=self.replica.gpu,
            price_per_hour=self.price_per_hour,
        )

    async def _execute(self, scope: TaskScope, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case Effect.PROBE:
                    scope.spawn(self._probe(), name="probe")
                case Effect.OFFER:
                    self.idle_since = self._parts.clock.monotonic()
                    # Another server may be busy and not answer: it lives while its process does.
                    if self.terms.probe is COMFYUI:
                        scope.spawn(self._watch_health(), name="health")
                case Effect.TERMINATE:
                    scope.spawn(self._terminate(), name="terminate")
                case Effect.WITHDRAW:
                    pass  # The pool withdraws it in `on_change`, which follows every step.

    async def _probe(self) -> None:
        # From STARTING on: waiting for a GPU is no fault of the engine's.
        start_s = self.terms.timeouts.start_s
        left = start_s - (self._parts.clock.now() - self.replica.since)
        try:
            status = await await_ready(
                self._parts.launcher,
                self._parts.session,
                self.id,
                timeout_s=max(0.1, left),
                probe=self.terms.probe,
            )
        except TimeoutError:
            self.replica = replace(self.replica, message=f"it was not ready within {start_s:g} s")
            self.post(ReplicaEvent.START_TIMEOUT, Cause.START_TIMEOUT)
            return
        if status is None:
            return  # What ended it is told by the launcher's watch.
        self.attach(status)
        self.post(ReplicaEvent.PROBE_OK)

    async def _watch_health(self) -> None:
        settings = self._parts.settings
        await watch_health(
            self.client, interval_s=settings.probe_interval_s, failures=settings.probe_failures
        )
        self.post(ReplicaEvent.UNRESPONSIVE, Cause.UNRESPONSIVE)

    async def _terminate(self) -> None:
        grace_s = self.terms.timeouts.stop_s
        while True:
            try:
                self.last_status = await self._parts.launcher.stop(self.id, grace_s=grace_s)
                break
            except NotReady as error:  # A process stuck in its driver: its card is not free yet.
                log.warning(
                    "A replica cannot be ended yet.",
                    event_key="stop_stuck",
                    replica=self.id,
                    error=error.message,
                )
            await asyncio.sleep(_PAUSE_WHEN_STUCK_S)
        self.post(ReplicaEvent.GONE)

    def attach(self, status: LaunchStatus) -> None:
        """Take the address of its process; for an adopted replica, before `run`."""
        self.last_status = status
        if status.endpoint is not None:
            base_url = f"http://{status.endpoint.host}:{status.endpoint.port}"
            self._client = ComfyClient(self._parts.session, base_url)


def _cause_of(status: LaunchStatus) -> Cause:
    if isinstance(status.reason, GoneReason):
        return _CAUSE_OF_END.get(status.reason, Cause.CRASHED)
    return Cause.CRASHED
