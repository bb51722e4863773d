"""A launcher without processes, and ones that misbehave."""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from comfyserve.clock import Clock, SystemClock
from comfyserve.domain.errors import Conflict, InvalidInput
from comfyserve.runtime.gpus import Gpu
from comfyserve.runtime.launchers.base import (
    Capacity,
    Endpoint,
    GoneReason,
    LaunchSpec,
    LaunchState,
    LaunchStatus,
    LogChunk,
    PendingReason,
)
from comfyserve.runtime.launchers.feed import StatusFeed, StatusWatch
from comfyserve.runtime.launchers.local_gpus import GpuLedger, NoRoom
from comfyserve.runtime.tasks import TaskScope

_SIGKILL, _SIGTERM = 9, 15


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a fake server does: listens after a while (None: never), ends after a while, or not."""

    listens_after_s: float | None = 0.0
    ends_after_s: float | None = None
    exit_code: int = 1
    reason: GoneReason = GoneReason.EXITED
    output: bytes = b""
    ignores_sigterm: bool = False


WELL_BEHAVED = Behaviour()
SLOW = Behaviour(listens_after_s=0.3)
NEVER_READY = Behaviour(listens_after_s=None)
DIES_AT_ONCE = Behaviour(listens_after_s=None, ends_after_s=0.0, output=b"cannot go on\n")
DIES_LATER = Behaviour(ends_after_s=0.3, output=b"up\nfalling\n")
OUT_OF_MEMORY = Behaviour(ends_after_s=0.1, reason=GoneReason.OOM, output=b"out of memory\n")


class FakeServers(Protocol):
    """What listens for fake replicas, if something has to."""

    async def up(self, replica_id: str, spec: LaunchSpec) -> Endpoint:
        """Start to listen."""
        ...

    async def down(self, replica_id: str) -> None:
        """Stop listening."""
        ...


class NoServers:
    """Endpoints where nobody answers."""

    async def up(self, replica_id: str, spec: LaunchSpec) -> Endpoint:  # noqa: ARG002
        """Return an endpoint of the discard service, which no test host runs."""
        return Endpoint("127.0.0.1", 9)

    async def down(self, replica_id: str) -> None:
        """Nothing listens."""


@dataclass(slots=True)
class FakeReplica:
    """One replica of a fake host."""

    spec: LaunchSpec
    status: LaunchStatus
    behaviour: Behaviour
    lease_until: float = math.inf
    renewed: asyncio.Event = field(default_factory=asyncio.Event)
    log: bytearray = field(default_factory=bytearray)
    life: asyncio.Task[None] | None = None


@dataclass(slots=True)
class FakeHost:
    """What outlives a launcher: its replicas and GPUs. Launchers in turn can share one."""

    gpus: Sequence[Gpu] = ()
    name: str = "fake-host"
    replicas: dict[str, FakeReplica] = field(default_factory=dict)
    ledger: GpuLedger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = GpuLedger(self.gpus)


class FakeLauncher:
    """Keeps the launcher protocol with timers instead of processes.

    `behave` says how each replica behaves; `started` counts the calls that made one.
    """

    def __init__(
        self,
        behave: Behaviour | Callable[[LaunchSpec], Behaviour] = WELL_BEHAVED,
        *,
        host: FakeHost | None = None,
        servers: FakeServers | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.started = 0
        self._behave = behave
        self._host = host or FakeHost()
        self._servers = servers or NoServers()
        self._clock = clock or SystemClock()
        self._feed = StatusFeed()
        self._scope = TaskScope("fake launcher")

    async def open(self) -> None:
        """Take over the replicas of the host."""
        for replica in self._host.replicas.values():
            if not replica.status.is_gone:
                self._drive(replica)

    async def start(self, replica_id: str, spec: LaunchSpec) -> LaunchStatus:
        """Begin to start a replica."""
        if (known := self._host.replicas.get(replica_id)) is not None:
            if known.status.spec_digest != spec.spec_digest:
                raise Conflict(f"replica {replica_id} was started with another spec")
            return known.status
        if not replica_id.replace("_", "").replace("-", "").isalnum():
            raise InvalidInput(f"'{replica_id}' cannot be the id of a replica")
        self.started += 1
        status = LaunchStatus(
            replica_id,
            spec.pool,
            LaunchState.PENDING,
            PendingReason.QUEUED,
            host=self._host.name,
            spec_digest=spec.spec_digest,
        )
        behaviour = self._behave(spec) if callable(self._behave) else self._behave
        replica = FakeReplica(spec, status, behaviour)
        self._host.replicas[replica_id] = replica
        self._place(replica)
        return replica.status

    async def stop(self, replica_id: str, *, grace_s: float) -> LaunchStatus:
        """End a replica."""
        replica = self._host.replicas.get(replica_id)
        if replica is None:
            return LaunchStatus(replica_id, "", LaunchState.GONE, GoneReason.STOPPED)
        if replica.status.state is LaunchState.PENDING:
            await self._end(replica, GoneReason.STOPPED)
        elif replica.status.state is not LaunchState.GONE:
            self._note(replica, replace(replica.status, state=LaunchState.STOPPING))
            if replica.behaviour.ignores_sigterm:
                await asyncio.sleep(grace_s)
                await self._end(replica, GoneReason.STOPPED, term_signal=_SIGKILL)
            else:
                await self._end(replica, GoneReason.STOPPED, term_signal=_SIGTERM)
        return replica.status

    async def get(self, replica_id: str) -> LaunchStatus | None:
        """Return what is known of a replica."""
        replica = self._host.replicas.get(replica_id)
        return replica.status if replica else None

    async def list(self) -> Sequence[LaunchStatus]:
        """Return every replica of the host."""
        return [replica.status for replica in self._host.replicas.values()]

    def watch(self) -> StatusWatch:
        """Yield the status of every replica, then each one that changes."""
        return self._feed.watch(replica.status for replica in self._host.replicas.values())

    async def renew(self, replica_ids: Iterable[str], *, ttl_s: float | None) -> None:
        """Extend leases."""
        for replica_id in replica_ids:
            if (replica := self._host.replicas.get(replica_id)) is not None:
                self._lease(replica, ttl_s)

    async def logs(self, replica_id: str, *, tail_bytes: int) -> bytes:
        """Return the end of the log."""
        replica = self._host.replicas.get(replica_id)
        return bytes(replica.log[-tail_bytes:]) if replica else b""

    async def read_log(self, replica_id: str, *, offset: int, limit_bytes: int) -> LogChunk:
        """Return the log from `offset`."""
        replica = self._host.replicas.get(replica_id)
        data = bytes(replica.log[offset : offset + limit_bytes]) if replica else b""
        return LogChunk(offset, data)

    async def capacity(self) -> Sequence[Capacity]:
        """Return the fake GPUs by type."""
        return self._host.ledger.capacity()

    async def forget(self, replica_id: str) -> None:
        """Remove a gone replica."""
        replica = self._host.replicas.get(replica_id)
        if replica is None:
            return
        if not replica.status.is_gone:
            raise Conflict(f"replica {replica_id} is {replica.status.state}: stop it first")
        del self._host.replicas[replica_id]

    async def close(self) -> None:
        """Detach."""
        await self._scope.aclose()
        self._feed.end()

    async def crash(self, replica_id: str, *, term_signal: int = _SIGKILL) -> None:
        """Have a replica end as if somebody had killed its server."""
        replica = self._host.replicas[replica_id]
        await self._end(replica, GoneReason.EXITED, term_signal=term_signal)

    def _place(self, replica: FakeReplica) -> None:
        match self._host.ledger.take(replica.status.id, replica.spec):
            case NoRoom(reason, message):
                self._note(replica, replace(replica.status, reason=reason, message=message))
            case gpus:
                queued = replace(replica.status, reason=PendingReason.QUEUED, message="", gpus=gpus)
                self._note(replica, queued)
                self._lease(replica, replica.spec.lease_s)
                self._drive(replica)

    def _drive(self, replica: FakeReplica) -> None:
        replica.life = self._scope.spawn(self._live(replica), name=f"life:{replica.status.id}")
        self._scope.spawn(self._expire(replica), name=f"lease:{replica.status.id}")

    async def _live(self, replica: FakeReplica) -> None:
        behaviour = replica.behaviour
        if replica.status.state is LaunchState.PENDING:
            starting = replace(
                replica.status,
                state=LaunchState.STARTING,
                reason=None,
                started_at=self._clock.now(),
            )
            self._note(replica, starting)
            replica.log += behaviour.output
        if replica.status.state is LaunchState.STARTING and behaviour.listens_after_s is not None:
            await asyncio.sleep(behaviour.listens_after_s)
            endpoint = await self._servers.up(replica.status.id, replica.spec)
            running = replace(replica.status, state=LaunchState.RUNNING, endpoint=endpoint)
            self._note(replica, running)
        if behaviour.ends_after_s is not None:
            await asyncio.sleep(behaviour.ends_after_s)
            await self._end(replica, behaviour.reason, exit_code=behaviour.exit_code)

    async def _expire(self, replica: FakeReplica) -> None:
        """Wait out the lease, however often it moves."""
        while not replica.status.is_gone:
            replica.renewed.clear()
            left_s = replica.lease_until - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(None if left_s == math.inf else left_s):
                    await replica.renewed.wait()
            except TimeoutError:
                await self._end(replica, GoneReason.LEASE_EXPIRED, term_signal=_SIGTERM)

    def _lease(self, replica: FakeReplica, ttl_s: float | None) -> None:
        ttl_s = math.inf if ttl_s is None else ttl_s
        replica.lease_until = asyncio.get_running_loop().time() + ttl_s
        replica.renewed.set()

    async def _end(
        self,
        replica: FakeReplica,
        reason: GoneReason,
        *,
        exit_code: int | None = None,
        term_signal: int | None = None,
    ) -> None:
        if replica.status.is_gone:
            return
        if replica.life is not None and replica.life is not asyncio.current_task():
            replica.life.cancel()
        if replica.status.endpoint is not None:
            await self._servers.down(replica.status.id)
        gone = replace(
            replica.status,
            state=LaunchState.GONE,
            reason=reason,
            endpoint=None,
            exit_code=exit_code,
            term_signal=term_signal,
            ended_at=self._clock.now(),
        )
        self._note(replica, gone)
        replica.renewed.set()
        self._host.ledger.release(replica.status.id)
        for other in self._host.replicas.values():
            if other.status.reason is PendingReason.NO_CAPACITY:
                self._place(other)

    def _note(self, replica: FakeReplica, status: LaunchStatus) -> None:
        if replica.status.is_gone or status == replica.status:
            return
        replica.status = status
        self._feed.publish(status)
