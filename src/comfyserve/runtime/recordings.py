"""Replicas outside any fleet: started once to be asked what they are, before a revision is made."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from comfyserve.domain.replica import Cause, ReplicaState
from comfyserve.runtime.supervisor import Parts, Supervisor
from comfyserve.runtime.tasks import TaskScope

_CAPACITY_RETRY_S = 0.5
_NOT_READY_YET = frozenset({ReplicaState.PENDING, ReplicaState.STARTING})


class Recordings:
    """Owns such replicas until they are stopped, or taken over by a fleet.

    `relieve` asks for a GPU on behalf of a deployment.
    """

    def __init__(self, parts: Parts, scope: TaskScope, relieve: Callable[[str], bool]) -> None:
        self._parts = parts
        self._scope = scope
        self._relieve = relieve
        self._supervisors: dict[str, Supervisor] = {}

    @property
    def supervisors(self) -> tuple[Supervisor, ...]:
        """Those that nobody has taken over."""
        return tuple(self._supervisors.values())

    def release(self, supervisor: Supervisor) -> None:
        """A fleet takes it over: it is not stopped here any more."""
        self._supervisors.pop(supervisor.id, None)

    @asynccontextmanager
    async def run(self, supervisor: Supervisor) -> AsyncIterator[None]:
        """Start a replica and wait until it is ready or over; stopped on leaving if still ours."""
        changed = asyncio.Event()
        supervisor.on_change = lambda _: changed.set()
        self._supervisors[supervisor.id] = supervisor
        life = self._scope.spawn(supervisor.run(), name=f"recording:{supervisor.id}")
        life.add_done_callback(lambda _: changed.set())
        try:
            await self._settled(supervisor, changed)
            yield
        finally:
            if supervisor.id in self._supervisors:
                supervisor.stop(Cause.RECORDING)
                await asyncio.shield(life)
                del self._supervisors[supervisor.id]

    async def _settled(self, supervisor: Supervisor, changed: asyncio.Event) -> None:
        """Wait until it is ready or over; for a GPU no longer than for an engine to start."""
        now = self._parts.clock.monotonic
        deadline = now() + supervisor.terms.timeouts.start_s
        while supervisor.state in _NOT_READY_YET and not supervisor.ended.is_set():
            is_short_of_room = supervisor.waits_for_capacity
            if is_short_of_room:
                if now() >= deadline:
                    return
                self._relieve(supervisor.replica.deployment_id)
            try:
                async with asyncio.timeout(_CAPACITY_RETRY_S if is_short_of_room else None):
                    await changed.wait()
            except TimeoutError:
                continue
            changed.clear()
